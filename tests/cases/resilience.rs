//! Retry, budget and breaker against servers that fail as real ones do. What counts is what the server
//! counted: side effects, attempts, connections.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use dragoman_harness::net::server;
use dragoman_harness::origin::{Reply, response};
use dragoman_harness::{Dragoman, Message, Net, Origin, Peer, wait};

/// A policy for a server that is known to fail often: more attempts and more budget than the defaults,
/// and no breaker, since one would be right to open.
const PATIENT: &str = "[defaults]\npool = {}\ntry_timeout = '10s'\n\
    retry = { attempts = 12, base = '1ms', budget = { ratio = 10.0, min_per_second = 100 } }\n";

/// What a flaky server does with request number `n`: the same for the same `n` in every run. Of 20
/// requests 6 get 503, one is reset before it is read to its end, one is reset within its answer's head.
fn flaky(n: usize) -> Option<Reply> {
    // A permutation of 0..20, so that failures come in no order that a client could fall in step with.
    match (n * 7 + n / 20) % 20 {
        0..6 => Some(Reply::status(503, "busy")),
        6 => Some(Reply::reset()),
        7 if n.is_multiple_of(3) => Some(Reply::SendAndReset(b"HTTP/1.1 200 OK\r\nContent-".to_vec())),
        _ => None,
    }
}

/// A flaky server that counts each request by method and path, and answers `stored` where it does not fail.
fn flaky_origin(net: &Net) -> Origin {
    Origin::http(&net.servers, server(80), |_, n| flaky(n).unwrap_or_else(|| Reply::status(200, "stored")))
}

fn request(method: &str, n: usize, more: &str) -> String {
    format!("{method} /{n} HTTP/1.1\r\nHost: a\r\n{more}Content-Length: 0\r\n\r\n")
}

/// How often the server saw each request.
fn counted(origin: &Origin) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for request in origin.requests() {
        *counts.entry(format!("{} {}", request.word(0), request.word(1))).or_default() += 1;
    }
    counts
}

#[test]
fn every_get_succeeds_on_a_server_that_fails_a_third_of_the_time() {
    const REQUESTS: usize = 200;
    let net = Net::new();
    let origin = flaky_origin(&net);
    let dragoman = Dragoman::start(&net, PATIENT);
    for flow in 0..10 {
        let mut client = net.app.connect(server(80));
        for n in 0..REQUESTS / 10 {
            let answer = client.exchange(request("GET", flow * 100 + n, "")).unwrap();
            assert_eq!((answer.status(), answer.text().as_str()), (200, "stored"), "{}", answer.head);
        }
    }
    let metrics = dragoman.settle();
    let attempts = origin.requests().len() as u64;
    assert!(attempts > REQUESTS as u64 * 13 / 10, "{attempts}: the server was not flaky");
    // The server's count, the metrics and the log agree.
    assert_eq!(metrics.sum("dragoman_attempts_total", &[]), attempts);
    assert_eq!(metrics.sum("dragoman_retries_total", &[]), attempts - REQUESTS as u64);
    assert_eq!(metrics.sum("dragoman_exchanges_total", &[("code", "200"), ("cause", "-")]), REQUESTS as u64);
    let records = dragoman.records_where(REQUESTS, |r| r["kind"] == "exchange");
    let logged: u64 = records.iter().map(|record| record["attempts"].as_u64().unwrap()).sum();
    assert_eq!((records.len(), logged), (REQUESTS, attempts));
    let connections = origin.seen().len() as u64;
    let early = metrics.sum("dragoman_early_dials_total", &[("result", "unused")]);
    let dialled = metrics.sum("dragoman_upstream_connections_total", &[("how", "dialled")]);
    // An early dial of which nobody has need may end before it is known to be there.
    let agrees = (dialled..=dialled + early).contains(&connections);
    assert!(agrees, "{connections} connections: dialled {dialled}, unused early dials {early}");
}

#[test]
fn h8_a_post_is_never_sent_twice() {
    const REQUESTS: usize = 120;
    let net = Net::new();
    let origin = flaky_origin(&net);
    let dragoman = Dragoman::start(&net, PATIENT);
    let mut succeeded = 0;
    for n in 0..REQUESTS {
        let answer = net.app.connect(server(80)).exchange(request("POST", n, "")).unwrap();
        succeeded += usize::from(answer.status() == 200);
    }
    let counts = counted(&origin);
    assert_eq!(counts.len(), REQUESTS);
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
    assert!(succeeded < REQUESTS, "the server was not flaky");
    let metrics = dragoman.settle();
    assert_eq!(metrics.sum("dragoman_attempts_total", &[]), REQUESTS as u64);
    assert_eq!(
        metrics.sum("dragoman_retry_refusals_total", &[("reason", "not_safe")]),
        (REQUESTS - succeeded) as u64
    );
}

#[test]
fn h8_a_post_is_repeated_where_the_server_says_it_did_nothing_or_a_key_makes_it_safe() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |_, n| match n % 2 {
        0 => Reply::status(503, "not processed"),
        _ => Reply::status(200, "stored"),
    });
    let configuration = "[destination.unprocessed]\nhosts = ['u.test']\nretry = { unprocessed_statuses = [503], base = '1ms' }\n\
        [destination.keyed]\nhosts = ['k.test']\nretry = { idempotency_header = 'idempotency-key', base = '1ms' }\n";
    let _dragoman = Dragoman::start(&net, configuration);
    let post = |host: &str, key: &str| {
        let request = format!("POST / HTTP/1.1\r\nHost: {host}\r\n{key}Content-Length: 3\r\n\r\nabc");
        net.app.connect(server(80)).exchange(request).unwrap().status()
    };
    assert_eq!(post("u.test", ""), 200);
    assert_eq!(post("k.test", "Idempotency-Key: 7\r\n"), 200);
    assert_eq!(origin.requests().len(), 4);
    assert!(origin.requests().iter().all(|request| request.text() == "abc"), "the body is sent again");
    assert_eq!(post("k.test", ""), 503);
    assert_eq!(origin.requests().len(), 5);
    // A key that says nothing tells no repetition from another request.
    for blank in ["Idempotency-Key:\r\n", "Idempotency-Key: \t \r\n"] {
        assert_eq!(post("k.test", ""), 200);
        assert_eq!(post("k.test", blank), 503, "{blank:?}");
    }
    assert_eq!(origin.requests().len(), 9);
}

#[test]
fn h8_client_errors_are_final() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |request, _| {
        Reply::status(request.word(1)[1..].parse().unwrap(), "no")
    });
    let _dragoman = Dragoman::start(&net, PATIENT);
    for status in [400, 401, 403, 404, 408, 409, 410, 422, 425, 499] {
        let answer = net
            .app
            .connect(server(80))
            .exchange(format!("GET /{status} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .unwrap();
        assert_eq!(answer.status(), status);
    }
    assert_eq!(origin.requests().len(), 10);
}

#[test]
fn h9_a_body_beyond_the_replay_buffer_streams_and_is_not_repeated() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(503, "busy"));
    let dragoman = Dragoman::start(
        &net,
        "[defaults]\nretry = { methods = ['PUT'], replay_bytes = '1KiB', base = '1ms' }\n",
    );
    let put = |length: usize| {
        let head = format!("PUT /{length} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        net.app.connect(server(80)).exchange(head + &"x".repeat(length)).unwrap().status()
    };
    assert_eq!(put(1000), 503);
    assert_eq!(origin.requests().len(), 3);
    assert_eq!(put(100_000), 503);
    assert_eq!(origin.requests().len(), 4);
    let metrics = dragoman.settle();
    assert_eq!(metrics.sum("dragoman_retry_refusals_total", &[("reason", "body_not_replayable")]), 1);
    assert_eq!(metrics.sum("dragoman_retry_refusals_total", &[("reason", "attempts_spent")]), 1);
}

#[test]
fn h10_a_dead_server_gets_no_storm_of_retries() {
    const REQUESTS: u64 = 300;
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(503, "dead"));
    let budget = "budget = { ratio = 0.2, min_per_second = 1, window = '10s' }";
    let dragoman = Dragoman::start(&net, &format!("[defaults]\nretry = {{ base = '1ms', {budget} }}\n"));
    let mut client = net.app.connect(server(80));
    for n in 0..REQUESTS {
        assert_eq!(client.exchange(request("GET", n.try_into().unwrap(), "")).unwrap().status(), 503);
    }
    let attempts = origin.requests().len() as u64;
    // The floor of one a second holds for the window and for as long as the case runs.
    assert!(attempts <= REQUESTS * 12 / 10 + 30, "{attempts} attempts of {REQUESTS} requests");
    assert!(attempts > REQUESTS, "nothing was retried");
    drop(client);
    let refused = dragoman.settle().sum("dragoman_retry_refusals_total", &[("reason", "budget_spent")]);
    assert!(refused > 0);
}

#[test]
fn retry_after_is_honoured_and_one_that_is_too_long_ends_it() {
    let net = Net::new();
    let asked = |request: &Message, n: usize| match (request.word(1), n) {
        ("/short", 0) => {
            Reply::Send(b"HTTP/1.1 503 X\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n".to_vec())
        }
        ("/long", _) => {
            Reply::Send(b"HTTP/1.1 503 X\r\nRetry-After: 600\r\nContent-Length: 0\r\n\r\n".to_vec())
        }
        _ => Reply::status(200, "ok"),
    };
    let origin = Origin::http(&net.servers, server(80), asked);
    let dragoman = Dragoman::start(&net, "[defaults]\nretry = { base = '1ms' }\n");
    let mut client = net.app.connect(server(80));
    let start = std::time::Instant::now();
    assert_eq!(client.exchange("GET /short HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().status(), 200);
    assert!(start.elapsed() >= Duration::from_secs(1), "asked again before the server's second was over");
    assert_eq!(client.exchange("GET /long HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().status(), 503);
    assert_eq!(origin.requests().len(), 3);
    drop(client);
    assert_eq!(dragoman.settle().sum("dragoman_retry_refusals_total", &[("reason", "retry_after")]), 1);
}

#[test]
fn cause_breaker_open_answers_without_a_dial_and_recovers_through_one_probe() {
    let net = Net::new();
    let broken = Arc::new(AtomicBool::new(true));
    let probes = Arc::new(AtomicUsize::new(0));
    let refused = Arc::new(AtomicBool::new(false));
    let origin = Origin::http(&net.servers, server(80), {
        let (broken, probes, refused) = (Arc::clone(&broken), Arc::clone(&probes), Arc::clone(&refused));
        move |request, _| match request.word(1) {
            _ if broken.load(Ordering::SeqCst) => Reply::status(500, "broken"),
            "/probe" => {
                probes.fetch_add(1, Ordering::SeqCst);
                wait::until("the others were refused", wait::SOON, || refused.load(Ordering::SeqCst));
                Reply::status(200, "well")
            }
            _ => Reply::status(200, "well"),
        }
    });
    let dragoman =
        Dragoman::start(&net, "[defaults]\nbreaker = { failures = 5, window = '60s', open = '6s' }\n");
    let get = |path: &str| {
        net.app.connect(server(80)).exchange(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).unwrap()
    };
    for _ in 0..5 {
        assert_eq!(get("/").text(), "broken");
    }
    let open = dragoman
        .metrics_where("the breaker is open", |m| m.sum("dragoman_breakers", &[("state", "open")]) == 1);
    assert_eq!(open.sum("dragoman_breaker_transitions_total", &[("to", "opened")]), 1);
    let dialled = origin.seen().len();
    for _ in 0..10 {
        let answer = get("/");
        assert_eq!((answer.status(), answer.header("x-dragoman-cause")), (503, Some("breaker_open")));
    }
    // An opaque flow to the same endpoint is refused too.
    assert_eq!(net.app.knock(server(80), b"\x01\x02"), (Vec::new(), true));
    assert_eq!(origin.seen().len(), dialled, "an open breaker dials nothing");
    assert_eq!(origin.requests().len(), 5);

    broken.store(false, Ordering::SeqCst);
    let tries = || (get("/probe").status() == 200).then_some(());
    let others = std::thread::scope(|scope| {
        let probing: Vec<_> =
            (0..4).map(|_| scope.spawn(|| wait::until_some("a probe passes", wait::SOON, tries))).collect();
        wait::until("the probe is at the server", wait::SOON, || probes.load(Ordering::SeqCst) > 0);
        let during: Vec<u16> = (0..5).map(|_| get("/").status()).collect();
        refused.store(true, Ordering::SeqCst);
        probing.into_iter().for_each(|thread| thread.join().unwrap());
        during
    });
    assert_eq!(others, [503; 5], "one probe at a time");
    assert_eq!(get("/").text(), "well");
    let metrics = dragoman.settle();
    for to in ["opened", "half_opened", "closed"] {
        assert_eq!(metrics.sum("dragoman_breaker_transitions_total", &[("to", to)]), 1, "{to}");
    }
    assert_eq!(metrics.sum("dragoman_breakers", &[("state", "open")]), 0);
    let refused = dragoman.records_where(11, |r| r["cause"] == "breaker_open");
    assert!(
        refused.iter().all(|record| record["who"] == "dragoman" && record["detail"] != "remote"),
        "{refused:#?}"
    );
}

#[test]
fn connect_failures_open_the_breaker_of_opaque_flows() {
    let net = Net::new();
    let dragoman = Dragoman::start(&net, "[defaults]\nbreaker = { failures = 3 }\n");
    for _ in 0..6 {
        assert_eq!(net.app.knock(server(7000), b"\x01\x02"), (Vec::new(), true));
    }
    let metrics = dragoman.settle();
    assert_eq!(metrics.sum("dragoman_flows_total", &[("cause", "connect_refused")]), 3);
    assert_eq!(metrics.sum("dragoman_flows_total", &[("cause", "breaker_open")]), 3);
}

#[test]
fn h11_one_endpoints_breaker_is_not_anothers() {
    let net = Net::new();
    let _bad = Origin::http(&net.servers, server(80), |_, _| Reply::status(500, "bad"));
    let _good = Origin::http(&net.servers, server(81), |_, _| Reply::status(200, "good"));
    let _dragoman = Dragoman::start(&net, "[defaults]\nbreaker = { failures = 2 }\n");
    let get =
        |port| net.app.connect(server(port)).exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().status();
    let statuses: Vec<u16> = (0..4).map(|_| get(80)).collect();
    assert_eq!(statuses, [500, 500, 503, 503]);
    assert_eq!(get(81), 200, "the catch-all destination is not one breaker for everything");
}

#[test]
fn many_flows_at_once_agree_with_the_servers_count() {
    const FLOWS: usize = 40;
    let net = Net::new();
    let origin = Origin::tcp(&net.servers, server(80), |mut peer: Peer| {
        while peer.request()?.is_some() {
            peer.send(response(200, "ok"))?;
        }
        Ok(())
    });
    let dragoman = Dragoman::start(&net, PATIENT);
    std::thread::scope(|scope| {
        for flow in 0..FLOWS {
            let net = &net;
            scope.spawn(move || {
                let mut client = net.app.connect(server(80));
                for n in 0..10 {
                    assert_eq!(client.exchange(request("GET", flow * 10 + n, "")).unwrap().status(), 200);
                }
            });
        }
    });
    let metrics = dragoman.settle();
    assert_eq!(metrics.sum("dragoman_flows_total", &[("protocol", "http1"), ("cause", "-")]), FLOWS as u64);
    assert_eq!(metrics.sum("dragoman_exchanges_total", &[("code", "200")]), FLOWS as u64 * 10);
    assert_eq!(dragoman.records_where(FLOWS * 11, |_| true).len(), FLOWS * 11);
    let received: usize = origin.seen().iter().map(|seen| seen.bytes.len()).sum();
    assert_eq!(metrics.sum("dragoman_bytes_total", &[("direction", "from_app")]), received as u64);
}
