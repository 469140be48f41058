//! Deadlines, drains and sizes at their edges.

use std::io;
use std::time::{Duration, Instant};

use dragoman_harness::http2::{Http2Origin, Wire};
use dragoman_harness::net::server;
use dragoman_harness::origin::{Reply, response};
use dragoman_harness::{Dragoman, Net, Origin, Peer, wait};
use nix::sys::signal::Signal;

fn connect(net: &Net) -> Peer {
    net.app.connect(server(80))
}

/// A server that says nothing to `Expect: 100-continue` keeps the app waiting: that is the server's time.
#[test]
fn try_timeout_counts_while_the_app_waits_for_leave_to_send() {
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(80), |mut peer| peer.read_to_end().map(drop));
    let _dragoman = Dragoman::start(&net, "[defaults]\ntry_timeout = '300ms'\n");
    let mut client = connect(&net);
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n").unwrap();
    let answer = client.response("PUT").expect("an answer while nobody sends anything");
    assert_eq!(answer.header("x-dragoman-cause"), Some("try_timeout"), "{}", answer.head);
}

/// The deadline of the exchange counts for an upload that goes on behind its answer.
#[test]
fn the_timeout_counts_for_the_rest_of_an_upload() {
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(80), |mut peer: Peer| -> io::Result<()> {
        peer.read_until(b"\r\n\r\n")?;
        peer.send(response(200, "early"))?;
        peer.read_to_end().map(drop)
    });
    let dragoman = Dragoman::start(&net, "[defaults]\ntimeout = '2s'\n");
    let mut client = connect(&net);
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc").unwrap();
    assert_eq!(client.response("PUT").unwrap().text(), "early");
    let ended = || dragoman.metrics().sum("dragoman_exchanges_total", &[]) == 1;
    wait::until("the exchange ends", wait::SOON, ended);
}

/// The replay buffer at its edges: what fits is repeated whole, what does not is not, however it comes in.
#[test]
fn h9_the_replay_buffer_at_its_edges() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(503, "busy"));
    for cap in [0, 1000] {
        let _dragoman = Dragoman::start(
            &net,
            &format!(
                "[defaults]\nretry = {{ attempts = 2, methods = ['PUT'], replay_bytes = '{cap}B', base = '1ms' }}\n"
            ),
        );
        for (length, pieces) in [(0, 1), (1, 1), (999, 3), (1000, 1), (1000, 4), (1001, 1), (1001, 4)] {
            let before = origin.requests().len();
            let body: Vec<u8> = (0..length).map(|n| b'a' + (n % 26) as u8).collect();
            let mut client = connect(&net);
            client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")).unwrap();
            for piece in body.chunks((length / pieces).max(1)) {
                client.send(piece).unwrap();
                wait::pause(Duration::from_millis(10));
            }
            assert_eq!(client.response("PUT").unwrap().status(), 503);
            let seen = &origin.requests()[before..];
            let expected = if length <= cap { 2 } else { 1 };
            assert_eq!(seen.len(), expected, "{length} bytes in {pieces} pieces, cap {cap}");
            assert!(
                seen.iter().all(|request| request.body == body),
                "{length} bytes in {pieces} pieces, cap {cap}"
            );
        }
    }
}

/// SIGTERM in each phase of an exchange: it ends as if nothing had happened, and then the proxy does.
#[test]
fn l3_a_drain_lets_an_exchange_finish_in_every_phase() {
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(80), |mut peer: Peer| -> io::Result<()> {
        let head = String::from_utf8_lossy(&peer.read_until(b"\r\n\r\n")?).into_owned();
        if head.contains("Content-Length: 4") {
            peer.read_exact(4)?;
        }
        wait::pause(Duration::from_millis(400));
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")?;
        wait::pause(Duration::from_millis(400));
        peer.send("lf")?;
        peer.read_to_end().map(drop)
    });
    let phases = ["head", "body", "waiting", "response"];
    for phase in phases {
        let mut dragoman = Dragoman::start(&net, "[proxy]\ndrain = '60s'\n");
        let mut client = connect(&net);
        let request = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
        let cut = match phase {
            "head" => 20,
            "body" => request.len() - 2,
            _ => request.len(),
        };
        client.send(&request[..cut]).unwrap();
        wait::pause(Duration::from_millis(if phase == "response" { 600 } else { 200 }));
        dragoman.signal(Signal::SIGTERM);
        wait::pause(Duration::from_millis(50));
        client.send(&request[cut..]).unwrap();
        let answer = client.response("PUT").unwrap_or_else(|e| panic!("{phase}: {e}"));
        assert_eq!(answer.text(), "half", "{phase}");
        assert!(dragoman.wait(wait::SOON).success(), "{phase}: at work long after the last byte");
    }
}

/// An HTTP/1.0 client that asked to keep the connection learns whether dragoman's own answer does.
#[test]
fn h2_an_answer_of_our_own_tells_http_10_how_the_connection_goes_on() {
    let net = Net::new();
    let _dragoman = Dragoman::start(&net, "[defaults]\nrequest_id = true\n");
    let mut client = connect(&net);
    let request = "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n";
    let answer = client.exchange(request).unwrap();
    assert_eq!(answer.header("x-dragoman-cause"), Some("connect_refused"));
    // RFC 9112 §9.3: without keep-alive in the answer the connection ends.
    let said = answer.header("connection").unwrap_or_default().to_owned();
    let goes_on = client.exchange(request).is_ok();
    assert_eq!(said.eq_ignore_ascii_case("keep-alive"), goes_on, "connection: {said:?}");
}

/// Two readers must not see two hosts in one request: policy would hold for the one, the server serve the other.
#[test]
fn a_request_that_names_two_hosts_is_refused() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"));
    let _dragoman = Dragoman::start(&net, "[destination.x]\nhosts = ['x.test']\nports = [80]\ndeny = true\n");
    let answer = connect(&net).exchange("GET http://open.test/ HTTP/1.1\r\nHost: x.test\r\n\r\n").unwrap();
    assert_eq!(answer.status(), 400, "{}", answer.head);
    assert_eq!(origin.requests().len(), 0, "many servers take the Host field: a denied host was reached");
    let same =
        connect(&net).exchange("GET http://Open.test:80/ HTTP/1.1\r\nHost: open.test\r\n\r\n").unwrap();
    assert_eq!(same.status(), 200, "{}", same.head);
}

/// Half a first message and then an end is the app's doing.
#[test]
fn an_app_that_ends_in_its_first_message_has_closed() {
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(80), |mut peer| peer.read_to_end().map(drop));
    let dragoman = Dragoman::start(&net, "");
    for first in [&b"\x16\x03\x01\x02\x00\x01\x00"[..], b"\0\0\0\x10\0\x03", b"GET / HT", b"\r\n"] {
        let mut client = connect(&net);
        client.send(first).unwrap();
        client.finish_sending().unwrap();
        let _ = client.read_to_reset();
    }
    dragoman.settle();
    let records = dragoman.records_where(4, |r| r["kind"] == "flow");
    let wrong: Vec<_> = records.iter().filter(|r| r["cause"] == "request_timeout").collect();
    assert!(wrong.is_empty(), "nothing took too long: {wrong:#?}");
}

/// Streams that wait for one dial do not wait for each other's: all fail when it fails.
#[test]
fn streams_that_wait_for_a_dial_fail_together() {
    const STREAMS: u32 = 20;
    let net = Net::new();
    net.servers.succeed(
        "nft add table inet t && nft 'add chain inet t c { type filter hook input priority 0 ; }' && \
         nft add rule inet t c tcp dport 80 drop",
    );
    for policy in ["connect_timeout = '1s'", "timeout = '1s'"] {
        let _dragoman = Dragoman::start(&net, &format!("[defaults]\n{policy}\npool = {{}}\n"));
        let mut client = Wire::client(connect(&net), &[]).unwrap();
        let begun = Instant::now();
        (0..STREAMS).for_each(|n| client.get(2 * n + 1, "/").unwrap());
        for n in 0..STREAMS {
            let response = client.response(2 * n + 1).unwrap();
            assert!(matches!(response.status(), 503 | 504), "{policy}: {}", response.status());
        }
        let all = begun.elapsed();
        assert!(all < Duration::from_secs(10), "{policy}: {STREAMS} streams waited in turn, {all:?} in all");
    }
}

/// Interim answers on a stream whose app does not read pile up nowhere.
#[test]
fn interim_answers_for_an_app_that_does_not_read_are_bounded() {
    const LIMIT: u64 = 8 * 1024;
    let net = Net::new();
    let _origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| {
        let link = "x".repeat(4000);
        for _ in 0..40_000 {
            wire.fields(request.stream, &[(":status", "103"), ("link", &link)], false)?;
        }
        wire.respond(request.stream, "200", b"at last")
    });
    let dragoman = Dragoman::start(&net, "[defaults]\nrequest_id = true\n");
    let mut client = Wire::client(connect(&net), &[]).unwrap();
    let before = resident(&dragoman);
    client.get(1, "/").unwrap();
    let end = Instant::now() + Duration::from_secs(3);
    let mut most = 0;
    while Instant::now() < end && most < LIMIT {
        most = most.max(resident(&dragoman).saturating_sub(before));
        wait::pause(Duration::from_millis(20));
    }
    assert!(most < LIMIT, "{most} KiB are held for an app that does not read");
}

/// Resident memory of the proxy in KiB.
fn resident(dragoman: &Dragoman<'_>) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", dragoman.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}
