//! What lives on when one configuration takes the place of another in a running process.
//!
//! Records, metrics, breakers, budgets and pooled connections know a destination by two numbers, and a reload must not
//! mix them up. Its **index** belongs to its name for the life of the process: a counter goes on counting, whatever
//! else is added or removed. Its **generation** says which reload last changed anything about it: what was learnt and
//! what was connected under other rules is not used under these. A destination that a reload does not change, with
//! all that it inherits, is the very same value afterwards.
//!
//! Some keys are only read when the process starts. Of those the running value stays, and the key is told. Each table
//! is taken apart by name here, so that a new key does not compile before somebody has decided which kind it is.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use crate::{
    Config,
    model::{Admin, Control, Destination, Dns, Inbound, Log, Proxy, Recorder, Trace, Version},
    resolve::listeners,
};

/// The generation of the configuration that a process starts with.
pub(crate) const FIRST_GENERATION: u64 = 1;

/// What ties a configuration to those that were in force before it in this process.
#[derive(Clone, Debug)]
pub(crate) struct Lineage {
    generation: u64,
    /// All names that destinations have had since the start, by index.
    names: Vec<Arc<str>>,
    /// By index, where the destination is now, if there still is one.
    places: Vec<Option<usize>>,
    /// The keys that wait for the next start.
    waits: Vec<&'static str>,
}

impl Lineage {
    /// That of the first one, where the index of a destination is its place.
    pub(crate) fn first(destinations: &[Arc<Destination>]) -> Self {
        Self {
            generation: FIRST_GENERATION,
            names: destinations.iter().map(|destination| Arc::clone(&destination.name)).collect(),
            places: (0..destinations.len()).map(Some).collect(),
            waits: Vec::new(),
        }
    }

    /// That of the next one, without any destination yet.
    fn next(&self, waits: Vec<&'static str>) -> Self {
        let places = vec![None; self.names.len()];
        Self { generation: self.generation + 1, names: self.names.clone(), places, waits }
    }

    /// Adds the name unless it is known, and gives its index.
    fn index_of(&mut self, name: &Arc<str>, known: &HashMap<Arc<str>, usize>) -> usize {
        known.get(name).copied().unwrap_or_else(|| {
            self.names.push(Arc::clone(name));
            self.places.push(None);
            self.names.len() - 1
        })
    }
}

impl Config {
    /// Itself, as what follows `previous` in a running process: see the module. What `previous` says of keys that are
    /// read at the start alone stays; [`waits_for_restart`](Self::waits_for_restart) tells which it would change.
    pub fn adopt(self, previous: &Config) -> Config {
        let Config {
            proxy,
            admin,
            control,
            dns,
            listeners,
            log,
            trace,
            recorder,
            inbound,
            index,
            lineage: _,
            root,
            sources,
        } = self;
        let mut start = AtStart::default();
        let proxy = proxy_of(proxy, &previous.proxy, &mut start);
        let admin = admin_of(admin, &previous.admin, &mut start);
        let control = control_of(control, &previous.control, &mut start);
        let dns = dns_of(dns, &previous.dns, &mut start);
        let listeners = start.keep("listener", &listeners, &previous.listeners);
        let log = log_of(log, &previous.log, &mut start);
        let trace = trace_of(trace, &previous.trace, &mut start);
        let recorder = recorder_of(&recorder, &previous.recorder, &mut start);
        let inbound = inbound_of(inbound.as_ref(), previous.inbound.as_ref(), &mut start);

        let mut lineage = previous.lineage.next(start.changed);
        let known = previous.names().iter().cloned().zip(0..).collect();
        let adopted = |(place, destination): (usize, &Arc<Destination>)| {
            let index = lineage.index_of(&destination.name, &known);
            lineage.places[index] = Some(place);
            successor(destination, index, lineage.generation, previous.numbered(index))
        };
        let destinations = index.destinations().iter().enumerate().map(adopted).collect();
        let index = index.with_destinations(destinations).with_listeners(&listeners);
        Config {
            proxy,
            admin,
            control,
            dns,
            listeners,
            log,
            trace,
            recorder,
            inbound,
            index,
            lineage,
            root,
            sources,
        }
    }

    /// Which configuration of the process this is: the one that it starts with is 1.
    pub fn generation(&self) -> u64 {
        self.lineage.generation
    }

    /// The names of all destinations since the start, by [`Destination::index`].
    pub fn names(&self) -> &[Arc<str>] {
        &self.lineage.names
    }

    /// The destination of this version, unless it is gone or has changed since.
    pub fn at(&self, version: Version) -> Option<&Arc<Destination>> {
        self.numbered(version.index).filter(|destination| destination.generation == version.generation)
    }

    /// The keys, as dotted paths, that say something else than what runs, and will do so until the next start.
    pub fn waits_for_restart(&self) -> &[&'static str] {
        &self.lineage.waits
    }

    fn numbered(&self, index: usize) -> Option<&Arc<Destination>> {
        let place = self.lineage.places.get(index).copied().flatten();
        place.map(|place| &self.destinations()[place])
    }
}

/// Every key that is read when the process starts, and never again.
pub(crate) fn read_at_start() -> Vec<&'static str> {
    let (empty, mut start) = (Config::empty(), AtStart::default());
    proxy_of(empty.proxy.clone(), &empty.proxy, &mut start);
    admin_of(empty.admin.clone(), &empty.admin, &mut start);
    control_of(empty.control.clone(), &empty.control, &mut start);
    dns_of(empty.dns.clone(), &empty.dns, &mut start);
    log_of(empty.log.clone(), &empty.log, &mut start);
    trace_of(empty.trace.clone(), &empty.trace, &mut start);
    recorder_of(&empty.recorder, &empty.recorder, &mut start);
    let inbound = "identity = { certificate = '/c', key = '/k' }\ninbound = { roots = ['/r'] }";
    let inbound = Config::parse("", inbound, &|_| None).ok().and_then(|config| config.inbound);
    inbound_of(inbound.as_ref(), inbound.as_ref(), &mut start);
    start.all
}

/// The destination as it goes on: the very one that was there, where nothing about it has changed.
fn successor(
    destination: &Arc<Destination>,
    index: usize,
    generation: u64,
    before: Option<&Arc<Destination>>,
) -> Arc<Destination> {
    let mut next = Destination { index, generation, ..Destination::clone(destination) };
    if let Some(before) = before {
        next.generation = before.generation;
        if next == **before {
            return Arc::clone(before);
        }
        next.generation = generation;
    }
    Arc::new(next)
}

/// The keys that are read at the start.
#[derive(Default)]
struct AtStart {
    all: Vec<&'static str>,
    changed: Vec<&'static str>,
}

impl AtStart {
    /// The running value of `key`.
    fn keep<T: Clone + PartialEq>(&mut self, key: &'static str, stated: &T, running: &T) -> T {
        self.all.push(key);
        if stated != running {
            self.changed.push(key);
        }
        running.clone()
    }
}

fn proxy_of(stated: Proxy, running: &Proxy, start: &mut AtStart) -> Proxy {
    let Proxy {
        listen,
        port,
        port_count,
        mark,
        workers,
        max_flows,
        drain,
        drain_quiet,
        drain_while_listening,
        request_head_timeout,
        request_body_timeout,
        max_head_bytes,
        max_headers,
        max_h2_streams,
        replay_bytes,
    } = stated;
    let port = start.keep("proxy.port", &port, &running.port);
    let port_count = start.keep("proxy.port_count", &port_count, &running.port_count);
    // Its ports are told above.
    let mut addresses: Vec<_> = listen.iter().map(SocketAddr::ip).collect();
    addresses.dedup();
    let listen = listeners::captured(addresses.into_iter(), port, port_count);
    Proxy {
        port,
        port_count,
        mark: start.keep("proxy.mark", &mark, &running.mark),
        listen: start.keep("proxy.listen", &listen, &running.listen),
        workers: start.keep("proxy.workers", &workers, &running.workers),
        replay_bytes: start.keep("proxy.replay_bytes", &replay_bytes, &running.replay_bytes),
        max_flows,
        drain,
        drain_quiet,
        drain_while_listening,
        request_head_timeout,
        request_body_timeout,
        max_head_bytes,
        max_headers,
        max_h2_streams,
    }
}

fn admin_of(stated: Admin, running: &Admin, start: &mut AtStart) -> Admin {
    let Admin { listen } = stated;
    Admin { listen: start.keep("admin.listen", &listen, &running.listen) }
}

fn control_of(stated: Control, running: &Control, start: &mut AtStart) -> Control {
    let Control { socket, listen, changes_on_tcp, quit_on_tcp } = stated;
    Control {
        socket: start.keep("control.socket", &socket, &running.socket),
        listen: start.keep("control.listen", &listen, &running.listen),
        changes_on_tcp: start.keep("control.changes_on_tcp", &changes_on_tcp, &running.changes_on_tcp),
        quit_on_tcp: start.keep("control.quit_on_tcp", &quit_on_tcp, &running.quit_on_tcp),
    }
}

fn dns_of(stated: Dns, running: &Dns, start: &mut AtStart) -> Dns {
    let Dns { listen, resolv_conf } = stated;
    Dns {
        listen: start.keep("dns.listen", &listen, &running.listen),
        resolv_conf: start.keep("dns.resolv_conf", &resolv_conf, &running.resolv_conf),
    }
}

fn log_of(stated: Log, running: &Log, start: &mut AtStart) -> Log {
    let Log { level, format, access, access_sample, access_format, access_file } = stated;
    Log {
        format: start.keep("log.format", &format, &running.format),
        access_format: start.keep("log.access_format", &access_format, &running.access_format),
        access_file: start.keep("log.access_file", &access_file, &running.access_file),
        level,
        access,
        access_sample,
    }
}

fn trace_of(stated: Trace, running: &Trace, start: &mut AtStart) -> Trace {
    let Trace { endpoint, sample, propagation, service_name, headers } = stated;
    Trace {
        endpoint: start.keep("trace.endpoint", &endpoint, &running.endpoint),
        service_name: start.keep("trace.service_name", &service_name, &running.service_name),
        headers: start.keep("trace.headers", &headers, &running.headers),
        sample,
        propagation,
    }
}

/// Who may connect follows at once; where is listened, and by which files a peer is known, at the next start.
fn inbound_of(stated: Option<&Inbound>, running: Option<&Inbound>, start: &mut AtStart) -> Option<Inbound> {
    let (Some(stated), Some(running)) = (stated, running) else {
        return start.keep("inbound", &stated, &running).cloned();
    };
    let Inbound { port, identity, roots, crls, min_version, rest, ports } = stated;
    Some(Inbound {
        port: start.keep("inbound.port", port, &running.port),
        identity: start.keep("inbound.identity", identity, &running.identity),
        roots: start.keep("inbound.roots", roots, &running.roots),
        crls: start.keep("inbound.crls", crls, &running.crls),
        min_version: start.keep("inbound.min_version", min_version, &running.min_version),
        rest: rest.clone(),
        ports: ports.clone(),
    })
}

fn recorder_of(stated: &Recorder, running: &Recorder, start: &mut AtStart) -> Recorder {
    Recorder { memory: start.keep("recorder.memory", &stated.memory, &running.memory) }
}
