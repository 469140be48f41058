//! Policy on the streams of one connection: each is an exchange of its own, with its own route, limits, records and
//! refusals.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use dragoman_harness::http2::way::POLICY;
use dragoman_harness::http2::{Event, Frame, Http2Origin, Response, Wire, code, request, setting};
use dragoman_harness::net::server;
use dragoman_harness::{Dragoman, Net, Origin, wait};
use nix::sys::signal::Signal;

use crate::{connect, once};

fn cause(response: &Response) -> (u16, Option<&str>) {
    (response.status(), response.field("x-dragoman-cause"))
}

#[test]
fn h11_the_breaker_opens_for_streams_and_refuses_without_asking() {
    let net = Net::new();
    let origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| {
        wire.respond(request.stream, "500", b"")
    });
    let policy = "[defaults]\npool = {}\nbreaker = { failures = 5, open = '1h' }\n";
    let dragoman = Dragoman::start(&net, policy);
    let mut client = connect(&net);
    let answers: Vec<_> = (0..10)
        .map(|n| {
            client.get(2 * n + 1, "/").unwrap();
            let response = client.response(2 * n + 1).unwrap();
            (response.status(), response.field("x-dragoman-cause").map(str::to_owned))
        })
        .collect();
    assert!(answers[..5].iter().all(|answer| *answer == (500, None)), "{answers:?}");
    let refused = (503, Some("breaker_open".to_owned()));
    assert!(answers[5..].iter().all(|answer| *answer == refused), "{answers:?}");
    assert_eq!(origin.requests().len(), 5);
    drop(client);
    let metrics = dragoman.settle();
    assert_eq!(metrics.sum("dragoman_exchanges_total", &[("cause", "breaker_open")]), 5);
    assert_eq!(metrics.sum("dragoman_breakers", &[("state", "open")]), 1);
}

#[test]
fn the_servers_limit_of_streams_is_kept_and_nobody_is_refused() {
    const LIMIT: u32 = 5;
    const STREAMS: u32 = 40;
    let net = Net::new();
    let origin = Origin::tcp(&net.servers, server(80), |peer| {
        let mut wire = Wire::server(peer, &[(setting::MAX_CONCURRENT_STREAMS, LIMIT)])?;
        wire.take(|event| (*event == Event::SettingsAck).then_some(()))?;
        let mut open = Vec::new();
        loop {
            // Answers come only after a round trip, so that all that may be open at once is.
            match wire.event()? {
                Event::Fields { stream, .. } => {
                    open.push(stream);
                    assert!(open.len() <= LIMIT as usize, "more streams than the server allows: {open:?}");
                    if open.len() == 1 {
                        wire.send(&Frame::ping([7; 8]))?;
                    }
                }
                Event::Pong(_) => {
                    for stream in open.drain(..) {
                        wire.respond(stream, "200", b"")?;
                    }
                }
                _ => {}
            }
        }
    });
    let dragoman = Dragoman::start(&net, POLICY);
    let mut client = connect(&net);
    (0..STREAMS).for_each(|n| client.get(2 * n + 1, "/").unwrap());
    for n in 0..STREAMS {
        assert_eq!(client.response(2 * n + 1).unwrap().status(), 200, "stream {n}");
    }
    drop(client);
    dragoman.settle();
    assert!(origin.seen().len() <= STREAMS as usize / 2, "{} connections", origin.seen().len());
}

#[test]
fn clients_share_a_connection_where_policy_has_a_pool() {
    for (policy, connections) in [(POLICY, 1), ("[defaults]\nrequest_id = true\n", 5)] {
        let net = Net::new();
        let origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| {
            wire.respond(request.stream, "200", b"")
        });
        let dragoman = Dragoman::start(&net, policy);
        for _ in 0..5 {
            assert_eq!(once(&net, "GET", b"").status(), 200);
            dragoman.settle();
        }
        let mut peers: Vec<_> = origin.requests().iter().map(|request| request.peer).collect();
        peers.dedup();
        assert_eq!(peers.len(), connections, "{policy}");
    }
}

#[test]
fn cause_connect_refused_is_503_on_the_stream() {
    let net = Net::new();
    let dragoman = Dragoman::start(&net, POLICY);
    let mut client = connect(&net);
    client.post(1, "/", b"x").unwrap();
    assert_eq!(cause(&client.response(1).unwrap()), (503, Some("connect_refused")));
    client.round_trip().unwrap();
    drop(client);
    assert_eq!(dragoman.settle().sum("dragoman_exchanges_total", &[("cause", "connect_refused")]), 1);
}

#[test]
fn cause_try_timeout_is_504_and_the_server_is_told_to_stop() {
    let net = Net::new();
    let resets = Arc::<Mutex<Vec<u32>>>::default();
    let kept = Arc::clone(&resets);
    let _origin = Origin::tcp(&net.servers, server(80), move |peer| {
        let mut wire = Wire::server(peer, &[])?;
        loop {
            if let Event::Reset { code, .. } = wire.event()? {
                kept.lock().unwrap().push(code);
            }
        }
    });
    let dragoman = Dragoman::start(&net, "[defaults]\ntry_timeout = '200ms'\npool = {}\n");
    let mut client = connect(&net);
    client.get(1, "/").unwrap();
    assert_eq!(cause(&client.response(1).unwrap()), (504, Some("try_timeout")));
    wait::until("the server is told", wait::SOON, || *resets.lock().unwrap() == [code::CANCEL]);
    drop(client);
    dragoman.settle();
}

#[test]
fn denied_hosts_are_refused_stream_by_stream() {
    let net = Net::new();
    let origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| {
        wire.respond(request.stream, "200", b"")
    });
    let _dragoman = Dragoman::start(
        &net,
        "[destination.no]\nhosts = ['*.no.test']\ndeny = true\n\
         [destination.far]\nhosts = ['far.test']\nheaders.set.authorization = 'Bearer k'\n\
         danger_plain_text_credentials = ['192.0.2.0/24']\n",
    );
    let mut client = connect(&net);
    for (stream, authority, expected) in [
        (1, "yes.test", (200, None)),
        (3, "very.NO.test:80", (403, Some("denied"))),
        (5, "far.test", (403, Some("credential_withheld"))),
        (7, "yes.test", (200, None)),
    ] {
        let head = [(":method", "GET"), (":scheme", "http"), (":authority", authority), (":path", "/")];
        client.fields(stream, &head, true).unwrap();
        assert_eq!(cause(&client.response(stream).unwrap()), expected, "{authority}");
    }
    assert_eq!(origin.requests().len(), 2);
}

#[test]
fn routes_and_headers_apply_to_each_stream() {
    let net = Net::new();
    let origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| {
        wire.respond(request.stream, "200", b"")
    });
    let policy = "[destination.a]\nhosts = ['a.test']\ntrace = true\nrequest_id = true\n\
        headers = { set = { 'x-team' = 'blue' }, remove = ['x-secret'] }\n\
        [destination.a.route.charges]\npath = '/charges/*'\nheaders = { set = { 'x-route' = 'charges' } }\n";
    let _dragoman = Dragoman::start(&net, policy);
    let mut client = connect(&net);
    let more = [("x-secret", "s"), ("x-request-id", "mine")];
    client.fields(1, &[&request("GET", "/charges/1")[..], &more].concat(), true).unwrap();
    client.get(3, "/other").unwrap();
    for stream in [1, 3] {
        assert_eq!(client.response(stream).unwrap().status(), 200);
    }
    let requests = origin.requests();
    let charges = requests.iter().find(|request| request.path() == "/charges/1").unwrap();
    let other = requests.iter().find(|request| request.path() == "/other").unwrap();
    assert_eq!((charges.field("x-route"), other.field("x-route")), (Some("charges"), None));
    for request in [charges, other] {
        assert_eq!((request.field("x-team"), request.field("x-secret")), (Some("blue"), None));
        assert!(request.field("traceparent").is_some_and(|value| value.starts_with("00-")), "{request:?}");
    }
    assert_eq!(charges.field("x-request-id"), Some("mine"));
    assert!(other.field("x-request-id").is_some_and(|id| id.len() >= 16));
}

#[test]
fn l3_a_proxy_that_is_told_to_end_says_goaway_and_serves_what_is_open() {
    let net = Net::new();
    let _origin = Http2Origin::start(&net.servers, server(80), |wire, request, n| match n {
        // The first answer comes with the second request: after the proxy has begun to drain.
        0 => Ok(()),
        _ => {
            wire.respond(request.stream - 2, "200", b"late").and(wire.respond(request.stream, "200", b"last"))
        }
    });
    let mut dragoman = Dragoman::start(&net, POLICY);
    let mut client = connect(&net);
    client.get(1, "/").unwrap();
    client.round_trip().unwrap();
    dragoman.signal(Signal::SIGTERM);
    let last = client.take(|event| match event {
        Event::GoAway { last, code: code::NO_ERROR } => Some(*last),
        _ => None,
    });
    assert!(
        last.unwrap() >= 3,
        "a stream that is on its way must not be lost: the first GOAWAY is a warning"
    );
    client.get(3, "/").unwrap();
    assert_eq!(client.response(1).unwrap().body, b"late");
    assert_eq!(client.response(3).unwrap().body, b"last");
    assert_eq!(client.ended_with().unwrap().unwrap_or(code::NO_ERROR), code::NO_ERROR);
    assert!(dragoman.wait(Duration::from_secs(10)).success());
}

#[test]
fn each_stream_is_counted_once_whatever_became_of_it() {
    let net = Net::new();
    let origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| match request.path() {
        "/reset" => wire.send(&Frame::reset(request.stream, code::INTERNAL_ERROR)),
        "/500" => wire.respond(request.stream, "500", b""),
        "/torn" => {
            wire.fields(request.stream, &[(":status", "200")], false)?;
            wire.send(&Frame::reset(request.stream, code::INTERNAL_ERROR))
        }
        "/silent" => Ok(()),
        _ => wire.respond(request.stream, "200", b"ok"),
    });
    let dragoman = Dragoman::start(&net, "[defaults]\npool = {}\n");
    let paths = ["/ok", "/500", "/reset", "/torn", "/silent"];
    let mut client = connect(&net);
    for (n, path) in (0..).zip(paths) {
        let stream = 2 * n + 1;
        client.post(stream, path, b"x").unwrap();
        match path {
            "/silent" => {
                wait::until("the server has it", wait::SOON, || origin.requests().len() == paths.len());
                client.send(&Frame::reset(stream, code::CANCEL)).unwrap();
            }
            _ => drop(client.response(stream).unwrap()),
        }
    }
    client.round_trip().unwrap();
    drop(client);
    let metrics = dragoman.settle();
    let exchanges = [
        ("200", "-"),
        ("500", "upstream_status"),
        ("-", "upstream_reset"),
        ("200", "upstream_reset"),
        ("-", "app_reset"),
    ];
    for (code, cause) in exchanges {
        let labels = [("code", code), ("cause", cause)];
        assert_eq!(
            metrics.sum("dragoman_exchanges_total", &labels),
            1,
            "{labels:?} {:#?}",
            dragoman.records()
        );
    }
    assert_eq!(metrics.sum("dragoman_exchanges_total", &[]), paths.len() as u64);
    assert_eq!(metrics.sum("dragoman_attempts_total", &[]), paths.len() as u64);
    assert_eq!(metrics.sum("dragoman_flows_total", &[("protocol", "http2")]), 1);
    assert_eq!(dragoman.records_where(5, |record| record["kind"] == "exchange").len(), 5);
}
