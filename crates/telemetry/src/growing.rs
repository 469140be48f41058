//! A list that grows while it is read.
//!
//! A reload may add destinations while every flow and exchange looks its own up. So nothing that is in the list ever
//! moves: it is made of segments, each twice as large as the one before, and a look-up is two atomic loads and no
//! lock. Nothing is ever taken out.

use std::sync::OnceLock;

/// Places in the first segment.
const FIRST: usize = 16;
/// Enough segments for two thousand million places.
const SEGMENTS: usize = 27;

pub(crate) struct GrowingList<T>([OnceLock<Segment<T>>; SEGMENTS]);

type Segment<T> = Box<[OnceLock<T>]>;

impl<T> GrowingList<T> {
    pub(crate) fn new() -> GrowingList<T> {
        GrowingList([const { OnceLock::new() }; SEGMENTS])
    }

    /// What is at this place, if it was ever filled.
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        let (segment, offset) = place(index);
        self.0.get(segment)?.get()?[offset].get()
    }

    /// What is at this place, made by `make` the first time.
    ///
    /// # Panics
    /// When the place is beyond the last segment.
    pub(crate) fn get_or_fill(&self, index: usize, make: impl FnOnce() -> T) -> &T {
        let (segment, offset) = place(index);
        let empty = || std::iter::repeat_with(OnceLock::new).take(FIRST << segment).collect();
        self.0[segment].get_or_init(empty)[offset].get_or_init(make)
    }
}

/// Segment `n` holds the `FIRST << n` places from `FIRST * (2^n - 1)` on.
fn place(index: usize) -> (usize, usize) {
    let segment = (index / FIRST + 1).ilog2() as usize;
    (segment, index - FIRST * ((1 << segment) - 1))
}

impl<T> std::fmt::Debug for GrowingList<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GrowingList")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_has_a_place_of_its_own_and_keeps_what_was_put_there() {
        let list = GrowingList::new();
        let first: *const usize = list.get_or_fill(0, || 0);
        for index in 0..10_000 {
            assert_eq!(list.get(index).copied(), (index == 0).then_some(0));
            assert_eq!(*list.get_or_fill(index, || index), index);
            assert_eq!(*list.get_or_fill(index, || usize::MAX), index, "made once");
        }
        assert!((0..10_000).all(|index| list.get(index) == Some(&index)));
        assert!(std::ptr::eq(first, list.get(0).unwrap()), "it did not move");
        assert_eq!(list.get(usize::MAX / 2), None);
    }

    #[test]
    fn threads_that_fill_the_same_places_agree() {
        let list = GrowingList::new();
        let fill = |thread: usize| (0..1000).map(|index| *list.get_or_fill(index, || thread)).collect();
        let seen: Vec<Vec<usize>> = std::thread::scope(|scope| {
            let fill = &fill;
            let threads: Vec<_> = (0..4).map(|thread| scope.spawn(move || fill(thread))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(seen.iter().all(|one| *one == seen[0]));
    }
}
