//! What all flows of one proxy share.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dragoman_config::{Config, Destination};
use dragoman_net::OrigDst;
use dragoman_policy::SplitMix64;
use dragoman_telemetry::Telemetry;
use tokio::sync::Notify;

use crate::flow::early::Early;
use crate::upstream::learnt::Learnt;
use crate::upstream::multiplex::Multiplexers;
use crate::upstream::pool::Pool;
use crate::upstream::state::{Endpoint, Endpoints, Pass};

pub(crate) struct Shared {
    /// One immutable snapshot of policy.
    pub(crate) config: Arc<Config>,
    pub(crate) telemetry: Telemetry,
    pub(crate) endpoints: Endpoints,
    pub(crate) pool: Pool,
    pub(crate) multiplexers: Multiplexers,
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
            multiplexers: Multiplexers::default(),
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

    /// The endpoint that is next in turn, without taking the turn: the original destination, or one of the
    /// destination's own.
    pub(crate) fn next_endpoint(&self, destination: &Destination, original: OrigDst) -> Arc<Endpoint> {
        self.endpoints
            .get(destination, Self::in_turn(destination, original, self.turn.load(Ordering::Relaxed)))
    }

    /// Whether any endpoint of the destination may be tried now.
    pub(crate) fn would_admit(&self, destination: &Destination, original: OrigDst, now: Instant) -> bool {
        (0..destination.endpoints.len().max(1))
            .map(|turn| Self::in_turn(destination, original, turn))
            .any(|address| self.endpoints.get(destination, address).would_admit(now))
    }

    /// The endpoint for the next attempt, and its breaker's leave: the first that may be tried, of the early dial's, then
    /// all in turn, and last the one that the attempt before this one failed on.
    ///
    /// # Errors
    /// All breakers refuse: the shortest time until one lets a probe pass, and its endpoint.
    pub(crate) fn admit(
        &self,
        destination: &Destination,
        original: OrigDst,
        early: &Early,
        failed: Option<SocketAddr>,
    ) -> Result<(Arc<Endpoint>, Pass), (SocketAddr, Duration)> {
        let (turn, now) = (self.turn.fetch_add(1, Ordering::Relaxed), Instant::now());
        let count = destination.endpoints.len().max(1);
        let dialled = early.address().filter(|address| serves(destination, original, *address));
        let others = (0..count)
            .map(|step| Self::in_turn(destination, original, turn.wrapping_add(step)))
            .filter(|address| Some(*address) != failed);
        let last = failed.filter(|address| serves(destination, original, *address));
        let mut soonest: Option<(SocketAddr, Duration)> = None;
        for address in dialled.into_iter().chain(others).chain(last) {
            let endpoint = self.endpoints.get(destination, address);
            match endpoint.admit(now) {
                Ok(pass) => return Ok((endpoint, pass)),
                Err(wait) if soonest.is_none_or(|(_, other)| wait < other) => soonest = Some((address, wait)),
                Err(_) => {}
            }
        }
        Err(soonest.unwrap_or((original.0, Duration::ZERO)))
    }

    fn in_turn(destination: &Destination, original: OrigDst, turn: usize) -> SocketAddr {
        match destination.endpoints.as_slice() {
            [] => original.0,
            own => own[turn % own.len()],
        }
    }
}

/// Whether `address` is an endpoint of `destination`, for a flow that was going to `original`.
fn serves(destination: &Destination, original: OrigDst, address: SocketAddr) -> bool {
    if destination.endpoints.is_empty() {
        address == original.0
    } else {
        destination.endpoints.contains(&address)
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
