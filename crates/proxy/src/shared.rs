//! What all flows of one proxy share.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use dragoman_config::{Config, Destination};
use dragoman_net::OrigDst;
use dragoman_policy::SplitMix64;
use dragoman_telemetry::Telemetry;
use tokio::sync::Notify;

use crate::upstream::learnt::Learnt;
use crate::upstream::pool::Pool;
use crate::upstream::state::{Endpoint, Endpoints};

pub(crate) struct Shared {
    /// One immutable snapshot of policy.
    pub(crate) config: Arc<Config>,
    pub(crate) telemetry: Telemetry,
    pub(crate) endpoints: Endpoints,
    pub(crate) pool: Pool,
    pub(crate) learnt: Learnt,
    pub(crate) drain: Drain,
    own_ports: Vec<u16>,
    turn: AtomicUsize,
}

impl Shared {
    pub(crate) fn new(config: Arc<Config>, telemetry: Telemetry, own_ports: Vec<u16>) -> Self {
        Self {
            endpoints: Endpoints::new(telemetry.clone()),
            pool: Pool::new(telemetry.clone()),
            config,
            telemetry,
            learnt: Learnt::new(),
            drain: Drain::default(),
            own_ports,
            turn: AtomicUsize::new(0),
        }
    }

    /// The ports of our own listeners: no flow may lead to them.
    pub(crate) fn own_ports(&self) -> &[u16] {
        &self.own_ports
    }

    /// The endpoint for the next attempt: the original destination, or the next of the destination's own whose
    /// breaker is not open. Where all are open the next one is returned, and its breaker refuses. `dialled` is an
    /// endpoint that a connection was made to already: it is preferred if it serves the destination.
    pub(crate) fn pick(
        &self,
        destination: &Destination,
        original: OrigDst,
        dialled: Option<SocketAddr>,
    ) -> Arc<Endpoint> {
        let own = &destination.endpoints;
        if own.is_empty() {
            return self.endpoints.get(destination, original.0);
        }
        if let Some(address) = dialled.filter(|address| own.contains(address)) {
            return self.endpoints.get(destination, address);
        }
        let (turn, now) = (self.turn.fetch_add(1, Ordering::Relaxed), Instant::now());
        let in_turn = |step: usize| self.endpoints.get(destination, own[turn.wrapping_add(step) % own.len()]);
        (0..own.len()).map(in_turn).find(|endpoint| !endpoint.is_open(now)).unwrap_or_else(|| in_turn(0))
    }
}

/// The news that no further exchange should begin.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    begun: AtomicBool,
    news: Notify,
}

impl Drain {
    pub(crate) fn begin(&self) {
        self.begun.store(true, Ordering::Release);
        self.news.notify_waiters();
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Returns when the drain has begun.
    pub(crate) async fn begun(&self) {
        let news = self.news.notified();
        tokio::pin!(news);
        // Enrolled before the flag is read: a drain that begins in between is not missed.
        news.as_mut().enable();
        if !self.has_begun() {
            news.await;
        }
    }
}

/// Runs `draw` with this thread's generator: good for jitter and identifiers, never for secrets.
pub(crate) fn with_random<T>(draw: impl FnOnce(&mut SplitMix64) -> T) -> T {
    thread_local! {
        static RANDOM: RefCell<SplitMix64> = RefCell::new(SplitMix64(RandomState::new().hash_one("dragoman")));
    }
    RANDOM.with(|random| draw(&mut random.borrow_mut()))
}
