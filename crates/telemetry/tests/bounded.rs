//! Not the number of hosts, addresses, paths and names decides how much there is to count, but the configuration.
//!
//! In a process of its own, because it looks at the memory of the whole process.

#[path = "it/common/exposition.rs"]
mod exposition;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use dragoman_telemetry::{
    AccessLog, BUCKETS, Cause, ENDPOINTS, ExchangeRecord, Outcome, Protocol, Telemetry,
};

const HOSTS: u32 = 100_000;
const MIB: usize = 1 << 20;

/// One flow with one exchange for each host from `from` to `to`.
fn dial(telemetry: &Telemetry, from: u32, to: u32) {
    for n in from..to {
        let mut flow = telemetry.flow((Ipv4Addr::from(n), 1).into());
        flow.original_dst = Some((Ipv4Addr::from(!n), n as u16).into());
        flow.sni = Some(format!("host{n}.example").into());
        flow.sniffed(Protocol::Http1);
        let mut exchange = ExchangeRecord::new(telemetry);
        exchange.begin(flow.facts(), &format!("M{n}"), format!("/{n}").as_bytes(), &format!("h{n}"));
        exchange.attempt((Ipv4Addr::from(!n), 80).into());
        exchange.attempt_ended(Outcome::ALL[n as usize % 2]);
        exchange.status = Some(200);
        if n % 10 == 0 {
            exchange.fail(Cause::UpstreamReset, format!("detail {n}"));
        }
        exchange.finish();
    }
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[test]
fn l6_series_and_memory_do_not_grow_with_what_the_app_dials() {
    let telemetry = Telemetry::new(vec!["default".into(), "payments".into()], AccessLog::off());
    let shown = || exposition::parse(&telemetry.render()).unwrap();
    // As much as one host can bring about, and the page once, so that what is allocated for these is there.
    dial(&telemetry, 0, 100);
    let (few, before) = (shown().len(), resident_bytes());
    dial(&telemetry, 100, HOSTS);
    let (series, after) = (shown(), resident_bytes());

    let grown = after.saturating_sub(before);
    println!(
        "{HOSTS} hosts: {} series (after 100 hosts: {few}), a page of {} bytes, memory grown by {grown} bytes",
        series.len(),
        telemetry.render().len()
    );
    assert_eq!(series.len(), few);
    let own = 2 * (ENDPOINTS + 1);
    assert!(series.len() < own + 4 * (BUCKETS.len() + 3) + 100, "{} series", series.len());
    assert!(grown < 2 * MIB, "{grown} bytes");

    let sum = |series: &BTreeMap<String, f64>, name: &str, label: &str| {
        let of_name = series.iter().filter(|(key, _)| key.split('{').next() == Some(name));
        of_name.filter(|(key, _)| key.contains(label)).map(|(_, value)| value).sum::<f64>()
    };
    let half = f64::from(HOSTS / 2);
    for name in ["dragoman_attempts_total", "dragoman_endpoint_attempts_total"] {
        assert_eq!(sum(&series, name, r#"outcome="success""#), half, "{name}");
        assert_eq!(sum(&series, name, r#"outcome="failure""#), half, "{name}");
    }
    let all = f64::from(HOSTS);
    for name in ["dragoman_flows_total", "dragoman_exchanges_total", "dragoman_exchange_seconds_count"] {
        assert_eq!(sum(&series, name, ""), all, "{name}");
    }
    assert_eq!(sum(&series, "dragoman_exchanges_total", r#"cause="upstream_reset""#), all / 10.0);
}
