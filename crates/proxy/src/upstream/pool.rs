//! Upstream connections that wait for the next exchange, shared between flows where policy asks for it.
//!
//! The key holds everything that matters for safety; two keys never share a connection. The most recently used
//! connection is taken first, so that the others grow old and are closed, and each is looked at before it is
//! used again: one that was closed meanwhile, or has bytes to read, is thrown away.
//!
//! Where `max_size` bounds the connections to an endpoint, an exchange first waits for a [`Place`]: the leave to have one
//! of them in use. Whoever has a place finds an idle connection, or there is room for a new one, since each of the
//! others is in use under a place of its own or idle; an idle one that cannot be used makes way. Places are given in the
//! order of asking.

pub(crate) mod warm;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dragoman_config::{PoolParams, Version};
use dragoman_telemetry::{DestinationState, Held, Telemetry};
use dragoman_tls::client::Alpn;
use foldhash::fast::RandomState;
use rustls::pki_types::ServerName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::in_force::InForce;
use crate::stream::Stream;

/// The most idle connections of one version of HTTP that one process keeps, over all keys.
pub(super) const IDLE_IN_ALL: usize = 4096;

/// A non-idempotent request takes an idle connection only when it was used this recently: for an older one the
/// server's own idle limit may strike in the moment between our look and its close, and then nobody could tell
/// whether the request was processed.
const FRESH: Duration = Duration::from_secs(1);

/// Connections with equal keys may be exchanged for one another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey {
    pub(crate) endpoint: SocketAddr,
    pub(crate) destination: Version,
    /// Of a connection with TLS.
    pub(crate) secure: Option<Arc<SecureKey>>,
}

impl PoolKey {
    /// That of the files that a connection with TLS is made with.
    pub(super) fn generation(&self) -> Option<u64> {
        self.secure.as_ref().map(|secure| secure.generation)
    }

    /// Whether the other one leads to the same server, be policy and files as they were or not.
    pub(crate) fn is_alike(&self, other: &Self) -> bool {
        let name = |key: &Self| key.secure.as_ref().map(|secure| secure.name.clone());
        self.destination.index == other.destination.index
            && self.endpoint == other.endpoint
            && name(self) == name(other)
    }
}

/// What makes a connection with TLS differ from another one to the same endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SecureKey {
    /// Whom the server has shown to be.
    pub(crate) name: ServerName<'static>,
    pub(crate) alpn: Alpn,
    /// That of the files that it was made with.
    pub(crate) generation: u64,
}

impl SecureKey {
    /// Whether a connection with this key, on which nothing was agreed to be spoken, serves for one with `wanted`.
    pub(crate) fn serves(&self, wanted: &Self) -> bool {
        let alike = self.name == wanted.name && self.generation == wanted.generation;
        alike && (self.alpn == wanted.alpn || self.alpn == Alpn::None && wanted.alpn == Alpn::Http1)
    }
}

/// A connection, and since when there is one.
#[derive(Debug)]
pub(crate) struct Pooled {
    pub(crate) stream: Stream,
    pub(crate) made: Instant,
}

/// Which connection a request may go out on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A new one.
    New,
    /// One that is open, and was used so lately that its server has hardly begun to close it: the request must not be sent
    /// twice.
    Fresh,
    /// One that is open: the request may be sent twice, but its body may not be at hand any more by then.
    Open,
    /// One that seems to be open: all of the request is at hand, and is sent again if it was not. To ask the kernel each time
    /// would cost more than that.
    Likely,
}

/// Leave to have one connection to an endpoint in use, given back by its drop.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: Option<OwnedSemaphorePermit>,
    _in_use: Held,
}

#[derive(Debug)]
struct Idle {
    connection: Pooled,
    since: Instant,
    until: Instant,
}

/// The connections to one endpoint, but for those in use.
#[derive(Debug)]
struct Shelf {
    params: PoolParams,
    /// The least recently used first.
    idle: Vec<Idle>,
    /// Where their number is bounded: what of `max_size` is not in use.
    places: Option<Arc<Semaphore>>,
    /// When an exchange last asked for one.
    used: Instant,
    filling: bool,
}

#[derive(Debug, Default)]
struct Shelves {
    by_key: HashMap<PoolKey, Shelf, RandomState>,
    /// Idle connections in all.
    count: usize,
}

/// All pooled upstream connections.
#[derive(Debug)]
pub(crate) struct Pool {
    telemetry: Telemetry,
    policy: InForce,
    /// Idle connections in all, at most.
    most: usize,
    shelves: Mutex<Shelves>,
}

impl Pool {
    pub(crate) fn new(telemetry: Telemetry, policy: InForce) -> Self {
        Self { telemetry, policy, most: IDLE_IN_ALL, shelves: Mutex::default() }
    }

    /// Waits for leave to have a connection in use.
    pub(crate) async fn place(&self, key: &PoolKey, params: &PoolParams, now: Instant) -> Place {
        if params.max_size.is_none() && params.min_warm == 0 {
            // Nobody wants to know: that saves every exchange a lock that all share.
            return self.place_of(key, None);
        }
        let places = {
            let mut shelves = self.lock();
            let shelf = shelves.shelf(key, params, now);
            shelf.used = now;
            shelf.places.clone()
        };
        let permit = match places {
            Some(places) => match Arc::clone(&places).try_acquire_owned() {
                Ok(permit) => Some(permit),
                Err(_) => {
                    let _waiting = self.telemetry.destination(key.destination.index).pool_waiting();
                    // It is never closed.
                    places.acquire_owned().await.ok()
                }
            },
            None => None,
        };
        self.place_of(key, permit)
    }

    fn place_of(&self, key: &PoolKey, permit: Option<OwnedSemaphorePermit>) -> Place {
        Place { _permit: permit, _in_use: self.telemetry.destination(key.destination.index).pool_in_use() }
    }

    /// An idle connection that is open and quiet, and as it is wanted; never one where that is a new one.
    pub(crate) fn take(&self, key: &PoolKey, wanted: Wanted, now: Instant) -> Option<Pooled> {
        let is_open = match wanted {
            Wanted::New => return None,
            Wanted::Fresh | Wanted::Open => Stream::is_still_open,
            Wanted::Likely => Stream::seems_open,
        };
        loop {
            let idle = {
                let mut shelves = self.lock();
                let shelf = shelves.by_key.get_mut(key)?;
                let newest = shelf.idle.last()?;
                if wanted == Wanted::Fresh && now.saturating_duration_since(newest.since) > FRESH {
                    return None;
                }
                let idle = shelf.idle.pop()?;
                shelves.count -= 1;
                idle
            };
            if now < idle.until && is_open(&idle.connection.stream) {
                return Some(idle.connection);
            }
            self.closed(key, 1);
        }
    }

    /// Closes idle connections until there is room for one more in use: the caller has its place, and no use for an
    /// idle one.
    pub(crate) fn make_room(&self, key: &PoolKey) {
        let mut shelves = self.lock();
        let Some(shelf) = shelves.by_key.get_mut(key) else { return };
        let excess = shelf.excess();
        shelf.idle.drain(..excess);
        shelves.count -= excess;
        self.closed(key, excess);
    }

    /// Keeps a connection for the next exchange, if there is room, it is not too old, and its destination is as it was
    /// when it was made. Its place is to be given back
    /// after that: whoever gets it then finds the connection.
    pub(crate) fn put(&self, key: &PoolKey, connection: Pooled, params: &PoolParams, now: Instant) {
        let idle_end = now + params.idle;
        let until = params.max_age.map_or(idle_end, |age| idle_end.min(connection.made + age));
        let mut shelves = self.lock();
        if until <= now || !self.policy.allows(key.destination, key.generation()) {
            return;
        }
        if shelves.count >= self.most {
            if shelves.by_key.get(key).is_some_and(|shelf| shelf.idle.len() >= params.max_idle) {
                return;
            }
            self.make_way(&mut shelves, now);
        }
        let shelf = shelves.shelf(key, params, now);
        if shelf.idle.len() < params.max_idle {
            shelf.idle.push(Idle { connection, since: now, until });
            shelves.count += 1;
        }
    }

    /// Closes the least recently used connections, whatever their keys. Some at once: to find one is to look at all.
    fn make_way(&self, shelves: &mut Shelves, now: Instant) {
        let idle = shelves.by_key.values().flat_map(|shelf| &shelf.idle);
        let since: Vec<_> = idle.map(|idle| idle.since).collect();
        let mut left = (self.most / 64).clamp(1, since.len());
        let Some(newest) = newest_of_oldest(since, left) else { return };
        shelves.by_key.retain(|key, shelf| {
            let count = shelf.idle.iter().take(left).take_while(|idle| idle.since <= newest).count();
            shelf.idle.drain(..count);
            shelves.count -= count;
            left -= count;
            self.closed(key, count);
            count == 0 || !shelf.is_over(now)
        });
    }

    /// Closes what is too old or was closed by the server. Called now and then. Returns the keys that were used lately
    /// and have fewer idle connections than `min_warm`.
    pub(crate) fn reap(&self, now: Instant) -> Vec<PoolKey> {
        let mut shelves = self.lock();
        shelves.by_key.retain(|key, shelf| {
            let before = shelf.idle.len();
            shelf.idle.retain(|idle| now < idle.until && idle.connection.stream.is_still_open());
            self.closed(key, before - shelf.idle.len());
            !shelf.is_over(now)
        });
        shelves.count = shelves.by_key.values().map(|shelf| shelf.idle.len()).sum();
        let cold = shelves.by_key.iter().filter(|(_, shelf)| shelf.is_cold() && !shelf.is_forgotten(now));
        cold.map(|(key, _)| key.clone()).collect()
    }

    /// Closes the idle connections of destinations that are gone or have changed, or whose TLS has other material now. Those in use follow with the end of
    /// their exchange.
    pub(crate) fn forget_retired(&self) {
        let mut shelves = self.lock();
        let retired: Vec<_> = shelves
            .by_key
            .extract_if(|key, _| !self.policy.allows(key.destination, key.generation()))
            .collect();
        for (key, shelf) in &retired {
            shelves.count -= shelf.idle.len();
            self.closed(key, shelf.idle.len());
        }
    }

    /// Whether there are fewer idle connections than `min_warm` and nobody is making any. The caller does so from now
    /// on, until it calls [`Self::end_filling`].
    pub(crate) fn begin_filling(&self, key: &PoolKey) -> bool {
        let mut shelves = self.lock();
        let shelf = shelves.by_key.get_mut(key).filter(|shelf| shelf.is_cold());
        shelf.is_some_and(|shelf| !std::mem::replace(&mut shelf.filling, true))
    }

    /// The place for one more connection ahead of need; `None` when there are enough, or as many as there may be.
    pub(crate) fn place_to_fill(&self, key: &PoolKey) -> Option<Place> {
        let shelves = self.lock();
        let shelf = shelves.by_key.get(key).filter(|shelf| shelf.is_cold())?;
        let permit = match &shelf.places {
            Some(places) => Some(Arc::clone(places).try_acquire_owned().ok()?),
            None => None,
        };
        let fits = shelves.count < self.most && shelf.excess() == 0;
        fits.then(|| self.place_of(key, permit))
    }

    /// Adds the idle connections to the state of their destinations.
    pub(crate) fn observe(&self, states: &mut BTreeMap<usize, DestinationState>) {
        for (key, shelf) in &self.lock().by_key {
            states.entry(key.destination.index).or_default().http1_idle += shelf.idle.len();
        }
    }

    /// See [`Self::begin_filling`].
    pub(crate) fn end_filling(&self, key: &PoolKey) {
        if let Some(shelf) = self.lock().by_key.get_mut(key) {
            shelf.filling = false;
        }
    }

    fn closed(&self, key: &PoolKey, count: usize) {
        for _ in 0..count {
            self.telemetry.destination(key.destination.index).idle_connection_closed();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shelves> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelves {
    /// The shelf of `key`, made if there is none.
    fn shelf(&mut self, key: &PoolKey, params: &PoolParams, now: Instant) -> &mut Shelf {
        // A copy of the key costs less than a second look-up.
        self.by_key.entry(key.clone()).or_insert_with(|| Shelf::new(*params, now))
    }
}

impl Shelf {
    fn new(params: PoolParams, now: Instant) -> Self {
        let places = params.max_size.map(|size| Arc::new(Semaphore::new(size)));
        Self { params, idle: Vec::new(), places, used: now, filling: false }
    }

    /// How many connections there are, or may come to be under the places that are given, beyond `max_size`.
    fn excess(&self) -> usize {
        let (Some(size), Some(places)) = (self.params.max_size, &self.places) else { return 0 };
        let in_use = size - places.available_permits();
        (in_use + self.idle.len()).saturating_sub(size).min(self.idle.len())
    }

    fn is_cold(&self) -> bool {
        self.idle.len() < self.params.min_warm
    }

    /// No exchange has asked for so long that a connection made then would have been closed.
    fn is_forgotten(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.used) >= self.params.idle
    }

    /// Whether nothing is lost by forgetting it.
    fn is_over(&self, now: Instant) -> bool {
        let in_use = self.places.as_ref().is_some_and(|places| Arc::strong_count(places) > 1);
        let warm = self.params.min_warm > 0 && !self.is_forgotten(now);
        self.idle.is_empty() && !in_use && !warm && !self.filling
    }
}

/// Until when those were used last that make way, where so many have to: the least recently used. `None` for nobody.
pub(super) fn newest_of_oldest(mut since: Vec<Instant>, count: usize) -> Option<Instant> {
    let last = count.min(since.len()).checked_sub(1)?;
    let (_, newest, _) = since.select_nth_unstable(last);
    Some(*newest)
}

#[cfg(test)]
mod tests;
