//! Upstream HTTP/2 connections, each shared by many exchanges.
//!
//! An exchange takes a stream on the first connection that has room for one more, by the server's own limit. Where none
//! has, a connection is made, one at a time for each endpoint; where there are as many as policy allows, a stream has to
//! end first. Room is given in the order of asking: one exchange has the turn, and the others queue up behind it, so that a
//! stream that ends wakes one of them and not all.
//!
//! A connection takes no further stream when it is closed, when the server says GOAWAY, when it is too old, or when it has
//! carried nothing for too long. It then ends with the last stream that it carries. It does not count in `max_size` any
//! more: a server that is replaced while some of its streams go on for hours must not keep others from its successor.

pub(crate) mod connection;
pub(crate) mod warm;

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dragoman_config::PoolParams;
use dragoman_policy::Failure;
use dragoman_telemetry::{Cause, DestinationState, Telemetry};
use foldhash::fast::RandomState;
use tokio::sync::{Notify, OwnedMutexGuard};
use tokio::time::timeout;

use super::pool::{IDLE_IN_ALL, PoolKey, newest_of_oldest};
use crate::flow::exchange::tries::Failed;
use crate::in_force::InForce;
use connection::{Connected, Lease, Member};

/// The HTTP/2 connections to all endpoints of a proxy, or of one flow.
#[derive(Debug)]
pub(crate) struct Multiplexers {
    telemetry: Telemetry,
    policy: InForce,
    /// Idle connections in all, at most.
    most: usize,
    shelves: Mutex<HashMap<PoolKey, Arc<Shelf>, RandomState>>,
}

/// The connections to one endpoint.
#[derive(Debug)]
struct Shelf {
    params: PoolParams,
    /// Whoever holds it is the next to get room.
    turn: tokio::sync::Mutex<()>,
    /// Exchanges that have the turn or wait for it. Where there are none, room is taken without it: a fair lock costs two
    /// workers that meet at it far more than what it guards.
    queue: AtomicUsize,
    /// There may be room now. Heard by whoever has the turn, and by nobody else.
    changed: Arc<Notify>,
    /// Held while a connection is being made, and until the server has said how many streams it takes.
    growing: Arc<tokio::sync::Mutex<()>>,
    /// Somebody makes connections ahead of need.
    filling: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Those that take further streams.
    members: Vec<Arc<Member>>,
    /// How the last connection failed to be made, and when: the exchanges that waited for it fail with it.
    failed: Option<(Instant, Failed)>,
    /// What the last connection broke by that takes no further streams, and when it was made: where none was ever on it, the
    /// exchange that it was made for fails with it.
    lost: Option<(Instant, Failed)>,
    /// When an exchange last asked for room.
    used: Instant,
}

/// What an exchange that has the turn is to do.
enum Next {
    Take(Lease),
    Fail(Failed),
    Grow(Growth),
    Wait,
}

impl Multiplexers {
    pub(crate) fn new(telemetry: Telemetry, policy: InForce) -> Self {
        Self { telemetry, policy, most: IDLE_IN_ALL, shelves: Mutex::default() }
    }

    /// Room on a connection for `key`. Where a new one is needed, `connect` makes it, and goes on in the background whatever
    /// becomes of the exchange. `fresh`: not on one that was there before, if another may be made.
    ///
    /// # Errors
    /// That of `connect`, be it this one or the one that was waited for; `pool_full` where there was no room for as long as
    /// `patience`, and there may be no further connection.
    pub(crate) async fn lease<C>(
        &self,
        key: &PoolKey,
        params: &PoolParams,
        patience: Duration,
        fresh: bool,
        connect: impl FnOnce() -> C,
    ) -> Result<Lease, Failed>
    where
        C: Future<Output = Result<Connected, Failed>> + Send + 'static,
    {
        let (shelf, asked) = (self.shelf(key, params), Instant::now());
        if let Some(lease) = shelf.take_out_of_turn(asked, fresh) {
            return Ok(lease);
        }
        let _waiting =
            shelf.is_full().then(|| self.telemetry.destination(key.destination.index).pool_waiting());
        let mut room = pin!(shelf.room(asked, fresh, connect));
        loop {
            match timeout(patience, &mut room).await {
                Ok(room) => return room,
                Err(_) if shelf.is_full() => return Err(Failed::pool_full(key.endpoint, params, patience)),
                // A connection is being made, which has a limit of its own.
                Err(_) => {}
            }
        }
    }

    /// Lets go of connections that are closed, too old or idle for too long, and of the least recently used idle ones beyond the
    /// bounds. Called now and then. Returns the keys that were used lately and have fewer idle connections than `min_warm`.
    pub(crate) fn reap(&self, now: Instant) -> Vec<PoolKey> {
        let mut shelves = lock(&self.shelves);
        let mut since = Vec::new();
        for shelf in shelves.values() {
            since.append(&mut lock(&shelf.state).reap(shelf.params.max_idle, now));
        }
        let mut excess = since.len().saturating_sub(self.most);
        if let Some(newest) = newest_of_oldest(since, excess) {
            shelves.values().for_each(|shelf| lock(&shelf.state).make_way(&mut excess, newest));
        }
        let mut cold = Vec::new();
        shelves.retain(|key, shelf| {
            let state = lock(&shelf.state);
            let is_used = now.saturating_duration_since(state.used) < shelf.params.idle;
            if is_used && state.idle() < shelf.params.min_warm {
                cold.push(key.clone());
            }
            !state.members.is_empty() || Arc::strong_count(shelf) > 1 || is_used && shelf.params.min_warm > 0
        });
        cold
    }

    /// Adds the connections that take further streams, and the streams on them, to the state of their destinations.
    pub(crate) fn observe(&self, states: &mut BTreeMap<usize, DestinationState>) {
        for (key, shelf) in lock(&self.shelves).iter() {
            let state = states.entry(key.destination.index).or_default();
            for member in &lock(&shelf.state).members {
                let streams = member.streams();
                state.streams += streams;
                *(if streams > 0 { &mut state.http2_in_use } else { &mut state.http2_idle }) += 1;
            }
        }
    }

    /// Lets go of the connections of destinations that are gone or have changed, or whose TLS has other material now: each ends with its last stream.
    pub(crate) fn forget_retired(&self) {
        lock(&self.shelves).retain(|key, _| self.policy.allows(key.destination, key.generation()));
    }

    /// The shelf of `key`, made if there is none. One of a retired destination is the exchange's own: its connections
    /// end with it.
    fn shelf(&self, key: &PoolKey, params: &PoolParams) -> Arc<Shelf> {
        if let Some(shelf) = lock(&self.shelves).get(key) {
            return Arc::clone(shelf);
        }
        // A flow's own are not told of a reload: this is when they notice.
        self.forget_retired();
        let mut shelves = lock(&self.shelves);
        let new = || Arc::new(Shelf::new(*params));
        if self.policy.allows(key.destination, key.generation()) {
            Arc::clone(shelves.entry(key.clone()).or_insert_with(new))
        } else {
            new()
        }
    }
}

impl Shelf {
    fn new(params: PoolParams) -> Self {
        Self {
            params,
            turn: tokio::sync::Mutex::default(),
            queue: AtomicUsize::new(0),
            changed: Arc::default(),
            growing: Arc::default(),
            filling: AtomicBool::new(false),
            state: Mutex::new(State { members: Vec::new(), failed: None, lost: None, used: Instant::now() }),
        }
    }

    /// Room that nobody waits for.
    fn take_out_of_turn(&self, asked: Instant, fresh: bool) -> Option<Lease> {
        if self.queue.load(Ordering::Acquire) > 0 {
            return None;
        }
        self.take(&mut lock(&self.state), asked, fresh)
    }

    /// Waits for room.
    async fn room<C>(
        self: &Arc<Self>,
        asked: Instant,
        fresh: bool,
        connect: impl FnOnce() -> C,
    ) -> Result<Lease, Failed>
    where
        C: Future<Output = Result<Connected, Failed>> + Send + 'static,
    {
        let _queued = Queued::new(&self.queue);
        let _turn = self.turn.lock().await;
        let mut connect = Some(connect);
        loop {
            match self.next(asked, fresh) {
                Next::Take(lease) => return Ok(lease),
                Next::Fail(failed) => return Err(failed),
                Next::Wait => self.changed.notified().await,
                Next::Grow(growth) => match connect.take() {
                    Some(connect) => drop(tokio::spawn(growth.carry_out(connect()))),
                    // It was made and went away, before a stream was on it.
                    None => return Err(self.lost(asked)),
                },
            }
        }
    }

    /// How a connection ended that was made for an exchange which asked for it at that time.
    fn lost(&self, asked: Instant) -> Failed {
        let lost = lock(&self.state).lost.clone().filter(|(made, _)| *made >= asked);
        lost.map_or_else(
            || {
                let detail = Some("closed as soon as it was made".to_owned());
                Failed::there(Cause::UpstreamClosed, detail, Failure::Connect)
            },
            |(_, failed)| failed,
        )
    }

    /// Room on a connection that there is.
    fn take(&self, state: &mut State, asked: Instant, fresh: bool) -> Option<Lease> {
        let now = Instant::now();
        state.used = now;
        state.retain(|member| !member.is_over(now));
        let room = |since: Option<Instant>| {
            let is_new = |member: &Member| since.is_none_or(|since| member.made >= since);
            state.members.iter().find(|member| is_new(member) && member.has_room())
        };
        let found = room(fresh.then_some(asked));
        let found = found.or_else(|| room(None).filter(|_| self.is_size(state.members.len())));
        found.map(|member| member.lease(asked))
    }

    fn next(self: &Arc<Self>, asked: Instant, fresh: bool) -> Next {
        let mut state = lock(&self.state);
        if let Some(lease) = self.take(&mut state, asked, fresh) {
            return Next::Take(lease);
        }
        if let Some((_, failed)) = state.failed.as_ref().filter(|(at, _)| *at >= asked) {
            return Next::Fail(failed.clone());
        }
        if self.is_size(state.members.len()) {
            return Next::Wait;
        }
        match Arc::clone(&self.growing).try_lock_owned() {
            Ok(growing) => Next::Grow(Growth { shelf: Arc::clone(self), growing: Some(growing) }),
            Err(_) => Next::Wait,
        }
    }

    /// Whether so many connections are as many as there may be.
    fn is_size(&self, count: usize) -> bool {
        self.params.max_size.is_some_and(|size| count >= size)
    }

    fn is_full(&self) -> bool {
        self.is_size(lock(&self.state).members.len())
    }
}

impl State {
    /// Lets go of what is over, and of the least recently used idle connections beyond `most`. Returns since when the others are
    /// idle.
    fn reap(&mut self, most: usize, now: Instant) -> Vec<Instant> {
        self.retain(|member| !member.is_over(now));
        let idle_since =
            |state: &Self| state.members.iter().filter_map(|member| member.idle_since()).collect();
        let since: Vec<_> = idle_since(self);
        let mut excess = since.len().saturating_sub(most);
        match newest_of_oldest(since.clone(), excess) {
            None => since,
            Some(newest) => {
                self.make_way(&mut excess, newest);
                idle_since(self)
            }
        }
    }

    /// Lets go of idle connections that were used until `newest` at the latest, so many at most, and counts them off.
    fn make_way(&mut self, count: &mut usize, newest: Instant) {
        self.retain(|member| {
            let goes = *count > 0 && member.idle_since().is_some_and(|since| since <= newest);
            *count -= usize::from(goes);
            !goes
        });
    }

    /// Lets go of the others, and notes what the last of them broke by.
    fn retain(&mut self, mut stays: impl FnMut(&Member) -> bool) {
        let Self { members, lost, .. } = self;
        members.retain(|member| {
            let stays = stays(member);
            if !stays && let Some(failed) = member.broke() {
                *lost = Some((member.made, failed.clone()));
            }
            stays
        });
    }

    fn idle(&self) -> usize {
        self.members.iter().filter(|member| member.is_idle()).count()
    }
}

/// An exchange that has the turn or waits for it.
struct Queued<'a>(&'a AtomicUsize);

impl<'a> Queued<'a> {
    fn new(queue: &'a AtomicUsize) -> Self {
        queue.fetch_add(1, Ordering::AcqRel);
        Self(queue)
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The one connection to an endpoint that is being made.
struct Growth {
    shelf: Arc<Shelf>,
    /// `None` once it is dropped.
    growing: Option<OwnedMutexGuard<()>>,
}

impl Growth {
    /// For an exchange: those that wait learn of its failure.
    async fn carry_out(self, connect: impl Future<Output = Result<Connected, Failed>>) {
        match connect.await {
            Ok(connected) => self.add(connected).await,
            Err(failed) => lock(&self.shelf.state).failed = Some((Instant::now(), failed)),
        }
    }

    /// The connection has been made. Returns when the server has said how many streams it takes: whoever comes after the
    /// first exchange gets the room that there really is.
    async fn add(self, connected: Connected) {
        let member = Member::start(connected, &self.shelf.params, &self.shelf.changed);
        lock(&self.shelf.state).members.push(Arc::clone(&member));
        self.shelf.changed.notify_one();
        member.settle().await;
    }
}

impl Drop for Growth {
    fn drop(&mut self) {
        // Another one may begin before anybody hears that this one is over.
        self.growing = None;
        self.shelf.changed.notify_one();
    }
}

/// The one task that makes connections to an endpoint ahead of need.
struct Filling(Arc<Shelf>);

impl Multiplexers {
    /// Whether there are fewer idle connections than `min_warm` and nobody is making any. The caller does so from now on.
    fn begin_filling(&self, key: &PoolKey) -> Option<Filling> {
        let shelf = lock(&self.shelves).get(key).map(Arc::clone)?;
        if lock(&shelf.state).idle() >= shelf.params.min_warm || shelf.filling.swap(true, Ordering::AcqRel) {
            return None;
        }
        Some(Filling(shelf))
    }
}

impl Filling {
    /// The leave to make one more connection, once nobody else makes one; `None` when there are enough, or as many as
    /// there may be.
    async fn next(&self) -> Option<Growth> {
        let shelf = &self.0;
        let growing = Some(Arc::clone(&shelf.growing).lock_owned().await);
        let growth = Growth { shelf: Arc::clone(shelf), growing };
        let state = lock(&shelf.state);
        let wanted = state.idle() < shelf.params.min_warm && !shelf.is_size(state.members.len());
        wanted.then_some(growth)
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        self.0.filling.store(false, Ordering::Release);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
