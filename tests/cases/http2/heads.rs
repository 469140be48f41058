//! What the head of a request and of a response says arrives as it was said, and frames that say nothing are
//! passed over.

use dragoman_harness::http2::hpack::Field;
use dragoman_harness::http2::{Frame, Http2Origin, Way, Wire, each_way, flag, hpack, kind, request, setting};
use dragoman_harness::net::server;
use dragoman_harness::{Net, Origin};

use crate::{connect, echo, head, owned};

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
    const ODD: &[&str] =
        &["/a?\"b\"", "/a?b\u{ff}", "a", "?a", "/a b", "/<a>", "/a?<b>", "/`", "http://b.test/a", "\u{c3}"];
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
        let block = hpack::encode(&request("POST", "/padded"));
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
fn methods_schemes_and_hosts_are_the_clients_own() {
    const HEADS: &[&[(&str, &str)]] = &[
        &[(":method", "OPTIONS"), (":scheme", "http"), (":authority", "a.test"), (":path", "*")],
        &[(":method", "PURGE"), (":scheme", "http"), (":authority", "a.test"), (":path", "/")],
        &[(":method", "get"), (":scheme", "http"), (":authority", "a.test"), (":path", "/lower")],
        // As a proxy before this one says it that has ended TLS.
        &[(":method", "GET"), (":scheme", "https"), (":authority", "a.test"), (":path", "/")],
        &[(":method", "GET"), (":scheme", "http"), (":authority", "[fd98::2]:8080"), (":path", "/")],
        &[
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "a.test"),
            (":path", "/"),
            ("host", "a.test"),
        ],
    ];
    let net = Net::new();
    each_way(&net, |way| {
        let origin = echo(&net);
        for (n, fields) in (0..).zip(HEADS) {
            let mut client = connect(&net);
            client.fields(1, fields, true).unwrap();
            assert_eq!(client.response(1).unwrap().status(), 200, "{way:?}: {fields:?}");
            let sorted = |mut fields: Vec<Field>| {
                fields.sort();
                fields
            };
            let seen = comparable(&origin.requests()[n].fields, way);
            assert_eq!(sorted(seen), sorted(owned(fields)), "{way:?}");
        }
    });
}

#[test]
fn settings_at_their_edges_are_kept_on_both_sides() {
    // No table for compressed heads, no window at first, the largest frames.
    const TABLE: u16 = 1;
    const EDGES: &[(u16, u32)] =
        &[(TABLE, 0), (setting::INITIAL_WINDOW_SIZE, 0), (setting::MAX_FRAME_SIZE, (1 << 24) - 1)];
    const BODY: usize = 100_000;
    let net = Net::new();
    each_way(&net, |_| {
        let _origin = Origin::tcp(&net.servers, server(80), |peer| {
            let mut wire = Wire::server(peer, EDGES)?;
            for _ in 0..2 {
                let (stream, _) = wire.take(head)?;
                wire.send(&Frame::window(stream, 1))?;
                wire.send(&Frame::window(stream, 20_000))?;
                let body = wire.response(stream)?;
                wire.respond(stream, "200", &body.body)?;
            }
            wire.ended_with().map(drop)
        });
        let mut client = Wire::client(net.app.connect(server(80)), EDGES).unwrap();
        for stream in [1, 3] {
            client.fields(stream, &request("POST", "/"), false).unwrap();
            client.send(&Frame::window(stream, 30_000)).unwrap();
            client.data(stream, &[4; BODY], true).unwrap();
            let response = client.response(stream).unwrap();
            assert_eq!((response.status(), response.body.len()), (200, BODY));
        }
    });
}

#[test]
fn a_host_without_an_authority_is_understood() {
    // As a gateway from HTTP/1 says it: RFC 9113, section 8.3.1, leaves the authority out. A proxy may say it
    // as the authority, and must not say another.
    let head = [(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "a.test")];
    let net = Net::new();
    each_way(&net, |way| {
        let origin = echo(&net);
        let mut client = connect(&net);
        client.fields(1, &head, true).unwrap();
        assert_eq!(client.response(1).unwrap().status(), 200, "{way:?}");
        let request = origin.requests().remove(0);
        let names: Vec<_> = [":authority", "host"].iter().filter_map(|name| request.field(name)).collect();
        assert!(!names.is_empty() && names.iter().all(|name| *name == "a.test"), "{way:?}: {request:?}");
    });
}
