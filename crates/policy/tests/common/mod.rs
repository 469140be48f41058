//! What the simulations share.

use std::thread;
use std::time::Instant;

use dragoman_policy::{Random, SplitMix64};

/// Where the time of a simulation starts. An `Instant` has no other constructor; its value plays no part.
#[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
pub(crate) fn start() -> Instant {
    Instant::now()
}

/// A number in `0..bound`.
pub(crate) fn pick(rng: &mut SplitMix64, bound: u64) -> u64 {
    rng.next_u64() % bound
}

/// Where a simulation stands, to be repeated from there: printed if it fails.
pub(crate) struct Progress {
    pub(crate) seed: u64,
    pub(crate) step: u32,
}

impl Drop for Progress {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the simulation failed with seed {:#x} at step {}", self.seed, self.step);
        }
    }
}
