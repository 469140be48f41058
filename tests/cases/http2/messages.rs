//! What a request and a response say arrives as it was said: fields, bodies, trailers, interim responses,
//! tunnels, and frames that mean nothing to either end.

use std::sync::{Arc, Mutex};

use dragoman_harness::http2::hpack::Field;
use dragoman_harness::http2::{
    End, Event, Frame, Http2Origin, Way, Wire, each_way, flag, kind, request, setting, value,
};
use dragoman_harness::net::server;
use dragoman_harness::{Net, Origin};

fn connect(net: &Net) -> Wire {
    Wire::client(net.app.connect(server(80)), &[]).unwrap()
}

/// What must be the same at both ends. Where the proxy takes part, fields of one name stay in their order
/// and names in the order in which they came first, but fields of one name may have moved together: RFC
/// 9110, section 5.3, gives the rest of the order no meaning.
fn comparable(fields: &[Field], way: Way) -> Vec<Field> {
    let mut fields = fields.to_vec();
    if way == Way::Governed {
        fields.retain(|(name, _)| name != "x-request-id");
        let names: Vec<String> = fields.iter().map(|(name, _)| name.clone()).collect();
        fields.sort_by_key(|(name, _)| names.iter().position(|other| other == name));
    }
    fields
}

fn owned(fields: &[(&str, &str)]) -> Vec<Field> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn h1_fields_arrive_in_order_with_their_duplicates_and_their_bytes() {
    const REQUEST: &[(&str, &str)] = &[
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "Shop.Test:80"),
        (":path", "/a%2Fb/../c;d=1//e?q=%20&q=a+b&=[]"),
        ("zebra", "first"),
        ("cookie", "a=1"),
        ("x-twice", "one"),
        ("cookie", "b=2; c=3"),
        ("accept", "*/*"),
        ("x-twice", "two, three"),
        ("x-empty", ""),
        ("x-latin", "caf\u{e9} \u{80}\u{ff}"),
        ("te", "trailers"),
        ("x-inner", "a  b\tc"),
        ("cookie", "d=4"),
        ("authorization", "Bearer SECRET"),
    ];
    const RESPONSE: &[(&str, &str)] = &[
        (":status", "200"),
        ("server", "a test"),
        ("set-cookie", "a=1; Path=/"),
        ("date", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("set-cookie", "b=2"),
        ("x-empty", ""),
        ("x-latin", "\u{fc}ber"),
    ];
    let net = Net::new();
    each_way(&net, |way| {
        let origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| {
            wire.fields(request.stream, RESPONSE, false)?;
            wire.data(request.stream, b"body", true)
        });
        let mut client = connect(&net);
        client.fields(1, REQUEST, true).unwrap();
        let response = client.response(1).unwrap();
        assert_eq!(comparable(&response.fields, way), comparable(&owned(RESPONSE), way));
        let seen = origin.requests().remove(0);
        assert_eq!(comparable(&seen.fields, way), comparable(&owned(REQUEST), way));
        assert_eq!(seen.field("x-request-id").is_some(), way == Way::Governed, "policy's own header");
    });
}

#[test]
fn h1_a_path_arrives_as_it_is_or_not_at_all() {
    // What clients send, and what only tests and attackers do: a proxy that mends a path makes another
    // request of it.
    const USUAL: &[&str] = &[
        "/",
        "//",
        "//a//",
        "/a%2fb%2Fc",
        "/./a/../b/.",
        "/a;b=c;d",
        "/?",
        "/a?b?c",
        "/a?=&&",
        "/%",
        "/%zz",
        "/a+b",
        "/~a!$&'()*,:@",
        "/a|b",
        "/a^b",
        "/[a]",
        "/a\\b",
        "/a?{b}",
        "/\u{c3}\u{a9}",
    ];
    const ODD: &[&str] = &[
        "/a?\"b\"",
        "/a?b\u{ff}",
        "/a#b",
        "/a?b#c",
        "#",
        "a",
        "?a",
        "/a b",
        "/<a>",
        "/a?<b>",
        "/`",
        "http://b.test/a",
        "\u{c3}",
    ];
    let net = Net::new();
    each_way(&net, |way| {
        let origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| {
            wire.respond(request.stream, "200", b"")
        });
        let mut wrong = Vec::new();
        for path in USUAL.iter().chain(ODD) {
            let before = origin.requests().len();
            let mut client = connect(&net);
            client.get(1, path).unwrap();
            let refused = client.response(1).map_or(true, |response| response.status() != 200);
            let seen = origin.requests().get(before).map(|request| request.path().to_owned());
            let may_refuse = way == Way::Governed && ODD.contains(path);
            if seen.as_deref() != Some(path) && !(seen.is_none() && refused && may_refuse) {
                wrong.push((path, seen));
            }
        }
        assert!(wrong.is_empty(), "{way:?}: {wrong:#?}");
    });
}

#[test]
fn h6_trailers_pass_in_both_directions() {
    let net = Net::new();
    each_way(&net, |_| {
        let origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| {
            wire.fields(request.stream, &[(":status", "200"), ("trailer", "grpc-status")], false)?;
            wire.data(request.stream, b"answer", false)?;
            let trailers =
                [("grpc-status", "5"), ("grpc-message", "no %E2%82%AC"), ("x-bin", "AAE"), ("x-bin", "Ag")];
            wire.fields(request.stream, &trailers, true)
        });
        let mut client = connect(&net);
        client.fields(1, &request("POST", "/a.B/C"), false).unwrap();
        client.data(1, b"question", false).unwrap();
        client.fields(1, &[("x-checksum", "abc"), ("x-more", "")], true).unwrap();
        let response = client.response(1).unwrap();
        assert_eq!((response.status(), &response.body[..], response.end), (200, &b"answer"[..], End::Whole));
        let expected =
            [("grpc-status", "5"), ("grpc-message", "no %E2%82%AC"), ("x-bin", "AAE"), ("x-bin", "Ag")];
        assert_eq!(response.trailers, owned(&expected));
        let seen = origin.requests().remove(0);
        assert_eq!(seen.body, b"question");
        assert_eq!(seen.trailers, owned(&[("x-checksum", "abc"), ("x-more", "")]));
    });
}

#[test]
fn h6_an_answer_of_one_head_ends_there() {
    // A gRPC error without a message has neither DATA nor trailers.
    let net = Net::new();
    each_way(&net, |_| {
        let _origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| {
            wire.fields(request.stream, &[(":status", "200"), ("grpc-status", "12")], true)
        });
        let mut client = connect(&net);
        client.post(1, "/a.B/C", b"").unwrap();
        let head = client.take(|event| match event {
            Event::Fields { fields, end, .. } => Some((fields.clone(), *end)),
            _ => None,
        });
        let (fields, end) = head.unwrap();
        assert_eq!((value(&fields, "grpc-status"), end), (Some("12"), true), "END_STREAM stands on the head");
    });
}

#[test]
fn h5_interim_responses_arrive_before_the_final_one() {
    let net = Net::new();
    each_way(&net, |_| {
        let origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| {
            wire.fields(request.stream, &[(":status", "103"), ("link", "</a.css>; rel=preload")], false)?;
            wire.fields(request.stream, &[(":status", "103"), ("link", "</b.css>; rel=preload")], false)?;
            wire.respond(request.stream, "200", b"final")
        });
        let mut client = connect(&net);
        client.get(1, "/").unwrap();
        let response = client.response(1).unwrap();
        assert_eq!((response.status(), &response.body[..]), (200, &b"final"[..]));
        let links: Vec<_> = response.interim.iter().filter_map(|fields| value(fields, "link")).collect();
        assert_eq!(links, ["</a.css>; rel=preload", "</b.css>; rel=preload"]);
        assert_eq!(origin.requests().len(), 1);
    });
}

#[test]
fn h5_100_continue_comes_from_the_server_and_before_the_body() {
    let net = Net::new();
    each_way(&net, |_| {
        // The server says 100 on its own judgement: to a path that it does not like it says 413.
        let _origin = Origin::tcp(&net.servers, server(80), |peer| {
            let mut wire = Wire::server(peer, &[])?;
            for _ in 0..2 {
                let (stream, path) = wire.take(|event| match event {
                    Event::Fields { stream, fields, .. } => {
                        Some((*stream, value(fields, ":path")?.to_owned()))
                    }
                    _ => None,
                })?;
                if path == "/no" {
                    wire.fields(stream, &[(":status", "413")], true)?;
                    continue;
                }
                wire.fields(stream, &[(":status", "100")], false)?;
                let mut body = Vec::new();
                while !wire.take(|event| match event {
                    Event::Data { bytes, end, .. } => {
                        body.extend(bytes);
                        Some(*end)
                    }
                    _ => None,
                })? {}
                wire.respond(stream, "200", &body)?;
            }
            while wire.event().is_ok() {}
            Ok(())
        });
        let mut client = connect(&net);
        let expecting = |path| [&request("POST", path)[..], &[("expect", "100-continue")]].concat();
        client.fields(1, &expecting("/no"), false).unwrap();
        assert_eq!(client.response(1).unwrap().status(), 413, "no 100 was made up, none was waited for");
        client.fields(3, &expecting("/yes"), false).unwrap();
        // Not a byte of the body before the server has asked for it.
        client.take(|event| matches!(event, Event::Fields { stream: 3, .. }).then_some(())).unwrap();
        client.data(3, b"the body", true).unwrap();
        assert_eq!(client.response(3).unwrap().body, b"the body");
    });
}

#[test]
fn h5_an_early_answer_stops_the_upload() {
    let net = Net::new();
    each_way(&net, |way| {
        let _origin = Origin::tcp(&net.servers, server(80), |peer| {
            let mut wire = Wire::server(peer, &[])?;
            wire.take(|event| matches!(event, Event::Data { .. }).then_some(()))?;
            wire.respond(1, "413", b"too much")?;
            wire.send(&Frame::reset(1, 0))?;
            while wire.event().is_ok() {}
            Ok(())
        });
        let mut client = connect(&net);
        client.fields(1, &request("POST", "/upload"), false).unwrap();
        let broken = client.data(1, &vec![7; 100_000_000], true).unwrap_err();
        assert_eq!(broken.kind(), std::io::ErrorKind::ConnectionAborted, "the upload went on");
        let response = client.response(1).unwrap();
        assert_eq!((response.status(), &response.body[..]), (413, &b"too much"[..]), "{way:?}");
        let code = client.take(|event| match event {
            Event::Reset { stream: 1, code } => Some(*code),
            _ => None,
        });
        assert_eq!(code.unwrap(), 0, "an early end is NO_ERROR: the answer is good");
    });
}

#[test]
fn bodies_of_many_shapes_arrive_whole() {
    const STREAMS: u32 = 24;
    let net = Net::new();
    let body = |n: u32| -> Vec<u8> { (0..n * n * 997).map(|at| (at ^ n).to_le_bytes()[0]).collect() };
    each_way(&net, |_| {
        let origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| {
            wire.respond(request.stream, "200", &request.body)
        });
        let mut client = connect(&net);
        for n in 0..STREAMS {
            client.post(2 * n + 1, "/echo", &body(n)).unwrap();
        }
        for n in (0..STREAMS).rev() {
            let response = client.response(2 * n + 1).unwrap();
            assert!(response.body == body(n) && response.end == End::Whole, "stream {n}");
        }
        assert_eq!(origin.requests().len(), STREAMS as usize);
    });
}

#[test]
fn answers_without_a_body_keep_their_length_and_end() {
    let net = Net::new();
    each_way(&net, |_| {
        let _origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| {
            let status = &request.path()[1..];
            wire.fields(
                request.stream,
                &[(":status", status), ("content-length", "5"), ("etag", "\"x\"")],
                true,
            )
        });
        let mut client = connect(&net);
        for (stream, method, path) in [(1, "HEAD", "/200"), (3, "HEAD", "/404"), (5, "GET", "/304")] {
            client.fields(stream, &request(method, path), true).unwrap();
            let response = client.response(stream).unwrap();
            assert_eq!((&path[1..], response.end), (response.field(":status").unwrap(), End::Whole));
            assert_eq!(
                (response.field("content-length"), response.body.len()),
                (Some("5"), 0),
                "{method} {path}"
            );
        }
    });
}

#[test]
fn padding_priorities_and_unknown_frames_mean_nothing() {
    let net = Net::new();
    each_way(&net, |_| {
        let origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| {
            wire.send(&Frame::new(0xbe, 0xff, 0, b"unknown"))?;
            wire.send(&Frame::new(0xa, 0, request.stream, b"\0\0h2=\":443\""))?;
            wire.respond(request.stream, "200", &request.body)
        });
        let mut client = connect(&net);
        let priority = [0, 0, 0, 0, 200];
        client.send(&Frame::new(kind::PRIORITY, 0, 7, priority)).unwrap();
        client.send(&Frame::new(0x10, 0, 0, b"\0\0\0\x01u=1, i")).unwrap();
        client.send(&Frame::settings(&[(0xf0f0, 7), (setting::MAX_FRAME_SIZE, 20_000)])).unwrap();
        let block = dragoman_harness::http2::hpack::encode(&request("POST", "/padded"));
        let head = [&[3], &priority[..], &block, &[0; 3]].concat();
        let flags = flag::END_HEADERS | flag::PADDED | flag::PRIORITY;
        client.send(&Frame::new(kind::HEADERS, flags, 1, head)).unwrap();
        client.send(&Frame::new(kind::DATA, 0, 1, [])).unwrap();
        client.send(&Frame::new(kind::DATA, flag::PADDED, 1, b"\x02body\0\0")).unwrap();
        client.send(&Frame::new(kind::PRIORITY, 0, 1, priority)).unwrap();
        client.send(&Frame::new(kind::DATA, flag::PADDED | flag::END_STREAM, 1, b"\0")).unwrap();
        let response = client.response(1).unwrap();
        assert_eq!((response.status(), &response.body[..]), (200, &b"body"[..]));
        assert_eq!(origin.requests()[0].path(), "/padded");
    });
}

#[test]
fn large_heads_pass_in_continuations_in_both_directions() {
    let net = Net::new();
    let value = "v".repeat(12_000);
    let fields = [("x-a", &value[..]), ("x-b", &value), ("x-c", &value)];
    each_way(&net, |_| {
        let large = value.clone();
        let origin = Http2Origin::start(&net.servers, server(80), move |wire, request, _| {
            let fields = [("x-a", &large[..]), ("x-b", &large), ("x-c", &large)];
            wire.fields(request.stream, &[&[(":status", "200")], &fields[..]].concat(), true)
        });
        let mut client = connect(&net);
        client.fields(1, &[&request("GET", "/")[..], &fields].concat(), true).unwrap();
        let response = client.response(1).unwrap();
        for (name, value) in fields {
            assert_eq!(response.field(name), Some(value));
            assert_eq!(origin.requests()[0].field(name), Some(value));
        }
    });
}

#[test]
fn both_directions_of_a_stream_flow_at_once() {
    // The answer begins before the question is over, and each waits for the other in turn.
    const TURNS: usize = 50;
    let net = Net::new();
    each_way(&net, |_| {
        let _origin = Origin::tcp(&net.servers, server(80), |peer| {
            let mut wire = Wire::server(peer, &[])?;
            let (stream, _) = wire.take(open)?;
            wire.fields(stream, &[(":status", "200")], false)?;
            for turn in 0..TURNS {
                assert_eq!(exactly(&mut wire, stream, turn.to_string().len()), turn.to_string().as_bytes());
                wire.data(stream, format!("re: {turn}").as_bytes(), false)?;
            }
            assert_eq!(rest(&mut wire, stream), b"");
            wire.data(stream, b"bye", true)?;
            while wire.event().is_ok() {}
            Ok(())
        });
        let mut client = connect(&net);
        client.fields(1, &request("POST", "/chat"), false).unwrap();
        client.take(|event| matches!(event, Event::Fields { stream: 1, .. }).then_some(())).unwrap();
        for turn in 0..TURNS {
            client.data(1, turn.to_string().as_bytes(), false).unwrap();
            let answer = format!("re: {turn}");
            assert_eq!(exactly(&mut client, 1, answer.len()), answer.as_bytes());
        }
        client.data(1, b"", true).unwrap();
        assert_eq!(rest(&mut client, 1), b"bye");
    });
}

#[test]
fn h4_connect_becomes_a_tunnel() {
    let net = Net::new();
    each_way(&net, |_| {
        let tunnel = Tunnel::start(&net, &[]);
        let mut client = connect(&net);
        let head = [(":method", "CONNECT"), (":authority", "db.test:5432")];
        client.fields(1, &head, false).unwrap();
        through_the_tunnel(&mut client);
        assert_eq!(tunnel.head()[..2], owned(&head));
    });
}

#[test]
fn h3_extended_connect_opens_a_websocket() {
    let net = Net::new();
    each_way(&net, |_| {
        let tunnel = Tunnel::start(&net, &[(setting::ENABLE_CONNECT_PROTOCOL, 1)]);
        let mut client = connect(&net);
        // RFC 8441: a client may only ask once the server has said that it understands.
        let allowed = (setting::ENABLE_CONNECT_PROTOCOL, 1);
        client
            .take(|event| matches!(event, Event::Settings(all) if all.contains(&allowed)).then_some(()))
            .unwrap();
        let head = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":authority", "a.test"),
            (":path", "/chat"),
            ("sec-websocket-version", "13"),
        ];
        client.fields(1, &head, false).unwrap();
        through_the_tunnel(&mut client);
        for (name, expected) in head {
            assert_eq!(value(&tunnel.head(), name), Some(expected), "{:?}", tunnel.head());
        }
    });
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
            let (stream, fields) = wire.take(open)?;
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

/// Two turns through a tunnel that opens on stream 1, then its end.
fn through_the_tunnel(client: &mut Wire) {
    let head = client.take(|event| match event {
        Event::Fields { stream: 1, fields, end } => Some((value(fields, ":status")?.to_owned(), *end)),
        _ => None,
    });
    assert_eq!(head.unwrap(), ("200".to_owned(), false));
    for words in ["hello", "you there"] {
        client.data(1, words.as_bytes(), false).unwrap();
        assert_eq!(exactly(client, 1, words.len()), words.to_ascii_uppercase().as_bytes());
    }
    client.data(1, b"bye", true).unwrap();
    assert_eq!(rest(client, 1), b"BYE");
}

fn open(event: &Event) -> Option<(u32, Vec<Field>)> {
    match event {
        Event::Fields { stream, fields, .. } => Some((*stream, fields.clone())),
        _ => None,
    }
}

fn data(event: &Event, wanted: u32) -> Option<(Vec<u8>, bool)> {
    match event {
        Event::Data { stream, bytes, end } if *stream == wanted => Some((bytes.clone(), *end)),
        _ => None,
    }
}

/// The next bytes of a stream that stays open.
fn exactly(wire: &mut Wire, stream: u32, length: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < length {
        let (bytes, end) = wire.take(|event| data(event, stream)).unwrap();
        all.extend(bytes);
        assert!(!end, "the stream ended");
    }
    all
}

/// All bytes up to the end of a stream.
fn rest(wire: &mut Wire, stream: u32) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let (bytes, end) = wire.take(|event| data(event, stream)).unwrap();
        all.extend(bytes);
        if end {
            return all;
        }
    }
}
