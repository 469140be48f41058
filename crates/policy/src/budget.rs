//! A retry budget: how much extra load retries may put on an endpoint.
//!
//! A limit per exchange does not protect a server: with three attempts each, a dead one gets three
//! times its load just when it can bear the least. A budget bounds the sum instead. Retries may be a
//! share of the requests seen lately, plus a floor so that a quiet client may retry at all. The idea is
//! that of Twitter's Finagle (`RetryBudget`), which linkerd took over for its proxies.
//!
//! Both sides are counted over the same rolling window (see [`BudgetParams::window`]), so within any
//! window `retries <= ratio * requests + min_per_second * window`. Time and memory are constant.

use std::time::{Duration, Instant};

use crate::rolling::RollingCounts;

const REQUESTS: usize = 0;
const RETRIES: usize = 1;

/// How much a [`Budget`] grants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BudgetParams {
    /// Retries per request; 0.2 lets the load grow by a fifth. Negative or not a number counts as 0.
    pub ratio: f64,
    /// Retries per second that are granted whatever the requests. An average over the window: after a
    /// quiet spell the floor of a whole window may go at once.
    pub min_per_second: u32,
    /// How long a request and a retry count. They are forgotten in steps of a tenth of it, so late by
    /// less than a tenth.
    pub window: Duration,
}

impl Default for BudgetParams {
    fn default() -> Self {
        Self { ratio: 0.20, min_per_second: 10, window: Duration::from_secs(10) }
    }
}

/// The retry budget of one endpoint.
#[derive(Debug)]
pub struct Budget {
    params: BudgetParams,
    counts: RollingCounts<2>,
}

impl Budget {
    /// A budget that has seen no request: what it grants at first is the floor.
    pub fn new(params: BudgetParams) -> Self {
        Self { params, counts: RollingCounts::new(params.window) }
    }

    /// Notes a request. Once per exchange: a retry is not a request, or retries would pay for retries.
    pub fn deposit(&mut self, now: Instant) {
        self.counts.add(REQUESTS, now);
    }

    /// Takes one retry out, or says `false` and takes nothing.
    pub fn withdraw(&mut self, now: Instant) -> bool {
        let granted = self.balance(now) > 0;
        if granted {
            self.counts.add(RETRIES, now);
        }
        granted
    }

    /// The retries that would be granted now.
    pub fn balance(&mut self, now: Instant) -> u64 {
        let [requests, retries] = self.counts.totals(now);
        let share = requests as f64 * self.params.ratio.max(0.0);
        let floor = f64::from(self.params.min_per_second) * self.params.window.as_secs_f64();
        ((share + floor) as u64).saturating_sub(retries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::start;

    fn without_floor(ratio: f64) -> Budget {
        Budget::new(BudgetParams { ratio, min_per_second: 0, ..BudgetParams::default() })
    }

    fn drain(budget: &mut Budget, now: Instant) -> u64 {
        let granted = budget.balance(now);
        for _ in 0..granted {
            assert!(budget.withdraw(now));
        }
        assert!(!budget.withdraw(now), "more was granted than the balance said");
        granted
    }

    #[test]
    fn a_new_budget_grants_the_floor_of_one_window() {
        let mut budget = Budget::new(BudgetParams::default());
        assert_eq!(drain(&mut budget, start()), 100);
    }

    #[test]
    fn requests_pay_for_their_share_and_no_fraction_is_granted() {
        let now = start();
        let mut budget = without_floor(0.20);
        for (requests, expected) in [(4, 0), (1, 1), (5, 2), (90, 20)] {
            (0..requests).for_each(|_| budget.deposit(now));
            assert_eq!(budget.balance(now), expected);
        }
        assert_eq!(drain(&mut budget, now), 20);
    }

    #[test]
    fn a_refused_withdrawal_costs_nothing() {
        let now = start();
        let mut budget = without_floor(1.0);
        for _ in 0..1_000 {
            assert!(!budget.withdraw(now));
        }
        budget.deposit(now);
        assert_eq!(drain(&mut budget, now), 1);
    }

    #[test]
    fn requests_and_retries_are_forgotten_after_the_window() {
        let now = start();
        let mut budget = Budget::new(BudgetParams { min_per_second: 1, ..BudgetParams::default() });
        (0..50).for_each(|_| budget.deposit(now));
        assert_eq!(drain(&mut budget, now), 20);
        assert_eq!(drain(&mut budget, now + Duration::from_secs(10)), 0);
        assert_eq!(drain(&mut budget, now + Duration::from_secs(11)), 10);
    }

    #[test]
    fn senseless_parameters_grant_what_they_can() {
        let now = start();
        for (ratio, expected) in [(f64::NAN, 0), (-1.0, 0), (0.0, 0), (f64::INFINITY, u64::MAX)] {
            let mut budget = without_floor(ratio);
            budget.deposit(now);
            assert_eq!(budget.balance(now), expected, "ratio {ratio}");
        }
        let mut idle = without_floor(f64::INFINITY);
        assert_eq!(idle.balance(now), 0);
        let mut endless = Budget::new(BudgetParams { window: Duration::MAX, ..BudgetParams::default() });
        assert_eq!(endless.balance(now), u64::MAX);
    }

    #[test]
    fn a_budget_is_small() {
        assert!(size_of::<Budget>() <= 256, "{} bytes", size_of::<Budget>());
    }
}
