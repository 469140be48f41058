//! What all flows of one proxy share.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use dragoman_config::{Config, Destination, Route, Verify};
use dragoman_net::{Inside, OrigDst, Sleepers};
use dragoman_policy::SplitMix64;
use dragoman_telemetry::{DestinationState, Telemetry};

use crate::drain::Drain;
use crate::flow::early::Early;
use crate::flow::exchange::replay::ReplaySpace;
use crate::flow::http1::scratch::Spare;
use crate::in_force::InForce;
use crate::inbound::Inbound;
use crate::names::Names;
use crate::tls::{Prepared, Store};
use crate::upstream::learnt::Learnt;
use crate::upstream::multiplex::Multiplexers;
use crate::upstream::pool::Pool;
use crate::upstream::state::{Endpoint, Endpoints, Pass};

pub(crate) struct Shared {
    pub(crate) config: InForce,
    pub(crate) telemetry: Telemetry,
    /// What TLS connections are made with.
    pub(crate) tls: Arc<Store>,
    pub(crate) endpoints: Endpoints,
    pub(crate) pool: Pool,
    pub(crate) multiplexers: Multiplexers,
    pub(crate) learnt: Learnt,
    /// What addresses are called, where DNS is served.
    pub(crate) names: Names,
    /// The room in which request bodies are kept to be sent again.
    pub(crate) replay: Arc<ReplaySpace>,
    pub(crate) drain: Drain,
    /// What exchanges of HTTP/1 work with, while none does.
    pub(crate) scratch: Spare,
    /// The opaque flows of which nobody says anything.
    pub(crate) sleepers: Sleepers,
    /// What serves connections that come to the app, where that is asked for.
    pub(crate) inbound: Option<Inbound>,
    /// Where the app's own loopback is, if that is another than ours.
    inside: Option<Arc<Inside>>,
    own_ports: Vec<u16>,
    mark: Option<u32>,
    turn: AtomicUsize,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("drain", &self.drain).finish_non_exhaustive()
    }
}

/// Where a flow or an exchange may go, and whose breaker it falls under.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) destination: &'a Destination,
    /// The route of an exchange.
    pub(crate) route: Option<&'a Route>,
    pub(crate) original: OrigDst,
    /// What goes there is encrypted by the app itself: it goes to where the app dialled.
    pub(crate) app_encrypts: bool,
}

impl Shared {
    pub(crate) fn new(config: Arc<Config>, telemetry: Telemetry, own_ports: Vec<u16>) -> Self {
        let replay = ReplaySpace::new(config.proxy.replay_bytes);
        let mark = config.proxy.mark;
        let tls = Arc::new(Store::default());
        let inbound = Inbound::new(&config);
        let config = InForce::new(config, Arc::clone(&tls));
        Self {
            tls,
            endpoints: Endpoints::new(telemetry.clone(), config.clone()),
            pool: Pool::new(telemetry.clone(), config.clone()),
            multiplexers: Multiplexers::new(telemetry.clone(), config.clone()),
            replay,
            config,
            telemetry,
            learnt: Learnt::new(),
            names: Names::new(),
            drain: Drain::default(),
            scratch: Spare::default(),
            sleepers: Sleepers::default(),
            inbound,
            inside: None,
            own_ports,
            mark,
            turn: AtomicUsize::new(0),
        }
    }

    /// The same for an app in a network namespace of its own.
    pub(crate) fn with_inside(self, inside: Option<Arc<Inside>>) -> Self {
        Self { inside, ..self }
    }

    /// The same with what its TLS connections are made with.
    pub(crate) fn with_tls(self, prepared: &Prepared) -> Self {
        self.tls.adopt(prepared, &self.config.now(), &self.telemetry);
        warn_of_unverified(&self.config.now());
        self
    }

    /// How the destinations in use are, as pairs of index and state.
    pub(crate) fn observe(&self) -> Vec<(usize, DestinationState)> {
        let mut states = BTreeMap::new();
        self.endpoints.observe(&mut states, Instant::now());
        self.pool.observe(&mut states);
        self.multiplexers.observe(&mut states);
        for state in states.values_mut() {
            state.endpoints.sort_by_key(|endpoint| endpoint.address);
        }
        states.into_iter().collect()
    }

    /// Puts `next` in force, and forgets what belongs to destinations that are gone or have changed.
    ///
    /// # Errors
    /// Everything that is wrong with the files that it names; what was in force stays.
    pub(crate) fn apply(&self, next: Config) -> Result<Arc<Config>, Vec<String>> {
        let prepared = self.tls.prepare(&next, SystemTime::now())?;
        let next = self.config.replace(next, |next| {
            self.telemetry.add_destinations(next.names());
            self.tls.adopt(&prepared, next, &self.telemetry);
        });
        warn_of_unverified(&next);
        self.telemetry.process().set_flow_limit(next.proxy.max_flows);
        self.endpoints.forget_retired();
        self.forget_retired();
        Ok(next)
    }

    /// Closes idle connections that were made under what is no longer in force; others end with what they carry.
    pub(crate) fn forget_retired(&self) {
        self.pool.forget_retired();
        self.multiplexers.forget_retired();
    }

    /// The ports of our own listeners: no flow may lead to them.
    pub(crate) fn own_ports(&self) -> &[u16] {
        &self.own_ports
    }

    /// The namespace of the app, if that is another than ours.
    pub(crate) fn inside(&self) -> Option<&Inside> {
        self.inside.as_deref()
    }

    /// The mark of each connection that we open, by which capture tells it from an app's.
    pub(crate) fn mark(&self) -> Option<u32> {
        self.mark
    }

    /// The endpoint that is next in turn, without taking the turn: the original destination, or one of the
    /// destination's own.
    pub(crate) fn next_endpoint(&self, destination: &Destination, original: OrigDst) -> Arc<Endpoint> {
        let target = Target { destination, route: None, original, app_encrypts: false };
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
        Err(soonest.unwrap_or((target.original_endpoint(), Duration::ZERO)))
    }
}

impl Target<'_> {
    fn count(self) -> usize {
        self.destination.endpoints.len().max(1)
    }

    fn in_turn(self, turn: usize) -> SocketAddr {
        match self.destination.endpoints.as_slice() {
            [] => self.original_endpoint(),
            own => own[turn % own.len()],
        }
    }

    /// The original destination, where it is the endpoint. The port of a protocol without TLS is rarely the one with it.
    fn original_endpoint(self) -> SocketAddr {
        let mut address = self.original.0;
        if let (Some(port), false) =
            (self.destination.tls.as_ref().and_then(|tls| tls.port), self.app_encrypts)
        {
            address.set_port(port);
        }
        address
    }

    fn includes(self, address: SocketAddr) -> bool {
        if self.destination.endpoints.is_empty() {
            address == self.original_endpoint()
        } else {
            self.destination.endpoints.contains(&address)
        }
    }
}

/// Says which destinations could be anybody's.
fn warn_of_unverified(config: &Config) {
    for destination in config.destinations() {
        if destination.tls.as_ref().is_some_and(|tls| tls.verify == Verify::Nothing) {
            let name = &*destination.name;
            tracing::warn!(
                destination = name,
                "`danger_accept_any_certificate` verifies nothing: whoever is in the path reads and changes everything"
            );
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
