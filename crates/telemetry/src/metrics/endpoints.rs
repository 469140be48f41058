//! Counters by endpoint: bounded, and without losing a count.
//!
//! Where the endpoint is the original destination the app decides how many there are. So only the first
//! [`ENDPOINTS`] of a destination have series of their own; all others are counted as [`OTHER`], and so is what an
//! endpoint had counted when it has been idle for [`IDLE`] and makes way. The sum over the endpoints is therefore exact
//! at any time. (A rate is not where an endpoint has just moved to the others; the totals by destination are for that.)
//!
//! A new endpoint never displaces one that is in use: among a hundred thousand, series that come and go would tell
//! nothing about any of them, and each would cost the time series database a series.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use super::catalogue::Metric;
use super::cells::Counter;
use super::page::Page;
use crate::labels::Outcome;

/// The most endpoints of a destination that have series of their own.
pub const ENDPOINTS: usize = 64;
/// An endpoint without a new count for as long makes way.
pub(crate) const IDLE: Duration = Duration::from_secs(15 * 60);
/// What stands for all endpoints without series of their own.
const OTHER: &str = "other";

/// Attempts by outcome.
#[derive(Debug, Default)]
struct Attempts([Counter; Outcome::ALL.len()]);

impl Attempts {
    fn total(&self) -> u64 {
        self.0.iter().map(Counter::get).sum()
    }

    fn write(&self, page: &mut Page, destination: &str, endpoint: &str) {
        for outcome in Outcome::ALL {
            let count = self.0[*outcome as usize].get();
            if count > 0 {
                page.sample(Metric::EndpointAttempts, &[destination, endpoint, outcome.as_str()], count);
            }
        }
    }
}

/// The endpoints of one destination.
#[derive(Debug, Default)]
pub(crate) struct EndpointTable(RwLock<Table>);

#[derive(Debug, Default)]
struct Table {
    own: HashMap<SocketAddr, Own, RandomState>,
    other: Attempts,
}

#[derive(Debug)]
struct Own {
    attempts: Attempts,
    /// The total when it was last looked at, and since when it is that.
    seen: u64,
    since: Instant,
}

impl EndpointTable {
    /// Counts an attempt. Takes a lock for reading, but for the first of an endpoint.
    pub(crate) fn attempt(&self, endpoint: SocketAddr, outcome: Outcome) {
        {
            let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
            let own = table.own.get(&endpoint).map(|own| &own.attempts);
            if own.is_some() || table.own.len() >= ENDPOINTS {
                return own.unwrap_or(&table.other).0[outcome as usize].add(1);
            }
        }
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let Table { own, other } = &mut *table;
        let attempts = if own.len() < ENDPOINTS || own.contains_key(&endpoint) {
            let new = || Own { attempts: Attempts::default(), seen: 0, since: Instant::now() };
            &own.entry(endpoint).or_insert_with(new).attempts
        } else {
            other
        };
        attempts.0[outcome as usize].add(1);
    }

    /// Lets idle endpoints make way, and shows what is left. Nobody counts meanwhile, so no count is lost.
    pub(crate) fn write(&self, page: &mut Page, destination: &str, now: Instant) {
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let Table { own, other } = &mut *table;
        own.retain(|_, own| {
            let total = own.attempts.total();
            if total != own.seen {
                (own.seen, own.since) = (total, now);
            }
            let idle = now.saturating_duration_since(own.since) >= IDLE;
            if idle {
                for (others, counter) in other.0.iter().zip(&own.attempts.0) {
                    others.add(counter.get());
                }
            }
            !idle
        });
        for (endpoint, own) in own {
            own.attempts.write(page, destination, &endpoint.to_string());
        }
        other.write(page, destination, OTHER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: usize) -> SocketAddr {
        SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 80))
    }

    /// The counts of a page by endpoint.
    fn shown(table: &EndpointTable, now: Instant) -> HashMap<String, u64> {
        let mut page = Page::new();
        table.write(&mut page, "d", now);
        let text = page.finish();
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let parsed = samples.map(|line| {
            let (series, count) = line.rsplit_once(' ').unwrap();
            let endpoint = series.split("endpoint=\"").nth(1).unwrap().split('"').next().unwrap();
            (endpoint.to_owned(), count.parse::<u64>().unwrap())
        });
        let mut counts = HashMap::new();
        parsed.for_each(|(endpoint, count)| *counts.entry(endpoint).or_default() += count);
        counts
    }

    #[test]
    fn l6_what_does_not_fit_is_counted_with_the_others() {
        let table = EndpointTable::default();
        for n in 0..ENDPOINTS + 100 {
            table.attempt(address(n), Outcome::Success);
            table.attempt(address(n), Outcome::Failure);
        }
        let counts = shown(&table, Instant::now());
        assert_eq!(counts.len(), ENDPOINTS + 1);
        assert_eq!(counts[&address(0).to_string()], 2);
        assert_eq!(counts[OTHER], 200);
    }

    #[test]
    fn l6_an_idle_endpoint_makes_way_and_its_count_stays() {
        let table = EndpointTable::default();
        let start = Instant::now();
        for n in 0..ENDPOINTS {
            table.attempt(address(n), Outcome::Success);
        }
        shown(&table, start);
        table.attempt(address(0), Outcome::Success);
        assert_eq!(shown(&table, start + IDLE / 2).len(), ENDPOINTS, "nothing has been idle for long");

        let later = shown(&table, start + IDLE);
        assert_eq!(later.len(), 2, "one was in use: {later:?}");
        assert_eq!(later[&address(0).to_string()], 2);
        assert_eq!(later[OTHER], ENDPOINTS as u64 - 1);

        table.attempt(address(7), Outcome::Success);
        let again = shown(&table, start + IDLE);
        assert_eq!(again[&address(7).to_string()], 1, "it begins anew");
        assert_eq!(again.values().sum::<u64>(), ENDPOINTS as u64 + 2);
    }

    /// Threads count while series expire all the time: at the end nothing is missing.
    #[test]
    fn l6_no_count_is_lost_while_series_expire() {
        let table = EndpointTable::default();
        let (threads, each) = (4, 20_000);
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let table = &table;
                scope.spawn(move || {
                    (0..each).for_each(|n| table.attempt(address((n * 7 + thread) % 1000), Outcome::Local));
                });
            }
            let start = Instant::now();
            let mut before = 0;
            for step in 0..200 {
                let sum = shown(&table, start + IDLE * step).values().sum::<u64>();
                assert!(sum >= before, "a sum of counters never falls");
                before = sum;
            }
        });
        assert_eq!(shown(&table, Instant::now()).values().sum::<u64>(), (threads * each) as u64);
    }
}
