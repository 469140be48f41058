//! How much of request bodies is kept to be sent again: so much for one exchange, and so much for all of them.
//!
//! A bound for each exchange alone would be one on memory only together with the number of exchanges, which the app
//! chooses. Room is taken as bytes are kept, not in advance: most requests have no body. Where none is left the exchange
//! goes on all the same, and can no longer be repeated.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The room for all exchanges of a process.
#[derive(Debug)]
pub(crate) struct ReplaySpace(AtomicUsize);

/// The room that one exchange has taken; its drop gives it back.
#[derive(Debug)]
pub(crate) struct Replay {
    space: Arc<ReplaySpace>,
    /// The most bytes for this exchange.
    limit: usize,
    taken: usize,
}

impl ReplaySpace {
    /// Room for so many bytes.
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self(AtomicUsize::new(bytes)))
    }

    /// No room yet, and at most `limit` bytes later, for one exchange.
    pub(crate) fn begin(self: &Arc<Self>, limit: usize) -> Replay {
        Replay { space: Arc::clone(self), limit, taken: 0 }
    }
}

impl Replay {
    /// Takes room for `bytes` more. `false`, and nothing is taken, where there is none for the exchange or for all.
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        // The counter guards no other memory: relaxed is enough.
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        let fits = bytes <= self.limit - self.taken
            && self.space.0.fetch_update(set, fetch, |free| free.checked_sub(bytes)).is_ok();
        if fits {
            self.taken += bytes;
        }
        fits
    }

    /// Gives everything back, and takes nothing from now on.
    pub(crate) fn end(&mut self) {
        self.space.0.fetch_add(std::mem::take(&mut self.taken), Ordering::Relaxed);
        self.limit = 0;
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exchanges_share_the_room_and_give_it_back() {
        let space = ReplaySpace::new(100);
        let (mut one, mut other) = (space.begin(80), space.begin(80));
        assert!(one.take(80) && !one.take(1), "its own limit");
        assert!(other.take(20) && !other.take(1), "that of all");
        drop(one);
        assert!(other.take(60) && !other.take(1));
        other.end();
        assert!(!other.take(1) && other.take(0));
        assert!(space.begin(100).take(100));
    }

    #[test]
    fn a_bound_holds_for_many_threads_at_once() {
        let space = ReplaySpace::new(1000);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let mut replay = space.begin(400);
                        let taken = (0..5).filter(|_| replay.take(100)).count();
                        assert!(taken <= 4 && replay.taken == taken * 100);
                    }
                });
            }
        });
        assert!(space.begin(1000).take(1000), "what was taken came back");
        let mut all = space.begin(1001);
        assert!(!all.take(1001));
    }
}
