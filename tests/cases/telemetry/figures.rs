//! The figures are those of what happened, while it happens and after.

use std::time::Duration;

use dragoman_harness::http2::{Http2Origin, Wire};
use dragoman_harness::metrics::Metrics;
use dragoman_harness::net::server;
use dragoman_harness::origin::{Reply, response};
use dragoman_harness::{Dragoman, Net, Origin, wait};

/// Above a bound of the buckets that is long beside what everything else takes.
const SLOW: Duration = Duration::from_millis(2700);
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// How many durations were above one bound and within another.
fn between(metrics: &Metrics, name: &str, low: &str, high: &str) -> u64 {
    let bucket = |le| metrics.sum(&format!("{name}_bucket"), &[("le", le)]);
    bucket(high) - bucket(low)
}

#[test]
fn a_slow_server_shows_in_its_buckets_and_a_quick_network_in_others() {
    let net = Net::new();
    let _http1 = Origin::tcp(&net.servers, server(80), |mut peer| {
        while peer.request()?.is_some() {
            wait::pause(SLOW);
            peer.send(response(200, "late"))?;
        }
        Ok(())
    });
    let _http2 = Http2Origin::start(&net.servers, server(81), |wire, request, _| {
        wait::pause(SLOW);
        wire.respond(request.stream, "200", b"late")
    });
    let dragoman = Dragoman::start(&net, "[defaults]\ntimeout = '10s'\n");
    net.app.connect(server(80)).exchange(GET).unwrap();
    let mut client = Wire::client(net.app.connect(server(81)), &[]).unwrap();
    client.get(1, "/").unwrap();
    assert_eq!(client.response(1).unwrap().status(), 200);
    drop(client);
    let metrics = dragoman.settle();
    for name in ["dragoman_first_byte_seconds", "dragoman_exchange_seconds"] {
        assert_eq!(between(&metrics, name, "2.5", "60"), 2, "{name}");
        assert_eq!(metrics.sum(&format!("{name}_count"), &[]), 2, "{name}");
    }
    assert_eq!(between(&metrics, "dragoman_connect_seconds", "2.5", "60"), 0);
    assert_eq!(metrics.sum("dragoman_connect_seconds_count", &[]), 2);
    assert_eq!(metrics.sum("dragoman_sniff_seconds_count", &[("protocol", "http1")]), 1);
    assert_eq!(metrics.sum("dragoman_sniff_seconds_count", &[("protocol", "http2")]), 1);
    for line in dragoman.records_where(2, |line| line["kind"] == "exchange") {
        let (first, whole) = (line["first_byte_ms"].as_f64().unwrap(), line["duration_ms"].as_f64().unwrap());
        assert!(first >= 2700.0 && whole >= first, "{line}");
    }
}

#[test]
fn an_app_that_hesitates_shows_in_the_sniffing_alone() {
    let net = Net::new();
    let _origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"));
    let dragoman = Dragoman::start(&net, "");
    let mut peer = net.app.connect(server(80));
    wait::pause(SLOW);
    peer.exchange(GET).unwrap();
    drop(peer);
    let metrics = dragoman.settle();
    assert_eq!(between(&metrics, "dragoman_sniff_seconds", "2.5", "60"), 1);
    assert_eq!(between(&metrics, "dragoman_exchange_seconds", "2.5", "60"), 0);
}

#[test]
fn the_gauges_of_the_pool_follow_it() {
    let net = Net::new();
    // Each request is answered when the case says so.
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let _origin = Origin::http(&net.servers, server(80), move |_, _| {
        let _ = gate.lock().unwrap().recv();
        Reply::status(200, "ok")
    });
    let dragoman = Dragoman::start(&net, "[defaults]\npool = { max_size = 1 }\n");
    let pool = |m: &Metrics| {
        let of = |state| m.sum("dragoman_pool_connections", &[("protocol", "http1"), ("state", state)]);
        (of("in_use"), of("idle"), m.sum("dragoman_pool_waiting", &[]))
    };
    let (mut first, mut second) = (net.app.connect(server(80)), net.app.connect(server(80)));
    first.send(GET).unwrap();
    dragoman.metrics_where("one in use", |m| pool(m) == (1, 0, 0));
    second.send(GET).unwrap();
    dragoman.metrics_where("one in use, one waiting", |m| pool(m) == (1, 0, 1));
    go.send(()).unwrap();
    first.response("GET").unwrap();
    dragoman.metrics_where("the other one has it", |m| pool(m) == (1, 0, 0));
    go.send(()).unwrap();
    second.response("GET").unwrap();
    dragoman.metrics_where("it is idle", |m| pool(m) == (0, 1, 0));
}

#[test]
fn streams_on_shared_connections_are_counted() {
    let net = Net::new();
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let _origin = Http2Origin::start(&net.servers, server(80), move |wire, request, _| {
        let _ = gate.lock().unwrap().recv();
        wire.respond(request.stream, "200", b"ok")
    });
    let dragoman = Dragoman::start(&net, "[defaults]\npool = {}\n");
    let pool = |m: &Metrics| {
        let of = |state| m.sum("dragoman_pool_connections", &[("protocol", "http2"), ("state", state)]);
        (of("in_use"), of("idle"), m.sum("dragoman_pool_streams", &[]))
    };
    let mut client = Wire::client(net.app.connect(server(80)), &[]).unwrap();
    client.get(1, "/").unwrap();
    dragoman.metrics_where("one stream", |m| pool(m) == (1, 0, 1));
    go.send(()).unwrap();
    assert_eq!(client.response(1).unwrap().status(), 200);
    dragoman.metrics_where("an idle connection", |m| pool(m) == (0, 1, 0));
}

#[test]
fn an_endpoint_in_trouble_is_named_and_its_budget_shrinks() {
    let net = Net::new();
    let _origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"));
    let policy = "[destination.shop]\nbreaker = { failures = 3, open = '1h' }\n\
                  retry = { attempts = 4, base = '1ms', \
                  budget = { ratio = 0.0, min_per_second = 1, window = '10m' } }\n";
    let dragoman = Dragoman::start(&net, policy);
    // Nothing listens on port 81: the third failure opens its breaker, and the second exchange is refused at once.
    for (port, status) in [(80, 200), (81, 503), (81, 503)] {
        assert_eq!(net.app.connect(server(port)).exchange(GET).unwrap().status(), status);
    }
    let metrics = dragoman.settle();
    let (good, bad) = ("198.18.0.2:80", "198.18.0.2:81");
    let state = |endpoint| metrics.sum("dragoman_endpoint_breaker_state", &[("endpoint", endpoint)]);
    assert_eq!((state(good), state(bad)), (0, 2));
    let breakers = |state| metrics.sum("dragoman_breakers", &[("destination", "shop"), ("state", state)]);
    assert_eq!((breakers("closed"), breakers("half_open"), breakers("open")), (1, 0, 1));
    let attempts = |endpoint, outcome| {
        metrics.sum("dragoman_endpoint_attempts_total", &[("endpoint", endpoint), ("outcome", outcome)])
    };
    assert_eq!((attempts(good, "success"), attempts(bad, "failure")), (1, 3));
    assert_eq!(metrics.sum("dragoman_retries_total", &[]), 2);
    assert_eq!(metrics.sum("dragoman_retry_budget_balance", &[]), 600 - 2, "that of the emptiest");
}
