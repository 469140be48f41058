//! The functions that each request or connection goes through, each as a case that can be repeated.
//!
//! `cargo bench --profile counted -p dragoman-benches` takes their time, for a person who works at them. `make
//! instructions` counts their instructions, which are the same each time, and compares them with `instructions.toml`: CI
//! does that.

mod data;
mod pure;
mod whole;

/// One function with its input.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What it is called in `instructions.toml`.
    pub name: &'static str,
    /// Prepares the input, and returns what does the work once.
    pub prepare: fn() -> Round,
}

/// Does the work of a case once.
pub type Round = Box<dyn FnMut()>;

/// All cases.
pub const CASES: &[Case] = &[
    Case { name: "sniff_http1", prepare: pure::sniff_http1 },
    Case { name: "sniff_client_hello", prepare: pure::sniff_client_hello },
    Case { name: "sniff_server", prepare: pure::sniff_server },
    Case { name: "request_head_parse_and_forward", prepare: pure::request_head },
    Case { name: "response_head_parse_and_forward", prepare: pure::response_head },
    Case { name: "chunked_body_16_kib", prepare: pure::chunked_body },
    Case { name: "destination_of_10", prepare: || pure::destination_of(10) },
    Case { name: "destination_of_1000", prepare: || pure::destination_of(1000) },
    Case { name: "destination_of_10000", prepare: || pure::destination_of(10_000) },
    Case { name: "route_of_10", prepare: || pure::route_of(10) },
    Case { name: "route_of_1000", prepare: || pure::route_of(1000) },
    Case { name: "route_of_10000", prepare: || pure::route_of(10_000) },
    Case { name: "decision_after_success", prepare: pure::decision_after_success },
    Case { name: "decision_after_failure", prepare: pure::decision_after_failure },
    Case { name: "record_of_an_exchange", prepare: || pure::record_of_an_exchange(0) },
    Case { name: "record_of_an_exchange_and_its_story", prepare: || pure::record_of_an_exchange(1 << 20) },
    Case { name: "exchange_http1", prepare: whole::exchange_http1 },
    Case { name: "exchange_http2", prepare: whole::exchange_http2 },
    Case { name: "flow_http1", prepare: whole::flow_http1 },
];
