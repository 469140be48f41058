//! Traces: what a receiver of OTLP gets, and what the server learns of the same trace.

mod contexts;
mod losses;
mod receiver;
mod spans;

use std::time::{SystemTime, UNIX_EPOCH};

use dragoman_harness::Message;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// A request for `path` with more fields.
fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: shop.test\r\n{fields}\r\n")
}

/// The parts of the traceparent that the server got: trace, span, flags.
fn traceparent(request: &Message) -> (String, String, String) {
    let value = request.header("traceparent").unwrap_or_else(|| panic!("no traceparent: {}", request.head));
    let parts: Vec<_> = value.split('-').map(str::to_owned).collect();
    let [version, trace, span, flags] = <[String; 4]>::try_from(parts).unwrap();
    assert_eq!(version, "00");
    (trace, span, flags)
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_nanos()).unwrap()
}
