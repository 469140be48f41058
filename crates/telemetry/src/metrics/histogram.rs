//! Durations by size.
//!
//! The buckets are the same for all: from 100 microseconds, below which a proxy on the same host has nothing to tell,
//! to a minute, above which everything has timed out. About three to a decade, so that a quantile that is interpolated
//! within one is off by less than the width of its step; the memory is fixed, and so is the cost of a value: one search
//! among 18 numbers and two additions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds of the buckets, in microseconds, and the same in seconds as Prometheus reads them.
pub const BUCKETS: [(u64, &str); 18] = [
    (100, "0.0001"),
    (250, "0.00025"),
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_500_000, "2.5"),
    (5_000_000, "5"),
    (10_000_000, "10"),
    (30_000_000, "30"),
    (60_000_000, "60"),
];

/// Counts of durations by bucket, and their sum.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// Not cumulative; the last is for what is longer than all bounds.
    counts: [AtomicU64; BUCKETS.len() + 1],
    sum_micros: AtomicU64,
}

/// A histogram as it is shown: each count has those before it in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cumulative {
    pub(crate) counts: [u64; BUCKETS.len() + 1],
    pub(crate) sum_micros: u64,
}

impl Histogram {
    pub(crate) fn record(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.partition_point(|(bound, _)| bound * 1000 < nanos);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(nanos / 1000, Ordering::Relaxed);
    }

    /// `None` where nothing was recorded.
    pub(crate) fn cumulative(&self) -> Option<Cumulative> {
        let mut total = 0;
        let counts = std::array::from_fn(|bucket| {
            total += self.counts[bucket].load(Ordering::Relaxed);
            total
        });
        (total > 0).then(|| Cumulative { counts, sum_micros: self.sum_micros.load(Ordering::Relaxed) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_bounds_are_the_bounds() {
        for (micros, seconds) in BUCKETS {
            assert_eq!((seconds.parse::<f64>().unwrap() * 1e6).round(), micros as f64);
        }
        assert!(BUCKETS.is_sorted());
    }

    #[test]
    fn a_bound_belongs_to_its_own_bucket() {
        let nanos = Duration::from_nanos;
        for (duration, bucket) in [
            (Duration::ZERO, 0),
            (nanos(100_000), 0),
            (nanos(100_001), 1),
            (nanos(999_999), 3),
            (Duration::from_secs(60), 17),
            (Duration::from_secs(61), 18),
            (Duration::MAX, 18),
        ] {
            let histogram = Histogram::default();
            histogram.record(duration);
            let counts = histogram.cumulative().unwrap().counts;
            assert_eq!(counts.iter().position(|count| *count > 0), Some(bucket), "{duration:?}");
        }
    }

    #[test]
    fn the_counts_are_cumulative_and_the_sum_is_of_all() {
        let histogram = Histogram::default();
        assert_eq!(histogram.cumulative(), None);
        for millis in [1, 1, 3, 70_000] {
            histogram.record(Duration::from_millis(millis));
        }
        let shown = histogram.cumulative().unwrap();
        assert_eq!(shown.counts[..6], [0, 0, 0, 2, 2, 3]);
        assert_eq!(shown.counts[16..], [3, 3, 4]);
        assert_eq!(shown.sum_micros, 70_005_000);
    }
}
