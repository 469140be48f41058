//! Apps that fall silent inside a request body (`proxy.request_body_timeout`): only their own silence counts, and it
//! ends one stream.

use std::time::{Duration, Instant};

use dragoman_harness::http2::{End, Event, Frame, Http2Origin, Wire, code, request};
use dragoman_harness::net::server;
use dragoman_harness::{Dragoman, Net, Origin, wait};

use crate::{connect, echo, exactly, head, rest};

/// Long beside the steps of an app that is slow, however busy the machine is.
const LIMIT: Duration = Duration::from_secs(2);

/// A step of such an app.
const STEP: Duration = Duration::from_millis(250);

/// Longer than the limit.
const LONG: Duration = Duration::from_millis(2500);

const PATIENCE: &str =
    "[proxy]\nrequest_body_timeout = '2s'\n[defaults]\npool = {}\nretry = {}\nbreaker = { failures = 1 }\n";

#[test]
fn cause_request_timeout_is_408_for_one_stream_and_its_neighbour_goes_on() {
    let net = Net::new();
    let origin = echo(&net);
    let dragoman = Dragoman::start(&net, PATIENCE);
    let mut client = connect(&net);
    for (stream, body) in [(1, &b""[..]), (3, b"half")] {
        client.fields(stream, &request("POST", "/"), false).unwrap();
        if !body.is_empty() {
            client.data(stream, body, false).unwrap();
        }
        let response = client.response(stream).unwrap();
        let told = (response.status(), response.field("x-dragoman-cause"));
        assert_eq!(told, (408, Some("request_timeout")), "{response:?}");
        // The answer is whole, and nobody wants the rest of the request.
        let reset = client.take(|event| match event {
            Event::Reset { stream: of, code } if *of == stream => Some(*code),
            _ => None,
        });
        assert_eq!(reset.unwrap(), code::NO_ERROR);
        client.post(stream + 100, "/", b"whole").unwrap();
        assert_eq!(client.response(stream + 100).unwrap().body, b"whole");
        client = connect(&net);
    }
    drop(client);
    assert_eq!(origin.requests().len(), 2, "half a request is not one");
    let metrics = dragoman.settle();
    assert_eq!(metrics.sum("dragoman_exchanges_total", &[("code", "408"), ("cause", "request_timeout")]), 2);
    assert_eq!(metrics.sum("dragoman_attempts_total", &[]), 4, "no breaker opened, and nothing was repeated");
    assert_eq!(dragoman.record_of("request_timeout")["who"], "app");
}

#[test]
fn a_grpc_client_that_is_silent_is_told_that_its_time_is_over() {
    let net = Net::new();
    let _origin = echo(&net);
    let _dragoman = Dragoman::start(&net, PATIENCE);
    let mut client = connect(&net);
    client
        .fields(1, &[&request("POST", "/a.B/C")[..], &[("content-type", "application/grpc")]].concat(), false)
        .unwrap();
    assert_eq!(client.response(1).unwrap().field("grpc-status"), Some("4"));
}

#[test]
fn an_app_that_is_silent_after_the_response_began_is_reset_and_so_is_the_request() {
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(80), |peer| {
        let mut wire = Wire::server(peer, &[])?;
        let (stream, _) = wire.take(head)?;
        wire.fields(stream, &[(":status", "200")], false)?;
        wire.data(stream, b"begun", false)?;
        let reset = wire.take(|event| matches!(event, Event::Reset { code: code::CANCEL, .. }).then_some(()));
        // The next request tells the client what this server saw.
        let (stream, _) = wire.take(head)?;
        wire.respond(stream, if reset.is_ok() { "200" } else { "500" }, b"")
    });
    let dragoman = Dragoman::start(&net, PATIENCE);
    let mut client = connect(&net);
    let began = Instant::now();
    client.fields(1, &request("POST", "/"), false).unwrap();
    let response = client.response(1).unwrap();
    assert_eq!(
        (response.status(), &response.body[..], response.end),
        (200, &b"begun"[..], End::Reset(code::CANCEL))
    );
    assert!(began.elapsed() >= LIMIT);
    client.get(3, "/").unwrap();
    assert_eq!(client.response(3).unwrap().status(), 200, "the server was told to stop");
    let record = dragoman.record_of("request_timeout");
    assert_eq!((&record["status"], &record["who"]), (&200.into(), &"app".into()), "{record}");
}

#[test]
fn an_app_that_waits_for_leave_or_for_the_servers_window_is_not_silent() {
    const LENGTH: usize = 1 << 20;
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(80), |peer| {
        let mut wire = Wire::server(peer, &[])?;
        wire.credits = false;
        let (stream, _) = wire.take(head)?;
        wait::pause(LONG);
        wire.fields(stream, &[(":status", "100")], false)?;
        // Its windows are full for a while: the app cannot go on, and is not to blame.
        let mut length = exactly(&mut wire, stream, 65_535).len();
        wait::pause(LONG);
        wire.credits = true;
        wire.send(&Frame::window(0, 65_535))?;
        wire.send(&Frame::window(stream, 65_535))?;
        length += rest(&mut wire, stream).len();
        wire.respond(stream, "200", length.to_string().as_bytes())
    });
    let _dragoman = Dragoman::start(&net, PATIENCE);
    let mut client = connect(&net);
    client.fields(1, &[&request("POST", "/")[..], &[("expect", "100-continue")]].concat(), false).unwrap();
    let (_, interim) = client.take(head).unwrap();
    assert_eq!(interim[0].1, "100");
    client.data(1, &vec![b'x'; LENGTH], true).unwrap();
    assert_eq!(client.response(1).unwrap().body, LENGTH.to_string().as_bytes());
}

#[test]
fn the_time_of_an_attempt_is_the_servers_and_not_that_of_a_slow_app() {
    let net = Net::new();
    let origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| match request.path() {
        // It takes the whole request, and says nothing.
        "/silent" => Ok(()),
        _ => wire.respond(request.stream, "200", &request.body),
    });
    let dragoman =
        Dragoman::start(&net, "[defaults]\npool = {}\ntry_timeout = '2s'\nbreaker = { failures = 1 }\n");
    let mut client = connect(&net);
    client.fields(1, &request("POST", "/slow"), false).unwrap();
    for pause in [LONG, STEP, STEP, STEP, STEP] {
        wait::pause(pause);
        client.data(1, b"x", false).unwrap();
    }
    client.data(1, b"", true).unwrap();
    assert_eq!(client.response(1).unwrap().body, b"xxxxx");
    client.post(3, "/silent", b"x").unwrap();
    let response = client.response(3).unwrap();
    assert_eq!((response.status(), response.field("x-dragoman-cause")), (504, Some("try_timeout")));
    assert_eq!(origin.requests().len(), 2);
    drop(client);
    assert_eq!(dragoman.settle().sum("dragoman_attempts_total", &[]), 2);
}

#[test]
fn a_slow_body_that_goes_on_and_a_silent_tunnel_are_waited_for() {
    let net = Net::new();
    let _origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| {
        wire.respond(request.stream, "200", &request.body)
    });
    let _dragoman = Dragoman::start(&net, PATIENCE);
    let mut client = connect(&net);
    client.fields(1, &[(":method", "CONNECT"), (":authority", "db.test:5432")], false).unwrap();
    client.fields(3, &request("POST", "/"), false).unwrap();
    for _ in 0..10 {
        wait::pause(STEP);
        client.data(3, b"x", false).unwrap();
    }
    client.data(3, b"", true).unwrap();
    assert_eq!(client.response(3).unwrap().body, b"xxxxxxxxxx");
    client.data(1, b"", true).unwrap();
    assert_eq!(client.response(1).unwrap().status(), 200);
}
