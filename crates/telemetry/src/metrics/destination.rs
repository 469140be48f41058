//! What belongs to one destination of the configuration.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::catalogue::Metric;
use super::cells::{Counter, Gauge, Grid, Words};
use super::endpoints::EndpointTable;
use super::histogram::Histogram;
use super::page::Page;
use crate::cause::Cause;
use crate::labels::{Handshake, Outcome, Protocol};

/// What stands for "no cause" and "no status was sent" in a label: Prometheus takes an empty one as absent.
const NONE: &str = "-";

/// The numbers of one destination.
#[derive(Debug)]
pub struct DestinationMetrics {
    name: Arc<str>,
    flows: Grid,
    exchanges: Grid,
    attempts: [Counter; Outcome::ALL.len()],
    endpoints: EndpointTable,
    connect: Histogram,
    handshakes: [Counter; Handshake::ALL.len()],
    handshake: Histogram,
    unverified: Counter,
    first_byte: Histogram,
    exchange_time: Histogram,
    grpc: Words,
    retries: Words,
    retry_refusals: Words,
    breaker_transitions: Words,
    dialled: Counter,
    reused: Counter,
    idle_closed: Counter,
    from_app: Counter,
    to_app: Counter,
    pool_in_use: Arc<Gauge>,
    pool_waiting: Arc<Gauge>,
}

impl DestinationMetrics {
    pub(crate) fn new(name: Arc<str>) -> DestinationMetrics {
        DestinationMetrics {
            name,
            flows: Grid::new(Protocol::ALL.len(), CAUSE_COLUMNS),
            exchanges: Grid::new(CODE_ROWS, CAUSE_COLUMNS),
            attempts: Default::default(),
            endpoints: EndpointTable::default(),
            connect: Histogram::default(),
            handshakes: Default::default(),
            handshake: Histogram::default(),
            unverified: Counter::default(),
            first_byte: Histogram::default(),
            exchange_time: Histogram::default(),
            grpc: Words::default(),
            retries: Words::default(),
            retry_refusals: Words::default(),
            breaker_transitions: Words::default(),
            dialled: Counter::default(),
            reused: Counter::default(),
            idle_closed: Counter::default(),
            from_app: Counter::default(),
            to_app: Counter::default(),
            pool_in_use: Arc::default(),
            pool_waiting: Arc::default(),
        }
    }

    /// The destination's name, as the configuration has it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Counts an upstream connection that was made, and how long that took.
    pub fn connection_dialled(&self, took: Duration) {
        self.dialled.add(1);
        self.connect.record(took);
    }

    /// Counts a TLS handshake with a server, or a client, and how long it took where it succeeded.
    pub fn handshake(&self, result: Handshake, took: Duration) {
        self.handshakes[result as usize].add(1);
        if result != Handshake::Failed {
            self.handshake.record(took);
        }
    }

    /// Counts a TLS connection to a server that was not asked who it is.
    pub fn unverified(&self) {
        self.unverified.add(1);
    }

    /// Counts an upstream connection that was taken out of the pool.
    pub fn connection_reused(&self) {
        self.reused.add(1);
    }

    /// Counts a pooled connection that was closed without being used again.
    pub fn idle_connection_closed(&self) {
        self.idle_closed.add(1);
    }

    /// Counts a change of state of a breaker. `to` is a word of `dragoman_policy::Transition`.
    pub fn breaker_transition(&self, to: &'static str) {
        self.breaker_transitions.count(to);
    }

    pub(crate) fn attempt(&self, endpoint: SocketAddr, outcome: Outcome) {
        self.attempts[outcome as usize].add(1);
        self.endpoints.attempt(endpoint, outcome);
    }

    pub(crate) fn first_byte(&self, after: Duration) {
        self.first_byte.record(after);
    }

    pub(crate) fn grpc_response(&self, status: &'static str) {
        self.grpc.count(status);
    }

    pub(crate) fn retried(&self, reason: &'static str) {
        self.retries.count(reason);
    }

    pub(crate) fn retry_refused(&self, reason: &'static str) {
        self.retry_refusals.count(reason);
    }

    pub(crate) fn bytes(&self, from_app: u64, to_app: u64) {
        self.from_app.add(from_app);
        self.to_app.add(to_app);
    }

    pub(crate) fn flow(&self, protocol: Protocol, cause: Option<Cause>) {
        self.flows.at(protocol as usize, cause_column(cause)).add(1);
    }

    pub(crate) fn exchange(&self, status: Option<u16>, cause: Option<Cause>, took: Duration) {
        self.exchange_time.record(took);
        self.exchanges.at(code_row(status), cause_column(cause)).add(1);
    }

    /// Counts a pooled HTTP/1 connection as in use for as long as the value lives.
    pub fn pool_in_use(&self) -> Held {
        Held::new(&self.pool_in_use)
    }

    /// Counts an exchange as waiting for its place in the pool for as long as the value lives.
    pub fn pool_waiting(&self) -> Held {
        Held::new(&self.pool_waiting)
    }

    pub(crate) fn write(&self, page: &mut Page) {
        let name = &*self.name;
        for (row, column, count) in self.flows.counted() {
            let labels = [name, Protocol::ALL[row].as_str(), cause_word(column)];
            page.sample(Metric::Flows, &labels, count);
        }
        for (row, column, count) in self.exchanges.counted() {
            page.sample(Metric::Exchanges, &[name, &code_word(row), cause_word(column)], count);
        }
        for outcome in Outcome::ALL {
            let count = self.attempts[*outcome as usize].get();
            page.sample(Metric::Attempts, &[name, outcome.as_str()], count);
        }
        self.endpoints.write(page, name, Instant::now());
        page.histogram(Metric::Connect, &[name], &self.connect);
        self.write_tls(page, name);
        page.histogram(Metric::FirstByte, &[name], &self.first_byte);
        page.histogram(Metric::ExchangeTime, &[name], &self.exchange_time);
        for (metric, words) in [
            (Metric::Grpc, &self.grpc),
            (Metric::Retries, &self.retries),
            (Metric::RetryRefusals, &self.retry_refusals),
            (Metric::BreakerTransitions, &self.breaker_transitions),
        ] {
            words.each(|word, count| page.sample(metric, &[name, word], count));
        }
        page.sample(Metric::Connections, &[name, "dialled"], self.dialled.get());
        page.sample(Metric::Connections, &[name, "reused"], self.reused.get());
        page.sample(Metric::IdleClosed, &[name], self.idle_closed.get());
        page.sample(Metric::Bytes, &[name, "from_app"], self.from_app.get());
        page.sample(Metric::Bytes, &[name, "to_app"], self.to_app.get());
        page.sample(Metric::PoolConnections, &[name, "http1", "in_use"], self.pool_in_use.get());
        page.sample(Metric::PoolWaiting, &[name], self.pool_waiting.get());
    }
}

impl DestinationMetrics {
    /// Nothing, for a destination that has had nothing to do with TLS.
    fn write_tls(&self, page: &mut Page, name: &str) {
        let counts = self.handshakes.each_ref().map(Counter::get);
        if counts.iter().all(|count| *count == 0) {
            return;
        }
        for (result, count) in Handshake::ALL.iter().zip(counts) {
            page.sample(Metric::Handshakes, &[name, result.as_str()], count);
        }
        page.histogram(Metric::HandshakeTime, &[name], &self.handshake);
        page.sample(Metric::Unverified, &[name], self.unverified.get());
    }
}

/// One column per cause, and the first for none.
const CAUSE_COLUMNS: usize = Cause::ALL.len() + 1;

fn cause_column(cause: Option<Cause>) -> usize {
    cause.map_or(0, |cause| cause as usize + 1)
}

fn cause_word(column: usize) -> &'static str {
    column.checked_sub(1).map_or(NONE, |cause| Cause::ALL[cause].as_str())
}

/// One row for no status, one per status that RFC 9110 section 15 allows (100 to 599), one for all others.
const CODE_ROWS: usize = 1 + 500 + 1;

fn code_row(status: Option<u16>) -> usize {
    match status {
        None => 0,
        Some(status @ 100..=599) => usize::from(status) - 99,
        Some(_) => CODE_ROWS - 1,
    }
}

fn code_word(row: usize) -> String {
    match row {
        0 => NONE.into(),
        1..=500 => (row + 99).to_string(),
        _ => "other".into(),
    }
}

/// Counts something that lasts, for as long as this value lives.
#[derive(Debug)]
pub struct Held(Arc<Gauge>);

impl Held {
    fn new(gauge: &Arc<Gauge>) -> Held {
        gauge.add(1);
        Held(Arc::clone(gauge))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}
