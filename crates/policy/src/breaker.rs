//! A circuit breaker: stop asking an endpoint that has just shown that it is down.
//!
//! The pattern is Nygard's ("Release It!", 2007). Failures are counted over a rolling window rather
//! than in a row: on a busy endpoint one lucky answer would reset a count in a row for ever, and on a
//! quiet one failures of different days would add up. A count alone would open on any busy endpoint,
//! since a thousand requests a second have five failures in ten seconds on a good day: so the failures
//! must also be a share of all results, as in Hystrix' "error threshold percentage".
//!
//! | State | Event | Next | Reported |
//! |---|---|---|---|
//! | closed | a failure, fewer than `failures` in `window`, or less than `failure_percent` of all results | closed | - |
//! | closed | the failure that makes it both | open | `Opened` |
//! | closed | success, neutral | closed | - |
//! | open | asked before `open` has passed | open, refused | - |
//! | open | asked after | half-open, admitted as the probe | `HalfOpened` |
//! | half-open | asked while the probe is out | half-open, refused | - |
//! | half-open | asked when no probe is out, or it is overdue | half-open, admitted as the probe | - |
//! | half-open | the probe succeeds | closed, no failure counted | `Closed` |
//! | half-open | the probe fails | open | `Opened` |
//! | half-open | the probe is neutral | half-open, the slot is free | - |
//! | any | the result of a ticket of an older generation | unchanged | - |
//!
//! Attempts overlap, so a result may belong to a state that is gone: a request that was sent before
//! the breaker opened says nothing about the endpoint that the probe has just found well. Each
//! [`Ticket`] carries the generation in which it was given out, and only those of the present one
//! count. A probe is a generation of its own, which ends when its slot is freed: so a probe counts
//! once, and one that was given up as overdue cannot free the slot of the one that came after it.

use std::time::{Duration, Instant};

use crate::rolling::RollingCounts;

/// When a [`Breaker`] opens and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerParams {
    /// This many failures within the window open the breaker. Zero counts as one.
    pub failures: u32,
    /// And they must be at least this share of the successes and failures within the window, in per
    /// cent: 0 lets the number alone decide, 100 opens only where nothing succeeds.
    pub failure_percent: u8,
    /// How long a result counts. It is forgotten in steps of a tenth of it: never early, and late by
    /// less than a tenth.
    pub window: Duration,
    /// How long an open breaker refuses everything.
    pub open: Duration,
    /// How long a probe may stay without a result before another request takes its place.
    pub probe_deadline: Duration,
}

impl Default for BreakerParams {
    fn default() -> Self {
        Self {
            failures: 5,
            failure_percent: 50,
            window: Duration::from_secs(10),
            open: Duration::from_secs(30),
            probe_deadline: Duration::from_secs(30),
        }
    }
}

/// Leave to make one attempt, to be handed back to [`Breaker::record`] with what came of it.
///
/// Whoever drops an attempt without a result hands it back as [`Verdict::Neutral`]; the slot of a
/// probe that is never handed back is freed by its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    generation: u64,
    probe: bool,
}

impl Ticket {
    /// Whether the fate of the breaker hangs on this attempt alone.
    pub fn is_probe(&self) -> bool {
        self.probe
    }
}

/// The answer to "may I try?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Yes, and the ticket is owed back.
    Admitted(Ticket),
    /// No. After `retry_in` the breaker lets a probe pass; a probe that reports sooner changes that.
    Refused {
        /// Never zero.
        retry_in: Duration,
    },
}

/// What an attempt says about its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The endpoint did its work.
    Success,
    /// The endpoint failed, or could not be reached.
    Failure,
    /// Nothing: it was overloaded, the app gave up, or the proxy itself refused.
    Neutral,
}

/// A change of state, for the log and the metrics. Each is reported once, to the call that caused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// To [`State::Open`].
    Opened,
    /// From [`State::Open`] to [`State::HalfOpen`].
    HalfOpened,
    /// From [`State::HalfOpen`] to [`State::Closed`].
    Closed,
}

impl Transition {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Opened, Self::HalfOpened, Self::Closed];

    /// The word for it in log and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::HalfOpened => "half_opened",
            Self::Closed => "closed",
        }
    }
}

/// What a breaker does with the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Admits everything.
    Closed,
    /// Refuses everything.
    Open,
    /// Admits one probe at a time.
    HalfOpen,
}

impl State {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Closed, Self::Open, Self::HalfOpen];

    /// The word for it in log and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// The circuit breaker of one endpoint.
#[derive(Debug)]
pub struct Breaker {
    params: BreakerParams,
    generation: u64,
    phase: Phase,
    results: RollingCounts<2>,
}

/// The kinds of results that are counted.
const FAILURE: usize = 0;
const SUCCESS: usize = 1;

/// The state with what belongs to it. Beginnings rather than ends, since adding to an `Instant` may overflow.
#[derive(Clone, Copy, Debug)]
enum Phase {
    Closed,
    Open { since: Instant },
    HalfOpen { probe_since: Option<Instant> },
}

impl Breaker {
    /// A closed breaker.
    pub fn new(params: BreakerParams) -> Self {
        Self { params, generation: 0, phase: Phase::Closed, results: RollingCounts::new(params.window) }
    }

    /// Asks leave to make one attempt. Only [`Transition::HalfOpened`] can come of it.
    pub fn admit(&mut self, now: Instant) -> (Admission, Option<Transition>) {
        if let Some(retry_in) = self.refusal(now) {
            return (Admission::Refused { retry_in }, None);
        }
        match self.phase {
            Phase::Closed => (Admission::Admitted(self.ticket(false)), None),
            Phase::Open { .. } => (self.admit_probe(now), Some(Transition::HalfOpened)),
            Phase::HalfOpen { .. } => (self.admit_probe(now), None),
        }
    }

    /// Takes a ticket back with what came of it.
    ///
    /// A probe that reports after its deadline still counts, unless another has taken its place.
    pub fn record(&mut self, ticket: Ticket, verdict: Verdict, now: Instant) -> Option<Transition> {
        if ticket.generation != self.generation {
            return None;
        }
        match (self.phase, verdict) {
            (Phase::Closed, Verdict::Failure) => {
                self.results.add(FAILURE, now);
                self.has_failed_enough(now).then(|| self.open(now))
            }
            (Phase::Closed, Verdict::Success) => {
                self.results.add(SUCCESS, now);
                None
            }
            (Phase::HalfOpen { .. }, Verdict::Failure) => Some(self.open(now)),
            (Phase::HalfOpen { .. }, Verdict::Success) => {
                self.results = RollingCounts::new(self.params.window);
                self.enter(Phase::Closed);
                Some(Transition::Closed)
            }
            (Phase::HalfOpen { .. }, Verdict::Neutral) => {
                self.enter(Phase::HalfOpen { probe_since: None });
                None
            }
            (Phase::Closed, Verdict::Neutral) | (Phase::Open { .. }, _) => None,
        }
    }

    fn has_failed_enough(&mut self, now: Instant) -> bool {
        let [failures, successes] = self.results.totals(now);
        let share = u128::from(failures) * 100;
        failures >= u64::from(self.params.failures)
            && share >= u128::from(self.params.failure_percent) * u128::from(failures + successes)
    }

    /// The state as the next request would find it: a breaker that has been open for long enough is
    /// half-open here, although the transition is reported to the request that becomes the probe.
    pub fn state(&self, now: Instant) -> State {
        match self.phase {
            Phase::Closed => State::Closed,
            Phase::Open { .. } if self.refusal(now).is_some() => State::Open,
            Phase::Open { .. } | Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    /// Whether [`Self::admit`] would admit now.
    pub fn would_admit(&self, now: Instant) -> bool {
        self.refusal(now).is_none()
    }

    /// What it was made with.
    pub fn params(&self) -> &BreakerParams {
        &self.params
    }

    /// How long from now everything is refused, if it is.
    fn refusal(&self, now: Instant) -> Option<Duration> {
        let (since, lasts) = match self.phase {
            Phase::Closed | Phase::HalfOpen { probe_since: None } => return None,
            Phase::Open { since } => (since, self.params.open),
            Phase::HalfOpen { probe_since: Some(since) } => (since, self.params.probe_deadline),
        };
        let left = lasts.saturating_sub(now.saturating_duration_since(since));
        (!left.is_zero()).then_some(left)
    }

    fn admit_probe(&mut self, now: Instant) -> Admission {
        self.enter(Phase::HalfOpen { probe_since: Some(now) });
        Admission::Admitted(self.ticket(true))
    }

    fn open(&mut self, now: Instant) -> Transition {
        self.enter(Phase::Open { since: now });
        Transition::Opened
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.generation += 1;
    }

    fn ticket(&self, probe: bool) -> Ticket {
        Ticket { generation: self.generation, probe }
    }
}

#[cfg(test)]
mod tests;
