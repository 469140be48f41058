//! Whether an endpoint may be tried, what a try says about it, and whether there is another one.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dragoman_config::PoolParams;
use dragoman_policy::{Attempt, Decision, Failure, Proof, Pushback, Verdict, parse_retry_after};
use dragoman_telemetry::{Cause, ExchangeRecord, Note, Outcome};
use tokio::time::sleep_until;

use super::plan::{Limit, Plan};
use crate::flow::early::Early;
use crate::flow::message::connection_cause;
use crate::shared::{Shared, with_random};
use crate::upstream::dial::DialFailed;
use crate::upstream::state::{Endpoint, Pass, verdict};

/// Why a try gave no final response head, or no whole response.
#[derive(Clone, Debug)]
pub(crate) struct Failed {
    pub(crate) cause: Cause,
    pub(crate) detail: Option<String>,
    /// What the retry policy may make of it; nothing where the upstream is not to blame.
    pub(crate) failure: Option<Failure>,
    /// The connection was one of our pool, and ended before it said anything.
    pub(crate) stale: bool,
    /// A limit struck that says nothing about the endpoint: the app was waited for, or hardly any time was left.
    pub(crate) slow_app: bool,
    /// The app has got a part of an answer: another one would melt into it.
    pub(crate) torn: bool,
    /// The code by which an HTTP/2 server reset the stream.
    pub(crate) reset: Option<h2::Reason>,
    /// When it is worth asking again, where that is known.
    pub(crate) retry_after: Option<Duration>,
}

impl Failed {
    /// Something that no other try would mend.
    pub(crate) fn here<'a>(cause: Cause, detail: impl Into<Option<&'a str>>) -> Self {
        let detail = detail.into().map(str::to_owned);
        Self {
            cause,
            detail,
            failure: None,
            stale: false,
            slow_app: false,
            torn: false,
            reset: None,
            retry_after: None,
        }
    }

    /// Something that another try might mend.
    pub(crate) fn there(cause: Cause, detail: Option<String>, failure: Failure) -> Self {
        Self { detail, failure: Some(failure), ..Self::here(cause, None) }
    }

    /// A limit that has passed before a response head came.
    pub(crate) fn late(limit: Limit) -> Self {
        match limit.cause {
            Cause::TryTimeout => Self::there(limit.cause, None, Failure::TryTimeout),
            _ => Self::here(limit.cause, None),
        }
    }

    /// No connection could be made.
    pub(crate) fn not_connected(failed: DialFailed) -> Self {
        Self::there(failed.cause, Some(failed.detail), Failure::Connect)
    }

    /// An HTTP/2 connection that ended before anything was asked on it.
    pub(crate) fn no_connection(error: &h2::Error) -> Self {
        Self::there(connection_cause(error), Some(error.to_string()), Failure::Connect)
    }

    /// As many connections as there may be were in use for so long. Nothing was asked of the endpoint.
    pub(crate) fn pool_full(endpoint: SocketAddr, params: &PoolParams, waited: Duration) -> Self {
        let size = params.max_size.unwrap_or_default();
        let detail = format!("{endpoint}: all {size} connections were in use for {waited:?}");
        Self { slow_app: true, ..Self::here(Cause::PoolFull, &*detail) }
    }

    /// What it says about the endpoint.
    fn outcome(&self) -> Outcome {
        // A pooled connection that went stale, or an app that was slow: the endpoint did nothing wrong.
        if self.stale || self.slow_app { Outcome::Local } else { self.cause.outcome() }
    }
}

/// What a try came to, as far as a decision needs to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Try<'a> {
    pub(crate) failure: Failure,
    /// Why it failed, a word of a closed set.
    pub(crate) word: &'static str,
    pub(crate) method: &'a str,
    pub(crate) wrote: bool,
    pub(crate) replayable: bool,
    pub(crate) stale: bool,
    pub(crate) retry_after: Option<Duration>,
    /// What a gRPC server asks of whoever would try again.
    pub(crate) pushback: Option<Pushback>,
    /// When the caller gives up, where the request says so.
    pub(crate) deadline: Option<Instant>,
}

/// The endpoint of the next try, and its breaker's leave. The try before it failed on `failed`.
pub(crate) fn admit(
    shared: &Shared,
    plan: &Plan,
    early: &Early,
    failed: Option<SocketAddr>,
    record: &mut ExchangeRecord,
) -> Result<(Arc<Endpoint>, Pass), Failed> {
    let admitted = shared.admit(plan.target(), early, failed);
    let (endpoint, pass) = admitted.map_err(|(address, retry_in)| Failed {
        retry_after: Some(retry_in),
        ..Failed::here(Cause::BreakerOpen, &*address.to_string())
    })?;
    record.attempt(endpoint.address);
    record.note(Note::Admitted(pass.breaker()));
    if let (1, Some(retry)) = (record.attempts(), &plan.policy.retry) {
        endpoint.deposit(retry, Instant::now());
    }
    Ok((endpoint, pass))
}

/// Tells breaker and metrics how a try went. Where that is not known before the response has ended, the pass is
/// given back.
pub(crate) fn judge(
    plan: &Plan,
    pass: Pass,
    tried: Result<u16, &Failed>,
    record: &mut ExchangeRecord,
) -> Option<Pass> {
    match tried {
        Ok(status) => record.attempt_answered(status),
        Err(failed) => record.attempt_failed(failed.cause),
    }
    match tried {
        Err(failed) => {
            record.attempt_ended(failed.outcome());
            pass.report(verdict(failed.outcome()));
            None
        }
        Ok(status) if plan.counts_as_failure(status) => {
            record.attempt_ended(Outcome::Failure);
            pass.report(Verdict::Failure);
            None
        }
        // What policy does not count is counted in the metrics all the same.
        Ok(500..) => {
            record.attempt_ended(Outcome::Failure);
            pass.after_good_head()
        }
        Ok(429) => {
            record.attempt_ended(Outcome::Overload);
            pass.report(Verdict::Neutral);
            None
        }
        Ok(_) => pass.after_good_head(),
    }
}

/// Tells breaker and metrics how a response ended, where its head said nothing against the endpoint.
pub(crate) fn conclude(pass: Option<Pass>, failed: Option<&Failed>, record: &mut ExchangeRecord) {
    let outcome = failed.map_or(Outcome::Success, Failed::outcome);
    if let Some(failed) = failed {
        record.attempt_failed(failed.cause);
        if record.status.is_some() {
            record.note(Note::NotRetried("head_forwarded"));
        }
    }
    record.attempt_ended(outcome);
    if let Some(pass) = pass {
        pass.report(verdict(outcome));
    }
}

/// Whether to try again, and after which wait. `free` is the number of tries that did not count.
pub(crate) fn decide(
    shared: &Shared,
    plan: &Plan,
    endpoint: &Endpoint,
    tried: &Try<'_>,
    free: u32,
    record: &mut ExchangeRecord,
) -> Option<Duration> {
    if let Some(proof) = proof_of_stale(plan, tried) {
        // Not a retry of policy: the pool is ours, and without it this connection would have been a new one.
        record.retried("stale_connection", proof.as_str());
        return Some(Duration::ZERO);
    }
    let Some(retry) = plan.policy.retry.as_ref() else {
        note_unlisted(tried, "no_retry", record);
        return None;
    };
    let is_listed = match tried.failure {
        Failure::Status(status) => {
            retry.statuses.contains(status) || retry.unprocessed_statuses.contains(status)
        }
        Failure::Grpc(status) => retry.grpc_statuses.contains(status),
        _ => true,
    };
    if !is_listed {
        note_unlisted(tried, "not_listed", record);
        return None;
    }
    let now = Instant::now();
    if record.takes_notes() {
        let state = endpoint.observe(now);
        record.note(Note::Found(state.breaker, state.retries));
    }
    if !shared.would_admit(plan.target(), now) {
        record.refuse_retry("breaker_open");
        return None;
    }
    let attempt = Attempt {
        made: record.attempts() - free,
        failure: tried.failure,
        wrote: tried.wrote,
        method: tried.method,
        has_idempotency_key: plan.has_idempotency_key,
        replayable: tried.replayable,
        retry_after: tried.retry_after,
        pushback: tried.pushback,
        remaining: soonest(plan.deadline(), tried.deadline).map(|end| end.saturating_duration_since(now)),
    };
    match with_random(|random| endpoint.decide(retry, &attempt, now, random)) {
        Decision::Retry { wait, proof } => {
            record.retried(tried.word, proof.as_str());
            record.note(Note::Waits(wait));
            Some(wait)
        }
        Decision::Stop(refusal) => {
            record.refuse_retry(refusal.as_str());
            None
        }
    }
}

/// Notes why policy has nothing to say about a failure; most answers are none.
fn note_unlisted(tried: &Try<'_>, why: &'static str, record: &mut ExchangeRecord) {
    if !matches!(tried.failure, Failure::Status(..400)) {
        record.note(Note::NotRetried(why));
    }
}

/// Why a request may be sent again after a connection of ours went stale under it.
fn proof_of_stale(plan: &Plan, tried: &Try<'_>) -> Option<Proof> {
    match () {
        () if !tried.stale || !tried.replayable => None,
        () if !tried.wrote => Some(Proof::NothingSent),
        () if plan.is_idempotent => Some(Proof::Idempotent),
        () if plan.has_idempotency_key => Some(Proof::IdempotencyKey),
        () => None,
    }
}

fn soonest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// The time that a Retry-After field asks for.
pub(crate) fn retry_after(value: &[u8]) -> Option<Duration> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    parse_retry_after(std::str::from_utf8(value).ok()?, now.as_secs())
}

/// How long a dial may take, and whether it is the whole exchange's time that ends it.
pub(crate) fn dial_limit(plan: &Plan) -> (Duration, bool) {
    let limit = plan.destination.connect_timeout;
    let remaining = plan.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
    match remaining {
        Some(remaining) if remaining < limit => (remaining, true),
        _ => (limit, false),
    }
}

/// A dial that failed; `whole`: the time of the whole exchange was its limit.
pub(crate) fn dial_failed(failed: DialFailed, whole: bool) -> Failed {
    if matches!(failed.cause, Cause::ConnectTimeout | Cause::TlsTimeout) && whole {
        // How little time was left is not the endpoint's fault.
        return Failed { slow_app: true, ..Failed::here(Cause::Timeout, &*failed.detail) };
    }
    Failed::not_connected(failed)
}

/// Returns when the limit has passed; without one, never.
pub(crate) async fn passed(until: Option<Limit>) -> Limit {
    match until {
        Some(limit) => {
            sleep_until(limit.at).await;
            limit
        }
        None => pending().await,
    }
}
