//! What the metrics say of the configuration: which one is in force, and how the last change of it went.
//!
//! A fleet is compared by the hash, which is the same wherever the same text is in force. It is a value and not a
//! label, so that a change replaces a series and does not add one. It is cut to 48 bits, which a float holds exactly.

use std::time::{SystemTime, UNIX_EPOCH};

use super::catalogue::Metric;
use super::cells::{Counter, Gauge};
use super::page::Page;
use crate::labels::Reload;

/// The metrics of the configuration.
#[derive(Debug, Default)]
pub struct ReloadMetrics {
    results: [Counter; Reload::ALL.len()],
    successful: Gauge,
    generation: Gauge,
    hash: Gauge,
    applied: Gauge,
    restart: Gauge,
}

impl ReloadMetrics {
    /// The configuration with this generation and hash is in force from now on. `restart`: it states keys that take
    /// effect at the next start.
    pub fn in_force(&self, generation: u64, hash: u64, restart: bool) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.successful.set(1);
        self.generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
        self.hash.set((hash >> 16).cast_signed());
        self.applied.set(now.as_secs().cast_signed());
        self.restart.set(restart.into());
    }

    /// Counts that the configuration was read again.
    pub fn reloaded(&self, result: Reload) {
        self.results[result as usize].add(1);
        self.successful.set((result != Reload::Refused).into());
    }

    pub(crate) fn write(&self, page: &mut Page) {
        for result in Reload::ALL {
            page.sample(Metric::Reloads, &[result.as_str()], self.results[*result as usize].get());
        }
        for (metric, gauge) in [
            (Metric::ReloadSuccessful, &self.successful),
            (Metric::ConfigGeneration, &self.generation),
            (Metric::ConfigHash, &self.hash),
            (Metric::ConfigApplied, &self.applied),
            (Metric::RestartNeeded, &self.restart),
        ] {
            page.sample(metric, &[], gauge.get());
        }
    }
}
