//! From the file as it is written to the model that cannot be invalid.

mod check;
mod credentials;
mod headers;
pub(crate) mod listeners;
mod policy;
mod routes;
mod tls;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use dragoman_policy::BreakerParams;

use crate::{
    adopt::FIRST_GENERATION,
    effective::Effective,
    errors::Problem,
    model::{
        Admin, BreakerPolicy, Control, ControlSocket, Destination, Dns, Inbound, Listener, Log, PoolParams,
        Protocol, Proxy, Recorder, Trace, TraceEndpoint, UpstreamProtocol,
    },
    raw::{self, Connection, Root},
    read::Item,
    select::{DestinationMatch, Index},
    value::collection::{Entry, Named, NonEmpty},
};

/// The name of the destination of traffic that no other one matches.
const DEFAULT: &str = "default";

/// What a file comes to. Only meaningful if there were no problems.
pub(crate) struct Resolved {
    pub(crate) proxy: Proxy,
    pub(crate) admin: Admin,
    pub(crate) control: Control,
    pub(crate) dns: Dns,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) log: Log,
    pub(crate) trace: Trace,
    pub(crate) recorder: Recorder,
    pub(crate) inbound: Option<Inbound>,
    pub(crate) index: Index,
}

/// Resolves what was read, and reports each contradiction in it.
pub(crate) fn resolve(root: &Root, problems: &mut Vec<Problem>) -> Resolved {
    listeners::check(root, problems);
    check::traces(root, problems);
    check::recorder(root, problems);
    check::defaults(root, problems);
    tls::identity(root, problems);
    let inbound = tls::inbound(root, problems);
    let named: Named<raw::Destination> = root.destination();
    let mut effective: Vec<_> = named.0.iter().map(|entry| Effective::of(root, entry)).collect();
    effective.sort_by(|a, b| a.entry.name.cmp(&b.entry.name));
    for destination in &effective {
        check::destination(root, destination, problems);
        routes::check(destination, problems);
        credentials::check(root, destination, problems);
    }
    if !effective.iter().any(|it| matches_of(root, it).is_everything()) {
        credentials::check(root, &Effective::of(root, &implicit(root)), problems);
    }
    check::reachable(root, &effective, problems);
    let listeners = listeners::resolve(root, &effective, problems);
    let index = index(root, &effective, inbound.is_some()).with_listeners(&listeners);
    Resolved {
        proxy: proxy(root),
        admin: admin(root),
        control: control(root),
        dns: dns(root),
        listeners,
        log: log(root),
        trace: trace(root),
        inbound,
        recorder: Recorder { memory: root.recorder().memory().0 },
        index,
    }
}

fn proxy(root: &Root) -> Proxy {
    let proxy = root.proxy();
    let port = u16::try_from(proxy.port().0).unwrap_or(u16::MAX);
    let port_count = u16::try_from(proxy.port_count().0).unwrap_or(u16::MAX);
    Proxy {
        listen: listeners::captured(proxy.listen().0.values().copied(), port, port_count),
        port,
        port_count,
        mark: proxy.mark().and_then(|mark| u32::try_from(mark.0).ok()),
        workers: count(proxy.workers().0),
        max_flows: count(proxy.max_flows().0),
        drain: proxy.drain().0,
        drain_quiet: proxy.drain_quiet().0,
        drain_while_listening: proxy.drain_while_listening(),
        request_head_timeout: proxy.request_head_timeout().0,
        request_body_timeout: proxy.request_body_timeout().map(|deadline| deadline.0),
        max_head_bytes: proxy.max_head_bytes().0,
        max_headers: count(proxy.max_headers().0),
        max_h2_streams: count(proxy.max_h2_streams().0),
        replay_bytes: proxy.replay_bytes().0,
    }
}

fn admin(root: &Root) -> Admin {
    Admin { listen: root.admin().listen().values().copied().collect() }
}

fn control(root: &Root) -> Control {
    let control = root.control();
    let socket = match control.socket() {
        None => ControlSocket::Usual,
        Some(path) if path.0 == "off" => ControlSocket::Off,
        Some(path) => ControlSocket::At(path.0.into()),
    };
    Control {
        socket,
        listen: control.listen().values().copied().collect(),
        changes_on_tcp: control.changes_on_tcp(),
        quit_on_tcp: control.quit_on_tcp(),
    }
}

fn dns(root: &Root) -> Dns {
    let dns = root.dns();
    Dns { listen: dns.listen().values().copied().collect(), resolv_conf: dns.resolv_conf().0.into() }
}

fn log(root: &Root) -> Log {
    let log = root.log();
    let file = log.access_file().0;
    Log {
        level: log.level(),
        format: log.format(),
        access: log.access(),
        access_sample: log.access_sample().0,
        access_format: log.access_format(),
        access_file: (file != "-").then(|| PathBuf::from(file)),
    }
}

fn trace(root: &Root) -> Trace {
    let trace = root.trace();
    let endpoint = trace.endpoint().map(|receiver| TraceEndpoint {
        path: receiver.traces_path(),
        host: receiver.host,
        port: receiver.port,
    });
    Trace {
        endpoint,
        sample: trace.sample().0,
        propagation: trace.propagation(),
        service_name: trace.service_name().0,
        headers: trace.headers().0.into_iter().map(|pair| (pair.name, pair.value)).collect(),
    }
}

/// The destination that matches everything comes first, whether the user wrote it or not; the others
/// follow by name, which is the order that decides between equals. The one of connections that come to the app is the last.
fn index(root: &Root, effective: &[Effective<'_>], inbound: bool) -> Index {
    let catch_all = effective.iter().position(|it| matches_of(root, it).is_everything());
    let mut destinations = Vec::with_capacity(effective.len() + 1);
    match catch_all {
        Some(position) => destinations.push(destination(root, 0, &effective[position])),
        None => {
            let implicit = destination(root, 0, &Effective::of(root, &implicit(root)));
            let observe_only = changes_nothing(&implicit);
            destinations.push(Destination { observe_only, ..implicit });
        }
    }
    for (_, other) in effective.iter().enumerate().filter(|(position, _)| Some(*position) != catch_all) {
        destinations.push(destination(root, destinations.len(), other));
    }
    if inbound {
        destinations.push(self::inbound(destinations.len()));
    }
    Index::new(destinations.into_iter().map(Arc::new).collect())
}

/// The destination of traffic that no other one matches, where the user wrote none.
pub(crate) fn implicit(root: &Root) -> Entry<raw::Destination> {
    let raw::Defaults { connection, exchange } = root.defaults();
    let table = raw::Destination { connection, exchange, ..Default::default() };
    Entry { name: DEFAULT.into(), place: Default::default(), complete: true, table }
}

/// Where connections to the app go: to where they were going, and as they are. Nothing that an app dials leads here.
fn inbound(index: usize) -> Destination {
    let (root, place) = (Root::default(), Default::default());
    let entry =
        Entry { name: tls::INBOUND.into(), place, complete: true, table: raw::Destination::default() };
    let plain = destination(&root, index, &Effective::of(&root, &entry));
    let matches = DestinationMatch { by_port_alone: true, ..plain.matches };
    Destination { matches, ..plain }
}

fn destination(root: &Root, index: usize, effective: &Effective<'_>) -> Destination {
    let connection = &effective.table.connection;
    let (routes, route_index) = routes::routes(effective);
    Destination {
        index,
        generation: FIRST_GENERATION,
        name: effective.entry.name.as_str().into(),
        protocol: connection.protocol(),
        upstream_protocol: connection.upstream_protocol(),
        deny: connection.deny(),
        endpoints: endpoints(connection),
        connect_timeout: connection.connect_timeout().0,
        breaker: connection.breaker().on().map(|breaker| breaker_policy(&breaker)),
        pool: connection.pool().on().map(|pool| pool_params(&pool)),
        tls: tls::origination(root, effective),
        plain_text_credentials: credentials::networks(effective),
        observe_only: false,
        policy: Arc::new(policy::policy(&effective.table.exchange)),
        routes,
        route_index,
        matches: matches_of(root, effective),
    }
}

fn endpoints(connection: &Connection) -> Vec<SocketAddr> {
    connection
        .endpoints()
        .map(|list| list.0.values().map(|endpoint| endpoint.0).collect())
        .unwrap_or_default()
}

fn breaker_policy(breaker: &raw::Breaker) -> BreakerPolicy {
    BreakerPolicy {
        params: BreakerParams {
            failures: u32::try_from(breaker.failures().0).unwrap_or(u32::MAX),
            failure_percent: breaker.failure_percent().0.try_into().unwrap_or(100),
            window: breaker.window().0,
            open: breaker.open().0,
            probe_deadline: breaker.probe_deadline().0,
        },
        statuses: policy::statuses(&breaker.statuses()),
        grpc_statuses: policy::grpc_statuses(&breaker.grpc_statuses()),
    }
}

fn pool_params(pool: &raw::Pool) -> PoolParams {
    PoolParams {
        max_idle: count(pool.max_idle().0),
        idle: pool.idle().0,
        max_age: pool.max_age().map(|age| age.0),
        max_size: pool.max_size().map(|size| count(size.0)),
        min_warm: count(pool.min_warm().0),
    }
}

/// What it matches; a destination that states nothing is for everything else, unless a plain port leads to it.
fn matches_of(root: &Root, effective: &Effective<'_>) -> DestinationMatch {
    let own = matches(&effective.table.matches);
    let by_port_alone = own.is_everything() && listeners::lead_to(root, &effective.entry.name);
    DestinationMatch { by_port_alone, ..own }
}

fn matches(raw: &raw::Match) -> DestinationMatch {
    DestinationMatch {
        by_port_alone: false,
        hosts: list(raw.hosts()),
        sni: list(raw.sni()),
        cidrs: list(raw.cidrs()),
        ports: list(raw.ports()),
    }
}

fn list<T: Item>(list: Option<NonEmpty<T>>) -> Vec<T> {
    list.map(|list| list.0.values().cloned().collect()).unwrap_or_default()
}

/// Whether traffic of this destination would be the same without dragoman.
fn changes_nothing(destination: &Destination) -> bool {
    let connect_timeout: Duration = Connection::default().connect_timeout().0;
    destination.protocol == Protocol::Auto
        && destination.upstream_protocol == UpstreamProtocol::Auto
        && !destination.deny
        && destination.endpoints.is_empty()
        && destination.connect_timeout == connect_timeout
        && destination.breaker.is_none()
        && destination.pool.is_none()
        && destination.tls.is_none()
        && *destination.policy == Default::default()
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
