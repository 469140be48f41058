//! Each setting: as an annotation and as an option it changes what it says, and nothing that anybody writes there does harm.

mod common;

use common::options;
use dragoman_kube::{Options, SETTINGS, Said, inject};
use proptest::prelude::*;

/// A setting, a value of it, what is there with it and not without it, and what is there without it alone. The first
/// words are options that hold in both.
const CHANGES: &[(&str, &str, &str, &str, &str)] = &[
    ("", "inject", "false", "", "name: dragoman"),
    (
        "",
        "image",
        "registry.test/dragoman@sha256:00",
        "image: registry.test/dragoman@sha256:00\n",
        "dragoman:test",
    ),
    ("", "image-pull-policy", "IfNotPresent", "imagePullPolicy: IfNotPresent\n", ""),
    ("", "native-sidecar", "false", "postStart:", "restartPolicy: Always\n"),
    ("native-sidecar=false", "wrap", "false", "", "/run/dragoman/dragoman"),
    ("native-sidecar=false", "probes", "none", "", "livenessProbe:"),
    ("", "config-map", "base", "name: base\n", "name: dragoman-platform\n            optional"),
    ("", "app-config-map", "web-policy", "name: web-policy\n", ""),
    ("", "config", "web-policy", "name: web-policy\n", ""),
    ("", "no-capture", "true", "", "dragoman-init"),
    ("", "capture", "false", "", "dragoman-init"),
    ("", "exclude-ports", "22, 5432", "- --exclude-port\n            - \"22,5432\"\n", ""),
    ("", "include-ports", "443", "- --include-port\n            - \"443\"\n", ""),
    (
        "",
        "exclude-cidrs",
        "10.96.0.0/12,fd00::/8",
        "- --exclude-cidr\n            - \"10.96.0.0/12,fd00::/8\"\n",
        "",
    ),
    ("", "include-cidrs", "192.0.2.7", "- --include-cidr\n            - \"192.0.2.7/32\"\n", ""),
    ("", "exclude-uids", "1000", "- --exclude-uid\n            - \"1000\"\n", ""),
    ("", "exclude-gids", "1000,0", "- --exclude-gid\n            - \"1000,0\"\n", ""),
    ("", "exclude-interfaces", "eth1", "- --exclude-interface\n            - eth1\n", ""),
    ("", "ipv6", "off", "- --ipv6\n            - \"off\"\n", ""),
    ("", "capture-loopback", "true", "- --capture-loopback\n", ""),
    ("", "capture-dns", "15053", "value: \"127.0.0.1:15053,[::1]:15053\"\n", ""),
    ("", "reject-quic", "true", "- --reject-quic\n", ""),
    ("", "drop-invalid", "true", "- --drop-invalid\n", ""),
    ("", "inbound", "true", "- --inbound\n", ""),
    ("inbound", "exclude-inbound-ports", "8080", "- --exclude-inbound-port\n            - \"8080\"\n", ""),
    ("inbound", "include-inbound-ports", "443", "- --include-inbound-port\n            - \"443\"\n", ""),
    ("", "cpu-request", "200m", "cpu: 200m\n", "cpu: 50m\n"),
    ("", "cpu-limit", "none", "", "cpu: \"1\"\n"),
    ("", "memory-request", "48Mi", "memory: 48Mi\n", "memory: 32Mi\n"),
    ("", "memory-limit", "1Gi", "memory: 1Gi\n", "memory: 256Mi\n"),
    ("", "scrape-annotations", "true", "prometheus.io/scrape: \"true\"\n", ""),
];

fn pod(annotations: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  template:
    metadata:
      annotations:
        kept: here
{annotations}    spec:
      containers:
        - name: app
          image: app:1
          command:
            - app
"
    )
}

fn annotated(name: &str, value: &str) -> String {
    pod(&format!("        dragoman.dev/{name}: {value:?}\n"))
}

fn injected(text: &str, options: &Options) -> String {
    inject(text, options).unwrap_or_else(|refusals| panic!("{refusals:?}")).text
}

#[test]
fn each_setting_changes_what_it_says() {
    for (words, name, value, with, without) in CHANGES {
        let base = options(words);
        let setting =
            SETTINGS.iter().find(|setting| setting.name == *name).unwrap_or_else(|| panic!("{name}"));
        let plain = injected(&pod(""), &base);
        assert!(plain.contains(without), "{name}: without it there is no {without:?} in\n{plain}");
        let check = |how: &str, text: &str| {
            assert!(text.contains(with), "{name} as {how}: no {with:?} in\n{text}");
            assert!(without.is_empty() || !text.contains(without), "{name} as {how}: {without:?} in\n{text}");
            assert!(with.is_empty() || !plain.contains(with), "{name}: {with:?} is there anyway in\n{plain}");
        };
        if setting.said != Said::Option {
            check("annotation", &injected(&annotated(name, value), &base));
        }
        if setting.said != Said::Annotation {
            let mut options = base.clone();
            setting.set(&mut options, value).unwrap();
            check("option", &injected(&pod(""), &options));
        }
    }
    let mut names: Vec<_> = CHANGES.iter().map(|change| change.1).collect();
    names.push("quit");
    let missing: Vec<_> = SETTINGS.iter().filter(|setting| !names.contains(&setting.name)).collect();
    assert!(missing.is_empty(), "without a test: {missing:?}");
}

#[test]
fn who_ends_the_proxy_of_a_job_is_said_by_annotation() {
    let job = |annotation: &str, containers: &str| {
        format!(
            "apiVersion: batch/v1
kind: Job
metadata: {{name: sum}}
spec:
  template:
    metadata:
      annotations: {{{annotation}}}
    spec:
      restartPolicy: Never
      containers:
{containers}"
        )
    };
    let two = "      - {name: app, image: a, command: [app]}\n      - {name: other, image: a}\n";
    let plain = options("native-sidecar=false");
    assert!(inject(&job("", two), &plain).is_err());
    let text = injected(&job("dragoman.dev/quit: app", two), &plain);
    assert!(text.contains("DRAGOMAN_CONTROL_QUIT_ON_TCP") && !text.contains("--quit"), "{text}");
    let one = "      - {name: app, image: a, command: [app, \"5\"]}\n";
    let text = injected(&job("", one), &plain);
    assert!(text.contains("\"--quit\"") && text.contains("DRAGOMAN_CONTROL_QUIT_ON_TCP"), "{text}");
    let again = injected(&job("", one).replace("Never", "OnFailure"), &plain);
    assert!(again.contains("\"--quit=success\""), "a container that runs again still has its proxy\n{again}");
}

#[test]
fn an_annotation_wins_over_the_option_and_replaces_its_list() {
    let options = options("exclude-ports=22,23 image=other:1 app-config-map=policy");
    let text = injected(&annotated("exclude-ports", "80"), &options);
    assert!(text.contains("- \"80\"\n") && !text.contains("22,23"), "{text}");
    let text = injected(&annotated("exclude-ports", ""), &options);
    assert!(!text.contains("--exclude-port\n"), "nothing is an empty list\n{text}");
    let text = injected(&annotated("config", ""), &options);
    assert!(!text.contains("dragoman-app"), "{text}");
    let text = injected(&annotated("capture", "false"), &options);
    assert!(!text.contains("NET_ADMIN"), "what the platform captures elsewhere does not contradict\n{text}");
}

#[test]
fn what_a_pod_has_for_prometheus_stays() {
    let own = pod("        prometheus.io/port: \"9100\"\n");
    let text = injected(&own, &options("scrape-annotations"));
    assert!(!text.contains("prometheus.io/scrape") && !text.contains("/metrics"), "{text}");
}

/// In the plain form the first container is not the app's any more.
#[test]
fn kubectl_still_means_the_app() {
    let key = "kubectl.kubernetes.io/default-container";
    let text = injected(&pod(""), &options("native-sidecar=false"));
    assert!(text.contains(&format!("{key}: app\n")), "{text}");
    assert!(!injected(&pod(""), &options("")).contains(key));
    let own = injected(&pod(&format!("        {key}: other\n")), &options("native-sidecar=false"));
    assert!(own.contains(&format!("{key}: other\n")) && !own.contains("default-container: app"), "{own}");
}

#[test]
fn the_deadline_comes_from_the_pod() {
    for (grace, drain) in [
        (None, "28s"),
        (Some(30), "28s"),
        (Some(4), "2s"),
        (Some(3), "1500ms"),
        (Some(1), "500ms"),
        (Some(0), "0s"),
        (Some(600), "598s"),
        (Some(3602), "3600s"),
        (Some(i64::MAX), "3600s"),
    ] {
        let grace =
            grace.map(|grace| format!("      terminationGracePeriodSeconds: {grace}\n")).unwrap_or_default();
        let text = pod("").replace("      containers:\n", &format!("{grace}      containers:\n"));
        let text = injected(&text, &options(""));
        assert!(
            text.contains(&format!("DRAGOMAN_PROXY_DRAIN\n              value: {drain}\n")),
            "{grace}\n{text}"
        );
    }
}

/// Texts that could be mistaken for good ones.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[0-9,./: m-]{0,20}",
        "(true|false|on|off|none|app|1|22|10.0.0.0/8|fd00::/8|1Gi|50m)(,(22|0|x|::1))?",
    ]
}

proptest! {
    #[test]
    fn whatever_annotations_say_it_is_taken_or_refused(
        said in prop::collection::vec((0..SETTINGS.len(), value()), 0..6),
        unknown in prop::option::of("[a-z-]{0,80}|\\PC{0,20}"),
        native in any::<bool>(),
    ) {
        let mut annotations: Vec<_> = said.iter().map(|(n, value)| (SETTINGS[*n].name.to_owned(), value.clone())).collect();
        annotations.extend(unknown.map(|name| (name, "true".to_owned())));
        annotations.sort();
        annotations.dedup_by(|one, other| one.0 == other.0);
        let entries: serde_json::Map<String, serde_json::Value> =
            annotations.into_iter().map(|(name, value)| (format!("dragoman.dev/{name}"), value.into())).collect();
        let pod = serde_json::json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "annotations": entries},
            "spec": {"containers": [{"name": "app", "command": ["app"]}]},
        });
        let text = serde_json::to_string_pretty(&pod).unwrap();
        let options = options(if native { "" } else { "native-sidecar=false" });
        match inject(&text, &options) {
            Ok(outcome) => {
                serde_json::from_str::<serde_json::Value>(&outcome.text).expect("JSON stays JSON");
                prop_assert_eq!(dragoman_kube::uninject(&outcome.text).unwrap().text, text);
            }
            Err(refusals) => {
                prop_assert!(!refusals.is_empty());
                for refusal in refusals {
                    prop_assert_eq!(refusal.to_string().lines().count(), 1, "{}", refusal);
                }
            }
        }
    }
}
