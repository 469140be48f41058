//! What unit tests share.

use std::time::Instant;

/// Where the time of a test starts. An `Instant` has no other constructor; its value plays no part.
#[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
pub(crate) fn start() -> Instant {
    Instant::now()
}
