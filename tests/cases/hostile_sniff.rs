//! Who speaks first, who does not speak, and who says what he is not: sniffing against apps and servers that
//! keep no rules.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dragoman_harness::net::server;
use dragoman_harness::origin::{Reply, Seen};
use dragoman_harness::{Dragoman, Net, Origin, Peer, wait};

/// A server-first protocol, as MySQL, SMTP and SSH are: its app says nothing before the greeting.
fn greeter(net: &Net, port: u16) -> Origin {
    Origin::tcp(&net.servers, server(port), |mut peer| {
        peer.send("SSH-2.0-test\r\n")?;
        peer.read_to_end().map(drop)
    })
}

/// Nobody speaks first on a flow whose server is down: the breaker has to answer, and to let a probe through.
#[test]
fn s1_a_breaker_that_opened_recovers_for_a_server_that_speaks_first() {
    let net = Net::new();
    let dragoman = Dragoman::start(&net, "[defaults]\nbreaker = { failures = 2, open = '3s' }\n");
    for _ in 0..2 {
        let _ = net.app.connect(server(22)).read_to_reset();
    }
    dragoman.metrics_where("the breaker is open", |m| m.sum("dragoman_breakers", &[("state", "open")]) == 1);
    let refused = net.app.connect(server(22)).read_to_reset();
    assert!(matches!(refused, Ok((_, true))), "while it is open an app that waits is reset: {refused:?}");
    let _origin = greeter(&net, 22);
    wait::until("a probe is let through", wait::SOON, || {
        let greeting = net.app.connect(server(22)).read_until(b"\r\n");
        greeting.is_ok_and(|greeting| greeting == b"SSH-2.0-test\r\n")
    });
}

/// A deny rule for one name must not silence every protocol whose server speaks first.
#[test]
fn s1_a_deny_rule_by_name_does_not_silence_servers_that_speak_first() {
    let net = Net::new();
    let _origin = greeter(&net, 22);
    let _dragoman = Dragoman::start(&net, "[destination.x]\nhosts = ['x.test']\ndeny = true\n");
    let greeting = net.app.connect(server(22)).read_until(b"\r\n");
    assert_eq!(greeting.ok().as_deref(), Some(&b"SSH-2.0-test\r\n"[..]));
}

/// What a server says before the app does is held: within bounds.
#[test]
fn what_is_held_of_a_server_that_speaks_first_is_bounded() {
    const LIMIT: usize = 16 << 20;
    for opening in [&b"HTTP/1.1 200 OK\r\n\r\n"[..], b"\0\0\0\x04\0\0\0\0\0"] {
        let net = Net::new();
        let sent = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let _origin = Origin::tcp(&net.servers, server(80), {
            let sent = Arc::clone(&sent);
            move |mut peer| {
                peer.stream().set_write_timeout(Some(Duration::from_secs(1)))?;
                peer.send(opening)?;
                while sent.load(Ordering::SeqCst) < 4 * LIMIT {
                    peer.send([0; 65536])?;
                    sent.fetch_add(65536, Ordering::SeqCst);
                }
                peer.read_to_end().map(drop)
            }
        });
        let _dragoman = Dragoman::start(&net, "");
        let _silent = net.app.connect(server(80));
        let end = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end && sent.load(Ordering::SeqCst) < LIMIT {
            wait::pause(Duration::from_millis(20));
        }
        let sent = sent.load(Ordering::SeqCst);
        assert!(sent < LIMIT, "{sent} bytes went into memory for an app that is silent");
    }
}

/// A declared HTTP destination whose server is down says so, however slow the app is.
#[test]
fn a_declared_destination_that_is_down_is_not_blamed_on_the_app() {
    let net = Net::new();
    let dragoman = Dragoman::start(
        &net,
        "[defaults]\nprotocol = 'http'\n[destination.a]\nhosts = ['a']\ntimeout = '9s'\n",
    );
    let mut client = net.app.connect(server(80));
    wait::pause(Duration::from_millis(300));
    let answer = client.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").map(|a| a.head);
    drop(client);
    dragoman.settle();
    let causes: Vec<_> = dragoman.records().iter().map(|record| record["cause"].clone()).collect();
    assert!(!causes.contains(&"unexpected_protocol".into()), "{causes:?}, {answer:?}");
}

/// Closing without a word, on either side, is no unexpected protocol: health checks and idle limits do it.
#[test]
fn silence_on_a_declared_destination_is_no_wrong_protocol() {
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(80), |mut peer| {
        peer.stream().set_read_timeout(Some(Duration::from_millis(300)))?;
        // An idle limit, as web servers have it.
        let _ = peer.more();
        Ok(())
    });
    let dragoman = Dragoman::start(&net, "[defaults]\nprotocol = 'http'\n");
    drop(net.app.connect(server(80)));
    dragoman.settle();
    let mut idle = net.app.connect(server(80));
    let end = idle.read_to_reset().unwrap();
    drop(idle);
    let metrics = dragoman.settle();
    let causes = metrics.values("dragoman_flows_total", "cause");
    assert_eq!(causes.keys().collect::<Vec<_>>(), ["-"], "{causes:?}");
    assert_eq!(end, (Vec::new(), false), "the server closed in order, and so does the app's connection end");
}

/// The server's answer to an idle connection passes, where it is declared HTTP and where it is not.
#[test]
fn an_idle_408_reaches_the_app() {
    const IDLE: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n";
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(80), |mut peer| {
        wait::pause(Duration::from_millis(200));
        peer.send(IDLE)
    });
    for configuration in ["", "[defaults]\nprotocol = 'http'\n"] {
        let _dragoman = Dragoman::start(&net, configuration);
        let got = net.app.connect(server(80)).read_to_reset().unwrap();
        assert_eq!(String::from_utf8_lossy(&got.0), String::from_utf8_lossy(IDLE), "{configuration:?}");
        assert!(!got.1, "{configuration:?}: a reset");
    }
}

/// The deadline of an exchange counts while a dial that was begun early hangs.
#[test]
fn the_timeout_counts_while_an_early_dial_hangs() {
    let net = Net::new();
    net.servers.succeed("nft add table inet t && nft 'add chain inet t c { type filter hook input priority 0 ; }' && nft add rule inet t c tcp dport 80 drop");
    let _dragoman = Dragoman::start(&net, "[defaults]\ntimeout = '500ms'\nconnect_timeout = '20s'\n");
    let mut client = net.app.connect(server(80));
    wait::pause(Duration::from_millis(200));
    let answer = client.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(answer.header("x-dragoman-cause"), Some("timeout"), "{}", answer.head);
}

/// What is unmistakably the beginning of a request and never gets on is refused, not passed by as opaque.
#[test]
fn a_request_line_that_never_ends_does_not_slip_past_policy() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "secret"));
    let configuration = "[proxy]\nrequest_head_timeout = '300ms'\n[destination.x]\nhosts = ['x.test']\nports = [80]\ndeny = true\n";
    let dragoman = Dragoman::start(&net, configuration);
    let mut client = net.app.connect(server(80));
    client.send("GET / HT").unwrap();
    wait::pause(Duration::from_millis(600));
    let _ = client.send("TP/1.1\r\nHost: x.test\r\n\r\n");
    let _ = client.finish_sending();
    let _ = client.read_to_reset();
    drop(client);
    dragoman.settle();
    assert_eq!(origin.requests().len(), 0, "a denied host was reached by a slow request line");
}

/// Forms of a first line that servers take for a request and the sniffer does not.
#[test]
fn a_request_behind_odd_beginnings_does_not_slip_past_policy() {
    let net = Net::new();
    let origin = Origin::tcp(&net.servers, server(80), |mut peer| peer.read_to_end().map(drop));
    let configuration = "[destination.x]\nhosts = ['x.test']\nports = [80]\ndeny = true\n";
    let dragoman = Dragoman::start(&net, configuration);
    let method = "M".repeat(65);
    for odd in ["\r\n\r\n\r\nGET", "\n\n\n\n\nGET", &method] {
        let mut client = net.app.connect(server(80));
        let _ = client.send(format!("{odd} / HTTP/1.1\r\nHost: x.test\r\n\r\n"));
        let _ = client.finish_sending();
        let _ = client.read_to_reset();
        drop(client);
        dragoman.settle();
        let reached: Vec<String> = origin.seen().iter().map(Seen::text).collect();
        assert!(
            !reached.iter().any(|text| text.contains("x.test")),
            "{odd:?} reached the server: {reached:?}"
        );
    }
}

/// A reset that a server sends before the app has spoken is a reset for the app.
#[test]
fn s4_a_reset_before_the_first_word_is_a_reset() {
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(9000), Peer::reset);
    let dragoman = Dragoman::start(&net, "");
    for round in 0..10 {
        let mut client = net.app.connect(server(9000));
        let end = client.read_to_reset();
        assert!(matches!(end, Ok((_, true))), "round {round}: {end:?}");
    }
    // The reset may come before connect() has returned.
    let metrics = dragoman.settle();
    let count = |cause| metrics.sum("dragoman_flows_total", &[("cause", cause)]);
    assert_eq!(count("upstream_reset") + count("connect_reset"), 10);
}

/// An HTTP app that speaks a moment after it connected keeps its retries when the first connection is reset.
#[test]
fn an_early_connection_that_is_reset_costs_http_no_retry() {
    let net = Net::new();
    let first = Arc::new(AtomicBool::new(true));
    let origin = Origin::tcp(&net.servers, server(80), {
        let first = Arc::clone(&first);
        move |mut peer: Peer| -> io::Result<()> {
            if first.swap(false, Ordering::SeqCst) {
                return peer.reset();
            }
            while peer.request()?.is_some() {
                peer.send(dragoman_harness::origin::response(200, "ok"))?;
            }
            Ok(())
        }
    });
    let _dragoman = Dragoman::start(&net, "[defaults]\nretry = { base = '1ms' }\n");
    let mut client = net.app.connect(server(80));
    wait::until("the early connection came and went", wait::SOON, || !origin.seen().is_empty());
    let answer = client.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(answer.map(|a| a.status()).ok(), Some(200));
}

/// Every first byte, alone, followed by a pause and an end, or a reset: each flow ends, and is counted once.
#[test]
fn every_first_byte_ends() {
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(80), |mut peer| peer.read_to_end().map(drop));
    let dragoman = Dragoman::start(&net, "");
    for byte in 0..=255u8 {
        let mut client = net.app.connect(server(80));
        client.send([byte]).unwrap();
        if byte % 2 == 0 { client.finish_sending().unwrap() } else { client.reset().unwrap() }
    }
    let metrics = dragoman.settle();
    assert_eq!(metrics.sum("dragoman_flows_total", &[]), 256);
}
