//! What `/metrics` looks like.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::{exposition, metric, pages, receiver, telemetry};
use dragoman_telemetry::{
    AcceptError, AccessFormat, AccessLog, AccessMode, BreakerState, Cause, DestinationState, EarlyDial,
    EndpointState, ExchangeRecord, Handshake, MaterialReload, Metric, Outcome, Protocol, Reload, Telemetry,
    Tracer,
};

#[test]
fn everything_that_can_be_counted_follows_the_grammar() {
    let (telemetry, _) = telemetry(AccessMode::Off, AccessFormat::Json);
    exposition::parse(&telemetry.render()).expect("before anything happened");

    let causes = || std::iter::once(None).chain(Cause::ALL.iter().copied().map(Some));
    for cause in causes() {
        for &protocol in Protocol::ALL {
            let mut flow = telemetry.flow("10.0.0.7:1".parse().unwrap());
            flow.protocol = protocol;
            flow.cause = cause;
        }
        let flow = telemetry.flow("10.0.0.7:1".parse().unwrap()).facts();
        let mut exchange = ExchangeRecord::new(&telemetry);
        for status in std::iter::once(None).chain((0..=u16::MAX).step_by(7).map(Some)) {
            exchange.begin(flow, "GET", b"/", "");
            exchange.status = status;
            exchange.cause = cause;
            exchange.finish();
        }
    }
    let process = telemetry.process();
    EarlyDial::ALL.iter().for_each(|result| process.early_dial(*result));
    AcceptError::ALL.iter().for_each(|kind| process.accept_error(*kind));
    process.set_flow_limit(16_384);
    process.count_tasks(|| 3);
    telemetry.dns().served();
    telemetry.dns().answered(Duration::from_millis(2));
    telemetry.reload().in_force(1, u64::MAX, false);
    Reload::ALL.iter().for_each(|result| telemetry.reload().reloaded(*result));
    let destination = telemetry.destination(1);
    destination.connection_dialled(Duration::from_millis(3));
    destination.connection_reused();
    destination.idle_connection_closed();
    Handshake::ALL.iter().for_each(|result| destination.handshake(*result, Duration::from_millis(3)));
    destination.unverified();

    destination.breaker_transition("opened");
    exchange_with_everything(&telemetry);
    let _held = (telemetry.destination(1).pool_in_use(), telemetry.destination(1).pool_waiting());
    telemetry.watch(|| {
        let address = "10.0.0.9:80".parse().unwrap();
        let endpoint = EndpointState { address, breaker: Some(BreakerState::Open), retries: Some(3) };
        vec![(1, DestinationState { endpoints: vec![endpoint], ..DestinationState::default() })]
    });

    telemetry.trace_to(Tracer::start(receiver(1)).unwrap());
    telemetry.material().state(0, vec![("payments".into(), 1_798_675_200)]);

    let text = telemetry.render();
    exposition::parse(&text).unwrap();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let families: BTreeSet<_> = types.map(|line| line.split(' ').next().unwrap()).collect();
    // Where the kernel tracks no connections there is nothing to show.
    let tracks = Path::new("/proc/sys/net/netfilter/nf_conntrack_count").exists();
    let names = Metric::ALL.iter().map(|metric| metric.name());
    let expected: BTreeSet<_> = names.filter(|name| tracks || !name.contains("conntrack")).collect();
    assert_eq!(families, expected, "what can be counted, and what is in the catalogue");
}

fn exchange_with_everything(telemetry: &Telemetry) {
    let mut flow = telemetry.flow("10.0.0.7:1".parse().unwrap());
    flow.sniffed(Protocol::Http1);
    let mut exchange = ExchangeRecord::new(telemetry);
    exchange.begin(flow.facts(), "GET", b"/", "");
    exchange.attempt("10.0.0.9:80".parse().unwrap());
    exchange.first_byte(Duration::from_micros(900));
    exchange.attempt_ended(Outcome::Failure);
    exchange.retried("status", "idempotent");
    exchange.refuse_retry("budget");
    exchange.grpc_status = Some("unavailable");
    exchange.finish();
}

#[test]
fn the_page_of_metrics_is_fresh() {
    pages::check("metrics.md", &page());
}

const INTRODUCTION: &str = "\
# Metrics

<!-- Made from crates/telemetry/src/metrics/catalogue.rs. Renew with: DRAGOMAN_BLESS=1 cargo test -p dragoman-telemetry -->

`GET /metrics` on the admin address (`admin.listen`, 127.0.0.1:15020 unless the configuration says otherwise) has all of
these in the Prometheus text format. Every label takes its values from a closed set or from the configuration, but for
`endpoint`, which is bounded: the number of series does not depend on what the app dials. Histograms are in seconds and
have the same buckets, from 100 microseconds to a minute.

The endpoint `other` takes over what an endpoint had counted that has been idle: so sums over the endpoints are exact, and a
rate of `other` jumps at that moment. For rates over all endpoints take the metric without that label.

A series without a fixed set of labels appears when it is first counted: `dragoman_exchanges_total` has no line for a
status that nobody has seen.

| Metric | Type | Labels | What it says |
|---|---|---|---|
";

fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    for metric in Metric::ALL {
        let labels: Vec<_> = metric.labels().iter().map(|label| format!("`{label}`")).collect();
        let (name, kind, about) = (metric.name(), metric.kind().as_str(), metric.about());
        writeln!(page, "| `{name}` | {kind} | {} | {about} |", labels.join(" ")).unwrap();
    }
    page
}

#[test]
fn a_state_is_what_it_is_when_somebody_looks() {
    let (telemetry, _) = telemetry(AccessMode::Off, AccessFormat::Json);
    let state = Arc::new(Mutex::new(DestinationState::default()));
    let watched = Arc::clone(&state);
    telemetry.watch(move || vec![(1, watched.lock().unwrap().clone())]);
    let shown = |series: &str| metric(&telemetry, series);
    assert_eq!(shown(r#"dragoman_breakers{destination="payments",state="open"}"#), 0.0);
    assert!(!telemetry.render().contains("dragoman_retry_budget_balance{"), "there is no budget");

    let endpoint = |breaker, retries| EndpointState {
        address: "10.0.0.9:80".parse().unwrap(),
        breaker: Some(breaker),
        retries,
    };
    state.lock().unwrap().endpoints = vec![
        endpoint(BreakerState::Open, Some(7)),
        endpoint(BreakerState::Open, None),
        endpoint(BreakerState::HalfOpen, Some(3)),
    ];
    assert_eq!(shown(r#"dragoman_breakers{destination="payments",state="open"}"#), 2.0);
    assert_eq!(shown(r#"dragoman_breakers{destination="payments",state="half_open"}"#), 1.0);
    assert_eq!(shown(r#"dragoman_breakers{destination="payments",state="closed"}"#), 0.0);
    assert_eq!(shown(r#"dragoman_retry_budget_balance{destination="payments"}"#), 3.0, "that of the worst");

    let waiting = r#"dragoman_pool_waiting{destination="payments"}"#;
    let held = (telemetry.destination(1).pool_waiting(), telemetry.destination(1).pool_waiting());
    assert_eq!(shown(waiting), 2.0);
    drop(held);
    assert_eq!(shown(waiting), 0.0);
}

#[test]
fn without_destinations_there_is_the_default_one() {
    let telemetry = Telemetry::new(vec![], AccessLog::off());
    assert_eq!(telemetry.destination(0).name(), "default");
}

#[test]
fn two_proxies_in_one_process_count_apart() {
    let (one, _) = telemetry(AccessMode::Off, AccessFormat::Json);
    let (other, _) = telemetry(AccessMode::Off, AccessFormat::Json);
    let _open = one.flow("10.0.0.7:1".parse().unwrap());
    assert_eq!(metric(&one, "dragoman_flows_open"), 1.0);
    assert_eq!(metric(&other, "dragoman_flows_open"), 0.0);
}

#[test]
fn a_destination_of_a_later_configuration_gets_its_series_and_the_others_keep_theirs() {
    let telemetry = Telemetry::new(vec!["default".into()], AccessLog::off());
    let mut open = telemetry.flow("10.0.0.7:1".parse().unwrap());
    open.protocol = Protocol::Opaque;
    telemetry.destination(0).connection_dialled(Duration::from_millis(3));
    let names: Vec<std::sync::Arc<str>> =
        std::iter::once("default".into()).chain((1..100).map(|n| format!("d{n}").into())).collect();
    telemetry.add_destinations(&names);
    telemetry.destination(0).connection_dialled(Duration::from_millis(3));
    telemetry.destination(99).connection_dialled(Duration::from_millis(3));
    drop(open);
    let dialled = |name| {
        metric(
            &telemetry,
            &format!("dragoman_upstream_connections_total{{destination=\"{name}\",how=\"dialled\"}}"),
        )
    };
    assert_eq!((dialled("default"), dialled("d99"), dialled("d98")), (2.0, 1.0, 0.0));
    let flows = r#"dragoman_flows_total{cause="-",destination="default",protocol="opaque"}"#;
    assert_eq!(metric(&telemetry, flows), 1.0);
}

#[test]
fn the_page_says_how_the_last_reload_went() {
    let telemetry = Telemetry::new(vec![], AccessLog::off());
    let reload = telemetry.reload();
    let value = |name: &str| metric(&telemetry, &format!("dragoman_config_{name}"));
    reload.in_force(1, 0x1234_5678_9abc_def0, false);
    assert_eq!((value("last_reload_successful"), value("generation")), (1.0, 1.0));
    assert_eq!(value("hash"), 20_015_998_343_868.0, "the first 48 bits, exactly");
    reload.reloaded(Reload::Refused);
    assert_eq!((value("last_reload_successful"), value("reloads_total{result=\"refused\"}")), (0.0, 1.0));
    assert_eq!(value("generation"), 1.0, "that one stays");
    reload.reloaded(Reload::Unchanged);
    assert_eq!(value("last_reload_successful"), 1.0, "the file is again what is in force");
    reload.in_force(2, 0, true);
    reload.reloaded(Reload::Applied);
    assert_eq!((value("generation"), value("restart_needed")), (2.0, 1.0));
}

#[test]
fn the_page_says_how_the_files_of_tls_are() {
    let telemetry = Telemetry::new(vec![], AccessLog::off());
    let material = telemetry.material();
    material.reloaded(MaterialReload::Refused);
    assert!(!telemetry.render().contains("dragoman_tls_files_refused"), "nobody reads any");
    material.state(1, vec![("payments".into(), 1_798_675_200), ("inbound".into(), 1_798_675_201)]);
    let expiry = |name| {
        metric(&telemetry, &format!("dragoman_tls_certificate_expiry_seconds{{destination=\"{name}\"}}"))
    };
    assert_eq!((expiry("payments"), expiry("inbound")), (1_798_675_200.0, 1_798_675_201.0));
    let reloads = |result| metric(&telemetry, &format!("dragoman_tls_reloads_total{{result=\"{result}\"}}"));
    assert_eq!((reloads("refused"), reloads("applied")), (1.0, 0.0));
    assert_eq!(metric(&telemetry, "dragoman_tls_files_refused"), 1.0);
    material.state(0, vec![]);
    assert!(!telemetry.render().contains("expiry_seconds{"), "none is presented any more");
}
