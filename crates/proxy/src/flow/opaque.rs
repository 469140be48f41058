//! A flow whose bytes are relayed as they are: connect, with retries while nothing has been sent, then relay.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dragoman_config::Destination;
use dragoman_net::OrigDst;
use dragoman_policy::{Attempt, Decision, Failure, RetryParams, Verdict};
use dragoman_telemetry::{Cause, FlowRecord, Note, Protocol, Way};
use dragoman_tls::client::Alpn;
use tokio::time::sleep;

use super::early::{Early, Taken};
use super::relay::{Relay, relay, upstream_cause};
use crate::leg::Leg;
use crate::shared::{Shared, Target, with_random};
use crate::upstream::dial::DialFailed;
use crate::upstream::link::{Asked, Link};
use crate::upstream::state::{Endpoint, verdict};

/// Serves an opaque flow to its end.
///
/// Not an `async fn`: that keeps its arguments beside what it makes of them, for as long as the relay waits.
pub(crate) fn serve<'a>(
    shared: &'a Arc<Shared>,
    app: Leg,
    early: Early,
    original: OrigDst,
    destination: Arc<Destination>,
    record: &'a mut FlowRecord,
) -> impl Future<Output = ()> + use<'a> {
    // Boxed: the relay, which may wait for days, takes its place.
    let opening = Box::pin(open(shared, app, early, original, destination, record));
    async move {
        // By reference: else it would be kept twice.
        if let Some(relay) = &mut opening.await {
            relay.await;
        }
    }
}

/// Opens the upstream connection, and gives the relay. `None` where the flow has ended.
async fn open<'a>(
    shared: &'a Arc<Shared>,
    app: Leg,
    mut early: Early,
    original: OrigDst,
    destination: Arc<Destination>,
    record: &'a mut FlowRecord,
) -> Option<Relay<'a>> {
    let connected = tokio::select! {
        connected = connect(shared, &mut early, original, &destination, record) => connected,
        // Nobody waits for the connection any more.
        _ = app.broken() => {
            record.fail(Cause::AppReset, None);
            return None;
        }
    };
    match connected {
        Ok(Upstream::Open(upstream)) => {
            early.discard();
            Some(relay(&shared.sleepers, app, upstream, record))
        }
        Ok(Upstream::Reset(upstream, error)) => {
            pass_on_reset(app, upstream, &error, record).await;
            None
        }
        Err(failed) => {
            record.fail(failed.cause, failed.detail);
            None
        }
    }
}

enum Upstream {
    Open(Leg),
    /// Reset by the server while the app was silent, after what stands in the buffer.
    Reset(Leg, io::Error),
}

/// The server has reset the connection before the relay began: the app gets what it said, and then the reset.
async fn pass_on_reset(mut app: Leg, upstream: Leg, error: &io::Error, record: &mut FlowRecord) {
    record.fail(upstream_cause(error), error.to_string());
    if app.write_all(upstream.buf.bytes()).await.is_ok() {
        record.bytes_to_app += upstream.buf.len() as u64;
        app.reset().await;
    }
}

/// A connection to an endpoint of the destination. Nothing has been sent, so every failure may be retried.
async fn connect(
    shared: &Arc<Shared>,
    early: &mut Early,
    original: OrigDst,
    destination: &Arc<Destination>,
    record: &mut FlowRecord,
) -> Result<Upstream, DialFailed> {
    let retry = destination.policy.retry.as_ref();
    let app_encrypts = record.protocol == Protocol::Tls;
    let target = Target { destination, route: None, original, app_encrypts };
    let asked = Asked::of(destination, "", record.host.as_deref());
    let mut failed_on = None;
    loop {
        let admitted = shared.admit(target, early, failed_on);
        let (endpoint, pass) = admitted.map_err(|(address, retry_in)| DialFailed {
            cause: Cause::BreakerOpen,
            detail: format!("{address}: next probe in {retry_in:.1?}"),
        })?;
        record.attempt(endpoint.address);
        record.note(Note::Admitted(pass.breaker()));
        if let (1, Some(params)) = (record.connect_attempts, retry) {
            endpoint.deposit(params, Instant::now());
        }
        let link = if app_encrypts {
            Ok(Link::plain(destination, endpoint.address))
        } else {
            Link::new(shared, destination, endpoint.address, Alpn::None, &asked)
        };
        let (way, taken) = match link {
            Ok(link) => obtain(shared, early, &link, destination.connect_timeout).await,
            Err(failed) => (Way::New, Taken::Failed(failed)),
        };
        let failed = match taken {
            Taken::Failed(failed) => failed,
            // A probe of an opaque endpoint ends here: what the bytes mean is not ours to judge.
            Taken::Open(leg) | Taken::Ended(leg, None) => {
                record.attempt_ended(Ok(way));
                if let Some(secured) = leg.stream().secured() {
                    record.secured(secured);
                }
                pass.report(Verdict::Success);
                return Ok(Upstream::Open(leg));
            }
            Taken::Ended(leg, Some(error)) => {
                record.attempt_ended(Ok(way));
                if let Some(secured) = leg.stream().secured() {
                    record.secured(secured);
                }
                pass.report(Verdict::Success);
                return Ok(Upstream::Reset(leg, error));
            }
        };
        record.attempt_ended(Err(failed.cause));
        pass.report(verdict(failed.cause.outcome()));
        let Some(params) = retry else {
            record.note(Note::NotRetried("no_retry"));
            return Err(failed);
        };
        failed_on = Some(endpoint.address);
        let state = endpoint.observe(Instant::now());
        record.note(Note::Found(state.breaker, state.retries));
        if !shared.would_admit(target, Instant::now()) {
            record.refuse_retry("breaker_open");
            return Err(failed);
        }
        match again(&endpoint, params, record.connect_attempts) {
            Decision::Retry { wait, proof } => {
                record.retried(failed.cause.as_str(), proof.as_str(), wait);
                sleep(wait).await;
            }
            Decision::Stop(refusal) => {
                record.refuse_retry(refusal.as_str());
                return Err(failed);
            }
        }
    }
}

/// The early dial, or a new one.
async fn obtain(shared: &Shared, early: &mut Early, link: &Link, limit: Duration) -> (Way, Taken) {
    match early.take(link).await {
        Some(taken) => (Way::Early, taken),
        None => (Way::New, link.dial(shared, limit).await.map_or_else(Taken::Failed, Taken::Open)),
    }
}

fn again(endpoint: &Endpoint, params: &RetryParams, made: u32) -> Decision {
    let attempt = Attempt {
        made,
        failure: Failure::Connect,
        wrote: false,
        method: "",
        has_idempotency_key: false,
        replayable: true,
        retry_after: None,
        pushback: None,
        remaining: None,
    };
    with_random(|random| endpoint.decide(params, &attempt, Instant::now(), random))
}
