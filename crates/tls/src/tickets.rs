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
    session: Option<Tls12ClientSessionValue>,
    tickets: VecDeque<Tls13ClientSessionValue>,
}

impl Tickets {
    pub(crate) fn new(now: Instant) -> Self {
        Self { state: Mutex::new(State { term: 0, until: now + TERM, servers: HashMap::new() }) }
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
        }
        ConnectionTickets { all: Arc::clone(self), term: state.term, endpoint, alpn }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tickets that one connection may use and add to.
#[derive(Debug)]
pub(crate) struct ConnectionTickets {
    all: Arc<Tickets>,
    term: u64,
    endpoint: SocketAddr,
    alpn: Alpn,
}

impl ConnectionTickets {
    fn key(&self, name: &ServerName<'_>) -> Key {
        Key { endpoint: self.endpoint, alpn: self.alpn, name: name.to_owned() }
    }

    /// Looks at what there is, if the term is still that of the connection.
    fn look<T>(&self, name: &ServerName<'_>, act: impl FnOnce(&mut Server) -> Option<T>) -> Option<T> {
        let mut state = self.all.lock();
        if state.term != self.term {
            return None;
        }
        act(state.servers.get_mut(&self.key(name))?)
    }

    /// Adds to what there is, if the term is still that of the connection.
    fn add(&self, name: &ServerName<'_>, act: impl FnOnce(&mut Server)) {
        let mut state = self.all.lock();
        if state.term != self.term {
            return;
        }
        let key = self.key(name);
        if state.servers.len() >= SERVERS && !state.servers.contains_key(&key) {
            // Which one does not matter: what is lost is one full handshake.
            let any = state.servers.keys().next().cloned();
            any.and_then(|any| state.servers.remove(&any));
        }
        act(state.servers.entry(key).or_default());
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
        self.add(&name, |server| server.session = Some(value));
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.look(name, |server| server.session.clone())
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        self.look(name, |server| server.session.take());
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.add(&name, |server| {
            if server.tickets.len() >= TICKETS {
                server.tickets.pop_front();
            }
            server.tickets.push_back(value);
        });
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        // The latest: it is good for the longest.
        self.look(name, |server| server.tickets.pop_back())
    }
}
