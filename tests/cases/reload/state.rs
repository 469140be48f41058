//! What is learnt and connected belongs to a destination as it was: it outlives a reload that leaves that alone.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use dragoman_harness::http2::{Http2Origin, Wire, request};
use dragoman_harness::net::server;
use dragoman_harness::origin::{Reply, response};
use dragoman_harness::{Dragoman, Net, Origin, wait};

fn get(net: &Net, host: &str) -> (u16, Option<String>) {
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let answer = net.app.connect(server(80)).exchange(request).unwrap();
    (answer.status(), answer.header("x-dragoman-cause").map(str::to_owned))
}

/// Two destinations on one server: a reload with another `timeout` changes the first.
fn two(defaults: &str, timeout: &str) -> String {
    format!(
        "[defaults]\n{defaults}\n[destination.changes]\nhosts = ['changes']\ntimeout = '{timeout}'\n\
         [destination.stays]\nhosts = ['stays']\n"
    )
}

#[test]
fn l4_an_open_breaker_stays_open_unless_its_destination_changes() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(500, "no"));
    let breaker = "breaker = { failures = 1, open = '1h' }";
    let dragoman = Dragoman::start(&net, &two(breaker, "10s"));
    let refused = (503, Some("breaker_open".to_owned()));
    for host in ["changes", "stays"] {
        assert_eq!(get(&net, host), (500, None));
        assert_eq!(get(&net, host), refused);
    }
    let open =
        |name| dragoman.metrics().sum("dragoman_breakers", &[("destination", name), ("state", "open")]);
    assert_eq!((open("changes"), open("stays")), (1, 1));
    dragoman.reload(&two(breaker, "20s"));
    assert_eq!((open("changes"), open("stays")), (0, 1));
    assert_eq!(get(&net, "stays"), refused, "nobody touched it");
    assert_eq!(get(&net, "changes"), (500, None), "it is a new one");
    assert_eq!(origin.requests().len(), 3);
    dragoman.reload(&two(breaker, "20s").replace("[destination.stays]\nhosts = ['stays']\n", ""));
    assert_eq!((open("changes"), open("stays")), (1, 0), "what is gone is not open");
}

#[test]
fn l4_a_pooled_connection_is_closed_when_its_destination_changes_and_else_kept() {
    let net = Net::new();
    let ended = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&ended);
    let origin = Origin::tcp(&net.servers, server(80), move |mut peer| {
        let mut requests = 0;
        while peer.request()?.is_some() {
            peer.send(response(200, "ok"))?;
            requests += 1;
        }
        count.fetch_add(usize::from(requests > 0), Ordering::SeqCst);
        Ok(())
    });
    let dragoman = Dragoman::start(&net, &two("pool = {}", "10s"));
    let both = || {
        for host in ["changes", "stays"] {
            assert_eq!(get(&net, host), (200, None));
            dragoman.settle();
        }
    };
    both();
    both();
    assert_eq!((origin.used(), ended.load(Ordering::SeqCst)), (2, 0), "one for each");
    dragoman.reload(&two("pool = {}", "20s"));
    wait::until("the idle one is closed", wait::SOON, || ended.load(Ordering::SeqCst) == 1);
    both();
    assert_eq!((origin.used(), ended.load(Ordering::SeqCst)), (3, 1));
    let idle = dragoman.metrics().sum("dragoman_upstream_idle_closed_total", &[("destination", "changes")]);
    assert_eq!(idle, 1);
}

/// Each generation has its own places: who waits for one of the old policy gets it, and nobody else waits for that.
#[test]
fn an_exchange_that_waits_for_a_place_in_the_pool_gets_it_after_a_reload() {
    let net = Net::new();
    let go = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&go);
    let origin = Origin::http(&net.servers, server(80), move |request, _| {
        if request.word(1) == "/slow" {
            wait::until("the slow one may end", wait::SOON, || told.load(Ordering::SeqCst));
        }
        Reply::status(200, "ok")
    });
    let policy = |timeout: &str| format!("[defaults]\npool = {{ max_size = 1 }}\ntimeout = '{timeout}'\n");
    let dragoman = Dragoman::start(&net, &policy("30s"));
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let (mut slow, mut waits) = (net.app.connect(server(80)), net.app.connect(server(80)));
    slow.send(request("/slow")).unwrap();
    wait::until("it is at the server", wait::SOON, || {
        origin.seen().iter().any(|seen| !seen.bytes.is_empty())
    });
    waits.send(request("/waits")).unwrap();
    dragoman.metrics_where("it waits", |metrics| metrics.sum("dragoman_pool_waiting", &[]) == 1);
    dragoman.reload(&policy("31s"));
    assert_eq!(net.app.connect(server(80)).exchange(request("/new")).unwrap().status(), 200);
    go.store(true, Ordering::SeqCst);
    for client in [&mut slow, &mut waits] {
        assert_eq!(client.response("GET").unwrap().status(), 200);
    }
    drop((slow, waits));
    assert_eq!(dragoman.settle().sum("dragoman_pool_waiting", &[]), 0);
}

#[test]
fn l4_a_shared_http2_connection_ends_with_its_last_stream_when_its_destination_changes() {
    let net = Net::new();
    let go = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&go);
    let origin = Http2Origin::start(&net.servers, server(80), move |wire, request, _| {
        if request.path() == "/slow" {
            wait::until("the slow one may end", wait::SOON, || told.load(Ordering::SeqCst));
        }
        wire.respond(request.stream, "200", b"ok")
    });
    let policy = |timeout: &str| format!("[defaults]\npool = {{}}\ntimeout = '{timeout}'\n");
    let dragoman = Dragoman::start(&net, &policy("30s"));
    let client = || Wire::client(net.app.connect(server(80)), &[]).unwrap();
    let quick = |wire: &mut Wire, stream| {
        wire.fields(stream, &request("GET", "/"), true).unwrap();
        assert_eq!(wire.response(stream).unwrap().status(), 200);
    };
    // One that was dialled early for a flow that then shares another need not carry anything.
    let used = || origin.requests().iter().map(|request| request.peer).collect::<BTreeSet<_>>().len();
    let (mut slow, mut other) = (client(), client());
    quick(&mut other, 1);
    slow.fields(1, &request("GET", "/slow"), true).unwrap();
    wait::until("it is at the server", wait::SOON, || origin.requests().len() == 2);
    assert_eq!(used(), 1);
    dragoman.reload(&policy("31s"));
    quick(&mut other, 3);
    assert_eq!(used(), 2, "the next stream is on a new one");
    go.store(true, Ordering::SeqCst);
    assert_eq!(slow.response(1).unwrap().status(), 200, "and the one under way was not cut");
    quick(&mut slow, 3);
    assert_eq!(used(), 2);
    assert_eq!(dragoman.metrics().sum("dragoman_exchanges_total", &[("code", "200")]), 4);
}

#[test]
fn l4_an_idle_http2_connection_is_closed_when_its_destination_changes() {
    let net = Net::new();
    let origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| {
        wire.respond(request.stream, "200", b"ok")
    });
    let policy = |timeout: &str| format!("[defaults]\npool = {{}}\ntimeout = '{timeout}'\n");
    let dragoman = Dragoman::start(&net, &policy("10s"));
    let mut client = Wire::client(net.app.connect(server(80)), &[]).unwrap();
    client.fields(1, &request("GET", "/"), true).unwrap();
    assert_eq!(client.response(1).unwrap().status(), 200);
    let open = || net.servers.succeed("ss -Htn state established sport = :80").lines().count();
    assert_eq!((origin.connections(), open()), (1, 1));
    dragoman.reload(&policy("20s"));
    wait::until("it is closed while its flow waits", wait::SOON, || open() == 0);
    client.fields(3, &request("GET", "/"), true).unwrap();
    assert_eq!(client.response(3).unwrap().status(), 200);
    assert_eq!(origin.connections(), 2);
}

/// Resident memory of the proxy in KiB.
fn resident(dragoman: &Dragoman<'_>) -> i64 {
    let status = fs::read_to_string(format!("/proc/{}/status", dragoman.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

/// With flows that wait all the time, each of which might keep what it saw first.
#[test]
fn memory_does_not_grow_with_the_number_of_reloads() {
    let net = Net::new();
    let _origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"));
    let many: String = (0..40).map(|n| format!("[destination.d{n}]\nhosts = ['d{n}.test']\n")).collect();
    let policy = |round: usize| format!("[defaults]\npool = {{}}\ntimeout = '{}s'\n{many}", 20 + round % 7);
    let dragoman = Dragoman::start(&net, &policy(0));
    let mut waiting: Vec<_> = (0..50).map(|_| net.app.connect(server(80))).collect();
    let mut figures = Vec::new();
    for round in 1..=500 {
        let client = &mut waiting[round % 50];
        let answer =
            client.exchange(format!("GET / HTTP/1.1\r\nHost: d{}.test\r\n\r\n", round % 40)).unwrap();
        assert_eq!(answer.status(), 200);
        dragoman.reload(&policy(round));
        if round % 100 == 0 {
            figures.push(resident(&dragoman));
        }
    }
    println!("resident after each hundred reloads: {figures:?} KiB");
    // The allocator has its moods. One policy kept for each reload would be tens of MiB.
    assert!(figures[4] - figures[1] < 4096, "{figures:?} KiB");
    assert_eq!(dragoman.metrics().sum("dragoman_flows_open", &[]), 50);
}
