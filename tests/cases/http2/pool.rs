//! Upstream HTTP/2 connections that streams share: how old they grow, how many there may be, and those that are made
//! ahead of need.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dragoman_harness::http2::{Event, Frame, Http2Origin, Wire, code, request, setting};
use dragoman_harness::net::server;
use dragoman_harness::{Dragoman, Net, Origin, wait};

use crate::{connect, echo, head, once};

/// How many connections carried requests: one that was dialled early need not.
fn used(origin: &Http2Origin) -> usize {
    origin.requests().iter().map(|request| request.peer).collect::<BTreeSet<_>>().len()
}

#[test]
fn a_connection_takes_no_stream_after_its_age_and_ends_none_that_it_carries() {
    let net = Net::new();
    let origin = echo(&net);
    let _dragoman = Dragoman::start(&net, "[defaults]\npool = { max_age = '2s' }\n");
    let mut client = connect(&net);
    client.fields(1, &request("POST", "/"), false).unwrap();
    client.data(1, b"begun, ", false).unwrap();
    let began = Instant::now();
    for stream in (3..).step_by(2) {
        client.get(stream, "/").unwrap();
        assert_eq!(client.response(stream).unwrap().status(), 200);
        if used(&origin) == 2 {
            break;
        }
        assert!(began.elapsed() < wait::SOON, "busy all the time, and never idle");
        wait::pause(Duration::from_millis(20));
    }
    client.data(1, b"and ended", true).unwrap();
    assert_eq!(client.response(1).unwrap().body, b"begun, and ended");
    let requests = origin.requests();
    let (first, last) = (&requests[0], &requests[requests.len() - 1]);
    assert_eq!((last.path(), last.peer), ("/", first.peer), "on the connection that it began on");
}

/// A server whose connections take one stream each, and which is slow to answer `/slow`.
fn one_at_a_time(net: &Net, go: &Arc<AtomicBool>) -> Http2Origin {
    let go = Arc::clone(go);
    let settings = &[(setting::MAX_CONCURRENT_STREAMS, 1)];
    Http2Origin::with_settings(&net.servers, server(80), settings, move |wire, request, _| {
        if request.path() == "/slow" {
            wait::until("the others were refused", wait::SOON, || go.load(Ordering::SeqCst));
        }
        wire.respond(request.stream, "200", b"")
    })
}

#[test]
fn cause_pool_full_is_503_when_no_stream_becomes_free() {
    let net = Net::new();
    let go = Arc::new(AtomicBool::new(false));
    let origin = one_at_a_time(&net, &go);
    let configuration = "[defaults]\nconnect_timeout = '1s'\npool = { max_size = 1 }\nretry = {}\n\
                         breaker = { failures = 1 }\n";
    let dragoman = Dragoman::start(&net, configuration);
    let mut slow = connect(&net);
    slow.get(1, "/slow").unwrap();
    wait::until("the request is at the server", wait::SOON, || origin.requests().len() == 1);
    for _ in 0..2 {
        let refused = once(&net, "GET", b"");
        assert_eq!((refused.status(), refused.field("x-dragoman-cause")), (503, Some("pool_full")));
    }
    go.store(true, Ordering::SeqCst);
    assert_eq!(slow.response(1).unwrap().status(), 200);
    assert_eq!(once(&net, "GET", b"").status(), 200, "no breaker opened");
    assert_eq!(used(&origin), 1);
    let record = dragoman.record_of("pool_full");
    assert_eq!((&record["who"], &record["attempts"]), (&"dragoman".into(), &1.into()), "{record}");
}

#[test]
fn streams_wait_for_one_of_as_many_connections_as_there_may_be() {
    const SIZE: usize = 3;
    let net = Net::new();
    let go = Arc::new(AtomicBool::new(true));
    let origin = one_at_a_time(&net, &go);
    let dragoman = Dragoman::start(&net, &format!("[defaults]\npool = {{ max_size = {SIZE} }}\n"));
    std::thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| {
                let mut client = connect(&net);
                (0..40).for_each(|n| client.get(2 * n + 1, "/slow").unwrap());
                (0..40).for_each(|n| assert_eq!(client.response(2 * n + 1).unwrap().status(), 200));
            });
        }
    });
    assert_eq!((used(&origin), origin.requests().len()), (SIZE, 200));
    let metrics = dragoman.settle();
    assert_eq!(metrics.sum("dragoman_exchanges_total", &[("code", "200")]), 200);
    assert_eq!(metrics.sum("dragoman_upstream_connections_total", &[("how", "reused")]), 200 - SIZE as u64);
}

/// A server whose first connection goes away once that was asked for, while a stream on it is answered only at the end.
/// Each response is the number of its connection.
fn replaced(net: &Net, leave: &Arc<AtomicBool>, end: &Arc<AtomicBool>) -> (Origin, Arc<AtomicUsize>) {
    let (leave, end) = (Arc::clone(leave), Arc::clone(end));
    let (connections, begun) = (AtomicUsize::new(0), Arc::<AtomicUsize>::default());
    let count = Arc::clone(&begun);
    let origin = Origin::tcp(&net.servers, server(80), move |peer| {
        let mut wire = Wire::server(peer, &[(setting::MAX_CONCURRENT_STREAMS, 1)])?;
        let number = connections.fetch_add(1, Ordering::SeqCst);
        loop {
            let (stream, _) = wire.take(head)?;
            count.fetch_add(1, Ordering::SeqCst);
            if number == 0 {
                wait::until("it shall go away", wait::SOON, || leave.load(Ordering::SeqCst));
                wire.send(&Frame::go_away(stream, code::NO_ERROR))?;
                wait::until("its successor was at work", wait::SOON, || end.load(Ordering::SeqCst));
            }
            wire.respond(stream, "200", number.to_string().as_bytes())?;
        }
    });
    (origin, begun)
}

#[test]
fn a_connection_that_goes_away_makes_room_for_its_successor() {
    for waits in [true, false] {
        let net = Net::new();
        let (leave, end) = (Arc::default(), Arc::default());
        let (_origin, begun) = replaced(&net, &leave, &end);
        let dragoman = Dragoman::start(&net, "[defaults]\npool = { max_size = 1 }\nretry = {}\n");
        let mut client = connect(&net);
        client.get(1, "/").unwrap();
        wait::until("the stream has begun", wait::SOON, || begun.load(Ordering::SeqCst) == 1);
        leave.store(!waits, Ordering::SeqCst);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| once(&net, "GET", b""));
            if waits {
                dragoman.metrics_where("the other one waits", |metrics| {
                    metrics.sum("dragoman_pool_waiting", &[]) == 1
                });
                leave.store(true, Ordering::SeqCst);
            }
            assert_eq!(other.join().unwrap().body, b"1");
        });
        end.store(true, Ordering::SeqCst);
        assert_eq!(client.response(1).unwrap().body, b"0", "what was begun is finished");
    }
}

#[test]
fn connections_are_made_ahead_of_need() {
    let net = Net::new();
    let origin = echo(&net);
    let dragoman = Dragoman::start(&net, "[defaults]\npool = { min_warm = 2 }\n");
    let mut busy = connect(&net);
    busy.fields(1, &request("POST", "/"), false).unwrap();
    busy.data(1, b"x", false).unwrap();
    wait::until("two beside the one in use", wait::SOON, || origin.connections() == 3);
    busy.data(1, b"", true).unwrap();
    assert_eq!(busy.response(1).unwrap().status(), 200);
    drop(busy);
    let metrics = dragoman.settle();
    assert_eq!(metrics.sum("dragoman_upstream_connections_total", &[("how", "dialled")]), 3);
    assert_eq!(once(&net, "GET", b"").status(), 200);
    assert_eq!(dragoman.settle().sum("dragoman_upstream_connections_total", &[("how", "reused")]), 1);
}

#[test]
fn a_connection_that_was_made_ahead_and_is_gone_is_replaced() {
    let net = Net::new();
    let connections = Arc::new(AtomicUsize::new(0));
    let _origin = Origin::tcp(&net.servers, server(80), {
        let connections = Arc::clone(&connections);
        move |peer| {
            let number = connections.fetch_add(1, Ordering::SeqCst);
            let mut wire = Wire::server(peer, &[])?;
            loop {
                match wire.event()? {
                    Event::Fields { stream, .. } => wire.respond(stream, "200", b"")?,
                    // The first that is idle does not live long.
                    Event::Ping(_) if number == 1 => return wire.send(&Frame::go_away(0, code::NO_ERROR)),
                    _ => {}
                }
            }
        }
    });
    let _dragoman = Dragoman::start(&net, "[defaults]\npool = { min_warm = 2 }\n");
    let mut client = connect(&net);
    client.get(1, "/").unwrap();
    assert_eq!(client.response(1).unwrap().status(), 200);
    wait::until("it is replaced, by a look now and then", wait::SOON, || {
        connections.load(Ordering::SeqCst) >= 3
    });
}
