//! What servers gave to resume a session with.
//!
//! rustls keeps eight tickets for each server name. That is too few where hundreds of connections are made at once, and the
//! endpoints of a destination, which are called the same, cannot read each other's tickets. Here each (endpoint, protocol,
//! name) has its own.
//!
//! Who resumes does not see the server's certificate, and each resumed session brings tickets for the next one: a server
//! that is asked again and again would never have to show its certificate any more, were it expired or revoked. So tickets
//! are for one **term**. What comes of a session that began in an earlier term is not kept, and the first connection of a
//! term is verified.
//!
//! A ticket has up to 64 KiB, as its server likes, and a copy of the server's certificates goes with each. rustls does not say
//! how much one holds. The [`Session`](crate::session::Session) knows how much came with it, and that is what it weighs: so
//! what a connection is given is fresh at first, and kept when the session has weighed it.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;

use crate::client::Alpn;

/// How long a certificate that was verified is taken for good.
const TERM: Duration = Duration::from_secs(600);

/// The most endpoints, protocols and names that are remembered; beyond them any other is forgotten.
const SERVERS: usize = 512;

/// The most tickets of one of them: the latest are kept.
const TICKETS: usize = 64;

/// The most that one of them may weigh, in bytes. Those of OpenSSL with a client's chain in them have a few thousand.
const ENTRY: usize = 32 * 1024;

/// The most that those of one server may weigh, in bytes: the latest are kept.
const SERVER: usize = 256 * 1024;

/// The most that all of them may weigh, in bytes; beyond them any other server is forgotten.
const ALL: usize = 16 * 1024 * 1024;

/// The most tickets that are taken of what came at once.
const FRESH: usize = 8;

/// The tickets of one destination, as its files are.
#[derive(Debug)]
pub(crate) struct Tickets {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    term: u64,
    until: Instant,
    servers: HashMap<Key, Server>,
    /// Of all servers, in bytes.
    weight: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    endpoint: SocketAddr,
    alpn: Alpn,
    name: ServerName<'static>,
}

#[derive(Debug, Default)]
struct Server {
    group: Option<NamedGroup>,
    session: Option<Weighed<Tls12ClientSessionValue>>,
    /// The latest last.
    tickets: VecDeque<Weighed<Tls13ClientSessionValue>>,
}

#[derive(Debug)]
struct Weighed<T> {
    value: T,
    bytes: usize,
}

/// What was given to resume by, and is not weighed yet.
#[derive(Debug)]
enum Fresh {
    Tls12(Tls12ClientSessionValue),
    Tls13(Tls13ClientSessionValue),
}

impl Tickets {
    pub(crate) fn new(now: Instant) -> Self {
        let state = State { term: 0, until: now + TERM, servers: HashMap::new(), weight: 0 };
        Self { state: Mutex::new(state) }
    }

    /// The store of one connection that begins now.
    pub(crate) fn at(self: &Arc<Self>, endpoint: SocketAddr, alpn: Alpn, now: Instant) -> ConnectionTickets {
        let mut state = self.lock();
        if now >= state.until {
            state.term += 1;
            state.until = now + TERM;
            for server in state.servers.values_mut() {
                server.session = None;
                server.tickets.clear();
            }
            state.weight = 0;
        }
        let fresh = Mutex::default();
        ConnectionTickets { all: Arc::clone(self), term: state.term, endpoint, alpn, fresh }
    }

    /// What all of it weighs, in bytes, and how much of it there is.
    #[cfg(test)]
    pub(crate) fn held(&self) -> (usize, usize) {
        let state = self.lock();
        let of = |server: &Server| server.tickets.len() + usize::from(server.session.is_some());
        (state.weight, state.servers.values().map(of).sum())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    /// Forgets any server but this one. Which does not matter: what is lost is one full handshake.
    fn forget_another(&mut self, than: &Key) -> bool {
        let Some(any) = self.servers.keys().find(|key| *key != than).cloned() else { return false };
        self.weight -= self.servers.remove(&any).map_or(0, |server| server.weight());
        true
    }
}

impl Server {
    /// Of all that it has given, in bytes.
    fn weight(&self) -> usize {
        let session = self.session.as_ref().map_or(0, |session| session.bytes);
        session + self.tickets.iter().map(|ticket| ticket.bytes).sum::<usize>()
    }

    fn keep(&mut self, fresh: Fresh, bytes: usize) {
        match fresh {
            Fresh::Tls12(value) => self.session = Some(Weighed { value, bytes }),
            Fresh::Tls13(value) => self.tickets.push_back(Weighed { value, bytes }),
        }
        while self.tickets.len() > TICKETS || self.weight() > SERVER && !self.tickets.is_empty() {
            self.tickets.pop_front();
        }
    }
}

/// The tickets that one connection may use and add to.
#[derive(Debug)]
pub(crate) struct ConnectionTickets {
    all: Arc<Tickets>,
    term: u64,
    endpoint: SocketAddr,
    alpn: Alpn,
    fresh: Mutex<VecDeque<(ServerName<'static>, Fresh)>>,
}

impl ConnectionTickets {
    /// Keeps what is fresh. `bytes`: of what came with it, at least as much as any of it holds, and `more` for what it holds
    /// besides.
    pub(crate) fn weigh(&self, bytes: usize, more: impl FnOnce() -> usize) {
        let fresh = std::mem::take(&mut *lock(&self.fresh));
        if fresh.is_empty() {
            return;
        }
        let bytes = bytes + more();
        for (name, fresh) in fresh.into_iter().filter(|_| bytes <= ENTRY) {
            self.add(&name, |server| server.keep(fresh, bytes));
        }
    }

    fn is_given(&self, name: ServerName<'static>, fresh: Fresh) {
        let mut all = lock(&self.fresh);
        if all.len() >= FRESH {
            all.pop_front();
        }
        all.push_back((name, fresh));
    }

    fn key(&self, name: &ServerName<'_>) -> Key {
        Key { endpoint: self.endpoint, alpn: self.alpn, name: name.to_owned() }
    }

    /// Looks at what there is, if the term is still that of the connection.
    fn look<T>(&self, name: &ServerName<'_>, act: impl FnOnce(&mut Server) -> Option<T>) -> Option<T> {
        let mut state = self.all.lock();
        if state.term != self.term {
            return None;
        }
        let server = state.servers.get_mut(&self.key(name))?;
        let before = server.weight();
        let found = act(server);
        let less = before - server.weight();
        state.weight -= less;
        found
    }

    /// Adds to what there is, if the term is still that of the connection.
    fn add(&self, name: &ServerName<'_>, act: impl FnOnce(&mut Server)) {
        let mut state = self.all.lock();
        if state.term != self.term {
            return;
        }
        let key = self.key(name);
        if state.servers.len() >= SERVERS && !state.servers.contains_key(&key) {
            state.forget_another(&key);
        }
        let server = state.servers.entry(key.clone()).or_default();
        let before = server.weight();
        act(server);
        let after = server.weight();
        state.weight = state.weight - before + after;
        while state.weight > ALL && state.forget_another(&key) {}
    }
}

impl ClientSessionStore for ConnectionTickets {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.add(&name, |server| server.group = Some(group));
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.look(name, |server| server.group)
    }

    fn set_tls12_session(&self, name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.is_given(name, Fresh::Tls12(value));
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.look(name, |server| Some(server.session.as_ref()?.value.clone()))
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        self.look(name, |server| server.session.take().map(drop));
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.is_given(name, Fresh::Tls13(value));
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        // The latest: it is good for the longest.
        self.look(name, |server| Some(server.tickets.pop_back()?.value))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
