//! HTTP/2 apps, HTTP/1 servers.

use std::fs;

use dragoman_harness::http2::{End, Frame, Http2Origin, Wire, code, request};
use dragoman_harness::net::server;
use dragoman_harness::origin::{Reply, response};
use dragoman_harness::{Dragoman, Net, Origin, servers, wait};

use crate::TO_HTTP1;

fn client(net: &Net) -> Wire {
    Wire::client(net.app.connect(server(80)), &[]).unwrap()
}

#[test]
fn h2_programs_meet_nginx_as_if_it_spoke_http2_without_tls() {
    let net = Net::new();
    let nginx = servers::nginx(&net.servers, "location /dav { dav_methods PUT; }");
    let www = nginx.directory().join("www");
    fs::create_dir(www.join("dav")).unwrap();
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| ((n * 31) >> 3).to_le_bytes()[0]).collect();
    fs::write(www.join("large"), &large).unwrap();
    fs::write(www.join("small"), "small\n").unwrap();
    let path = www.join("large").display().to_string();
    let _dragoman = Dragoman::start(&net, TO_HTTP1);
    let base = "http://198.18.0.2";
    let curl = "curl -sS --http2-prior-knowledge";
    let run = |line: &str| net.app.succeed(line);
    let head = run(&format!("{curl} -i {base}/small"));
    assert!(head.starts_with("HTTP/2 200") && head.ends_with("\r\n\r\nsmall\n"), "{head}");
    let sum = run(&format!("sha256sum < {path}"));
    assert_eq!(run(&format!("{curl} {base}/large | sha256sum")), sum);
    assert_eq!(
        run(&format!("nghttp --window-bits=30 --connection-window-bits=30 {base}/large | sha256sum")),
        sum
    );
    for options in ["", "-H 'content-length:'", "-H 'Expect: 100-continue'"] {
        let line = format!("{curl} {options} -w '%{{http_code}}' -o /dev/null -T {path} {base}/dav/up");
        assert!(["201", "204"].contains(&run(&line).as_str()), "{options}");
        assert!(fs::read(www.join("dav/up")).unwrap() == large, "{options}: other bytes were stored");
    }
    let printed = run(&format!("h2load -n 1000 -c 10 -m 10 {base}/small"));
    assert!(printed.contains("1000 succeeded, 0 failed, 0 errored, 0 timeout"), "{printed}");
}

#[test]
fn heads_bodies_and_trailers_arrive_as_they_were_meant() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |_, _| {
        Reply::Send(
            b"HTTP/1.1 200 Fine\r\nSet-Cookie: a\r\nset-cookie: b\r\nConnection: X-Mine\r\nX-Mine: 1\r\n\
              Keep-Alive: 5\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\nX-Sum: 5\r\n\r\n"
                .to_vec(),
        )
    });
    let _dragoman = Dragoman::start(&net, TO_HTTP1);
    let mut client = client(&net);
    let mut fields = request("POST", "/a%2Fb/../c;d?q=%20&r").to_vec();
    fields.extend([("x-one", "1"), ("cookie", "a=1"), ("x-one", "2"), ("cookie", "b=2"), ("te", "trailers")]);
    client.fields(1, &fields, false).unwrap();
    client.data(1, b"to be", false).unwrap();
    client.data(1, b" sent", false).unwrap();
    client.fields(1, &[("x-end", "yes")], true).unwrap();
    let answer = client.response(1).unwrap();
    assert_eq!((answer.status(), answer.body.as_slice()), (200, &b"hello"[..]));
    assert_eq!(answer.trailer("x-sum"), Some("5"));
    let names: Vec<_> = answer.fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(names, [":status=200", "set-cookie=a", "set-cookie=b"]);
    let raw = origin.connection(0).text();
    let (head, body) = raw.split_once("\r\n\r\n").unwrap();
    assert_eq!(
        head.split("\r\n").collect::<Vec<_>>(),
        [
            "POST /a%2Fb/../c;d?q=%20&r HTTP/1.1",
            "host: a.test",
            "x-one: 1",
            "x-one: 2",
            "cookie: a=1; b=2",
            "te: trailers",
            "connection: te",
            "transfer-encoding: chunked",
        ]
    );
    assert_eq!(body, "5\r\nto be\r\n5\r\n sent\r\n0\r\nx-end: yes\r\n\r\n");
}

#[test]
fn streams_share_pooled_connections_and_never_mix() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |request, _| Reply::status(200, request.word(1)));
    let dragoman = Dragoman::start(&net, TO_HTTP1);
    let mut client = client(&net);
    for round in 0..10 {
        let stream = |n: u32| 2 * (round * 8 + n) + 1;
        (0..8).for_each(|n| client.get(stream(n), &format!("/{round}/{n}")).unwrap());
        for n in 0..8 {
            let answer = client.response(stream(n)).unwrap();
            assert_eq!(answer.body, format!("/{round}/{n}").into_bytes());
        }
    }
    // A stream may begin before the one before it has given its connection back.
    assert!(origin.seen().len() <= 40, "{} connections for 80 streams", origin.seen().len());
    let reused = dragoman.metrics().sum("dragoman_upstream_connections_total", &[("how", "reused")]);
    assert!(reused >= 40, "{reused}");
}

#[test]
fn h7_a_connection_that_the_server_closed_costs_no_request() {
    let net = Net::new();
    let origin =
        Origin::http(&net.servers, server(80), |_, _| Reply::SendAndClose(response(200, "ok").into_bytes()));
    let _dragoman = Dragoman::start(&net, TO_HTTP1);
    let mut client = client(&net);
    for n in 0..20 {
        client.get(2 * n + 1, "/").unwrap();
        assert_eq!(client.response(2 * n + 1).unwrap().status(), 200, "{n}");
    }
    assert_eq!(origin.requests().len(), 20);
}

#[test]
fn an_answer_that_is_cut_off_resets_its_stream_and_no_other() {
    let net = Net::new();
    let _origin = Origin::http(&net.servers, server(80), |request, _| match request.word(1) {
        "/length" => Reply::SendAndClose(b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\nhalf".to_vec()),
        "/chunk" => {
            Reply::SendAndClose(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf".to_vec())
        }
        "/reset" => Reply::SendAndReset(b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\nhalf".to_vec()),
        "/close" => Reply::SendAndClose(b"HTTP/1.1 200 X\r\n\r\nhalf".to_vec()),
        "/odd" => Reply::SendAndClose(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_vec()),
        "/upgrade" => Reply::Send(b"HTTP/1.1 101 X\r\nUpgrade: y\r\nConnection: upgrade\r\n\r\n".to_vec()),
        _ => Reply::status(200, "ok"),
    });
    let _dragoman = Dragoman::start(&net, TO_HTTP1);
    let mut client = client(&net);
    for (n, path) in ["/length", "/chunk", "/reset", "/odd"].into_iter().enumerate() {
        let stream = 2 * n as u32 + 1;
        client.get(stream, path).unwrap();
        let end = client.response(stream).unwrap().end;
        assert!(matches!(end, End::Reset(_)), "{path}: {end:?}");
    }
    client.get(101, "/close").unwrap();
    let answer = client.response(101).unwrap();
    assert_eq!((answer.body.as_slice(), answer.end), (&b"half"[..], End::Whole));
    client.get(103, "/upgrade").unwrap();
    let answer = client.response(103).unwrap();
    assert_eq!((answer.status(), answer.field("x-dragoman-cause")), (502, Some("bad_response")));
    client.get(105, "/").unwrap();
    assert_eq!(client.response(105).unwrap().status(), 200);
}

#[test]
fn what_is_provably_safe_is_repeated_byte_for_byte() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |request, n| match (request.word(0), n) {
        ("PUT", 0) => Reply::status(503, "later"),
        ("PUT", _) => Reply::status(200, "stored"),
        _ => Reply::reset(),
    });
    let policy = "[defaults]\nupstream_protocol = 'http1'\nretry = { base = '1ms', methods = ['PUT'] }\n";
    let dragoman = Dragoman::start(&net, policy);
    let mut client = client(&net);
    client.fields(1, &request("PUT", "/x"), false).unwrap();
    client.data(1, b"body", true).unwrap();
    let answer = client.response(1).unwrap();
    assert_eq!((answer.status(), answer.body.as_slice()), (200, &b"stored"[..]));
    let both = origin.requests();
    assert_eq!((&both[0].head, &both[0].body), (&both[1].head, &both[1].body));
    assert_eq!(both[0].text(), "4\r\nbody\r\n0\r\n\r\n");
    client.post(3, "/once", b"pay").unwrap();
    assert_eq!(client.response(3).unwrap().field("x-dragoman-cause"), Some("upstream_reset"));
    let methods: Vec<_> = origin.requests().iter().map(|request| request.word(0).to_owned()).collect();
    assert_eq!(methods, ["PUT", "PUT", "POST"], "a POST is sent once");
    drop(client);
    assert_eq!(dragoman.settle().sum("dragoman_retries_total", &[]), 1);
}

#[test]
fn h5_interim_answers_and_early_ones_reach_the_stream() {
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(80), |mut peer| {
        peer.read_until(b"\r\n\r\n")?;
        peer.send("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")?;
        peer.send("HTTP/1.1 413 Large\r\nContent-Length: 3\r\n\r\nbig")?;
        peer.read_to_end().map(drop)
    });
    let _dragoman = Dragoman::start(&net, TO_HTTP1);
    let mut client = client(&net);
    client.fields(1, &request("POST", "/"), false).unwrap();
    client.data(1, b"some", false).unwrap();
    let answer = client.response(1).unwrap();
    assert_eq!((answer.status(), answer.body.as_slice(), answer.interim.len()), (413, &b"big"[..], 1));
}

#[test]
fn cause_not_translated_is_501_for_connect() {
    let net = Net::new();
    let _origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"));
    let dragoman = Dragoman::start(&net, TO_HTTP1);
    let mut client = client(&net);
    client.fields(1, &[(":method", "CONNECT"), (":authority", "a.test:443")], false).unwrap();
    let answer = client.response(1).unwrap();
    assert_eq!((answer.status(), answer.field("x-dragoman-cause")), (501, Some("not_translated")));
    drop(client);
    dragoman.record_of("not_translated");
}

#[test]
fn content_that_is_compressed_for_the_connection_reaches_nobody_as_the_content() {
    let net = Net::new();
    let _origin = Origin::http(&net.servers, server(80), |_, _| {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n";
        Reply::Send([head.as_bytes(), b"2\r\n\x1f\x8b\r\n0\r\n\r\n"].concat())
    });
    let _dragoman = Dragoman::start(&net, TO_HTTP1);
    let mut client = client(&net);
    client.get(1, "/").unwrap();
    let response = client.response(1).unwrap();
    assert_eq!((response.status(), response.field("x-dragoman-cause")), (502, Some("bad_response")));
}

#[test]
fn grpc_is_left_alone() {
    let net = Net::new();
    let origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| {
        wire.fields(request.stream, &[(":status", "200"), ("content-type", "application/grpc")], false)?;
        wire.fields(request.stream, &[("grpc-status", "0")], true)
    });
    let _dragoman = Dragoman::start(&net, TO_HTTP1);
    let mut client = client(&net);
    let mut fields = request("POST", "/s/m").to_vec();
    fields.extend([("content-type", "application/grpc"), ("te", "trailers")]);
    client.fields(1, &fields, false).unwrap();
    client.data(1, &[0; 5], true).unwrap();
    assert_eq!(client.response(1).unwrap().trailer("grpc-status"), Some("0"));
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn a_stream_that_the_app_resets_ends_its_connection() {
    let net = Net::new();
    let origin = Origin::tcp(&net.servers, server(80), |mut peer| {
        peer.read_until(b"\r\n\r\n")?;
        let _ = peer.read_to_reset();
        Ok(())
    });
    let dragoman = Dragoman::start(&net, TO_HTTP1);
    let mut client = client(&net);
    client.get(1, "/slow").unwrap();
    let seen = origin.connection(0);
    wait::until("the request is there", wait::SOON, || seen.text().ends_with("\r\n\r\n"));
    client.send(&Frame::reset(1, code::CANCEL)).unwrap();
    dragoman.record_of("app_reset");
    client.round_trip().unwrap();
}
