//! CONNECT, and extended CONNECT for WebSockets (RFC 8441): bytes in both directions, and each end in its own
//! time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use dragoman_harness::http2::hpack::Field;
use dragoman_harness::http2::way::POLICY;
use dragoman_harness::http2::{Event, Frame, Http2Origin, Wire, each_way, flag, kind, setting, value};
use dragoman_harness::net::server;
use dragoman_harness::{Dragoman, Net, Origin};

use crate::{connect, data, exactly, head, owned, rest};

/// The head that opens a WebSocket.
const WEBSOCKET: &[(&str, &str)] = &[
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "http"),
    (":authority", "a.test"),
    (":path", "/chat"),
    ("sec-websocket-version", "13"),
];

#[test]
fn h4_connect_becomes_a_tunnel() {
    let net = Net::new();
    each_way(&net, |_| {
        let tunnel = Tunnel::start(&net, &[]);
        let mut client = connect(&net);
        let head = [(":method", "CONNECT"), (":authority", "db.test:5432")];
        client.fields(1, &head, false).unwrap();
        through_the_tunnel(&mut client, 1);
        assert_eq!(tunnel.head()[..2], owned(&head));
    });
}

#[test]
fn h3_extended_connect_opens_a_websocket() {
    let net = Net::new();
    each_way(&net, |_| {
        let tunnel = Tunnel::start(&net, &[(setting::ENABLE_CONNECT_PROTOCOL, 1)]);
        let mut client = connect(&net);
        // RFC 8441: a client may only ask once the server has said that it understands. The proxy knows that
        // once it has met the server: here, with the first request of the first flow.
        client.get(1, "/").unwrap();
        assert_eq!(client.response(1).unwrap().status(), 200);
        let allowed = (setting::ENABLE_CONNECT_PROTOCOL, 1);
        client
            .take(|event| matches!(event, Event::Settings(all) if all.contains(&allowed)).then_some(()))
            .unwrap();
        client.fields(3, WEBSOCKET, false).unwrap();
        through_the_tunnel(&mut client, 3);
        for (name, expected) in WEBSOCKET {
            assert_eq!(value(&tunnel.head(), name), Some(*expected), "{:?}", tunnel.head());
        }
    });
}

#[test]
fn h3_extended_connect_is_offered_to_an_app_that_acknowledges_late() {
    let net = Net::new();
    let tunnel = Tunnel::start(&net, &[(setting::ENABLE_CONNECT_PROTOCOL, 1)]);
    let _dragoman = Dragoman::start(&net, POLICY);
    let mut client = connect(&net);
    client.acknowledges = false;
    // With the second response the proxy has long known what the server takes, but further settings have to wait until
    // the ones before are acknowledged.
    for stream in [1, 3] {
        client.get(stream, "/").unwrap();
        assert_eq!(client.response(stream).unwrap().status(), 200);
    }
    assert!(!offers(&mut client), "nobody has met the server");
    client.acknowledges = true;
    client.send(&Frame::new(kind::SETTINGS, flag::ACK, 0, [])).unwrap();
    assert!(offers(&mut client), "the offer is lost");
    client.fields(5, WEBSOCKET, false).unwrap();
    through_the_tunnel(&mut client, 5);
    assert_eq!(value(&tunnel.head(), ":protocol"), Some("websocket"));
}

/// Whether the next settings that the other side says offer extended CONNECT.
fn offers(client: &mut Wire) -> bool {
    client
        .take(|event| match event {
            Event::Settings(all) => Some(all.contains(&(setting::ENABLE_CONNECT_PROTOCOL, 1))),
            _ => None,
        })
        .unwrap()
}

#[test]
fn h3_extended_connect_opens_a_websocket_on_the_first_stream_of_a_second_flow() {
    let net = Net::new();
    each_way(&net, |_| {
        let _tunnel = Tunnel::start(&net, &[(setting::ENABLE_CONNECT_PROTOCOL, 1)]);
        let mut first = connect(&net);
        first.get(1, "/").unwrap();
        assert_eq!(first.response(1).unwrap().status(), 200);
        let mut client = connect(&net);
        assert!(offers(&mut client), "before anything was asked");
        client.fields(1, WEBSOCKET, false).unwrap();
        through_the_tunnel(&mut client, 1);
    });
}

#[test]
fn extended_connect_is_offered_no_more_once_the_server_has_stopped_to() {
    let net = Net::new();
    let takes = Arc::new(AtomicBool::new(true));
    let _origin = Origin::tcp(&net.servers, server(80), {
        let takes = Arc::clone(&takes);
        move |peer| {
            let settings = [(setting::ENABLE_CONNECT_PROTOCOL, u32::from(takes.load(Ordering::SeqCst)))];
            let mut wire = Wire::server(peer, &settings)?;
            loop {
                let (stream, _) = wire.take(head)?;
                wire.respond(stream, "200", b"")?;
            }
        }
    });
    let _dragoman = Dragoman::start(&net, "[defaults]\nrequest_id = true\n");
    let mut first = connect(&net);
    assert!(!offers(&mut first), "nobody has met the server");
    first.get(1, "/").unwrap();
    assert_eq!(first.response(1).unwrap().status(), 200);
    takes.store(false, Ordering::SeqCst);
    let mut second = connect(&net);
    assert!(offers(&mut second));
    second.fields(1, WEBSOCKET, false).unwrap();
    let refused = second.response(1).unwrap();
    assert_eq!((refused.status(), refused.field("x-dragoman-cause")), (502, Some("bad_response")));
    assert!(!offers(&mut connect(&net)), "it is known now");
}

#[test]
fn extended_connect_is_not_offered_where_the_server_does_not() {
    let net = Net::new();
    each_way(&net, |_| {
        let _origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| {
            wire.respond(request.stream, "200", b"")
        });
        let mut client = connect(&net);
        client.get(1, "/").unwrap();
        let mut offered = false;
        client
            .take(|event| {
                offered |= matches!(event, Event::Settings(all) if all.contains(&(setting::ENABLE_CONNECT_PROTOCOL, 1)));
                matches!(event, Event::Fields { .. }).then_some(())
            })
            .unwrap();
        assert!(!offered, "a WebSocket client would take the offer and fail");
    });
}

/// A server that takes one CONNECT and then repeats what it hears, in capitals.
struct Tunnel {
    heads: Arc<Mutex<Vec<Vec<Field>>>>,
    _origin: Origin,
}

impl Tunnel {
    fn start(net: &Net, settings: &'static [(u16, u32)]) -> Tunnel {
        let heads = Arc::<Mutex<Vec<Vec<Field>>>>::default();
        let kept = Arc::clone(&heads);
        let origin = Origin::tcp(&net.servers, server(80), move |peer| {
            let mut wire = Wire::server(peer, settings)?;
            let (stream, fields) = loop {
                let (stream, fields) = wire.take(head)?;
                if value(&fields, ":method") == Some("CONNECT") {
                    break (stream, fields);
                }
                wire.respond(stream, "200", b"")?;
            };
            kept.lock().unwrap().push(fields);
            wire.fields(stream, &[(":status", "200")], false)?;
            loop {
                let (bytes, end) = wire.take(|event| data(event, stream))?;
                wire.data(stream, &bytes.to_ascii_uppercase(), end)?;
                if end {
                    break;
                }
            }
            while wire.event().is_ok() {}
            Ok(())
        });
        Tunnel { heads, _origin: origin }
    }

    /// The head of the first CONNECT.
    fn head(&self) -> Vec<Field> {
        self.heads.lock().unwrap()[0].clone()
    }
}

/// Two turns through a tunnel that opens on a stream, then its end.
fn through_the_tunnel(client: &mut Wire, stream: u32) {
    let head = client.take(|event| match event {
        Event::Fields { stream: of, fields, end } if *of == stream => {
            Some((value(fields, ":status")?.to_owned(), *end))
        }
        _ => None,
    });
    assert_eq!(head.unwrap(), ("200".to_owned(), false));
    for words in ["hello", "you there"] {
        client.data(stream, words.as_bytes(), false).unwrap();
        assert_eq!(exactly(client, stream, words.len()), words.to_ascii_uppercase().as_bytes());
    }
    client.data(stream, b"bye", true).unwrap();
    assert_eq!(rest(client, stream), b"BYE");
}
