//! Credentials and identities go only to servers that are known: an app can put any host on any address.
//!
//! docs/adr/0026 has why. A server is known if the file names its address (`endpoints`), or if TLS verifies it as
//! something that the file states: [`Effective::knows_server`].

use ipnet::IpNet;

use super::{policy::credentials, tls};
use crate::{
    effective::Effective,
    errors::{Place, Problem},
    model::{RootSource, Verify},
    raw::{Exchange, Root},
    value::collection::{Switch, segment},
};

/// The networks to which alone its credentials may go; empty where that need not be asked.
pub(super) fn networks(effective: &Effective<'_>) -> Vec<IpNet> {
    match effective.inert("danger_plain_text_credentials") {
        Some(_) => Vec::new(),
        None => effective.table.connection.danger_plain_text_credentials().values().copied().collect(),
    }
}

/// Reports what a destination would tell to a server that is not known.
pub(super) fn check(root: &Root, effective: &Effective<'_>, problems: &mut Vec<Problem>) {
    // What could not be read completely may seem to say less than was meant.
    if effective.table.connection.deny() || !effective.entry.complete {
        return;
    }
    identity(root, effective, problems);
    let is_said = effective.knows_server() || !networks(effective).is_empty();
    if is_said || effective.inert("headers").is_some() {
        return;
    }
    let mut told = Vec::new();
    headers(effective, &effective.table.exchange, &path(effective), &mut told, problems);
    for route in &effective.routes {
        let path = format!("{}.route.{}", path(effective), segment(&route.name));
        headers(effective, &route.table.exchange, &path, &mut told, problems);
    }
}

/// Credentials among the headers that are set, but for those that are `told` already.
fn headers(
    effective: &Effective<'_>,
    exchange: &Exchange,
    path: &str,
    told: &mut Vec<Place>,
    problems: &mut Vec<Problem>,
) {
    let (where_to, first) = match effective.table.connection.tls() {
        Switch::Off if effective.table.matches.hosts.is_some() => {
            ("in plain text to whatever server the app connects to", "turn `tls` on")
        }
        Switch::Off => ("in plain text to whatever server the app connects to", TLS_HOSTS),
        Switch::On(tls) if tls.danger_accept_any_certificate() => {
            ("to whoever answers, since no certificate is verified", "verify the server")
        }
        Switch::On(_) => ("to any server that is what the app calls it", STATE),
    };
    for pair in credentials(exchange).filter(|pair| !told.contains(&pair.place)).collect::<Vec<_>>() {
        told.push(pair.place);
        let message = format!("the credential `{}` of `{path}` would go {where_to}", pair.name);
        let help = format!(
            "{first}, or name its `endpoints`; or, if that is meant, say to which networks it may go: \
             `danger_plain_text_credentials = [\"10.0.0.0/8\"]`"
        );
        problems.push(Problem::new(pair.place, message).quiet().help(help));
    }
}

const TLS_HOSTS: &str = "turn `tls` on, and state `hosts` or `tls.server_name`";
const STATE: &str = "state `hosts`, `tls.server_name`, `tls.spiffe` or `tls.pins`";

/// What is presented to a server. Where roots of one's own alone vouch for servers, each of those may know who asks; a
/// certificate, unlike a header, is of no use to whoever has seen it.
fn identity(root: &Root, effective: &Effective<'_>, problems: &mut Vec<Problem>) {
    let Some(origination) = tls::origination(root, effective) else { return };
    let own_roots = origination.roots.iter().all(|root| matches!(root, RootSource::Pem(_)));
    let verified = origination.verify != Verify::Nothing;
    let has_endpoints = effective.table.connection.endpoints.is_some();
    if origination.identity.is_none() || has_endpoints || verified && (effective.knows_server() || own_roots)
    {
        return;
    }
    let Some(place) = identity_place(root, effective) else { return };
    let (where_to, first, roots) = match verified {
        false => ("to whoever answers, since no certificate is verified", "verify the server", ""),
        true => ("to any server that is what the app calls it", STATE, ", or only `tls.roots` of your own"),
    };
    let message = format!("the identity of `{}` would be presented {where_to}", path(effective));
    let help = format!("{first}{roots}, or name its `endpoints`; or present none: `tls.identity = false`");
    let problem = Problem::new(place, message).help(help);
    problems.push(match effective.is_implicit() {
        true => problem,
        false => problem.also(effective.entry.place, "the destination"),
    });
}

/// Where the identity that it presents is stated.
fn identity_place(root: &Root, effective: &Effective<'_>) -> Option<Place> {
    let own = effective.table.connection.tls().on().and_then(|tls| tls.identity.map(|own| own.place));
    own.or_else(|| root.identity.as_ref().map(|identity| identity.place))
}

fn path(effective: &Effective<'_>) -> String {
    match effective.is_implicit() {
        true => "defaults".into(),
        false => format!("destination.{}", segment(&effective.entry.name)),
    }
}
