//! The time that a call may take, and the time that a server asks for: both are kept through repetitions.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use dragoman_harness::http2::{Event, Frame, Http2Origin, Wire, code, request};
use dragoman_harness::net::server;
use dragoman_harness::{Dragoman, Net, Origin, wait};

use crate::{MESSAGE, answer, call, fail, status};

/// Waits between attempts come from the server alone.
const RETRYING: &str =
    "[defaults]\npool = {}\nretry = { grpc_statuses = ['unavailable'], base = '1ms', cap = '5s' }\n";

/// A `grpc-timeout`: up to eight digits and a unit.
fn timeout(text: &str) -> Duration {
    let (digits, unit) = text.split_at(text.len() - 1);
    assert!((1..=8).contains(&digits.len()), "{text}: the wire has room for eight digits");
    let number: u64 = digits.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
    match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => panic!("{text} has no unit"),
    }
}

#[test]
fn h14_a_deadline_is_kept_and_shrinks_with_each_attempt() {
    let net = Net::new();
    let origin = Http2Origin::start(&net.servers, server(80), |wire, request, n| match n % 3 {
        0 | 1 => fail(wire, request.stream, "14", &[("grpc-retry-pushback-ms", "100")]),
        _ => answer(wire, request.stream, "0"),
    });
    let _dragoman = Dragoman::start(&net, RETRYING);
    for sent in ["30S", "1H", "20000m", "99999999u"] {
        assert_eq!(status(&call(&net, &[("grpc-timeout", sent)])), Some("0"), "{sent}");
        let seen: Vec<_> = origin
            .requests()
            .iter()
            .rev()
            .take(3)
            .rev()
            .map(|r| r.field("grpc-timeout").unwrap().to_owned())
            .collect();
        let [first, second, third] = [0, 1, 2].map(|n| timeout(&seen[n]));
        assert!(first <= timeout(sent), "{sent}: {seen:?}");
        assert!(first > timeout(sent).saturating_sub(Duration::from_secs(5)), "{sent}: {seen:?}");
        let waited = Duration::from_millis(100);
        // An hour is sent in a coarser unit: there a step may be as long as that.
        assert!(second + waited <= first && third + waited <= second, "{sent}: {seen:?}");
    }
}

#[test]
fn a_call_without_a_deadline_gets_none() {
    let net = Net::new();
    let origin = Http2Origin::start(&net.servers, server(80), |wire, request, n| match n {
        0 => fail(wire, request.stream, "14", &[]),
        _ => answer(wire, request.stream, "0"),
    });
    let _dragoman = Dragoman::start(&net, RETRYING);
    assert_eq!(status(&call(&net, &[])), Some("0"));
    assert!(origin.requests().iter().all(|request| request.field("grpc-timeout").is_none()));
}

#[test]
fn h14_no_attempt_begins_that_the_deadline_would_end() {
    let net = Net::new();
    let origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| {
        fail(wire, request.stream, "14", &[("grpc-retry-pushback-ms", "2000")])
    });
    let dragoman = Dragoman::start(&net, RETRYING);
    assert_eq!(status(&call(&net, &[("grpc-timeout", "1S")])), Some("14"), "the server's own answer");
    assert_eq!(origin.requests().len(), 1);
    let metrics = dragoman.settle();
    let refusals = metrics.values("dragoman_retry_refusals_total", "reason");
    assert!(refusals.contains_key("deadline") || refusals.contains_key("pushback"), "{refusals:?}");
}

#[test]
fn h14_a_servers_pushback_is_waited_for() {
    let net = Net::new();
    let times = Arc::<Mutex<Vec<Instant>>>::default();
    let kept = Arc::clone(&times);
    let _origin = Http2Origin::start(&net.servers, server(80), move |wire, request, n| {
        kept.lock().unwrap().push(Instant::now());
        match n {
            0 => fail(wire, request.stream, "14", &[("grpc-retry-pushback-ms", "300")]),
            _ => answer(wire, request.stream, "0"),
        }
    });
    let _dragoman = Dragoman::start(&net, RETRYING);
    assert_eq!(status(&call(&net, &[])), Some("0"));
    let times = times.lock().unwrap();
    assert!(times[1] - times[0] >= Duration::from_millis(300), "{:?}", times[1] - times[0]);
}

#[test]
fn h14_a_pushback_that_says_stop_or_asks_for_too_much_ends_it() {
    for pushback in ["-1", "nonsense", "", "5001", "99999999999999999999"] {
        let net = Net::new();
        let origin = Http2Origin::start(&net.servers, server(80), move |wire, request, _| {
            fail(wire, request.stream, "14", &[("grpc-retry-pushback-ms", pushback)])
        });
        let dragoman = Dragoman::start(&net, RETRYING);
        assert_eq!(status(&call(&net, &[])), Some("14"), "{pushback:?}");
        assert_eq!(origin.requests().len(), 1, "{pushback:?}");
        let metrics = dragoman.settle();
        assert_eq!(
            metrics.sum("dragoman_retry_refusals_total", &[("reason", "pushback")]),
            1,
            "{pushback:?}"
        );
    }
}

#[test]
fn a_call_that_is_cancelled_is_cancelled_at_the_server_and_not_repeated() {
    let net = Net::new();
    let resets = Arc::<Mutex<Vec<u32>>>::default();
    let kept = Arc::clone(&resets);
    let origin = Origin::tcp(&net.servers, server(80), move |peer| {
        let mut wire = Wire::server(peer, &[])?;
        loop {
            if let Event::Reset { code, .. } = wire.event()? {
                kept.lock().unwrap().push(code);
            }
        }
    });
    let dragoman = Dragoman::start(&net, RETRYING);
    let mut client = Wire::client(net.app.connect(server(80)), &[]).unwrap();
    client.fields(1, &request("POST", "/a.B/C"), false).unwrap();
    client.data(1, MESSAGE, true).unwrap();
    let seen = origin.connection(0);
    let message = [b"\0\0\0\0\x01m".as_slice()].concat();
    let arrived = || seen.bytes.so_far().windows(message.len()).any(|window| window == message);
    wait::until("the message arrives", wait::SOON, arrived);
    client.send(&Frame::reset(1, code::CANCEL)).unwrap();
    wait::until("the server is told", wait::SOON, || *resets.lock().unwrap() == [code::CANCEL]);
    drop(client);
    assert_eq!(dragoman.settle().sum("dragoman_retries_total", &[]), 0);
}
