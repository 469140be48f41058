//! May this attempt be repeated?
//!
//! A repetition is safe only with a proof, and "the answer was an error" is none: the server may have
//! done the work and failed afterwards. So each retry names the [`Proof`] it rests on, and each refusal
//! its [`Refusal`]; both are closed vocabularies that go to log and metrics as they are. The cheap and
//! certain questions come first, and the budget comes last, so that a refusal never spends any of it.

use std::time::{Duration, Instant};

use crate::{
    Backoff, Budget, BudgetParams, GrpcStatus, GrpcStatusSet, MethodSet, Pushback, Random, StatusSet,
};

/// The statuses by which a server may say that it did not process the request, where policy knows the
/// server to mean it: 408 never read it all, 421 is not responsible, 425 did not risk it, 429 and 503
/// turned it away. No other status is ever such a proof.
pub const UNPROCESSED_STATUSES: StatusSet = StatusSet::of(&[408, 421, 425, 429, 503]);

/// Whether policy may list `status` at all. A 4xx blames the request, which will not get better by
/// being repeated, save for those in [`UNPROCESSED_STATUSES`]; what is below 400 is no failure.
pub const fn is_retryable_status(status: u16) -> bool {
    UNPROCESSED_STATUSES.contains(status) || matches!(status, 500..=599)
}

/// What a policy says about retries.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryParams {
    /// Attempts in all, the first included: 0 and 1 mean no retry.
    pub attempts: u32,
    /// The statuses that are worth another attempt, if it is safe. Those that are not
    /// [`is_retryable_status`] have no effect.
    pub statuses: StatusSet,
    /// The statuses that are worth another attempt and prove that it is safe. Those outside
    /// [`UNPROCESSED_STATUSES`] have no effect.
    pub unprocessed_statuses: StatusSet,
    /// The gRPC statuses that are worth another attempt where they are the whole answer, and prove that it
    /// is safe. [`GrpcStatus::Ok`] has no effect.
    pub grpc_statuses: GrpcStatusSet,
    /// The methods that may be repeated after the server has seen the request.
    pub methods: MethodSet,
    /// The request header, in lower case, whose presence says that the server recognises a repetition.
    pub idempotency_header: Option<String>,
    /// Whether a connection that could not be made is worth another attempt.
    pub connect: bool,
    /// Whether a connection that broke before the answer is worth another attempt.
    pub reset: bool,
    /// Whether an attempt that ran out of its own time is worth another one.
    pub timeout: bool,
    /// Whether a request that the protocol itself says was not processed is worth another attempt.
    pub refused: bool,
    /// The waits in between.
    pub backoff: Backoff,
    /// Whether a `Retry-After` lengthens the wait, or forbids the retry if it asks for too much.
    pub honour_retry_after: bool,
    /// The most bytes of a request body that are kept to be sent again.
    pub replay_bytes: usize,
    /// How many retries in all.
    pub budget: BudgetParams,
}

impl Default for RetryParams {
    fn default() -> Self {
        Self {
            attempts: 3,
            statuses: StatusSet::of(&[429, 502, 503, 504]),
            unprocessed_statuses: StatusSet::EMPTY,
            grpc_statuses: GrpcStatusSet::EMPTY,
            methods: ["GET", "HEAD", "OPTIONS", "DELETE"].map(String::from).into_iter().collect(),
            idempotency_header: None,
            connect: true,
            reset: true,
            timeout: true,
            refused: true,
            backoff: Backoff::default(),
            honour_retry_after: true,
            replay_bytes: 64 * 1024,
            budget: BudgetParams::default(),
        }
    }
}

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection could be made, so nothing was sent.
    Connect,
    /// The connection was reset or closed before a final response head.
    Reset,
    /// The time for one try ran out before a final response head.
    TryTimeout,
    /// A final response head with this status, of which nothing has been forwarded.
    Status(u16),
    /// The protocol says that the request was not processed: HTTP/2's REFUSED_STREAM, or a GOAWAY whose
    /// last stream comes before this one (RFC 9113 §8.7).
    Refused,
    /// A gRPC answer that is nothing but this status ("trailers-only"), of which nothing has been forwarded.
    Grpc(GrpcStatus),
}

/// An attempt that failed, and the exchange that it belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// Attempts of this exchange that are over, this one included.
    pub made: u32,
    /// How this one failed.
    pub failure: Failure,
    /// Whether any byte of this attempt was written to a connection.
    pub wrote: bool,
    /// The request method as sent.
    pub method: &'a str,
    /// Whether the request has the header that policy names. Ignored where policy names none.
    pub has_idempotency_key: bool,
    /// Whether all of the request that was read so far can be sent again.
    pub replayable: bool,
    /// What the response asked for.
    pub retry_after: Option<Duration>,
    /// What the gRPC answer asked for; it takes the place of the backoff.
    pub pushback: Option<Pushback>,
    /// Until the deadline of the whole exchange, where there is one.
    pub remaining: Option<Duration>,
}

/// Why a repetition is safe. In the order of preference: the first that holds is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Not a byte reached the wire.
    NothingSent,
    /// The server said so, by the protocol or with a status that policy trusts.
    NotProcessed,
    /// By policy, the method has the same effect twice as once.
    Idempotent,
    /// The server can tell the repetition by its key.
    IdempotencyKey,
}

impl Proof {
    /// All of them.
    pub const ALL: &[Self] = &[Self::NothingSent, Self::NotProcessed, Self::Idempotent, Self::IdempotencyKey];

    /// The word for it in log and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NothingSent => "nothing_sent",
            Self::NotProcessed => "not_processed",
            Self::Idempotent => "idempotent",
            Self::IdempotencyKey => "idempotency_key",
        }
    }
}

/// Why there is no retry. In the order of the questions: the first that says no is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Policy does not list this kind of failure.
    NotConfigured,
    /// There were as many attempts as policy allows.
    AttemptsSpent,
    /// Nothing proves that a repetition would do no harm.
    NotSafe,
    /// The request body is longer than what is kept of it, or there was no room to keep it.
    BodyNotReplayable,
    /// The server asked for more time than the backoff's cap or the deadline allows.
    RetryAfter,
    /// The gRPC server asked for more time than that, or not to be asked again.
    Pushback,
    /// The wait would leave no time before the deadline.
    Deadline,
    /// Too many retries to this endpoint lately.
    BudgetSpent,
}

impl Refusal {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::NotConfigured,
        Self::AttemptsSpent,
        Self::NotSafe,
        Self::BodyNotReplayable,
        Self::RetryAfter,
        Self::Pushback,
        Self::Deadline,
        Self::BudgetSpent,
    ];

    /// The word for it in log and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotConfigured => "not_configured",
            Self::AttemptsSpent => "attempts_spent",
            Self::NotSafe => "not_safe",
            Self::BodyNotReplayable => "body_not_replayable",
            Self::RetryAfter => "retry_after",
            Self::Pushback => "pushback",
            Self::Deadline => "deadline",
            Self::BudgetSpent => "budget_spent",
        }
    }
}

/// What to do after an attempt that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Make another attempt after `wait`; it is paid for. With a deadline, `wait` is shorter than what remains.
    Retry {
        /// From now.
        wait: Duration,
        /// What makes it safe.
        proof: Proof,
    },
    /// Pass the failure on.
    Stop(Refusal),
}

/// Decides whether a failed attempt is repeated. Takes from the budget if, and only if, it is.
pub fn decide(
    params: &RetryParams,
    attempt: &Attempt<'_>,
    budget: &mut Budget,
    now: Instant,
    rng: &mut impl Random,
) -> Decision {
    match judge(params, attempt, rng) {
        Ok(_) if !budget.withdraw(now) => Decision::Stop(Refusal::BudgetSpent),
        Ok((wait, proof)) => Decision::Retry { wait, proof },
        Err(refusal) => Decision::Stop(refusal),
    }
}

/// All the questions but that of the budget.
fn judge(
    params: &RetryParams,
    attempt: &Attempt<'_>,
    rng: &mut impl Random,
) -> Result<(Duration, Proof), Refusal> {
    if !is_listed(params, attempt.failure) {
        return Err(Refusal::NotConfigured);
    }
    if attempt.made >= params.attempts {
        return Err(Refusal::AttemptsSpent);
    }
    let proof = find_proof(params, attempt).ok_or(Refusal::NotSafe)?;
    if !attempt.replayable {
        return Err(Refusal::BodyNotReplayable);
    }
    Ok((find_wait(params, attempt, rng)?, proof))
}

fn is_listed(params: &RetryParams, failure: Failure) -> bool {
    match failure {
        Failure::Connect => params.connect,
        Failure::Reset => params.reset,
        Failure::TryTimeout => params.timeout,
        Failure::Refused => params.refused,
        Failure::Status(status) => {
            is_retryable_status(status) && params.statuses.contains(status) || is_unprocessed(params, failure)
        }
        Failure::Grpc(_) => is_unprocessed(params, failure),
    }
}

/// Whether the server has said, in a way that policy trusts, that it did not process the request.
fn is_unprocessed(params: &RetryParams, failure: Failure) -> bool {
    match failure {
        Failure::Connect | Failure::Reset | Failure::TryTimeout => false,
        Failure::Refused => true,
        Failure::Status(status) => {
            UNPROCESSED_STATUSES.contains(status) && params.unprocessed_statuses.contains(status)
        }
        Failure::Grpc(status) => status != GrpcStatus::Ok && params.grpc_statuses.contains(status),
    }
}

fn find_proof(params: &RetryParams, attempt: &Attempt<'_>) -> Option<Proof> {
    if attempt.failure == Failure::Connect || !attempt.wrote {
        Some(Proof::NothingSent)
    } else if is_unprocessed(params, attempt.failure) {
        Some(Proof::NotProcessed)
    } else if params.methods.contains(attempt.method) {
        Some(Proof::Idempotent)
    } else if attempt.has_idempotency_key && params.idempotency_header.is_some() {
        Some(Proof::IdempotencyKey)
    } else {
        None
    }
}

fn find_wait(
    params: &RetryParams,
    attempt: &Attempt<'_>,
    rng: &mut impl Random,
) -> Result<Duration, Refusal> {
    let remaining = attempt.remaining.unwrap_or(Duration::MAX);
    let asked = attempt.retry_after.filter(|_| params.honour_retry_after).unwrap_or(Duration::ZERO);
    if asked > params.backoff.cap || asked > remaining {
        return Err(Refusal::RetryAfter);
    }
    let wait = match attempt.pushback {
        None => params.backoff.wait(attempt.made, rng),
        Some(Pushback::Wait(wait)) if wait <= params.backoff.cap && wait <= remaining => wait,
        Some(Pushback::Wait(_) | Pushback::Stop) => return Err(Refusal::Pushback),
    };
    let wait = wait.max(asked);
    if wait < remaining { Ok(wait) } else { Err(Refusal::Deadline) }
}

#[cfg(test)]
mod tests;
