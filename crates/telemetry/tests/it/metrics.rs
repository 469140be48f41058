//! What `/metrics` looks like.

use std::collections::BTreeSet;

use crate::common::{exposition, metric, telemetry};
use dragoman_policy::Transition;
use dragoman_telemetry::{
    AcceptError, AccessFormat, AccessLog, AccessMode, Cause, EarlyDial, ExchangeRecord, Outcome, Protocol,
    Telemetry,
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
    let destination = telemetry.destination(1);
    destination.breaker_transition("opened");
    destination.connection_dialled();
    destination.connection_reused();
    destination.idle_connection_closed();

    let series = exposition::parse(&telemetry.render()).unwrap();
    let families: BTreeSet<_> = series.keys().map(|s| s.split('{').next().unwrap()).collect();
    let expected = "dragoman_accept_errors_total dragoman_access_log_dropped_total dragoman_attempts_total \
                    dragoman_breaker_transitions_total dragoman_breakers_open dragoman_build_info \
                    dragoman_bytes_total dragoman_early_dials_total dragoman_exchanges_total dragoman_flows_limit \
                    dragoman_flows_open dragoman_flows_total dragoman_upstream_connections_total \
                    dragoman_upstream_idle_closed_total process_start_time_seconds";
    assert_eq!(families.into_iter().collect::<Vec<_>>().join(" "), expected);
}

/// Not the number of hosts, paths and names decides how many series there are, but the configuration.
#[test]
fn l6_series_do_not_grow_with_what_the_app_dials() {
    let (telemetry, _) = telemetry(AccessMode::Off, AccessFormat::Json);
    let traffic = |from: u32, to: u32| {
        for n in from..to {
            let mut flow = telemetry.flow((std::net::Ipv4Addr::from(n), 1).into());
            flow.original_dst = Some((std::net::Ipv4Addr::from(!n), n as u16).into());
            flow.sni = Some(format!("host{n}.example"));
            let mut exchange = ExchangeRecord::new(&telemetry);
            exchange.begin(flow.facts(), &format!("M{n}"), format!("/{n}").as_bytes(), &format!("h{n}"));
            exchange.attempt((std::net::Ipv4Addr::from(n), 80).into());
            exchange.attempt_ended(Outcome::Success);
            exchange.status = Some(200);
            exchange.finish();
        }
        exposition::parse(&telemetry.render()).unwrap().into_keys().collect::<BTreeSet<_>>()
    };
    assert_eq!(traffic(0, 1), traffic(1, 100_000));
}

#[test]
fn breakers_open_follows_the_transitions() {
    let (telemetry, _) = telemetry(AccessMode::Off, AccessFormat::Json);
    let open = || metric(&telemetry, r#"dragoman_breakers_open{destination="payments"}"#);
    let payments = telemetry.destination(1);
    use Transition::{Closed, HalfOpened, Opened};
    for (transition, expected) in
        [(Opened, 1.0), (Opened, 2.0), (HalfOpened, 1.0), (Closed, 1.0), (HalfOpened, 0.0)]
    {
        payments.breaker_transition(transition.as_str());
        assert_eq!(open(), expected, "after {transition:?}");
    }
    payments.breaker_transition(Opened.as_str());
    payments.open_breaker_forgotten();
    assert_eq!(open(), 0.0);
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
