//! The resilience algorithms of dragoman: when to try again, how long to wait, when to give up.
//!
//! Everything here is pure. Time is an argument (`now`), chance is an argument ([`Random`]), and
//! nothing opens a socket, writes a log or starts a task, so each algorithm is tested by tables and
//! by seeded simulation, and a decision can be explained after the fact from its inputs alone.
//!
//! | Question | Answer |
//! |---|---|
//! | May this attempt be repeated, and why? | [`decide`] |
//! | How long until then? | [`Backoff`], [`parse_retry_after`], [`parse_pushback`] |
//! | Would all these retries drown the server? | [`Budget`] |
//! | Is the endpoint worth asking at all? | [`Breaker`] |
//!
//! An [`Instant`](std::time::Instant) that is older than one seen before is taken as "no time has
//! passed": callers read the clock before they take the lock, so order is not guaranteed.

mod backoff;
mod breaker;
mod budget;
mod grpc;
mod identity;
mod random;
mod retry;
mod retry_after;
mod rolling;
mod sets;
#[cfg(test)]
mod testing;

pub use backoff::Backoff;
pub use breaker::{Admission, Breaker, BreakerParams, State, Ticket, Transition, Verdict};
pub use budget::{Budget, BudgetParams};
pub use grpc::{
    GrpcStatus, GrpcStatusSet, Pushback, format_grpc_timeout, parse_grpc_timeout, parse_pushback,
};
pub use identity::{NotSpiffe, SpiffePattern};
pub use random::{Random, SplitMix64};
pub use retry::{
    Attempt, Decision, Failure, Proof, Refusal, RetryParams, UNPROCESSED_STATUSES, decide,
    is_retryable_status,
};
pub use retry_after::parse_retry_after;
pub use sets::{MethodSet, StatusSet};
