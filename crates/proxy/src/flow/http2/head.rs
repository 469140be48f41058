//! The request head as it goes upstream, with policy's fields; and what it says about gRPC.

use std::time::Instant;

use dragoman_config::HeaderRules;
use dragoman_policy::{format_grpc_timeout, parse_grpc_timeout};
use dragoman_wire::http1::Known;
use http::header::{CONTENT_TYPE, EXPECT, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};

use crate::flow::exchange::response::Changes;
use crate::flow::exchange::trace::{Trace, request_id};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const PREVIOUS_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

/// The host that a request is for, without port: of `:authority`, else of Host.
pub(super) fn host<T>(request: &Request<T>) -> &str {
    if let Some(host) = request.uri().host() {
        return host;
    }
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Gives a request that names its host in Host alone, as HTTP/2 allows, an authority too: a request cannot be sent on without.
pub(super) fn name_authority(request: &mut Request<()>) {
    if request.uri().authority().is_some() {
        return;
    }
    let Some(host) = request.headers().get(HOST).and_then(|host| host.to_str().ok()) else { return };
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let uri = Uri::builder().scheme("http").authority(host).path_and_query(target).build();
    // What is no authority is refused when it is sent.
    if let Ok(uri) = uri {
        *request.uri_mut() = uri;
    }
}

/// Whether the fields exceed the limits of a head. A field counts as RFC 9113 §6.5.2 has it: name, value and 32 bytes.
pub(super) fn is_too_large(headers: &HeaderMap, limits: &dragoman_config::Proxy) -> bool {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    bytes > limits.max_head_bytes || headers.len() > limits.max_headers
}

/// Whether the exchange is a gRPC call.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| {
        let value = value.as_bytes();
        let rest = value.strip_prefix(b"application/grpc");
        rest.is_some_and(|rest| matches!(rest, [] | [b'+' | b';' | b' ', ..]))
    })
}

/// Whether the app waits for leave to send its body (RFC 9110 §10.1.1).
pub(super) fn expects_leave(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Applies policy's rules to the fields of a request; `trace` goes upstream with it.
pub(super) fn apply(headers: &mut HeaderMap, rules: &HeaderRules, trace: Option<&Trace>) {
    if let Some(trace) = trace {
        for known in TRACE {
            if let (true, Some(name)) = (trace.replaces(known), known_name(known)) {
                headers.remove(name);
            }
        }
        apply_trace(headers, trace);
    }
    for name in &rules.remove {
        headers.remove(name.as_str());
    }
    for (name, value) in &rules.set {
        insert(headers, name, value.as_bytes());
    }
    if rules.request_id && !headers.contains_key(REQUEST_ID) {
        insert(headers, REQUEST_ID.as_str(), &request_id());
    }
}

/// Sets the fields of a trace context.
pub(super) fn apply_trace(headers: &mut HeaderMap, trace: &Trace) {
    trace.write(|name, value| insert(headers, name, value));
}

/// The value of a field that tells of a trace.
pub(super) fn trace_field(headers: &HeaderMap, known: Known) -> Option<&[u8]> {
    headers.get(known_name(known)?).map(HeaderValue::as_bytes)
}

/// Applies policy's changes to the fields of a response.
pub(super) fn apply_changes(headers: &mut HeaderMap, changes: &Changes<'_>) {
    let dropped: Vec<HeaderName> =
        headers.keys().filter(|name| changes.drops(name.as_str().as_bytes())).cloned().collect();
    for name in dropped {
        headers.remove(name);
    }
    changes.write(|name, value| {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value))
        {
            headers.append(name, value);
        }
    });
}

/// The request id that the fields carry.
pub(super) fn request_id_of(headers: &HeaderMap) -> &str {
    headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default()
}

/// The attempts that the app's own library made before this request.
pub(super) fn previous_attempts(headers: &HeaderMap) -> u32 {
    let value = headers.get(PREVIOUS_ATTEMPTS).and_then(|value| value.to_str().ok());
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// Tells the server of a repeated call how many attempts came before it, and what is left of its time.
pub(super) fn repeat_grpc(headers: &mut HeaderMap, attempts_before: u32, started: Instant, now: Instant) {
    headers.insert(PREVIOUS_ATTEMPTS, HeaderValue::from(attempts_before));
    if let Some(left) =
        grpc_deadline(headers, started).map(|deadline| deadline.saturating_duration_since(now))
        && let Ok(value) = HeaderValue::from_str(&format_grpc_timeout(left))
    {
        headers.insert(TIMEOUT, value);
    }
}

/// When the time of a gRPC call is over.
pub(super) fn grpc_deadline(headers: &HeaderMap, started: Instant) -> Option<Instant> {
    let timeout = parse_grpc_timeout(headers.get(TIMEOUT)?.to_str().ok()?)?;
    started.checked_add(timeout)
}

const TRACE: [Known; 8] = [
    Known::Traceparent,
    Known::Tracestate,
    Known::B3,
    Known::XB3TraceId,
    Known::XB3SpanId,
    Known::XB3ParentSpanId,
    Known::XB3Sampled,
    Known::XB3Flags,
];

fn known_name(known: Known) -> Option<&'static str> {
    Some(match known {
        Known::Traceparent => "traceparent",
        Known::Tracestate => "tracestate",
        Known::B3 => "b3",
        Known::XB3TraceId => "x-b3-traceid",
        Known::XB3SpanId => "x-b3-spanid",
        Known::XB3ParentSpanId => "x-b3-parentspanid",
        Known::XB3Sampled => "x-b3-sampled",
        Known::XB3Flags => "x-b3-flags",
        _ => return None,
    })
}

/// Sets a field whose name and value policy or a tracer has written: both are valid, or are left out.
fn insert(headers: &mut HeaderMap, name: &str, value: &[u8]) {
    if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value)) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::exchange::trace::tests::unrecorded;
    use std::time::Duration;

    fn request(fields: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().uri("http://a.test:80/x?y");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn finds_the_host() {
        assert_eq!(host(&request(&[("host", "b.test")])), "a.test");
        let mut only_host = request(&[("host", "b.test:8080")]);
        *only_host.uri_mut() = "/x".parse().unwrap();
        assert_eq!(host(&only_host), "b.test");
        name_authority(&mut only_host);
        assert_eq!(only_host.uri(), "http://b.test:8080/x");
    }

    #[test]
    fn knows_grpc_by_its_content_type() {
        for (value, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=x", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            assert_eq!(is_grpc(request(&[("content-type", value)]).headers()), expected, "{value}");
        }
    }

    #[test]
    fn applies_the_rules_of_policy() {
        let rules = HeaderRules {
            request_id: true,
            trace: true,
            set: vec![("X-Team".into(), "blue".into())],
            remove: vec!["x-debug".into()],
        };
        let mut request = request(&[
            ("x-debug", "1"),
            ("x-team", "red"),
            ("x-kept", "1"),
            ("b3", "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1"),
        ]);
        let trace = unrecorded(|known| trace_field(request.headers(), known));
        apply(request.headers_mut(), &rules, Some(&trace));
        let headers = request.headers();
        assert!(!headers.contains_key("x-debug") && !headers.contains_key("traceparent"));
        assert_eq!(
            (&headers["x-team"], &headers["x-kept"]),
            (&"blue".parse().unwrap(), &"1".parse().unwrap())
        );
        assert!(headers["b3"].to_str().unwrap().ends_with("-1-00f067aa0ba902b7"));
        assert_eq!(request_id_of(headers).len(), 36);
    }

    #[test]
    fn a_repeated_call_has_less_time() {
        let mut request = request(&[("grpc-timeout", "2S")]);
        let started = Instant::now();
        repeat_grpc(request.headers_mut(), 1, started, started + Duration::from_millis(500));
        assert_eq!(request.headers()["grpc-previous-rpc-attempts"], "1");
        let left = parse_grpc_timeout(request.headers()["grpc-timeout"].to_str().unwrap()).unwrap();
        assert_eq!(left, Duration::from_millis(1500));
    }
}
