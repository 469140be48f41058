//! What is counted of DNS. A proxy that serves none has none of this on its page.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::catalogue::Metric;
use super::cells::{Counter, Gauge};
use super::histogram::Histogram;
use super::page::Page;
use crate::labels::{DnsOutcome, DnsTransport};

/// The numbers of DNS.
#[derive(Debug, Default)]
pub struct DnsMetrics {
    served: AtomicBool,
    queries: [[Counter; DnsOutcome::ALL.len()]; DnsTransport::ALL.len()],
    seconds: Histogram,
    retries: Counter,
    strays: Counter,
    pending: Gauge,
    names: Gauge,
}

impl DnsMetrics {
    /// States that DNS is served.
    pub fn served(&self) {
        self.served.store(true, Ordering::Relaxed);
    }

    /// A query waits from now on.
    pub fn began(&self) {
        self.pending.add(1);
    }

    /// A query that waited has ended.
    pub fn ended(&self, transport: DnsTransport, outcome: DnsOutcome) {
        self.pending.add(-1);
        self.queries[transport as usize][outcome as usize].add(1);
    }

    /// How many queries wait.
    pub fn pending(&self) -> i64 {
        self.pending.get()
    }

    /// A resolver has answered a query so long after it was read.
    pub fn answered(&self, after: Duration) {
        self.seconds.record(after);
    }

    /// A query was put to a resolver after the first try.
    pub fn retried(&self) {
        self.retries.add(1);
    }

    /// Something came that answers nothing.
    pub fn stray(&self) {
        self.strays.add(1);
    }

    /// So many addresses are known by a name.
    pub fn names(&self, addresses: usize) {
        self.names.set(i64::try_from(addresses).unwrap_or(i64::MAX));
    }

    pub(crate) fn write(&self, page: &mut Page) {
        if !self.served.load(Ordering::Relaxed) {
            return;
        }
        for transport in DnsTransport::ALL {
            for outcome in DnsOutcome::ALL {
                let count = self.queries[*transport as usize][*outcome as usize].get();
                page.sample(Metric::DnsQueries, &[transport.as_str(), outcome.as_str()], count);
            }
        }
        page.histogram(Metric::DnsTime, &[], &self.seconds);
        page.sample(Metric::DnsRetries, &[], self.retries.get());
        page.sample(Metric::DnsStrays, &[], self.strays.get());
        page.sample(Metric::DnsPending, &[], self.pending.get());
        page.sample(Metric::DnsNames, &[], self.names.get());
    }
}
