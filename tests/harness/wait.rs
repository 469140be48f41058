//! Waiting for a condition, with a deadline. A fixed pause would be too long on a fast machine and too
//! short on a busy one.

use std::thread;
use std::time::{Duration, Instant};

/// Between two looks at a condition: short beside what it waits for, long beside the cost of one look.
const TICK: Duration = Duration::from_millis(5);

/// Deadline of what should happen at once but shares two cores with everything else.
pub const SOON: Duration = Duration::from_secs(20);

/// Waits until `condition` holds. Panics with `what` when `deadline` has passed.
pub fn until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    until_some(what, deadline, || condition().then_some(()));
}

/// Waits until `look` finds something and returns it. Panics with `what` when `deadline` has passed.
pub fn until_some<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {deadline:?} in vain: {what}");
        pause(TICK);
    }
}

/// Lets `duration` pass: how slowly a scripted peer speaks, never a guess at how long something takes.
pub fn pause(duration: Duration) {
    let end = Instant::now() + duration;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        thread::park_timeout(left);
    }
}
