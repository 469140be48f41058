//! What the metrics say of the files of TLS: how their changes went, and when what they hold expires.

use std::sync::{Arc, Mutex, PoisonError};

use super::catalogue::Metric;
use super::cells::{Counter, Gauge};
use super::page::Page;
use crate::labels::MaterialReload;

/// The metrics of the files of TLS. A proxy that reads none has none of this on its page.
#[derive(Debug, Default)]
pub struct MaterialMetrics {
    results: [Counter; MaterialReload::ALL.len()],
    refused: Gauge,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    reads: bool,
    expiries: Vec<(Arc<str>, u64)>,
}

impl MaterialMetrics {
    /// Counts that changed files were read.
    pub fn reloaded(&self, result: MaterialReload) {
        self.results[result as usize].add(1);
    }

    /// So many destinations have files that cannot be used, and these have certificates that expire then, in seconds since
    /// 1970.
    pub fn state(&self, refused: usize, expiries: Vec<(Arc<str>, u64)>) {
        self.refused.set(i64::try_from(refused).unwrap_or(i64::MAX));
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State { reads: true, expiries };
    }

    pub(crate) fn write(&self, page: &mut Page) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.reads {
            return;
        }
        for result in MaterialReload::ALL {
            page.sample(Metric::TlsReloads, &[result.as_str()], self.results[*result as usize].get());
        }
        page.sample(Metric::TlsRefused, &[], self.refused.get());
        for (destination, expiry) in &state.expiries {
            page.sample(Metric::TlsExpiry, &[destination], *expiry);
        }
    }
}
