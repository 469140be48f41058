//! hyper as an oracle: the same bytes, read by dragoman and by the HTTP/1 of hyper, must give the same
//! messages or an explained refusal. The other way round, what h2 writes must be sniffed as HTTP/2.
//!
//! `PROPTEST_CASES=1000000 cargo test -p dragoman-wire --test oracle` looks further than CI does.

mod compare;
mod http2;
mod input;
mod page;
mod peer;
mod reading;
mod table;

use compare::{Comparison, compare};
use hyper::Method;
use proptest::prelude::*;
use proptest::test_runner::{TestCaseResult, TestRunner};
use table::{DIFFERENCES, Difference, Refusal, explain};
use tokio::runtime::{Builder, Runtime};

/// Methods whose responses are framed in different ways.
const METHODS: [Method; 3] = [Method::GET, Method::HEAD, Method::CONNECT];

#[test]
fn generated_requests_are_read_alike_or_the_difference_is_explained() {
    let runtime = runtime();
    let checked = runner().run(&input::requests(), |bytes| explained_request(&runtime, &bytes));
    checked.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn generated_responses_are_read_alike_or_the_difference_is_explained() {
    let runtime = runtime();
    let cases = (input::responses(), prop::sample::select(&METHODS[..]));
    let checked = runner().run(&cases, |(bytes, method)| explained_response(&runtime, &bytes, &method));
    checked.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn the_seeds_of_the_fuzzer_are_read_alike_or_the_difference_is_explained() {
    let runtime = runtime();
    let assert_explained = |result: TestCaseResult| result.unwrap_or_else(|failure| panic!("{failure}"));
    for bytes in input::corpus("request_head") {
        assert_explained(explained_request(&runtime, &bytes));
    }
    for bytes in input::corpus("response_head") {
        for method in METHODS {
            assert_explained(explained_response(&runtime, &bytes, &method));
        }
    }
    for body in input::corpus("chunked_body") {
        let request =
            [b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", &body[..]].concat();
        assert_explained(explained_request(&runtime, &request));
        let response = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &body[..]].concat();
        assert_explained(explained_response(&runtime, &response, &Method::GET));
    }
}

#[test]
fn each_row_of_the_table_is_shown_by_its_example() {
    let runtime = runtime();
    for row in DIFFERENCES {
        let bytes = row.example_bytes();
        let comparison = if bytes.starts_with(b"HTTP/") {
            compare_responses(&runtime, &bytes, &Method::GET).0
        } else {
            compare_requests(&runtime, &bytes).0
        };
        let expected = match row.refusal {
            Refusal::Dragoman(words) => Comparison::Stricter(words.to_owned()),
            Refusal::Hyper(words) => Comparison::Laxer(words.to_owned()),
        };
        assert_eq!(comparison, expected, "{:?}", row.example);
    }
}

/// The row "invalid URI" names bytes; here each byte is tried in each part of a target.
#[test]
fn the_bytes_that_hyper_refuses_in_a_target_are_those_of_the_table() {
    let runtime = runtime();
    let beyond_ascii = (0x80..=0xff_u8).collect::<Vec<_>>();
    let userinfo = br#""<>[\]^`{|}"#;
    let parts: [(&str, &str, &[u8]); 6] = [
        ("GET /a", "b", b"<>`"),
        ("GET /a?", "b", b"\"<>"),
        ("GET http://", "@a/", userinfo),
        ("GET http://a", "/", b""),
        ("GET http://[::1", "]/", b""),
        ("CONNECT a", ":443", b""),
    ];
    for (before, after, refused) in parts {
        let is_refused = |byte: &u8| {
            let odd =
                [before.as_bytes(), &[*byte], after.as_bytes(), b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
            compare_requests(&runtime, &odd).0 == Comparison::Laxer("invalid URI".to_owned())
        };
        let found: Vec<u8> = (0..=u8::MAX).filter(is_refused).collect();
        // No host has bytes beyond ASCII to dragoman either.
        let expected = if before.ends_with(['?', 'a', '/']) && !refused.is_empty() {
            [refused, &beyond_ascii].concat()
        } else {
            refused.to_vec()
        };
        assert_eq!(found, expected, "{before}_{after}: {}", found.escape_ascii());
    }
}

fn explained_request(runtime: &Runtime, bytes: &[u8]) -> TestCaseResult {
    explained(bytes, compare_requests(runtime, bytes))
}

fn explained_response(runtime: &Runtime, bytes: &[u8], method: &Method) -> TestCaseResult {
    explained(bytes, compare_responses(runtime, bytes, method))
}

fn explained(bytes: &[u8], (comparison, readings): (Comparison, String)) -> TestCaseResult {
    let known: Option<&Difference> = explain(&comparison);
    prop_assert!(
        comparison == Comparison::Same || known.is_some(),
        "not in table.rs: {comparison:?}\n{}\n{readings}",
        bytes.escape_ascii()
    );
    Ok(())
}

fn compare_requests(runtime: &Runtime, bytes: &[u8]) -> (Comparison, String) {
    let (ours, theirs) = (reading::requests(bytes), runtime.block_on(peer::requests(bytes)));
    (compare(&ours, &theirs), format!("dragoman: {ours:?}\nhyper: {theirs:?}"))
}

fn compare_responses(runtime: &Runtime, bytes: &[u8], method: &Method) -> (Comparison, String) {
    let ours = reading::responses(bytes, method.as_str());
    let theirs = runtime.block_on(peer::responses(bytes, method));
    (compare(&ours, &theirs), format!("to {method}\ndragoman: {ours:?}\nhyper: {theirs:?}"))
}

fn runner() -> TestRunner {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(8_000);
    TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) })
}

fn runtime() -> Runtime {
    Builder::new_current_thread().build().expect("a runtime without timers or sockets")
}
