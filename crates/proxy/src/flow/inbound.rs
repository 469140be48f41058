//! A flow that comes to the app: what it must show before the app hears of it.
//!
//! Nothing is dialled before the client has shown who it is. Then the flow goes on as one that the app has opened would,
//! to where it was going, by a destination of its own which adds who the client is and nothing else.

use std::sync::Arc;
use std::time::Duration;

use dragoman_config::{ByAddress, Destination, InboundPort, Protocol as Declared};
use dragoman_net::OrigDst;
use dragoman_telemetry::{Cause, FlowRecord, Handshake, Protocol};
use dragoman_tls::failure::{Failure, FailureKind};
use dragoman_tls::peer::Peer;
use dragoman_tls::server::{Server, ServerMaterial};
use dragoman_tls::session::Session;
use dragoman_wire::{Client, client};
use rustls::pki_types::UnixTime;
use tokio::time::{Instant, timeout_at};

use super::early::{DENY_WAIT, Early};
use super::relay::app_cause;
use super::sniff::{Sniffed, Unsniffed, sniff};
use super::{Redirected, Relay, Routed, first_bytes};
use crate::inbound::Inbound;
use crate::leg::Leg;
use crate::shared::Shared;
use crate::upstream::tls::{HandshakeFailed, handshake_as};

/// The first byte of a TLS connection: a record of the handshake (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;

/// What is read of a client that goes on after it was refused, in bytes.
const LINGER: usize = 64 * 1024;

/// Why a flow ends here.
type Refused = Unsniffed;

/// The stages of a flow to the app up to its relay. `None` where the flow has ended before one is known.
pub(super) async fn find_relay(
    shared: &Arc<Shared>,
    app: Leg,
    original: OrigDst,
    record: &mut FlowRecord,
) -> Option<Routed> {
    match admit(shared, app, original, record).await {
        Ok(routed) => Some(routed),
        Err(refused) => {
            record.fail(refused.cause, refused.detail);
            None
        }
    }
}

async fn admit(
    shared: &Arc<Shared>,
    app: Leg,
    original: OrigDst,
    record: &mut FlowRecord,
) -> Result<Routed, Refused> {
    let off = || refused(Cause::ClientTlsFailed, "`[inbound]` is off");
    let inbound = shared.inbound.as_ref().ok_or_else(off)?;
    record.destination = inbound.index();
    let (rules, until) = {
        let config = shared.config.now();
        let rules = config.inbound.as_ref().ok_or_else(off)?.at(original.0.port()).clone();
        (rules, Instant::now() + config.proxy.request_head_timeout)
    };
    let (app, until) = match rules.permissive {
        true => match Box::pin(permissive(shared, inbound, &rules, app, original, record)).await? {
            Opened::Plain(routed) => return Ok(*routed),
            // It may have been silent for as long as it liked.
            Opened::Tls(app) => (app, Instant::now() + shared.config.now().proxy.request_head_timeout),
        },
        false => (strict(app, until).await?, until),
    };
    let begun = Instant::now();
    let agreed = Box::pin(agree(shared, inbound, app, original, until, record)).await;
    let result = agreed.as_ref().map_or(Handshake::Failed, |agreed| agreed.handshake);
    shared.telemetry.destination(inbound.index()).handshake(result, begun.elapsed());
    let Agreed { app, known, declared, .. } = agreed?;
    let destination = inbound.destination(declared.unwrap_or(rules.protocol), Some((&known.0, &known.1)));
    let (routed, _) = Box::pin(route(shared, app, original, destination, false, record)).await?;
    Ok(routed)
}

/// The first bytes of a client that has to speak TLS.
async fn strict(mut app: Leg, until: Instant) -> Result<Leg, Refused> {
    if app.buf.is_empty() {
        match timeout_at(until, app.fill()).await {
            Ok(Ok(1..)) => {}
            Ok(Ok(0)) => return Err(refused(Cause::ClientTlsFailed, "the client went away without a word")),
            Ok(Err(error)) => return Err(refused(app_cause(&error), &error.to_string())),
            Err(_) => {
                return Err(refused(Cause::RequestTimeout, "the client did not begin the TLS handshake"));
            }
        }
    }
    match app.buf.bytes()[0] {
        HANDSHAKE => Ok(app),
        _ => Err(refused(Cause::ClientNotTls, "the first bytes of the client are not those of TLS")),
    }
}

enum Opened {
    Tls(Leg),
    Plain(Box<Routed>),
}

/// A flow of a client that may do without TLS.
async fn permissive(
    shared: &Arc<Shared>,
    inbound: &Inbound,
    rules: &InboundPort,
    mut app: Leg,
    original: OrigDst,
    record: &mut FlowRecord,
) -> Result<Opened, Refused> {
    // What the app speaks is stated, but not whether TLS is on it: nobody else looks for that then.
    let stated_wait = match rules.protocol {
        Declared::Auto => None,
        Declared::Opaque => Some(Some(DENY_WAIT)),
        Declared::Http => Some(None),
    };
    if let Some(wait) = stated_wait {
        let limit = shared.config.now().proxy.request_head_timeout;
        if begins_tls(&mut app, wait, limit).await? {
            return Ok(Opened::Tls(app));
        }
    }
    let destination = inbound.destination(rules.protocol, None);
    // A client of TLS speaks first: the app is not to be heard before it had time for that.
    let (routed, sniffed) = route(shared, app, original, destination, true, record).await?;
    Ok(match sniffed {
        Protocol::Tls => Opened::Tls(routed.app),
        _ => Opened::Plain(Box::new(routed)),
    })
}

/// Whether a client begins with TLS. `silence`: how long it may take to begin at all, if the app could be the one to speak
/// first; `limit`: how long then to say enough.
async fn begins_tls(app: &mut Leg, silence: Option<Duration>, limit: Duration) -> Result<bool, Refused> {
    let mut until = silence.map(|silence| Instant::now() + silence);
    loop {
        let silent = app.buf.is_empty();
        match client(app.buf.bytes()) {
            Client::Tls => return Ok(true),
            Client::Incomplete(_) if silent || app.buf.bytes()[0] == HANDSHAKE => {}
            _ => return Ok(false),
        }
        let read = match until {
            Some(until) => timeout_at(until, app.fill()).await,
            None => Ok(app.fill().await),
        };
        match read {
            Ok(Ok(1..)) if silent => until = Some(Instant::now() + limit),
            Ok(Ok(1..)) => {}
            Ok(Ok(0)) => return Ok(false),
            Ok(Err(error)) => return Err(refused(app_cause(&error), &error.to_string())),
            Err(_) if silent => return Ok(false),
            Err(_) => {
                return Err(refused(Cause::RequestTimeout, "the client did not begin the TLS handshake"));
            }
        }
    }
}

/// A connection with TLS on it.
struct Agreed {
    app: Leg,
    /// Who its client is, and who we have shown to be.
    known: Box<(Peer, Arc<ServerMaterial>)>,
    /// What it speaks, as far as the handshake says so.
    declared: Option<Declared>,
    handshake: Handshake,
}

/// The handshake, and the check of who the client is.
async fn agree(
    shared: &Shared,
    inbound: &Inbound,
    app: Leg,
    original: OrigDst,
    until: Instant,
    record: &mut FlowRecord,
) -> Result<Agreed, Refused> {
    let failed = |failure: Failure| refused(cause_of(failure.kind), &failure.detail);
    let unusable = |reason: &str| refused(Cause::ClientTlsFailed, reason);
    let material = shared.tls.inbound().ok_or_else(|| unusable("there is no material for `[inbound]`"))?;
    let server = inbound.server(&shared.config.now(), Arc::clone(&material), original.0.port());
    let server: Arc<Server> = server.map_err(|reason| unusable(&reason))?;
    let session = Session::server(server.config()).map_err(failed)?;
    let left = until.saturating_duration_since(Instant::now());
    let app = handshake_as(app, session, left).await.map_err(|error| match error {
        HandshakeFailed::Late => refused(Cause::RequestTimeout, "the TLS handshake was not done in time"),
        HandshakeFailed::Tls(failure) => failed(failure),
    })?;
    let tls = app.stream().tls().ok_or_else(|| unusable("there is no TLS on it"))?;
    let (chain, resumed, declared) = tls.with_session(|session| {
        let chain = session.peer_certificates().map(<[_]>::to_vec).unwrap_or_default();
        // What has agreed to speak HTTP is not to pass for something else.
        (chain, session.is_resumed(), session.alpn().map(|_| Declared::Http))
    });
    match server.recheck(&chain, resumed, UnixTime::now()) {
        Ok(peer) => {
            record.client(&peer.to_string());
            let handshake = if resumed { Handshake::Resumed } else { Handshake::Full };
            Ok(Agreed { app, known: Box::new((peer, material)), declared, handshake })
        }
        Err(failure) => {
            tokio::spawn(app.close_lingering(LINGER));
            Err(failed(failure))
        }
    }
}

/// What the flow speaks, and the relay of that to where it was going.
async fn route(
    shared: &Arc<Shared>,
    mut app: Leg,
    original: OrigDst,
    destination: Arc<Destination>,
    may_be_tls: bool,
    record: &mut FlowRecord,
) -> Result<(Routed, Protocol), Refused> {
    let by_address = ByAddress {
        destination: Arc::clone(&destination),
        name_may_decide: false,
        name_may_deny: may_be_tls,
        learnt: false,
    };
    let mut early = Early::new(shared, &by_address, original, None);
    let redirected = Redirected { original, by_address };
    let sniffed = sniff(shared, &mut app, &mut early, &redirected).await;
    record.first_bytes = first_bytes(&app, &early, sniffed.as_ref().ok());
    let Sniffed { protocol, sni, began, .. } = sniffed?;
    if !(may_be_tls && protocol == Protocol::Tls) {
        record.sniffed(protocol);
        record.sni = sni.map(Into::into);
        record.routed(destination.generation);
    }
    let relay = match protocol {
        Protocol::Http1 => Relay::Http1,
        Protocol::Http2 => Relay::Http2,
        _ => Relay::Opaque(Arc::clone(&destination)),
    };
    Ok((Routed { app, early, original, began, relay, fixed: Some(destination) }, protocol))
}

fn refused(cause: Cause, detail: &str) -> Refused {
    Refused { cause, detail: Some(detail.to_owned()) }
}

/// The cause that a failure towards a client is.
fn cause_of(kind: FailureKind) -> Cause {
    match kind {
        FailureKind::NoCertificate => Cause::ClientNoCertificate,
        FailureKind::WrongIdentity => Cause::ClientNotAllowed,
        FailureKind::Expired
        | FailureKind::NotYetValid
        | FailureKind::UnknownCa
        | FailureKind::Revoked
        | FailureKind::BadCertificate
        | FailureKind::WrongName
        | FailureKind::WrongPin => Cause::ClientNotTrusted,
        FailureKind::Version
        | FailureKind::NoAlpn
        | FailureKind::OwnCertificateRefused
        | FailureKind::Closed
        | FailureKind::Truncated
        | FailureKind::Protocol => Cause::ClientTlsFailed,
    }
}
