//! How long to wait before an attempt: exponential, with full jitter.
//!
//! Clients that failed together come back together unless chance parts them. Of the usual ways to add
//! chance, drawing the whole wait from zero up to the ceiling ("full jitter") spreads the load best and
//! costs the least total work: Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

use std::time::Duration;

use crate::Random;

/// The waits between the attempts of one exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The unit that doubles. Zero means no wait at all.
    pub base: Duration,
    /// No wait is longer than this; a `Retry-After` that asks for more is not waited for.
    pub cap: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: Duration::from_millis(100), cap: Duration::from_secs(30) }
    }
}

impl Backoff {
    /// The wait before the next attempt, drawn from zero to [`ceiling`](Self::ceiling).
    ///
    /// `attempts_made` counts those that are over, so it is 1 before the first retry.
    pub fn wait(&self, attempts_made: u32, rng: &mut impl Random) -> Duration {
        rng.below(self.ceiling(attempts_made))
    }

    /// The longest wait after so many attempts: `min(cap, base * 2^attempts_made)`.
    ///
    /// By default 200 ms before the first retry, 400 ms before the second, 30 s from the ninth on.
    /// The factor stops at 2^32 - 1, so a base under 7 ns stays below the default cap for ever.
    pub fn ceiling(&self, attempts_made: u32) -> Duration {
        self.base.saturating_mul(2u32.saturating_pow(attempts_made)).min(self.cap)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::SplitMix64;

    #[test]
    fn default_ceilings_double_up_to_the_cap() {
        let expected = [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600];
        let backoff = Backoff::default();
        for (attempts_made, millis) in (0..).zip(expected) {
            assert_eq!(backoff.ceiling(attempts_made), Duration::from_millis(millis), "n = {attempts_made}");
        }
        for attempts_made in (9..=200).chain([u32::MAX]) {
            assert_eq!(backoff.ceiling(attempts_made), backoff.cap, "n = {attempts_made}");
        }
    }

    #[test]
    fn extreme_parameters_neither_panic_nor_pass_the_cap() {
        for (base, cap, attempts_made, expected) in [
            (Duration::ZERO, Duration::from_secs(30), 200, Duration::ZERO),
            (Duration::from_secs(1), Duration::ZERO, 0, Duration::ZERO),
            (Duration::from_secs(60), Duration::from_secs(30), 0, Duration::from_secs(30)),
            (Duration::MAX, Duration::MAX, u32::MAX, Duration::MAX),
            (Duration::from_nanos(1), Duration::MAX, u32::MAX, Duration::from_nanos(u64::from(u32::MAX))),
        ] {
            assert_eq!(Backoff { base, cap }.ceiling(attempts_made), expected);
        }
    }

    #[test]
    fn waits_use_the_whole_range_up_to_the_ceiling() {
        let backoff = Backoff::default();
        let mut rng = SplitMix64(1);
        let waits: Vec<Duration> = (0..1_000).map(|_| backoff.wait(1, &mut rng)).collect();
        let (shortest, longest) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
        assert!(*shortest < Duration::from_millis(2), "{shortest:?}");
        assert!((Duration::from_millis(198)..=Duration::from_millis(200)).contains(longest), "{longest:?}");
    }

    proptest! {
        #[test]
        fn a_wait_never_passes_base_times_two_to_the_n(
            base_ms in 0u64..100_000, cap_ms in 0u64..1_000_000, attempts_made in 0u32..200, seed: u64,
        ) {
            let backoff = Backoff { base: Duration::from_millis(base_ms), cap: Duration::from_millis(cap_ms) };
            let limit_ms = u128::from(base_ms).saturating_mul(1 << attempts_made.min(60)).min(u128::from(cap_ms));
            prop_assert_eq!(backoff.ceiling(attempts_made).as_millis(), limit_ms);
            prop_assert!(backoff.wait(attempts_made, &mut SplitMix64(seed)).as_millis() <= limit_ms);
        }
    }
}
