//! The metrics: names, help, and one handle for each series that the data path touches.
//!
//! The recorder is a value of our own and not the global one: two proxies in one process (as in tests) do not
//! see each other. Whatever a success touches has its handle made beforehand or on first use; only rare
//! events (a retry, a breaker transition) look their series up by name.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use metrics::{Counter, Gauge, Key, Label, Level, Metadata, Recorder, SharedString};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::cause::Cause;
use crate::labels::{AcceptError, EarlyDial, Outcome, Protocol};
use crate::table::CounterTable;

/// What stands for "no cause" and "no status was sent" in a label: Prometheus takes an empty one as absent.
const NONE: &str = "-";

const FLOWS: &str = "dragoman_flows_total";
const FLOWS_OPEN: &str = "dragoman_flows_open";
const FLOWS_LIMIT: &str = "dragoman_flows_limit";
const EXCHANGES: &str = "dragoman_exchanges_total";
const ATTEMPTS: &str = "dragoman_attempts_total";
const GRPC: &str = "dragoman_grpc_responses_total";
const RETRIES: &str = "dragoman_retries_total";
const RETRY_REFUSALS: &str = "dragoman_retry_refusals_total";
const BREAKER_TRANSITIONS: &str = "dragoman_breaker_transitions_total";
const BREAKERS_OPEN: &str = "dragoman_breakers_open";
const CONNECTIONS: &str = "dragoman_upstream_connections_total";
const IDLE_CLOSED: &str = "dragoman_upstream_idle_closed_total";
const BYTES: &str = "dragoman_bytes_total";
const EARLY_DIALS: &str = "dragoman_early_dials_total";
const ACCEPT_ERRORS: &str = "dragoman_accept_errors_total";
const ACCESS_LOG_DROPPED: &str = "dragoman_access_log_dropped_total";
const BUILD_INFO: &str = "dragoman_build_info";
const START_TIME: &str = "process_start_time_seconds";

const COUNTERS: &[(&str, &str)] = &[
    (FLOWS, "Captured connections that have ended, by what they spoke and why they ended (\"-\": well)."),
    (
        EXCHANGES,
        "HTTP exchanges that have ended, by the status the application saw (\"-\": none) and the cause.",
    ),
    (ATTEMPTS, "Tries of an exchange on one endpoint, by what they say about it."),
    (GRPC, "gRPC calls that were answered, by the status that the application got."),
    (RETRIES, "Attempts that were repeated, by why the one before failed."),
    (RETRY_REFUSALS, "Failed attempts that were not repeated, by why not."),
    (BREAKER_TRANSITIONS, "Changes of state of the circuit breakers, by the new state."),
    (CONNECTIONS, "Upstream connections taken for use, by whether they were dialled or reused."),
    (IDLE_CLOSED, "Pooled upstream connections closed without being used again."),
    (BYTES, "Bytes relayed, by direction, counted when the flow or the exchange ends."),
    (EARLY_DIALS, "Connections dialled before the protocol was known, by what became of them."),
    (ACCEPT_ERRORS, "Failures of accept, by kind."),
    (ACCESS_LOG_DROPPED, "Access log lines lost, because the writer was behind or could not write."),
];

const GAUGES: &[(&str, &str)] = &[
    (FLOWS_OPEN, "Captured connections that are open."),
    (FLOWS_LIMIT, "The most captured connections that may be open (proxy.max_flows)."),
    (BREAKERS_OPEN, "Circuit breakers that are open, and not half open."),
    (BUILD_INFO, "Always 1; the labels say what runs."),
    (START_TIME, "When the process started, in seconds since 1970."),
];

/// The series by name. Making a handle takes a lock for a moment; using one does not.
pub(crate) struct Registry {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

impl Registry {
    pub(crate) fn new() -> Registry {
        let recorder = PrometheusBuilder::new().build_recorder();
        for (name, help) in COUNTERS {
            recorder.describe_counter((*name).into(), None, (*help).into());
        }
        for (name, help) in GAUGES {
            recorder.describe_gauge((*name).into(), None, (*help).into());
        }
        let handle = recorder.handle();
        Registry { recorder, handle }
    }

    pub(crate) fn render(&self) -> String {
        self.handle.render()
    }

    fn counter(&self, name: &'static str, labels: Vec<Label>) -> Counter {
        self.recorder.register_counter(&Key::from_parts(name, labels), &METADATA)
    }

    fn gauge(&self, name: &'static str, labels: Vec<Label>) -> Gauge {
        self.recorder.register_gauge(&Key::from_parts(name, labels), &METADATA)
    }
}

const METADATA: Metadata<'static> = Metadata::new("dragoman", Level::INFO, None);

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Registry")
    }
}

/// What belongs to the process as a whole.
#[derive(Debug)]
pub struct ProcessMetrics {
    flows_open: Gauge,
    flows_limit: Gauge,
    access_log_dropped: Counter,
    early_dials: Box<[Counter]>,
    accept_errors: Box<[Counter]>,
}

impl ProcessMetrics {
    pub(crate) fn new(registry: &Registry) -> ProcessMetrics {
        let version = Label::new("version", env!("CARGO_PKG_VERSION"));
        registry.gauge(BUILD_INFO, vec![version]).set(1.0);
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        registry.gauge(START_TIME, vec![]).set(started.as_secs_f64());
        let counter = |name, key, word| registry.counter(name, vec![Label::new(key, word)]);
        ProcessMetrics {
            flows_open: registry.gauge(FLOWS_OPEN, vec![]),
            flows_limit: registry.gauge(FLOWS_LIMIT, vec![]),
            access_log_dropped: registry.counter(ACCESS_LOG_DROPPED, vec![]),
            early_dials: EarlyDial::ALL.iter().map(|r| counter(EARLY_DIALS, "result", r.as_str())).collect(),
            accept_errors: AcceptError::ALL
                .iter()
                .map(|k| counter(ACCEPT_ERRORS, "kind", k.as_str()))
                .collect(),
        }
    }

    /// Counts what became of an early dial.
    pub fn early_dial(&self, result: EarlyDial) {
        self.early_dials[result as usize].increment(1);
    }

    /// Counts a failure of `accept`.
    pub fn accept_error(&self, kind: AcceptError) {
        self.accept_errors[kind as usize].increment(1);
    }

    /// States the most flows that may be open.
    pub fn set_flow_limit(&self, flows: usize) {
        self.flows_limit.set(flows as f64);
    }

    pub(crate) fn flow_opened(&self) {
        self.flows_open.increment(1.0);
    }

    pub(crate) fn flow_closed(&self) {
        self.flows_open.decrement(1.0);
    }

    pub(crate) fn set_access_log_dropped(&self, lines: u64) {
        self.access_log_dropped.absolute(lines);
    }
}

/// What belongs to one destination of the configuration.
#[derive(Debug)]
pub struct DestinationMetrics {
    name: Arc<str>,
    registry: Arc<Registry>,
    flows: CounterTable,
    exchanges: CounterTable,
    attempts: Box<[Counter]>,
    breakers_open: Gauge,
    dialled: Counter,
    reused: Counter,
    idle_closed: Counter,
    from_app: Counter,
    to_app: Counter,
}

impl DestinationMetrics {
    pub(crate) fn new(registry: &Arc<Registry>, name: Arc<str>) -> DestinationMetrics {
        let counter = |metric, key: &'static str, word: &'static str| {
            registry.counter(metric, labels(&name, &[(key, word)]))
        };
        DestinationMetrics {
            flows: CounterTable::new(Protocol::ALL.len(), CAUSE_COLUMNS),
            exchanges: CounterTable::new(CODE_ROWS, CAUSE_COLUMNS),
            attempts: Outcome::ALL.iter().map(|o| counter(ATTEMPTS, "outcome", o.as_str())).collect(),
            breakers_open: registry.gauge(BREAKERS_OPEN, labels(&name, &[])),
            dialled: counter(CONNECTIONS, "how", "dialled"),
            reused: counter(CONNECTIONS, "how", "reused"),
            idle_closed: registry.counter(IDLE_CLOSED, labels(&name, &[])),
            from_app: counter(BYTES, "direction", "from_app"),
            to_app: counter(BYTES, "direction", "to_app"),
            registry: registry.clone(),
            name,
        }
    }

    /// The destination's name, as the configuration has it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Counts an upstream connection that was made.
    pub fn connection_dialled(&self) {
        self.dialled.increment(1);
    }

    /// Counts an upstream connection that was taken out of the pool.
    pub fn connection_reused(&self) {
        self.reused.increment(1);
    }

    /// Counts a pooled connection that was closed without being used again.
    pub fn idle_connection_closed(&self) {
        self.idle_closed.increment(1);
    }

    /// Counts a change of state of a breaker, and keeps the number of open ones. `to` is a word of
    /// `dragoman_policy::Transition`: a breaker leaves the open state only by `half_opened`.
    pub fn breaker_transition(&self, to: &'static str) {
        self.registry.counter(BREAKER_TRANSITIONS, self.labels(&[("to", to)])).increment(1);
        match to {
            "opened" => self.breakers_open.increment(1.0),
            "half_opened" => self.breakers_open.decrement(1.0),
            _ => {}
        }
    }

    /// A breaker was thrown away while it was open.
    pub fn open_breaker_forgotten(&self) {
        self.breakers_open.decrement(1.0);
    }

    pub(crate) fn attempt(&self, outcome: Outcome) {
        self.attempts[outcome as usize].increment(1);
    }

    pub(crate) fn grpc_response(&self, status: &'static str) {
        self.registry.counter(GRPC, self.labels(&[("grpc_status", status)])).increment(1);
    }

    pub(crate) fn retried(&self, reason: &'static str) {
        self.registry.counter(RETRIES, self.labels(&[("reason", reason)])).increment(1);
    }

    pub(crate) fn retry_refused(&self, reason: &'static str) {
        self.registry.counter(RETRY_REFUSALS, self.labels(&[("reason", reason)])).increment(1);
    }

    pub(crate) fn bytes(&self, from_app: u64, to_app: u64) {
        self.from_app.increment(from_app);
        self.to_app.increment(to_app);
    }

    pub(crate) fn flow(&self, protocol: Protocol, cause: Option<Cause>) {
        let make = || {
            let labels = self.labels(&[("protocol", protocol.as_str()), ("cause", cause_word(cause))]);
            self.registry.counter(FLOWS, labels)
        };
        self.flows.get(protocol as usize, cause_column(cause), make).increment(1);
    }

    pub(crate) fn exchange(&self, status: Option<u16>, cause: Option<Cause>) {
        let row = code_row(status);
        let make = || {
            let mut labels = self.labels(&[("cause", cause_word(cause))]);
            labels.push(Label::new("code", code_word(row)));
            self.registry.counter(EXCHANGES, labels)
        };
        self.exchanges.get(row, cause_column(cause), make).increment(1);
    }

    fn labels(&self, more: &[(&'static str, &'static str)]) -> Vec<Label> {
        labels(&self.name, more)
    }
}

fn labels(destination: &Arc<str>, more: &[(&'static str, &'static str)]) -> Vec<Label> {
    let mut labels = vec![Label::new("destination", SharedString::from_shared(destination.clone()))];
    labels.extend(more.iter().map(|(key, word)| Label::new(*key, *word)));
    labels
}

/// One column per cause, and the first for none.
const CAUSE_COLUMNS: usize = Cause::ALL.len() + 1;

fn cause_column(cause: Option<Cause>) -> usize {
    cause.map_or(0, |cause| cause as usize + 1)
}

fn cause_word(cause: Option<Cause>) -> &'static str {
    cause.map_or(NONE, Cause::as_str)
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

fn code_word(row: usize) -> SharedString {
    match row {
        0 => NONE.into(),
        1..=500 => (row + 99).to_string().into(),
        _ => "other".into(),
    }
}
