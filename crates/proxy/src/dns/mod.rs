//! DNS: what the app asks is passed on to the resolvers of this machine as it is, and so is what they answer.
//!
//! A forwarder and no resolver: it keeps no answer, follows no referral and judges no name. What it adds is what a
//! transparent proxy must: an answer is taken only if it is one to the query, a resolver that is silent is not waited for
//! longer than the app waits, and no failure is made into the claim that there is no such name. Before an answer goes to
//! the app, the addresses in it are learnt ([`crate::names`]): the app's connection may come a moment later.

mod ask;
mod ports;
mod resolv_conf;
mod resolvers;
mod serve;
mod tcp;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, UdpSocket as StdUdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use dragoman_telemetry::{DnsOutcome, DnsTransport};
use dragoman_wire::dns::{Answer, Asked, Query, Rcode, asked};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

use crate::shared::Shared;
use ask::Reply;
use ports::Ports;
use resolvers::Resolvers;

/// What is wrong where our own queries come back again and again.
const LOOP: &str = "dragoman's own queries come back to it: run it in the group that capture leaves alone, and name resolvers \
                    other than itself in dns.resolv_conf";

/// How often a query that came back is sent again, from another port. Once is an app's port that conntrack still knows; as often as
/// this is a loop.
const COMEBACKS_MAX: usize = 3;

/// Where queries come from.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    pub(crate) udp: Vec<StdUdpSocket>,
    pub(crate) tcp: Vec<StdListener>,
}

/// Serves DNS on these sockets for as long as the tasks live.
pub(crate) fn serve(shared: &Arc<Shared>, sockets: Sockets) -> io::Result<JoinSet<()>> {
    let mut tasks = JoinSet::new();
    if sockets.udp.is_empty() && sockets.tcp.is_empty() {
        return Ok(tasks);
    }
    shared.telemetry.dns().served();
    let forwarder = Arc::new(Forwarder::new(Arc::clone(shared)));
    for socket in sockets.udp {
        tasks.spawn(serve::datagrams(Arc::clone(&forwarder), UdpSocket::from_std(socket)?));
    }
    for listener in sockets.tcp {
        tasks.spawn(serve::connections(Arc::clone(&forwarder), TcpListener::from_std(listener)?));
    }
    Ok(tasks)
}

/// What all queries share.
struct Forwarder {
    shared: Arc<Shared>,
    resolvers: Resolvers,
    ids: Ids,
    ports: Ports,
    /// Our own queries under way, by local port and identifier, and whether each has come back to us.
    own: Mutex<HashMap<(u16, u16), bool>>,
    loop_was_said: AtomicBool,
}

impl Forwarder {
    fn new(shared: Arc<Shared>) -> Self {
        let resolvers = Resolvers::new(&shared.config.now().dns.resolv_conf);
        Self {
            shared,
            resolvers,
            ids: Ids::new(),
            ports: Ports::new(),
            own: Mutex::default(),
            loop_was_said: AtomicBool::new(false),
        }
    }

    /// What to send back to the app for this message from `peer`; `None` is nothing at all.
    async fn answer(&self, message: &[u8], peer: SocketAddr, transport: DnsTransport) -> Option<Vec<u8>> {
        let mut counted = Counted::begin(&self.shared, transport);
        let query = match asked(message) {
            Asked::Query(query) => query,
            Asked::Refused(answer) => {
                counted.outcome = DnsOutcome::Refused;
                return Some(answer);
            }
            Asked::Noise => {
                counted.outcome = DnsOutcome::Refused;
                return None;
            }
        };
        if self.is_own(peer, query.id()) {
            counted.outcome = DnsOutcome::Looped;
            return Some(query.failure(Rcode::SERVER_FAILURE, LOOP));
        }
        let begun = Instant::now();
        let reply = match transport {
            DnsTransport::Udp => self.ask_by_udp(&query, message).await,
            DnsTransport::Tcp => self.ask_by_tcp(&query, message).await,
        };
        let (mut bytes, answer) = match reply {
            Reply::Answer(bytes, answer) => {
                counted.outcome = DnsOutcome::Answered;
                (bytes, answer)
            }
            Reply::Failure(bytes, answer) => {
                counted.outcome = DnsOutcome::Failed;
                (bytes, answer)
            }
            Reply::Loop => {
                counted.outcome = DnsOutcome::Unanswered;
                if !self.loop_was_said.swap(true, Ordering::Relaxed) {
                    tracing::error!("DNS: {LOOP}");
                }
                return Some(query.failure(Rcode::SERVER_FAILURE, LOOP));
            }
            Reply::None(why) => {
                counted.outcome = DnsOutcome::Unanswered;
                tracing::debug!(name = query.host(), why, "a DNS query was not answered");
                return Some(query.failure(Rcode::SERVER_FAILURE, &why));
            }
        };
        self.shared.telemetry.dns().answered(begun.elapsed());
        self.learn(&query, &answer);
        if transport == DnsTransport::Udp && bytes.len() > query.payload_max() {
            return Some(query.truncated());
        }
        dragoman_wire::dns::set_id(&mut bytes, query.id());
        Some(bytes)
    }

    fn learn(&self, query: &Query, answer: &Answer) {
        if answer.addresses.is_empty() || answer.rcode != Rcode::NO_ERROR {
            return;
        }
        if let Some(host) = query.host() {
            let known = self.shared.names.learn(&host, &answer.addresses, Instant::now());
            self.shared.telemetry.dns().names(known);
        }
    }

    /// Whether a message that came from `peer` is one that we have sent. To pass it on would make another one, for ever.
    fn is_own(&self, peer: SocketAddr, id: u16) -> bool {
        let mut own = self.lock_own();
        own.get_mut(&(peer.port(), id)).is_some_and(|came_back| {
            *came_back = true;
            true
        })
    }

    /// Notes a query of our own until the guard is dropped.
    fn note_own(&self, port: u16, id: u16) -> Own<'_> {
        self.lock_own().insert((port, id), false);
        Own { forwarder: self, key: (port, id) }
    }

    fn lock_own(&self) -> MutexGuard<'_, HashMap<(u16, u16), bool>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A query of our own that is under way.
struct Own<'a> {
    forwarder: &'a Forwarder,
    key: (u16, u16),
}

impl Own<'_> {
    /// Whether it was led to ourselves.
    fn came_back(&self) -> bool {
        self.forwarder.lock_own().get(&self.key) == Some(&true)
    }
}

impl Drop for Own<'_> {
    fn drop(&mut self) {
        self.forwarder.lock_own().remove(&self.key);
    }
}

/// Counts a query, whatever becomes of it: one whose task is dropped was dropped.
struct Counted<'a> {
    shared: &'a Shared,
    transport: DnsTransport,
    outcome: DnsOutcome,
}

impl<'a> Counted<'a> {
    fn begin(shared: &'a Shared, transport: DnsTransport) -> Self {
        shared.telemetry.dns().began();
        Self { shared, transport, outcome: DnsOutcome::Dropped }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.shared.telemetry.dns().ended(self.transport, self.outcome);
    }
}

/// Identifiers that nobody who has not seen them can guess, beside the random port of each query (RFC 5452): a counter under
/// `SipHash` with a key from the system.
struct Ids {
    key: RandomState,
    count: AtomicU64,
}

impl Ids {
    fn new() -> Self {
        Self { key: RandomState::new(), count: AtomicU64::new(0) }
    }

    fn next(&self) -> u16 {
        self.draw() as u16
    }

    fn draw(&self) -> u64 {
        self.key.hash_one(self.count.fetch_add(1, Ordering::Relaxed))
    }
}
