//! Hostile clients: each broken rule has its code, each flood its end, and neither reaches the server or
//! costs the proxy more than a bounded share of memory.

use std::io::{self, ErrorKind};
use std::time::Duration;

use dragoman_harness::http2::way::POLICY;
use dragoman_harness::http2::{
    End, Event, Frame, Http2Origin, Wire, code, flag, hpack, kind, request, setting,
};
use dragoman_harness::net::server;
use dragoman_harness::{Dragoman, Net, servers};

use crate::resident_bytes;

const MIB: usize = 1 << 20;

/// What any one flood may cost.
const COST: usize = 24 * MIB;

fn connect(net: &Net) -> Wire {
    Wire::client(net.app.connect(server(80)), &[]).unwrap()
}

fn echo(net: &Net) -> Http2Origin {
    Http2Origin::start(&net.servers, server(80), |wire, request, _| {
        wire.respond(request.stream, "200", &request.body)
    })
}

/// A field section in one HEADERS frame.
fn head(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Frame {
    Frame::new(kind::HEADERS, flags, stream, hpack::encode(fields))
}

/// The head of a POST whose body is still to come.
fn open(stream: u32) -> Frame {
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
    client.peer().stream().set_read_timeout(Some(Duration::from_secs(3))).unwrap();
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

/// A proxy before a server that answers everything, and what a flood did to them.
struct Flooded<'n> {
    net: &'n Net,
    origin: Http2Origin,
    dragoman: Dragoman<'n>,
    before: usize,
}

impl<'n> Flooded<'n> {
    fn new(net: &'n Net) -> Flooded<'n> {
        let origin = echo(net);
        let dragoman = Dragoman::start(net, POLICY);
        let mut client = connect(net);
        client.post(1, "/", b"warm").unwrap();
        assert_eq!(client.response(1).unwrap().body, b"warm");
        drop(client);
        let before = resident_bytes(&dragoman);
        Flooded { net, origin, dragoman, before }
    }

    /// Sends what `wave` makes for each number until the proxy ends the connection, no longer reads, or
    /// `waves` of them were taken. Returns how many were sent, and the code of the end.
    fn flood(&self, waves: u32, wave: impl Fn(u32) -> Vec<u8>) -> (u32, Option<u32>) {
        let mut client = connect(self.net);
        client.peer().stream().set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut sent = 0;
        while sent < waves {
            match client.raw(&wave(sent)) {
                Ok(()) => sent += 1,
                Err(e) if is_end(&e) || e.kind() == ErrorKind::WouldBlock => break,
                Err(e) => panic!("{e}"),
            }
        }
        let grown = resident_bytes(&self.dragoman).saturating_sub(self.before);
        println!("{sent} waves of {} bytes: grown by {} KiB", wave(0).len(), grown / 1024);
        assert!(grown < COST, "grown by {grown} bytes");
        let _ = client.peer().finish_sending();
        (sent, client.ended_with().unwrap())
    }

    /// A good client is served as ever, and nothing is left of the bad one.
    fn is_well(&self) {
        let mut client = connect(self.net);
        client.post(1, "/", b"well").unwrap();
        assert_eq!(client.response(1).unwrap().body, b"well");
        drop(client);
        self.dragoman.settle();
    }
}

fn is_end(e: &io::Error) -> bool {
    matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

#[test]
fn streams_that_are_opened_and_reset_without_end_are_ended() {
    const WAVES: u32 = 50_000;
    let net = Net::new();
    let case = Flooded::new(&net);
    let (sent, code) = case.flood(WAVES, |n| {
        let stream = 2 * n + 1;
        [head(stream, 5, &request("GET", "/")).bytes(), Frame::reset(stream, code::CANCEL).bytes()].concat()
    });
    assert_eq!(code, Some(code::ENHANCE_YOUR_CALM), "after {sent}");
    assert!(
        case.origin.requests().len() < WAVES as usize / 10,
        "{} reached the server",
        case.origin.requests().len()
    );
    case.is_well();
}

#[test]
fn streams_that_are_broken_so_that_the_proxy_resets_them_are_ended() {
    let net = Net::new();
    let case = Flooded::new(&net);
    let (sent, code) = case.flood(50_000, |n| {
        let stream = 2 * n + 1;
        [open(stream).bytes(), Frame::window(stream, (1 << 31) - 1).bytes()].concat()
    });
    assert!(
        matches!(code, Some(code::ENHANCE_YOUR_CALM | code::FLOW_CONTROL_ERROR)),
        "{code:?} after {sent}"
    );
    case.is_well();
}

#[test]
fn a_field_section_without_end_is_ended() {
    let net = Net::new();
    let case = Flooded::new(&net);
    for size in [0, 1, 16_384] {
        let fields = [&hpack::encode(&request("GET", "/"))[..], &[0, 1, b'x', 127, 128, 127]].concat();
        let (sent, code) = case.flood(20_000, |n| match n {
            0 => Frame::new(kind::HEADERS, flag::END_STREAM, 1, fields.clone()).bytes(),
            _ => Frame::new(kind::CONTINUATION, 0, 1, vec![b'v'; size]).bytes(),
        });
        assert!(sent < 20_000, "{sent} frames of {size} bytes were taken");
        let allowed =
            [Some(code::ENHANCE_YOUR_CALM), Some(code::PROTOCOL_ERROR), Some(code::COMPRESSION_ERROR)];
        assert!(allowed.contains(&code), "{code:?} after {sent} frames of {size} bytes");
    }
    assert_eq!(case.origin.requests().len(), 1, "nothing of it reached the server");
    case.is_well();
}

#[test]
fn cause_head_too_large_is_431_on_one_stream_alone() {
    let net = Net::new();
    let case = Flooded::new(&net);
    let mut client = connect(&net);
    let value = "v".repeat(30_000);
    let fields = [&request("GET", "/large")[..], &[("a", &value[..]), ("b", &value), ("c", &value)]].concat();
    client.fields(1, &fields, true).unwrap();
    client.get(3, "/small").unwrap();
    let refused = client.response(1).unwrap();
    assert_eq!(refused.status(), 431);
    assert_eq!(client.response(3).unwrap().status(), 200, "its neighbour is served");
    assert!(case.origin.requests().iter().all(|request| request.path() != "/large"));
    // The greatest number of fields holds too.
    let name: Vec<String> = (0..300).map(|n| format!("x-{n}")).collect();
    let many = name.iter().map(|name| (&name[..], "v"));
    client.fields(5, &request("GET", "/large").into_iter().chain(many).collect::<Vec<_>>(), true).unwrap();
    assert_eq!(client.response(5).unwrap().status(), 431, "300 fields");
    drop(client);
    let metrics = case.dragoman.settle();
    let labels = [("code", "431"), ("cause", "head_too_large")];
    assert_eq!(metrics.sum("dragoman_exchanges_total", &labels), 2);
    assert!(case.origin.requests().iter().all(|request| request.path() != "/large"));
    case.is_well();
}

#[test]
fn a_compressed_head_that_grows_without_bound_is_refused() {
    let net = Net::new();
    let case = Flooded::new(&net);
    let mut client = connect(&net);
    // One entry of 3,000 bytes, then 16,000 references to it: 48 MB of fields in one frame.
    let mut entry = hpack::encode(&request("GET", "/bomb"));
    entry.extend([0x40, 1, b'x', 127, 0xb9, 0x16]);
    entry.extend([b'v'; 3000]);
    let bomb = [&entry[..], &[0xbe; 13_000]].concat();
    client.send(&Frame::new(kind::HEADERS, 5, 1, bomb)).unwrap();
    let response = client.response(1).unwrap();
    let refused = response.status() == 431 || matches!(response.end, End::Reset(_) | End::GoneAway(_));
    assert!(refused, "{response:?}");
    let grown = resident_bytes(&case.dragoman).saturating_sub(case.before);
    assert!(grown < COST, "grown by {grown} bytes");
    assert_eq!(case.origin.requests().len(), 1);
    drop(client);
    case.is_well();
}

#[test]
fn questions_whose_answers_are_not_read_cost_no_memory() {
    let net = Net::new();
    let case = Flooded::new(&net);
    let waves: [(&str, Vec<u8>); 3] = [
        ("PING", Frame::ping([1; 8]).bytes()),
        ("SETTINGS", Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 70_000)]).bytes()),
        ("unknown", Frame::new(0xbe, 0, 0, [0; 8]).bytes()),
    ];
    for (what, wave) in waves {
        let wave = wave.repeat(1000);
        let (sent, code) = case.flood(2000, |_| wave.clone());
        println!("{what}: {sent} thousand, {code:?}");
        case.is_well();
    }
}

#[test]
fn data_that_says_nothing_costs_nothing() {
    let net = Net::new();
    let case = Flooded::new(&net);
    let empty = Frame::new(kind::DATA, 0, 1, []).bytes().repeat(1000);
    let (sent, code) = case.flood(500, |n| if n == 0 { open(1).bytes() } else { empty.clone() });
    assert!(matches!(code, None | Some(code::ENHANCE_YOUR_CALM | code::NO_ERROR)), "{code:?} after {sent}");
    case.is_well();
}

#[test]
fn data_beyond_the_window_is_refused() {
    let net = Net::new();
    let _origin = dragoman_harness::Origin::tcp(&net.servers, server(80), |peer| {
        let mut wire = Wire::server(peer, &[])?;
        wire.credits = false;
        while wire.event().is_ok() {}
        Ok(())
    });
    let dragoman = Dragoman::start(&net, POLICY);
    let before = resident_bytes(&dragoman);
    let mut client = connect(&net);
    client.send(&open(1)).unwrap();
    let chunk = Frame::new(kind::DATA, 0, 1, vec![0; 16_000]).bytes();
    let taken = (0..8000).take_while(|_| client.raw(&chunk).is_ok()).count();
    let code = client.take(|event| match event {
        Event::Reset { code, .. } | Event::GoAway { code, .. } => Some(*code),
        _ => None,
    });
    assert_eq!(code.unwrap(), code::FLOW_CONTROL_ERROR, "after {taken} frames");
    let grown = resident_bytes(&dragoman).saturating_sub(before);
    assert!(grown < COST, "grown by {grown} bytes");
    drop(client);
    dragoman.settle();
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
