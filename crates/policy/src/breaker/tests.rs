//! Each row of the table in the module's documentation, and what an enemy would try.

use super::*;
use crate::testing::start;

const PARAMS: BreakerParams = BreakerParams {
    failures: 3,
    failure_percent: 0,
    window: Duration::from_secs(10),
    open: Duration::from_secs(30),
    probe_deadline: Duration::from_secs(5),
};

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[track_caller]
fn admitted(breaker: &mut Breaker, now: Instant) -> Ticket {
    match breaker.admit(now).0 {
        Admission::Admitted(ticket) => ticket,
        Admission::Refused { retry_in } => panic!("refused for {retry_in:?}"),
    }
}

fn refused(retry_in: Duration) -> (Admission, Option<Transition>) {
    (Admission::Refused { retry_in }, None)
}

fn opened_at(now: Instant) -> Breaker {
    let mut breaker = Breaker::new(PARAMS);
    let ticket = admitted(&mut breaker, now);
    for expected in [None, None, Some(Transition::Opened)] {
        assert_eq!(breaker.record(ticket, Verdict::Failure, now), expected);
    }
    breaker
}

/// Half-open from `start + 30 s`, with its probe out since then.
fn probing(start: Instant) -> (Breaker, Ticket, Instant) {
    let mut breaker = opened_at(start);
    let now = start + PARAMS.open;
    let (admission, transition) = breaker.admit(now);
    let Admission::Admitted(probe) = admission else { panic!("{admission:?}") };
    assert_eq!(transition, Some(Transition::HalfOpened));
    assert!(probe.is_probe());
    (breaker, probe, now)
}

#[test]
fn closed_stays_closed_below_the_threshold_whatever_else_comes() {
    let now = start();
    let mut breaker = Breaker::new(PARAMS);
    let ticket = admitted(&mut breaker, now);
    assert!(!ticket.is_probe());
    for verdict in [Verdict::Failure, Verdict::Neutral, Verdict::Success, Verdict::Failure] {
        assert_eq!(breaker.record(ticket, verdict, now), None);
    }
    for _ in 0..1_000 {
        assert_eq!(breaker.record(ticket, Verdict::Neutral, now), None);
        assert_eq!(breaker.record(ticket, Verdict::Success, now), None);
    }
    assert_eq!(breaker.state(now), State::Closed);
}

#[test]
fn successes_between_failures_do_not_keep_it_closed() {
    let now = start();
    let mut breaker = Breaker::new(PARAMS);
    let ticket = admitted(&mut breaker, now);
    let mut reported = Vec::new();
    for _ in 0..3 {
        reported.push(breaker.record(ticket, Verdict::Failure, now));
        breaker.record(ticket, Verdict::Success, now);
    }
    assert_eq!(reported, [None, None, Some(Transition::Opened)]);
}

#[test]
fn a_small_share_of_failures_does_not_open_it() {
    let begin = start();
    // (percent, successes before, failures needed)
    for (percent, successes, needed) in
        [(50, 0, 3), (50, 3, 3), (50, 4, 4), (50, 100, 100), (100, 0, 3), (1, 99, 3)]
    {
        let mut breaker = Breaker::new(BreakerParams { failure_percent: percent, ..PARAMS });
        let ticket = admitted(&mut breaker, begin);
        for _ in 0..successes {
            assert_eq!(breaker.record(ticket, Verdict::Success, begin), None);
        }
        let opened = (1..).find(|_| breaker.record(ticket, Verdict::Failure, begin).is_some());
        assert_eq!(opened, Some(needed), "{percent} %, {successes} successes");
    }
}

#[test]
fn one_success_keeps_it_closed_where_nothing_may_succeed() {
    let begin = start();
    let mut breaker = Breaker::new(BreakerParams { failure_percent: 100, ..PARAMS });
    let ticket = admitted(&mut breaker, begin);
    breaker.record(ticket, Verdict::Success, begin);
    for _ in 0..1_000 {
        assert_eq!(breaker.record(ticket, Verdict::Failure, begin), None);
    }
    // The success is forgotten with the window; then the next failure has the last word.
    let later = begin + seconds(11);
    for expected in [None, None, Some(Transition::Opened)] {
        assert_eq!(breaker.record(ticket, Verdict::Failure, later), expected);
    }
}

#[test]
fn failures_within_the_window_open_it_wherever_its_slices_fall() {
    for offset_ms in (0..1_000).step_by(37) {
        let mut breaker = Breaker::new(PARAMS);
        let begin = start();
        let ticket = admitted(&mut breaker, begin);
        assert_eq!(breaker.record(ticket, Verdict::Failure, begin), None);
        // Far enough for the first one to be forgotten, to leave the slices at any offset.
        let first = begin + seconds(20) + Duration::from_millis(offset_ms);
        assert_eq!(breaker.record(ticket, Verdict::Failure, first), None);
        assert_eq!(breaker.record(ticket, Verdict::Failure, first + seconds(5)), None);
        assert_eq!(breaker.record(ticket, Verdict::Failure, first + seconds(10)), Some(Transition::Opened));
    }
}

#[test]
fn failures_further_apart_than_the_window_never_open_it() {
    let mut now = start();
    let mut breaker = Breaker::new(PARAMS);
    for _ in 0..100 {
        let ticket = admitted(&mut breaker, now);
        assert_eq!(breaker.record(ticket, Verdict::Failure, now), None);
        now += Duration::from_millis(5_500);
    }
}

#[test]
fn open_refuses_and_says_for_how_long() {
    let now = start();
    let mut breaker = opened_at(now);
    assert_eq!(breaker.state(now), State::Open);
    assert_eq!(breaker.admit(now), refused(seconds(30)));
    assert_eq!(breaker.admit(now + seconds(10)), refused(seconds(20)));
    let last = now + seconds(30) - Duration::from_nanos(1);
    assert!(!breaker.would_admit(last) && breaker.would_admit(now + seconds(30)));
    assert_eq!(breaker.admit(last), refused(Duration::from_nanos(1)));
    assert_eq!(breaker.state(last), State::Open);
    assert_eq!(breaker.state(now + seconds(30)), State::HalfOpen);
}

#[test]
fn half_open_admits_one_probe_at_a_time() {
    let (mut breaker, _, now) = probing(start());
    assert_eq!(breaker.state(now), State::HalfOpen);
    for _ in 0..1_000 {
        assert!(!breaker.would_admit(now + seconds(1)));
        assert_eq!(breaker.admit(now + seconds(1)), refused(seconds(4)));
    }
}

#[test]
fn a_probe_that_succeeds_closes_and_leaves_no_failure_behind() {
    let begin = start();
    // Open for less than the window, so that the old failures would still count.
    let mut breaker = Breaker::new(BreakerParams { open: seconds(1), ..PARAMS });
    let ticket = admitted(&mut breaker, begin);
    for _ in 0..3 {
        breaker.record(ticket, Verdict::Failure, begin);
    }
    let now = begin + seconds(1);
    let probe = admitted(&mut breaker, now);
    assert_eq!(breaker.record(probe, Verdict::Success, now), Some(Transition::Closed));
    assert_eq!(breaker.state(now), State::Closed);
    let ticket = admitted(&mut breaker, now);
    assert!(!ticket.is_probe());
    for expected in [None, None, Some(Transition::Opened)] {
        assert_eq!(breaker.record(ticket, Verdict::Failure, now), expected);
    }
}

#[test]
fn a_probe_that_fails_opens_for_the_whole_time_again() {
    let (mut breaker, probe, now) = probing(start());
    assert_eq!(breaker.record(probe, Verdict::Failure, now + seconds(2)), Some(Transition::Opened));
    assert_eq!(breaker.admit(now + seconds(2)), refused(seconds(30)));
}

#[test]
fn a_neutral_probe_frees_the_slot_and_decides_nothing() {
    let (mut breaker, probe, now) = probing(start());
    assert_eq!(breaker.record(probe, Verdict::Neutral, now), None);
    assert_eq!(breaker.state(now), State::HalfOpen);
    let (admission, transition) = breaker.admit(now);
    assert_eq!(transition, None);
    assert!(matches!(admission, Admission::Admitted(next) if next.is_probe() && next != probe));
}

#[test]
fn a_probe_that_never_reports_loses_its_slot_at_the_deadline() {
    let (mut breaker, lost, now) = probing(start());
    let deadline = now + PARAMS.probe_deadline;
    assert_eq!(breaker.admit(deadline - Duration::from_nanos(1)), refused(Duration::from_nanos(1)));
    let next = admitted(&mut breaker, deadline);
    assert!(next.is_probe());
    for verdict in [Verdict::Neutral, Verdict::Failure, Verdict::Success] {
        assert_eq!(breaker.record(lost, verdict, deadline), None);
        assert_eq!(
            breaker.admit(deadline),
            refused(PARAMS.probe_deadline),
            "{verdict:?} freed another's slot"
        );
    }
    assert_eq!(breaker.record(next, Verdict::Success, deadline), Some(Transition::Closed));
}

#[test]
fn a_late_probe_still_counts_while_nobody_took_its_place() {
    let (mut breaker, probe, now) = probing(start());
    assert_eq!(breaker.record(probe, Verdict::Success, now + seconds(60)), Some(Transition::Closed));
}

#[test]
fn a_probe_counts_once() {
    for first in [Verdict::Success, Verdict::Failure, Verdict::Neutral] {
        for second in [Verdict::Success, Verdict::Failure, Verdict::Neutral] {
            let (mut breaker, probe, now) = probing(start());
            breaker.record(probe, first, now);
            let state = breaker.state(now);
            assert_eq!(breaker.record(probe, second, now), None, "{first:?} then {second:?}");
            assert_eq!(breaker.state(now), state, "{first:?} then {second:?}");
        }
    }
}

#[test]
fn results_from_before_the_opening_change_nothing_afterwards() {
    let begin = start();
    let mut breaker = Breaker::new(PARAMS);
    let old = admitted(&mut breaker, begin);
    for _ in 0..3 {
        breaker.record(old, Verdict::Failure, begin);
    }
    assert_eq!(breaker.record(old, Verdict::Success, begin), None);
    assert_eq!(breaker.state(begin), State::Open);

    let now = begin + PARAMS.open;
    let probe = admitted(&mut breaker, now);
    for verdict in [Verdict::Success, Verdict::Failure, Verdict::Neutral] {
        assert_eq!(breaker.record(old, verdict, now), None);
        assert_eq!(breaker.admit(now), refused(PARAMS.probe_deadline));
    }
    breaker.record(probe, Verdict::Success, now);
    for _ in 0..100 {
        assert_eq!(breaker.record(old, Verdict::Failure, now), None);
    }
    assert_eq!(breaker.state(now), State::Closed);
}

#[test]
fn time_that_runs_backwards_keeps_it_open() {
    let now = start() + seconds(100);
    let mut breaker = opened_at(now);
    assert_eq!(breaker.admit(now - seconds(50)), refused(seconds(30)));
}

#[test]
fn extreme_parameters_do_not_panic() {
    let begin = start();
    let far = begin + seconds(1_000_000_000);
    let endless =
        BreakerParams { open: Duration::MAX, probe_deadline: Duration::MAX, window: Duration::MAX, ..PARAMS };
    let mut breaker = Breaker::new(endless);
    let ticket = admitted(&mut breaker, begin);
    for _ in 0..3 {
        breaker.record(ticket, Verdict::Failure, far);
    }
    assert_eq!(breaker.state(far), State::Open);

    let zero = BreakerParams {
        failures: 0,
        failure_percent: 0,
        window: Duration::ZERO,
        open: Duration::ZERO,
        probe_deadline: Duration::ZERO,
    };
    let mut breaker = Breaker::new(zero);
    let ticket = admitted(&mut breaker, begin);
    assert_eq!(breaker.record(ticket, Verdict::Success, begin), None);
    assert_eq!(breaker.record(ticket, Verdict::Failure, begin), Some(Transition::Opened));
    assert_eq!(breaker.state(begin), State::HalfOpen);
}

#[test]
fn words_are_distinct() {
    assert_eq!(
        State::ALL.iter().map(|state| state.as_str()).collect::<Vec<_>>(),
        ["closed", "open", "half_open"]
    );
    let transitions: Vec<_> = Transition::ALL.iter().map(|transition| transition.as_str()).collect();
    assert_eq!(transitions, ["opened", "half_opened", "closed"]);
}

#[test]
fn a_breaker_is_small() {
    assert!(size_of::<Breaker>() <= 256, "{} bytes", size_of::<Breaker>());
}
