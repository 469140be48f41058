//! One flow, from accept to its end: accepted → redirected → sniffed → routed → relayed.
//!
//! Each stage returns a plain value that the next one takes, so the compiler keeps the order.

pub(crate) mod early;
pub(crate) mod exchange;
pub(crate) mod http1;
pub(crate) mod http2;
mod inbound;
mod message;
mod opaque;
mod relay;
mod sniff;

use std::pin::Pin;
use std::sync::Arc;

use dragoman_capture::probe;
use dragoman_config::{ByAddress, Config, Destination, Name};
use dragoman_net::{NoOriginalDst, OrigDst, original_dst};
use dragoman_telemetry::{Cause, Direction, FirstBytes, FlowRecord, Protocol, Speaker};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::leg::Leg;
use crate::shared::Shared;
use early::Early;
use exchange::plan::Lookup;
use exchange::trace::sample_flow;
use sniff::{Sniffed, sniff};

/// A flow whose original destination is known, and what policy says by address alone.
pub(crate) struct Redirected {
    pub(crate) original: OrigDst,
    pub(crate) by_address: ByAddress,
}

/// A flow whose relay is known.
struct Routed {
    app: Leg,
    early: Early,
    original: OrigDst,
    /// When the app began to speak.
    began: Option<Instant>,
    relay: Relay,
    /// The destination of all that the flow carries, whatever it is called.
    fixed: Option<Arc<Destination>>,
}

enum Relay {
    Http1,
    Http2,
    Opaque(Arc<Destination>),
}

/// Serves one captured connection to its end. Everything that is to be said about it is in `record`.
#[expect(
    clippy::manual_async_fn,
    reason = "an `async fn` keeps its arguments twice, for as long as the flow lives"
)]
pub(crate) fn serve(
    shared: Arc<Shared>,
    stream: TcpStream,
    mut record: FlowRecord,
) -> impl Future<Output = ()> + Send {
    async move {
        record.trace(sample_flow(&shared));
        // Boxed, each stage: a flow that waits holds the memory of the stage that it waits in, and no other's.
        let Some(routed) = Box::pin(find_relay(&shared, stream, &mut record)).await else { return };
        relay_to_the_end(&shared, routed, &mut record).await;
    }
}

/// The last stage. Not an `async fn`: what it is given moves into the box, and takes no room beside it.
fn relay_to_the_end<'a>(
    shared: &'a Arc<Shared>,
    routed: Routed,
    record: &'a mut FlowRecord,
) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
    let Routed { app, early, original, began, relay, fixed } = routed;
    if !matches!(relay, Relay::Opaque(_)) {
        // Its exchanges are recorded, each in its own trace.
        record.trace(None);
    }
    match relay {
        Relay::Http1 => {
            Box::pin(http1::serve(shared, app, early, original, began, Lookup::new(fixed), record))
        }
        Relay::Http2 => Box::pin(http2::serve(shared, app, early, original, fixed, record)),
        Relay::Opaque(destination) => {
            Box::pin(opaque::serve(shared, app, early, original, destination, record))
        }
    }
}

/// The stages up to the relay. `None` where the flow has ended before one is known.
async fn find_relay(shared: &Arc<Shared>, stream: TcpStream, record: &mut FlowRecord) -> Option<Routed> {
    let mut app = Leg::accepted(stream);
    let original = find_original_dst(shared, &app, record)?;
    if record.direction == Direction::Inbound {
        return Box::pin(inbound::find_relay(shared, app, original, record)).await;
    }
    if probe::is_probe(original.0) {
        record.trace(None);
        Box::pin(answer_probe(app, original)).await;
        return None;
    }
    let by_address = shared.config.now().by_address(original.0, record.host.as_deref());
    let redirected = Redirected { original, by_address };
    record.destination = redirected.by_address.destination.index;
    let mut early = Early::new(shared, &redirected.by_address, original, record.host.as_deref());
    let sniffed = sniff(shared, &mut app, &mut early, &redirected).await;
    record.first_bytes = first_bytes(&app, &early, sniffed.as_ref().ok());
    let sniffed = match sniffed {
        Ok(sniffed) => sniffed,
        Err(unsniffed) => {
            record.fail(unsniffed.cause, unsniffed.detail);
            return None;
        }
    };
    record.sniffed(sniffed.protocol);
    let relay = route(&shared.config.now(), original, &sniffed, record)?;
    Some(Routed { app, early, original, began: sniffed.began, relay, fixed: None })
}

/// What was seen of the flow until its protocol was known, or could not be.
fn first_bytes(app: &Leg, early: &Early, sniffed: Option<&Sniffed>) -> FirstBytes {
    let protocol = sniffed.map(|sniffed| sniffed.protocol);
    let (app, server) = (app.buf.bytes(), early.held());
    let by_server =
        matches!(protocol, Some(Protocol::Mysql | Protocol::Smtp | Protocol::Ftp | Protocol::Ssh));
    match () {
        () if by_server || app.is_empty() && !server.is_empty() => {
            FirstBytes::new(Speaker::Upstream, server, true)
        }
        () if app.is_empty() => FirstBytes::NONE,
        () => FirstBytes::new(Speaker::App, app, protocol == Some(Protocol::Http2)),
    }
}

/// Where the flow was going: to a plain port, which the record then names already, or where the kernel says. A
/// connection without an original destination is reset: dialling on would be a loop.
fn find_original_dst(shared: &Shared, app: &Leg, record: &mut FlowRecord) -> Option<OrigDst> {
    let found = match record.original_dst {
        Some(port) if shared.config.now().at_listener(port).is_some() => Ok(OrigDst(port)),
        Some(port) => Err(NoOriginalDst::OwnListener(port)),
        None => original_dst(app.stream().tcp(), record.peer(), shared.own_ports()),
    };
    match found {
        Ok(original) => {
            if record.original_dst.is_none() && record.direction == Direction::Outbound {
                record.host = shared.names.get(original.0.ip(), std::time::Instant::now());
            }
            record.original_dst = Some(original.0);
            Some(original)
        }
        Err(error) => {
            let cause = match error {
                NoOriginalDst::OwnListener(_) => Cause::OwnListener,
                NoOriginalDst::Unknown(_) => Cause::NoOriginalDestination,
            };
            record.fail(cause, error.to_string());
            None
        }
    }
}

/// The destination whose policy holds, and with it the relay. An app may have been silent for long: what holds is the
/// policy of now, not that under which it connected.
fn route(config: &Config, original: OrigDst, sniffed: &Sniffed, record: &mut FlowRecord) -> Option<Relay> {
    let by_address = config.by_address(original.0, record.host.as_deref());
    match sniffed.protocol {
        Protocol::Http1 => return Some(Relay::Http1),
        // Where nothing is done for any exchange, its bytes are best left alone: HTTP/2 has many ways to be told apart.
        Protocol::Http2 if !by_address.destination.observe_only || by_address.name_may_decide => {
            return Some(Relay::Http2);
        }
        _ => {}
    }
    let destination = match &sniffed.sni {
        Some(sni) => config.lookup(original.0, Name::Sni(sni)),
        None => &by_address.destination,
    };
    record.destination = destination.index;
    record.routed(destination.generation);
    record.sni = sniffed.sni.as_deref().map(Into::into);
    if destination.deny {
        record.fail(Cause::Denied, None);
        return None;
    }
    // TLS of the app's own goes out as it is. What only looks like it would do so in plain text.
    if sniffed.is_malformed && destination.tls.is_some() {
        let why = "what begins like TLS and is none would go out as it is, where policy says `tls`";
        record.fail(Cause::UnexpectedProtocol, why.to_owned());
        return None;
    }
    Some(Relay::Opaque(Arc::clone(destination)))
}

/// `dragoman-init verify` asks whether its connection arrived here, and as what.
async fn answer_probe(mut app: Leg, original: OrigDst) {
    const QUESTION: usize = 256;
    while app.buf.len() < QUESTION && matches!(app.fill().await, Ok(1..)) {
        if let Some(answer) = probe::answer(app.buf.bytes(), original.0) {
            let _ = app.write_all(&answer).await;
            return app.close_lingering(QUESTION).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dragoman_telemetry::{AccessLog, Telemetry};
    use tokio::net::TcpListener;

    /// What a waiting flow takes: its task with its record, and the stage that it waits in. Most flows wait most of the
    /// time. What h2 keeps of a connection comes on top of that: it is not ours to make smaller.
    #[tokio::test]
    async fn a_flow_that_waits_is_small() {
        let telemetry = Telemetry::new(vec!["default".into()], AccessLog::off());
        let shared = Arc::new(Shared::new(Arc::new(Config::empty()), telemetry.clone(), vec![]));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let original = OrigDst(listener.local_addr().unwrap());
        let by_address = shared.config.now().by_address(original.0, None);
        let mut record = telemetry.flow(original.0);
        let early = || Early::new(&shared, &by_address, original, None);
        let stream = async || TcpStream::connect(original.0).await.unwrap();
        let leg = async || Leg::new(stream().await);

        // With the 96 bytes that the runtime adds, what it allocates is a multiple of 128.
        let task = size_of_val(&serve(Arc::clone(&shared), stream().await, telemetry.flow(original.0)));
        println!("task: {task} bytes, of which the record is {}", size_of::<FlowRecord>());
        assert!(task <= 384 - 96, "task: {task} bytes");
        let silent = size_of_val(&find_relay(&shared, stream().await, &mut record));
        let http1 = size_of_val(&http1::serve(
            &shared,
            leg().await,
            early(),
            original,
            None,
            Lookup::default(),
            &mut record,
        ));
        let http2 = size_of_val(&http2::serve(&shared, leg().await, early(), original, None, &mut record));
        println!("h2's own connection: {} bytes", size_of::<http2::AppConnection>());
        let destination = Arc::clone(&by_address.destination);
        let served = opaque::serve(&shared, leg().await, early(), original, destination, &mut record);
        let asleep = size_of_val(&served);
        drop(served);
        let awake = asleep + relay::size_awake(&shared.sleepers, leg().await, leg().await, &mut record);
        for (stage, size, most) in [
            ("silent", silent, 960),
            ("http1", http1, 480),
            ("http2", http2, 1056),
            ("opaque, asleep", asleep, 80),
            // Each half of a connection may be one with TLS: a word more for each of the four.
            ("opaque, awake", awake, 832),
        ] {
            println!("{stage}: {size} bytes");
            assert!(size <= most, "{stage}: {size} bytes, more than {most}");
        }
    }
}
