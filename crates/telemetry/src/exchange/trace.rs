//! What is remembered of an exchange whose trace is recorded, and the spans that it becomes: one of its own,
//! and below it one for each attempt.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU128;
use std::time::Instant;

use super::{Begun, ExchangeRecord};
use crate::cause::Cause;
use crate::labels::Outcome;
use crate::trace::span::{Attributes, Moment, Parent, Span};
use crate::trace::{Spans, TraceParent};

/// An exchange whose trace is recorded.
#[derive(Debug)]
pub(super) struct Traced {
    parent: TraceParent,
    begun: Moment,
    attempts: Vec<Attempt>,
}

#[derive(Debug)]
struct Attempt {
    span_id: u64,
    endpoint: SocketAddr,
    start: Instant,
    end: Option<Instant>,
    outcome: Outcome,
    reused: bool,
    status: Option<u16>,
    cause: Option<Cause>,
    /// Why it was repeated, and why that was safe.
    retried: Option<(&'static str, &'static str)>,
}

impl Traced {
    pub(super) fn new(parent: TraceParent, begun: Instant) -> Traced {
        Traced { parent, begun: Moment::of(begun), attempts: Vec::with_capacity(1) }
    }

    pub(super) fn trace_id(&self) -> NonZeroU128 {
        self.parent.trace_id
    }

    pub(super) fn attempt(&mut self, span_id: u64, endpoint: SocketAddr) {
        self.attempts.push(Attempt {
            span_id,
            endpoint,
            start: Instant::now(),
            end: None,
            outcome: Outcome::Local,
            reused: false,
            status: None,
            cause: None,
            retried: None,
        });
    }

    /// The span of the attempt that was begun last.
    pub(super) fn attempt_span(&self) -> Option<u64> {
        self.attempts.last().map(|attempt| attempt.span_id)
    }

    pub(super) fn attempt_ended(&mut self, outcome: Outcome) {
        self.last(|attempt| (attempt.end, attempt.outcome) = (Some(Instant::now()), outcome));
    }

    pub(super) fn reused(&mut self, reused: bool) {
        self.last(|attempt| attempt.reused = reused);
    }

    pub(super) fn answered(&mut self, status: u16) {
        self.last(|attempt| attempt.status = Some(status));
    }

    pub(super) fn failed(&mut self, cause: Cause) {
        self.last(|attempt| attempt.cause = Some(cause));
    }

    pub(super) fn retried(&mut self, reason: &'static str, proof: &'static str) {
        self.last(|attempt| attempt.retried = Some((reason, proof)));
    }

    fn last(&mut self, change: impl FnOnce(&mut Attempt)) {
        if let Some(attempt) = self.attempts.last_mut() {
            change(attempt);
        }
    }
}

impl ExchangeRecord {
    /// The spans of an exchange that ends now.
    pub(super) fn spans(&self, begun: &Begun, traced: &Traced) -> Spans {
        let mut spans = Spans { bytes: Vec::with_capacity(1024), count: 1 + traced.attempts.len() as u64 };
        let now = Instant::now();
        let name = span_name(&self.method, self.route.as_deref());
        let failed = self.cause.is_some() || is_error(self.status) || self.grpc_failed();
        let span = Span {
            trace_id: traced.parent.trace_id,
            span_id: begun.id,
            parent: traced.parent.span_id.map(|span_id| Parent { span_id, remote: true }),
            name: &name,
            start: traced.begun.at(begun.start),
            end: traced.begun.at(now),
            error: failed.then_some(crate::text::shortened(self.detail.as_deref().unwrap_or_default())),
        };
        span.write(&mut spans.bytes, |attributes| self.describe(begun, attributes));
        for (resends, attempt) in traced.attempts.iter().enumerate() {
            let span = Span {
                trace_id: traced.parent.trace_id,
                span_id: attempt.span_id,
                parent: Some(Parent { span_id: begun.id, remote: false }),
                name: known_method(&self.method).unwrap_or(OTHER_NAME),
                start: traced.begun.at(attempt.start),
                end: traced.begun.at(attempt.end.unwrap_or(now)),
                error: (attempt.cause.is_some() || is_error(attempt.status)).then_some(""),
            };
            span.write(&mut spans.bytes, |attributes| {
                self.describe_request(begun, attributes);
                attempt.describe(resends as u64, attributes);
            });
        }
        spans
    }

    fn describe(&self, begun: &Begun, attributes: &mut Attributes<'_>) {
        self.describe_request(begun, attributes);
        attributes.text("url.full", &self.url(begun));
        attributes.endpoint(self.endpoint);
        status(attributes, self.status);
        if let Some(status) = self.grpc_status {
            attributes.text("rpc.system.name", "grpc");
            attributes.text("rpc.response.status_code", &status.to_uppercase());
        }
        attributes.text("dragoman.destination", self.telemetry.destination(self.destination).name());
        attributes.text("dragoman.route", self.route.as_deref().unwrap_or_default());
        attributes.count("dragoman.attempts", self.attempts.into());
        let refused = self.repeats.as_ref().and_then(|repeats| repeats.refused);
        attributes.text("dragoman.retry.refused", refused.unwrap_or_default());
        attributes.count("dragoman.bytes_from_app", self.bytes_from_app);
        attributes.count("dragoman.bytes_to_app", self.bytes_to_app);
        error_type(attributes, self.cause, self.status);
    }

    /// What the exchange and each attempt have in common.
    fn describe_request(&self, begun: &Begun, attributes: &mut Attributes<'_>) {
        match known_method(&self.method) {
            Some(method) => attributes.text("http.request.method", method),
            None => {
                attributes.text("http.request.method", "_OTHER");
                attributes.text("http.request.method_original", &self.method);
            }
        }
        match begun.flow.original_dst {
            Some(address) if self.host.is_empty() => {
                attributes.text("server.address", &address.ip().to_string());
            }
            _ => attributes.text("server.address", self.host.trim_matches(['[', ']'])),
        }
        if let Some(address) = begun.flow.original_dst {
            attributes.count("server.port", address.port().into());
        }
    }

    /// The URL without its query, which may hold a secret; nothing where the request names no path.
    fn url(&self, begun: &Begun) -> String {
        let (Some(address), true) = (begun.flow.original_dst, self.path.starts_with('/')) else {
            return String::new();
        };
        let host = match (self.host.as_str(), address.ip()) {
            ("", IpAddr::V6(ip)) => format!("[{ip}]"),
            ("", IpAddr::V4(ip)) => ip.to_string(),
            (host, _) => host.to_owned(),
        };
        match address.port() {
            80 => format!("http://{host}{}", self.path),
            port => format!("http://{host}:{port}{}", self.path),
        }
    }

    fn grpc_failed(&self) -> bool {
        self.grpc_status.is_some_and(|status| status != "ok")
    }
}

impl Attempt {
    fn describe(&self, resends: u64, attributes: &mut Attributes<'_>) {
        attributes.endpoint(Some(self.endpoint));
        status(attributes, self.status);
        if resends > 0 {
            attributes.count("http.request.resend_count", resends);
        }
        attributes.flag("dragoman.connection.reused", self.reused);
        attributes.text("dragoman.outcome", self.outcome.as_str());
        if let Some((reason, proof)) = self.retried {
            attributes.text("dragoman.retry.reason", reason);
            attributes.text("dragoman.retry.proof", proof);
        }
        error_type(attributes, self.cause, self.status);
    }
}

/// What stands for a method that is none of the known ones in the name of a span.
const OTHER_NAME: &str = "HTTP";

/// The method, if it is one of a closed set: what the app made up would make as many names of spans.
fn known_method(method: &str) -> Option<&'static str> {
    const KNOWN: [&str; 10] =
        ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE", "QUERY"];
    KNOWN.into_iter().find(|known| *known == method)
}

fn span_name(method: &str, route: Option<&str>) -> String {
    let method = known_method(method).unwrap_or(OTHER_NAME);
    route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}"))
}

/// Whether a status is an error to whoever sent the request.
fn is_error(status: Option<u16>) -> bool {
    status.is_some_and(|status| status >= 400)
}

fn status(attributes: &mut Attributes<'_>, status: Option<u16>) {
    if let Some(status) = status {
        attributes.count("http.response.status_code", status.into());
    }
}

/// Our word for what went wrong; where nothing did but the status says so, the status.
fn error_type(attributes: &mut Attributes<'_>, cause: Option<Cause>, status: Option<u16>) {
    match (cause, status) {
        (None, Some(status @ 400..)) => attributes.text("error.type", &status.to_string()),
        _ => attributes.cause(cause),
    }
}
