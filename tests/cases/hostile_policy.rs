//! Retry, budget and breaker where somebody works against them: slow apps, endpoints that die in turn, probes
//! that never end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dragoman_harness::net::{server, server_v4};
use dragoman_harness::origin::{Reply, response};
use dragoman_harness::{Dragoman, Net, Origin, Peer, wait};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn endpoint(n: u8) -> SocketAddr {
    SocketAddr::new(server_v4(n), 80)
}

fn connect(net: &Net) -> Peer {
    net.app.connect(server(80))
}

fn get(net: &Net) -> (u16, String) {
    let answer = connect(net).exchange(GET).unwrap();
    (answer.status(), answer.text())
}

/// Endpoints are asked in turn, whatever else looks at them in between.
#[test]
fn every_endpoint_gets_its_share() {
    let net = Net::new();
    let origins: Vec<Origin> =
        (1..=3).map(|n| Origin::http(&net.servers, endpoint(n), |_, _| Reply::status(200, "ok"))).collect();
    for count in [2, 3] {
        let list: Vec<String> = (1..=count).map(|n| format!("'{}'", endpoint(n))).collect();
        let _dragoman = Dragoman::start(&net, &format!("[defaults]\nendpoints = [{}]\n", list.join(", ")));
        let before: Vec<usize> = origins.iter().map(|origin| origin.requests().len()).collect();
        (0..30).for_each(|_| drop(get(&net)));
        for n in 0..usize::from(count) {
            let share = origins[n].requests().len() - before[n];
            assert!(
                share >= 30 / usize::from(count) / 2,
                "endpoint {n} of {count} got {share} of 30 requests"
            );
        }
    }
}

/// A retry goes to another endpoint where there is one.
#[test]
fn a_retry_reaches_the_other_endpoint() {
    let net = Net::new();
    let _bad = Origin::http(&net.servers, endpoint(1), |_, _| Reply::status(503, "bad"));
    let _good = Origin::http(&net.servers, endpoint(2), |_, _| Reply::status(200, "good"));
    for (first, second) in [(1, 2), (2, 1)] {
        let _dragoman = Dragoman::start(
            &net,
            &format!(
                "[defaults]\nendpoints = ['{}', '{}']\nretry = {{ attempts = 2, base = '1ms' }}\n",
                endpoint(first),
                endpoint(second)
            ),
        );
        let statuses: Vec<u16> = (0..20).map(|_| get(&net).0).collect();
        assert_eq!(statuses, [200; 20], "{first} is asked first");
    }
}

/// Attempts are counted by what the server did, whether a breaker looks on or not.
#[test]
fn attempts_are_counted_as_what_they_were() {
    let net = Net::new();
    let _origin =
        Origin::http(&net.servers, server(80), |_, n| Reply::status(if n < 2 { 502 } else { 200 }, "x"));
    let dragoman = Dragoman::start(&net, "[defaults]\nretry = { attempts = 3, base = '1ms' }\n");
    assert_eq!(get(&net).0, 200);
    let outcomes = dragoman.settle().values("dragoman_attempts_total", "outcome");
    assert_eq!(outcomes.get("local"), None, "dragoman ended none of these: {outcomes:?}");
    assert_eq!(outcomes.get("failure"), Some(&2), "{outcomes:?}");
}

/// A pooled connection that has gone stale costs no attempt of policy: neither a key's nor an unwritten request's.
#[test]
fn h7_a_stale_connection_costs_a_keyed_post_nothing() {
    let net = Net::new();
    let closing = Arc::new(AtomicBool::new(false));
    let origin = Origin::tcp(&net.servers, server(80), {
        let closing = Arc::clone(&closing);
        move |mut peer: Peer| -> io::Result<()> {
            let mut first = true;
            while let Some(request) = peer.request()? {
                if !first && closing.load(Ordering::SeqCst) {
                    // The keep-alive race: the connection ends as the next request arrives.
                    return peer.reset();
                }
                first = false;
                peer.send(response(200, request.word(0)))?;
            }
            Ok(())
        }
    });
    let dragoman = Dragoman::start(
        &net,
        "[defaults]\npool = {}\nbreaker = { failures = 1 }\n\
         retry = { attempts = 1, idempotency_header = 'idempotency-key' }\n",
    );
    get(&net);
    closing.store(true, Ordering::SeqCst);
    let post = "POST / HTTP/1.1\r\nHost: a\r\nIdempotency-Key: 7\r\nContent-Length: 2\r\n\r\nok";
    let answer = connect(&net).exchange(post).unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.head);
    assert_eq!(origin.used(), 2);
    assert_eq!(dragoman.settle().sum("dragoman_breakers", &[("state", "open")]), 0);
}

/// An interim answer is an answer: a pooled connection that gave one did not go stale.
#[test]
fn a_connection_that_gave_an_interim_answer_was_not_stale() {
    let net = Net::new();
    let origin = Origin::tcp(&net.servers, server(80), |mut peer: Peer| -> io::Result<()> {
        peer.request()?;
        peer.send(response(200, "first"))?;
        if peer.request()?.is_none() {
            return Ok(());
        }
        peer.send("HTTP/1.1 103 Early Hints\r\n\r\n")?;
        wait::pause(Duration::from_millis(50));
        peer.reset_when_acknowledged()
    });
    let dragoman = Dragoman::start(&net, "[defaults]\npool = {}\n");
    get(&net);
    let answer = connect(&net).exchange(GET).unwrap();
    assert_eq!(answer.header("x-dragoman-cause"), Some("upstream_reset"), "{}", answer.head);
    assert_eq!(origin.used(), 1, "replayed although the server had begun to answer");
    assert_eq!(dragoman.settle().sum("dragoman_retries_total", &[]), 0);
}

/// A connection that was dialled early and ended meanwhile is not what a request goes out on.
#[test]
fn an_early_connection_that_ended_meanwhile_is_not_used() {
    let net = Net::new();
    let (first, half) = (AtomicBool::new(true), Arc::new(AtomicBool::new(false)));
    let said = Arc::clone(&half);
    let origin = Origin::tcp(&net.servers, server(80), move |mut peer: Peer| -> io::Result<()> {
        if first.swap(false, Ordering::SeqCst) {
            wait::until("half a request was sent", wait::SOON, || half.load(Ordering::SeqCst));
            return peer
                .send("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        }
        while peer.request()?.is_some() {
            peer.send(response(200, "ok"))?;
        }
        Ok(())
    });
    let _dragoman = Dragoman::start(&net, "[defaults]\nrequest_id = true\n");
    let mut client = connect(&net);
    wait::until("the early dial", wait::SOON, || !origin.seen().is_empty());
    // Enough to know that it is HTTP; then the server's patience ends.
    client.send("POST / HTTP/1.1\r\nHost: a\r\n").unwrap();
    said.store(true, Ordering::SeqCst);
    wait::until("the server has closed", wait::SOON, || net.servers.open_connections(80) == 0);
    client.send("Content-Length: 0\r\n\r\n").unwrap();
    let answer = client.response("POST").unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.head);
}

/// A POST whose app left before anything was sent is never sent.
#[test]
fn a_request_of_an_app_that_left_during_the_dial_is_not_sent() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "done"));
    net.servers.succeed(
        "nft add table inet t && nft 'add chain inet t c { type filter hook input priority 0 ; }' && \
         nft 'add rule inet t c tcp dport 80 drop'",
    );
    let dragoman = Dragoman::start(&net, "[defaults]\nconnect_timeout = '20s'\n");
    let mut client = connect(&net);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").unwrap();
    wait::pause(Duration::from_millis(500));
    client.reset().unwrap();
    let record = dragoman.records_where(1, |r| r["kind"] == "exchange").remove(0);
    assert_eq!(record["cause"], "app_reset", "{record}");
    // A dial that went on would come through now, with the next SYN.
    net.servers.succeed("nft delete table inet t");
    wait::pause(Duration::from_millis(1500));
    assert_eq!(origin.requests().len(), 0, "a side effect for an app that had gone");
}

/// A route's own budget is its own, whichever route was used first.
#[test]
fn a_route_without_budget_gets_no_retry_whoever_came_first() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(503, "busy"));
    let dragoman = Dragoman::start(
        &net,
        "[destination.d]\nports = [80]\nretry = { attempts = 2, base = '1ms' }\n\
         [destination.d.route.r]\npath = '/r'\nretry = { budget = { ratio = 0.0001, min_per_second = 0 } }\n",
    );
    for path in ["/", "/r"] {
        connect(&net).exchange(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).unwrap();
    }
    drop(dragoman);
    let counted: Vec<usize> =
        ["/", "/r"].iter().map(|p| origin.requests().iter().filter(|r| r.word(1) == *p).count()).collect();
    assert_eq!(counted, [2, 1], "requests for / and for /r");
}
