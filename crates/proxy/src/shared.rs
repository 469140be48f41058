//! What all flows of one proxy share.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dragoman_config::{Config, Destination, Route};
use dragoman_net::OrigDst;
use dragoman_policy::SplitMix64;
use dragoman_telemetry::Telemetry;
use tokio::sync::Notify;

use crate::flow::early::Early;
use crate::flow::exchange::replay::ReplaySpace;
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
    /// The room in which request bodies are kept to be sent again.
    pub(crate) replay: Arc<ReplaySpace>,
    pub(crate) drain: Drain,
    own_ports: Vec<u16>,
    turn: AtomicUsize,
}

/// Where a flow or an exchange may go, and whose breaker it falls under.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) destination: &'a Destination,
    /// The route of an exchange.
    pub(crate) route: Option<&'a Route>,
    pub(crate) original: OrigDst,
}

impl Shared {
    pub(crate) fn new(config: Arc<Config>, telemetry: Telemetry, own_ports: Vec<u16>) -> Self {
        Self {
            endpoints: Endpoints::new(telemetry.clone()),
            pool: Pool::new(telemetry.clone()),
            replay: ReplaySpace::new(config.proxy.replay_bytes),
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
        let target = Target { destination, route: None, original };
        self.endpoints.get(destination, None, target.in_turn(self.turn.load(Ordering::Relaxed)))
    }

    /// Whether any endpoint may be tried now.
    pub(crate) fn would_admit(&self, target: Target<'_>, now: Instant) -> bool {
        (0..target.count())
            .map(|turn| target.in_turn(turn))
            .any(|address| self.endpoints.get(target.destination, target.route, address).would_admit(now))
    }

    /// The endpoint for the next attempt, and its breaker's leave: the first that may be tried, of the early dial's, then
    /// all in turn, and last the one that the attempt before this one failed on.
    ///
    /// # Errors
    /// All breakers refuse: the shortest time until one lets a probe pass, and its endpoint.
    pub(crate) fn admit(
        &self,
        target: Target<'_>,
        early: &Early,
        failed: Option<SocketAddr>,
    ) -> Result<(Arc<Endpoint>, Pass), (SocketAddr, Duration)> {
        let (turn, now) = (self.turn.fetch_add(1, Ordering::Relaxed), Instant::now());
        let dialled = early.address().filter(|address| target.includes(*address));
        let others = (0..target.count())
            .map(|step| target.in_turn(turn.wrapping_add(step)))
            .filter(|address| Some(*address) != failed);
        let last = failed.filter(|address| target.includes(*address));
        let mut soonest: Option<(SocketAddr, Duration)> = None;
        for address in dialled.into_iter().chain(others).chain(last) {
            let endpoint = self.endpoints.get(target.destination, target.route, address);
            match endpoint.admit(now) {
                Ok(pass) => return Ok((endpoint, pass)),
                Err(wait) if soonest.is_none_or(|(_, other)| wait < other) => soonest = Some((address, wait)),
                Err(_) => {}
            }
        }
        Err(soonest.unwrap_or((target.original.0, Duration::ZERO)))
    }
}

impl Target<'_> {
    fn count(self) -> usize {
        self.destination.endpoints.len().max(1)
    }

    fn in_turn(self, turn: usize) -> SocketAddr {
        match self.destination.endpoints.as_slice() {
            [] => self.original.0,
            own => own[turn % own.len()],
        }
    }

    fn includes(self, address: SocketAddr) -> bool {
        if self.destination.endpoints.is_empty() {
            address == self.original.0
        } else {
            self.destination.endpoints.contains(&address)
        }
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
