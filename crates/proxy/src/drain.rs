//! The end of the proxy's work, in stages that only go forward.
//!
//! A drain must end when nothing is at work any more, and an app may keep an idle connection open for ever. So a flow
//! that waits for its next request says so, from the moment that a drain begins: it holds nothing up, it still serves
//! the request that comes, and it is closed in order when all is over. Before a drain, waiting costs nothing.
//!
//! There is one deadline, which counts from when the end was announced or, if it never was, from when it began
//! (docs/adr/0032).

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::Notify;

/// How far it has come; before all of them, the listeners are not served yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// No end in sight.
    Serving = 1,
    /// Old and new flows are served until there was nothing to do for `proxy.drain_quiet`.
    Draining,
    /// The same, until there is nothing to do: the app has said that it is gone.
    Finishing,
    /// Another process accepts: new connections of the app are served there.
    HandedOver,
    /// Whoever waits closes.
    Over,
    /// Whoever has said that it closes, and waits for the other side to take note, waits no longer.
    Last,
}

/// The stage, the news of it, and how many flows are idle.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    stage: AtomicU8,
    announced: OnceLock<Instant>,
    news: Notify,
    idle: AtomicUsize,
    woken: AtomicUsize,
}

/// What a flow holds while it is idle during a drain.
struct Idle<'a>(&'a Drain);

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        self.0.woken.fetch_add(1, Ordering::AcqRel);
        self.0.idle.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drain {
    /// Goes on to `stage`; a later one stays.
    pub(crate) fn advance(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, Ordering::AcqRel);
        self.news.notify_waiters();
    }

    /// The end will come, and its time counts from `now`. The first announcement counts; this returns which that was.
    pub(crate) fn announce(&self, now: Instant) -> Instant {
        *self.announced.get_or_init(|| now)
    }

    pub(crate) fn has_reached(&self, stage: Stage) -> bool {
        self.stage.load(Ordering::Acquire) >= stage as u8
    }

    pub(crate) fn is_at(&self, stage: Stage) -> bool {
        self.stage.load(Ordering::Acquire) == stage as u8
    }

    /// Returns when `stage` is reached.
    pub(crate) async fn reached(&self, stage: Stage) {
        while !self.has_reached(stage) {
            let news = self.news.notified();
            tokio::pin!(news);
            // Enrolled before the stage is read: one that comes in between is not missed.
            news.as_mut().enable();
            if !self.has_reached(stage) {
                news.await;
            }
        }
    }

    /// The same for a flow with nothing to do. During a drain, it counts as idle for as long as this is awaited.
    pub(crate) async fn reached_while_idle(&self, stage: Stage) {
        self.reached(Stage::Draining).await;
        self.idle.fetch_add(1, Ordering::AcqRel);
        let _idle = Idle(self);
        self.reached(stage).await;
    }

    /// How many flows are idle; only told during a drain.
    pub(crate) fn idle(&self) -> usize {
        self.idle.load(Ordering::Acquire)
    }

    /// How many times an idle flow found something to do.
    pub(crate) fn woken(&self) -> usize {
        self.woken.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};
    use std::time::Duration;

    #[test]
    fn stages_only_go_forward() {
        let drain = Drain::default();
        drain.advance(Stage::HandedOver);
        drain.advance(Stage::Draining);
        assert!(drain.has_reached(Stage::HandedOver) && !drain.has_reached(Stage::Over));
    }

    #[test]
    fn the_first_announcement_counts_and_begins_nothing() {
        let drain = Drain::default();
        drain.advance(Stage::Serving);
        let first = Instant::now();
        assert_eq!(drain.announce(first), first);
        assert_eq!(drain.announce(first + Duration::from_secs(5)), first);
        assert!(drain.is_at(Stage::Serving));
    }

    #[test]
    fn a_flow_is_idle_from_the_drain_on_until_it_wakes() {
        let drain = Drain::default();
        let mut context = Context::from_waker(Waker::noop());
        {
            let mut waits = pin!(drain.reached_while_idle(Stage::Over));
            assert!(waits.as_mut().poll(&mut context).is_pending());
            assert_eq!(drain.idle(), 0, "nothing is counted before a drain");
            drain.advance(Stage::Draining);
            assert!(waits.as_mut().poll(&mut context).is_pending());
            assert_eq!((drain.idle(), drain.woken()), (1, 0));
        }
        assert_eq!((drain.idle(), drain.woken()), (0, 1));
    }

    #[test]
    fn the_idle_learn_that_all_is_over() {
        let drain = Drain::default();
        let mut context = Context::from_waker(Waker::noop());
        let mut waits = pin!(drain.reached_while_idle(Stage::Over));
        assert!(waits.as_mut().poll(&mut context).is_pending());
        drain.advance(Stage::Over);
        assert!(waits.as_mut().poll(&mut context).is_ready());
    }
}
