//! What dragoman tells about its work: one record per flow and per exchange, from which the metrics and the
//! access log are made.
//!
//! The proxy fills a record in while it works and never counts by itself. A record is finished in one place
//! (on drop for a flow, on [`ExchangeRecord::finish`] or drop for an exchange), and there it adds one to one
//! counter and writes one line. That is why the log and the metrics agree: they are two prints of one fact.
//!
//! All label sets are closed. A name that the application chose (a host, a path, a server name) goes into the
//! log only, so the number of series is bounded by the configuration, whatever the application dials.

mod access;
mod cause;
mod exchange;
mod flow;
mod labels;
mod line;
mod metrics;
mod table;
mod text;

pub use access::{AccessFormat, AccessLog, AccessMode};
pub use cause::{Cause, Effect, Who};
pub use exchange::ExchangeRecord;
pub use flow::{FlowFacts, FlowRecord};
pub use labels::{AcceptError, EarlyDial, Outcome, Protocol};
pub use metrics::{DestinationMetrics, ProcessMetrics};

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use metrics::Registry;

/// The metrics and the access log of one process. A clone shares them and costs one reference count.
#[derive(Clone, Debug)]
pub struct Telemetry(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    registry: Arc<Registry>,
    process: ProcessMetrics,
    destinations: Box<[DestinationMetrics]>,
    access: AccessLog,
    ids: Ids,
    cutting: AtomicBool,
}

impl Telemetry {
    /// Metrics for these destinations; a destination is later named by its index in this list. An empty list
    /// is taken as the one destination `default`.
    pub fn new(destinations: Vec<Arc<str>>, access: AccessLog) -> Telemetry {
        let names = if destinations.is_empty() { vec!["default".into()] } else { destinations };
        let registry = Arc::new(Registry::new());
        Telemetry(Arc::new(Shared {
            process: ProcessMetrics::new(&registry),
            destinations: names.into_iter().map(|name| DestinationMetrics::new(&registry, name)).collect(),
            registry,
            access,
            ids: Ids::new(),
            cutting: AtomicBool::new(false),
        }))
    }

    /// The handles of a destination.
    ///
    /// # Panics
    /// When the index is not one of the list given to [`Telemetry::new`].
    pub fn destination(&self, index: usize) -> &DestinationMetrics {
        &self.0.destinations[index]
    }

    /// The handles of what belongs to no destination.
    pub fn process(&self) -> &ProcessMetrics {
        &self.0.process
    }

    /// Opens the record of a flow that was just accepted.
    pub fn flow(&self, peer: SocketAddr) -> FlowRecord {
        FlowRecord::new(self.clone(), peer)
    }

    /// All metrics in the Prometheus text format, version 0.0.4.
    pub fn render(&self) -> String {
        self.0.process.set_access_log_dropped(self.0.access.dropped());
        self.0.registry.render()
    }

    /// Waits until the access log has written every line that was handed to it before this call, or until
    /// the timeout has passed. Returns whether all were written.
    pub fn flush(&self, timeout: Duration) -> bool {
        self.0.access.flush(timeout)
    }

    /// From now on a record that is dropped without a cause was cut off by the end of the process, and gets
    /// the cause `drain_deadline`. Call it before tasks are aborted or the runtime is dropped.
    pub fn cut(&self) {
        self.0.cutting.store(true, Ordering::Release);
    }

    /// The cause of a record that is dropped without one, if that is not a good end.
    fn cause_of_drop(&self) -> Option<Cause> {
        if std::thread::panicking() {
            Some(Cause::Internal)
        } else {
            self.0.cutting.load(Ordering::Acquire).then_some(Cause::DrainDeadline)
        }
    }

    fn access(&self) -> &AccessLog {
        &self.0.access
    }

    fn next_id(&self) -> u64 {
        self.0.ids.next()
    }
}

/// Identifiers of flows and exchanges: unique within the process, and unlikely to repeat after a restart.
///
/// A counter passes through the finaliser of `SplitMix64` (Steele, Lea, Flood, 2014), which is a bijection,
/// so two counts never give the same identifier; the random start keeps two processes apart.
#[derive(Debug)]
struct Ids(AtomicU64);

impl Ids {
    fn new() -> Ids {
        Ids(AtomicU64::new(RandomState::new().hash_one(std::process::id())))
    }

    fn next(&self) -> u64 {
        let mut id = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        id = (id ^ (id >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        id = (id ^ (id >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        id ^ (id >> 31)
    }
}
