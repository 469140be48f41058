//! HTTP/1 apps of ill will, HTTP/2 servers of ill will: nothing becomes something else on its way.

use dragoman_harness::http2::{Event, Frame, Http2Origin, Wire, code};
use dragoman_harness::net::server;
use dragoman_harness::peer::Peer;
use dragoman_harness::{Dragoman, Net, Origin};

use crate::TO_HTTP2;

fn ok(net: &Net) -> Http2Origin {
    Http2Origin::start(&net.servers, server(80), |wire, request, _| {
        wire.fields(request.stream, &[(":status", "200"), ("content-length", "2")], false)?;
        wire.data(request.stream, b"ok", true)
    })
}

/// A server that says the same to every request: these frames on stream 1.
fn says(net: &Net, frames: fn(&mut Wire) -> std::io::Result<()>) -> Origin {
    Origin::tcp(&net.servers, server(80), move |peer| {
        let mut wire = Wire::server(peer, &[])?;
        wire.take(|event| matches!(event, Event::Fields { .. }).then_some(()))?;
        frames(&mut wire)?;
        wire.round_trip()?;
        wire.ended_with().map(drop)
    })
}

/// The code of a server that wants another version (RFC 9113 §7).
const HTTP_1_1_REQUIRED: u32 = 13;

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

#[test]
fn every_byte_of_a_target_arrives_or_is_answered_in_clear_words() {
    let net = Net::new();
    let origin = ok(&net);
    let _dragoman = Dragoman::start(&net, TO_HTTP2);
    let mut taken = 0;
    for byte in 0x21..=0xff_u8 {
        for before in [&b"GET /a"[..], b"GET /a?q="] {
            let request = [before, &[byte], b"z HTTP/1.1\r\nHost: a.test\r\n\r\n"].concat();
            let answer = net.app.connect(server(80)).exchange(&request).unwrap();
            match (answer.status(), answer.header("x-dragoman-cause")) {
                (200, None) => {
                    let requests = origin.requests();
                    let path = requests.last().unwrap().path();
                    let sent: String =
                        request[4..].iter().take_while(|b| **b != b' ').map(|b| *b as char).collect();
                    // A fragment is no part of a target.
                    assert_eq!(path, sent.split('#').next().unwrap(), "{byte:#x}");
                    taken += 1;
                }
                (501, Some("not_translated")) => {
                    assert!(answer.text().contains("a target"), "{}", answer.text());
                }
                (400, Some("bad_request")) => assert_eq!(byte, 0x7f),
                other => panic!("{byte:#x}: {other:?}"),
            }
        }
    }
    assert!(taken > 150, "{taken}");
}

#[test]
fn each_form_of_a_target_keeps_its_meaning() {
    let net = Net::new();
    let origin = ok(&net);
    let _dragoman = Dragoman::start(&net, TO_HTTP2);
    let mut client = net.app.connect(server(80));
    for (line, host, path, authority) in [
        ("GET http://a.test/x?", "a.test", "/x?", "a.test"),
        ("GET http://a.test:81?q", "a.test", "/?q", "a.test:81"),
        ("GET http://user:word@a.test/x?y?z#f", "a.test", "/x?y?z", "a.test"),
        ("OPTIONS *", "a.test", "*", "a.test"),
        ("OPTIONS http://a.test", "a.test", "*", "a.test"),
        ("GET //b.test/x", "a.test", "//b.test/x", "a.test"),
        ("GET /?", "[::1%25eth0]:80", "/?", "[::1%25eth0]:80"),
        ("M-SEARCH /x", "a_b.test", "/x", "a_b.test"),
        ("GET /x", "", "/x", "198.18.0.2:80"),
    ] {
        let answer = client.exchange(format!("{line} HTTP/1.1\r\nHost: {host}\r\n\r\n")).unwrap();
        assert_eq!(answer.status(), 200, "{line}: {}", answer.text());
        let requests = origin.requests();
        let request = requests.last().unwrap();
        assert_eq!((request.path(), request.field(":authority")), (path, Some(authority)), "{line}");
    }
}

#[test]
fn lengths_and_options_of_the_connection_are_not_the_messages() {
    let net = Net::new();
    let origin = ok(&net);
    let _dragoman = Dragoman::start(&net, TO_HTTP2);
    let mut client = net.app.connect(server(80));
    for lengths in ["2, 2\r\nContent-Length: 02", "0000000000000000000000002"] {
        let answer = client
            .exchange(format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {lengths}\r\n\r\nok"))
            .unwrap();
        assert_eq!(answer.status(), 200, "{lengths}");
        let requests = origin.requests();
        let fields = &requests.last().unwrap().fields;
        let stated: Vec<_> = fields.iter().filter(|(name, _)| name == "content-length").collect();
        assert_eq!((stated.len(), stated[0].1.as_str()), (1, "2"), "{lengths}");
    }
    let answer = client
        .exchange(
            "POST / HTTP/1.1\r\nHost: a.test\r\nConnection: host, content-length, x-a\r\nX-A: 1\r\n\
             Content-Length: 2\r\nTE: gzip, trailers\r\nX-Latin: caf\u{e9}\r\n\r\nok",
        )
        .unwrap();
    assert_eq!(answer.status(), 200);
    let request = origin.requests().pop().unwrap();
    assert_eq!((request.field(":authority"), request.field("x-a")), (Some("a.test"), None));
    assert_eq!((request.body.as_slice(), request.field("te")), (&b"ok"[..], Some("trailers")));
    assert_eq!(request.field("x-latin"), Some("caf\u{c3}\u{a9}"));
}

#[test]
fn a_switch_of_protocols_is_none_in_http2() {
    let net = Net::new();
    let _origin = says(&net, |wire| {
        wire.fields(1, &[(":status", "101"), ("upgraded", "yes")], false)?;
        wire.respond(1, "200", b"GET /evil HTTP/1.1\r\n\r\n")
    });
    let _dragoman = Dragoman::start(&net, TO_HTTP2);
    let mut client = net.app.connect(server(80));
    let answer = client
        .exchange("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        .unwrap();
    assert_eq!((answer.status(), answer.header("x-dragoman-cause")), (502, Some("bad_response")));
}

#[test]
fn what_http1_has_no_place_for_is_left_out() {
    let net = Net::new();
    let _origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| {
        let stream = request.stream;
        match request.path() {
            "/two" => {
                wire.fields(
                    stream,
                    &[(":status", "200"), ("content-length", "2"), ("content-length", "02")],
                    false,
                )?;
                wire.data(stream, b"ok", true)
            }
            "/103" => {
                wire.fields(stream, &[(":status", "103"), ("link", "</x>")], false)?;
                wire.respond(stream, "200", b"ok")
            }
            "/204" => wire.fields(stream, &[(":status", "204"), ("content-length", "0")], true),
            "/204-content" => {
                wire.fields(stream, &[(":status", "204")], false)?;
                wire.data(stream, b"HTTP/1.1 200 X\r\n\r\n", true)
            }
            "/trailers" => {
                wire.fields(stream, &[(":status", "200")], false)?;
                wire.data(stream, b"ok", false)?;
                let trailers =
                    [("content-length", "9"), ("host", "b.test"), ("te", "trailers"), ("x-sum", "1")];
                wire.fields(stream, &trailers, true)
            }
            _ => wire.fields(stream, &[(":status", "999"), ("x-odd", "caf\u{e9}")], true),
        }
    });
    let _dragoman = Dragoman::start(&net, TO_HTTP2);
    let mut client = net.app.connect(server(80));
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = client.exchange(get("/two")).unwrap();
    assert_eq!((answer.head.matches("content-length: 2\r\n").count(), answer.text().as_str()), (1, "ok"));
    assert_eq!(answer.head.matches("content-length").count(), 1);
    client.send(get("/103")).unwrap();
    assert_eq!(client.response("GET").unwrap().header("link"), Some("</x>"));
    assert_eq!(client.response("GET").unwrap().status(), 200);
    let answer = client.exchange(get("/204")).unwrap();
    assert_eq!((answer.status(), answer.header("content-length")), (204, None));
    assert_eq!(client.exchange(get("/204-content")).unwrap().status(), 204);
    let answer = client.exchange(get("/trailers")).unwrap();
    assert_eq!(answer.text(), "2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n");
    let answer = client.exchange(get("/odd")).unwrap();
    assert_eq!((answer.status(), answer.header("content-length")), (999, Some("0")));
    assert!(answer.head.starts_with("HTTP/1.1 999 \r\n"), "{}", answer.head);
}

#[test]
fn a_stream_that_is_reset_before_its_answer_is_502() {
    let net = Net::new();
    let _origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| {
        let how = if request.path() == "/1" { code::INTERNAL_ERROR } else { HTTP_1_1_REQUIRED };
        wire.send(&Frame::reset(request.stream, how))
    });
    let dragoman = Dragoman::start(&net, TO_HTTP2);
    let mut client = net.app.connect(server(80));
    for path in ["/1", "/2", "/1"] {
        let answer = client.exchange(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).unwrap();
        assert_eq!(
            (answer.status(), answer.header("x-dragoman-cause")),
            (502, Some("upstream_reset")),
            "{path}"
        );
    }
    drop(client);
    assert_eq!(dragoman.records_where(3, |record| record["status"] == 502).len(), 3);
}

#[test]
fn an_answer_before_the_end_of_the_request_says_that_the_connection_ends() {
    let net = Net::new();
    let _origin = says(&net, |wire| wire.respond(1, "413", b"big"));
    let _dragoman = Dragoman::start(&net, TO_HTTP2);
    let mut client = net.app.connect(server(80));
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf").unwrap();
    let answer = client.response("POST").unwrap();
    assert_eq!((answer.status(), answer.header("connection")), (413, Some("close")));
    // The same of an answer of our own.
    let net = Net::new();
    let _dragoman = Dragoman::start(&net, TO_HTTP2);
    let mut client = net.app.connect(server(80));
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf").unwrap();
    let answer = client.response("POST").unwrap();
    assert_eq!((answer.status(), answer.header("connection")), (503, Some("close")));
    // A whole request is no reason.
    let mut client = net.app.connect(server(80));
    for _ in 0..2 {
        let answer = client.exchange("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody").unwrap();
        assert_eq!((answer.status(), answer.header("connection")), (503, None));
    }
}

#[test]
fn an_app_that_reads_nothing_is_given_up_in_time() {
    let net = Net::new();
    let _origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| {
        let large = "x".repeat(8000);
        let fields: Vec<String> = (0..7).map(|n| format!("x-{n}")).collect();
        let mut head = vec![(":status", "200")];
        head.extend(fields.iter().map(|name| (name.as_str(), large.as_str())));
        wire.fields(request.stream, &head, true)
    });
    let policy = "[defaults]\nupstream_protocol = 'http2'\ntimeout = '3s'\npool = {}\n";
    let dragoman = Dragoman::start(&net, policy);
    let mut client = net.app.connect(server(80));
    socket2::SockRef::from(client.stream()).set_recv_buffer_size(2048).unwrap();
    // As many answers as no kernel keeps.
    client.send(GET.repeat(2000)).unwrap();
    let record = dragoman.record_of("timeout");
    assert_eq!(record["status"], 200, "{record:?}");
    drop(client);
    dragoman.settle();
}

#[test]
fn a_torn_interim_answer_is_followed_by_nothing() {
    let net = Net::new();
    let _origin = says(&net, |wire| {
        let large = "x".repeat(8000);
        for _ in 0..100 {
            let fields = ["x-1", "x-2", "x-3", "x-4", "x-5", "x-6", "x-7"].map(|name| (name, large.as_str()));
            wire.fields(1, &[&[(":status", "103")], &fields[..]].concat(), false)?;
        }
        Ok(())
    });
    let policy = "[defaults]\nupstream_protocol = 'http2'\ntimeout = '1s'\n";
    let dragoman = Dragoman::start(&net, policy);
    let mut client = net.app.connect(server(80));
    socket2::SockRef::from(client.stream()).set_recv_buffer_size(2048).unwrap();
    client.send(GET).unwrap();
    dragoman.record_of("timeout");
    let (bytes, reset) = client.read_to_reset().unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(reset && !text.contains("504"), "an answer melts into the half of another");
}

#[test]
fn an_app_that_goes_at_any_byte_leaves_nothing_behind() {
    let net = Net::new();
    let origin = ok(&net);
    let dragoman = Dragoman::start(&net, TO_HTTP2);
    let request =
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: 1\r\n\r\n";
    for cut in 0..request.len() {
        let mut peer: Peer = net.app.connect(server(80));
        peer.send(&request[..cut]).unwrap();
        peer.reset().unwrap();
        let mut peer = net.app.connect(server(80));
        peer.send(&request[..cut]).unwrap();
        peer.finish_sending().unwrap();
        let _ = peer.read_to_reset().unwrap();
    }
    dragoman.settle();
    assert!(origin.requests().is_empty(), "{:?}", origin.requests());
    assert_eq!(net.app.connect(server(80)).exchange(request).unwrap().status(), 200);
}

#[test]
fn the_version_may_change_under_an_open_connection() {
    let net = Net::new();
    let new = server(80);
    let http2 = ok(&net);
    let dragoman = Dragoman::start(&net, TO_HTTP2);
    let mut client = net.app.connect(new);
    assert_eq!(client.exchange(GET).unwrap().text(), "ok");
    drop(http2);
    let _http1 = Origin::http(&net.servers, new, |_, _| dragoman_harness::origin::Reply::status(200, "one"));
    dragoman.reload("[defaults]\nretry = { base = '1ms' }\npool = {}\n");
    assert_eq!(client.exchange(GET).unwrap().text(), "one");
    dragoman.reload(crate::TO_HTTP1);
    assert_eq!(client.exchange(GET).unwrap().text(), "one");
    dragoman.reload(TO_HTTP2);
    let answer = client.exchange(GET).unwrap();
    assert_eq!(answer.status(), 502, "an HTTP/1 server does not speak HTTP/2: {}", answer.head);
}

#[test]
fn a_request_that_stops_in_its_body_is_408() {
    let net = Net::new();
    let origin = ok(&net);
    let policy = "[proxy]\nrequest_body_timeout = '200ms'\n[defaults]\nupstream_protocol = 'http2'\n";
    let dragoman = Dragoman::start(&net, policy);
    let mut client = net.app.connect(server(80));
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf").unwrap();
    let answer = client.response("POST").unwrap();
    assert_eq!((answer.status(), answer.header("connection")), (408, Some("close")));
    assert!(origin.requests().is_empty());
    dragoman.record_of("request_timeout");
}
