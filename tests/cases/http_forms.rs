//! Forms of messages that are rare and legal: request targets of all four forms, responses without a body although their
//! head announces one, and an HTTP/1.0 app before a pool.

use dragoman_harness::net::server;
use dragoman_harness::origin::Reply;
use dragoman_harness::{Dragoman, Net, Origin};

/// Requests to a destination by host, and by what they are told that they belong to it.
const TARGETS: &[(&str, &str)] = &[
    ("GET /path?q HTTP/1.1\r\nHost: ours.test:80\r\n\r\n", "200"),
    ("GET http://ours.test/path HTTP/1.1\r\nHost: ours.test\r\n\r\n", "200"),
    ("GET http://OURS.test:80 HTTP/1.1\r\nHost: OURS.test:80\r\n\r\n", "200"),
    ("GET http://user:word@ours.test/ HTTP/1.0\r\n\r\n", "200"),
    ("OPTIONS * HTTP/1.1\r\nHost: ours.test\r\n\r\n", "200"),
    ("OPTIONS http://ours.test HTTP/1.1\r\nHost: ours.test\r\n\r\n", "200"),
    ("CONNECT ours.test:443 HTTP/1.1\r\nHost: ours.test:443\r\n\r\n", "405"),
];

#[test]
fn h1_targets_of_every_form_are_matched_by_their_host_and_arrive_as_they_were() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |request, _| match request.word(0) {
        "CONNECT" => Reply::status(405, "no"),
        _ => Reply::status(200, "ok"),
    });
    let dragoman = Dragoman::start(&net, "[destination.ours]\nhosts = ['ours.test']\ntimeout = '30s'\n");
    for (request, status) in TARGETS {
        let mut client = net.app.connect(server(80));
        client.send(request).unwrap();
        // No method that announces a tunnel: the refusal has a body.
        assert_eq!(client.response("GET").unwrap().word(1), *status, "{request:?}");
        assert_eq!(origin.seen().pop().unwrap().text(), *request);
    }
    let records = dragoman.records_where(TARGETS.len(), |r| r["kind"] == "exchange");
    assert!(records.iter().all(|record| record["destination"] == "ours"), "{records:#?}");
}

#[test]
fn what_is_neither_of_the_four_forms_is_refused() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"));
    let _dragoman = Dragoman::start(&net, "");
    for target in ["path", "ours.test:80", "**", "http:/x", "http://", "//\u{7f}", "?q"] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = net.app.connect(server(80)).exchange(request).unwrap();
        assert_eq!(
            (answer.status(), answer.header("x-dragoman-cause")),
            (400, Some("bad_request")),
            "{target:?}"
        );
    }
    assert!(origin.requests().is_empty());
}

/// A method, the bytes of a whole response to it, and whether the connection goes on.
const BODIES: &[(&str, &str)] = &[
    ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
    ("HEAD", "HTTP/1.1 200 OK\r\n\r\n"),
    ("HEAD", "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"),
    ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
    ("GET", "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ("POST", "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n"),
    ("POST", "HTTP/1.1 205 Reset Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("GET", "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/9\r\nContent-Length: 2\r\n\r\nab"),
    ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 000\r\n\r\n"),
];

#[test]
fn h1_responses_end_where_their_request_says() {
    let net = Net::new();
    for configuration in
        ["", "[defaults]\npool = {}\nretry = {}\nresponse_headers = { remove = ['x-none'] }\n"]
    {
        let origin = Origin::http(&net.servers, server(80), |request, _| {
            let n: usize = request.word(1)[1..].parse().unwrap();
            Reply::Send(BODIES[n].1.into())
        });
        let dragoman = Dragoman::start(&net, configuration);
        let mut client = net.app.connect(server(80));
        for (n, (method, expected)) in BODIES.iter().enumerate() {
            client.send(format!("{method} /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")).unwrap();
            let got = client.read_exact(expected.len()).unwrap();
            assert_eq!(String::from_utf8_lossy(&got), *expected, "{method}");
        }
        drop(client);
        dragoman.settle();
        assert_eq!(origin.used(), 1, "all on one connection: no byte too few or too many was taken");
        drop(dragoman);
        net.app.succeed("nft delete table inet dragoman");
    }
}

#[test]
fn h2_an_http_10_app_keeps_its_connection_before_a_pool() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |request, _| {
        let keeps =
            request.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("keep-alive"));
        let text = "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n";
        match keeps {
            true => Reply::Send([text, "Connection: keep-alive\r\n\r\nok"].concat().into_bytes()),
            false => Reply::SendAndClose([text, "\r\nok"].concat().into_bytes()),
        }
    });
    let dragoman = Dragoman::start(&net, "[defaults]\npool = {}\n");
    let mut kept = net.app.connect(server(80));
    for n in 0..3 {
        let request = format!("GET /{n} HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
        assert_eq!(kept.exchange(request).unwrap().header("connection"), Some("keep-alive"));
    }
    drop(kept);
    let mut plain = net.app.connect(server(80));
    plain.send("GET /last HTTP/1.0\r\n\r\n").unwrap();
    assert!(plain.read_to_end().unwrap().ends_with(b"\r\n\r\nok"));
    assert_eq!(origin.requests().len(), 4);
    assert_eq!(origin.used(), 1, "the pool's connection served both apps");
    dragoman.settle();
}

#[test]
fn the_limits_of_heads_are_the_configurations() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"));
    for (configuration, bytes, fields) in [
        ("", 64 << 10, 256),
        ("[proxy]\nmax_head_bytes = '4KiB'\nmax_headers = 20\n", 4 << 10, 20),
        ("[proxy]\nmax_head_bytes = '1MiB'\n", 1 << 20, 256),
    ] {
        let dragoman = Dragoman::start(&net, configuration);
        let get = |head: String| net.app.connect(server(80)).exchange(head).unwrap().status();
        let long = |length: usize| {
            let frame = "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n".len();
            format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(length - frame))
        };
        assert_eq!((get(long(bytes)), get(long(bytes + 1))), (200, 431), "{configuration:?}");
        let many =
            |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count - 1));
        assert_eq!((get(many(fields)), get(many(fields + 1))), (200, 431), "{configuration:?}");
        drop(dragoman);
        net.app.succeed("nft delete table inet dragoman");
    }
    assert_eq!(origin.requests().len(), 6);
}
