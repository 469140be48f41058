//! The numbers themselves: atomics that are added to where something happens and read when somebody looks.
//!
//! Nothing is ordered against anything else: a page is a look at numbers that move, and each is right by itself.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicI64);

impl Gauge {
    pub(crate) fn add(&self, change: i64) {
        self.0.fetch_add(change, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counters by two closed labels.
///
/// A row is allocated whole on its first use: a few rows are used in practice (some status codes, one or two
/// protocols), each with many possible columns (the causes). Only series that happened are exported.
#[derive(Debug)]
pub(crate) struct Grid {
    /// The list of rows too is allocated when it is needed: many a destination has no traffic.
    rows: OnceLock<Box<[OnceLock<Row>]>>,
    count: usize,
    columns: usize,
}

type Row = Box<[Counter]>;

impl Grid {
    pub(crate) fn new(rows: usize, columns: usize) -> Grid {
        Grid { rows: OnceLock::new(), count: rows, columns }
    }

    pub(crate) fn at(&self, row: usize, column: usize) -> &Counter {
        &self.rows.get_or_init(|| fresh(self.count))[row].get_or_init(|| fresh(self.columns))[column]
    }

    /// Row, column and value of each that was counted.
    pub(crate) fn counted(&self) -> impl Iterator<Item = (usize, usize, u64)> {
        let rows = self.rows.get().into_iter().flatten().enumerate();
        let rows = rows.filter_map(|(at, row)| Some((at, row.get()?)));
        rows.flat_map(|(at, row)| {
            row.iter().enumerate().map(move |(column, counter)| (at, column, counter.get()))
        })
        .filter(|(_, _, count)| *count > 0)
    }
}

fn fresh<T: Default>(count: usize) -> Box<[T]> {
    std::iter::repeat_with(T::default).take(count).collect()
}

/// Counters by a word of a set that is closed, but not known here.
#[derive(Debug, Default)]
pub(crate) struct Words(RwLock<BTreeMap<&'static str, Counter>>);

impl Words {
    pub(crate) fn count(&self, word: &'static str) {
        if let Some(counter) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(word) {
            return counter.add(1);
        }
        self.0.write().unwrap_or_else(PoisonError::into_inner).entry(word).or_default().add(1);
    }

    pub(crate) fn each(&self, mut show: impl FnMut(&'static str, u64)) {
        let words = self.0.read().unwrap_or_else(PoisonError::into_inner);
        words.iter().for_each(|(word, counter)| show(word, counter.get()));
    }
}
