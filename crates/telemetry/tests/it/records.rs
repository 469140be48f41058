//! A record counts once and logs once, however it ends.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::common::{exposition, lines, metric, telemetry};
use dragoman_telemetry::{AccessFormat, AccessMode, Cause, ExchangeRecord, Outcome, Protocol, Telemetry};

const PEER: &str = "10.0.0.7:40000";

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Runs something that panics, without the panic's text on the test's screen.
fn panics(body: impl FnOnce()) {
    let result = catch_unwind(AssertUnwindSafe(body));
    assert!(result.is_err(), "it should have panicked");
}

#[test]
fn a_flow_is_counted_when_it_is_dropped() {
    let (telemetry, sink) = telemetry(AccessMode::All(1.0), AccessFormat::Json);
    let mut flow = telemetry.flow(address(PEER));
    flow.original_dst = Some(address("[fd00::1]:5432"));
    flow.destination = 1;
    flow.protocol = Protocol::Postgres;
    flow.bytes_from_app = 12;
    flow.bytes_to_app = 34;
    assert_eq!(metric(&telemetry, "dragoman_flows_open"), 1.0);
    let series = r#"dragoman_flows_total{cause="-",destination="payments",protocol="postgres"}"#;
    assert_eq!(metric(&telemetry, series), 0.0);

    let id = format!("{:016x}", flow.id);
    drop(flow);

    assert_eq!(metric(&telemetry, "dragoman_flows_open"), 0.0);
    assert_eq!(metric(&telemetry, series), 1.0);
    assert_eq!(
        metric(&telemetry, r#"dragoman_bytes_total{destination="payments",direction="from_app"}"#),
        12.0
    );
    assert_eq!(
        metric(&telemetry, r#"dragoman_bytes_total{destination="payments",direction="to_app"}"#),
        34.0
    );
    let line = &lines(&telemetry, &sink)[0];
    assert_eq!(line["id"], id);
    assert_eq!(line["kind"], "flow");
    assert_eq!(line["peer"], PEER);
    assert_eq!(line["original_dst"], "[fd00::1]:5432");
    assert_eq!(line["destination"], "payments");
    assert!(!line.contains_key("cause"));
}

#[test]
fn the_first_cause_wins() {
    let (telemetry, sink) = telemetry(AccessMode::Failures, AccessFormat::Json);
    let mut flow = telemetry.flow(address(PEER));
    flow.fail(Cause::ConnectTimeout, "5 s".to_owned());
    flow.fail(Cause::AppClosed, "later".to_owned());
    drop(flow);
    let line = &lines(&telemetry, &sink)[0];
    assert_eq!((&*line["cause"], &*line["who"], &*line["detail"]), ("connect_timeout", "network", "5 s"));
}

#[test]
fn a_panic_is_internal_in_flow_and_exchange() {
    let (telemetry, sink) = telemetry(AccessMode::Failures, AccessFormat::Json);
    panics(|| {
        let flow = telemetry.flow(address(PEER));
        let mut exchange = ExchangeRecord::new(&telemetry);
        exchange.begin(flow.facts(), "GET", b"/", "a");
        panic!("injected by the test");
    });
    let lines = lines(&telemetry, &sink);
    assert_eq!(lines.len(), 2);
    assert_eq!(metric(&telemetry, "dragoman_defects_total"), 2.0);
    assert!(lines.iter().all(|line| line["cause"] == "internal" && line["who"] == "dragoman"), "{lines:?}");
    assert_eq!(metric(&telemetry, "dragoman_flows_open"), 0.0);
}

#[test]
fn what_is_open_when_the_process_ends_was_cut() {
    let (telemetry, sink) = telemetry(AccessMode::Failures, AccessFormat::Json);
    let flow = telemetry.flow(address(PEER));
    let mut failed = telemetry.flow(address(PEER));
    failed.fail(Cause::AppReset, None);
    let mut exchange = ExchangeRecord::new(&telemetry);
    exchange.begin(flow.facts(), "GET", b"/", "h");
    telemetry.cut();
    drop((exchange, flow, failed));
    let causes: Vec<_> = lines(&telemetry, &sink).into_iter().map(|line| line["cause"].clone()).collect();
    assert_eq!(causes, ["drain_deadline", "drain_deadline", "app_reset"]);
}

#[test]
fn an_exchange_that_is_dropped_unfinished_was_left_by_the_app() {
    let (telemetry, sink) = telemetry(AccessMode::Failures, AccessFormat::Json);
    let flow = telemetry.flow(address(PEER));
    let mut exchange = ExchangeRecord::new(&telemetry);
    exchange.begin(flow.facts(), "GET", b"/a", "h");
    exchange.begin(flow.facts(), "GET", b"/b", "h");
    exchange.attempt(address("10.0.0.9:80"));
    drop(exchange);
    let lines = lines(&telemetry, &sink);
    let story: Vec<_> =
        lines.iter().map(|line| (&*line["path"], &*line["cause"], &*line["attempts"])).collect();
    assert_eq!(story, [("/a", "app_closed", "0"), ("/b", "app_closed", "1")]);
    assert_eq!(
        metric(&telemetry, r#"dragoman_exchanges_total{cause="app_closed",code="-",destination="default"}"#),
        2.0
    );
    assert_eq!(metric(&telemetry, r#"dragoman_attempts_total{destination="default",outcome="local"}"#), 1.0);
}

#[test]
fn a_record_that_was_not_begun_counts_nothing() {
    let (telemetry, sink) = telemetry(AccessMode::All(1.0), AccessFormat::Json);
    let mut exchange = ExchangeRecord::new(&telemetry);
    exchange.finish();
    drop(exchange);
    assert_eq!(lines(&telemetry, &sink).len(), 0);
    assert!(!telemetry.render().contains("dragoman_exchanges_total{"));
}

#[test]
fn nothing_of_one_exchange_is_left_in_the_next() {
    let (telemetry, sink) = telemetry(AccessMode::All(1.0), AccessFormat::Json);
    let flow = telemetry.flow(address(PEER));
    let mut exchange = ExchangeRecord::new(&telemetry);
    exchange.begin(flow.facts(), "DELETE", b"/long/path", "first.example");
    exchange.destination = 1;
    exchange.route = Some("create".into());
    exchange.status = Some(503);
    exchange.request_id.push_str("abc");
    exchange.attempt(address("10.0.0.9:80"));
    exchange.retried("status", "idempotent");
    exchange.attempt(address("10.0.0.9:80"));
    exchange.refuse_retry("attempts_spent");
    exchange.fail(Cause::UpstreamStatus, "x".to_owned());
    exchange.finish();
    exchange.begin(flow.facts(), "GET", b"/", "b");
    exchange.status = Some(200);
    exchange.finish();
    drop(flow);

    let lines = lines(&telemetry, &sink);
    assert_eq!(lines[0]["retries"], "status:idempotent");
    assert_eq!(lines[0]["retry_refused"], "attempts_spent");
    assert_eq!(lines[0]["flow"], lines[2]["id"]);
    assert_ne!(lines[0]["id"], lines[1]["id"]);
    let keys: Vec<_> = lines[1].keys().map(String::as_str).collect();
    let expected = "attempts bytes_from_app bytes_to_app destination duration_ms flow host id kind method path peer \
                    status ts";
    assert_eq!(keys.join(" "), expected);
    assert_eq!((&*lines[1]["host"], &*lines[1]["path"], &*lines[1]["attempts"]), ("b", "/", "0"));
}

/// A fixed sequence of numbers that looks random (a linear congruential generator, Knuth's constants).
struct Sequence(u64);

impl Sequence {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

/// One flow with some exchanges, all of them arbitrary.
fn traffic(telemetry: &Telemetry, any: &mut Sequence) {
    let mut flow = telemetry.flow(address(PEER));
    flow.destination = any.below(2);
    flow.protocol = Protocol::ALL[any.below(Protocol::ALL.len())];
    let mut exchange = ExchangeRecord::new(telemetry);
    for _ in 0..any.below(4) {
        exchange.begin(flow.facts(), "GET", b"/", "h");
        exchange.destination = any.below(2);
        for _ in 0..any.below(4) {
            exchange.attempt(address("10.0.0.9:80"));
            exchange.attempt_ended(Outcome::ALL[any.below(Outcome::ALL.len())]);
        }
        exchange.status = [None, Some(200), Some(503), Some(599), Some(100), Some(999)][any.below(6)];
        if any.below(2) == 0 {
            exchange.fail(Cause::ALL[any.below(Cause::ALL.len())], None);
        }
        exchange.bytes_to_app = any.below(1000) as u64;
        if any.below(5) > 0 {
            exchange.finish();
        }
    }
    if any.below(2) == 0 {
        flow.fail(Cause::ALL[any.below(Cause::ALL.len())], None);
    }
}

#[test]
fn log_and_metrics_tell_the_same_numbers() {
    let (telemetry, sink) = telemetry(AccessMode::All(1.0), AccessFormat::Json);
    let threads: Vec<_> = (0..4)
        .map(|seed| {
            let telemetry = telemetry.clone();
            std::thread::spawn(move || {
                let mut any = Sequence(seed);
                for _ in 0..200 {
                    traffic(&telemetry, &mut any);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());

    let mut from_log = BTreeMap::<String, f64>::new();
    let mut attempts = 0.0;
    for line in lines(&telemetry, &sink) {
        let destination = &line["destination"];
        let cause = line.get("cause").map_or("-", String::as_str);
        let series = if line["kind"] == "flow" {
            let protocol = &line["protocol"];
            format!(
                r#"dragoman_flows_total{{cause="{cause}",destination="{destination}",protocol="{protocol}"}}"#
            )
        } else {
            attempts += line["attempts"].parse::<f64>().unwrap();
            let code = line.get("status").map_or("-", |code| if code == "999" { "other" } else { code });
            format!(
                r#"dragoman_exchanges_total{{cause="{cause}",code="{code}",destination="{destination}"}}"#
            )
        };
        *from_log.entry(series).or_default() += 1.0;
        let bytes = format!(r#"dragoman_bytes_total{{destination="{destination}",direction="to_app"}}"#);
        *from_log.entry(bytes).or_default() += line["bytes_to_app"].parse::<f64>().unwrap();
    }

    let exported = exposition::parse(&telemetry.render()).unwrap();
    let of = |family: &'static str| exported.iter().filter(move |(series, _)| series.starts_with(family));
    assert_eq!(of("dragoman_attempts_total").map(|(_, value)| value).sum::<f64>(), attempts);
    for (series, value) in of("dragoman_flows_total").chain(of("dragoman_exchanges_total")) {
        assert_eq!(from_log.get(series), Some(value), "{series}");
    }
    for (series, value) in &from_log {
        assert_eq!(exported.get(series), Some(value), "{series}");
    }
    assert_eq!(exported["dragoman_access_log_dropped_total"], 0.0);
}

#[test]
fn only_failures_are_logged_where_that_is_asked() {
    let (failures, sink) = telemetry(AccessMode::Failures, AccessFormat::Json);
    let mut any = Sequence(7);
    (0..300).for_each(|_| traffic(&failures, &mut any));
    let lines = lines(&failures, &sink);
    assert!(lines.iter().all(|line| line.contains_key("cause")));
    let exported = exposition::parse(&failures.render()).unwrap();
    let failed =
        exported.iter().filter(|(series, _)| series.contains("cause=") && !series.contains(r#"cause="-""#));
    assert_eq!(failed.map(|(_, value)| value).sum::<f64>(), lines.len() as f64);

    let (off, sink) = telemetry(AccessMode::Off, AccessFormat::Json);
    traffic(&off, &mut any);
    assert!(off.flush(crate::common::PATIENCE));
    assert_eq!(sink.text(), "");
}

/// A sample is taken of what ended well. Failures are why there is a log.
#[test]
fn a_sample_holds_each_failure_and_a_share_of_the_rest() {
    const FLOWS: usize = 20_000;
    for share in [0.0, 0.1, 0.5, 1.0] {
        let mut log = (0, 0);
        // In parts that the queue takes, so that nothing is lost.
        let (telemetry, sink) = telemetry(AccessMode::All(share), AccessFormat::Json);
        for part in 0..FLOWS / 1000 {
            for n in 0..1000 {
                let mut flow = telemetry.flow(address(PEER));
                if (part * 1000 + n) % 100 == 0 {
                    flow.fail(Cause::ConnectRefused, None);
                }
            }
            assert!(telemetry.flush(crate::common::PATIENCE));
        }
        for line in lines(&telemetry, &sink) {
            *(if line.contains_key("cause") { &mut log.0 } else { &mut log.1 }) += 1;
        }
        let well = (FLOWS - FLOWS / 100) as f64;
        println!("share {share}: {} failures, {} of {well} others", log.0, log.1);
        assert_eq!(log.0, FLOWS / 100);
        let off = (log.1 as f64 / well - share).abs();
        assert!(off < 0.02, "{} of {well}", log.1);
        assert!(share != 0.0 || log.1 == 0);
        assert!(share != 1.0 || log.1 == FLOWS - FLOWS / 100);
        assert_eq!(metric(&telemetry, "dragoman_access_log_dropped_total"), 0.0);
    }
}

#[test]
fn identifiers_are_unique() {
    let (telemetry, _) = telemetry(AccessMode::Off, AccessFormat::Json);
    let ids: std::collections::HashSet<u64> = (0..10_000).map(|_| telemetry.flow(address(PEER)).id).collect();
    assert_eq!(ids.len(), 10_000);
}
