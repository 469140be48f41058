//! What belongs to the process as a whole.

use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::catalogue::Metric;
use super::cells::{Counter, Gauge};
use super::histogram::Histogram;
use super::page::Page;
use crate::cause::Cause;
use crate::labels::{AcceptError, EarlyDial, Protocol};

/// The numbers of what belongs to no destination.
#[derive(Debug)]
pub struct ProcessMetrics {
    started: SystemTime,
    flows_open: Gauge,
    flows_limit: Gauge,
    tasks: OnceLock<CountTasks>,
    defects: Counter,
    sniff: [Histogram; Protocol::ALL.len()],
    early_dials: [Counter; EarlyDial::ALL.len()],
    accept_errors: [Counter; AcceptError::ALL.len()],
}

/// Asks the runtime how many tasks there are.
struct CountTasks(Box<dyn Fn() -> usize + Send + Sync>);

impl fmt::Debug for CountTasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CountTasks")
    }
}

impl ProcessMetrics {
    pub(crate) fn new() -> ProcessMetrics {
        ProcessMetrics {
            started: SystemTime::now(),
            flows_open: Gauge::default(),
            flows_limit: Gauge::default(),
            tasks: OnceLock::new(),
            defects: Counter::default(),
            sniff: Default::default(),
            early_dials: Default::default(),
            accept_errors: Default::default(),
        }
    }

    /// Counts what became of an early dial.
    pub fn early_dial(&self, result: EarlyDial) {
        self.early_dials[result as usize].add(1);
    }

    /// Counts a failure of `accept`.
    pub fn accept_error(&self, kind: AcceptError) {
        self.accept_errors[kind as usize].add(1);
    }

    /// States the most flows that may be open.
    pub fn set_flow_limit(&self, flows: usize) {
        self.flows_limit.set(i64::try_from(flows).unwrap_or(i64::MAX));
    }

    /// States how the tasks of the runtime are counted; it is asked for each page. The first one stays.
    pub fn count_tasks(&self, count: impl Fn() -> usize + Send + Sync + 'static) {
        let _ = self.tasks.set(CountTasks(Box::new(count)));
    }

    pub(crate) fn flow_opened(&self) {
        self.flows_open.add(1);
    }

    pub(crate) fn flow_closed(&self) {
        self.flows_open.add(-1);
    }

    /// A rare cause has no series before it first happens, and an increase from nothing is none to Prometheus: this one is
    /// there from the start.
    pub(crate) fn ended_with(&self, cause: Option<Cause>) {
        if cause == Some(Cause::Internal) {
            self.defects.add(1);
        }
    }

    pub(crate) fn sniffed(&self, protocol: Protocol, after: Duration) {
        self.sniff[protocol as usize].record(after);
    }

    pub(crate) fn write(&self, page: &mut Page) {
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        page.sample(Metric::BuildInfo, &[env!("CARGO_PKG_VERSION"), profile], 1);
        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        page.sample(Metric::StartTime, &[], started.as_secs_f64());
        page.sample(Metric::FlowsOpen, &[], self.flows_open.get());
        if let Some(tasks) = self.tasks.get() {
            page.sample(Metric::Tasks, &[], tasks.0() as u64);
        }
        page.sample(Metric::Defects, &[], self.defects.get());
        page.sample(Metric::FlowsLimit, &[], self.flows_limit.get());
        for protocol in Protocol::ALL {
            page.histogram(Metric::Sniff, &[protocol.as_str()], &self.sniff[*protocol as usize]);
        }
        for result in EarlyDial::ALL {
            page.sample(Metric::EarlyDials, &[result.as_str()], self.early_dials[*result as usize].get());
        }
        for kind in AcceptError::ALL {
            page.sample(Metric::AcceptErrors, &[kind.as_str()], self.accept_errors[*kind as usize].get());
        }
    }
}
