//! Headers: what one rule changes, and another one changes too, adds or goes by.

use crate::{
    errors::{Place, Problem},
    raw::{Exchange, Headers},
    value::{collection::Switch, http::check_changeable},
};

/// What `trace = true` writes in a form or another.
const CONTEXT: [&str; 7] =
    ["traceparent", "b3", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags"];

/// What is to become of a header.
#[derive(Clone, Copy, PartialEq)]
enum Change {
    Set,
    Removed,
}

impl Change {
    fn as_str(self) -> &'static str {
        if self == Change::Set { "set" } else { "removed" }
    }
}

/// What the rules for headers, inherited ones included, say against each other.
pub(super) fn check(exchange: &Exchange, problems: &mut Vec<Problem>) {
    let request = exchange.headers();
    set_and_removed(&request, problems);
    set_and_removed(&exchange.response_headers(), problems);
    for (name, change, place) in changes(&request) {
        added_too(exchange, &name, change, place, problems);
    }
    idempotency(exchange, &request, problems);
}

fn set_and_removed(headers: &Headers, problems: &mut Vec<Problem>) {
    let set = headers.set();
    for removed in &headers.remove().0 {
        let Some(pair) = set.find(&removed.value.0) else { continue };
        problems.push(
            Problem::new(removed.place, format!("the header `{}` is both set and removed", removed.value.0))
                .label("removed here")
                .also(pair.place, "set here")
                .help("`set` already replaces what was sent"),
        );
    }
}

/// A request would have a header twice, or lose what was asked for. A form of trace context may be removed all the same: the
/// trace may be in another one.
fn added_too(exchange: &Exchange, name: &str, change: Change, place: Place, problems: &mut Vec<Problem>) {
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    let adds = |key: &str| format!("`{key}` adds the header `{name}`, which is also {}", change.as_str());
    let (message, cause) = match (&exchange.request_id, &exchange.trace) {
        (Some(on), _) if on.value && is("x-request-id") => (adds("request_id"), on.place),
        (_, Some(on)) if on.value && change == Change::Set && CONTEXT.into_iter().any(is) => {
            (adds("trace"), on.place)
        }
        _ => return,
    };
    problems.push(
        Problem::new(place, message)
            .label(format!("{} here", change.as_str()))
            .also(cause, "added because of this")
            .help("leave one of them out"),
    );
}

/// What proves that a repetition is safe has to be the app's own, and to reach the server.
fn idempotency(exchange: &Exchange, request: &Headers, problems: &mut Vec<Problem>) {
    let retry = exchange.retry.as_ref().map(|retry| &retry.value);
    let Some(Switch::On(retry)) = retry else { return };
    let Some(header) = &retry.idempotency_header else { return };
    let name = &header.value.0;
    if check_changeable(name).is_err() {
        problems.push(
            Problem::new(header.place, format!("the header `{name}` is no idempotency key"))
                .label("it tells how or where a request is sent, not which one it is")
                .help("name the header by which the server recognises a repetition, as \"idempotency-key\""),
        );
    }
    for (changed, change, place) in changes(request) {
        if !changed.eq_ignore_ascii_case(name) {
            continue;
        }
        let label = match change {
            Change::Set => "set here: the same for all requests",
            Change::Removed => "removed here: the server does not get it",
        };
        problems.push(
            Problem::new(place, format!("the header `{changed}` cannot be an idempotency key any more"))
                .label(label)
                .also(header.place, "requests with it may be repeated")
                .help("leave one of them out"),
        );
    }
}

fn changes(headers: &Headers) -> impl Iterator<Item = (String, Change, Place)> {
    let set = headers.set().0.into_iter().map(|pair| (pair.name, Change::Set, pair.place));
    let removed = headers.remove().0.into_iter();
    set.chain(removed.map(|name| (name.value.0, Change::Removed, name.place)))
}
