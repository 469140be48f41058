//! Where the process listens, and what is in each other's way there.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use crate::{
    effective::Effective,
    errors::Problem,
    model::Listener,
    raw::{self, Root},
    read::{Located, Value},
    suggest::nearest,
    value::collection::{Entry, segment},
};

/// Listeners that are in each other's way, or where they must not be.
pub(super) fn check(root: &Root, problems: &mut Vec<Problem>) {
    beyond_the_last_port(root, problems);
    let port = root.proxy.as_ref().and_then(|proxy| {
        let count = proxy.value.port_count.as_ref().map(|count| count.place);
        count.or(proxy.value.port.as_ref().map(|port| port.place))
    });
    let mut taken: Vec<_> =
        super::proxy(root).listen.into_iter().map(|address| (address, "proxy.port")).collect();
    for (key, stated, listed) in surfaces(root) {
        for item in &listed {
            let Some((_, by)) = taken.iter().find(|(own, _)| takes(*own, item.value)) else { continue };
            let whose = if *by == "proxy.port" { "the proxy's own listener" } else { by };
            let message = format!("{} is taken by {whose}", item.value);
            let place = if stated { Some(item.place) } else { port };
            let problem = place.map(|place| Problem::new(place, message).label("the same address and port"));
            let help = format!("give `{by}` or `{key}` another port");
            problems.extend(problem.map(|problem| problem.help(help)));
        }
        taken.extend(listed.iter().map(|item| (item.value, key)));
    }
    let control =
        "probes and scrapes have `admin.listen`; from afar, ask through `control.socket` (ssh, kubectl exec)";
    let dns = "give 127.0.0.1 and ::1, to which captured queries are redirected; other machines have their own resolvers";
    for (listen, help) in [(root.control().listen(), control), (root.dns().listen(), dns)] {
        for item in listen.0.iter().filter(|item| !item.value.ip().is_loopback()) {
            let message = format!("{} is not on loopback", item.value);
            problems.push(Problem::new(item.place, message).label("others could reach it").help(help));
        }
    }
}

/// The listeners of `[listener.NAME]`; what is wrong with one is reported.
pub(super) fn resolve(
    root: &Root,
    destinations: &[Effective<'_>],
    problems: &mut Vec<Problem>,
) -> Vec<Listener> {
    let named = root.listener();
    let complete = named.0.iter().filter(|entry| entry.complete);
    complete.filter_map(|entry| resolve_one(entry, destinations, problems)).collect()
}

fn resolve_one(
    entry: &Entry<raw::Listener>,
    destinations: &[Effective<'_>],
    problems: &mut Vec<Problem>,
) -> Option<Listener> {
    let missing = |key: &str, example: &str| {
        Problem::new(entry.place, format!("`listener.{}` has no `{key}`", entry.name))
            .help(format!("say `{key} = {example}`"))
    };
    let (address, name) = match (entry.table.address(), &entry.table.destination) {
        (Some(address), Some(name)) => (address, name),
        (address, name) => {
            problems.extend(address.is_none().then(|| missing("address", "\"127.0.0.1:9000\"")));
            problems.extend(name.is_none().then(|| missing("destination", "\"NAME\"")));
            return None;
        }
    };
    let Some(destination) = destinations.iter().find(|it| it.entry.name == name.value.0) else {
        let problem = Problem::new(name.place, format!("there is no destination {}", name.value.toml()));
        let near = nearest(&name.value.0, destinations.iter().map(|it| it.entry.name.as_str()));
        let help = near.map_or_else(
            || format!("write [destination.{}] with `endpoints`", segment(&name.value.0)),
            |near| format!("did you mean \"{near}\"?"),
        );
        problems.push(problem.help(help));
        return None;
    };
    if destination.table.connection.endpoints.is_none() {
        let message = format!("the destination {} names no endpoints", name.value.toml());
        problems.push(
            Problem::new(name.place, message)
                .label("a plain port does not say where its connections go")
                .also(destination.entry.place, "this one")
                .help("give the destination `endpoints`"),
        );
    }
    Some(Listener {
        name: entry.name.as_str().into(),
        address,
        destination: Arc::from(name.value.0.as_str()),
    })
}

/// Where captured connections arrive: each address with each port.
pub(crate) fn captured(addresses: impl Iterator<Item = IpAddr>, port: u16, count: u16) -> Vec<SocketAddr> {
    let ports = port..=port.saturating_add(count.saturating_sub(1));
    addresses.flat_map(|ip| ports.clone().map(move |port| SocketAddr::new(ip, port))).collect()
}

/// Whether a plain port leads to the destination of this name.
pub(super) fn lead_to(root: &Root, name: &str) -> bool {
    let named = |entry: &Entry<raw::Listener>| entry.table.destination().is_some_and(|it| it.0 == name);
    root.listener().0.iter().any(named)
}

/// Every address whose connections are flows: no endpoint may be one of them.
pub(super) fn of_flows(root: &Root) -> Vec<SocketAddr> {
    let mut all = super::proxy(root).listen;
    all.extend(root.listener().0.iter().filter_map(|entry| entry.table.address()));
    all.extend(super::tls::inbound_addresses(root).iter().map(|own| own.value));
    all
}

/// Every address that is listened on.
pub(super) fn all(root: &Root) -> Vec<SocketAddr> {
    let mut all = super::proxy(root).listen;
    all.extend(surfaces(root).iter().flat_map(|(_, _, listed)| listed).map(|own| own.value));
    all
}

fn beyond_the_last_port(root: &Root, problems: &mut Vec<Problem>) {
    let (first, count) = (root.proxy().port().0, root.proxy().port_count().0);
    let stated = root.proxy.as_ref().and_then(|proxy| proxy.value.port_count.as_ref());
    if let Some(stated) = stated.filter(|_| first + count - 1 > u64::from(u16::MAX)) {
        let message = format!("{count} ports from {first} on go beyond 65535");
        problems.push(Problem::new(stated.place, message).help("take fewer, or a lower `proxy.port`"));
    }
}

/// The other listeners by their keys, whether they are stated, and each address.
fn surfaces(root: &Root) -> [(&'static str, bool, Vec<Located<SocketAddr>>); 5] {
    let admin = root.admin.as_ref().is_some_and(|admin| admin.value.listen.is_some());
    let control = root.control.as_ref().is_some_and(|control| control.value.listen.is_some());
    let dns = root.dns.as_ref().is_some_and(|dns| dns.value.listen.is_some());
    let listeners = root.listener().0.iter().filter_map(|entry| entry.table.address.clone()).collect();
    [
        ("admin.listen", admin, root.admin().listen().0),
        ("control.listen", control, root.control().listen().0),
        ("dns.listen", dns, root.dns().listen().0),
        ("listener", true, listeners),
        // Comes last, since it is on all addresses.
        ("inbound.port", true, super::tls::inbound_addresses(root)),
    ]
}

/// Whether a listener on `own` gets the connections to `other`.
pub(super) fn takes(own: SocketAddr, other: SocketAddr) -> bool {
    own.port() == other.port()
        && (own.ip() == other.ip()
            || own.ip().is_unspecified() && (own.is_ipv6() || other.is_ipv4()) && other.ip().is_loopback()
            || other.ip().is_unspecified() && (other.is_ipv6() || own.is_ipv4()))
}
