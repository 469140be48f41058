//! The record of an HTTP exchange.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::Telemetry;
use crate::access::AccessLog;
use crate::cause::Cause;
use crate::flow::FlowFacts;
use crate::labels::Outcome;
use crate::line::Line;
use crate::text;

/// One HTTP request and its response. Made once per connection and used again for each exchange on it, so
/// that its strings keep their storage: [`begin`](ExchangeRecord::begin), fill in,
/// [`finish`](ExchangeRecord::finish).
///
/// A record that was begun and is dropped unfinished is finished by the drop: the cause is the one it has,
/// else `internal` while panicking, `drain_deadline` after [`Telemetry::cut`], else `app_closed`.
#[derive(Debug)]
pub struct ExchangeRecord {
    telemetry: Telemetry,
    begun: Option<Begun>,
    method: String,
    path: String,
    host: String,
    attempts: u32,
    attempt_open: bool,
    retries: Vec<(&'static str, &'static str)>,
    retry_refused: Option<&'static str>,
    /// Index of the destination whose policy holds.
    pub destination: usize,
    /// The route's name, if a route matched.
    pub route: Option<Arc<str>>,
    /// The status that was sent to the application.
    pub status: Option<u16>,
    /// The status of a gRPC call, a word of a closed set.
    pub grpc_status: Option<&'static str>,
    /// Bytes of request and response that were relayed from the application, head and body.
    pub bytes_from_app: u64,
    /// Bytes sent to the application, head and body.
    pub bytes_to_app: u64,
    /// The value of `x-request-id` that went upstream, or empty.
    pub request_id: String,
    /// Where the last attempt went.
    pub endpoint: Option<SocketAddr>,
    /// Why the exchange did not end well. Set it with [`ExchangeRecord::fail`].
    pub cause: Option<Cause>,
    /// Free text about the cause, for the log alone.
    pub detail: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct Begun {
    id: u64,
    start: Instant,
    flow: FlowFacts,
}

impl ExchangeRecord {
    /// A record that waits for its first exchange.
    pub fn new(telemetry: &Telemetry) -> ExchangeRecord {
        ExchangeRecord {
            telemetry: telemetry.clone(),
            begun: None,
            method: String::new(),
            path: String::new(),
            host: String::new(),
            attempts: 0,
            attempt_open: false,
            retries: Vec::new(),
            retry_refused: None,
            destination: 0,
            route: None,
            status: None,
            grpc_status: None,
            bytes_from_app: 0,
            bytes_to_app: 0,
            request_id: String::new(),
            endpoint: None,
            cause: None,
            detail: None,
        }
    }

    /// Begins an exchange; one that was begun before and not finished is finished first, as by a drop. Of the
    /// target only the path is kept (a query may hold a secret), at most 256 bytes of it and made printable.
    pub fn begin(&mut self, flow: FlowFacts, method: &str, target: &[u8], host: &str) {
        self.finish_unfinished();
        self.clear();
        text::set(&mut self.method, method.as_bytes());
        text::set(&mut self.path, text::path_of(target));
        text::set(&mut self.host, text::without_userinfo(host.as_bytes()));
        self.begun = Some(Begun { id: self.telemetry.next_id(), start: Instant::now(), flow });
    }

    /// States why the exchange ends, with free text for the log. The first cause wins: what comes after it is
    /// its consequence.
    pub fn fail(&mut self, cause: Cause, detail: impl Into<Option<String>>) {
        if self.cause.is_none() {
            self.cause = Some(cause);
            self.detail = detail.into();
        }
    }

    /// An attempt at this endpoint begins. One that is still open is ended as [`Outcome::Local`].
    pub fn attempt(&mut self, endpoint: SocketAddr) {
        self.attempt_ended(Outcome::Local);
        self.endpoint = Some(endpoint);
        self.attempts += 1;
        self.attempt_open = true;
    }

    /// The open attempt ended so; without an open attempt this does nothing. An attempt that is still open
    /// when the exchange is finished counts as [`Outcome::Local`], so that each attempt is counted exactly
    /// once.
    pub fn attempt_ended(&mut self, outcome: Outcome) {
        if std::mem::take(&mut self.attempt_open) {
            self.telemetry.destination(self.destination).attempt(outcome);
        }
    }

    /// Attempts begun in this exchange.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The attempt that just failed is repeated. `reason` says why it failed and `proof` why repeating is
    /// safe; both are words of closed sets.
    pub fn retried(&mut self, reason: &'static str, proof: &'static str) {
        self.telemetry.destination(self.destination).retried(reason);
        self.retries.push((reason, proof));
    }

    /// The attempt that just failed is not repeated. `reason` says why not, a word of a closed set.
    pub fn refuse_retry(&mut self, reason: &'static str) {
        self.telemetry.destination(self.destination).retry_refused(reason);
        self.retry_refused = Some(reason);
    }

    /// Counts and logs the exchange. Does nothing if none was begun.
    pub fn finish(&mut self) {
        self.attempt_ended(Outcome::Local);
        let Some(begun) = self.begun.take() else { return };
        let destination = self.telemetry.destination(self.destination);
        destination.exchange(self.status, self.cause);
        if let Some(status) = self.grpc_status {
            destination.grpc_response(status);
        }
        destination.bytes(self.bytes_from_app, self.bytes_to_app);
        let access = self.telemetry.access();
        if access.wants(self.cause) {
            access.submit(self.line(access, &begun));
        }
    }

    fn finish_unfinished(&mut self) {
        if self.begun.is_some() {
            self.fail(self.telemetry.cause_of_drop().unwrap_or(Cause::AppClosed), None);
            self.finish();
        }
    }

    fn clear(&mut self) {
        self.attempts = 0;
        self.retries.clear();
        self.retry_refused = None;
        self.destination = 0;
        self.route = None;
        self.status = None;
        self.grpc_status = None;
        self.bytes_from_app = 0;
        self.bytes_to_app = 0;
        self.request_id.clear();
        self.endpoint = None;
        self.cause = None;
        self.detail = None;
    }

    fn line(&self, access: &AccessLog, begun: &Begun) -> String {
        let mut line = Line::new(access.format(), "exchange");
        line.plain("id", format_args!("{:016x}", begun.id));
        line.plain("flow", format_args!("{:016x}", begun.flow.id));
        line.plain("peer", begun.flow.peer);
        if let Some(address) = begun.flow.original_dst {
            line.plain("original_dst", address);
        }
        line.text("destination", self.telemetry.destination(self.destination).name());
        line.text("route", self.route.as_deref().unwrap_or_default());
        line.text("method", &self.method);
        line.text("host", &self.host);
        line.text("path", &self.path);
        line.text("request_id", &text::printable(self.request_id.as_bytes()));
        if let Some(status) = self.status {
            line.number("status", status);
        }
        line.text("grpc_status", self.grpc_status.unwrap_or_default());
        line.number("attempts", self.attempts);
        if let Some(address) = self.endpoint {
            line.plain("endpoint", address);
        }
        line.number("bytes_from_app", self.bytes_from_app);
        line.number("bytes_to_app", self.bytes_to_app);
        line.milliseconds("duration_ms", begun.start.elapsed());
        line.retries(&self.retries, self.retry_refused);
        line.cause(self.cause, self.detail.as_deref());
        line.finish()
    }
}

impl Drop for ExchangeRecord {
    fn drop(&mut self) {
        self.finish_unfinished();
    }
}
