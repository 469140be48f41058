//! Bytes in, facts out: what a flow speaks, what a head says, where a body ends.
//!
//! Everything here reads bytes that a stranger sent. So every function is pure (no I/O, no clock, no
//! global state), never panics whatever the input, and does work and takes memory that are bounded by
//! a limit stated beside it. Answers never change their mind: once a prefix of the input gives a final
//! answer, every longer input gives the same one. That is what lets a caller read in any segmentation
//! and ask again after each read.
//!
//! Nothing is rewritten. A transparent proxy forwards what it received, therefore the HTTP/1 readers
//! return spans into the caller's bytes and the body readers return counts.

pub mod client_hello;
pub mod dns;
pub mod http1;
pub mod postgres;
pub mod sniff;
pub mod trace;

mod syntax;

pub use client_hello::{ClientHello, Hello, client_hello};
pub use postgres::{Startup, startup};
pub use sniff::{Client, Likely, Server, client, server};
