//! Routes: what they come to, and those that can never match.
//!
//! A route can never match if each of its rules, for each of its methods, only says what rules before it say.
//! Those have the same path pattern (see [`crate::route`]), so routes are compared within one, by asking the
//! [`RouteIndex`] itself: who gets an [`Example`] that a rule with open parts matches gets all of them.

use std::{collections::BTreeMap, sync::Arc};

use super::{breaker_policy, matches, policy};
use crate::{
    effective::Effective,
    errors::Problem,
    model,
    raw::{Route, RouteMatch},
    route::{
        Condition, RouteMatcher,
        index::{Example, RouteIndex},
    },
    value::{
        collection::Entry,
        name::NamePattern,
        pairs::{Kind, Pairs},
        path::PathPattern,
    },
};

/// The routes of a destination by name, and how they are found.
pub(super) fn routes(effective: &Effective<'_>) -> (Vec<model::Route>, RouteIndex) {
    let ordered = by_name(&effective.routes);
    let route = |(index, entry): (usize, &&Entry<Route>)| model::Route {
        index,
        name: entry.name.as_str().into(),
        policy: Arc::new(policy::policy(&entry.table.exchange)),
        breaker: entry.table.own.breaker().map(|breaker| breaker_policy(&breaker)),
    };
    let matchers = ordered.iter().map(|entry| matcher(&entry.table.matches)).collect();
    (ordered.iter().enumerate().map(route).collect(), RouteIndex::new(matchers))
}

/// Reports each route of a destination that can never match.
pub(super) fn check(effective: &Effective<'_>, problems: &mut Vec<Problem>) {
    let mut of_path: BTreeMap<_, Vec<(&Entry<Route>, RouteMatcher)>> = BTreeMap::new();
    for route in by_name(&effective.routes) {
        hosts(effective, route, problems);
        // What could not be read completely may seem to match more than was meant.
        if !route.complete {
            continue;
        }
        let mut matcher = matcher(&route.table.matches);
        if matcher.is_everything() {
            problems.push(matches_everything(&effective.entry.name, route));
            continue;
        }
        let path = matcher.path.take();
        let which = path.map(|path: PathPattern| (path.segments().to_vec(), path.is_open()));
        of_path.entry(which).or_default().push((route, matcher));
    }
    let within = matches(&effective.table.matches).hosts;
    for routes in of_path.values() {
        unreachable(&within, routes, problems);
    }
}

/// Reports those of these routes, which have the same path, that get no request. `within` are the hosts of the
/// destination.
fn unreachable(
    within: &[NamePattern],
    routes: &[(&Entry<Route>, RouteMatcher)],
    problems: &mut Vec<Problem>,
) {
    let index = RouteIndex::new(routes.iter().map(|(_, matcher)| matcher.clone()).collect());
    for (own, (route, matcher)) in routes.iter().enumerate() {
        let mut winners = Vec::new();
        for host in possible_hosts(matcher, within) {
            for method in matcher.methods() {
                winners.extend(Example::of(matcher, host, method).ask(|request| index.find(request)));
            }
        }
        if winners.is_empty() || winners.contains(&own) {
            continue;
        }
        winners.sort_unstable();
        winners.dedup();
        let names: Vec<_> = winners.iter().map(|winner| format!("`{}`", routes[*winner].0.name)).collect();
        let label = match &names[..] {
            [one] => format!("{one} matches all of it, and comes first"),
            all => format!("{} match all of it, and come first", all.join(" and ")),
        };
        let message = format!("the route `{}` can never match", route.name);
        let mut problem = Problem::new(route.place, message).label(label);
        for winner in winners {
            problem = problem.also(routes[winner].0.place, "this one");
        }
        problems.push(problem.help("change what one of them matches, or make them one"));
    }
}

/// The hosts of requests that come to the destination and match; `None` stands for any.
fn possible_hosts<'a>(matcher: &'a RouteMatcher, within: &'a [NamePattern]) -> Vec<Option<&'a NamePattern>> {
    match within {
        [] => matcher.rules().collect(),
        _ if matcher.hosts.is_empty() => within.iter().map(Some).collect(),
        _ => {
            let overlaps = |own: &'a NamePattern| within.iter().filter_map(|outer| own.overlap(outer));
            matcher.hosts.iter().flat_map(overlaps).map(Some).collect()
        }
    }
}

/// Reports hosts that no request to the destination has.
fn hosts(effective: &Effective<'_>, route: &Entry<Route>, problems: &mut Vec<Problem>) {
    let (Some(own), Some(outer)) = (&route.table.matches.hosts, &effective.table.matches.hosts) else {
        return;
    };
    for host in &own.value.0.0 {
        if outer.value.0.values().any(|outer| outer.overlap(&host.value).is_some()) {
            continue;
        }
        let message = format!("this host can never match in the route `{}`", route.name);
        problems.push(
            Problem::new(host.place, message)
                .also(outer.place, format!("`{}` has these", effective.entry.name))
                .help("add it to the destination, or take it out of the route"),
        );
    }
}

fn matches_everything(destination: &str, route: &Entry<Route>) -> Problem {
    let message = format!("the route `{}` states nothing to match", route.name);
    Problem::new(route.place, message).help(format!(
        "state `path`, `hosts`, `methods`, `match_headers` or `query`; the policy of all its requests stands in \
         [destination.{destination}] itself"
    ))
}

fn by_name(routes: &[Entry<Route>]) -> Vec<&Entry<Route>> {
    let mut ordered: Vec<_> = routes.iter().collect();
    ordered.sort_by(|a, b| a.name.cmp(&b.name));
    ordered
}

fn matcher(raw: &RouteMatch) -> RouteMatcher {
    let headers = conditions(raw.match_headers()).map(|(name, value)| (name.to_ascii_lowercase(), value));
    RouteMatcher {
        path: raw.path(),
        hosts: super::list(raw.hosts()),
        methods: super::list(raw.methods()).into_iter().map(|method| method.0).collect(),
        headers: headers.collect(),
        query: conditions(raw.query()).collect(),
    }
}

fn conditions<K: Kind>(pairs: Option<Pairs<K>>) -> impl Iterator<Item = Condition> {
    let pairs = pairs.map(|pairs| pairs.0).unwrap_or_default();
    pairs.into_iter().map(|pair| (pair.name, (pair.value != "*").then_some(pair.value)))
}
