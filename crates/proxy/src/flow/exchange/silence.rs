//! How long the app may be silent inside a request body (`proxy.request_body_timeout`).
//!
//! Only time in which the app is waited for counts. An app that asked for leave to send its body (Expect: 100-continue)
//! and has got none is not silent, it is polite.

use std::future::pending;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// The silence of one app in one request body.
#[derive(Debug)]
pub(crate) struct Silence {
    limit: Option<Duration>,
    since: Option<Instant>,
    excused: bool,
}

impl Silence {
    /// `excused`: until [`Self::asked`], no silence counts.
    pub(crate) fn new(limit: Option<Duration>, excused: bool) -> Self {
        Self { limit, since: None, excused }
    }

    /// The app has spoken, or something other than it is waited for.
    pub(crate) fn end(&mut self) {
        self.since = None;
    }

    /// The app has its answer as to whether it should go on.
    pub(crate) fn asked(&mut self) {
        self.excused = false;
    }

    /// Returns when the silence, which begins now if none had begun, is too long; without a limit, never.
    pub(crate) async fn too_long(&mut self) {
        match self.limit {
            Some(limit) if !self.excused => {
                sleep_until(*self.since.get_or_insert_with(Instant::now) + limit).await;
            }
            _ => pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{advance, timeout};

    const SECOND: Duration = Duration::from_secs(1);

    async fn strikes(silence: &mut Silence, within: Duration) -> bool {
        timeout(within, silence.too_long()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn counts_over_several_waits_until_the_app_speaks() {
        let mut silence = Silence::new(Some(3 * SECOND), false);
        assert!(!strikes(&mut silence, 2 * SECOND).await);
        silence.end();
        assert!(!strikes(&mut silence, 2 * SECOND).await);
        assert!(strikes(&mut silence, SECOND + SECOND / 100).await);
    }

    #[tokio::test(start_paused = true)]
    async fn an_app_that_waits_for_leave_is_not_silent() {
        let mut silence = Silence::new(Some(SECOND), true);
        assert!(!strikes(&mut silence, 60 * SECOND).await);
        silence.asked();
        assert!(!strikes(&mut silence, SECOND / 2).await, "it begins when the leave is given");
        advance(SECOND).await;
        assert!(strikes(&mut silence, Duration::ZERO).await);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_any_silence_is_well() {
        assert!(!strikes(&mut Silence::new(None, false), 100 * SECOND).await);
    }
}
