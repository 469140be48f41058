//! What does this flow speak? Decided by whoever speaks first, never by silence.
//!
//! The app's bytes are read as they come, while the original destination is dialled ([`super::early`]). The app's
//! first bytes decide as soon as they are unmistakable. If the server speaks first, its bytes decide, unless they
//! are those that an HTTP server may send unasked (an early SETTINGS frame, an idle 408): these are held until the
//! app speaks.
//!
//! Two limits keep a flow from hanging, and neither judges a silent app. Bytes that could still become an HTTP
//! request with an unknown method, and nothing more, are relayed as opaque when the app has waited three seconds
//! for an answer to them: a protocol with short words and no line ends must work. And what is unmistakable but never
//! completed is given the same time as a request head; then an HTTP request gets its 408, and nothing gets past the
//! policy that its rest would have met.

use dragoman_config::{ByAddress, Protocol as Declared};
use dragoman_telemetry::{Cause, Protocol};
use dragoman_wire::{Client, Hello, Likely, Server, client, client_hello, server};
use std::future::pending;
use std::io;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

use super::Redirected;
use super::early::{DENY_WAIT, Early, News};
use super::relay::app_cause;
use crate::leg::Leg;
use crate::shared::Shared;
use crate::upstream::learnt::First;

/// How long the app may wait for an answer to bytes that might still become HTTP with an unknown method.
const UNKNOWN_WAIT: Duration = Duration::from_secs(3);

/// How long a flow that can only fail waits for a silent app to say that it speaks HTTP, so that it gets an answer
/// rather than a reset. Longer than the 100 ms for which an app that has used up its share of the processor is stopped (the
/// period of a CPU quota), be it between its connect and its first byte.
const FAILED_WAIT: Duration = Duration::from_millis(200);

/// A flow whose protocol is known.
#[derive(Debug)]
pub(crate) struct Sniffed {
    pub(crate) protocol: Protocol,
    /// The server name of a TLS flow.
    pub(crate) sni: Option<String>,
    /// When the app began to speak, if it has not ended its first message yet.
    pub(crate) began: Option<Instant>,
    /// It begins like TLS of the app's own, and cannot be.
    pub(crate) is_malformed: bool,
}

/// Why a flow ends before its protocol is known.
#[derive(Debug)]
pub(crate) struct Unsniffed {
    pub(crate) cause: Cause,
    pub(crate) detail: Option<String>,
}

/// Reads until the protocol is known. What was read stays in the leg's buffer and in `early`.
pub(crate) async fn sniff(
    shared: &Shared,
    app: &mut Leg,
    early: &mut Early,
    to: &Redirected,
) -> Result<Sniffed, Unsniffed> {
    let declared = to.by_address.destination.protocol;
    if declared == Declared::Opaque {
        return Ok(opaque());
    }
    let (sniffed, first) = race(shared, app, early, &to.by_address).await?;
    let Some(first) = first else { return Ok(sniffed) };
    if shared.learnt.get(to.original.0) != Some(first) {
        shared.learnt.note(to.original.0, first);
    }
    if declared == Declared::Http && !matches!(sniffed.protocol, Protocol::Http1 | Protocol::Http2) {
        return Err(Unsniffed {
            cause: Cause::UnexpectedProtocol,
            detail: Some(sniffed.protocol.to_string()),
        });
    }
    Ok(sniffed)
}

/// Who speaks first decides; nobody did where the second part is `None`.
async fn race(
    shared: &Shared,
    app: &mut Leg,
    early: &mut Early,
    by_address: &ByAddress,
) -> Result<(Sniffed, Option<First>), Unsniffed> {
    let declared = by_address.destination.protocol;
    let mut give_up = silence_max(by_address).map(|wait| Instant::now() + wait);
    let mut began = None;
    // Of a client that was asked whether it speaks TLS.
    let mut at_hand = app.buf.len();
    loop {
        tokio::select! {
            biased;
            read = read(app, &mut at_hand) => match read {
                Err(error) => return Err(Unsniffed { cause: app_cause(&error), detail: Some(error.to_string()) }),
                // A whole side has ended with nothing to recognise: relay that.
                Ok(0) => return gave_up(app, began, Cause::AppClosed),
                Ok(_) => match app_spoke(app.buf.bytes()) {
                    Verdict::Known(sniffed) => return Ok((Sniffed { began, ..sniffed }, Some(First::App))),
                    Verdict::Open(likely) => {
                        let now = Instant::now();
                        let limit = *began.get_or_insert(now) + shared.config.now().proxy.request_head_timeout;
                        let short = likely == Likely::Unknown && declared == Declared::Auto;
                        give_up = Some(if short { limit.min(now + UNKNOWN_WAIT) } else { limit });
                    }
                },
            },
            news = early.news() => match news {
                News::Spoke => {
                    if let Some(protocol) = server_spoke(early.held()) {
                        return Ok((Sniffed { protocol, ..opaque() }, Some(First::Server)));
                    }
                }
                // An HTTP app does better with a new connection, if it speaks at once; where the destination is declared,
                // it may take its time.
                News::Failed if declared == Declared::Http => {}
                News::Failed | News::Ended if began.is_none() => give_up = Some(Instant::now() + FAILED_WAIT),
                News::Failed | News::Ended => {}
            },
            () = sleep_until_some(give_up) => return gave_up(app, began, Cause::RequestTimeout),
        }
    }
}

/// Reads once; what stands in the buffer already is the first read.
async fn read(app: &mut Leg, at_hand: &mut usize) -> io::Result<usize> {
    match std::mem::take(at_hand) {
        0 => app.fill().await,
        count => Ok(count),
    }
}

/// How long the app may be silent where nothing is dialled meanwhile. Where only the app's own words could still let it
/// pass, it may take its time, unless DNS has told already what it is about (docs/adr/0022).
fn silence_max(by_address: &ByAddress) -> Option<Duration> {
    match (by_address.destination.deny, by_address.name_may_decide) {
        (false, _) => None,
        (true, false) => Some(FAILED_WAIT),
        (true, true) => by_address.learnt.then_some(DENY_WAIT),
    }
}

enum Verdict {
    Known(Sniffed),
    Open(Likely),
}

fn app_spoke(bytes: &[u8]) -> Verdict {
    let known = |protocol| Verdict::Known(Sniffed { protocol, ..opaque() });
    match client(bytes) {
        Client::Incomplete(likely) => Verdict::Open(likely),
        Client::Http1 => known(Protocol::Http1),
        Client::Http2 => known(Protocol::Http2),
        Client::Postgres => known(Protocol::Postgres),
        Client::Redis => known(Protocol::Redis),
        Client::Opaque => known(Protocol::Opaque),
        Client::Tls => match client_hello(bytes) {
            Hello::Incomplete => Verdict::Open(Likely::Known),
            Hello::Hello(hello) => {
                Verdict::Known(Sniffed { protocol: Protocol::Tls, sni: hello.sni, ..opaque() })
            }
            Hello::Malformed(_) => {
                Verdict::Known(Sniffed { protocol: Protocol::Tls, is_malformed: true, ..opaque() })
            }
        },
    }
}

/// The protocol of a server that speaks first, or `None` while its bytes must be held.
fn server_spoke(bytes: &[u8]) -> Option<Protocol> {
    match server(bytes) {
        Server::Incomplete | Server::Http2Settings | Server::Http1 => None,
        Server::Mysql => Some(Protocol::Mysql),
        Server::Smtp => Some(Protocol::Smtp),
        Server::Ftp => Some(Protocol::Ftp),
        Server::Ssh => Some(Protocol::Ssh),
        Server::Other => Some(Protocol::Opaque),
    }
}

/// What becomes of a flow whose first message, begun at `began`, was never completed, for this cause.
fn gave_up(app: &Leg, began: Option<Instant>, cause: Cause) -> Result<(Sniffed, Option<First>), Unsniffed> {
    let bytes = app.buf.bytes();
    match client(bytes) {
        // The request that it must have been is answered, or ended, as any that is not completed. A client of HTTP/2 (`PRI`)
        // could not read that answer.
        Client::Incomplete(Likely::Known) if bytes[0].is_ascii_graphic() && !bytes.starts_with(b"PRI ") => {
            Ok((Sniffed { protocol: Protocol::Http1, began, ..opaque() }, Some(First::App)))
        }
        Client::Tls | Client::Incomplete(Likely::Known) => {
            Err(Unsniffed { cause, detail: Some("in its first message".into()) })
        }
        _ => Ok((opaque(), None)),
    }
}

fn opaque() -> Sniffed {
    Sniffed { protocol: Protocol::Opaque, sni: None, began: None, is_malformed: false }
}

async fn sleep_until_some(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}
