//! Chance as an argument.
//!
//! Jitter has to be random in production and repeatable in a test; taking the source as an argument
//! gives both, and leaves the choice of the seed to the process.

use std::time::Duration;

/// A source of random bits. For jitter and for picking an endpoint, never for secrets.
pub trait Random {
    /// The next 64 bits, uniformly distributed.
    fn next_u64(&mut self) -> u64;

    /// A duration in `[0, bound]`, both ends included, to the nanosecond.
    ///
    /// Multiply-and-shift (Lemire, "Fast Random Integer Generation in an Interval", 2019) without its
    /// rejection step: one nanosecond is preferred over another by at most `bound / 2^64`, which is
    /// 2^-29 for 30 s and of no consequence for jitter. A bound over 2^64 ns (584 years) counts as that.
    fn below(&mut self, bound: Duration) -> Duration {
        let values = u128::from(u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX)) + 1;
        let nanos = (u128::from(self.next_u64()) * values) >> 64;
        Duration::from_nanos(nanos as u64)
    }
}

/// A generator with 64 bits of state, seeded through its field: quick and even, and predictable from
/// one output, so fit for jitter and unfit for anything secret.
///
/// SplitMix64, from Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators"
/// (OOPSLA 2014), with the mixing constants of Stafford's variant 13. Any seed is good.
#[derive(Clone, Debug)]
pub struct SplitMix64(pub u64);

impl Random for SplitMix64 {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(u64);

    impl Random for Fixed {
        fn next_u64(&mut self) -> u64 {
            self.0
        }
    }

    #[test]
    fn splitmix64_gives_the_published_sequence() {
        let mut rng = SplitMix64(1_234_567);
        let first: Vec<u64> = (0..5).map(|_| rng.next_u64()).collect();
        assert_eq!(
            first,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423,
                4_593_380_528_125_082_431,
                16_408_922_859_458_223_821
            ]
        );
    }

    #[test]
    fn below_reaches_both_ends_and_never_passes_them() {
        for bound in
            [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(30), Duration::from_nanos(u64::MAX)]
        {
            assert_eq!(Fixed(0).below(bound), Duration::ZERO);
            assert_eq!(Fixed(u64::MAX).below(bound), bound);
        }
        assert_eq!(Fixed(u64::MAX).below(Duration::MAX), Duration::from_nanos(u64::MAX));
    }

    #[test]
    fn below_fills_its_range_evenly() {
        let mut rng = SplitMix64(7);
        let mut tenths = [0u32; 10];
        for _ in 0..100_000 {
            let drawn = rng.below(Duration::from_nanos(999_999_999));
            tenths[(drawn.as_nanos() / 100_000_000) as usize] += 1;
        }
        // 10,000 expected in each, standard deviation 95: five of those either way.
        assert!(tenths.iter().all(|count| (9_525..=10_475).contains(count)), "{tenths:?}");
    }
}
