//! One flow, from accept to its end: accepted → redirected → sniffed → routed → relayed.
//!
//! Each stage returns a plain value that the next one takes, so the compiler keeps the order.

pub(crate) mod early;
pub(crate) mod exchange;
mod http1;
pub(crate) mod http2;
mod opaque;
mod relay;
mod sniff;

use std::sync::Arc;

use dragoman_capture::probe;
use dragoman_config::{ByAddress, Config, Destination, Name};
use dragoman_net::{NoOriginalDst, OrigDst, original_dst};
use dragoman_telemetry::{Cause, FlowRecord, Protocol};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::leg::Leg;
use crate::shared::Shared;
use early::Early;
use sniff::{Sniffed, sniff};

/// A flow whose original destination is known, and what policy says by address alone.
pub(crate) struct Redirected<'a> {
    config: &'a Config,
    pub(crate) original: OrigDst,
    pub(crate) by_address: ByAddress<'a>,
}

/// A flow whose relay is known.
struct Routed {
    app: Leg,
    early: Early,
    original: OrigDst,
    /// When the app began to speak.
    began: Option<Instant>,
    relay: Relay,
}

enum Relay {
    Http1,
    Http2,
    Opaque(Arc<Destination>),
}

/// Serves one captured connection to its end. Everything that is to be said about it is in `record`.
pub(crate) async fn serve(shared: Arc<Shared>, stream: TcpStream, record: &mut FlowRecord) {
    // Boxed, each stage: a flow that waits holds the memory of the stage that it waits in, and no other's.
    let Some(routed) = Box::pin(find_relay(&shared, stream, record)).await else { return };
    let Routed { app, early, original, began, relay } = routed;
    match relay {
        Relay::Http1 => Box::pin(http1::serve(&shared, app, early, original, began, record)).await,
        Relay::Http2 => Box::pin(http2::serve(&shared, app, early, original, record)).await,
        Relay::Opaque(destination) => {
            Box::pin(opaque::serve(&shared, app, early, original, &destination, record)).await;
        }
    }
}

/// The stages up to the relay. `None` where the flow has ended before one is known.
async fn find_relay(shared: &Arc<Shared>, stream: TcpStream, record: &mut FlowRecord) -> Option<Routed> {
    let mut app = Leg::new(stream);
    let original = find_original_dst(shared, &app, record)?;
    if probe::is_probe(original.0) {
        answer_probe(app, original).await;
        return None;
    }
    let config = Arc::clone(&shared.config);
    let redirected = Redirected { config: &config, original, by_address: config.by_address(original.0) };
    record.destination = redirected.by_address.destination.index;
    let mut early = Early::new(shared, &redirected.by_address, original);
    let sniffed = match sniff(shared, &mut app, &mut early, &redirected).await {
        Ok(sniffed) => sniffed,
        Err(unsniffed) => {
            record.fail(unsniffed.cause, unsniffed.detail);
            return None;
        }
    };
    record.protocol = sniffed.protocol;
    let relay = route(&redirected, &sniffed, record)?;
    Some(Routed { app, early, original, began: sniffed.began, relay })
}

/// Where the flow was going. A connection without an original destination is reset: dialling on would be a loop.
fn find_original_dst(shared: &Shared, app: &Leg, record: &mut FlowRecord) -> Option<OrigDst> {
    match original_dst(app.stream(), shared.own_ports()) {
        Ok(original) => {
            record.original_dst = Some(original.0);
            // Without the options the flow still works; it may then be forgotten by conntrack while it is idle.
            if let Err(error) = dragoman_net::keep_alive(app.stream()) {
                tracing::debug!(%error, "keep-alive on the app's connection");
            }
            let _ = app.stream().set_nodelay(true);
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

/// The destination whose policy holds, and with it the relay.
fn route(to: &Redirected<'_>, sniffed: &Sniffed, record: &mut FlowRecord) -> Option<Relay> {
    let by_address = to.by_address.destination;
    match sniffed.protocol {
        Protocol::Http1 => return Some(Relay::Http1),
        // Where nothing is done for any exchange, its bytes are best left alone: HTTP/2 has many ways to be told apart.
        Protocol::Http2 if !by_address.observe_only || to.by_address.name_may_decide => {
            return Some(Relay::Http2);
        }
        _ => {}
    }
    let destination = match &sniffed.sni {
        Some(sni) => to.config.lookup(to.original.0, Name::Sni(sni)),
        None => by_address,
    };
    record.destination = destination.index;
    record.sni.clone_from(&sniffed.sni);
    if destination.deny {
        record.fail(Cause::Denied, None);
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

    /// The most bytes that a waiting flow may take: its task, and the stage that it waits in. Most flows wait most of
    /// the time.
    const WAITING: usize = 2048;

    #[tokio::test]
    async fn a_flow_that_waits_is_small() {
        let telemetry = Telemetry::new(vec!["default".into()], AccessLog::off());
        let shared = Arc::new(Shared::new(Arc::new(Config::empty()), telemetry.clone(), vec![]));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let original = OrigDst(listener.local_addr().unwrap());
        let by_address = shared.config.by_address(original.0);
        let mut record = telemetry.flow(original.0);
        let early = || Early::new(&shared, &by_address, original);
        let stream = async || TcpStream::connect(original.0).await.unwrap();
        let leg = async || Leg::new(stream().await);

        let task = size_of_val(&serve(Arc::clone(&shared), stream().await, &mut record));
        let silent = size_of_val(&find_relay(&shared, stream().await, &mut record));
        let http1 = size_of_val(&http1::serve(&shared, leg().await, early(), original, None, &mut record));
        let opaque =
            opaque::serve(&shared, leg().await, early(), original, by_address.destination, &mut record);
        for (stage, size) in [("silent", silent), ("http1", http1), ("opaque", size_of_val(&opaque))] {
            println!("{stage}: {task} + {size} bytes");
            assert!(task + size < WAITING, "{stage}: {task} + {size} bytes");
        }
    }
}
