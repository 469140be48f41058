//! A breaker under two million random calls, beside a shadow that remembers everything.
//!
//! The shadow knows the specification and none of the implementation: it keeps the moment of each
//! failure and every ticket ever given out. Where the specification leaves room (a failure that is
//! between one and 1.1 windows old may count or not) it follows the breaker.

mod common;

use std::time::{Duration, Instant};

use common::{Progress, pick, start};
use dragoman_policy::{
    Admission, Breaker, BreakerParams, Random, SplitMix64, State, Ticket, Transition, Verdict,
};

const STEPS: u32 = 500_000;

/// A ticket is known by its index in `Shadow::tickets`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    /// Older tickets than `first_ticket` no longer matter.
    Closed {
        first_ticket: usize,
    },
    Open {
        until: Instant,
    },
    /// The probe and its deadline.
    HalfOpen {
        probe: Option<(usize, Instant)>,
    },
}

struct Shadow {
    params: BreakerParams,
    mode: Mode,
    failures: Vec<Instant>,
    successes: Vec<Instant>,
    tickets: Vec<Ticket>,
    transitions: [u32; 3],
}

impl Shadow {
    fn new(params: BreakerParams) -> Self {
        let mode = Mode::Closed { first_ticket: 0 };
        Self {
            params,
            mode,
            failures: Vec::new(),
            successes: Vec::new(),
            tickets: Vec::new(),
            transitions: [0; 3],
        }
    }

    fn admit(&mut self, now: Instant, answer: (Admission, Option<Transition>)) {
        let blocked_until = match self.mode {
            Mode::Closed { .. } | Mode::HalfOpen { probe: None } => None,
            Mode::Open { until } | Mode::HalfOpen { probe: Some((_, until)) } => Some(until),
        };
        if let Some(until) = blocked_until.filter(|until| *until > now) {
            assert_eq!(answer, (Admission::Refused { retry_in: until - now }, None));
            return;
        }
        let (Admission::Admitted(ticket), transition) = answer else {
            panic!("{answer:?} in {:?}", self.mode)
        };
        let was_open = matches!(self.mode, Mode::Open { .. });
        assert_eq!(transition, was_open.then_some(Transition::HalfOpened));
        assert_eq!(ticket.is_probe(), !matches!(self.mode, Mode::Closed { .. }));
        if ticket.is_probe() {
            self.mode =
                Mode::HalfOpen { probe: Some((self.tickets.len(), now + self.params.probe_deadline)) };
        }
        self.transitions[1] += u32::from(was_open);
        self.tickets.push(ticket);
    }

    fn record(&mut self, index: usize, verdict: Verdict, now: Instant, reported: Option<Transition>) {
        let opened = Mode::Open { until: now + self.params.open };
        let (expected, mode) = match (self.mode, verdict) {
            (Mode::Closed { first_ticket }, Verdict::Failure) if index >= first_ticket => {
                self.failures.push(now);
                if self.must_open(now, reported) {
                    (Some(Transition::Opened), opened)
                } else {
                    (None, self.mode)
                }
            }
            (Mode::Closed { first_ticket }, Verdict::Success) if index >= first_ticket => {
                self.successes.push(now);
                (None, self.mode)
            }
            (Mode::HalfOpen { probe: Some((probe, _)) }, verdict) if probe == index => match verdict {
                Verdict::Failure => (Some(Transition::Opened), opened),
                Verdict::Neutral => (None, Mode::HalfOpen { probe: None }),
                Verdict::Success => {
                    self.failures.clear();
                    self.successes.clear();
                    (Some(Transition::Closed), Mode::Closed { first_ticket: self.tickets.len() })
                }
            },
            _ => (None, self.mode),
        };
        assert_eq!(reported, expected, "{verdict:?} of ticket {index} in {:?}", self.mode);
        self.transitions[0] += u32::from(expected == Some(Transition::Opened));
        self.transitions[2] += u32::from(expected == Some(Transition::Closed));
        self.mode = mode;
    }

    fn must_open(&mut self, now: Instant, reported: Option<Transition>) -> bool {
        let (certain, possible) = remembered(&mut self.failures, now, self.params.window);
        let (certain_good, possible_good) = remembered(&mut self.successes, now, self.params.window);
        let enough = |failures: usize, successes: usize| {
            failures >= self.params.failures as usize
                && failures * 100 >= usize::from(self.params.failure_percent) * (failures + successes)
        };
        enough(certain, possible_good) || (enough(possible, certain_good) && reported.is_some())
    }

    fn state(&self, now: Instant) -> State {
        match self.mode {
            Mode::Closed { .. } => State::Closed,
            Mode::Open { until } if until > now => State::Open,
            Mode::Open { .. } | Mode::HalfOpen { .. } => State::HalfOpen,
        }
    }
}

/// How many of these moments count for certain, and how many may.
fn remembered(moments: &mut Vec<Instant>, now: Instant, window: Duration) -> (usize, usize) {
    let longest = window.mul_f64(1.1);
    moments.retain(|moment| now - *moment < longest);
    (moments.iter().filter(|moment| now - **moment <= window).count(), moments.len())
}

fn simulate(seed: u64, params: BreakerParams, longest_pause: Duration) {
    let mut rng = SplitMix64(seed);
    let mut now = start();
    let mut breaker = Breaker::new(params);
    let mut shadow = Shadow::new(params);
    let mut progress = Progress { seed, step: 0 };
    while progress.step < STEPS {
        progress.step += 1;
        now += rng.below(longest_pause);
        if shadow.tickets.is_empty() || pick(&mut rng, 2) == 0 {
            shadow.admit(now, breaker.admit(now));
        } else {
            // Mostly a recent ticket, sometimes one from long ago, often one that was used before.
            let span =
                if pick(&mut rng, 10) == 0 { shadow.tickets.len() } else { shadow.tickets.len().min(8) };
            let index = shadow.tickets.len() - 1 - pick(&mut rng, span as u64) as usize;
            let verdict = [Verdict::Success, Verdict::Failure, Verdict::Neutral][pick(&mut rng, 3) as usize];
            shadow.record(index, verdict, now, breaker.record(shadow.tickets[index], verdict, now));
        }
        assert_eq!(breaker.state(now), shadow.state(now));
    }
    assert!(shadow.transitions.iter().all(|count| *count > 100), "too few of some: {:?}", shadow.transitions);
}

#[test]
fn with_default_parameters() {
    simulate(0x0dd_ba11, BreakerParams::default(), Duration::from_secs(2));
}

#[test]
fn with_a_threshold_of_one() {
    let params = BreakerParams { failures: 1, failure_percent: 0, ..BreakerParams::default() };
    simulate(0x5eed, params, Duration::from_secs(5));
}

#[test]
fn with_a_window_at_the_edge_of_its_threshold() {
    let params = BreakerParams {
        failures: 20,
        failure_percent: 0,
        open: Duration::from_secs(1),
        ..BreakerParams::default()
    };
    simulate(0xed6e, params, Duration::from_millis(170));
}

#[test]
fn with_probes_that_are_often_overdue() {
    let params = BreakerParams { probe_deadline: Duration::from_millis(100), ..BreakerParams::default() };
    simulate(0x1a7e, params, Duration::from_secs(1));
}
