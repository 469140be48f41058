//! The truth table of [`decide`] against an oracle that shares nothing with it, then the waits.

use super::*;
use crate::SplitMix64;
use crate::testing::start;

fn methods(names: &[&str]) -> MethodSet {
    names.iter().map(ToString::to_string).collect()
}

fn budget(min_per_second: u32) -> Budget {
    Budget::new(BudgetParams { ratio: 0.0, min_per_second, window: Duration::from_secs(1) })
}

/// A GET that failed once with a listed status; each test changes what it is about.
fn failed_get() -> Attempt<'static> {
    Attempt {
        made: 1,
        failure: Failure::Status(503),
        wrote: true,
        method: "GET",
        has_idempotency_key: false,
        replayable: true,
        retry_after: None,
        pushback: None,
        remaining: None,
    }
}

fn decide_once(params: &RetryParams, attempt: &Attempt<'_>) -> Decision {
    decide(params, attempt, &mut budget(1), start(), &mut SplitMix64(1))
}

/// Each value that `decide` looks at, in every combination.
fn every_case() -> Vec<(RetryParams, Attempt<'static>, bool)> {
    let failures = [
        Failure::Connect,
        Failure::Reset,
        Failure::TryTimeout,
        Failure::Status(503), // listed as failure
        Failure::Status(429), // listed as failure and as unprocessed
        Failure::Status(425), // listed as unprocessed
        Failure::Status(500), // listed nowhere but, wrongly, as unprocessed
        Failure::Status(404), // listed everywhere, wrongly
        Failure::Status(408), // listed nowhere
        Failure::Refused,
        Failure::Grpc(GrpcStatus::Unavailable), // listed
        Failure::Grpc(GrpcStatus::Ok),          // listed, wrongly
        Failure::Grpc(GrpcStatus::Internal),    // listed nowhere
    ];
    let mut cases = Vec::new();
    for failure in failures {
        for bits in 0u32..1 << 11 {
            let on = |bit: u32| bits >> bit & 1 == 1;
            let params = RetryParams {
                attempts: if on(0) { 3 } else { 2 },
                statuses: StatusSet::of(&[503, 429, 404]),
                unprocessed_statuses: StatusSet::of(&[429, 425, 500, 404]),
                grpc_statuses: GrpcStatusSet::of(&[GrpcStatus::Unavailable, GrpcStatus::Ok]),
                methods: methods(&["GET"]),
                idempotency_header: on(1).then(|| "idempotency-key".to_owned()),
                connect: on(2),
                reset: on(2),
                timeout: on(2),
                refused: on(2),
                ..RetryParams::default()
            };
            let attempt = Attempt {
                made: 2,
                failure,
                wrote: on(3),
                method: if on(4) { "GET" } else { "POST" },
                has_idempotency_key: on(5),
                replayable: on(6),
                retry_after: on(7).then_some(Duration::from_secs(31)),
                pushback: on(10).then_some(Pushback::Stop),
                remaining: on(8).then_some(Duration::ZERO),
            };
            cases.push((params, attempt, on(9)));
        }
    }
    cases
}

/// What must come out, as the first row that applies.
fn oracle(params: &RetryParams, attempt: &Attempt<'_>, affordable: bool) -> Result<Proof, Refusal> {
    let listed = match attempt.failure {
        Failure::Connect | Failure::Reset | Failure::TryTimeout | Failure::Refused => params.connect,
        Failure::Status(status) => [503, 429, 425].contains(&status),
        Failure::Grpc(status) => status == GrpcStatus::Unavailable,
    };
    let turned_away = [
        Failure::Status(429),
        Failure::Status(425),
        Failure::Refused,
        Failure::Grpc(GrpcStatus::Unavailable),
    ]
    .contains(&attempt.failure);
    let nothing_sent = attempt.failure == Failure::Connect || !attempt.wrote;
    let has_key = attempt.has_idempotency_key && params.idempotency_header.is_some();
    let proofs = [
        (nothing_sent, Proof::NothingSent),
        (turned_away, Proof::NotProcessed),
        (attempt.method == "GET", Proof::Idempotent),
        (has_key, Proof::IdempotencyKey),
    ];
    let proof = proofs.into_iter().find_map(|(holds, proof)| holds.then_some(proof));
    let refusals = [
        (!listed, Refusal::NotConfigured),
        (params.attempts == 2, Refusal::AttemptsSpent),
        (proof.is_none(), Refusal::NotSafe),
        (!attempt.replayable, Refusal::BodyNotReplayable),
        (attempt.retry_after.is_some(), Refusal::RetryAfter),
        (attempt.pushback.is_some(), Refusal::Pushback),
        (attempt.remaining.is_some(), Refusal::Deadline),
        (!affordable, Refusal::BudgetSpent),
    ];
    match refusals.into_iter().find_map(|(applies, refusal)| applies.then_some(refusal)) {
        Some(refusal) => Err(refusal),
        None => Ok(proof.unwrap()),
    }
}

#[test]
fn the_whole_truth_table_agrees_with_the_oracle() {
    let now = start();
    let mut seen = Vec::new();
    for (params, attempt, affordable) in every_case() {
        let mut budget = budget(u32::from(affordable));
        let decided = match decide(&params, &attempt, &mut budget, now, &mut SplitMix64(1)) {
            Decision::Retry { proof, .. } => Ok(proof),
            Decision::Stop(refusal) => Err(refusal),
        };
        assert_eq!(decided, oracle(&params, &attempt, affordable), "{attempt:?} under {params:?}");
        let left = u64::from(affordable && decided.is_err());
        assert_eq!(budget.balance(now), left, "only a retry is paid for: {attempt:?}");
        seen.push(decided);
    }
    for proof in Proof::ALL {
        assert!(seen.contains(&Ok(*proof)), "no case for {proof:?}");
    }
    for refusal in Refusal::ALL {
        assert!(seen.contains(&Err(*refusal)), "no case for {refusal:?}");
    }
}

#[test]
fn h8_a_post_that_was_written_is_never_repeated_without_a_proof() {
    let params = RetryParams::default();
    let kinds = [Failure::Reset, Failure::TryTimeout];
    let statuses = (100..=599).map(Failure::Status);
    let grpc = GrpcStatus::ALL.iter().copied().map(Failure::Grpc);
    for failure in kinds.into_iter().chain(statuses).chain(grpc) {
        for method in ["POST", "PUT", "PATCH", "get", "CONNECT", ""] {
            let attempt = Attempt { failure, method, has_idempotency_key: true, ..failed_get() };
            assert!(matches!(decide_once(&params, &attempt), Decision::Stop(_)), "{attempt:?}");
        }
    }
}

#[test]
fn h8_no_list_makes_another_4xx_retryable() {
    let all: StatusSet = (0..640).collect();
    let params = RetryParams { statuses: all, unprocessed_statuses: all, ..RetryParams::default() };
    for status in 0..=u16::MAX {
        for wrote in [false, true] {
            let attempt = Attempt { failure: Failure::Status(status), wrote, ..failed_get() };
            let retried = matches!(decide_once(&params, &attempt), Decision::Retry { .. });
            let may_be = matches!(status, 408 | 421 | 425 | 429 | 500..=599);
            assert_eq!(retried, may_be, "status {status}");
            assert_eq!(is_retryable_status(status), may_be, "status {status}");
        }
    }
}

#[test]
fn attempts_count_the_first_one() {
    for (attempts, made, again) in [
        (0, 1, false),
        (1, 1, false),
        (2, 1, true),
        (2, 2, false),
        (3, 2, true),
        (3, 3, false),
        (3, 4, false),
    ] {
        let params = RetryParams { attempts, ..RetryParams::default() };
        let decision = decide_once(&params, &Attempt { made, ..failed_get() });
        assert_eq!(decision != Decision::Stop(Refusal::AttemptsSpent), again, "{made} of {attempts}");
    }
}

#[test]
fn a_retry_after_is_the_least_wait() {
    let params = RetryParams::default();
    for asked in [Duration::from_secs(1), Duration::from_secs(30)] {
        let attempt = Attempt { retry_after: Some(asked), ..failed_get() };
        assert_eq!(decide_once(&params, &attempt), Decision::Retry { wait: asked, proof: Proof::Idempotent });
    }
    let soon = Attempt { retry_after: Some(Duration::ZERO), ..failed_get() };
    assert_eq!(decide_once(&params, &soon), decide_once(&params, &failed_get()), "the jitter stays");
}

#[test]
fn a_retry_after_beyond_the_cap_or_the_deadline_forbids_the_retry() {
    let params = RetryParams::default();
    let second = Duration::from_secs(1);
    let nano = Duration::from_nanos(1);
    for (asked, remaining, refusal) in [
        (params.backoff.cap + nano, None, Refusal::RetryAfter),
        (Duration::MAX, Some(Duration::MAX), Refusal::RetryAfter),
        (second + nano, Some(second), Refusal::RetryAfter),
        (second, Some(second), Refusal::Deadline),
    ] {
        let attempt = Attempt { retry_after: Some(asked), remaining, ..failed_get() };
        assert_eq!(decide_once(&params, &attempt), Decision::Stop(refusal), "{attempt:?}");
    }
    let attempt = Attempt { retry_after: Some(second), remaining: Some(second + nano), ..failed_get() };
    assert_eq!(
        decide_once(&params, &attempt),
        Decision::Retry { wait: second, proof: Proof::Idempotent },
        "{attempt:?}"
    );
}

#[test]
fn a_retry_after_that_policy_does_not_honour_is_not_looked_at() {
    let params = RetryParams { honour_retry_after: false, ..RetryParams::default() };
    let attempt = Attempt { retry_after: Some(Duration::MAX), ..failed_get() };
    assert_eq!(decide_once(&params, &attempt), decide_once(&params, &failed_get()));
}

#[test]
fn h6_a_call_that_was_not_processed_is_repeated_whatever_its_method() {
    let listed = RetryParams {
        grpc_statuses: GrpcStatusSet::of(&[GrpcStatus::Unavailable]),
        ..RetryParams::default()
    };
    for (failure, by_default) in [(Failure::Refused, true), (Failure::Grpc(GrpcStatus::Unavailable), false)] {
        let attempt = Attempt { failure, method: "POST", ..failed_get() };
        for (params, retried) in [(&RetryParams::default(), by_default), (&listed, true)] {
            let proof = match decide_once(params, &attempt) {
                Decision::Retry { proof, .. } => Some(proof),
                Decision::Stop(_) => None,
            };
            assert_eq!(proof, retried.then_some(Proof::NotProcessed), "{failure:?}");
        }
    }
}

#[test]
fn a_pushback_takes_the_place_of_the_backoff() {
    let params =
        RetryParams { grpc_statuses: GrpcStatusSet::of(&[GrpcStatus::Aborted]), ..RetryParams::default() };
    let second = Duration::from_secs(1);
    let nano = Duration::from_nanos(1);
    let cap = params.backoff.cap;
    for (pushback, retry_after, remaining, want) in [
        (Pushback::Wait(Duration::ZERO), None, None, Ok(Duration::ZERO)),
        (Pushback::Wait(cap), None, None, Ok(cap)),
        (Pushback::Wait(cap + nano), None, None, Err(Refusal::Pushback)),
        (Pushback::Wait(second - nano), None, Some(second), Ok(second - nano)),
        (Pushback::Wait(second), None, Some(second), Err(Refusal::Deadline)),
        (Pushback::Wait(second + nano), None, Some(second), Err(Refusal::Pushback)),
        (Pushback::Wait(nano), Some(second), None, Ok(second)),
        (Pushback::Stop, None, None, Err(Refusal::Pushback)),
    ] {
        let failure = Failure::Grpc(GrpcStatus::Aborted);
        let attempt = Attempt {
            failure,
            method: "POST",
            pushback: Some(pushback),
            retry_after,
            remaining,
            ..failed_get()
        };
        let decided = match decide_once(&params, &attempt) {
            Decision::Retry { wait, .. } => Ok(wait),
            Decision::Stop(refusal) => Err(refusal),
        };
        assert_eq!(decided, want, "{attempt:?}");
    }
}

#[test]
fn a_wait_always_ends_before_the_deadline() {
    let params = RetryParams { attempts: u32::MAX, ..RetryParams::default() };
    let mut rng = SplitMix64(3);
    let (mut retried, mut refused) = (0, 0);
    for step in 0..10_000 {
        let remaining = rng.below(Duration::from_millis(400));
        let attempt = Attempt { remaining: Some(remaining), ..failed_get() };
        match decide(&params, &attempt, &mut budget(1), start(), &mut rng) {
            Decision::Retry { wait, .. } => {
                assert!(wait < remaining, "step {step}: {wait:?} of {remaining:?}");
                retried += 1;
            }
            decision => {
                assert_eq!(decision, Decision::Stop(Refusal::Deadline), "step {step}");
                refused += 1;
            }
        }
    }
    assert!(retried > 1_000 && refused > 1_000, "{retried} retried, {refused} refused");
}

#[test]
fn words_are_distinct_and_as_published() {
    let proofs: Vec<_> = Proof::ALL.iter().map(|proof| proof.as_str()).collect();
    assert_eq!(proofs, ["nothing_sent", "not_processed", "idempotent", "idempotency_key"]);
    let refusals: Vec<_> = Refusal::ALL.iter().map(|refusal| refusal.as_str()).collect();
    let expected = [
        "not_configured",
        "attempts_spent",
        "not_safe",
        "body_not_replayable",
        "retry_after",
        "pushback",
        "deadline",
        "budget_spent",
    ];
    assert_eq!(refusals, expected);
}
