//! What is repeated, and what is not: a stream is repeated where the protocol proves that the server did not process
//! it. What counts is what the server counted.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use dragoman_harness::http2::way::POLICY;
use dragoman_harness::http2::{End, Event, Frame, Http2Origin, Wire, code, request};
use dragoman_harness::net::server;
use dragoman_harness::{Dragoman, Net, Origin};

use crate::{connect, once};

#[test]
fn a_get_that_is_answered_503_is_repeated_and_its_neighbours_are_not() {
    const STREAMS: u32 = 30;
    let net = Net::new();
    let origin = Http2Origin::start(&net.servers, server(80), |wire, request, n| match n % 3 {
        0 => wire.respond(request.stream, "503", b"busy"),
        _ => wire.respond(request.stream, "200", b"fine"),
    });
    let policy = "[defaults]\npool = {}\nretry = { attempts = 8, base = '1ms', budget = { ratio = 10.0 } }\n";
    let dragoman = Dragoman::start(&net, policy);
    let mut client = connect(&net);
    (0..STREAMS).for_each(|n| client.get(2 * n + 1, &format!("/{n}")).unwrap());
    for n in 0..STREAMS {
        let response = client.response(2 * n + 1).unwrap();
        assert_eq!((response.status(), &response.body[..]), (200, &b"fine"[..]));
    }
    drop(client);
    let attempts = origin.requests().len() as u64;
    let metrics = dragoman.settle();
    assert!(attempts > u64::from(STREAMS), "the server was not flaky");
    assert_eq!(metrics.sum("dragoman_attempts_total", &[]), attempts);
    assert_eq!(metrics.sum("dragoman_retries_total", &[]), attempts - u64::from(STREAMS));
    assert_eq!(
        metrics.sum("dragoman_exchanges_total", &[("code", "200"), ("cause", "-")]),
        u64::from(STREAMS)
    );
    let records = dragoman.records_where(STREAMS as usize, |record| record["kind"] == "exchange");
    let logged: u64 = records.iter().map(|record| record["attempts"].as_u64().unwrap()).sum();
    assert_eq!((records.len(), logged), (STREAMS as usize, attempts));
}

#[test]
fn h6_a_post_on_a_refused_stream_is_repeated_whole() {
    let net = Net::new();
    let origin = Http2Origin::start(&net.servers, server(80), |wire, request, n| match n {
        0 => wire.send(&Frame::reset(request.stream, code::REFUSED_STREAM)),
        _ => wire.respond(request.stream, "200", &request.body),
    });
    let dragoman = Dragoman::start(&net, POLICY);
    assert_eq!(once(&net, "POST", b"the whole body").body, b"the whole body");
    let requests = origin.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].fields, requests[1].fields, "but for its stream the same request");
    let metrics = dragoman.settle();
    assert_eq!(metrics.sum("dragoman_retries_total", &[]), 1);
}

#[test]
fn h6_a_post_above_a_goaway_is_repeated_on_another_connection() {
    let net = Net::new();
    let first = AtomicBool::new(true);
    let origin = Http2Origin::start(&net.servers, server(80), move |wire, request, _| {
        if first.swap(false, Ordering::Relaxed) {
            // Stream 1 and all others are above 0: none of them was looked at.
            wire.send(&Frame::go_away(0, code::NO_ERROR))?;
            return Err(ErrorKind::Other.into());
        }
        wire.respond(request.stream, "200", b"done")
    });
    let dragoman = Dragoman::start(&net, POLICY);
    assert_eq!(once(&net, "POST", b"once").body, b"done");
    let requests = origin.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests[0].peer != requests[1].peer, "the connection was going away");
    assert_eq!(dragoman.settle().sum("dragoman_retries_total", &[]), 1);
}

#[test]
fn h6_under_load_a_server_of_short_life_loses_no_call() {
    // max_connection_age: after every 25 requests of a connection the server says GOAWAY twice, first as a
    // warning and then with the last stream, serves what is below it and closes.
    const CLIENTS: u32 = 4;
    const CALLS: u32 = 250;
    let net = Net::new();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let _origin = Origin::tcp(&net.servers, server(80), move |peer| {
        let mut wire = Wire::server(peer, &[])?;
        let mut last = 0;
        for call in 0.. {
            let stream = match wire.take(|event| match event {
                Event::Fields { stream, .. } => Some(*stream),
                _ => None,
            }) {
                Ok(stream) => stream,
                Err(_) => return Ok(()),
            };
            if call < 25 {
                counted.fetch_add(1, Ordering::Relaxed);
                wire.respond(stream, "200", b"fine")?;
                last = stream;
            }
            if call == 24 {
                wire.send(&Frame::go_away((1 << 31) - 1, code::NO_ERROR))?;
                wire.send(&Frame::go_away(last, code::NO_ERROR))?;
                // What still comes is above the last stream and is not looked at.
                wire.peer().stream().shutdown(std::net::Shutdown::Write)?;
            }
        }
        Ok(())
    });
    let policy =
        "[defaults]\npool = {}\nretry = { attempts = 10, base = '1ms', budget = { ratio = 10.0 } }\n";
    let dragoman = Dragoman::start(&net, policy);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = connect(&net);
                for n in 0..CALLS {
                    client.fields(2 * n + 1, &request("POST", "/call"), true).unwrap();
                    let response = client.response(2 * n + 1).unwrap();
                    assert_eq!(response.status(), 200, "call {n}: {response:?}");
                }
            });
        }
    });
    assert_eq!(count.load(Ordering::Relaxed) as u32, CLIENTS * CALLS, "each call was served exactly once");
    let metrics = dragoman.settle();
    assert_eq!(metrics.sum("dragoman_exchanges_total", &[("code", "200")]), u64::from(CLIENTS * CALLS));
}

#[test]
fn h8_a_post_that_the_server_began_is_never_repeated() {
    let net = Net::new();
    let origin = Http2Origin::start(&net.servers, server(80), |wire, request, n| match n {
        0 => wire.send(&Frame::reset(request.stream, code::INTERNAL_ERROR)),
        1 => wire.send(&Frame::reset(request.stream, code::CANCEL)),
        2 => wire.respond(request.stream, "503", b""),
        // At or below the last stream: it may have been served.
        3 => wire.send(&Frame::go_away(request.stream, code::NO_ERROR)).and(Err(ErrorKind::Other.into())),
        4 => Err(ErrorKind::Other.into()),
        _ => wire.respond(request.stream, "200", b""),
    });
    let dragoman = Dragoman::start(&net, POLICY);
    assert_eq!(once(&net, "POST", b"x").end, End::Reset(code::INTERNAL_ERROR));
    assert_eq!(once(&net, "POST", b"x").end, End::Reset(code::CANCEL));
    assert_eq!(once(&net, "POST", b"x").status(), 503);
    for _ in 3..5 {
        let response = once(&net, "POST", b"x");
        assert!(response.status() == 502 || response.end != End::Whole, "{response:?}");
    }
    assert_eq!(once(&net, "POST", b"x").status(), 200);
    assert_eq!(origin.requests().len(), 6, "each POST once");
    assert_eq!(dragoman.settle().sum("dragoman_retries_total", &[]), 0);
}

#[test]
fn h8_nothing_is_repeated_after_a_head_was_passed_on() {
    let net = Net::new();
    let origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| {
        wire.fields(request.stream, &[(":status", "200")], false)?;
        wire.send(&Frame::reset(request.stream, code::REFUSED_STREAM))
    });
    let _dragoman = Dragoman::start(&net, POLICY);
    let response = once(&net, "GET", b"");
    assert_eq!((response.status(), response.end), (200, End::Reset(code::REFUSED_STREAM)));
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn h9_a_body_beyond_the_replay_buffer_is_sent_once() {
    let net = Net::new();
    let origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| {
        wire.send(&Frame::reset(request.stream, code::REFUSED_STREAM))
    });
    let policy = "[defaults]\npool = {}\nretry = { base = '1ms', replay_bytes = '16KiB' }\n";
    let dragoman = Dragoman::start(&net, policy);
    for (length, attempts) in [(16 * 1024, 3), (16 * 1024 + 1, 1)] {
        let before = origin.requests().len();
        let response = once(&net, "POST", &vec![1; length]);
        assert_eq!(response.end, End::Reset(code::REFUSED_STREAM), "{length}: the server's word is kept");
        assert_eq!(origin.requests().len() - before, attempts, "{length}");
    }
    assert!(origin.requests().iter().all(|request| request.body.len() >= 16 * 1024), "a body was cut");
    assert_eq!(
        dragoman.settle().sum("dragoman_retry_refusals_total", &[("reason", "body_not_replayable")]),
        1
    );
}
