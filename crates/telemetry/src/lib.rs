//! What dragoman tells about its work: one record per flow and per exchange, from which the metrics and the
//! access log are made.
//!
//! The proxy fills a record in while it works and never counts by itself. A record is finished in one place
//! (on drop for a flow, on [`ExchangeRecord::finish`] or drop for an exchange), and there it adds one to one
//! counter and writes one line. That is why the log and the metrics agree: they are two prints of one fact.
//!
//! All label sets are closed, but for the endpoint's, which is bounded. A name that the application chose (a host, a
//! path, a server name) goes into the log only, so the number of series is bounded by the configuration, whatever the
//! application dials.

mod access;
mod cause;
mod exchange;
mod flow;
mod growing;
mod host;
mod labels;
mod metrics;
mod recorder;
mod secured;
mod text;
#[cfg_attr(not(feature = "otlp"), allow(dead_code, reason = "without the exporter there is no tracer"))]
mod trace;

pub use access::{AccessFormat, AccessLog, AccessMode, Field, LogFile, Shape, Sink};
pub use cause::{Cause, Effect, Who};
pub use exchange::ExchangeRecord;
pub use flow::{FlowFacts, FlowRecord};
pub use labels::{
    AcceptError, BreakerState, Direction, DnsOutcome, DnsTransport, DropReason, EarlyDial, Handshake,
    MaterialReload, Outcome, Protocol, Reload, TlsVersion, Way,
};
pub use metrics::{
    BUCKETS, DestinationMetrics, DestinationState, DnsMetrics, ENDPOINTS, EndpointState, Held, Kind,
    MaterialMetrics, Metric, ProcessMetrics, ReloadMetrics,
};
pub use recorder::{AttemptStory, FirstBytes, Follower, Note, Recorded, Sniffed, Speaker, Story};
pub use secured::Secured;
#[cfg(feature = "otlp")]
pub use trace::Receiver;
pub use trace::{TraceParent, Tracer};

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use growing::GrowingList;
use host::Host;
use metrics::Page;
use recorder::Recorder;

/// The metrics and the access log of one process. A clone shares them and costs one reference count.
#[derive(Clone, Debug)]
pub struct Telemetry(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    process: ProcessMetrics,
    host: Host,
    dns: DnsMetrics,
    reload: ReloadMetrics,
    material: MaterialMetrics,
    destinations: GrowingList<DestinationMetrics>,
    access: AccessLog,
    tracer: OnceLock<Tracer>,
    recorder: OnceLock<Recorder>,
    ids: Ids,
    cutting: AtomicBool,
    watch: OnceLock<Watch>,
}

/// Reads the state of the destinations, each with its index.
struct Watch(Box<dyn Fn() -> Vec<(usize, DestinationState)> + Send + Sync>);

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watch")
    }
}

impl Telemetry {
    /// Metrics for these destinations; a destination is later named by its index in this list. An empty list
    /// is taken as the one destination `default`.
    pub fn new(destinations: Vec<Arc<str>>, access: AccessLog) -> Telemetry {
        let names = if destinations.is_empty() { vec!["default".into()] } else { destinations };
        let telemetry = Telemetry(Arc::new(Shared {
            process: ProcessMetrics::new(),
            host: Host::default(),
            dns: DnsMetrics::default(),
            reload: ReloadMetrics::default(),
            material: MaterialMetrics::default(),
            destinations: GrowingList::new(),
            access,
            tracer: OnceLock::new(),
            recorder: OnceLock::new(),
            ids: Ids::new(),
            cutting: AtomicBool::new(false),
            watch: OnceLock::new(),
        }));
        telemetry.add_destinations(&names);
        telemetry
    }

    /// Metrics for the destinations of a new configuration. `names` starts with those of all calls before: an index
    /// never changes its name, because records that are open keep theirs.
    pub fn add_destinations(&self, names: &[Arc<str>]) {
        for (index, name) in names.iter().enumerate() {
            let metrics =
                self.0.destinations.get_or_fill(index, || DestinationMetrics::new(Arc::clone(name)));
            debug_assert_eq!(metrics.name(), &**name, "destination {index} has changed its name");
        }
    }

    /// The handles of a destination.
    ///
    /// # Panics
    /// When the index is not one of the list given to [`Telemetry::new`] or [`Telemetry::add_destinations`].
    pub fn destination(&self, index: usize) -> &DestinationMetrics {
        self.0.destinations.get(index).expect("each destination is added before it is used")
    }

    /// The handles of what belongs to no destination.
    pub fn process(&self) -> &ProcessMetrics {
        &self.0.process
    }

    /// The handles of DNS.
    pub fn dns(&self) -> &DnsMetrics {
        &self.0.dns
    }

    /// The handles of what is said about the configuration.
    pub fn reload(&self) -> &ReloadMetrics {
        &self.0.reload
    }

    /// The handles of what is said about the files of TLS.
    pub fn material(&self) -> &MaterialMetrics {
        &self.0.material
    }

    /// From now on, what is recorded of traces goes to `tracer`. The first one stays.
    pub fn trace_to(&self, tracer: Tracer) {
        // A second one ends as it is dropped here.
        let _ = self.0.tracer.set(tracer);
    }

    /// Whether there is a tracer: else no trace need be looked for.
    pub fn traces(&self) -> bool {
        self.tracer().is_some()
    }

    /// Opens the record of a flow that was just accepted.
    pub fn flow(&self, peer: SocketAddr) -> FlowRecord {
        FlowRecord::new(self.clone(), peer)
    }

    /// States where the present state of the destinations can be read, as pairs of index and state. It is asked for each
    /// page, and must not wait for the data path. The first one stays.
    pub fn watch(&self, state: impl Fn() -> Vec<(usize, DestinationState)> + Send + Sync + 'static) {
        let _ = self.0.watch.set(Watch(Box::new(state)));
    }

    /// The present state of the destinations that are in use, as pairs of index and state.
    pub fn states(&self) -> Vec<(usize, DestinationState)> {
        self.0.watch.get().map_or_else(Vec::new, |watch| watch.0())
    }

    /// States the ports that captured connections are redirected to, so that connections to them can be told from others.
    pub fn set_own_ports(&self, ports: Vec<u16>) {
        self.0.host.set_own_ports(ports);
    }

    /// All metrics in the Prometheus text format, version 0.0.4. Reads files of `/proc`, and takes 100 ms and more where there
    /// are tens of thousands of sockets: not for a thread that serves flows.
    pub fn render(&self) -> String {
        let mut page = Page::new();
        self.0.process.write(&mut page);
        self.0.host.write(&mut page, Instant::now());
        page.sample(Metric::AccessLogWaiting, &[], self.0.access.waiting());
        page.sample(Metric::AccessLogDropped, &[], self.0.access.dropped());
        if let Some(tracer) = self.tracer() {
            tracer.write(&mut page);
        }
        self.0.dns.write(&mut page);
        self.0.reload.write(&mut page);
        self.0.material.write(&mut page);
        for destination in (0..).map_while(|index| self.0.destinations.get(index)) {
            destination.write(&mut page);
        }
        for (index, state) in self.states() {
            state.write(&mut page, self.destination(index).name());
        }
        page.finish()
    }

    /// Has the access log's file opened again by its name, by the thread that writes it. If that fails, the process log says
    /// so and the file that was open is written on.
    pub fn reopen_access_log(&self) {
        self.0.access.reopen();
    }

    /// Waits until the access log has written every line that was handed to it before this call, and every span
    /// is sent or dropped, or until the timeout has passed. Returns whether all was written and sent.
    pub fn flush(&self, timeout: Duration) -> bool {
        let end = Instant::now() + timeout;
        // Both at the same time: one that is stuck must not take the other's.
        if let Some(tracer) = self.tracer() {
            tracer.hurry();
        }
        let written = self.0.access.flush(timeout);
        let rest = end.saturating_duration_since(Instant::now());
        self.tracer().is_none_or(|tracer| tracer.flush(rest)) && written
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

    /// From now on the records of this mode get a line in the access log.
    pub fn set_access_mode(&self, mode: AccessMode) {
        self.0.access.set_mode(mode);
    }

    fn tracer(&self) -> Option<&Tracer> {
        self.0.tracer.get()
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
        // An identifier is a span's too, and that is never zero.
        (id ^ (id >> 31)).max(1)
    }
}
