//! Hostile servers: what is no good HTTP/2 answer becomes an answer of the proxy's own or a reset, nothing of
//! it looks whole, and the next request is served.

use dragoman_harness::http2::way::POLICY;
use dragoman_harness::http2::{End, Event, Frame, Wire, code, flag, hpack, kind, setting};
use dragoman_harness::net::server;
use dragoman_harness::{Dragoman, Net, Origin, Peer};

use crate::{connect, resident_bytes};

/// HEADERS in one frame.
fn head(flags: u8, fields: &[(&str, &str)]) -> Frame {
    Frame::new(kind::HEADERS, flags, 1, hpack::encode(fields))
}

/// What a server says to the POST on stream 1 before any good head.
fn bad_answers() -> Vec<(&'static str, Vec<u8>)> {
    const WHOLE: u8 = flag::END_HEADERS | flag::END_STREAM;
    let raw = |kind, flags, stream, payload: &[u8]| Frame::new(kind, flags, stream, payload);
    let ok = (":status", "200");
    let with = |fields: &[(&str, &str)]| vec![head(WHOLE, &[&[ok], fields].concat())];
    let frames = [
        ("no status", vec![head(WHOLE, &[("server", "x")])]),
        ("a status that is no number", vec![head(WHOLE, &[(":status", "abc")])]),
        ("a status of four digits", vec![head(WHOLE, &[(":status", "2000")])]),
        ("a name in upper case", with(&[("X-Upper", "v")])),
        ("a line feed in a value", with(&[("x", "a\nb: c")])),
        ("connection", with(&[("connection", "close")])),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")])),
        ("an entry that no table has", vec![raw(kind::HEADERS, WHOLE, 1, &[0xff, 0x7f])]),
        ("DATA before the head", vec![raw(kind::DATA, 0, 1, b"x")]),
        ("a head of a stream that nobody opened", vec![raw(kind::HEADERS, WHOLE, 77, &hpack::encode(&[ok]))]),
        ("a push", vec![raw(kind::PUSH_PROMISE, 4, 1, &[&[0, 0, 0, 2][..], &hpack::encode(&[ok])].concat())]),
        ("a frame too long", vec![raw(0xbe, 0, 1, &vec![0; 1 << 20])]),
        ("SETTINGS of 5 bytes", vec![raw(kind::SETTINGS, 0, 0, &[0; 5])]),
        ("a window of 2 GiB", vec![Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 31)])]),
        ("a window that overflows", vec![Frame::window(0, (1 << 31) - 1)]),
        ("a window by 0", vec![Frame::window(0, 0)]),
        ("a reset", vec![Frame::reset(1, code::INTERNAL_ERROR)]),
        ("a reset for nothing", vec![Frame::reset(1, code::NO_ERROR)]),
    ];
    let mut answers: Vec<_> = frames.map(|(what, frames)| (what, bytes(&frames))).into();
    answers.push(("an answer in HTTP/1", b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".to_vec()));
    answers
}

fn bytes(frames: &[Frame]) -> Vec<u8> {
    frames.iter().flat_map(Frame::bytes).collect()
}

/// A server that answers the first request with these bytes and then reads on, or ends where it cannot.
fn answering(bytes: Vec<u8>) -> impl Fn(Peer) -> std::io::Result<()> + Send + Sync + use<> {
    move |peer| {
        let mut wire = Wire::server(peer, &[])?;
        wire.take(|event| matches!(event, Event::Fields { .. }).then_some(()))?;
        wire.raw(&bytes)?;
        wire.ended_with().map(drop)
    }
}

#[test]
fn cause_bad_response_of_http2_passes_nothing_on() {
    let net = Net::new();
    let configuration = format!("{POLICY}try_timeout = '3s'\n");
    for (what, answer) in bad_answers() {
        let origin = Origin::tcp(&net.servers, server(80), answering(answer));
        let dragoman = Dragoman::start(&net, &configuration);
        let mut client = connect(&net);
        client.post(1, "/", b"x").unwrap();
        let response = client.response(1).unwrap();
        match response.end {
            // The server's own code is passed on where it said one; what it broke is the proxy's to tell.
            End::Reset(_) => assert_eq!(response.status(), 0, "{what}"),
            End::Whole => {
                let cause =
                    response.field("x-dragoman-cause").unwrap_or_else(|| panic!("{what}: {response:?}"));
                let known = ["bad_response", "upstream_reset", "upstream_closed"];
                assert!(response.status() == 502 && known.contains(&cause), "{what}: {response:?}");
            }
            End::GoneAway(code) => panic!("{what}: the client's connection was ended with {code}"),
        }
        assert!(origin.seen().len() <= 2, "{what}: a POST was repeated: {}", origin.seen().len());
        client.round_trip().unwrap();
        drop(client);
        dragoman.settle();
    }
}

#[test]
fn what_is_wrong_after_the_head_ends_as_a_reset() {
    let net = Net::new();
    let good = head(flag::END_HEADERS, &[(":status", "200"), ("content-length", "4")]);
    let cases: [(&str, Frame); 5] = [
        ("more than the length says", Frame::new(kind::DATA, flag::END_STREAM, 1, *b"too long")),
        ("less than the length says", Frame::new(kind::DATA, flag::END_STREAM, 1, *b"abc")),
        ("a pseudo-field after the body", head(5, &[(":status", "200")])),
        ("a name in upper case after the body", head(5, &[("X-Upper", "v")])),
        ("a second head", head(flag::END_HEADERS, &[(":status", "200")])),
    ];
    for (what, bad) in cases {
        let _origin = Origin::tcp(&net.servers, server(80), answering(bytes(&[good.clone(), bad])));
        let dragoman = Dragoman::start(&net, POLICY);
        let mut client = connect(&net);
        client.post(1, "/", b"x").unwrap();
        let response = client.response(1).unwrap();
        assert!(matches!(response.end, End::Reset(code) if code != code::NO_ERROR), "{what}: {response:?}");
        client.round_trip().unwrap();
        drop(client);
        dragoman.settle();
    }
}

#[test]
fn floods_by_a_server_cost_no_memory() {
    let net = Net::new();
    let open = Frame::new(kind::HEADERS, 0, 1, hpack::encode(&[(":status", "200")]));
    let interim = head(flag::END_HEADERS, &[(":status", "103"), ("link", &"l".repeat(1000))]);
    let floods: [(&str, Vec<u8>, Vec<u8>); 5] = [
        ("a field section without end", open.bytes(), Frame::new(kind::CONTINUATION, 0, 1, [0; 0]).bytes()),
        ("interim answers", Vec::new(), interim.bytes()),
        ("PING", Vec::new(), Frame::ping([0; 8]).bytes()),
        ("SETTINGS", Vec::new(), Frame::settings(&[(setting::MAX_CONCURRENT_STREAMS, 9)]).bytes()),
        ("priorities", Vec::new(), Frame::new(kind::PRIORITY, 0, 9, [0; 5]).bytes()),
    ];
    for (what, first, wave) in floods {
        let wave = wave.repeat(1000);
        let _origin = Origin::tcp(&net.servers, server(80), move |peer| {
            let mut wire = Wire::server(peer, &[])?;
            wire.take(|event| matches!(event, Event::Fields { .. }).then_some(()))?;
            wire.raw(&first)?;
            for _ in 0..2000 {
                wire.raw(&wave)?;
            }
            Ok(())
        });
        // A server that does not read the answers to its questions is not read either: time ends it.
        let dragoman = Dragoman::start(&net, &format!("{POLICY}try_timeout = '2s'\n"));
        let before = resident_bytes(&dragoman);
        let mut client = connect(&net);
        client.post(1, "/", b"x").unwrap();
        let response = client.response(1).unwrap();
        let own = response.field("x-dragoman-cause").is_some();
        assert!(response.end != End::Whole || own, "{what}: {:?} {:?}", response.fields, response.end);
        let grown = resident_bytes(&dragoman).saturating_sub(before);
        println!("{what}: grown by {} KiB, {:?}", grown / 1024, response.end);
        assert!(grown < 24 << 20, "{what}: grown by {grown} bytes");
        client.round_trip().unwrap();
        drop(client);
        dragoman.settle();
    }
}

#[test]
fn cause_response_too_large_is_502_on_one_stream_alone() {
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(80), |peer| {
        let mut wire = Wire::server(peer, &[])?;
        let value = "v".repeat(30_000);
        loop {
            if let Event::Fields { stream, .. } = wire.event()? {
                let large = [(":status", "200"), ("a", &value), ("b", &value), ("c", &value)];
                wire.fields(stream, if stream % 4 == 1 { &large } else { &large[..1] }, true)?;
            }
        }
    });
    let dragoman = Dragoman::start(&net, POLICY);
    let mut client = connect(&net);
    client.post(1, "/", b"").unwrap();
    let refused = client.response(1).unwrap();
    assert_eq!((refused.status(), refused.field("x-dragoman-cause")), (502, Some("response_too_large")));
    client.get(3, "/").unwrap();
    assert_eq!(client.response(3).unwrap().status(), 200);
    drop(client);
    let metrics = dragoman.settle();
    assert_eq!(metrics.sum("dragoman_exchanges_total", &[("cause", "response_too_large")]), 1);
}
