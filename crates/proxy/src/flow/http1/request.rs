//! The request head as it goes upstream: the app's own bytes, with policy's fields added or replaced and the
//! hop-by-hop ones handled.

use std::ops::Range;

use dragoman_config::HeaderRules;
use dragoman_wire::http1::{Field, Known, RequestHead, list};

use crate::flow::exchange::trace::{Trace, request_id};

/// What of the connection's own fields is not passed on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HopByHop {
    /// The app closes after this exchange, the upstream connection goes back to the pool.
    pub(super) strip_close: bool,
    /// An upgrade to HTTP/2 would take the flow out of the reach of policy.
    pub(super) strip_h2c: bool,
}

/// What of a head that was written is looked at later: places in it.
#[derive(Debug)]
pub(super) struct Written {
    /// The request id that it carries.
    pub(super) request_id: Option<Range<usize>>,
    /// The span in its trace context.
    pub(super) span: Option<usize>,
}

/// Appends the head, whose bytes `head` was parsed from, with its final empty line. `trace` goes upstream with it.
pub(super) fn write_head(
    out: &mut Vec<u8>,
    head: &RequestHead,
    bytes: &[u8],
    rules: &HeaderRules,
    hop: HopByHop,
    trace: Option<&Trace>,
) -> Written {
    let h2c = hop.strip_h2c && upgrades_to_h2c(head, bytes);
    // Else a sender could have it removed by the next one on the way (RFC 9110 §7.6.1).
    let claims = |option: &[u8]| sets(rules, option);
    let claimed = !rules.set.is_empty() && claims_some(head, bytes, claims);
    let rewrites_connection = h2c || claimed || hop.strip_close && head.connection().close;
    head.copy_without(out, bytes, |field| match field.known {
        Known::Connection => rewrites_connection,
        Known::Upgrade | Known::Http2Settings => h2c,
        known => trace.is_some_and(|trace| trace.replaces(known)) || rules_replace(rules, field, bytes),
    });
    if rewrites_connection {
        write_connection(out, head, bytes, hop.strip_close, h2c, claims);
    }
    if h2c {
        write_other_upgrades(out, head, bytes);
    }
    let start = out.len();
    let span = trace.and_then(|trace| {
        trace.write(|name, value| write_field(out, name, value));
        trace.find_span(&out[start..]).map(|at| start + at)
    });
    for (name, value) in &rules.set {
        write_field(out, name, value.as_bytes());
    }
    let request_id = match head.find(Known::XRequestId) {
        Some(field) => find_value(out, field.value.of(bytes)),
        None if rules.request_id => {
            write_field(out, "x-request-id", &request_id());
            Some(out.len() - "\r\n".len() - 36..out.len() - "\r\n".len())
        }
        None => None,
    };
    out.extend_from_slice(b"\r\n");
    Written { request_id, span }
}

fn rules_replace(rules: &HeaderRules, field: &Field, bytes: &[u8]) -> bool {
    if rules.set.is_empty() && rules.remove.is_empty() {
        return false;
    }
    let name = field.name.of(bytes);
    let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
    sets(rules, name) || rules.remove.iter().any(|removed| is(removed))
}

pub(super) fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// The first place of `value` in what was written: the head is short, and only the log wants it.
fn find_value(out: &[u8], value: &[u8]) -> Option<Range<usize>> {
    if value.is_empty() {
        return None;
    }
    let start = out.windows(value.len()).position(|window| window == value)?;
    Some(start..start + value.len())
}

fn upgrades_to_h2c(head: &RequestHead, bytes: &[u8]) -> bool {
    head.fields()
        .iter()
        .filter(|field| field.known == Known::Upgrade)
        .any(|field| list(field.value.of(bytes)).any(|token| token.eq_ignore_ascii_case(b"h2c")))
}

/// The items of every field of that name, but those that `drop` names, on one line; no line if none is left.
fn write_list(
    out: &mut Vec<u8>,
    head: &RequestHead,
    bytes: &[u8],
    (known, name): (Known, &str),
    drop: impl Fn(&[u8]) -> bool,
) {
    let kept: Vec<&[u8]> = head
        .fields()
        .iter()
        .filter(|field| field.known == known)
        .flat_map(|field| list(field.value.of(bytes)))
        .filter(|item| !drop(item))
        .collect();
    if !kept.is_empty() {
        write_field(out, name, &kept.join(&b", "[..]));
    }
}

/// Whether policy sets a field of this name.
fn sets(rules: &HeaderRules, name: &[u8]) -> bool {
    rules.set.iter().any(|(set, _)| name.eq_ignore_ascii_case(set.as_bytes()))
}

/// Whether the head calls a field its connection's own that `claimed` names.
fn claims_some(head: &RequestHead, bytes: &[u8], claimed: impl Fn(&[u8]) -> bool) -> bool {
    let connection = head.fields().iter().filter(|field| field.known == Known::Connection);
    connection.flat_map(|field| list(field.value.of(bytes))).any(claimed)
}

fn write_connection(
    out: &mut Vec<u8>,
    head: &RequestHead,
    bytes: &[u8],
    strip_close: bool,
    h2c: bool,
    claimed: impl Fn(&[u8]) -> bool,
) {
    let others = h2c && has_other_upgrades(head, bytes);
    write_list(out, head, bytes, (Known::Connection, "Connection"), |item| {
        let is = |name: &[u8]| item.eq_ignore_ascii_case(name);
        claimed(item)
            || strip_close && is(b"close")
            || h2c && (is(b"http2-settings") || is(b"upgrade") && !others)
    });
}

fn has_other_upgrades(head: &RequestHead, bytes: &[u8]) -> bool {
    head.fields()
        .iter()
        .filter(|field| field.known == Known::Upgrade)
        .any(|field| list(field.value.of(bytes)).any(|token| !token.eq_ignore_ascii_case(b"h2c")))
}

fn write_other_upgrades(out: &mut Vec<u8>, head: &RequestHead, bytes: &[u8]) {
    write_list(out, head, bytes, (Known::Upgrade, "Upgrade"), |token| token.eq_ignore_ascii_case(b"h2c"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::exchange::trace::tests::unrecorded;
    use dragoman_wire::http1::Limits;

    const NONE: HeaderRules =
        HeaderRules { request_id: false, trace: false, set: Vec::new(), remove: Vec::new() };

    fn written(request: &str, rules: &HeaderRules, hop: HopByHop) -> String {
        let mut head = RequestHead::default();
        let length = head.parse(request.as_bytes(), &Limits::default()).unwrap().unwrap();
        assert_eq!(length, request.len());
        let mut out = Vec::new();
        let bytes = request.as_bytes();
        let trace =
            rules.trace.then(|| unrecorded(|known| head.find(known).map(|field| field.value.of(bytes))));
        let written = write_head(&mut out, &head, bytes, rules, hop, trace.as_ref());
        assert_eq!(written.span.is_some(), rules.trace);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn h1_a_head_without_policy_is_the_same_bytes() {
        let request = "GET /a%2Fb;c/../d?x=%20 HTTP/1.1\r\nhOsT: a:80\r\nX-Dup: 1\r\nx-dup:   2 \r\nX-DUP:3\r\n\
                       Connection: close, X-Hop\r\nUpgrade: h2c\r\n\r\n";
        assert_eq!(written(request, &NONE, HopByHop::default()), request);
    }

    #[test]
    fn rules_replace_and_remove_in_any_case() {
        let rules = HeaderRules {
            set: vec![("x-team".into(), "blue".into())],
            remove: vec!["x-debug".into()],
            ..NONE
        };
        let request = "GET / HTTP/1.1\r\nHost: a\r\nX-TEAM: red\r\nX-Debug: 1\r\nA: b\r\n\r\n";
        let expected = "GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nx-team: blue\r\n\r\n";
        assert_eq!(written(request, &rules, HopByHop::default()), expected);
    }

    #[test]
    fn what_policy_sets_is_not_the_connections_own_whatever_the_sender_says() {
        let rules = HeaderRules { set: vec![("x-client".into(), "web".into())], ..NONE };
        let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Hop, X-CLIENT\r\nConnection: x-client\r\nX-Hop: 1\r\n\r\n";
        let expected = "GET / HTTP/1.1\r\nHost: a\r\nX-Hop: 1\r\nConnection: X-Hop\r\nx-client: web\r\n\r\n";
        assert_eq!(written(request, &rules, HopByHop::default()), expected);
        let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let expected = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nx-client: web\r\n\r\n";
        assert_eq!(written(request, &rules, HopByHop::default()), expected);
    }

    #[test]
    fn close_is_kept_from_a_pooled_connection() {
        let hop = HopByHop { strip_close: true, strip_h2c: false };
        let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Hop, Close\r\nX-Hop: 1\r\n\r\n";
        let expected = "GET / HTTP/1.1\r\nHost: a\r\nX-Hop: 1\r\nConnection: X-Hop\r\n\r\n";
        assert_eq!(written(request, &NONE, hop), expected);
        let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        assert_eq!(written(request, &NONE, hop), "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }

    #[test]
    fn an_upgrade_to_http2_is_stripped_and_no_other() {
        let hop = HopByHop { strip_close: false, strip_h2c: true };
        let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
                       HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
        assert_eq!(written(request, &NONE, hop), "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c, websocket\r\n\r\n";
        let expected = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        assert_eq!(written(request, &NONE, hop), expected);
        let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: TLS/1.2\r\n\r\n";
        assert_eq!(written(request, &NONE, hop), request);
    }

    #[test]
    fn a_request_id_is_added_only_where_there_is_none() {
        let rules = HeaderRules { request_id: true, ..NONE };
        let request = "GET / HTTP/1.1\r\nHost: a\r\nX-Request-ID: mine\r\n\r\n";
        assert_eq!(written(request, &rules, HopByHop::default()), request);
        let added = written("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &rules, HopByHop::default());
        let id = added.split("x-request-id: ").nth(1).unwrap().trim_end();
        let shape: String = id.chars().map(|c| if c.is_ascii_hexdigit() { 'x' } else { c }).collect();
        assert_eq!(shape, "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx");
        assert_eq!(&id[14..15], "4");
        assert!(matches!(&id[19..20], "8" | "9" | "a" | "b"));
    }

    #[test]
    fn a_trace_is_continued_in_the_form_it_came_in() {
        let rules = HeaderRules { trace: true, ..NONE };
        let trace = |fields: &str| {
            written(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"), &rules, HopByHop::default())
        };
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let w3c = trace(&format!("Traceparent: 00-{id}-00f067aa0ba902b7-01\r\ntracestate: a=b\r\n"));
        assert_eq!(w3c.matches("raceparent").count(), 1);
        assert!(w3c.contains(&format!("traceparent: 00-{id}-")) && w3c.contains("-01\r\n"), "{w3c}");
        assert!(w3c.contains("tracestate: a=b") && !w3c.contains("00f067aa0ba902b7"), "{w3c}");

        let b3 = trace(&format!("b3: {id}-00f067aa0ba902b7-1\r\n"));
        assert!(b3.contains(&format!("b3: {id}-")) && b3.contains("-1-00f067aa0ba902b7\r\n"), "{b3}");
        assert!(!b3.contains("traceparent"), "{b3}");

        let multi =
            trace(&format!("X-B3-TraceId: {id}\r\nX-B3-SpanId: 00f067aa0ba902b7\r\nX-B3-Sampled: 0\r\n"));
        assert!(multi.contains("X-B3-ParentSpanId: 00f067aa0ba902b7\r\n"), "{multi}");
        assert_eq!(multi.matches("X-B3-SpanId").count(), 1);

        let new = trace("");
        assert!(new.contains("traceparent: 00-"), "{new}");
        let broken = trace("traceparent: 00-zz\r\ntracestate: a=b\r\n");
        assert!(!broken.contains("zz") && !broken.contains("tracestate"), "{broken}");
    }
}
