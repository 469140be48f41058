//! How streams and connections end: codes of resets, GOAWAY from either side, ends of TCP. No stream is lost
//! that could be kept, and none ends otherwise than its other end meant.

use std::io::ErrorKind;
use std::sync::{Mutex, mpsc};

use dragoman_harness::http2::{
    End, Event, Frame, Http2Origin, Way, Wire, code, each_way, request, setting, value,
};
use dragoman_harness::net::server;
use dragoman_harness::{Net, Origin};

use crate::connect;

/// A code that no standard knows: it is passed on as it is.
const UNKNOWN_CODE: u32 = 0xbeef;

fn codes() -> impl Iterator<Item = u32> {
    (1..=code::LAST).chain([UNKNOWN_CODE])
}

#[test]
fn h6_a_servers_reset_arrives_with_its_code() {
    let net = Net::new();
    each_way(&net, |way| {
        let origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| {
            let code = request.path()[1..].parse().unwrap();
            if request.field("x-head").is_some() {
                wire.fields(request.stream, &[(":status", "200")], false)?;
                wire.data(request.stream, b"half", false)?;
            }
            wire.send(&Frame::reset(request.stream, code))
        });
        let mut client = connect(&net);
        let mut stream = 1;
        for code in codes() {
            let path = format!("/{code}");
            let head = [&request("POST", &path)[..], &[("x-head", "")]].concat();
            client.fields(stream, &head, true).unwrap();
            let response = client.response(stream).unwrap();
            assert_eq!((response.end, response.status()), (End::Reset(code), 200), "after the head");
            assert_eq!(response.body, b"half", "code {code}");
            stream += 2;
            // Before the head REFUSED_STREAM is a promise that policy may use; all others are what they are.
            if !(code == code::REFUSED_STREAM && way == Way::Governed) {
                client.fields(stream, &request("POST", &path), true).unwrap();
                let response = client.response(stream).unwrap();
                assert_eq!((response.end, response.status()), (End::Reset(code), 0), "before the head");
                stream += 2;
            }
        }
        assert_eq!(origin.requests().len() as u32, stream / 2, "each POST once");
    });
}

/// What has come for it waits for its window.
#[test]
fn h6_a_reset_by_a_client_that_takes_nothing_arrives_with_its_code() {
    let net = Net::new();
    each_way(&net, |_| {
        let (tell, told) = mpsc::channel();
        let tell = Mutex::new(tell);
        let _origin = Http2Origin::start(&net.servers, server(80), move |wire, request, _| {
            wire.fields(request.stream, &[(":status", "200")], false)?;
            if wire.room(request.stream) > 0 {
                wire.data(request.stream, b"nobody takes this", false)?;
            }
            let code = wire.take(|event| match event {
                Event::Reset { code, .. } => Some(*code),
                _ => None,
            })?;
            tell.lock().unwrap().send(code).unwrap();
            Ok(())
        });
        let mut client =
            Wire::client(net.app.connect(server(80)), &[(setting::INITIAL_WINDOW_SIZE, 0)]).unwrap();
        client.round_trip().unwrap();
        for (n, code) in [code::CANCEL, code::NO_ERROR, UNKNOWN_CODE].into_iter().enumerate() {
            let stream = 2 * n as u32 + 1;
            client.get(stream, "/").unwrap();
            client.take(|event| matches!(event, Event::Fields { .. }).then_some(())).unwrap();
            client.round_trip().unwrap();
            client.send(&Frame::reset(stream, code)).unwrap();
            assert_eq!(told.recv().unwrap(), code);
        }
    });
}

#[test]
fn h6_a_clients_reset_arrives_with_its_code() {
    let net = Net::new();
    each_way(&net, |_| {
        let (tell, told) = mpsc::channel();
        let _origin = Origin::tcp(&net.servers, server(80), move |peer| {
            let mut wire = Wire::server(peer, &[])?;
            loop {
                match wire.event()? {
                    Event::Fields { stream, .. } => wire.fields(stream, &[(":status", "200")], false)?,
                    Event::Reset { code, .. } => tell.send(code).unwrap(),
                    _ => {}
                }
            }
        });
        let mut client = connect(&net);
        for (n, code) in (0..).zip(codes()) {
            let stream = 2 * n + 1;
            client.fields(stream, &request("POST", "/"), false).unwrap();
            client.take(|event| matches!(event, Event::Fields { .. }).then_some(())).unwrap();
            client.send(&Frame::reset(stream, code)).unwrap();
            assert_eq!(told.recv().unwrap(), code);
        }
        client.round_trip().unwrap();
    });
}

#[test]
fn a_stream_that_is_reset_leaves_its_neighbours_alone() {
    let net = Net::new();
    each_way(&net, |_| {
        let _origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| match request.path() {
            "/reset" => wire.send(&Frame::reset(request.stream, code::INTERNAL_ERROR)),
            _ => wire.respond(request.stream, "200", &vec![1; 300_000]),
        });
        let mut client = connect(&net);
        for n in 0..20 {
            client.post(2 * n + 1, if n % 2 == 0 { "/reset" } else { "/whole" }, b"x").unwrap();
        }
        for n in 0..20 {
            let response = client.response(2 * n + 1).unwrap();
            match n % 2 {
                0 => assert_eq!(response.end, End::Reset(code::INTERNAL_ERROR)),
                _ => assert_eq!((response.end, response.body.len()), (End::Whole, 300_000)),
            }
        }
    });
}

#[test]
fn h6_streams_below_a_goaway_are_served_to_their_end() {
    let net = Net::new();
    each_way(&net, |way| {
        // The first connection announces its end after the first of three requests, as a server that has
        // reached its greatest age does, and answers all three.
        let origin = Http2Origin::start(&net.servers, server(80), |wire, request, n| match n {
            0 => {
                wire.respond(request.stream, "200", b"0")?;
                wire.send(&Frame::go_away((1 << 31) - 1, code::NO_ERROR))
            }
            1 => {
                wire.send(&Frame::go_away(request.stream + 2, code::NO_ERROR))?;
                wire.respond(request.stream, "200", b"1")
            }
            n => wire.respond(request.stream, "200", n.to_string().as_bytes()),
        });
        let mut client = connect(&net);
        for (n, stream) in [(0, 1), (1, 3), (2, 5)] {
            client.post(stream, "/", b"x").unwrap();
            if n == 0 {
                assert_eq!(client.response(1).unwrap().body, b"0");
            }
        }
        let answers: Vec<_> = [3, 5].map(|stream| client.response(stream).unwrap().body).into();
        let mut sorted = answers.clone();
        sorted.sort();
        assert_eq!(sorted, [b"1", b"2"], "an answer was lost: {answers:?}");
        assert_eq!(origin.requests().len(), 3, "nothing was sent twice");
        if way != Way::Governed {
            assert_eq!(origin.connections(), 1);
        }
    });
}

#[test]
fn h6_a_clients_goaway_drains_its_streams() {
    let net = Net::new();
    each_way(&net, |_| {
        // Nothing is answered before the third request is whole, which is after the GOAWAY.
        let open = Mutex::new(Vec::new());
        let _origin = Http2Origin::start(&net.servers, server(80), move |wire, request, n| {
            open.lock().unwrap().push(request.stream);
            if n == 2 {
                for stream in open.lock().unwrap().drain(..) {
                    wire.respond(stream, "200", b"late")?;
                }
            }
            Ok(())
        });
        let mut client = connect(&net);
        client.get(1, "/").unwrap();
        client.get(3, "/").unwrap();
        client.fields(5, &request("POST", "/"), false).unwrap();
        client.send(&Frame::go_away(0, code::NO_ERROR)).unwrap();
        client.data(5, b"the rest", true).unwrap();
        for stream in [1, 3, 5] {
            let response = client.response(stream).unwrap();
            assert_eq!((response.end, &response.body[..]), (End::Whole, &b"late"[..]), "stream {stream}");
        }
    });
}

#[test]
fn pings_are_answered_and_settings_acknowledged_on_both_sides() {
    let net = Net::new();
    each_way(&net, |_| {
        let _origin = Origin::tcp(&net.servers, server(80), |peer| {
            let mut wire = Wire::server(peer, &[(setting::MAX_CONCURRENT_STREAMS, 50)])?;
            let stream = wire.take(|event| match event {
                Event::Fields { stream, .. } => Some(*stream),
                _ => None,
            })?;
            wire.take(|event| (*event == Event::SettingsAck).then_some(()))?;
            wire.send(&Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 1000)]))?;
            wire.send(&Frame::ping(*b"upstream"))?;
            wire.take(|event| (*event == Event::SettingsAck).then_some(()))?;
            wire.take(|event| (*event == Event::Pong(*b"upstream")).then_some(()))?;
            wire.respond(stream, "200", b"both came")?;
            while wire.event().is_ok() {}
            Ok(())
        });
        let mut client = connect(&net);
        client.get(1, "/").unwrap();
        for payload in [*b"12345678", [0; 8], [255; 8]] {
            client.send(&Frame::ping(payload)).unwrap();
            client.take(|event| (*event == Event::Pong(payload)).then_some(())).unwrap();
        }
        assert_eq!(client.response(1).unwrap().body, b"both came");
        client.take(|event| (*event == Event::SettingsAck).then_some(())).unwrap();
    });
}

#[test]
fn a_client_that_disappears_ends_its_streams_at_the_server() {
    let net = Net::new();
    each_way(&net, |_| {
        let (tell, told) = mpsc::channel();
        let _origin = Origin::tcp(&net.servers, server(80), move |peer| {
            let mut wire = Wire::server(peer, &[])?;
            loop {
                match wire.event() {
                    Ok(Event::Fields { stream, .. }) => wire.fields(stream, &[(":status", "200")], false)?,
                    Ok(Event::Reset { code, .. }) => tell.send(format!("code {code}")).unwrap(),
                    Err(e) => {
                        // After a reset of its stream the end of an idle connection is told to nobody.
                        let _ = tell.send(format!("{:?}", e.kind()));
                        return Ok(());
                    }
                    Ok(_) => {}
                }
            }
        });
        for ends_well in [true, false] {
            let mut client = connect(&net);
            client.fields(1, &request("POST", "/"), false).unwrap();
            client.take(|event| matches!(event, Event::Fields { .. }).then_some(())).unwrap();
            match ends_well {
                true => drop(client),
                false => client.into_peer().reset().unwrap(),
            }
            let end = told.recv_timeout(dragoman_harness::wait::SOON).unwrap();
            assert!(["code 8", "UnexpectedEof", "ConnectionReset"].contains(&&end[..]), "{end}");
        }
    });
}

#[test]
fn a_server_that_disappears_ends_its_streams_at_the_client() {
    let net = Net::new();
    each_way(&net, |way| {
        let _origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| {
            wire.fields(request.stream, &[(":status", "200")], false)?;
            wire.data(request.stream, b"half", false)?;
            Err(ErrorKind::Other.into())
        });
        let mut client = connect(&net);
        client.post(1, "/", b"x").unwrap();
        let mut body = Vec::new();
        // An end of TCP, a GOAWAY or a reset of the stream, but never an end that looks whole.
        loop {
            match client.event() {
                Err(e) => {
                    assert!(matches!(e.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{e}");
                    break;
                }
                Ok(Event::Data { bytes, end, .. }) => {
                    body.extend(bytes);
                    assert!(!end, "a torn answer looks whole");
                }
                Ok(Event::Reset { code, .. }) => {
                    assert_eq!(way, Way::Governed);
                    assert!(code != code::NO_ERROR, "a torn answer looks whole");
                    break;
                }
                Ok(_) => {}
            }
        }
        assert_eq!(body, b"half", "what came before the end was passed on");
    });
}

#[test]
fn s2_a_preface_in_single_bytes_is_http2() {
    let net = Net::new();
    each_way(&net, |_| {
        let origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| {
            wire.respond(request.stream, "200", b"slow is fine")
        });
        let mut peer = net.app.connect(server(80));
        let mut bytes = dragoman_harness::http2::frame::PREFACE.to_vec();
        bytes.extend(Frame::settings(&[]).bytes());
        peer.send_slowly(&bytes, std::time::Duration::from_millis(500)).unwrap();
        let mut client = Wire::begun(peer);
        client.get(1, "/").unwrap();
        assert_eq!(client.response(1).unwrap().body, b"slow is fine");
        assert_eq!(value(&origin.requests()[0].fields, ":path"), Some("/"));
    });
}
