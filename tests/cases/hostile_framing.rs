//! Servers and apps that try to make two messages of one, one of two, or an answer out of what is none.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dragoman_harness::net::server;
use dragoman_harness::origin::{Seen, response};
use dragoman_harness::{Dragoman, Net, Origin, Peer, wait};

/// Reads a request head alone, as a server that answers before the body does.
fn head(peer: &mut Peer) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&peer.read_until(b"\r\n\r\n")?).into_owned())
}

/// A server that refuses before the body came must not find the next request where it expects that body.
#[test]
fn h8_a_connection_whose_request_was_cut_short_is_never_used_again() {
    let net = Net::new();
    let origin = Origin::tcp(&net.servers, server(80), |mut peer| {
        let first = head(&mut peer)?;
        if !first.starts_with("PUT") {
            return peer.send(response(200, "own connection"));
        }
        peer.send(response(503, "busy"))?;
        // As RFC 9110 §10.1.1 has it, what comes now is the body that was announced.
        peer.read_exact(first.len())?;
        peer.send(response(200, "took a request for a body"))
    });
    for (pool, body) in [("pool = {}\n", "Expect: 100-continue\r\n"), ("", "Expect: 100-continue\r\n")] {
        let configuration =
            format!("[defaults]\n{pool}retry = {{ attempts = 2, base = '1ms', methods = ['PUT'] }}\n");
        let dragoman = Dragoman::start(&net, &configuration);
        let before = origin.seen().len();
        let mut client = net.app.connect(server(80));
        let request = format!("PUT / HTTP/1.1\r\nHost: a\r\n{body}Content-Length: 5000\r\n\r\n");
        let answer = client.exchange(request).unwrap();
        assert_eq!((answer.status(), answer.text().as_str()), (503, "busy"), "{configuration}");
        drop(client);
        dragoman.settle();
        let seen: Vec<String> = origin.seen()[before..].iter().map(Seen::text).collect();
        assert_eq!(seen.len(), 2, "each attempt has its own connection: {seen:#?}");
        assert!(seen.iter().all(|text| text.matches("PUT /").count() == 1), "{seen:#?}");
    }
}

/// Bytes that a pooled connection brings before the request was written cannot be its answer.
#[test]
fn an_answer_that_comes_late_is_not_given_to_the_next_request() {
    let net = Net::new();
    let late = Arc::new(AtomicBool::new(false));
    let origin = Origin::tcp(&net.servers, server(80), {
        let late = Arc::clone(&late);
        move |mut peer| {
            while let Some(request) = peer.request()? {
                peer.send(response(200, request.word(1)))?;
                if request.word(1) == "/twice" {
                    wait::pause(Duration::from_millis(100));
                    peer.send(response(200, "stale"))?;
                    peer.wait_acknowledged();
                    late.store(true, Ordering::SeqCst);
                }
            }
            Ok(())
        }
    });
    let _dragoman = Dragoman::start(&net, "[defaults]\npool = {}\n");
    let get = |path: &str| {
        net.app
            .connect(server(80))
            .exchange(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .unwrap()
            .text()
    };
    assert_eq!(get("/twice"), "/twice");
    wait::until("the late answer is there", wait::SOON, || late.load(Ordering::SeqCst));
    assert_eq!(get("/next"), "/next");
    assert_eq!(origin.seen().len(), 2);
}

/// Interim answers without an end hold an exchange for ever, unless the deadlines count through them.
#[test]
fn deadlines_hold_against_a_flood_of_interim_answers() {
    const INTERIM: &str = "HTTP/1.1 102 Processing\r\n\r\n";
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(80), |mut peer| {
        head(&mut peer)?;
        let flood = INTERIM.repeat(2000);
        loop {
            peer.send(&flood)?;
        }
    });
    for policy in ["try_timeout = '300ms'", "timeout = '300ms'"] {
        let dragoman = Dragoman::start(&net, &format!("[defaults]\n{policy}\n"));
        for (n, reads) in [true, false, false, false, false].into_iter().enumerate() {
            let mut client = net.app.connect(server(80));
            client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
            if !reads {
                // The window of an app that does not read is full when the deadline strikes.
                let over = |m: &dragoman_harness::metrics::Metrics| {
                    m.sum("dragoman_exchanges_total", &[]) > n as u64
                };
                wait::until("the exchange is over", wait::SOON, || over(&dragoman.metrics()));
            }
            // Without an end of the flood this one has none.
            let (bytes, reset) = client.read_to_reset().unwrap();
            let text = String::from_utf8(bytes).unwrap();
            let last = text.trim_start_matches(INTERIM);
            let end = last.chars().take(100).collect::<String>();
            assert!(last.starts_with("HTTP/1.1 504") || reset, "{policy}, reads: {reads}: {end:?}");
        }
    }
}

/// The deadline of the whole exchange counts while a server streams as fast as it can.
#[test]
fn the_timeout_holds_against_an_endless_response() {
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(80), |mut peer| {
        head(&mut peer)?;
        peer.send("HTTP/1.1 200 OK\r\n\r\n")?;
        let body = vec![b'x'; 1 << 20];
        loop {
            peer.send(&body)?;
        }
    });
    let dragoman = Dragoman::start(&net, "[defaults]\ntimeout = '300ms'\n");
    let mut client = net.app.connect(server(80)).stream().try_clone().unwrap();
    io::Write::write_all(&mut client, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let begun = Instant::now();
    let mut buffer = vec![0; 1 << 20];
    while matches!(io::Read::read(&mut client, &mut buffer), Ok(1..)) {
        assert!(begun.elapsed() < wait::SOON, "still streaming");
    }
    dragoman.record_of("timeout");
}

/// An endless response does not keep the upload from going on.
#[test]
fn h5_an_upload_goes_on_beside_an_endless_response() {
    let net = Net::new();
    let origin = Origin::tcp(&net.servers, server(80), |mut peer| {
        head(&mut peer)?;
        peer.send("HTTP/1.1 200 OK\r\n\r\n")?;
        let mut writer = peer.stream().try_clone()?;
        std::thread::spawn(move || {
            let body = vec![b'x'; 1 << 20];
            while io::Write::write_all(&mut writer, &body).is_ok() {}
        });
        peer.read_to_end().map(drop)
    });
    let _dragoman = Dragoman::start(&net, "[defaults]\nrequest_id = true\n");
    const LENGTH: usize = 4 << 20;
    let client = net.app.connect(server(80)).stream().try_clone().unwrap();
    let mut reader = client.try_clone().unwrap();
    let sink = std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 20];
        while matches!(io::Read::read(&mut reader, &mut buffer), Ok(1..)) {}
    });
    let mut writer = &client;
    let request = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {LENGTH}\r\n\r\n");
    io::Write::write_all(&mut writer, request.as_bytes()).unwrap();
    // Begun only when the response is in full flow.
    wait::pause(Duration::from_millis(300));
    let mut upload = client.try_clone().unwrap();
    let sending = std::thread::spawn(move || io::Write::write_all(&mut upload, &vec![b'u'; LENGTH]));
    wait::until("the body is at the server", wait::SOON, || origin.connection(0).bytes.len() > LENGTH);
    sending.join().unwrap().unwrap();
    client.shutdown(std::net::Shutdown::Both).unwrap();
    sink.join().unwrap();
}

/// A 101 that nobody asked for would take a flow out of the reach of policy.
#[test]
fn an_upgrade_that_was_not_asked_for_is_no_tunnel() {
    let net = Net::new();
    let origin = Origin::tcp(&net.servers, server(80), |mut peer| {
        head(&mut peer)?;
        peer.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")?;
        peer.read_to_end().map(drop)
    });
    let dragoman = Dragoman::start(
        &net,
        "[defaults]\nrequest_id = true\n[destination.secret]\nhosts = ['secret.test']\nports = [80]\ndeny = true\n",
    );
    let mut client = net.app.connect(server(80));
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let first = client.response("GET");
    let _ = client.send("GET / HTTP/1.1\r\nHost: secret.test\r\n\r\n");
    let _ = client.finish_sending();
    let _ = client.read_to_reset();
    dragoman.settle();
    assert!(!origin.connection(0).text().contains("secret.test"), "a denied host was reached: {first:?}");
    assert_eq!(first.unwrap().status(), 502);
}

/// The last answer on a connection is whole, whatever the app has sent behind its request.
#[test]
fn the_last_answer_is_whole_although_more_was_pipelined() {
    const BODY: usize = 8 << 20;
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(80), |mut peer| {
        peer.request()?;
        let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {BODY}\r\n\r\n");
        peer.send(head)?;
        peer.send(vec![b'x'; BODY])?;
        peer.read_to_end().map(drop)
    });
    let _dragoman = Dragoman::start(&net, "");
    let mut client = net.app.connect(server(80));
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    client.send(request).unwrap();
    // More than one read takes, so that some of it waits in the socket when the connection ends.
    for _ in 0..20 {
        client.send(request.repeat(200)).unwrap();
        wait::pause(Duration::from_millis(5));
    }
    // The server's answer waits in the proxy's send buffer now.
    let answer = client.response("GET");
    assert_eq!(answer.map(|answer| answer.body.len()).ok(), Some(BODY), "the answer was cut off");
}

/// Credentials that belong to a connection (NTLM, Negotiate) must not serve another flow.
#[test]
fn h12_a_connection_that_was_authenticated_is_not_shared() {
    let net = Net::new();
    let origin = Origin::tcp(&net.servers, server(80), |mut peer| {
        // RFC 4559: once authenticated, the connection is the user's.
        let mut user = "nobody";
        while let Some(request) = peer.request()? {
            if request.header("authorization").is_some_and(|value| value.starts_with("Negotiate ")) {
                user = "alice";
            }
            peer.send(response(200, user))?;
        }
        Ok(())
    });
    let _dragoman = Dragoman::start(&net, "[defaults]\npool = {}\n");
    let get = |more: &str| {
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{more}\r\n");
        net.app.connect(server(80)).exchange(request).unwrap().text()
    };
    assert_eq!(get("Authorization: Negotiate YII=\r\n"), "alice");
    assert_eq!(get(""), "nobody", "another flow got alice's connection");
    assert_eq!(origin.seen().len(), 2);
}

/// A response that only the end of the connection ends, and that a reset ended, must not look whole.
#[test]
fn a_response_until_close_that_a_reset_ended_is_not_whole() {
    let net = Net::new();
    let go = Arc::new(AtomicBool::new(false));
    let _origin = Origin::tcp(&net.servers, server(80), {
        let go = Arc::clone(&go);
        move |mut peer| {
            head(&mut peer)?;
            peer.send("HTTP/1.1 200 OK\r\n\r\nhalf of it")?;
            wait::until("the app's upload is stuck", wait::SOON, || go.swap(false, Ordering::SeqCst));
            peer.reset()
        }
    });
    let _dragoman = Dragoman::start(&net, "");
    for round in 0..10 {
        let mut client = net.app.connect(server(80));
        client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n").unwrap();
        client.read_until(b"half of it").unwrap();
        let mut writer = client.stream().try_clone().unwrap();
        writer.set_write_timeout(Some(Duration::from_millis(150))).unwrap();
        // The server does not read: dragoman waits to write to it, and learns of the reset by that.
        while io::Write::write(&mut writer, &[b'u'; 65536]).is_ok() {}
        go.store(true, Ordering::SeqCst);
        let (_, reset) = client.read_to_reset().unwrap();
        assert!(reset, "round {round}: a torn response ended as if it were whole");
    }
}
