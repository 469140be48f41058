//! Counts of the events of the last while, in constant memory and time.
//!
//! The window is cut into ten slices, and the slice in progress is kept beside the ten before it. An
//! event therefore counts for at least the whole window and for less than a tenth more: a rule like
//! "five failures within ten seconds" never misses a case. Remembering each event would be exact, but
//! its memory would grow with a number that a configuration, or an attacker, chooses.

use std::array;
use std::time::{Duration, Instant};

const SLICES: u64 = 10;
const KEPT: u64 = SLICES + 1;

/// `KINDS` counters over one window, cut at the same moments so that they can be compared.
#[derive(Debug)]
pub(crate) struct RollingCounts<const KINDS: usize> {
    slice_nanos: u64,
    /// When slice 0 began: at the first call, since there is no clock to ask before it.
    origin: Option<Instant>,
    /// The slice in progress. Its counts, like those of any slice, are at its number modulo `KEPT`.
    current: u64,
    counts: [[u32; KINDS]; KEPT as usize],
}

impl<const KINDS: usize> RollingCounts<KINDS> {
    /// Empty counts. A window under 10 ns counts as 10 ns.
    pub(crate) fn new(window: Duration) -> Self {
        let slice_nanos = (nanos(window) / SLICES).max(1);
        Self { slice_nanos, origin: None, current: 0, counts: [[0; KINDS]; KEPT as usize] }
    }

    /// Counts one event of `kind`. A slice holds at most `u32::MAX` of a kind.
    pub(crate) fn add(&mut self, kind: usize, now: Instant) {
        self.advance(now);
        let count = &mut self.counts[position(self.current)][kind];
        *count = count.saturating_add(1);
    }

    /// The events of each kind within the window that ends now.
    pub(crate) fn totals(&mut self, now: Instant) -> [u64; KINDS] {
        self.advance(now);
        array::from_fn(|kind| self.counts.iter().map(|slice| u64::from(slice[kind])).sum())
    }

    fn advance(&mut self, now: Instant) {
        let origin = *self.origin.get_or_insert(now);
        let slice = nanos(now.saturating_duration_since(origin)) / self.slice_nanos;
        let begun = slice.saturating_sub(self.current);
        for later in 1..=begun.min(KEPT) {
            self.counts[position(self.current + later)] = [0; KINDS];
        }
        self.current += begun;
    }
}

fn position(slice: u64) -> usize {
    (slice % KEPT) as usize
}

/// 64 bits of nanoseconds are 584 years; a longer duration counts as that.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::start;

    const WINDOW: Duration = Duration::from_secs(10);

    #[test]
    fn an_event_counts_for_the_window_and_less_than_a_tenth_more() {
        for offset_ms in [0, 1, 499, 999] {
            let begin = start();
            let mut counts = RollingCounts::<1>::new(WINDOW);
            counts.totals(begin);
            let event = begin + Duration::from_millis(offset_ms);
            counts.add(0, event);
            assert_eq!(counts.totals(event + WINDOW), [1], "offset {offset_ms} ms");
            assert_eq!(counts.totals(event + WINDOW + WINDOW / 10), [0], "offset {offset_ms} ms");
        }
    }

    #[test]
    fn time_that_runs_backwards_counts_as_no_time() {
        let begin = start() + Duration::from_secs(100);
        let mut counts = RollingCounts::<1>::new(WINDOW);
        counts.add(0, begin);
        counts.add(0, begin + Duration::from_secs(5));
        counts.add(0, begin - Duration::from_secs(50));
        assert_eq!(counts.totals(begin - Duration::from_secs(50)), [3]);
        assert_eq!(counts.totals(begin + Duration::from_secs(12)), [2]);
    }

    #[test]
    fn extreme_windows_neither_panic_nor_overflow() {
        let begin = start();
        for window in [Duration::ZERO, Duration::from_nanos(3), Duration::MAX] {
            let mut counts = RollingCounts::<1>::new(window);
            counts.add(0, begin);
            assert_eq!(counts.totals(begin), [1]);
            counts.add(0, begin + Duration::from_secs(1_000_000_000));
            assert_eq!(
                counts.totals(begin + Duration::from_secs(1_000_000_000))[0],
                u64::from(window > WINDOW) + 1
            );
        }
    }

    proptest! {
        #[test]
        fn totals_agree_with_a_list_of_all_events(
            events in prop::collection::vec((0u64..3_000, 0usize..2), 1..200),
        ) {
            let mut counts = RollingCounts::<2>::new(WINDOW);
            let begin = start();
            counts.totals(begin);
            let mut seen: Vec<(u64, usize)> = Vec::new();
            let mut elapsed_ms = 0;
            for (pause_ms, kind) in events {
                elapsed_ms += pause_ms;
                let now = begin + Duration::from_millis(elapsed_ms);
                counts.add(kind, now);
                seen.push((elapsed_ms / 1_000, kind));
                let expected = [0, 1].map(|wanted| {
                    let live = |(slice, kind): &&(u64, usize)| *kind == wanted && slice + 10 >= elapsed_ms / 1_000;
                    seen.iter().filter(live).count() as u64
                });
                prop_assert_eq!(counts.totals(now), expected);
            }
        }
    }
}
