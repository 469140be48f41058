//! The data path of dragoman: accept, original destination, sniff, route, relay.
//!
//! One plain async function per flow ([`flow`]), one loop per exchange (`flow::http1::exchange`). Policy is one
//! immutable snapshot; what is learnt about endpoints is in `upstream`. ARCHITECTURE.md has the way of a byte as a
//! table.

mod accept;
mod app_watch;
mod bounded;
mod buffer;
mod dns;
mod drain;
mod flow;
mod in_force;
mod inbound;
mod leg;
mod names;
mod shared;
mod stream;
#[cfg(test)]
mod testing;
mod tls;
mod upstream;

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, UdpSocket as StdUdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use dragoman_config::Config;
use dragoman_net::Inside;
use dragoman_telemetry::{DestinationState, Telemetry};
use tokio::net::TcpListener;
use tokio::runtime::Handle as Runtime;
use tokio::task::JoinSet;

use accept::Acceptor;
use app_watch::AppWatch;
use drain::Stage;
use shared::Shared;

/// Sockets that listen, made before privileges are dropped.
#[derive(Debug, Default)]
pub struct Listeners {
    flows: Vec<Port>,
    dns: dns::Sockets,
    own: Vec<u32>,
}

/// One of them.
#[derive(Debug)]
struct Port {
    socket: StdListener,
    purpose: Purpose,
}

/// Which connections come to a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// Those that the app has opened and capture has redirected.
    Captured,
    /// Those to a plain port, which has this address.
    Plain(SocketAddr),
    /// Those that somebody outside has opened to the app and capture has redirected.
    Inbound,
}

impl Listeners {
    /// Adds one for captured connections, which does not block.
    pub fn add_captured(&mut self, socket: StdListener) {
        self.flows.push(Port { socket, purpose: Purpose::Captured });
    }

    /// Adds one for connections that come to the app, which does not block.
    pub fn add_inbound(&mut self, socket: StdListener) {
        self.flows.push(Port { socket, purpose: Purpose::Inbound });
    }

    /// Adds one that the configuration leads to a destination by this address; it does not block.
    pub fn add_plain(&mut self, address: SocketAddr, socket: StdListener) {
        self.flows.push(Port { socket, purpose: Purpose::Plain(address) });
    }

    /// Adds one for DNS over UDP, which does not block. Its queries go to the resolvers of `dns.resolv_conf`; each answer goes
    /// out by the same socket, so that it must be bound to the one address that is asked.
    pub fn add_dns_udp(&mut self, socket: StdUdpSocket) {
        self.dns.udp.push(socket);
    }

    /// The same over TCP.
    pub fn add_dns_tcp(&mut self, socket: StdListener) {
        self.dns.tcp.push(socket);
    }

    /// Says which sockets that listen are this process's own, by inode: these, and others that the proxy has nothing to
    /// do with. For `proxy.drain_while_listening`.
    pub fn set_own(&mut self, inodes: Vec<u32>) {
        self.own = inodes;
    }

    fn ports(&self) -> Vec<u16> {
        self.flows
            .iter()
            .filter_map(|port| port.socket.local_addr().ok())
            .map(|address| address.port())
            .collect()
    }
}

/// What TLS connections are made with: what the files say that a configuration names.
#[derive(Debug)]
pub struct Material(tls::Prepared);

impl Material {
    /// Reads all files that `config` names.
    ///
    /// # Errors
    /// Everything that is wrong with them, each with its path, in a line.
    pub fn load(config: &Config) -> Result<Self, Vec<String>> {
        tls::Store::default().prepare(config, SystemTime::now()).map(Self)
    }
}

/// Where the proxy is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It does not accept yet.
    Starting,
    /// It accepts, with no end in sight.
    Serving,
    /// It was told to end: old and new flows are served until none is at work.
    Draining,
    /// Another process accepts: those that are open are served until none is at work.
    HandedOver,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Flows that were still at work at the deadline, and were reset.
    pub flows_cut: usize,
}

/// The proxy, ready to run.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    listeners: Listeners,
}

/// What can be asked of a proxy that runs.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Shared>);

impl Proxy {
    /// A proxy for this policy. `telemetry` must have been made for the destinations of `config`, and `material` of it.
    pub fn new(config: Arc<Config>, telemetry: Telemetry, listeners: Listeners, material: Material) -> Self {
        Self::with(config, telemetry, listeners, material, None)
    }

    /// The same for an app in a network namespace of its own, whose listeners these are.
    pub fn for_inside(
        config: Arc<Config>,
        telemetry: Telemetry,
        listeners: Listeners,
        material: Material,
        inside: Arc<Inside>,
    ) -> Self {
        Self::with(config, telemetry, listeners, material, Some(inside))
    }

    fn with(
        config: Arc<Config>,
        telemetry: Telemetry,
        listeners: Listeners,
        material: Material,
        inside: Option<Arc<Inside>>,
    ) -> Self {
        telemetry.process().set_flow_limit(config.proxy.max_flows);
        telemetry.set_own_ports(listeners.ports());
        let Material(prepared) = material;
        let shared = Shared::new(config, telemetry, listeners.ports()).with_tls(&prepared);
        Self { shared: Arc::new(shared.with_inside(inside)), listeners }
    }

    /// The way to ask something of it once it runs.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.shared))
    }

    /// Serves flows until it is told to end by a [`Handle`] and has done so.
    ///
    /// # Errors
    /// A listener cannot be handed to the runtime.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn run(self) -> io::Result<Drained> {
        let Self { shared, listeners } = self;
        let watched = Arc::downgrade(&shared);
        shared.telemetry.watch(move || watched.upgrade().map_or_else(Vec::new, |shared| shared.observe()));
        let runtime = Runtime::current();
        shared.telemetry.process().count_tasks(move || runtime.metrics().num_alive_tasks());
        shared.sleepers.prepare();
        let open = |Port { socket, purpose }: Port| {
            dragoman_net::reset_accepted(&socket)?;
            Ok((TcpListener::from_std(socket)?, purpose))
        };
        let Listeners { flows, dns, own } = listeners;
        let listeners = flows.into_iter().map(open).collect::<io::Result<_>>()?;
        let mut following = JoinSet::new();
        following.spawn(tls::follow(Arc::clone(&shared)));
        // To the very end: what flows are served for may need a name.
        let _dns = dns::serve(&shared, dns)?;
        Ok(Drained { flows_cut: Acceptor::new(shared, listeners, AppWatch::new(own)).serve().await })
    }
}

impl Handle {
    /// Puts `next` in force in place of the policy that is, as [`Config::adopt`] says, and returns what came of it.
    /// Exchanges that are under way, and flows that are relayed as bytes, keep the policy that they have. Reads the files that
    /// `next` names: not for a thread that serves flows.
    ///
    /// # Errors
    /// Everything that is wrong with those files, each with its path, in a line. What was in force stays.
    pub fn apply(&self, next: Config) -> Result<Arc<Config>, Vec<String>> {
        self.0.apply(next)
    }

    /// Looks at the files that the policy in force names for TLS, in place of waiting until that is done anyway, and takes what
    /// is new and right. Whoever asks for it says that they are complete. Not for a thread that serves flows.
    pub fn look_at_files(&self) {
        tls::look_now(&self.0);
    }

    /// The policy in force.
    pub fn policy(&self) -> Arc<Config> {
        Arc::clone(&self.0.config.now())
    }

    /// Says that the end will come: `proxy.drain` counts from now on, however much later it begins. The first announcement
    /// counts. Returns how much of that time is left.
    pub fn announce_end(&self) -> Duration {
        let Shared { drain, config, .. } = &*self.0;
        let announced = drain.announce(Instant::now());
        config.now().proxy.drain.saturating_sub(announced.elapsed())
    }

    /// Begins to end: old and new flows are served until none was at work for `proxy.drain_quiet`, or `proxy.drain` has
    /// passed since the end was announced or, if it was not, since now.
    pub fn drain(&self) {
        self.0.drain.advance(Stage::Draining);
    }

    /// The same when the app is known to be gone: ends as soon as no flow is at work.
    pub fn finish(&self) {
        self.0.drain.advance(Stage::Finishing);
    }

    /// Begins to end because another process accepts from the same listeners: this one no longer does.
    pub fn hand_over(&self) {
        self.0.drain.advance(Stage::HandedOver);
    }

    /// Returns when the listeners are served.
    pub async fn serving(&self) {
        self.0.drain.reached(Stage::Serving).await;
    }

    /// Returns when the end has begun.
    pub async fn draining(&self) {
        self.0.drain.reached(Stage::Draining).await;
    }

    /// Returns when another process accepts.
    pub async fn handed_over(&self) {
        self.0.drain.reached(Stage::HandedOver).await;
    }

    /// Where the proxy is in its life.
    pub fn phase(&self) -> Phase {
        let drain = &self.0.drain;
        if drain.has_reached(Stage::HandedOver) {
            Phase::HandedOver
        } else if drain.has_reached(Stage::Draining) {
            Phase::Draining
        } else if drain.has_reached(Stage::Serving) {
            Phase::Serving
        } else {
            Phase::Starting
        }
    }

    /// How the destinations in use are now, each with its index.
    pub fn destinations(&self) -> Vec<(usize, DestinationState)> {
        self.0.observe()
    }
}
