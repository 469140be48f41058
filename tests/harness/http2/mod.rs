//! HTTP/2 (RFC 9113) as a script plays it: frames as they stand on the wire, for either end of a connection.
//!
//! Written apart from the library that the proxy uses, so that a mistake there is not made here too, and
//! able to break each rule, which no library lets its user do.

pub mod frame;
pub mod hpack;
pub mod origin;
mod receive;
pub mod way;
pub mod wire;

pub use frame::{Frame, code, flag, kind, setting};
pub use origin::{Http2Origin, Inbox, Request};
pub use way::{Way, each_way};
pub use wire::{End, Event, Response, Wire, request, value};
