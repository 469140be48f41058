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
enum Routed {
    Http1,
    Http2,
    Opaque(Arc<Destination>),
}

/// Serves one captured connection to its end. Everything that is to be said about it is in `record`.
pub(crate) async fn serve(shared: Arc<Shared>, stream: TcpStream, record: &mut FlowRecord) {
    let mut app = Leg::new(stream);
    let Some(original) = find_original_dst(&shared, &app, record) else { return };
    if probe::is_probe(original.0) {
        return answer_probe(app, original).await;
    }
    let config = Arc::clone(&shared.config);
    let redirected = Redirected { config: &config, original, by_address: config.by_address(original.0) };
    record.destination = redirected.by_address.destination.index;
    let mut early = Early::new(&shared, &redirected.by_address, original);
    let sniffed = match sniff(&shared, &mut app, &mut early, &redirected).await {
        Ok(sniffed) => sniffed,
        Err(unsniffed) => return record.fail(unsniffed.cause, unsniffed.detail),
    };
    record.protocol = sniffed.protocol;
    match route(&redirected, &sniffed, record) {
        Some(Routed::Http1) => {
            Box::pin(http1::serve(&shared, app, early, original, sniffed.began, record)).await;
        }
        Some(Routed::Http2) => Box::pin(http2::serve(&shared, app, early, original, record)).await,
        Some(Routed::Opaque(destination)) => {
            opaque::serve(&shared, app, early, original, &destination, record).await;
        }
        None => {}
    }
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
fn route(to: &Redirected<'_>, sniffed: &Sniffed, record: &mut FlowRecord) -> Option<Routed> {
    let by_address = to.by_address.destination;
    match sniffed.protocol {
        Protocol::Http1 => return Some(Routed::Http1),
        // Where nothing is done for any exchange, its bytes are best left alone: HTTP/2 has many ways to be told apart.
        Protocol::Http2 if !by_address.observe_only || to.by_address.name_may_decide => {
            return Some(Routed::Http2);
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
    Some(Routed::Opaque(Arc::clone(destination)))
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
