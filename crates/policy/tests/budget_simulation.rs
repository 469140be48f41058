//! Promise H10: wherever retry is on, so is a budget, and a dead server sees under 1.2 times its load.

mod common;

use std::time::{Duration, Instant};

use common::{Progress, pick, start};
use dragoman_policy::{
    Attempt, Budget, BudgetParams, Decision, Failure, Random, RetryParams, SplitMix64, decide,
};

/// One exchange on a server where every attempt fails. Returns the attempts that it saw.
///
/// The waits are left out: they delay the load without lessening it.
fn exchange(params: &RetryParams, budget: &mut Budget, now: Instant, rng: &mut SplitMix64) -> u32 {
    budget.deposit(now);
    let mut made = 1;
    loop {
        let attempt = Attempt {
            made,
            failure: Failure::Reset,
            wrote: true,
            method: "GET",
            has_idempotency_key: false,
            replayable: true,
            retry_after: None,
            pushback: None,
            remaining: None,
        };
        match decide(params, &attempt, budget, now, rng) {
            Decision::Retry { .. } => made += 1,
            Decision::Stop(_) => return made,
        }
    }
}

#[test]
fn h10_a_dead_server_sees_under_1_2_times_its_load_and_the_floor() {
    const SECONDS: u32 = 120;
    for per_second in [1, 10, 50, 100, 1_000, 5_000] {
        let params = RetryParams { attempts: 10, ..RetryParams::default() };
        let mut budget = Budget::new(params.budget);
        let mut rng = SplitMix64(0xdead);
        let begin = start();
        let requests = per_second * SECONDS;
        let mut load = 0;
        for request in 0..requests {
            let now = begin + Duration::from_secs(1) * request / per_second;
            load += exchange(&params, &mut budget, now, &mut rng);
        }
        // The floor of a window may be spent at the start, so it counts for one window more.
        let floor = params.budget.min_per_second * (SECONDS + 10);
        assert!(load <= requests + requests / 5 + floor, "{per_second}/s: {load} for {requests}");
        assert!(load > requests, "{per_second}/s: nothing was retried at all");
    }
}

#[test]
fn h10_without_a_floor_it_is_1_2_times_at_any_moment() {
    let budget_params = BudgetParams { min_per_second: 0, ..BudgetParams::default() };
    let params = RetryParams { attempts: 10, budget: budget_params, ..RetryParams::default() };
    let mut budget = Budget::new(budget_params);
    let mut rng = SplitMix64(0xdead);
    let begin = start();
    let mut load = 0;
    for request in 1..=100_000u32 {
        load += exchange(&params, &mut budget, begin + Duration::from_millis(3) * request, &mut rng);
        assert!(load <= request + request / 5, "{load} for {request}");
    }
    assert!(load > 119_000, "the budget gives less than it promises: {load}");
}

/// Bursts, pauses and greedy withdrawals, checked against a list of all that happened.
#[test]
fn no_window_holds_more_retries_than_its_share_and_floor() {
    for seed in 0..20u64 {
        let mut rng = SplitMix64(seed);
        let params = BudgetParams {
            ratio: pick(&mut rng, 100) as f64 / 100.0,
            min_per_second: pick(&mut rng, 4) as u32,
            window: Duration::from_secs(1 + pick(&mut rng, 10)),
        };
        let mut budget = Budget::new(params);
        let floor = f64::from(params.min_per_second) * params.window.as_secs_f64();
        let mut now = start();
        let (mut requests, mut retries): (Vec<Instant>, Vec<Instant>) = (Vec::new(), Vec::new());
        let mut progress = Progress { seed, step: 0 };
        while progress.step < 3_000 {
            progress.step += 1;
            let longest_pause =
                if pick(&mut rng, 100) == 0 { params.window * 2 } else { params.window / 100 };
            now += rng.below(longest_pause);
            if pick(&mut rng, 2) == 0 {
                budget.deposit(now);
                requests.push(now);
            } else if budget.withdraw(now) {
                retries.push(now);
                let within = |moments: &[Instant], age: Duration| {
                    moments.iter().rev().take_while(|moment| now - **moment <= age).count() as f64
                };
                // A request may count for up to a tenth of the window longer than promised.
                let limit = params.ratio * within(&requests, params.window.mul_f64(1.1)) + floor;
                let spent = within(&retries, params.window);
                assert!(spent <= limit, "{spent} over {limit} with {params:?}");
            }
        }
        assert!(!retries.is_empty(), "seed {seed}: nothing was granted with {params:?}");
    }
}
