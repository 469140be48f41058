//! HTTP/2 apps and HTTP/1 servers that stall, go away or do not stop: nobody else notices, and nothing stays behind.

use std::time::Duration;

use dragoman_harness::http2::{End, Frame, Wire, code, flag, hpack, kind, request};
use dragoman_harness::net::server;
use dragoman_harness::origin::{Reply, response};
use dragoman_harness::{Dragoman, Net, Origin, wait};

use crate::TO_HTTP1;

fn client(net: &Net) -> Wire {
    Wire::client(net.app.connect(server(80)), &[]).unwrap()
}

#[test]
fn a_server_that_reads_nothing_is_given_up_in_time_and_when_the_app_goes() {
    let net = Net::new();
    let origin = Origin::tcp(&net.servers, server(80), |peer| {
        socket2::SockRef::from(peer.stream()).set_recv_buffer_size(2048)?;
        wait::pause(Duration::from_secs(20));
        drop(peer);
        Ok(())
    });
    let policy = "[defaults]\nupstream_protocol = 'http1'\ntimeout = '1s'\n\
                  [proxy]\nmax_head_bytes = '1MiB'\nmax_headers = 256\n";
    let dragoman = Dragoman::start(&net, policy);
    let mut client = client(&net);
    let field = "x".repeat(60_000);
    let names: Vec<String> = (0..17).map(|n| format!("x-{n}")).collect();
    let mut fields = request("GET", "/").to_vec();
    fields.extend(names.iter().map(|name| (name.as_str(), field.as_str())));
    client.fields(1, &fields, true).unwrap();
    let answer = client.response(1).unwrap();
    assert_eq!((answer.status(), answer.field("x-dragoman-cause")), (504, Some("timeout")));
    assert_eq!(origin.seen().len(), 1);
    drop(client);
    dragoman.settle();
}

/// What the proxy has in memory, in KiB.
fn memory(dragoman: &Dragoman<'_>) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", dragoman.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_stream_that_waits_for_a_place_keeps_no_other_waiting() {
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(80), |mut peer| {
        while let Some(request) = peer.request()? {
            peer.send(response(200, request.word(1)))?;
        }
        Ok(())
    });
    let policy = "[defaults]\nupstream_protocol = 'http1'\nconnect_timeout = '1s'\npool = { max_size = 1 }\n";
    let dragoman = Dragoman::start(&net, policy);
    let mut client = client(&net);
    client.fields(1, &request("POST", "/held"), false).unwrap();
    client.round_trip().unwrap();
    for stream in [3, 5, 7] {
        client.get(stream, "/waits").unwrap();
    }
    for stream in [3, 5, 7] {
        let answer = client.response(stream).unwrap();
        assert_eq!((answer.status(), answer.field("x-dragoman-cause")), (503, Some("pool_full")));
    }
    client.data(1, b"go", true).unwrap();
    assert_eq!(client.response(1).unwrap().body, b"/held");
    client.get(9, "/after").unwrap();
    assert_eq!(client.response(9).unwrap().body, b"/after");
    drop(client);
    assert_eq!(dragoman.settle().sum("dragoman_pool_connections", &[("state", "in_use")]), 0);
}

#[test]
fn connections_with_anything_unread_serve_nobody_else() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |request, _| match request.word(1) {
        "/more" => Reply::Send([response(200, "ok"), response(200, "not yours")].concat().into_bytes()),
        "/none" => Reply::Send(b"HTTP/1.1 304 X\r\nContent-Length: 4\r\n\r\nevil".to_vec()),
        "/close" => {
            Reply::Send(b"HTTP/1.1 200 X\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok".to_vec())
        }
        "/old" => Reply::Send(b"HTTP/1.0 200 X\r\nContent-Length: 2\r\n\r\nok".to_vec()),
        path => Reply::status(200, path),
    });
    let _dragoman = Dragoman::start(&net, TO_HTTP1);
    let mut client = client(&net);
    for (n, path) in ["/more", "/none", "/close", "/old"].into_iter().enumerate() {
        let stream = 4 * n as u32 + 1;
        client.get(stream, path).unwrap();
        assert!(matches!(client.response(stream).unwrap().status(), 200 | 304), "{path}");
        client.get(stream + 2, "/next").unwrap();
        let next = client.response(stream + 2).unwrap();
        assert_eq!((next.status(), next.body.as_slice()), (200, &b"/next"[..]), "after {path}");
    }
    for seen in origin.seen() {
        let text = seen.text();
        assert!(text.matches("HTTP/1.1\r\n").count() == 1 || text.starts_with("GET /next"), "{text}");
    }
}

#[test]
fn interim_answers_without_end_are_no_answer() {
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(80), |mut peer| {
        peer.read_until(b"\r\n\r\n")?;
        loop {
            peer.send("HTTP/1.1 103 X\r\n\r\n".repeat(100))?;
        }
    });
    let _dragoman = Dragoman::start(&net, TO_HTTP1);
    let mut client = client(&net);
    client.get(1, "/").unwrap();
    let answer = client.response(1).unwrap();
    assert_eq!((answer.status(), answer.field("x-dragoman-cause")), (502, Some("bad_response")));
    assert!(answer.interim.len() <= 100);
}

#[test]
fn an_app_that_goes_at_any_byte_leaves_nothing_behind() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |_, _| {
        Reply::Send(
            b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: 1\r\n\r\n".to_vec(),
        )
    });
    let dragoman = Dragoman::start(&net, TO_HTTP1);
    let frames = recorded();
    for cut in 0..frames.len() {
        for reset in [false, true] {
            let mut peer = net.app.connect(server(80));
            peer.send(&frames[..cut]).unwrap();
            if reset { peer.reset().unwrap() } else { drop(peer) }
        }
    }
    dragoman.settle();
    // A request is whole at the server only if the app sent all of it.
    assert!(origin.requests().iter().all(|request| request.text() == "4\r\nbody\r\n0\r\nx-sum: 1\r\n\r\n"));
    let mut client = client(&net);
    client.get(1, "/").unwrap();
    assert_eq!(client.response(1).unwrap().end, End::Whole);
}

/// The bytes of a client that sends one request with content and trailers.
fn recorded() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(Frame::settings(&[]).bytes());
    bytes.extend(
        Frame::new(kind::HEADERS, flag::END_HEADERS, 1, hpack::encode(&request("POST", "/"))).bytes(),
    );
    bytes.extend(Frame::new(kind::DATA, 0, 1, b"body").bytes());
    bytes.extend(
        Frame::new(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, hpack::encode(&[("x-sum", "1")]))
            .bytes(),
    );
    bytes
}

#[test]
fn a_server_that_goes_at_any_byte_is_never_a_whole_answer() {
    let net = Net::new();
    const ANSWER: &[u8] =
        b"HTTP/1.1 103 X\r\nL: 1\r\n\r\nHTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: 1\r\n\r\n";
    let _origin = Origin::http(&net.servers, server(80), |request, _| {
        let mut words = request.word(1).split('/').skip(1);
        let cut: usize = words.next().unwrap().parse().unwrap();
        match words.next() {
            Some("reset") => Reply::SendAndReset(ANSWER[..cut].to_vec()),
            _ => Reply::SendAndClose(ANSWER[..cut].to_vec()),
        }
    });
    let dragoman = Dragoman::start(&net, "[defaults]\nupstream_protocol = 'http1'\n");
    let mut client = client(&net);
    let mut stream = 1;
    for cut in 0..=ANSWER.len() {
        for how in ["close", "reset"] {
            client.fields(stream, &request("POST", &format!("/{cut}/{how}")), true).unwrap();
            let answer = client.response(stream).unwrap();
            let whole = cut == ANSWER.len() && how == "close";
            let (status, is_whole) = (answer.status(), answer.end == End::Whole);
            // A reset may overtake what came before it.
            assert!(whole == (status == 200 && is_whole) || cut == ANSWER.len(), "{cut} {how}: {answer:?}");
            assert!(status == 200 || status == 502, "{cut} {how}: {answer:?}");
            stream += 2;
        }
    }
    drop(client);
    dragoman.settle();
}

#[test]
fn reading_slowly_holds_little_and_a_small_window_gets_it_all() {
    const LENGTH: usize = 64 << 20;
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(80), |mut peer| {
        peer.read_until(b"\r\n\r\n")?;
        peer.send(format!("HTTP/1.1 200 X\r\nContent-Length: {LENGTH}\r\n\r\n"))?;
        (0..LENGTH >> 16).try_for_each(|_| peer.send([7_u8; 1 << 16]))
    });
    let dragoman = Dragoman::start(&net, TO_HTTP1);
    let before = memory(&dragoman);
    let mut stalled: Vec<Wire> = (0..10)
        .map(|_| {
            let mut client = client(&net);
            client.credits = false;
            client.get(1, "/").unwrap();
            client
        })
        .collect();
    for client in &mut stalled {
        client.round_trip().unwrap();
    }
    let grown = memory(&dragoman).saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} KiB for ten readers that stall");
    let mut last = stalled.pop().unwrap();
    last.send(&Frame::reset(1, code::CANCEL)).unwrap();
    last.round_trip().unwrap();
    drop((stalled, last));
    dragoman.settle();
}

#[test]
fn h11_an_app_that_reads_slowly_is_no_failure_of_the_server() {
    let net = Net::new();
    let _origin = Origin::http(&net.servers, server(80), |request, _| match request.word(1) {
        "/large" => Reply::status(200, &"x".repeat(1 << 20)),
        _ => Reply::Send(b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\nhalf".to_vec()),
    });
    let policy = "[defaults]\nupstream_protocol = 'http1'\ntimeout = '2s'\n\
                  breaker = { failures = 1, failure_percent = 1 }\n";
    let dragoman = Dragoman::start(&net, policy);
    let mut stalled = client(&net);
    stalled.credits = false;
    stalled.get(1, "/large").unwrap();
    assert!(matches!(stalled.response(1).unwrap().end, End::Reset(_)));
    dragoman.record_of("timeout");
    let mut client = client(&net);
    client.get(3, "/half").unwrap();
    assert_eq!(client.response(3).unwrap().status(), 200, "the breaker opened for what the app did");
    client.get(5, "/half").unwrap();
    let answer = client.response(5).unwrap();
    assert_eq!(
        answer.field("x-dragoman-cause"),
        Some("breaker_open"),
        "what the server did not send is its failure"
    );
}
