//! TLS, in both directions.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use super::listeners;
use crate::{
    effective::{Effective, inert_tls},
    errors::{Place, Problem},
    model::{IdentityFiles, Inbound, InboundPort, Origination, Protocol, RootSource, Verify},
    raw::{self, Connection, Identity, Root},
    read::{Item, Located, Value},
    table::Table,
    value::{
        collection::{List, Switch},
        tls::{InboundMode, Peer},
        word::AbsolutePath,
    },
};

/// The name of the destination of connections that come to the app.
pub(super) const INBOUND: &str = "inbound";

/// An identity as one would write it.
const EXAMPLE: &str = "{ certificate = \"/etc/dragoman/tls/tls.crt\", key = \"/etc/dragoman/tls/tls.key\" }";

/// The identity of the whole process.
pub(super) fn identity(root: &Root, problems: &mut Vec<Problem>) {
    if let Some(identity) = &root.identity {
        half("identity", &identity.value, problems);
    }
}

/// What the keys of one destination, or of `[defaults]`, say about each other.
pub(super) fn connection(connection: &Connection, problems: &mut Vec<Problem>) {
    let Some(Switch::On(tls)) = connection.tls.as_ref().map(|tls| &tls.value) else { return };
    let Some(located) = &tls.identity else { return };
    let Switch::On(identity) = &located.value else { return };
    if identity.certificate.is_none() && identity.key.is_none() {
        problems.push(
            Problem::new(located.place, "`tls.identity` names neither a certificate nor a key")
                .help(format!("write {EXAMPLE}, `false` for none, or leave it out for that of [identity]")),
        );
    }
    half("tls.identity", identity, problems);
}

/// What `[defaults]` itself says in vain. What it says as any destination would by default is no mistake.
pub(super) fn defaults(connection: &Connection, problems: &mut Vec<Problem>) {
    let Some(Switch::On(tls)) = connection.tls.as_ref().map(|tls| &tls.value) else { return };
    let plain = raw::Tls::default();
    let mut stated = Vec::new();
    tls.stated_keys("tls.", &mut stated);
    for (key, place) in stated {
        let Some(inert) = inert_tls(connection, &key) else { continue };
        let same = match key.as_str() {
            "tls.roots" => tls.roots().toml() == plain.roots().toml(),
            "tls.crls" => tls.crls().0.is_empty(),
            "tls.pins" => tls.pins().0.is_empty(),
            "tls.spiffe" => tls.spiffe().0.is_empty(),
            _ => false,
        };
        if !same {
            let problem = Problem::new(place, format!("`{key}` has no effect in `defaults`"))
                .help(format!("{}; leave one of them out", inert.text));
            problems.push(match inert.place {
                Some(cause) => problem.also(cause, "because of this"),
                None => problem,
            });
        }
    }
}

/// TLS towards the endpoints of a destination, with what its identity is where it states none.
pub(super) fn origination(root: &Root, effective: &Effective<'_>) -> Option<Origination> {
    if effective.inert("tls").is_some() {
        return None;
    }
    let connection = &effective.table.connection;
    let tls = connection.tls().on()?;
    let verify = match (tls.danger_accept_any_certificate(), tls.spiffe()) {
        (true, _) => Verify::Nothing,
        (false, ids) if ids.0.is_empty() => Verify::Name,
        (false, ids) => Verify::Spiffe(ids.values().map(|id| id.0.clone()).collect()),
    };
    let verifies = verify != Verify::Nothing;
    let identity = match tls.identity() {
        None => files(&root.identity()),
        Some(Switch::Off) => None,
        Some(Switch::On(own)) => files(&own),
    };
    Some(Origination {
        port: tls.port().filter(|_| connection.endpoints.is_none()).map(|port| port_of(port.0)),
        server_name: tls.server_name().map(|name| name.0.into()),
        verify,
        roots: listed(&tls.roots().0, |root| root.0.clone(), verifies),
        crls: listed(&tls.crls(), path, verifies),
        pins: listed(&tls.pins(), |pin| pin.0, verifies),
        min_version: tls.min_version(),
        post_quantum: tls.post_quantum(),
        identity,
    })
}

/// TLS of connections to the app.
pub(super) fn inbound(root: &Root, problems: &mut Vec<Problem>) -> Option<Inbound> {
    let located = root.inbound.as_ref()?;
    let Switch::On(inbound) = &located.value else { return None };
    let identity = inbound_identity(root, located.place, inbound, problems);
    if inbound.roots.is_none() {
        problems.push(
            Problem::new(located.place, "`inbound` has no `roots`")
                .label("nothing says who may have signed a client's certificate")
                .help("say `roots = [\"/etc/dragoman/tls/ca.crt\"]`"),
        );
    }
    if let Some(entry) = root.destination().0.iter().find(|entry| entry.name == INBOUND) {
        problems.push(
            Problem::new(
                entry.place,
                format!("`{INBOUND}` is what `[inbound]` itself is called in logs and metrics"),
            )
            .help("give this destination another name"),
        );
    }
    let ports = app_ports(root, inbound, problems);
    Some(Inbound {
        port: port_of(inbound.port().0),
        identity: identity?,
        roots: inbound.roots()?.0.values().map(|root| RootSource::Pem(path(root))).collect(),
        crls: listed(&inbound.crls(), path, true),
        min_version: inbound.min_version(),
        rest: inbound_port(inbound.mode(), inbound.protocol(), &inbound.allow()),
        ports,
    })
}

/// Where connections to the app arrive, and the place that says so.
pub(super) fn inbound_addresses(root: &Root) -> Vec<Located<SocketAddr>> {
    let Some((place, inbound)) = root.inbound.as_ref().and_then(|located| match &located.value {
        Switch::On(inbound) => Some((located.place, inbound)),
        Switch::Off => None,
    }) else {
        return Vec::new();
    };
    let place = inbound.port.as_ref().map_or(place, |port| port.place);
    let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let port = port_of(inbound.port().0);
    any.map(|ip| Located { value: SocketAddr::new(ip, port), place }).into()
}

fn inbound_identity(
    root: &Root,
    place: Place,
    inbound: &raw::Inbound,
    problems: &mut Vec<Problem>,
) -> Option<IdentityFiles> {
    if let Some(own) = &inbound.identity {
        half("inbound.identity", &own.value, problems);
    }
    let own = inbound.identity().filter(|own| own.certificate.is_some() || own.key.is_some());
    let identity = own.unwrap_or(root.identity());
    if identity.certificate.is_none() && identity.key.is_none() {
        problems.push(
            Problem::new(place, "`inbound` has no identity")
                .label("TLS needs a certificate and a key to present")
                .help(format!("write [identity], or here `identity = {EXAMPLE}`")),
        );
    }
    files(&identity)
}

fn app_ports(root: &Root, inbound: &raw::Inbound, problems: &mut Vec<Problem>) -> BTreeMap<u16, InboundPort> {
    let own = listeners::all(root);
    let mut ports = BTreeMap::new();
    for entry in &inbound.app_port().0 {
        let Some(port) = port_in_name(&entry.name) else {
            let help =
                "the name of the table is the port that clients connect to, as [inbound.app_port.8080]";
            let problem = Problem::new(entry.place, format!("`{}` is no port of the app", entry.name));
            problems.push(problem.label("a number from 1 to 65535").help(help));
            continue;
        };
        if own.iter().any(|own| own.port() == port) {
            let message = format!("{port} is a port of dragoman's own, not of the app");
            problems.push(Problem::new(entry.place, message).help("give the port that the app listens on"));
        }
        let mode = entry.table.mode().unwrap_or(inbound.mode());
        let allow = entry.table.allow().unwrap_or(inbound.allow());
        let protocol = entry.table.protocol().unwrap_or(inbound.protocol());
        ports.insert(port, inbound_port(mode, protocol, &allow));
    }
    ports
}

/// The number that is the name of a table, in its only form.
fn port_in_name(name: &str) -> Option<u16> {
    name.parse().ok().filter(|port: &u16| *port > 0 && port.to_string() == name)
}

fn inbound_port(mode: InboundMode, protocol: Protocol, allow: &List<Peer>) -> InboundPort {
    InboundPort {
        permissive: mode == InboundMode::Permissive,
        protocol,
        allow: listed(allow, |peer| peer.0.clone(), true),
    }
}

/// A certificate without a key, or a key without a certificate.
fn half(name: &str, identity: &Identity, problems: &mut Vec<Problem>) {
    let (place, missing) = match (&identity.certificate, &identity.key) {
        (Some(stated), None) => (stated.place, "key"),
        (None, Some(stated)) => (stated.place, "certificate"),
        _ => return,
    };
    problems.push(
        Problem::new(place, format!("`{name}` has no `{missing}`"))
            .label("one is of no use without the other")
            .help(format!("the whole is {EXAMPLE}")),
    );
}

fn files(identity: &Identity) -> Option<IdentityFiles> {
    let (certificate, key) = (identity.certificate()?, identity.key()?);
    Some(IdentityFiles { certificate: path(&certificate), key: path(&key) })
}

fn listed<T: Item, U>(list: &List<T>, of: impl Fn(&T) -> U, used: bool) -> Vec<U> {
    list.values().filter(|_| used).map(of).collect()
}

fn path(path: &AbsolutePath) -> PathBuf {
    PathBuf::from(&path.0)
}

fn port_of(port: u64) -> u16 {
    u16::try_from(port).unwrap_or(u16::MAX)
}
