//! HTTP/1 apps, HTTP/2 servers.

use std::fs;

use dragoman_harness::http2::{Event, Frame, Http2Origin, Wire, code};
use dragoman_harness::net::server;
use dragoman_harness::{Dragoman, Message, Net, Origin, servers, wait};

use crate::TO_HTTP2;

/// Answers with what was asked: the head in fields of its own, the body as it came, the trailers after it.
fn echo(net: &Net) -> Http2Origin {
    Http2Origin::start(&net.servers, server(80), |wire, request, _| {
        let names: Vec<&str> = request.fields.iter().map(|(name, _)| name.as_str()).collect();
        let names = names.join(" ");
        let trailers: String =
            request.trailers.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let head =
            [(":status", "200"), ("x-names", names.as_str()), ("x-path", request.path()), ("x-seen", "1")];
        wire.fields(request.stream, &head, false)?;
        wire.data(request.stream, &request.body, false)?;
        wire.fields(request.stream, &[("x-trailers", &trailers)], true)
    })
}

/// The content of an answer, out of its chunks.
fn content(answer: &Message) -> String {
    if answer.header("transfer-encoding").is_none() {
        return answer.text();
    }
    let (mut rest, mut content) = (answer.text(), String::new());
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        if size == 0 {
            return content;
        }
        content.push_str(&after[..size]);
        rest = after[size + 2..].to_owned();
    }
    content
}

#[test]
fn curl_meets_an_http2_server_as_if_it_spoke_http1() {
    let net = Net::new();
    let nghttpd = servers::nghttpd(&net.servers);
    let www = nghttpd.directory().join("www");
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| ((n * 31) >> 3).to_le_bytes()[0]).collect();
    fs::write(www.join("large"), &large).unwrap();
    fs::write(www.join("small"), "small\n").unwrap();
    let path = www.join("large").display().to_string();
    let _dragoman = Dragoman::start(&net, TO_HTTP2);
    let base = "http://198.18.0.2";
    let run = |line: &str| net.app.succeed(line);
    let head = run(&format!("curl -sSi {base}/small"));
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\nsmall\n"), "{head}");
    let sum = run(&format!("sha256sum < {path}"));
    for options in ["", "--http1.0"] {
        assert_eq!(run(&format!("curl -sS {options} {base}/large | sha256sum")), sum, "{options}");
    }
    let report = "-w '%{http_code} %{size_upload}' -o /dev/null";
    for options in ["", "-H 'Transfer-Encoding: chunked'", "-H 'Expect: 100-continue'"] {
        let printed = run(&format!("curl -sS {options} {report} -T {path} {base}/small"));
        // curl counts the sizes of its chunks in.
        assert!(printed.starts_with("200 3000"), "{options}: {printed}");
    }
    let head = run(&format!("curl -sSI {base}/large"));
    assert!(head.contains("content-length: 3000000\r\n"), "{head}");
    assert!(run(&format!("curl -sS -w '%{{http_code}}' -o /dev/null {base}/missing")).ends_with("404"));
    // One connection of the app, many exchanges.
    let printed = run(&format!("curl -sS -w '%{{num_connects}}' {base}/small {base}/small {base}/small"));
    assert_eq!(printed, "small\n1small\n0small\n0");
}

#[test]
fn heads_bodies_and_trailers_arrive_as_they_were_meant() {
    let net = Net::new();
    let origin = echo(&net);
    let _dragoman = Dragoman::start(&net, TO_HTTP2);
    let mut client = net.app.connect(server(80));
    let answer = client
        .exchange(
            "POST /a%2Fb/../c;d?q=%20&r HTTP/1.1\r\nHost: a.test:8080\r\nX-One: 1\r\nConnection: x-mine, TE\r\n\
             X-Mine: 1\r\nTE: trailers\r\nx-one: 2\r\nKeep-Alive: 5\r\nUpgrade: websocket\r\n\
             Cookie: a=1; b=2\r\nTransfer-Encoding: chunked\r\n\r\n\
             5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 11\r\n\r\n",
        )
        .unwrap();
    assert_eq!((answer.status(), content(&answer).as_str()), (200, "hello world"));
    assert_eq!(answer.header("x-path"), Some("/a%2Fb/../c;d?q=%20&r"));
    let request = &origin.requests()[0];
    assert_eq!(request.field(":authority"), Some("a.test:8080"));
    assert_eq!(request.field("te"), Some("trailers"));
    let ones: Vec<_> = request.fields.iter().filter(|(name, _)| name == "x-one").collect();
    assert_eq!(ones.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>(), ["1", "2"]);
    for gone in
        ["connection", "x-mine", "keep-alive", "upgrade", "host", "transfer-encoding", "content-length"]
    {
        assert_eq!(request.field(gone), None, "{gone}");
    }
    assert_eq!(request.trailers, [("x-sum".to_owned(), "11".to_owned())]);
    assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
    let raw = String::from_utf8_lossy(&client.received().so_far()).into_owned();
    assert!(raw.ends_with("0\r\nx-trailers: x-sum=11\r\n\r\n"), "{raw}");
}

#[test]
fn requests_in_one_segment_are_answered_in_order_on_one_connection() {
    let net = Net::new();
    let origin = echo(&net);
    let _dragoman = Dragoman::start(&net, TO_HTTP2);
    let mut client = net.app.connect(server(80));
    let request = |n: u32| format!("POST /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nn={n}");
    client.send((1..=3).map(request).collect::<String>()).unwrap();
    for n in 1..=3 {
        let answer = client.response("POST").unwrap();
        assert_eq!(
            (answer.header("x-path"), content(&answer)),
            (Some(format!("/{n}").as_str()), format!("n={n}"))
        );
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn http10_ends_with_its_connection_and_hears_no_interim_answer() {
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(80), |peer| {
        let mut wire = Wire::server(peer, &[])?;
        wire.take(|event| matches!(event, Event::Fields { .. }).then_some(()))?;
        wire.fields(1, &[(":status", "103"), ("link", "</x>")], false)?;
        wire.fields(1, &[(":status", "200")], false)?;
        wire.data(1, b"until the end", true)?;
        wire.round_trip()
    });
    let _dragoman = Dragoman::start(&net, TO_HTTP2);
    let mut client = net.app.connect(server(80));
    client.send("GET / HTTP/1.0\r\n\r\n").unwrap();
    let answer = client.response("GET").unwrap();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "until the end"));
    assert_eq!((answer.header("connection"), answer.header("transfer-encoding")), (Some("close"), None));
}

#[test]
fn h5_interim_answers_reach_the_app_and_an_early_answer_ends_the_upload() {
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(80), |peer| {
        let mut wire = Wire::server(peer, &[])?;
        wire.take(|event| matches!(event, Event::Fields { .. }).then_some(()))?;
        wire.fields(1, &[(":status", "100")], false)?;
        wire.take(|event| matches!(event, Event::Data { .. }).then_some(()))?;
        wire.respond(1, "413", b"too much")?;
        // A connection that ends before the stream has ended on both sides takes the end of the answer with it.
        wire.ended_with().map(drop)
    });
    let _dragoman = Dragoman::start(&net, TO_HTTP2);
    let mut client = net.app.connect(server(80));
    client
        .send("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n")
        .unwrap();
    assert_eq!(client.response("PUT").unwrap().status(), 100);
    client.send([b'x'; 1000]).unwrap();
    let answer = client.response("PUT").unwrap();
    assert_eq!((answer.status(), content(&answer).as_str()), (413, "too much"));
    assert!(client.read_to_end().unwrap().is_empty(), "what follows the body could not be told from it");
}

#[test]
fn a_stream_that_is_reset_in_its_body_resets_the_app() {
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(80), |peer| {
        let mut wire = Wire::server(peer, &[])?;
        wire.take(|event| matches!(event, Event::Fields { .. }).then_some(()))?;
        wire.fields(1, &[(":status", "200")], false)?;
        wire.data(1, b"half", false)?;
        wire.round_trip()?;
        wire.send(&Frame::reset(1, code::INTERNAL_ERROR))?;
        wire.round_trip()
    });
    let dragoman = Dragoman::start(&net, TO_HTTP2);
    for version in ["1.1", "1.0"] {
        let mut client = net.app.connect(server(80));
        client.send(format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n")).unwrap();
        let (bytes, reset) = client.read_to_reset().unwrap();
        assert!(reset, "an orderly end would look like a whole answer: {}", String::from_utf8_lossy(&bytes));
        assert!(String::from_utf8_lossy(&bytes).contains("half"));
    }
    dragoman.record_of("upstream_reset");
}

#[test]
fn a_refused_stream_is_repeated_and_a_broken_one_is_not() {
    let net = Net::new();
    let origin = Http2Origin::start(&net.servers, server(80), |wire, request, n| match (request.path(), n) {
        ("/refused", 0) => wire.send(&Frame::reset(request.stream, code::REFUSED_STREAM)),
        ("/broken", _) => wire.send(&Frame::reset(request.stream, code::INTERNAL_ERROR)),
        _ => wire.respond(request.stream, "200", &request.body),
    });
    let dragoman = Dragoman::start(&net, TO_HTTP2);
    let mut client = net.app.connect(server(80));
    let post = |path| format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
    let answer = client.exchange(post("/refused")).unwrap();
    assert_eq!((answer.status(), content(&answer).as_str()), (200, "body"));
    assert_eq!(client.exchange(post("/broken")).unwrap().status(), 502);
    drop(client);
    let paths: Vec<_> = origin.requests().iter().map(|request| request.path().to_owned()).collect();
    assert_eq!(paths, ["/refused", "/refused", "/broken"]);
    assert_eq!(dragoman.settle().sum("dragoman_retries_total", &[]), 1);
}

#[test]
fn cause_not_translated_is_501_for_what_the_other_version_has_no_words_for() {
    let net = Net::new();
    let _origin = echo(&net);
    let dragoman = Dragoman::start(&net, TO_HTTP2);
    for request in [
        "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n",
        // Nobody would know that the content is compressed.
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ] {
        let answer = net.app.connect(server(80)).exchange(request).unwrap();
        assert_eq!((answer.status(), answer.header("x-dragoman-cause")), (501, Some("not_translated")));
    }
    assert_eq!(dragoman.records_where(2, |record| record["cause"] == "not_translated").len(), 2);
}

#[test]
fn a_dead_server_is_503_and_the_app_may_go_on() {
    let net = Net::new();
    let _dragoman = Dragoman::start(&net, TO_HTTP2);
    let mut client = net.app.connect(server(80));
    for _ in 0..2 {
        let answer = client.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!((answer.status(), answer.header("x-dragoman-cause")), (503, Some("connect_refused")));
    }
    let answer = client.exchange("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(answer.status(), 503);
    assert!(net.app.connect(server(80)).exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").is_ok());
}

#[test]
fn every_cut_of_a_request_arrives_whole() {
    let net = Net::new();
    let origin = echo(&net);
    let _dragoman = Dragoman::start(&net, TO_HTTP2);
    let request = b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;e\r\nde\r\n0\r\nT: 1\r\n\r\n";
    let mut client = net.app.connect(server(80));
    for cut in 1..request.len() {
        client.send(&request[..cut]).unwrap();
        wait::pause(std::time::Duration::from_micros(300));
        client.send(&request[cut..]).unwrap();
        let answer = client.response("POST").unwrap();
        assert_eq!(content(&answer), "abcde", "cut at {cut}");
    }
    assert!(origin.requests().iter().all(|request| request.trailers == [("t".to_owned(), "1".to_owned())]));
}

#[test]
fn a_body_that_breaks_its_framing_reaches_nobody_as_a_whole_one() {
    let net = Net::new();
    let origin = echo(&net);
    let dragoman = Dragoman::start(&net, TO_HTTP2);
    for body in ["5\r\nhello!\r\n0\r\n\r\n", "zz\r\n", "3\r\nabc\r\n0\r\nContent-Length: 1\r\n\r\n"] {
        let mut client = net.app.connect(server(80));
        let answer = client
            .exchange(format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}"));
        assert!(answer.is_err() || answer.unwrap().status() == 400, "{body:?}");
    }
    let mut client = net.app.connect(server(80));
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf").unwrap();
    client.finish_sending().unwrap();
    let _ = client.read_to_reset();
    dragoman.settle();
    assert!(origin.requests().is_empty(), "{:?}", origin.requests());
}
