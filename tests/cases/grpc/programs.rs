//! Real clients and servers, each with each: what a client prints does not depend on who serves it, nor on
//! what lies between the two.

use std::path::PathBuf;
use std::process::Command;

use dragoman_harness::http2::way::POLICY;
use dragoman_harness::http2::{Way, each_way};
use dragoman_harness::process::{self, Process};
use dragoman_harness::scratch::Scratch;
use dragoman_harness::{Dragoman, Net, programs, wait};

const PORT: u16 = 50051;
const TARGET: &str = "198.18.0.2:50051";

/// What every client prints of every server: each kind of call, each status with its message and its
/// metadata, and that the server learnt of each call that was given up.
const PRINTED: &str = include_str!("calls.txt");

#[derive(Clone, Copy, Debug)]
enum Language {
    Python,
    Node,
    Rust,
}

impl Language {
    /// The program, or the one that runs a script, and the script.
    fn program(self, name: &str) -> (PathBuf, Option<PathBuf>) {
        match self {
            Language::Python => (programs::python(), Some(programs::path(&format!("{name}.py")))),
            Language::Node => ("node".into(), Some(programs::path(&format!("node/{name}.mjs")))),
            Language::Rust => (programs::tonic(name), None),
        }
    }
}

/// A running server of `test.Echo`.
struct Echo {
    _process: Process,
    _scratch: Scratch,
}

impl Echo {
    fn start(net: &Net, language: Language, age: Option<&str>) -> Echo {
        let (program, script) = language.program("grpc_server");
        let mut command = net.servers.command(program);
        command.args(script).arg(PORT.to_string()).args(age);
        let scratch = Scratch::new("grpc");
        let mut process =
            Process::start("a gRPC server", &mut command, &scratch.path().join("server.log"), None);
        process.wait_ready(wait::SOON, || net.servers.listens(PORT));
        Echo { _process: process, _scratch: scratch }
    }
}

fn client(net: &Net, language: Language) -> Command {
    let (program, script) = language.program("grpc_client");
    let mut command = net.app.bounded(program);
    command.args(script).arg(TARGET);
    command
}

fn every_call_is_what_it_is_without(client_language: Language, server_language: Language) {
    let net = Net::new();
    each_way(&net, |way| {
        let _server = Echo::start(&net, server_language, None);
        let printed = process::succeed(&mut client(&net, client_language));
        let wrong: Vec<_> =
            printed.lines().zip(PRINTED.lines()).filter(|(is, should)| is != should).collect();
        assert!(printed == PRINTED, "{way:?}: printed, then expected: {wrong:#?}\n{printed}");
    });
}

#[test]
fn h6_python_calls_python() {
    every_call_is_what_it_is_without(Language::Python, Language::Python);
}

#[test]
fn h6_python_calls_node() {
    every_call_is_what_it_is_without(Language::Python, Language::Node);
}

#[test]
fn h6_node_calls_python() {
    every_call_is_what_it_is_without(Language::Node, Language::Python);
}

#[test]
fn h6_node_calls_node() {
    every_call_is_what_it_is_without(Language::Node, Language::Node);
}

#[test]
fn h6_rust_calls_rust() {
    every_call_is_what_it_is_without(Language::Rust, Language::Rust);
}

#[test]
fn h6_rust_calls_python() {
    every_call_is_what_it_is_without(Language::Rust, Language::Python);
}

#[test]
fn h6_rust_calls_node() {
    every_call_is_what_it_is_without(Language::Rust, Language::Node);
}

#[test]
fn h6_python_calls_rust() {
    every_call_is_what_it_is_without(Language::Python, Language::Rust);
}

#[test]
fn h6_node_calls_rust() {
    every_call_is_what_it_is_without(Language::Node, Language::Rust);
}

/// How many calls came to an end, by what a client prints of each status: `{0: 499, 14: 1}`.
fn ended(printed: &str) -> u32 {
    let counts = printed.trim().trim_matches(['{', '}']).split(',');
    counts.map(|count| count.split_once(": ").and_then(|(_, count)| count.parse::<u32>().ok()).unwrap()).sum()
}

fn no_status_is_lost(language: Language, calls: u32) {
    let net = Net::new();
    each_way(&net, |way| {
        // Connections live a tenth of a second: the load meets many ends.
        let _server = Echo::start(&net, language, Some("100"));
        for client_language in [Language::Python, Language::Node, Language::Rust] {
            // grpc-js itself ends some calls as UNAVAILABLE when a server closes early, whichever it is, and tonic some as
            // CANCELLED; where the proxy is their server, nothing closes.
            let loses_some = matches!(client_language, Language::Node | Language::Rust);
            if way != Way::Governed && loses_some {
                continue;
            }
            let mut load = client(&net, client_language);
            let printed = process::succeed(load.args(["load", &calls.to_string()]));
            if way != Way::Governed && matches!(language, Language::Node) {
                // As a server grpc-js says GOAWAY once, for streams to come, and closes when it has none: what is on its way
                // then is lost, with or without a proxy of bytes.
                assert_eq!(ended(&printed), calls, "{way:?}, {client_language:?}: {printed}");
                continue;
            }
            assert_eq!(printed.trim(), format!("{{0: {calls}}}"), "{way:?}, {client_language:?}");
        }
    });
}

#[test]
fn h6_max_connection_age_of_a_python_server_loses_no_status_under_load() {
    no_status_is_lost(Language::Python, 500);
}

#[test]
fn h6_max_connection_age_of_a_node_server_loses_no_status_under_load() {
    no_status_is_lost(Language::Node, 500);
}

#[test]
fn h6_max_connection_age_of_a_rust_server_loses_no_status_under_load() {
    no_status_is_lost(Language::Rust, 500);
}

#[test]
fn h14_calls_are_counted_by_their_status() {
    let net = Net::new();
    let dragoman = Dragoman::start(&net, POLICY);
    let _server = Echo::start(&net, Language::Python, None);
    process::succeed(&mut client(&net, Language::Node));
    let metrics = dragoman.settle();
    let counted = metrics.values("dragoman_grpc_responses_total", "grpc_status");
    // Each status from 1 to 16 was asked for once; some calls end with one of them besides.
    for status in ["invalid_argument", "not_found", "already_exists", "permission_denied", "data_loss"] {
        assert_eq!(counted.get(status), Some(&1), "{status}: {counted:#?}");
    }
    assert_eq!(counted.get("unavailable"), Some(&2), "one of them after messages: {counted:#?}");
    assert_eq!(counted.get("unimplemented"), Some(&2), "one of them by the library itself: {counted:#?}");
    assert!(counted.get("ok").is_some_and(|count| *count >= 100), "{counted:#?}");
    let all = metrics.sum("dragoman_grpc_responses_total", &[("destination", "default")]);
    assert_eq!(all, counted.values().sum::<u64>());
}

#[test]
fn h9_a_message_of_20_mb_is_not_kept() {
    // The clients send one in each run above; what is asked here is what it costs.
    let net = Net::new();
    let dragoman = Dragoman::start(&net, POLICY);
    let _server = Echo::start(&net, Language::Node, None);
    process::succeed(&mut client(&net, Language::Node));
    let status = std::fs::read_to_string(format!("/proc/{}/status", dragoman.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim();
    println!("at most {peak} while messages of 20 MB passed in both directions");
    let kib: u64 = peak.trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 48 * 1024, "{peak}");
}
