//! Breakers where somebody works against them: probes that never end, apps that are slow or silent, storms.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use dragoman_harness::metrics::Metrics;
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

/// Whether a breaker opened, be its time over meanwhile.
fn has_opened(metrics: &Metrics) -> bool {
    metrics.sum("dragoman_breaker_transitions_total", &[("to", "opened")]) > 0
}

/// While one endpoint is being probed, the others carry the traffic.
#[test]
fn an_endpoint_that_is_being_probed_does_not_refuse_for_the_others() {
    let net = Net::new();
    let broken = Arc::new(AtomicBool::new(true));
    let asked = Arc::new(AtomicUsize::new(0));
    let end = Arc::new(AtomicBool::new(false));
    let _one = Origin::http(&net.servers, endpoint(1), {
        let (broken, asked, end) = (Arc::clone(&broken), Arc::clone(&asked), Arc::clone(&end));
        move |_, _| {
            if broken.load(Ordering::SeqCst) {
                return Reply::status(500, "broken");
            }
            asked.fetch_add(1, Ordering::SeqCst);
            wait::until("the others were asked", wait::SOON, || end.load(Ordering::SeqCst));
            Reply::status(200, "well again")
        }
    });
    let _two = Origin::http(&net.servers, endpoint(2), |_, _| Reply::status(200, "well"));
    let _three = Origin::http(&net.servers, endpoint(3), |_, _| Reply::status(200, "well"));
    let dragoman = Dragoman::start(
        &net,
        &format!(
            "[defaults]\nendpoints = ['{}', '{}', '{}']\nbreaker = {{ failures = 2, open = '200ms' }}\n",
            endpoint(1),
            endpoint(2),
            endpoint(3)
        ),
    );
    wait::until("the breaker opens", wait::SOON, || {
        get(&net);
        has_opened(&dragoman.metrics())
    });
    broken.store(false, Ordering::SeqCst);
    std::thread::scope(|scope| {
        // The probe is whoever comes first after the breaker's time, and waits for its server.
        let probing = scope.spawn(|| {
            while !end.load(Ordering::SeqCst) {
                let _ = connect(&net).exchange(GET);
            }
        });
        wait::until("a probe is out", wait::SOON, || asked.load(Ordering::SeqCst) > 0);
        let statuses: Vec<u16> = (0..20).map(|_| get(&net).0).collect();
        end.store(true, Ordering::SeqCst);
        assert_eq!(statuses, [200; 20]);
        probing.join().unwrap();
    });
}

/// A probe that is answered well with a long stream has shown that the endpoint is well.
#[test]
fn a_probe_that_streams_for_long_closes_the_breaker() {
    let net = Net::new();
    let broken = Arc::new(AtomicBool::new(true));
    let _origin = Origin::tcp(&net.servers, server(80), {
        let broken = Arc::clone(&broken);
        move |mut peer: Peer| -> io::Result<()> {
            peer.request()?;
            if broken.load(Ordering::SeqCst) {
                return peer.send(response(500, "broken"));
            }
            // An event stream: its head comes at once, its end never.
            peer.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")?;
            peer.read_to_end().map(drop)
        }
    });
    let dragoman = Dragoman::start(&net, "[defaults]\nbreaker = { failures = 2, open = '200ms' }\n");
    for _ in 0..2 {
        get(&net);
    }
    broken.store(false, Ordering::SeqCst);
    dragoman.metrics_where("the breaker has opened", has_opened);
    wait::pause(Duration::from_millis(300));
    let mut first = connect(&net);
    first.send(GET).unwrap();
    let head = first.read_until(b"\r\n\r\n").unwrap();
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
    wait::pause(Duration::from_millis(100));
    let mut second = connect(&net);
    second.send(GET).unwrap();
    let head = String::from_utf8(second.read_until(b"\r\n\r\n").unwrap()).unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "refused while a healthy stream runs: {head}");
}

/// Time that the app takes says nothing about the server.
#[test]
fn h11_an_app_that_uploads_slowly_does_not_open_the_breaker() {
    let net = Net::new();
    let _origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "well"));
    for policy in ["try_timeout = '1s'", "timeout = '1s'"] {
        let _dragoman =
            Dragoman::start(&net, &format!("[defaults]\n{policy}\nbreaker = {{ failures = 2 }}\n"));
        let mut slow: Vec<Peer> = (0..3).map(|_| connect(&net)).collect();
        for app in &mut slow {
            app.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc").unwrap();
        }
        // Longer than the limit, whether that strikes or not.
        wait::pause(Duration::from_millis(1500));
        assert_eq!(get(&net), (200, "well".into()), "{policy}: the server was blamed for the app");
    }
}

/// The same for an app that does not read its answer.
#[test]
fn h11_an_app_that_reads_slowly_does_not_open_the_breaker() {
    let net = Net::new();
    let _origin = Origin::http(&net.servers, server(80), |request, _| {
        let length = if request.word(1) == "/big" { 64 << 20 } else { 2 };
        Reply::Send(response(200, &"x".repeat(length)).into_bytes())
    });
    let dragoman = Dragoman::start(&net, "[defaults]\ntimeout = '2s'\nbreaker = { failures = 2 }\n");
    for _ in 0..2 {
        let mut lazy = connect(&net);
        lazy.send("GET /big HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        dragoman.metrics_where("the exchange is over", |m| {
            m.sum("dragoman_exchanges_total", &[]) > 0
                && m.sum("dragoman_exchanges_total", &[("cause", "timeout")]) > 0
        });
    }
    assert_eq!(get(&net).0, 200, "the server was blamed for the app");
}

/// The cause of an opaque flow is what happened, not what its own retries led to.
#[test]
fn an_opaque_flow_names_the_failure_that_it_had() {
    let net = Net::new();
    let dragoman = Dragoman::start(
        &net,
        "[defaults]\nretry = { attempts = 5, base = '1ms' }\nbreaker = { failures = 2 }\n",
    );
    assert_eq!(net.app.knock(server(7000), b"\x01\x02"), (Vec::new(), true));
    dragoman.settle();
    let record = dragoman.records_where(1, |r| r["kind"] == "flow").remove(0);
    assert_eq!(record["cause"], "connect_refused", "{record}");
}

/// Many flows race a breaker that opens and closes: the gauge ends at what is true, and no flow is lost.
#[test]
fn the_gauges_are_right_after_a_storm() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |_, n| {
        if (n / 40) % 2 == 0 { Reply::status(500, "bad") } else { Reply::status(200, "good") }
    });
    let dragoman = Dragoman::start(
        &net,
        "[defaults]\npool = {}\nretry = { attempts = 2, base = '1ms', statuses = ['5xx'] }\n\
         breaker = { failures = 3, open = '5ms', probe_deadline = '5ms' }\n",
    );
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..60 {
                    get(&net);
                }
            });
        }
    });
    wait::until("the breaker closes again", wait::SOON, || {
        get(&net);
        let metrics = dragoman.metrics();
        let count = |to| metrics.sum("dragoman_breaker_transitions_total", &[("to", to)]);
        count("opened") == count("half_opened") && metrics.sum("dragoman_breakers", &[("state", "open")]) == 0
    });
    let metrics = dragoman.settle();
    assert_eq!(metrics.sum("dragoman_flows_open", &[]), 0);
    assert_eq!(
        metrics.sum("dragoman_attempts_total", &[]),
        origin.requests().len() as u64,
        "each attempt that was admitted reached the server, and no other"
    );
    let exchanges = metrics.sum("dragoman_exchanges_total", &[]);
    let lines = dragoman.records_where(exchanges as usize, |r| r["kind"] == "exchange").len() as u64;
    assert_eq!(lines, exchanges);
}

/// Breaks a server until its breaker is open, then mends it.
fn open_breaker(net: &Net, dragoman: &Dragoman<'_>, broken: &AtomicBool) {
    broken.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        get(net);
    }
    dragoman.metrics_where("the breaker has opened", has_opened);
    broken.store(false, Ordering::SeqCst);
}

fn breakable(net: &Net, broken: &Arc<AtomicBool>) -> Origin {
    let broken = Arc::clone(broken);
    Origin::http(&net.servers, server(80), move |_, _| match broken.load(Ordering::SeqCst) {
        true => Reply::status(500, "broken"),
        false => Reply::status(200, "well"),
    })
}

/// A silent app, whose connection was dialled early, is no probe: the next one that asks is.
#[test]
fn a_silent_app_does_not_hold_the_probe() {
    let net = Net::new();
    let broken = Arc::new(AtomicBool::new(true));
    let _origin = breakable(&net, &broken);
    for declared in ["auto", "http"] {
        let configuration =
            format!("[defaults]\nprotocol = '{declared}'\nbreaker = {{ failures = 2, open = '200ms' }}\n");
        let dragoman = Dragoman::start(&net, &configuration);
        open_breaker(&net, &dragoman, &broken);
        wait::pause(Duration::from_millis(300));
        let dialled = |m: &Metrics| m.sum("dragoman_upstream_connections_total", &[("how", "dialled")]);
        let before = dialled(&dragoman.metrics());
        let _silent = connect(&net);
        dragoman.metrics_where("the early dial", |m| dialled(m) > before);
        assert_eq!(
            get(&net),
            (200, "well".into()),
            "{declared}: refused for the sake of an app that says nothing"
        );
    }
}

/// Leave that was given long ago is void: connections that were opened before the breaker was do not get past it.
#[test]
fn an_open_breaker_refuses_those_that_connected_before_it_opened() {
    const EARLY: usize = 10;
    let net = Net::new();
    let broken = Arc::new(AtomicBool::new(true));
    let origin = breakable(&net, &broken);
    let dragoman = Dragoman::start(&net, "[defaults]\nbreaker = { failures = 2 }\n");
    let mut crowd: Vec<Peer> = (0..EARLY).map(|_| connect(&net)).collect();
    wait::until("all are dialled", wait::SOON, || origin.seen().len() == EARLY);
    open_breaker(&net, &dragoman, &broken);
    let asked = origin.requests().len();
    let statuses: Vec<u16> = crowd.iter_mut().map(|peer| peer.exchange(GET).unwrap().status()).collect();
    assert_eq!(statuses, [503; EARLY]);
    assert_eq!(origin.requests().len(), asked, "an open breaker lets nothing through");
}
