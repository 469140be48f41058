//! Upstream connections that outlive the flow they were made for: shared only where policy says so, and never
//! at the cost of a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use dragoman_harness::net::server;
use dragoman_harness::origin::{Reply, response};
use dragoman_harness::{Dragoman, Net, Origin, wait};

#[test]
fn h7_a_pooled_connection_that_the_server_closed_costs_no_request() {
    let net = Net::new();
    // The server keeps a connection for one request and closes it without a word.
    let origin =
        Origin::http(&net.servers, server(80), |_, _| Reply::SendAndClose(response(200, "ok").into_bytes()));
    let dragoman = Dragoman::start(&net, "[defaults]\npool = {}\n");
    let mut client = net.app.connect(server(80));
    for n in 0..20 {
        let method = if n % 2 == 0 { "GET" } else { "POST" };
        let answer = client
            .exchange(format!("{method} /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"))
            .unwrap();
        assert_eq!(answer.status(), 200, "{n}: {}", answer.head);
        // A POST that meets the end itself cannot be repeated: what is shown here is that an end which has come is seen.
        wait::until("the server has closed", wait::SOON, || net.servers.open_connections(80) == 0);
    }
    assert_eq!(origin.requests().len(), 20, "each arrived once");
    assert_eq!(dragoman.metrics().sum("dragoman_exchanges_total", &[("code", "200")]), 20);
}

#[test]
fn pooled_connections_are_shared_between_flows_only_where_policy_says_so() {
    let net = Net::new();
    let shared = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"));
    let own = Origin::http(&net.servers, server(81), |_, _| Reply::status(200, "ok"));
    let dragoman = Dragoman::start(&net, "[destination.pooled]\nports = [80]\npool = {}\n");
    for port in [80, 81] {
        for _ in 0..5 {
            net.app.connect(server(port)).exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            dragoman.settle();
        }
    }
    assert_eq!((shared.used(), own.used()), (1, 5));
    let reused = [("destination", "pooled"), ("how", "reused")];
    assert_eq!(dragoman.metrics().sum("dragoman_upstream_connections_total", &reused), 4);
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn cause_pool_full_is_503_when_no_connection_becomes_free() {
    let net = Net::new();
    let go = Arc::new(AtomicBool::new(false));
    let origin = Origin::http(&net.servers, server(80), {
        let go = Arc::clone(&go);
        move |request, _| {
            if request.word(1) == "/slow" {
                wait::until("the others were refused", wait::SOON, || go.load(Ordering::SeqCst));
            }
            Reply::status(200, "ok")
        }
    });
    let configuration = "[defaults]\nconnect_timeout = '1s'\npool = { max_size = 1 }\nretry = {}\n\
                         breaker = { failures = 1 }\n";
    let dragoman = Dragoman::start(&net, configuration);
    let mut slow = net.app.connect(server(80));
    slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let seen = origin.connection(0);
    wait::until("the request is at the server", wait::SOON, || seen.text().ends_with("\r\n\r\n"));
    for _ in 0..2 {
        let answer = net.app.connect(server(80)).exchange(GET).unwrap();
        assert_eq!((answer.status(), answer.header("x-dragoman-cause")), (503, Some("pool_full")));
    }
    go.store(true, Ordering::SeqCst);
    assert_eq!(slow.response("GET").unwrap().status(), 200);
    assert_eq!(net.app.connect(server(80)).exchange(GET).unwrap().status(), 200, "no breaker opened");
    assert_eq!(origin.used(), 1);
    let record = dragoman.record_of("pool_full");
    assert_eq!((&record["who"], &record["attempts"]), (&"dragoman".into(), &1.into()), "{record}");
}

#[test]
fn exchanges_wait_for_one_of_as_many_connections_as_there_may_be() {
    const SIZE: usize = 3;
    let net = Net::new();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let origin = Origin::tcp(&net.servers, server(80), {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        move |mut peer| {
            // A connection that was dialled early, and that nobody asks anything on, does not count.
            let mut asked = peer.request()?.is_some();
            if asked {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            }
            let mut answers = 0;
            while asked {
                wait::pause(Duration::from_millis(2));
                answers += 1;
                if answers == 7 {
                    // Before the answer: its connection may be replaced as soon as that is read.
                    now.fetch_sub(1, Ordering::SeqCst);
                }
                peer.send(response(200, "ok"))?;
                // What ends it is the server, in the middle of the crowd.
                asked = answers < 7 && peer.request()?.is_some();
            }
            now.fetch_sub(usize::from((1..7).contains(&answers)), Ordering::SeqCst);
            Ok(())
        }
    });
    let dragoman = Dragoman::start(&net, &format!("[defaults]\npool = {{ max_size = {SIZE} }}\n"));
    std::thread::scope(|scope| {
        for _ in 0..20 {
            let net = &net;
            scope.spawn(move || {
                let mut client = net.app.connect(server(80));
                for n in 0..10 {
                    let method = if n % 3 == 0 { "OPTIONS" } else { "GET" };
                    let request = format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
                    assert_eq!(client.exchange(request).unwrap().status(), 200);
                }
            });
        }
    });
    // The server may notice the end of a connection after the one in its place has come: never twice as many.
    assert!((SIZE..2 * SIZE).contains(&most.load(Ordering::SeqCst)), "{most:?} of 20 at once");
    assert!(origin.seen().len() >= 200 / 7);
    assert_eq!(dragoman.settle().sum("dragoman_exchanges_total", &[("code", "200")]), 200);
}

#[test]
fn a_tunnel_keeps_its_place_in_the_pool() {
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(80), |mut peer| {
        while let Some(request) = peer.request()? {
            if request.header("upgrade").is_none() {
                peer.send(response(200, "ok"))?;
                continue;
            }
            peer.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")?;
            peer.read_to_end()?;
        }
        Ok(())
    });
    let _dragoman = Dragoman::start(&net, "[defaults]\nconnect_timeout = '200ms'\npool = { max_size = 1 }\n");
    let mut tunnel = net.app.connect(server(80));
    let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
    assert_eq!(tunnel.exchange(upgrade).unwrap().status(), 101);
    let get = || net.app.connect(server(80)).exchange(GET).unwrap().status();
    assert_eq!(get(), 503);
    drop(tunnel);
    wait::until("the place is free", wait::SOON, || get() == 200);
}

#[test]
fn a_connection_is_replaced_when_it_is_too_old() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"));
    let _dragoman = Dragoman::start(&net, "[defaults]\npool = { max_age = '1s' }\n");
    let mut client = net.app.connect(server(80));
    let began = std::time::Instant::now();
    while origin.seen().len() < 2 {
        assert!(began.elapsed() < wait::SOON, "busy all the time, and never idle for long");
        assert_eq!(client.exchange(GET).unwrap().status(), 200);
        wait::pause(Duration::from_millis(20));
    }
    assert!(began.elapsed() >= Duration::from_secs(1), "it was young");
}

#[test]
fn connections_are_made_ahead_of_need() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"));
    let dragoman = Dragoman::start(&net, "[defaults]\npool = { min_warm = 2 }\n");
    assert_eq!(net.app.connect(server(80)).exchange(GET).unwrap().status(), 200);
    // The one of the exchange may be idle again before the second of the others is made: then that one is not needed.
    wait::until("two are there", wait::SOON, || origin.seen().len() >= 2);
    dragoman.settle();
    assert_eq!(origin.requests().len(), 1);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| assert_eq!(net.app.connect(server(80)).exchange(GET).unwrap().status(), 200));
        }
    });
    let metrics = dragoman.settle();
    assert_eq!(metrics.sum("dragoman_upstream_connections_total", &[("how", "reused")]), 2);
}
