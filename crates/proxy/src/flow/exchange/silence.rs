//! How long the app may be silent inside a request body (`proxy.request_body_timeout`).
//!
//! Only time in which the app is waited for counts: not while the server takes no more, nor while the app waits for leave
//! to send its body (Expect: 100-continue).

use std::future::pending;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// The silence of one app in one request body.
#[derive(Debug)]
pub(crate) struct Silence {
    limit: Option<Duration>,
    since: Option<Instant>,
}

impl Silence {
    /// None yet, and none that is too long where there is no limit.
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        Self { limit, since: None }
    }

    /// The app has spoken, or something other than it is waited for.
    pub(crate) fn end(&mut self) {
        self.since = None;
    }

    /// Returns when the silence, which begins now if none had begun, is too long; without a limit, never.
    pub(crate) async fn too_long(&mut self) {
        match self.limit {
            Some(limit) => sleep_until(*self.since.get_or_insert_with(Instant::now) + limit).await,
            None => pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    const SECOND: Duration = Duration::from_secs(1);

    async fn strikes(silence: &mut Silence, within: Duration) -> bool {
        timeout(within, silence.too_long()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn counts_over_several_waits_until_the_app_speaks() {
        let mut silence = Silence::new(Some(3 * SECOND));
        assert!(!strikes(&mut silence, 2 * SECOND).await);
        silence.end();
        assert!(!strikes(&mut silence, 2 * SECOND).await);
        assert!(strikes(&mut silence, SECOND + SECOND / 100).await);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_any_silence_is_well() {
        assert!(!strikes(&mut Silence::new(None), 100 * SECOND).await);
    }
}
