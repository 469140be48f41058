//! The record of a flow.

mod trace;

use std::net::SocketAddr;
use std::num::NonZeroU128;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Telemetry;
use crate::access::line::Line;
use crate::access::{AccessLog, Field};
use crate::cause::{Cause, Who};
use crate::labels::{Direction, Outcome, Protocol, Way};
use crate::recorder::{Facts, FirstBytes, Note, Step, Steps};
use crate::secured::Secured;
use crate::text;

/// One captured connection, from accept to its end. Counted and logged once, when it is dropped.
///
/// A record that is dropped without a cause ended well, unless the drop is part of a panic (`internal`) or of
/// the end of the process ([`Telemetry::cut`]).
#[derive(Debug)]
pub struct FlowRecord {
    telemetry: Telemetry,
    start: Instant,
    peer: SocketAddr,
    /// Unique in the process; shown as 16 hexadecimal digits.
    pub id: u64,
    /// Where the application dialled.
    pub original_dst: Option<SocketAddr>,
    /// Index of the destination whose policy holds; 0, the catch-all, until a better one is known.
    pub destination: usize,
    /// From where it came.
    pub direction: Direction,
    /// What the flow speaks.
    pub protocol: Protocol,
    /// The name for which the application got the original destination's address from DNS: its last question, and no
    /// proof.
    pub host: Option<Arc<str>>,
    /// The TLS server name: a claim of the application.
    pub sni: Option<Box<str>>,
    /// What was dialled, where that succeeded, else what was tried last.
    pub endpoint: Option<SocketAddr>,
    /// Bytes relayed from the application outside of exchanges; those of an exchange are in its own record.
    pub bytes_from_app: u64,
    /// Bytes relayed to the application outside of exchanges.
    pub bytes_to_app: u64,
    /// Tries to connect, outside of exchanges.
    pub connect_attempts: u32,
    /// The first bytes that were seen.
    pub first_bytes: FirstBytes,
    /// Why the flow did not end well. Set it with [`FlowRecord::fail`].
    pub cause: Option<Cause>,
    /// Boxed, as most flows have none, and most wait most of the time.
    rare: Option<Box<Rare>>,
}

#[derive(Debug, Default)]
struct Rare {
    trace_id: Option<NonZeroU128>,
    /// Free text about the cause, for the log alone.
    detail: Option<String>,
    /// [`Story::generation`](crate::Story::generation), cut to 32 bits.
    generation: u32,
    closed_by: Option<Who>,
    /// Who an inbound client is.
    client: Option<Box<str>>,
    /// Of the connection that the last try has made.
    secured: Option<Arc<Secured>>,
    steps: Steps,
}

/// What an exchange says about the flow that carries it.
#[derive(Clone, Copy, Debug)]
pub struct FlowFacts {
    pub(crate) id: u64,
    pub(crate) peer: SocketAddr,
    pub(crate) original_dst: Option<SocketAddr>,
    pub(crate) direction: Direction,
    pub(crate) protocol: Protocol,
    pub(crate) first_bytes: FirstBytes,
}

impl FlowRecord {
    pub(crate) fn new(telemetry: Telemetry, peer: SocketAddr) -> FlowRecord {
        telemetry.process().flow_opened();
        FlowRecord {
            id: telemetry.next_id(),
            telemetry,
            start: Instant::now(),
            peer,
            original_dst: None,
            destination: 0,
            direction: Direction::Outbound,
            protocol: Protocol::Unknown,
            host: None,
            sni: None,
            endpoint: None,
            bytes_from_app: 0,
            bytes_to_app: 0,
            connect_attempts: 0,
            first_bytes: FirstBytes::NONE,
            cause: None,
            rare: None,
        }
    }

    /// Who opened the connection.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// States why the flow ends, with free text for the log (an error of the system). The first cause wins:
    /// what comes after it is its consequence.
    pub fn fail(&mut self, cause: Cause, detail: impl Into<Option<String>>) {
        if self.cause.is_none() {
            self.cause = Some(cause);
            if let Some(detail) = detail.into() {
                self.rare.get_or_insert_default().detail = Some(detail);
            }
        }
    }

    /// The flow is recorded as a trace of its own; with `None` it is not, because it is left to its exchanges.
    pub fn trace(&mut self, trace_id: Option<NonZeroU128>) {
        if trace_id.is_some() || self.rare.is_some() {
            self.rare.get_or_insert_default().trace_id = trace_id;
        }
    }

    /// What the flow speaks is known now.
    pub fn sniffed(&mut self, protocol: Protocol) {
        self.protocol = protocol;
        self.telemetry.process().sniffed(protocol, self.start.elapsed());
    }

    /// What the exchanges of this flow need of it.
    pub fn facts(&self) -> FlowFacts {
        FlowFacts {
            id: self.id,
            peer: self.peer,
            original_dst: self.original_dst,
            direction: self.direction,
            protocol: self.protocol,
            first_bytes: self.first_bytes,
        }
    }

    /// The generation of the destination is known now; only the story tells it.
    pub fn routed(&mut self, generation: u64) {
        if self.telemetry.recorder().is_some() {
            self.rare.get_or_insert_default().generation = generation as u32;
        }
    }

    /// Who the inbound client is, by its certificate.
    pub fn client(&mut self, client: &str) {
        self.rare.get_or_insert_default().client = Some(client.into());
    }

    /// Who ended the connection, where nobody failed; only the story tells it.
    pub fn closed_by(&mut self, who: Who) {
        if self.telemetry.recorder().is_some() {
            self.rare.get_or_insert_default().closed_by = Some(who);
        }
    }

    /// A try to connect to this endpoint begins.
    pub fn attempt(&mut self, endpoint: SocketAddr) {
        self.connect_attempts += 1;
        if self.telemetry.recorder().is_some() {
            let (start, before) = (self.start, self.endpoint);
            self.rare.get_or_insert_default().steps.begin(|| start.elapsed(), before);
        }
        self.endpoint = Some(endpoint);
    }

    /// The try to connect came to this; a cause is why it failed.
    pub fn attempt_ended(&mut self, result: Result<Way, Cause>) {
        let since_start = self.start.elapsed();
        let Some(step) = self.step() else { return };
        match result {
            Ok(way) => {
                step.connected(way, since_start);
                step.outcome(Outcome::Success);
            }
            Err(cause) => {
                step.ended(since_start);
                step.failed(cause);
                step.outcome(cause.outcome());
            }
        }
    }

    /// The connection that the try has made has TLS.
    pub fn secured(&mut self, secured: Arc<Secured>) {
        if let Some(step) = self.step() {
            step.secured(Arc::clone(&secured));
        }
        self.rare.get_or_insert_default().secured = Some(secured);
    }

    /// Something more about the try to connect that is under way, or was last.
    pub fn note(&mut self, note: Note) {
        if let Some(step) = self.step() {
            note.write(step);
        }
    }

    fn step(&mut self) -> Option<&mut Step> {
        self.rare.as_mut()?.steps.last()
    }

    /// Counts a retry of the connect, after this wait. `reason` is why the one before failed, and `proof` why repeating it
    /// is safe: words of closed sets.
    pub fn retried(&mut self, reason: &'static str, proof: &'static str, wait: Duration) {
        self.telemetry.destination(self.destination).retried(reason);
        if let Some(step) = self.step() {
            step.retried(reason, proof);
            step.waits(wait);
        }
    }

    /// Counts that a failed connect was not tried again. `reason` is why not, a word of a closed set.
    pub fn refuse_retry(&mut self, reason: &'static str) {
        self.telemetry.destination(self.destination).retry_refused(reason);
        self.note(Note::NotRetried(reason));
    }

    fn tell(&self) {
        let Some(recorder) = self.telemetry.recorder() else { return };
        let none = Rare::default();
        let rare = self.rare.as_deref().unwrap_or(&none);
        let host = text::printable(self.host.as_deref().unwrap_or_default().as_bytes());
        let took = self.start.elapsed();
        recorder.push(&Facts {
            id: self.id,
            flow: None,
            ended: recorder.at(self.start) + took,
            took,
            protocol: self.protocol,
            first: self.first_bytes,
            bytes_from_app: self.bytes_from_app,
            bytes_to_app: self.bytes_to_app,
            destination: self.destination,
            generation: rare.generation,
            status: None,
            cause: self.cause,
            closed_by: rare.closed_by,
            attempts: self.connect_attempts,
            peer: self.peer,
            original_dst: self.original_dst,
            endpoint: self.endpoint,
            steps: &rare.steps,
            texts: ["", &host, "", ""],
            request_id: "",
            sni: self.sni.as_deref().unwrap_or_default(),
            grpc_status: "",
            detail: self.detail().unwrap_or_default(),
        });
    }

    fn trace_id(&self) -> Option<NonZeroU128> {
        self.rare.as_ref().and_then(|rare| rare.trace_id)
    }

    fn detail(&self) -> Option<&str> {
        self.rare.as_ref().and_then(|rare| rare.detail.as_deref())
    }

    fn line(&self, access: &AccessLog) -> String {
        let mut line = Line::new(access.format(), "flow");
        line.plain(Field::Id, format_args!("{:016x}", self.id));
        if let Some(trace_id) = self.trace_id() {
            line.plain(Field::TraceId, format_args!("{trace_id:032x}"));
        }
        line.plain(Field::Peer, self.peer);
        if self.direction == Direction::Inbound {
            line.plain(Field::Direction, self.direction);
        }
        let client = self.rare.as_ref().and_then(|rare| rare.client.as_deref());
        line.text(Field::Client, &text::printable(client.unwrap_or_default().as_bytes()));
        if let Some(address) = self.original_dst {
            line.plain(Field::OriginalDst, address);
        }
        line.text(Field::Destination, self.telemetry.destination(self.destination).name());
        line.plain(Field::Protocol, self.protocol);
        line.text(Field::Sni, &text::printable(self.sni.as_deref().unwrap_or_default().as_bytes()));
        line.text(Field::Host, &text::printable(self.host.as_deref().unwrap_or_default().as_bytes()));
        line.number(Field::Attempts, self.connect_attempts);
        if let Some(address) = self.endpoint {
            line.plain(Field::Endpoint, address);
        }
        if let Some(secured) = self.rare.as_ref().and_then(|rare| rare.secured.as_deref()) {
            secured.write(&mut line);
        }
        line.number(Field::BytesFromApp, self.bytes_from_app);
        line.number(Field::BytesToApp, self.bytes_to_app);
        line.milliseconds(Field::DurationMs, self.start.elapsed());
        line.cause(self.cause, self.detail());
        line.finish()
    }
}

impl Drop for FlowRecord {
    fn drop(&mut self) {
        if let Some(cause) = self.telemetry.cause_of_drop() {
            self.fail(cause, None);
        }
        let destination = self.telemetry.destination(self.destination);
        destination.flow(self.protocol, self.cause);
        self.telemetry.process().ended_with(self.cause);
        destination.bytes(self.bytes_from_app, self.bytes_to_app);
        if let (Some(tracer), Some(trace_id)) = (self.telemetry.tracer(), self.trace_id()) {
            tracer.submit(self.spans(trace_id));
        }
        self.tell();
        let access = self.telemetry.access();
        if access.wants(self.id, self.cause) {
            access.submit(self.line(access));
        }
        self.telemetry.process().flow_closed();
    }
}
