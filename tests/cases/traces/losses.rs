//! A receiver that is slow, busy, wrong or gone: it costs spans, each of which is counted, and never time.

use std::time::{Duration, Instant};

use dragoman_harness::metrics::Metrics;
use dragoman_harness::net::server;
use dragoman_harness::origin::Reply;
use dragoman_harness::{Dragoman, Net, Origin};

use crate::get;
use crate::receiver::{Receiver, exporting};

/// Each exchange of these cases is two spans.
const SPANS: u64 = 2;

/// Sends so many requests on one connection and returns how long that took.
fn send(net: &Net, requests: u64) -> Duration {
    let mut app = net.app.connect(server(80));
    let start = Instant::now();
    for _ in 0..requests {
        assert_eq!(app.exchange(get("/", "")).unwrap().status(), 200);
    }
    start.elapsed()
}

fn origin(net: &Net) -> Origin {
    Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"))
}

fn exported(metrics: &Metrics) -> u64 {
    metrics.sum("dragoman_spans_exported_total", &[])
}

fn dropped(metrics: &Metrics, reason: &str) -> u64 {
    metrics.sum("dragoman_spans_dropped_total", &[("reason", reason)])
}

fn all(metrics: &Metrics) -> u64 {
    exported(metrics) + metrics.sum("dragoman_spans_dropped_total", &[])
}

#[test]
fn each_of_ten_thousand_exchanges_is_exported_or_counted_as_dropped() {
    const EACH: u64 = 2500;
    let net = Net::new();
    let receiver = Receiver::start(&net);
    let _origin = origin(&net);
    let dragoman = Dragoman::start(&net, &exporting("1", "[defaults]\ntrace = true\npool = {}\n"));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| send(&net, EACH));
        }
    });
    let metrics = dragoman.metrics_where("all are settled", |metrics| all(metrics) == 4 * EACH * SPANS);
    let spans = receiver.spans();
    assert_eq!(spans.len() as u64, exported(&metrics), "what was counted is there, and no more");
    assert!(exported(&metrics) > 0);
    let ids: std::collections::HashSet<_> = spans.iter().map(|span| span.text("span_id")).collect();
    assert_eq!(ids.len(), spans.len(), "no span is there twice");
    assert_eq!(dropped(&metrics, "rejected") + dropped(&metrics, "unavailable"), 0);
}

#[test]
fn a_receiver_that_is_silent_or_gone_costs_no_time() {
    const REQUESTS: u64 = 3000;
    let net = Net::new();
    let receiver = Receiver::start(&net);
    let _origin = origin(&net);
    receiver.answer("stall\n");
    let stalled = Dragoman::start(&net, &exporting("1", ""));
    let took = send(&net, REQUESTS);
    println!("{REQUESTS} exchanges in {took:?}");
    let metrics = stalled.settle();
    // To wait for the receiver once would take the ten seconds that it has to answer.
    assert_eq!(metrics.sum("dragoman_exchange_seconds_bucket", &[("le", "5")]), REQUESTS);
    // 4096 wait, and 512 are on their way.
    let lost = dropped(&metrics, "queue_full");
    assert!((REQUESTS * SPANS - 4096 - 512..REQUESTS * SPANS).contains(&lost), "{lost}");
    assert_eq!(exported(&metrics), 0);
    receiver.answer("");
    let metrics = stalled.metrics_where("it goes on", |metrics| all(metrics) == REQUESTS * SPANS);
    assert_eq!(exported(&metrics), REQUESTS * SPANS - lost, "what waited was tried again");
    drop(stalled);

    drop(receiver);
    let mut gone = Dragoman::start(&net, &exporting("1", ""));
    send(&net, 100);
    let metrics = gone.settle();
    assert_eq!(metrics.sum("dragoman_exchange_seconds_bucket", &[("le", "5")]), 100);
    gone.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(gone.wait(Duration::from_secs(60)).success(), "{}", gone.log());
    assert!(gone.log().contains("cannot export spans"), "{}", gone.log());
}

#[test]
fn a_busy_receiver_is_tried_again_when_it_asks_for_it() {
    let net = Net::new();
    let receiver = Receiver::start(&net);
    let _origin = origin(&net);
    receiver.answer("503 2\n429\n");
    let dragoman = Dragoman::start(&net, &exporting("1", ""));
    let start = Instant::now();
    send(&net, 256);
    let metrics = dragoman.metrics_where("all are settled", |metrics| all(metrics) == 256 * SPANS);
    assert_eq!((exported(&metrics), receiver.spans().len()), (512, 512));
    assert!(
        receiver.has_answered() && start.elapsed() > Duration::from_millis(2500),
        "{:?}",
        start.elapsed()
    );
    assert!(!dragoman.log().contains("cannot export"), "{}", dragoman.log());
}

#[test]
fn what_a_receiver_rejects_is_counted_and_not_tried_again() {
    let net = Net::new();
    let receiver = Receiver::start(&net);
    let _origin = origin(&net);
    // The last one asks for a time that no clock holds.
    receiver.answer(&format!("400\npartial 100\n503 3600\n503 {}\n", u64::MAX));
    let dragoman = Dragoman::start(&net, &exporting("1", ""));
    let mut sent = 0;
    let steps =
        [("rejected", 512, 0), ("rejected", 612, 412), ("unavailable", 512, 412), ("unavailable", 1024, 412)];
    for (reason, lost, taken) in steps {
        send(&net, 256);
        sent += 256 * SPANS;
        let metrics = dragoman.metrics_where("all are settled", |metrics| all(metrics) == sent);
        assert_eq!((dropped(&metrics, reason), exported(&metrics)), (lost, taken));
    }
    assert!(receiver.has_answered());
    assert_eq!(receiver.spans().len(), 512, "those of the request that was taken in part");
    assert_eq!(dragoman.log().matches("cannot export spans").count(), 2, "{}", dragoman.log());
}
