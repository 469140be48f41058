//! The tests of the public interface, as one program: linking five of them takes longer than running one.

mod causes;
mod common;
mod fields;
mod hostile;
mod metrics;
mod recorder;
mod records;
mod writer;
