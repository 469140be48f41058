//! Whether an endpoint may be tried, what a try says about it, and whether there is another one.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dragoman_policy::{Attempt, Decision, Failure, Proof, parse_retry_after};
use dragoman_telemetry::{Cause, ExchangeRecord, Outcome};
use tokio::time::sleep_until;

use super::plan::{Limit, Plan};
use crate::flow::early::Early;
use crate::shared::{Shared, with_random};
use crate::upstream::dial::DialFailed;
use crate::upstream::state::{Endpoint, Pass, verdict};

/// Why a try gave no final response head.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) cause: Cause,
    pub(crate) detail: Option<String>,
    /// What the retry policy may make of it; nothing where the upstream is not to blame.
    pub(crate) failure: Option<Failure>,
    /// The connection was one of our pool, and ended before it said anything.
    pub(crate) stale: bool,
    /// When it is worth asking again, where that is known.
    pub(crate) retry_after: Option<Duration>,
}

impl Failed {
    /// Something that no other try would mend.
    pub(crate) fn here<'a>(cause: Cause, detail: impl Into<Option<&'a str>>) -> Self {
        Self {
            cause,
            detail: detail.into().map(str::to_owned),
            failure: None,
            stale: false,
            retry_after: None,
        }
    }

    /// Something that another try might mend.
    pub(crate) fn there(cause: Cause, detail: Option<String>, failure: Failure) -> Self {
        Self { cause, detail, failure: Some(failure), stale: false, retry_after: None }
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
}

/// The endpoint of the next try, and its breaker's leave.
pub(crate) fn admit(
    shared: &Shared,
    plan: &Plan,
    early: &mut Early,
    record: &mut ExchangeRecord,
) -> Result<(Arc<Endpoint>, Pass), Failed> {
    let endpoint = shared.pick(&plan.destination, plan.original, early.address());
    let now = Instant::now();
    let pass = match early.pass(&endpoint) {
        Some(pass) => pass,
        None => endpoint.admit(now).map_err(|retry_in| Failed {
            retry_after: Some(retry_in),
            ..Failed::here(Cause::BreakerOpen, &*endpoint.address.to_string())
        })?,
    };
    record.attempt(endpoint.address);
    if let (1, Some(retry)) = (record.attempts(), &plan.policy.retry) {
        endpoint.deposit(retry, now);
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
    let outcome = match tried {
        // Our own pooled connection went stale: the endpoint did nothing wrong.
        Err(failed) if failed.stale => Outcome::Local,
        Err(failed) => failed.cause.outcome(),
        Ok(status) if plan.counts_as_failure(status) => Outcome::Failure,
        Ok(429 | 503) => Outcome::Overload,
        Ok(_) => return Some(pass),
    };
    record.attempt_ended(outcome);
    pass.report(verdict(outcome));
    None
}

/// Tells breaker and metrics how a response ended, where its head said nothing against the endpoint.
pub(crate) fn conclude(pass: Option<Pass>, failed: Option<&Failed>, record: &mut ExchangeRecord) {
    let outcome = failed.map_or(Outcome::Success, |failed| failed.cause.outcome());
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
    if tried.stale && plan.is_idempotent && tried.replayable {
        // Not a retry of policy: the pool is ours, and without it this connection would have been a new one.
        record.retried("stale_connection", Proof::Idempotent.as_str());
        return Some(Duration::ZERO);
    }
    let retry = plan.policy.retry.as_ref()?;
    if let Failure::Status(status) = tried.failure
        && !retry.statuses.contains(status)
        && !retry.unprocessed_statuses.contains(status)
    {
        return None;
    }
    let now = Instant::now();
    if shared.pick(&plan.destination, plan.original, None).is_open(now) {
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
        pushback: None,
        remaining: plan.deadline().map(|deadline| deadline.saturating_duration_since(now)),
    };
    match with_random(|random| endpoint.decide(retry, &attempt, now, random)) {
        Decision::Retry { wait, proof } => {
            record.retried(tried.word, proof.as_str());
            Some(wait)
        }
        Decision::Stop(refusal) => {
            record.refuse_retry(refusal.as_str());
            None
        }
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
    if failed.cause == Cause::ConnectTimeout && whole {
        return Failed::here(Cause::Timeout, &*failed.detail);
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
