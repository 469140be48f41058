//! The dashboard and the alerts ask for what there is, in a language that Prometheus understands.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use dragoman_harness::metrics::Metrics;
use dragoman_harness::process::Process;
use dragoman_harness::scratch::Scratch;
use dragoman_harness::{Net, process, wait};
use serde_json::Value;

use crate::busy::Busy;
use crate::queries::read;

/// Labels that Prometheus adds to all that it scrapes.
const OF_THE_SCRAPE: [&str; 2] = ["job", "instance"];

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

/// Panel, query and legend of each target.
fn targets() -> Vec<(String, String, String)> {
    let text = fs::read_to_string(deploy("grafana/dragoman.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let panels = dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row");
    let targets = panels.flat_map(|panel| {
        let targets = panel["targets"].as_array().unwrap().iter();
        targets.map(move |t| (text(&panel["title"]), text(&t["expr"]), text(&t["legendFormat"])))
    });
    targets.collect()
}

/// A query as Grafana would send it.
fn filled_in(query: &str) -> String {
    query.replace("$__rate_interval", "1m").replace("$job", ".*").replace("$instance", ".*")
}

/// Name and query of each alert.
fn alerts() -> Vec<(String, String)> {
    let text = fs::read_to_string(deploy("prometheus/alerts.yml")).unwrap();
    let rules = text.split("- alert: ").skip(1).map(|rule| {
        let name = rule.lines().next().unwrap().to_owned();
        let query = rule.split("expr:").nth(1).unwrap().split("labels:").next().unwrap();
        (name, query.split("for:").next().unwrap().replace('|', " "))
    });
    rules.collect()
}

/// Whether the page has all that a query asks for.
fn check(metrics: &Metrics, of: &str, query: &str) {
    let query = read(query);
    assert!(!query.selectors.is_empty(), "{of} asks for nothing");
    for selector in &query.selectors {
        let there = metrics.labels(&selector.metric);
        let there = there.unwrap_or_else(|| panic!("{of}: there is no {} on the page", selector.metric));
        for label in selector.labels.iter().chain(&query.by) {
            let known = there.contains(&**label) || OF_THE_SCRAPE.contains(&&**label);
            assert!(known, "{of}: {} has no label {label}", selector.metric);
        }
    }
}

#[test]
fn the_dashboard_and_its_page_are_fresh() {
    process::succeed(Command::new("python3").arg(deploy("grafana/generate.py")).arg("--check"));
}

#[test]
fn each_query_of_dashboard_and_alerts_names_what_is_on_the_page() {
    let net = Net::new();
    let busy = Busy::start(&net);
    let flows = |m: &Metrics| m.sum("dragoman_flows_total", &[]);
    let metrics = busy.dragoman.metrics_where("the failed flow has been counted", |m| flows(m) > 1);
    let targets = targets();
    for (panel, query, legend) in &targets {
        check(&metrics, panel, query);
        let by = read(query).by;
        for label in legend.split("{{").skip(1).map(|rest| rest.split("}}").next().unwrap()) {
            assert!(
                by.contains(label) || query.contains(&format!("count_values(\"{label}\"")),
                "{panel}: {label}"
            );
        }
    }
    let alerts = alerts();
    alerts.iter().for_each(|(name, query)| check(&metrics, name, query));
    println!("{} queries of the dashboard, {} alerts", targets.len(), alerts.len());
    assert!(targets.len() > 40 && alerts.len() > 10);
}

#[test]
fn promtool_finds_the_alerts_right() {
    let folder = deploy("prometheus");
    let promtool = |arguments: &[&str]| {
        let mut command = Command::new("promtool");
        process::succeed(command.args(arguments).current_dir(&folder))
    };
    promtool(&["check", "rules", "alerts.yml"]);
    promtool(&["test", "rules", "alerts.test.yml"]);
    let tested = fs::read_to_string(folder.join("alerts.test.yml")).unwrap();
    for (name, _) in alerts() {
        let fires =
            tested.split("alertname: ").any(|case| case.starts_with(&*name) && case.contains("exp_alerts"));
        assert!(fires, "no test in which {name} fires");
    }
}

/// Prometheus scrapes a proxy, and each query of the dashboard has an answer.
#[test]
fn each_panel_shows_something_in_a_real_prometheus() {
    let net = Net::new();
    let mut busy = Busy::start(&net);
    let scratch = Scratch::new("prometheus");
    let configuration = scratch.write(
        "prometheus.yml",
        "global: { scrape_interval: 500ms, scrape_timeout: 500ms }\n\
         scrape_configs:\n  - job_name: dragoman\n    static_configs: [{ targets: ['127.0.0.1:15020'] }]\n",
    );
    let mut command = net.app.command("prometheus");
    command.arg("--web.listen-address=127.0.0.1:9090").arg(option("config.file", &configuration));
    command.arg(option("storage.tsdb.path", &scratch.path().join("data"))).current_dir(scratch.path());
    let _prometheus = Process::start("prometheus", &mut command, &scratch.path().join("log"), None);

    let scrapes = || {
        let answer = ask(&net, "count_over_time(dragoman_build_info[1m])")?;
        answer.first().and_then(|sample| sample["value"][1].as_str()?.parse::<u32>().ok())
    };
    wait::until("two scrapes", wait::SOON, || scrapes().is_some_and(|count| count >= 2));
    busy.again(&net);
    let so_far = scrapes().unwrap();
    wait::until("two more", wait::SOON, || scrapes().is_some_and(|count| count >= so_far + 2));
    let mut silent = BTreeSet::new();
    for (panel, query, _) in targets() {
        let answer = ask(&net, &filled_in(&query)).unwrap_or_else(|| panic!("{panel}: no answer to {query}"));
        if answer.is_empty() {
            silent.insert(panel);
        }
    }
    assert_eq!(silent, BTreeSet::new(), "panels without a single series");
}

fn option(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

/// The result of a query, if Prometheus gives one.
fn ask(net: &Net, query: &str) -> Option<Vec<Value>> {
    let mut escaped = String::new();
    query.bytes().for_each(|byte| write!(escaped, "%{byte:02x}").expect("a String takes it"));
    let mut peer = net.app.try_connect("127.0.0.1:9090".parse().unwrap()).ok()?;
    let head = format!("GET /api/v1/query?query={escaped} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    let answer: Value = serde_json::from_str(&peer.exchange(head).ok()?.text()).ok()?;
    answer["data"]["result"].as_array().cloned()
}
