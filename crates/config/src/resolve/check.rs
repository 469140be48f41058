//! Contradictions: what each key may say, but not together with another.
//!
//! The checks look at the effective values, so that a contradiction with an inherited one is found too,
//! and point to both places. A rule that can never match is one as well: whoever wrote it believes that it
//! does something.

use super::matches_of;
use std::net::SocketAddr;

use crate::{
    effective::Effective,
    errors::{Place, Problem},
    raw::{Connection, Exchange, Pool, Retry, Root},
    read::{Located, Value},
    table::Table,
    value::{collection::Switch, quantity::Deadline, trace::Receiver, word::Protocol},
};

/// The receiver of traces is another process.
pub(super) fn traces(root: &Root, problems: &mut Vec<Problem>) {
    let receiver = root.trace.as_ref().and_then(|trace| trace.value.endpoint.as_ref());
    let address = |receiver: &Receiver| Some(SocketAddr::new(receiver.host.parse().ok()?, receiver.port));
    if let Some((located, address)) = receiver.and_then(|it| Some((it, address(&it.value)?)))
        && super::listeners::of_flows(root).iter().any(|own| super::listeners::takes(*own, address))
    {
        problems.push(
            Problem::new(located.place, format!("{address} is dragoman's own listener"))
                .label("it does not receive traces")
                .help("give the address of the receiver; most listen on 4318"),
        );
    }
}

/// A few stories that push each other out would explain nothing.
pub(super) fn recorder(root: &Root, problems: &mut Vec<Problem>) {
    const LEAST: usize = 64 * 1024;
    let memory = root.recorder.as_ref().and_then(|recorder| recorder.value.memory.as_ref());
    if let Some(memory) = memory.filter(|memory| (1..LEAST).contains(&memory.value.0)) {
        problems.push(
            Problem::new(memory.place, "too little memory for the recorder")
                .label("room for hardly any story")
                .help("give it \"64KiB\" or more, or turn it off with 0"),
        );
    }
}

/// What `[defaults]` says about itself.
pub(super) fn defaults(root: &Root, problems: &mut Vec<Problem>) {
    let defaults = root.defaults();
    exchange(root, &defaults.exchange, &defaults.exchange, problems);
    connection(root, &defaults.connection, problems);
    super::tls::defaults(&defaults.connection, problems);
}

/// What one destination, with all that it inherits, says about itself.
pub(super) fn destination(root: &Root, effective: &Effective<'_>, problems: &mut Vec<Problem>) {
    let name = &effective.entry.name;
    exchange(root, &effective.entry.table.exchange, &effective.table.exchange, problems);
    connection(root, &effective.table.connection, problems);
    without_effect(effective, problems);
    if let (Some(sni), Protocol::Http) = (&effective.table.matches.sni, effective.table.connection.protocol())
    {
        let problem = Problem::new(sni.place, format!("`sni` can never match in `destination.{name}`"))
            .label("TLS is not HTTP")
            .help("leave `sni` or `protocol` out");
        problems.push(because(problem, effective.table.connection.protocol.as_ref()));
    }
    let own_routes = effective.entry.table.routes.route().0;
    for (own, route) in own_routes.iter().zip(&effective.routes) {
        exchange(root, &own.table.exchange, &route.table.exchange, problems);
    }
}

/// Destinations that can never match.
pub(super) fn reachable(root: &Root, effective: &[Effective<'_>], problems: &mut Vec<Problem>) {
    // What could not be read completely may seem to match more than was meant.
    let complete: Vec<_> =
        effective.iter().filter(|it| it.entry.complete).map(|it| (it.entry, matches_of(root, it))).collect();
    for (position, (entry, own)) in complete.iter().enumerate() {
        let Some((first, _)) = complete[..position].iter().find(|(_, other)| other.covers(own)) else {
            continue;
        };
        let problem = if own.is_everything() {
            Problem::new(
                entry.place,
                format!("`{}` matches everything, and so does `{}`", entry.name, first.name),
            )
            .label("states nothing to match")
            .help("state `hosts`, `sni`, `cidrs` or `ports`; the policy of all other traffic is [defaults]")
        } else {
            Problem::new(entry.place, format!("`{}` can never match", entry.name))
                .label(format!("`{}` matches the same, and comes first by name", first.name))
                .help("change what one of them matches, or make them one")
        };
        problems.push(problem.also(first.place, "this one"));
    }
}

/// Keys that the destination or one of its routes states itself, in vain.
fn without_effect(effective: &Effective<'_>, problems: &mut Vec<Problem>) {
    let mut stated = Vec::new();
    effective.entry.table.stated_keys("", &mut stated);
    for (key, place) in stated {
        let Some(reason) = effective.inert(&key) else { continue };
        let message = format!("`{key}` has no effect in `destination.{}`", effective.entry.name);
        let problem = Problem::new(place, message).help(format!("{}; leave one of them out", reason.text));
        problems.push(match reason.place {
            Some(cause) => problem.also(cause, "because of this"),
            None => problem,
        });
    }
}

fn exchange(root: &Root, own: &Exchange, exchange: &Exchange, problems: &mut Vec<Problem>) {
    // An inherited `try_timeout` may be longer: the shorter `timeout` is the more specific one, and wins.
    if let (Some(one), Some(all)) = (&own.try_timeout, &exchange.timeout)
        && one.value.0 > all.value.0
    {
        problems.push(
            Problem::new(one.place, "`try_timeout` is longer than `timeout`")
                .label(format!("one attempt: {}", Deadline::toml(&one.value)))
                .also(all.place, format!("all attempts: {}", Deadline::toml(&all.value)))
                .help("an attempt ends with its exchange, so give it less"),
        );
    }
    if let Some(Switch::On(settings)) = exchange.retry.as_ref().map(|retry| &retry.value) {
        retry(root, settings, problems);
    }
    super::headers::check(exchange, problems);
}

fn retry(root: &Root, retry: &Retry, problems: &mut Vec<Problem>) {
    if retry.base().0 > retry.cap().0 {
        let message =
            format!("`base` ({}) is longer than `cap` ({})", retry.base().toml(), retry.cap().toml());
        let problem = between(message, place(retry.base.as_ref()), place(retry.cap.as_ref()), "the cap");
        problems.extend(problem.map(|problem| {
            problem.label("every wait would be cut to the cap").help("make `base` the smaller one")
        }));
    }
    let all = root.proxy();
    // The default of one exchange may be more than all have: `proxy.replay_bytes = 0` turns replay off.
    if let Some(one) = &retry.replay_bytes
        && one.value.0 > all.replay_bytes().0
    {
        let message = format!(
            "`replay_bytes` of one exchange ({}) is more than `proxy.replay_bytes` ({})",
            one.value.toml(),
            all.replay_bytes().toml()
        );
        let problem =
            between(message, Some(one.place), place(all.replay_bytes.as_ref()), "all exchanges together");
        problems.extend(problem.map(|problem| problem.help("make `proxy.replay_bytes` the larger one")));
    }
    let Some(budget) = &retry.budget else { return };
    if budget.value.ratio().0 == 0.0 && budget.value.min_per_second().0 == 0 {
        problems.push(
            Problem::new(budget.place, "this budget never allows a retry")
                .label("`ratio` and `min_per_second` are both 0")
                .help("for no retries, write `retry = false`"),
        );
    }
}

fn connection(root: &Root, connection: &Connection, problems: &mut Vec<Problem>) {
    endpoints(root, connection, problems);
    super::tls::connection(connection, problems);
    if let Some(Switch::On(settings)) = connection.pool.as_ref().map(|pool| &pool.value) {
        pool(settings, problems);
    }
}

fn pool(pool: &Pool, problems: &mut Vec<Problem>) {
    let warm = pool.min_warm().0;
    let limits = [
        ("max_idle", Some(pool.max_idle().0), place(pool.max_idle.as_ref())),
        ("max_size", pool.max_size().map(|size| size.0), place(pool.max_size.as_ref())),
    ];
    for (name, limit, place_of_limit) in limits {
        let Some(limit) = limit.filter(|limit| warm > *limit) else { continue };
        let message = format!("`min_warm` ({warm}) is more than `{name}` ({limit})");
        let problem = between(message, place(pool.min_warm.as_ref()), place_of_limit, "the limit");
        problems.extend(problem.map(|problem| problem.help(format!("make `{name}` the larger one"))));
    }
}

fn endpoints(root: &Root, connection: &Connection, problems: &mut Vec<Problem>) {
    let own = super::listeners::of_flows(root);
    for item in connection.endpoints.iter().flat_map(|list| &list.value.0.0) {
        if own.iter().any(|own| super::listeners::takes(*own, item.value.0)) {
            problems.push(
                Problem::new(item.place, format!("{} is dragoman's own listener", item.value.0))
                    .label("the flow would come back for ever")
                    .help("give the address of the server"),
            );
        }
    }
}

/// Two values that contradict each other, told at the first if it is stated. Defaults agree with each other.
fn between(message: String, first: Option<Place>, second: Option<Place>, label: &str) -> Option<Problem> {
    match (first, second) {
        (Some(here), Some(other)) => Some(Problem::new(here, message).also(other, label)),
        (here, other) => here.or(other).map(|here| Problem::new(here, message)),
    }
}

fn place<T>(located: Option<&Located<T>>) -> Option<Place> {
    located.map(|located| located.place)
}

fn because<T>(problem: Problem, cause: Option<&Located<T>>) -> Problem {
    match place(cause) {
        Some(place) => problem.also(place, "because of this"),
        None => problem,
    }
}
