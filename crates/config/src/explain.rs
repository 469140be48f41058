//! Why a flow or a request falls under this destination and route, and not under others: what the look-up decides, and
//! for each candidate that it passed over, the first thing that spoke against it.
//!
//! The answer itself is the look-up's own. What is said about the others comes from the same matchers, one by one, and so
//! takes as long as there are rules: for a person who asks, not for an exchange.

use std::cmp::Reverse;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::{
    Config,
    model::{Destination, Name, Request},
    route::{RouteMatcher, View},
    select::DestinationMatch,
    value::name::{NamePattern, comparable, without_port},
};

/// The most candidates of a kind that are told of.
const MOST: usize = 8;

/// Why a destination and a route were chosen.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The destination.
    pub destination: Arc<Destination>,
    /// What of it matched.
    pub because: String,
    /// Destinations that were passed over: those that came closest.
    pub destinations: Passed,
    /// The route, by its place in [`Destination::routes`]; `None` is the destination's own policy.
    pub route: Option<usize>,
    /// What of it matched; empty without one.
    pub route_because: String,
    /// Routes of that destination that were passed over.
    pub routes: Passed,
}

/// Candidates that were passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Names and reasons, those that came closest first.
    pub told: Vec<(Arc<str>, String)>,
    /// How many more there are.
    pub others: usize,
}

/// What is known of the request.
#[derive(Clone, Copy)]
pub enum Known<'r, 'a> {
    /// Nothing, or there is none: nothing is said about routes.
    Nothing,
    /// All of it.
    All(&'r Request<'a>),
    /// Neither headers nor the query, but the name of the route that it fell under; empty is none.
    Recorded(&'r Request<'a>, &'r str),
}

/// What speaks for and against one candidate.
#[derive(Debug, Default)]
struct Judged {
    fits: Vec<String>,
    faults: Vec<String>,
}

impl Judged {
    fn note(&mut self, fits: bool, fit: impl FnOnce() -> String, fault: impl FnOnce() -> String) {
        if fits { self.fits.push(fit()) } else { self.faults.push(fault()) }
    }
}

impl Config {
    /// What [`lookup`](Config::lookup) and [`Destination::route`] decide, and why not otherwise.
    pub fn explain(&self, dst: SocketAddr, name: Name<'_>, known: Known<'_, '_>) -> Explanation {
        let destination = self.lookup(dst, name);
        let (because, destinations) = match self.at_listener(dst) {
            Some(_) => (format!("the plain port {dst} leads to it"), Passed::default()),
            None => {
                let address = SocketAddr::new(dst.ip().to_canonical(), dst.port());
                let judged = judge_destination(&destination.matches, address, name);
                let because = match destination.matches.is_everything() {
                    true => "no other destination matches".to_owned(),
                    false => sentence(&judged.fits),
                };
                (because, self.passed(destination, address, name))
            }
        };
        let (route, route_because, routes) = match known {
            Known::Nothing => (None, String::new(), Passed::default()),
            Known::All(request) => {
                let chosen = destination.route(request).map(|route| route.index);
                explain_route(destination, request, chosen, false)
            }
            Known::Recorded(request, name) => {
                let chosen = destination.routes.iter().position(|route| &*route.name == name);
                explain_route(destination, request, chosen, true)
            }
        };
        Explanation {
            destination: Arc::clone(destination),
            because,
            destinations,
            route,
            route_because,
            routes,
        }
    }

    fn passed(&self, chosen: &Arc<Destination>, address: SocketAddr, name: Name<'_>) -> Passed {
        let rank = |destination: &Destination| {
            let rank = destination.matches.by_address(address).unwrap_or_default();
            (name_rank(&destination.matches, name), rank)
        };
        let best = rank(chosen);
        let judged = self.destinations().iter().filter(|it| it.name != chosen.name).map(|it| {
            let judged = judge_destination(&it.matches, address, name);
            let own = rank(it);
            let weaker = match () {
                () if it.matches.is_everything() => "is for what no other destination matches",
                () if own.0 < best.0 => "matches too, and names the host less exactly",
                () if own.1.0 < best.1.0 => "matches too, by a wider network",
                () if own.1.1 < best.1.1 => "matches too, by a wider range of ports",
                () => "matches as exactly, and comes later by name",
            };
            (Arc::clone(&it.name), judged, weaker)
        });
        closest(judged.collect())
    }
}

/// Those that have the most for them and the least against them.
fn closest(mut judged: Vec<(Arc<str>, Judged, &'static str)>) -> Passed {
    judged.sort_by_key(|(_, judged, _)| (judged.faults.len(), Reverse(judged.fits.len())));
    let near = judged.iter().filter(|(_, judged, _)| judged.faults.is_empty() || !judged.fits.is_empty());
    // Where nothing came close, a few are told of all the same: perhaps one of them was meant.
    let told = near.count().clamp(judged.len().min(3), MOST);
    let others = judged.len() - told;
    let tell = |(name, judged, weaker): (Arc<str>, Judged, &str)| {
        let why = if judged.faults.is_empty() { weaker.to_owned() } else { sentence(&judged.faults) };
        (name, why)
    };
    Passed { told: judged.into_iter().take(told).map(tell).collect(), others }
}

fn judge_destination(matches: &DestinationMatch, address: SocketAddr, name: Name<'_>) -> Judged {
    let mut judged = Judged::default();
    if matches.by_port_alone {
        judged.faults.push("only its plain port leads to it".to_owned());
    }
    if matches.is_named() {
        let found = pattern_of(matches, name);
        judged.note(
            found.is_some(),
            || found.map_or_else(String::new, |(key, pattern)| format!("`{key}` has {}", shown(pattern))),
            || match name {
                Name::None => "it states a name, and none is known".to_owned(),
                Name::Host(host) if matches.hosts.is_empty() => {
                    format!("it states `sni`, and {host:?} is the host of HTTP")
                }
                Name::Host(host) => format!("{host:?} is none of its `hosts`"),
                Name::Sni(_) if matches.sni.is_empty() => {
                    "it states `hosts`, and TLS hides the host".to_owned()
                }
                Name::Sni(sni) => format!("{sni:?} is none of its `sni`"),
            },
        );
    }
    let networks = || matches.cidrs.iter().filter(|cidr| cidr.contains(&address.ip()));
    if !matches.cidrs.is_empty() {
        let narrowest = networks().max_by_key(|cidr| cidr.prefix_len());
        judged.note(
            narrowest.is_some(),
            || narrowest.map_or_else(String::new, |cidr| format!("`cidrs` has {cidr}")),
            || format!("{} is in none of its `cidrs`", address.ip()),
        );
    }
    if !matches.ports.is_empty() {
        let port = address.port();
        let fits = matches.ports.iter().any(|ports| (ports.first..=ports.last).contains(&port));
        judged.note(fits, || format!("`ports` has {port}"), || format!("{port} is none of its `ports`"));
    }
    judged
}

/// The most specific of the patterns that match the name.
fn pattern_of<'m>(matches: &'m DestinationMatch, name: Name<'_>) -> Option<(&'static str, &'m NamePattern)> {
    let (key, patterns, name) = match name {
        Name::None => return None,
        Name::Host(host) => ("hosts", &matches.hosts, without_port(host)),
        Name::Sni(name) => ("sni", &matches.sni, name),
    };
    let name = comparable(name)?;
    let found = patterns.iter().filter(|pattern| pattern.matches(&name)).max_by_key(|it| it.rank());
    found.map(|pattern| (key, pattern))
}

fn name_rank(matches: &DestinationMatch, name: Name<'_>) -> usize {
    pattern_of(matches, name).map_or(0, |(_, pattern)| pattern.rank())
}

fn shown(pattern: &NamePattern) -> String {
    match pattern {
        NamePattern::Exact(name) => format!("{name:?}"),
        NamePattern::Below(name) => format!("\"*.{name}\""),
    }
}

fn explain_route(
    destination: &Destination,
    request: &Request<'_>,
    chosen: Option<usize>,
    recorded: bool,
) -> (Option<usize>, String, Passed) {
    let view = View::new(request);
    let matchers = destination.route_index.matchers();
    let best = chosen.and_then(|index| matchers[index].rank_by_host(&view));
    let because = chosen
        .map_or_else(String::new, |index| sentence(&judge_route(&matchers[index], &view, recorded).fits));
    let judged = destination.routes.iter().filter(|route| Some(route.index) != chosen).map(|route| {
        let own = matchers[route.index].rank_by_host(&view);
        let weaker = match (&own, &best) {
            (Some(own), Some(best)) if own.0 < best.0 => "matches too, by a less specific path",
            (Some(own), Some(best)) if own.1 < best.1 => "matches too, by a less specific host",
            (Some(own), Some(best)) if !own.2 && best.2 => "matches too, by any method",
            (Some(own), Some(best)) if own < best => "matches too, by fewer conditions",
            _ => "matches as exactly, and comes later by name",
        };
        (Arc::clone(&route.name), judge_route(&matchers[route.index], &view, recorded), weaker)
    });
    (chosen, because, closest(judged.collect()))
}

fn judge_route(matcher: &RouteMatcher, view: &View<'_, '_>, recorded: bool) -> Judged {
    let mut judged = Judged::default();
    if let Some(path) = &matcher.path {
        let text = path.text();
        let seen = view.path();
        judged.note(
            path.matches(seen),
            || format!("`path` is {text:?}"),
            || format!("the path is not {text:?}"),
        );
    }
    if !matcher.hosts.is_empty() {
        let found = matcher.hosts.iter().find(|host| host.matches(view.host()));
        judged.note(
            found.is_some(),
            || found.map_or_else(String::new, |host| format!("`hosts` has {}", shown(host))),
            || "the host is none of its `hosts`".to_owned(),
        );
    }
    if !matcher.methods.is_empty() {
        let method = view.request().method;
        judged.note(
            matcher.methods.iter().any(|own| own == method),
            || format!("`methods` has {method}"),
            || format!("the method is none of {}", matcher.methods.join(", ")),
        );
    }
    if recorded {
        let names = matcher.headers.iter().map(|(name, _)| ("header", name));
        let names = names.chain(matcher.query.iter().map(|(name, _)| ("parameter", name)));
        let unknown = |(noun, name)| format!("it needs the {noun} {name:?}, and those are not recorded");
        judged.faults.extend(names.map(unknown));
        return judged;
    }
    for (name, wanted) in &matcher.headers {
        let found = (view.request().header)(name);
        judge_condition(&mut judged, "header", name, wanted.as_deref(), found);
    }
    for (name, wanted) in &matcher.query {
        judge_condition(&mut judged, "parameter", name, wanted.as_deref(), view.parameter(name));
    }
    judged
}

/// Values may be secret, on both sides: only names are told.
fn judge_condition(judged: &mut Judged, noun: &str, name: &str, wanted: Option<&str>, found: Option<&[u8]>) {
    let fits = found.is_some_and(|found| wanted.is_none_or(|wanted| wanted.as_bytes() == found));
    let fault = if found.is_none() { "is missing" } else { "has another value" };
    judged.note(
        fits,
        || format!("the {noun} {name:?} is as it states"),
        || format!("the {noun} {name:?} {fault}"),
    );
}

fn sentence(parts: &[String]) -> String {
    parts.join(", ")
}
