//! Counters by two closed labels.

use std::sync::OnceLock;

use metrics::Counter;

/// A table of counters, each made when it is first counted, so that only series that happened are exported.
///
/// A row is allocated whole on its first use: a few rows are used in practice (some status codes, one or two
/// protocols), each with many possible columns (the causes). A look-up of a counter that exists is two atomic
/// loads.
pub(crate) struct CounterTable {
    rows: Box<[OnceLock<Row>]>,
    columns: usize,
}

type Row = Box<[OnceLock<Counter>]>;

impl CounterTable {
    pub(crate) fn new(rows: usize, columns: usize) -> CounterTable {
        CounterTable { rows: empty(rows), columns }
    }

    /// The counter at this place, made by `make` the first time.
    pub(crate) fn get(&self, row: usize, column: usize, make: impl FnOnce() -> Counter) -> &Counter {
        self.rows[row].get_or_init(|| empty(self.columns))[column].get_or_init(make)
    }
}

impl std::fmt::Debug for CounterTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CounterTable({} x {})", self.rows.len(), self.columns)
    }
}

fn empty<T>(len: usize) -> Box<[OnceLock<T>]> {
    std::iter::repeat_with(OnceLock::new).take(len).collect()
}
