//! HTTP/1 between an app and a server that must not notice dragoman: what arrives is what was sent, byte by
//! byte, but for the headers that policy adds.

use dragoman_harness::net::{server, server_in_both_families};
use dragoman_harness::origin::{Reply, response};
use dragoman_harness::{Dragoman, Net, Origin, wait};

/// Requests that a relay which rebuilds heads would change.
const ODD_REQUESTS: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "get /lower/case/Method HTTP/1.1\r\nhost: a\r\n\r\n",
    "GET /a//b/../c/./%7e%2F;p=1?q=%20&&x=[1]|{2}#f HTTP/1.1\r\nHoSt: A.Test:80\r\n\r\n",
    "GET http://a.test/absolute?form HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "X-CUSTOM!#$%&'*+-.^_`|~ / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nX-B: 1\r\nHost: a\r\nx-a: 2\r\nX-B: 3\r\nX-b:4\r\nSet-Cookie: k=v\r\nSet-Cookie: k=w\r\n\r\n",
    "GET / HTTP/1.1\r\nHost:a\r\nSpaces:   two  inside   \r\nTabs:\tv\t\r\nEmpty:\r\nBlank:   \r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nLatin: caf\u{e9}\r\nAuthorization: AWS4-HMAC-SHA256 Credential=x, SignedHeaders=host;x-B\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\nVia: 1.0 fred\r\n\r\n",
    "POST /p HTTP/1.1\r\nHost: a\r\ncontent-LENGTH: 00005\r\n\r\n\0\r\n\r\n",
    "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5 \r\n\u{1f}\u{8b}\0\r\n\r\n0\t;x\r\n\r\n",
    "POST /p HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n\
     00A;name=\"v;\\\"w\";flag\r\n0123456789\r\n1;x\r\n!\r\n0;last\r\nX-Sum: 1\r\nx-sum: 2\r\n\r\n",
];

/// Responses that must reach the app as they are, with the method of their request.
const ODD_RESPONSES: &[(&str, &str)] = &[
    ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("GET", "HTTP/1.1 200 \r\nX-B: 1\r\nx-a:2\r\nX-B:  3 \r\ncontent-length: 2\r\n\r\nok"),
    ("GET", "HTTP/1.1 299 A Strange: Phrase!\r\nContent-Length: 0\r\n\r\n"),
    ("GET", "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone"),
    (
        "GET",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n\r\n2;e=1\r\nok\r\n0\r\nT: v\r\nT: w\r\n\r\n",
    ),
    ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: Deflate,chunked\r\n\r\n00002   \r\nok\r\n0     \r\n\r\n"),
    (
        "GET",
        "HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: never\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\n!",
    ),
    ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 1234567\r\n\r\n"),
    ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ("GET", "HTTP/1.1 204 No Content\r\nX: y\r\n\r\n"),
    ("GET", "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 99\r\n\r\n"),
    (
        "GET",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nLink: </b>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ),
];

#[test]
fn h1_requests_reach_the_server_byte_by_byte() {
    let net = Net::new();
    let _dragoman = Dragoman::start(&net, "");
    for address in server_in_both_families(80) {
        let origin = Origin::http(&net.servers, address, |_, _| Reply::status(200, "ok"));
        // Latin-1 on the wire: not everything in a head is UTF-8.
        let wire = |text: &str| text.chars().map(|c| u8::try_from(c).unwrap()).collect::<Vec<u8>>();
        for request in ODD_REQUESTS {
            let mut client = net.app.connect(address);
            assert_eq!(client.exchange(wire(request)).unwrap().text(), "ok", "{request:?}");
            let seen = origin.seen().pop().unwrap().bytes.so_far();
            assert_eq!(seen, wire(request), "sent {request:?}\n got {:?}", String::from_utf8_lossy(&seen));
        }
        // The same again, all on one connection: keep-alive on both sides.
        let mut client = net.app.connect(address);
        for request in ODD_REQUESTS {
            client.exchange(wire(request)).unwrap();
        }
        let seen = origin.seen().pop().unwrap().bytes.so_far();
        assert_eq!(seen, wire(&ODD_REQUESTS.concat()));
        assert_eq!(
            origin.seen().len(),
            ODD_REQUESTS.len() + 1,
            "a connection of the app's is one at the server"
        );
    }
}

#[test]
fn h1_responses_reach_the_app_byte_by_byte() {
    let net = Net::new();
    let _dragoman = Dragoman::start(&net, "");
    let _origin = Origin::http(&net.servers, server(80), |request, _| {
        let n: usize = request.word(1)[1..].parse().unwrap();
        Reply::Send(ODD_RESPONSES[n].1.into())
    });
    let mut kept = net.app.connect(server(80));
    for (n, (method, expected)) in ODD_RESPONSES.iter().enumerate() {
        let request = format!("{method} /{n} HTTP/1.1\r\nHost: a\r\n\r\n");
        kept.send(&request).unwrap();
        assert_eq!(kept.read_exact(expected.len()).unwrap(), expected.as_bytes(), "kept alive: {expected:?}");
        let mut alone = net.app.connect(server(80));
        alone.send(&request).unwrap();
        alone.finish_sending().unwrap();
        let got = alone.read_to_end().unwrap();
        assert_eq!(String::from_utf8_lossy(&got), *expected);
    }
}

#[test]
fn h1_policy_adds_its_headers_and_changes_nothing_else() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"));
    let configuration = "[defaults]\nrequest_id = true\ntrace = true\n\
                         headers = { set = { x-team = 'a' }, remove = ['x-debug'] }\n";
    let dragoman = Dragoman::start(&net, configuration);
    let parent = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request =
        format!("GET /p HTTP/1.1\r\nHost: a\r\nX-Debug: 1\r\nX-TEAM: b\r\n{parent}\r\nLast: x\r\n\r\n");
    let mut client = net.app.connect(server(80));
    client.exchange(request).unwrap();
    client.exchange("GET /q HTTP/1.1\r\nhost: a\r\nx-request-id: mine\r\n\r\n").unwrap();
    let requests = origin.requests();
    let (first, second) = (&requests[0], &requests[1]);
    assert_eq!(first.header("x-team"), Some("a"));
    assert!(!first.head.to_ascii_lowercase().contains("x-debug"), "{}", first.head);
    let id = first.header("x-request-id").expect("one is made");
    let traceparent = first.header("traceparent").expect("it goes on");
    assert!(traceparent.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && traceparent.ends_with("-01"));
    let kept: Vec<_> = first
        .head
        .lines()
        .filter(|line| ["GET", "Host", "Last"].iter().any(|w| line.starts_with(w)))
        .collect();
    assert_eq!(kept, ["GET /p HTTP/1.1", "Host: a", "Last: x"]);
    assert_eq!(second.header("x-request-id"), Some("mine"));
    assert!(second.header("traceparent").is_some_and(|value| value.len() == 55));
    let found = dragoman.records_where(2, |r| r["kind"] == "exchange");
    let ids: Vec<_> = found.iter().map(|record| record["request_id"].clone()).collect();
    assert_eq!(ids, [id, "mine"], "{found:#?}");
}

#[test]
fn h13_headers_go_only_where_policy_says() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"));
    let configuration = "[destination.ours]\nhosts = ['*.ours.test']\nrequest_id = true\n\
                         headers = { set = { x-team = 'a' } }\n\
                         [destination.ours.route.plain]\npath = '/plain/*'\nrequest_id = false\n";
    let _dragoman = Dragoman::start(&net, configuration);
    let mut client = net.app.connect(server(80));
    for (host, path) in
        [("a.ours.test", "/"), ("a.ours.test", "/plain/x"), ("ours.test.evil", "/"), ("other", "/")]
    {
        client.exchange(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).unwrap();
    }
    let has = |name: &str| origin.requests().iter().map(|r| r.header(name).is_some()).collect::<Vec<bool>>();
    assert_eq!(has("x-team"), [true, true, false, false]);
    assert_eq!(has("x-request-id"), [true, false, false, false]);
}

#[test]
fn h2_http_1_0_works_with_and_without_keep_alive() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |request, _| match request.word(1) {
        "/close" => Reply::SendAndClose("HTTP/1.0 200 OK\r\nX: y\r\n\r\nuntil the end".into()),
        _ => Reply::Send("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok".into()),
    });
    let _dragoman = Dragoman::start(&net, "");
    let mut plain = net.app.connect(server(80));
    plain.send("GET /close HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(plain.read_to_end().unwrap(), b"HTTP/1.0 200 OK\r\nX: y\r\n\r\nuntil the end");
    let mut kept = net.app.connect(server(80));
    for n in 0..3 {
        let request = format!("GET /{n} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!(kept.exchange(request).unwrap().text(), "ok");
    }
    assert_eq!(origin.seen().len(), 2);
    assert_eq!(origin.connection(0).text(), "GET /close HTTP/1.0\r\n\r\n");
}

#[test]
fn h3_an_upgrade_turns_into_bytes_both_ways() {
    let net = Net::new();
    let dragoman = Dragoman::start(&net, "[defaults]\nretry = {}\npool = {}\n");
    for (token, port) in [("websocket", 80), ("TLS/1.2", 81), ("something-of-ours", 82)] {
        let switch =
            format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: {token}\r\nConnection: Upgrade\r\n\r\n");
        let answer = format!("{switch}greeting");
        let origin = Origin::tcp(&net.servers, server(port), move |mut peer| {
            peer.request()?;
            peer.send(&answer)?;
            let raw = peer.read_exact(6)?;
            peer.send(raw)?;
            peer.read_to_end().map(drop)
        });
        let request = format!(
            "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: {token}\r\n\r\n"
        );
        let mut client = net.app.connect(server(port));
        client.send(&request).unwrap();
        assert_eq!(client.response("GET").unwrap().head, switch);
        assert_eq!(client.read_exact(8).unwrap(), b"greeting");
        client.send(b"\x81\x00\r\n\r\n").unwrap();
        assert_eq!(client.read_exact(6).unwrap(), b"\x81\x00\r\n\r\n");
        client.finish_sending().unwrap();
        assert_eq!(client.read_to_end().unwrap(), b"");
        assert_eq!(origin.connection(0).text(), format!("{request}\u{fffd}\0\r\n\r\n"));
    }
    assert_eq!(dragoman.settle().sum("dragoman_exchanges_total", &[("code", "101")]), 3);
}

#[test]
fn h3_a_refused_upgrade_stays_http() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "not today"));
    let _dragoman = Dragoman::start(&net, "");
    let mut client = net.app.connect(server(80));
    for _ in 0..2 {
        let request = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        assert_eq!(client.exchange(request).unwrap().text(), "not today");
    }
    assert_eq!(origin.requests().len(), 2);
}

#[test]
fn h4_connect_tunnels_verbatim() {
    let net = Net::new();
    let origin = Origin::tcp(&net.servers, server(3128), |mut peer| {
        peer.request()?;
        peer.send("HTTP/1.1 200 Connection established\r\nX-Proxy: s\r\n\r\n")?;
        let all = peer.read_to_end()?;
        peer.send(all)
    });
    let _dragoman = Dragoman::start(&net, "");
    let mut client = net.app.connect(server(3128));
    let request = "CONNECT inner.test:443 HTTP/1.1\r\nHost: inner.test:443\r\n\r\n";
    client.send(request).unwrap();
    assert!(client.response("CONNECT").unwrap().head.contains("X-Proxy: s\r\n"));
    client.send("GET / HTTP/1.1\r\n\r\n\0\x16\x03").unwrap();
    client.finish_sending().unwrap();
    assert_eq!(client.read_to_end().unwrap(), b"GET / HTTP/1.1\r\n\r\n\0\x16\x03");
    assert_eq!(origin.connection(0).text(), format!("{request}GET / HTTP/1.1\r\n\r\n\0\u{16}\u{3}"));
}

#[test]
fn h4_a_refused_connect_stays_http() {
    let net = Net::new();
    let _origin = Origin::http(&net.servers, server(3128), |_, _| Reply::status(407, "who are you"));
    let _dragoman = Dragoman::start(&net, "");
    let mut client = net.app.connect(server(3128));
    for _ in 0..2 {
        client.send("CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\n").unwrap();
        assert_eq!(client.response("GET").unwrap().text(), "who are you");
    }
}

#[test]
fn h5_expect_continue_waits_for_the_server_itself() {
    let net = Net::new();
    let origin = Origin::tcp(&net.servers, server(80), |mut peer| {
        let head = peer.read_until(b"\r\n\r\n")?;
        assert!(head.ends_with(b"100-Continue\r\n\r\n"));
        peer.send("HTTP/1.1 100 Continue\r\nX-From: server\r\n\r\n")?;
        peer.read_exact(4)?;
        peer.send(response(200, "stored"))?;
        peer.read_to_end().map(drop)
    });
    let _dragoman = Dragoman::start(&net, "");
    let mut client = net.app.connect(server(80));
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-Continue\r\n\r\n").unwrap();
    assert_eq!(client.response("PUT").unwrap().head, "HTTP/1.1 100 Continue\r\nX-From: server\r\n\r\n");
    assert!(origin.connection(0).text().ends_with("\r\n\r\n"), "the body came before the server asked");
    client.send("body").unwrap();
    assert_eq!(client.response("PUT").unwrap().text(), "stored");
}

#[test]
fn h5_an_early_answer_reaches_the_app_and_stops_the_upload() {
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(80), |mut peer| {
        peer.read_until(b"\r\n\r\n")?;
        peer.read_exact(1000)?;
        peer.send("HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig")?;
        peer.finish_sending()?;
        // Reads on for a moment, as a careful server does, so that its answer is not lost to a reset.
        peer.read_exact(100_000).map(drop)
    });
    let dragoman = Dragoman::start(&net, "");
    let mut client = net.app.connect(server(80));
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n").unwrap();
    let chunk = [b'x'; 10_000];
    client.send(chunk).unwrap();
    let answer = client.response("POST").unwrap();
    assert_eq!((answer.status(), answer.text().as_str()), (413, "big"));
    // The connection ends: what the app goes on sending is not read for ever.
    wait::until("the upload is stopped", wait::SOON, || client.send(chunk).is_err());
    drop(client);
    assert_eq!(dragoman.settle().sum("dragoman_exchanges_total", &[("code", "413")]), 1);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let net = Net::new();
    let _origin = Origin::http(&net.servers, server(80), |request, _| Reply::status(200, request.word(1)));
    let _dragoman = Dragoman::start(&net, "[defaults]\npool = {}\nretry = {}\n");
    let mut client = net.app.connect(server(80));
    let request = |n| format!("POST /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    client.send((0..20).map(request).collect::<String>()).unwrap();
    for n in 0..20 {
        assert_eq!(client.response("POST").unwrap().text(), format!("/{n}"));
    }
}

#[test]
fn a_body_until_close_ends_with_the_server() {
    let net = Net::new();
    let _origin = Origin::http(&net.servers, server(80), |_, _| {
        Reply::SendAndClose(["HTTP/1.1 200 OK\r\n\r\n", &"long ".repeat(200_000)].concat().into_bytes())
    });
    let dragoman = Dragoman::start(&net, "[defaults]\npool = {}\n");
    let mut client = net.app.connect(server(80));
    let answer = client.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(answer.body.len(), 1_000_000);
    drop(client);
    assert_eq!(dragoman.settle().sum("dragoman_exchanges_total", &[("code", "200"), ("cause", "-")]), 1);
}

#[test]
fn big_bodies_stream_both_ways_at_once() {
    const LENGTH: usize = 8_000_000;
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(80), |mut peer| {
        peer.read_until(b"\r\n\r\n")?;
        peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n"))?;
        for _ in 0..LENGTH / 1000 {
            let part = peer.read_exact(1000)?;
            peer.send(part)?;
        }
        peer.read_to_end().map(drop)
    });
    let _dragoman = Dragoman::start(&net, "");
    let mut client = net.app.connect(server(80));
    let body: Vec<u8> = (0_u64..).flat_map(u64::to_le_bytes).take(LENGTH).collect();
    let mut sender = client.stream().try_clone().unwrap();
    let sent = body.clone();
    let upload = std::thread::spawn(move || {
        use std::io::Write;
        sender.write_all(
            format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LENGTH}\r\n\r\n").as_bytes(),
        )?;
        sender.write_all(&sent)
    });
    assert!(client.response("POST").unwrap().body == body);
    upload.join().unwrap().unwrap();
}

#[test]
fn keep_alive_ends_when_either_side_says_so() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |request, _| match request.word(1) {
        "/last" => {
            Reply::SendAndClose("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok".into())
        }
        _ => Reply::status(200, "ok"),
    });
    let _dragoman = Dragoman::start(&net, "");
    let mut by_app = net.app.connect(server(80));
    by_app.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    assert!(by_app.read_to_end().unwrap().ends_with(b"ok"));
    let mut by_server = net.app.connect(server(80));
    by_server.send("GET /last HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(by_server.read_to_end().unwrap().ends_with(b"ok"));
    assert_eq!(origin.connection(0).text(), "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
}
