//! The record of an HTTP exchange.

mod trace;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Telemetry;
use crate::access::line::Line;
use crate::access::{AccessLog, Field};
use crate::cause::Cause;
use crate::flow::FlowFacts;
use crate::labels::{Direction, Outcome, Way};
use crate::recorder::{Facts, Note, Steps};
use crate::secured::Secured;
use crate::text;
use crate::trace::TraceParent;
use trace::Traced;

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
    /// In microseconds; an hour and more is a little over one.
    first_byte: Option<NonZeroU32>,
    repeats: Option<Box<Repeats>>,
    traced: Option<Box<Traced>>,
    /// Of the last attempt's connection.
    secured: Option<Arc<Secured>>,
    /// Of use only where there is a recorder.
    steps: Steps,
    /// [`Story::generation`](crate::Story::generation), cut to 32 bits.
    pub generation: u32,
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

/// What was repeated, and why the last failure was not: rare, and so apart from what each connection keeps ready.
#[derive(Debug, Default)]
struct Repeats {
    made: Vec<(&'static str, &'static str)>,
    refused: Option<&'static str>,
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
            first_byte: None,
            repeats: None,
            traced: None,
            secured: None,
            steps: Steps::default(),
            generation: 0,
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

    /// The trace of this exchange is recorded, as a part of `parent`. Without a tracer, or before the exchange
    /// was begun, this does nothing.
    pub fn trace(&mut self, parent: TraceParent) {
        if let (Some(begun), true) = (&self.begun, self.telemetry.traces()) {
            self.traced = Some(Box::new(Traced::new(parent, begun.start)));
        }
    }

    /// The exchange's span, if its trace is recorded.
    pub fn span(&self) -> Option<u64> {
        self.traced.as_ref().and(self.begun).map(|begun| begun.id)
    }

    /// The span of the attempt that was begun last, if the trace is recorded: the caller of the server.
    pub fn attempt_span(&self) -> Option<u64> {
        self.traced.as_ref()?.attempt_span()
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
        if let (Some(_), Some(begun)) = (self.telemetry.recorder(), &self.begun) {
            self.steps.begin(|| begun.start.elapsed(), self.endpoint);
        }
        self.endpoint = Some(endpoint);
        self.first_byte = None;
        self.secured = None;
        self.attempts += 1;
        self.attempt_open = true;
        if let Some(traced) = &mut self.traced {
            traced.attempt(self.telemetry.next_id(), endpoint);
        }
    }

    /// The open attempt ended so; without an open attempt this does nothing. An attempt that is still open
    /// when the exchange is finished counts as [`Outcome::Local`], so that each attempt is counted exactly
    /// once.
    pub fn attempt_ended(&mut self, outcome: Outcome) {
        if std::mem::take(&mut self.attempt_open)
            && let Some(endpoint) = self.endpoint
        {
            if let Some(traced) = &mut self.traced {
                traced.attempt_ended(outcome);
            }
            self.telemetry.destination(self.destination).attempt(endpoint, outcome);
            if let (Some(step), Some(begun)) = (self.steps.last(), &self.begun) {
                step.outcome(outcome);
                // What went well ends with the exchange; that saves a look at the clock.
                if outcome != Outcome::Success {
                    step.ended(begun.start.elapsed());
                }
            }
        }
    }

    /// The attempt is on its connection since then, and came by it so.
    pub fn attempt_connected(&mut self, way: Way, since: Instant) {
        if let Some(traced) = &mut self.traced {
            traced.reused(matches!(way, Way::Pool | Way::Flow));
        }
        if let (Some(step), Some(begun)) = (self.steps.last(), &self.begun) {
            step.connected(way, since.saturating_duration_since(begun.start));
        }
    }

    /// The attempt's connection has TLS.
    pub fn attempt_secured(&mut self, secured: Arc<Secured>) {
        if let Some(step) = self.steps.last() {
            step.secured(Arc::clone(&secured));
        }
        self.secured = Some(secured);
    }

    /// Something more about the attempt that is under way, or was last.
    pub fn note(&mut self, note: Note) {
        if let Some(step) = self.steps.last() {
            note.write(step);
        }
    }

    /// Whether anybody is told what [`note`](Self::note) is told.
    pub fn takes_notes(&self) -> bool {
        self.telemetry.recorder().is_some()
    }

    /// The attempt was answered with this status.
    pub fn attempt_answered(&mut self, status: u16) {
        if let Some(traced) = &mut self.traced {
            traced.answered(status);
        }
        if let Some(step) = self.steps.last() {
            step.answered(status);
        }
    }

    /// Why the attempt failed.
    pub fn attempt_failed(&mut self, cause: Cause) {
        if let Some(traced) = &mut self.traced {
            traced.failed(cause);
        }
        if let Some(step) = self.steps.last() {
            step.failed(cause);
        }
    }

    /// The final response head of the open attempt is here, so long after its request began to be sent.
    pub fn first_byte(&mut self, after: Duration) {
        self.telemetry.destination(self.destination).first_byte(after);
        let micros = u32::try_from(after.as_micros()).unwrap_or(u32::MAX);
        self.first_byte = NonZeroU32::new(micros.max(1));
        if let Some(step) = self.steps.last() {
            step.first_byte(after);
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
        self.repeats.get_or_insert_default().made.push((reason, proof));
        if let Some(traced) = &mut self.traced {
            traced.retried(reason, proof);
        }
        if let Some(step) = self.steps.last() {
            step.retried(reason, proof);
        }
    }

    /// The attempt that just failed is not repeated. `reason` says why not, a word of a closed set.
    pub fn refuse_retry(&mut self, reason: &'static str) {
        self.telemetry.destination(self.destination).retry_refused(reason);
        self.repeats.get_or_insert_default().refused = Some(reason);
        self.note(Note::NotRetried(reason));
    }

    /// Counts and logs the exchange. Does nothing if none was begun.
    pub fn finish(&mut self) {
        self.attempt_ended(Outcome::Local);
        let Some(begun) = self.begun.take() else { return };
        let destination = self.telemetry.destination(self.destination);
        let took = begun.start.elapsed();
        destination.exchange(self.status, self.cause, took);
        self.telemetry.process().ended_with(self.cause);
        if let Some(status) = self.grpc_status {
            destination.grpc_response(status);
        }
        destination.bytes(self.bytes_from_app, self.bytes_to_app);
        self.tell(&begun, took);
        let access = self.telemetry.access();
        if access.wants(begun.id, self.cause) {
            access.submit(self.line(access, &begun, took));
        }
        if let (Some(tracer), Some(traced)) = (self.telemetry.tracer(), self.traced.take()) {
            tracer.submit(self.spans(&begun, &traced));
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
        self.first_byte = None;
        self.repeats = None;
        self.traced = None;
        self.secured = None;
        self.steps.clear();
        self.generation = 0;
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

    fn tell(&self, begun: &Begun, took: Duration) {
        let Some(recorder) = self.telemetry.recorder() else { return };
        recorder.push(&Facts {
            id: begun.id,
            flow: Some(begun.flow.id),
            ended: recorder.at(begun.start) + took,
            took,
            protocol: begun.flow.protocol,
            first: begun.flow.first_bytes,
            bytes_from_app: self.bytes_from_app,
            bytes_to_app: self.bytes_to_app,
            destination: self.destination,
            generation: self.generation,
            status: self.status,
            cause: self.cause,
            closed_by: None,
            attempts: self.attempts,
            peer: begun.flow.peer,
            original_dst: begun.flow.original_dst,
            endpoint: self.endpoint,
            steps: &self.steps,
            texts: [&self.method, &self.host, &self.path, self.route.as_deref().unwrap_or_default()],
            request_id: &self.request_id,
            sni: "",
            grpc_status: self.grpc_status.unwrap_or_default(),
            detail: self.detail.as_deref().unwrap_or_default(),
        });
    }

    fn line(&self, access: &AccessLog, begun: &Begun, took: Duration) -> String {
        let mut line = Line::new(access.format(), "exchange");
        line.plain(Field::Id, format_args!("{:016x}", begun.id));
        line.plain(Field::Flow, format_args!("{:016x}", begun.flow.id));
        if let Some(traced) = &self.traced {
            line.plain(Field::TraceId, format_args!("{:032x}", traced.trace_id()));
        }
        line.plain(Field::Peer, begun.flow.peer);
        if begun.flow.direction == Direction::Inbound {
            line.plain(Field::Direction, begun.flow.direction);
        }
        if let Some(address) = begun.flow.original_dst {
            line.plain(Field::OriginalDst, address);
        }
        line.text(Field::Destination, self.telemetry.destination(self.destination).name());
        line.text(Field::Route, self.route.as_deref().unwrap_or_default());
        line.text(Field::Method, &self.method);
        line.text(Field::Host, &self.host);
        line.text(Field::Path, &self.path);
        line.text(Field::RequestId, &text::printable(self.request_id.as_bytes()));
        if let Some(status) = self.status {
            line.number(Field::Status, status);
        }
        line.text(Field::GrpcStatus, self.grpc_status.unwrap_or_default());
        line.number(Field::Attempts, self.attempts);
        if let Some(address) = self.endpoint {
            line.plain(Field::Endpoint, address);
        }
        if let Some(secured) = &self.secured {
            secured.write(&mut line);
        }
        line.number(Field::BytesFromApp, self.bytes_from_app);
        line.number(Field::BytesToApp, self.bytes_to_app);
        if let Some(micros) = self.first_byte {
            line.milliseconds(Field::FirstByteMs, Duration::from_micros(micros.get().into()));
        }
        line.milliseconds(Field::DurationMs, took);
        if let Some(repeats) = &self.repeats {
            line.retries(&repeats.made, repeats.refused);
        }
        line.cause(self.cause, self.detail.as_deref());
        line.finish()
    }
}

impl Drop for ExchangeRecord {
    fn drop(&mut self) {
        self.finish_unfinished();
    }
}
