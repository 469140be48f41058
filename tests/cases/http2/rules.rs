//! Hostile clients that break rules: each broken rule has its code, and nothing of it reaches the server.

use std::time::Duration;

use dragoman_harness::http2::way::POLICY;
use dragoman_harness::http2::{End, Event, Frame, Http2Origin, code, flag, hpack, kind, request, setting};
use dragoman_harness::net::server;
use dragoman_harness::{Dragoman, Net, servers};

use crate::{connect, echo};

/// A field section in one HEADERS frame.
pub(crate) fn head(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Frame {
    Frame::new(kind::HEADERS, flags, stream, hpack::encode(fields))
}

/// The head of a POST whose body is still to come.
pub(crate) fn open(stream: u32) -> Frame {
    head(stream, flag::END_HEADERS, &request("POST", "/abused"))
}

/// Frames that break a rule, and the codes for it: that of RFC 9113 first, and where a library may say no more
/// than that the protocol was broken, PROTOCOL_ERROR too. Each of them ends the connection or the stream.
fn broken_rules() -> Vec<(&'static str, Vec<Frame>, &'static [u32])> {
    use code::{COMPRESSION_ERROR, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, PROTOCOL_ERROR, STREAM_CLOSED};
    const MAX: u32 = (1 << 31) - 1;
    let raw = |kind, flags, stream, payload: &[u8]| Frame::new(kind, flags, stream, payload);
    let long = vec![0; 16_385];
    let unfinished = head(1, 0, &request("GET", "/abused"));
    vec![
        ("DATA on an idle stream", vec![raw(kind::DATA, 0, 1, b"x")], &[PROTOCOL_ERROR, STREAM_CLOSED]),
        ("DATA on the connection", vec![raw(kind::DATA, 0, 0, b"x")], &[PROTOCOL_ERROR]),
        ("an even stream", vec![open(2)], &[PROTOCOL_ERROR]),
        ("a stream that goes back", vec![open(5), open(3)], &[PROTOCOL_ERROR, STREAM_CLOSED]),
        ("a window of the connection by 0", vec![Frame::window(0, 0)], &[PROTOCOL_ERROR]),
        ("a window of a stream by 0", vec![open(1), Frame::window(1, 0)], &[PROTOCOL_ERROR]),
        ("a window of an idle stream", vec![Frame::window(1, 1)], &[PROTOCOL_ERROR]),
        ("a window of the connection that overflows", vec![Frame::window(0, MAX)], &[FLOW_CONTROL_ERROR]),
        ("a window of a stream that overflows", vec![open(1), Frame::window(1, MAX)], &[FLOW_CONTROL_ERROR]),
        (
            "a window update of 3 bytes",
            vec![raw(kind::WINDOW_UPDATE, 0, 0, &[0; 3])],
            &[FRAME_SIZE_ERROR, PROTOCOL_ERROR],
        ),
        (
            "SETTINGS of 5 bytes",
            vec![raw(kind::SETTINGS, 0, 0, &[0; 5])],
            &[FRAME_SIZE_ERROR, PROTOCOL_ERROR],
        ),
        (
            "SETTINGS that answer and say",
            vec![raw(kind::SETTINGS, flag::ACK, 0, &[0; 6])],
            &[FRAME_SIZE_ERROR, PROTOCOL_ERROR],
        ),
        ("SETTINGS of a stream", vec![raw(kind::SETTINGS, 0, 1, &[])], &[PROTOCOL_ERROR]),
        ("a push setting of 2", vec![Frame::settings(&[(setting::ENABLE_PUSH, 2)])], &[PROTOCOL_ERROR]),
        (
            "a window of 2 GiB",
            vec![Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 31)])],
            &[FLOW_CONTROL_ERROR, PROTOCOL_ERROR],
        ),
        ("frames of 100 bytes", vec![Frame::settings(&[(setting::MAX_FRAME_SIZE, 100)])], &[PROTOCOL_ERROR]),
        ("PING of 7 bytes", vec![raw(kind::PING, 0, 0, &[0; 7])], &[FRAME_SIZE_ERROR, PROTOCOL_ERROR]),
        ("PING on a stream", vec![raw(kind::PING, 0, 1, &[0; 8])], &[PROTOCOL_ERROR]),
        (
            "a frame too long",
            vec![open(1), raw(kind::DATA, 0, 1, &long)],
            &[FRAME_SIZE_ERROR, PROTOCOL_ERROR],
        ),
        ("a reset of an idle stream", vec![Frame::reset(1, 8)], &[PROTOCOL_ERROR]),
        (
            "a reset of 3 bytes",
            vec![open(1), raw(kind::RST_STREAM, 0, 1, &[0; 3])],
            &[FRAME_SIZE_ERROR, PROTOCOL_ERROR],
        ),
        ("CONTINUATION of nothing", vec![raw(kind::CONTINUATION, 4, 1, &[])], &[PROTOCOL_ERROR]),
        (
            "DATA within a field section",
            vec![unfinished.clone(), raw(kind::DATA, 0, 1, &[])],
            &[PROTOCOL_ERROR],
        ),
        (
            "another stream's CONTINUATION",
            vec![unfinished, raw(kind::CONTINUATION, 4, 3, &[])],
            &[PROTOCOL_ERROR],
        ),
        (
            "a push by a client",
            vec![open(1), raw(kind::PUSH_PROMISE, 4, 1, &[0, 0, 0, 2])],
            &[PROTOCOL_ERROR],
        ),
        (
            "padding that is too long",
            vec![open(1), raw(kind::DATA, flag::PADDED, 1, &[9, 0])],
            &[PROTOCOL_ERROR],
        ),
        (
            "an entry that no table has",
            vec![raw(kind::HEADERS, 5, 1, &[0xff, 0x7f])],
            &[COMPRESSION_ERROR, PROTOCOL_ERROR],
        ),
        (
            "a field section that is cut",
            vec![raw(kind::HEADERS, 5, 1, &[0, 5, b'a'])],
            &[COMPRESSION_ERROR, PROTOCOL_ERROR],
        ),
        (
            "DATA after the end",
            vec![head(1, 5, &request("GET", "/held")), raw(kind::DATA, 0, 1, b"x")],
            &[STREAM_CLOSED, PROTOCOL_ERROR],
        ),
    ]
}

/// What the other side says to frames of a client, in a code: of a stream, or of the connection. `None` where
/// it says none, be it that it ends the connection or that it goes on.
fn verdict(net: &Net, frames: &[Frame]) -> Option<u32> {
    let mut client = connect(net);
    client.peer().stream().set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let bytes: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
    client.raw(&bytes).unwrap();
    loop {
        match client.event() {
            Ok(Event::Reset { code, .. } | Event::GoAway { code, .. }) => return Some(code),
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}

#[test]
fn each_broken_rule_has_its_code_and_nothing_reaches_the_server() {
    let net = Net::new();
    let check = |at: &str, spared: &str| {
        let mut wrong = Vec::new();
        for (rule, frames, codes) in broken_rules() {
            let code = verdict(&net, &frames);
            if rule != spared && !code.is_some_and(|code| codes.contains(&code)) {
                wrong.push(format!("{rule}: {code:?}, not one of {codes:?}"));
            }
        }
        assert!(wrong.is_empty(), "{at}: {wrong:#?}");
    };
    let reference = servers::nghttpd(&net.servers);
    // nghttp2 takes what it has skipped for a stream that is over, and passes over it.
    check("nghttpd", "a stream that goes back");
    drop(reference);
    let origin = Http2Origin::start(&net.servers, server(80), |_, _, _| Ok(()));
    let dragoman = Dragoman::start(&net, POLICY);
    check("dragoman", "");
    let requests = origin.requests();
    assert!(requests.iter().all(|request| request.path() == "/held"), "{requests:?}");
    dragoman.settle();
}

/// Requests that two readers could take differently, or that would be something else in HTTP/1.
const MALFORMED: &[(&str, &[(&str, &str)])] = &[
    ("a name in upper case", &[("X-Upper", "v")]),
    ("a name with a space", &[("x y", "v")]),
    ("a name with a colon", &[("x:y", "v")]),
    ("an empty name", &[("", "v")]),
    ("a line feed in a value", &[("x", "a\nb: c")]),
    ("a carriage return in a value", &[("x", "a\r\nb: c")]),
    ("a null in a value", &[("x", "a\0b")]),
    ("a pseudo-field after a field", &[("x", "y"), (":path", "/other")]),
    ("a second path", &[(":path", "/other")]),
    ("a second method", &[(":method", "GET")]),
    ("a pseudo-field of responses", &[(":status", "200")]),
    ("a pseudo-field that nobody knows", &[(":other", "x")]),
    ("connection", &[("connection", "close")]),
    ("keep-alive", &[("keep-alive", "5")]),
    ("upgrade", &[("upgrade", "h2c")]),
    ("transfer-encoding", &[("transfer-encoding", "chunked")]),
    ("te of another kind", &[("te", "gzip")]),
    ("two lengths", &[("content-length", "4"), ("content-length", "5")]),
    ("a length that is none", &[("content-length", "-1")]),
    ("more than the length says", &[("content-length", "3")]),
    ("less than the length says", &[("content-length", "5")]),
];

#[test]
fn h1_malformed_requests_are_refused_and_do_not_reach_the_server() {
    let net = Net::new();
    let base = request("POST", "/malformed");
    let missing = |name: &str| base.into_iter().filter(|field| field.0 != name).collect::<Vec<_>>();
    let mut cases: Vec<(&str, Vec<(&str, &str)>)> =
        MALFORMED.iter().map(|(rule, fields)| (*rule, [&base[..], fields].concat())).collect();
    cases.push(("no method", missing(":method")));
    cases.push(("no path", missing(":path")));
    cases.push(("no scheme", missing(":scheme")));
    let check = |at: &str| {
        let mut wrong = Vec::new();
        for (rule, fields) in &cases {
            let mut client = connect(&net);
            client.fields(1, fields, false).unwrap();
            // Once the head has been refused the body may meet a connection that is closed.
            let _ = client.send(&Frame::new(kind::DATA, flag::END_STREAM, 1, b"body"));
            let refused = client.response(1).map(|response| match response.end {
                End::Whole => response.status() == 400,
                End::Reset(code) | End::GoneAway(code) => code == code::PROTOCOL_ERROR,
            });
            if !matches!(refused, Ok(true)) {
                wrong.push((*rule, refused));
            }
        }
        assert!(wrong.is_empty(), "{at}: {wrong:#?}");
    };
    let reference = servers::nghttpd(&net.servers);
    check("nghttpd");
    drop(reference);
    let origin = echo(&net);
    let dragoman = Dragoman::start(&net, POLICY);
    check("dragoman");
    assert!(origin.requests().is_empty(), "{:?}", origin.requests());
    dragoman.settle();
}

#[test]
fn a_preface_that_goes_wrong_reaches_nobody() {
    let net = Net::new();
    let origin = echo(&net);
    let dragoman = Dragoman::start(&net, POLICY);
    let endings: [&[u8]; 3] = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
    ];
    for bytes in endings {
        let (_, _) = net.app.knock(server(80), bytes);
    }
    dragoman.settle();
    assert!(origin.requests().is_empty());
}

#[test]
fn streams_beyond_the_limit_are_refused_and_those_within_are_served() {
    const LIMIT: u32 = 16;
    let net = Net::new();
    let origin = echo(&net);
    let _dragoman = Dragoman::start(&net, &format!("[proxy]\nmax_h2_streams = {LIMIT}\n{POLICY}"));
    let mut client = connect(&net);
    let settings = client.take(|event| match event {
        Event::Settings(settings) => Some(settings.clone()),
        _ => None,
    });
    assert!(settings.unwrap().contains(&(setting::MAX_CONCURRENT_STREAMS, LIMIT)));
    // A client may not know the limit yet when it opens its first streams: those are refused one by one.
    let streams: Vec<u32> = (0..LIMIT + 4).map(|n| 2 * n + 1).collect();
    streams.iter().for_each(|stream| client.send(&open(*stream)).unwrap());
    for stream in &streams[LIMIT as usize..] {
        assert_eq!(client.response(*stream).unwrap().end, End::Reset(code::REFUSED_STREAM), "{stream}");
    }
    for stream in &streams[..LIMIT as usize] {
        client.data(*stream, b"x", true).unwrap();
        assert_eq!(client.response(*stream).unwrap().body, b"x");
    }
    assert_eq!(origin.requests().len(), LIMIT as usize);
}
