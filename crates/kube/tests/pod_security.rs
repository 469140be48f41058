//! What the Pod Security Standards say of pods with dragoman.

mod common;

use common::options;
use common::standards::{against_baseline, against_restricted, containers};
use dragoman_kube::inject;
use serde_json::{Value, json};

/// A pod that `restricted` admits.
fn restricted() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
        "spec": {
            "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "fsGroup": 2000, "seccompProfile": {"type": "RuntimeDefault"}},
            "initContainers": [{"name": "migrate", "image": "app:1", "securityContext": app_rights()}],
            "containers": [{"name": "app", "image": "app:1", "command": ["app"], "securityContext": app_rights()}],
            "volumes": [{"name": "data", "emptyDir": {}}],
        },
    })
}

fn app_rights() -> Value {
    json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}})
}

fn injected(pod: &Value, words: &str) -> Value {
    let text = serde_json::to_string_pretty(pod).unwrap();
    let outcome = inject(&text, &options(words)).unwrap_or_else(|refusals| panic!("{refusals:?}"));
    serde_json::from_str(&outcome.text).unwrap()
}

#[test]
fn the_check_itself_objects() {
    let pod = json!({"spec": {
        "hostPID": true,
        "containers": [{"name": "a", "securityContext": {"privileged": true, "capabilities": {"add": ["SYS_ADMIN"]}}, "ports": [{"hostPort": 80}]}],
        "volumes": [{"name": "v", "hostPath": {"path": "/"}}],
    }});
    assert_eq!(against_baseline(&pod["spec"]).len(), 5);
    let found = against_restricted(&pod["spec"]);
    for reason in [
        "a: runAsNonRoot",
        "a: seccomp",
        "a: does not drop ALL",
        "a: allowPrivilegeEscalation",
        "volume: hostPath",
    ] {
        assert!(found.iter().any(|found| found == reason), "{reason}: {found:?}");
    }
    assert_eq!(against_restricted(&restricted()["spec"]), [""; 0]);
}

#[test]
fn only_the_container_that_writes_the_rules_stands_out() {
    for words in ["", "native-sidecar=false"] {
        let pod = injected(&restricted(), words);
        assert_eq!(against_baseline(&pod["spec"]), ["dragoman-init: NET_ADMIN"], "{words}");
        assert_eq!(
            against_restricted(&pod["spec"]),
            ["dragoman-init: NET_ADMIN", "dragoman-init: runAsNonRoot", "dragoman-init: runAsUser 0"],
            "{words}"
        );
    }
}

#[test]
fn where_nothing_is_captured_nothing_stands_out() {
    for words in
        ["no-capture", "no-capture native-sidecar=false", "no-capture native-sidecar=false probes=none"]
    {
        assert_eq!(against_restricted(&injected(&restricted(), words)["spec"]), [""; 0], "{words}");
    }
}

/// A pod's own settings are for its own containers: of them, nothing that breaks ours is inherited.
#[test]
fn what_the_pod_says_for_all_does_not_reach_ours() {
    let mut pod = restricted();
    pod["spec"]["securityContext"] = json!({
        "runAsNonRoot": true, "runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000, "supplementalGroups": [1001],
        "seccompProfile": {"type": "Localhost", "localhostProfile": "app.json"},
        "appArmorProfile": {"type": "Localhost", "localhostProfile": "app"},
    });
    for words in ["", "native-sidecar=false"] {
        let pod = injected(&pod, words);
        let ours: Vec<_> = containers(&pod["spec"])
            .filter(|container| container["name"].as_str().unwrap().starts_with("dragoman"))
            .collect();
        assert_eq!(ours.len(), if words.is_empty() { 2 } else { 3 });
        for container in ours {
            let is_init = container["name"] == "dragoman-init";
            let id = if is_init { 0 } else { 1337 };
            for (key, value) in [
                ("runAsUser", json!(id)),
                ("runAsGroup", json!(id)),
                ("runAsNonRoot", json!(!is_init)),
                ("privileged", json!(false)),
                ("allowPrivilegeEscalation", json!(false)),
                ("readOnlyRootFilesystem", json!(true)),
                ("seccompProfile", json!({"type": "RuntimeDefault"})),
                ("appArmorProfile", json!({"type": "RuntimeDefault"})),
                (
                    "capabilities",
                    if is_init {
                        json!({"drop": ["ALL"], "add": ["NET_ADMIN"]})
                    } else {
                        json!({"drop": ["ALL"]})
                    },
                ),
            ] {
                assert_eq!(container["securityContext"][key], value, "{} {key}", container["name"]);
            }
        }
        let app = containers(&pod["spec"]).find(|container| container["name"] == "app").unwrap();
        assert_eq!(app["securityContext"], app_rights());
    }
}

#[test]
fn a_guaranteed_pod_stays_guaranteed() {
    let amounts = json!({"cpu": "500m", "memory": "1Gi"});
    let mut pod = restricted();
    pod["spec"]["initContainers"][0]["resources"] = json!({"limits": amounts});
    pod["spec"]["containers"][0]["resources"] =
        json!({"limits": amounts, "requests": {"cpu": 0.5, "memory": "1024Mi"}});
    let is_guaranteed = |pod: &Value| {
        containers(&pod["spec"]).all(|container| {
            let of = &container["resources"];
            let is_set = of["limits"]["cpu"].is_string() && of["limits"]["memory"].is_string();
            let ours = container["name"].as_str().unwrap().starts_with("dragoman");
            is_set && (!ours || of["limits"] == of["requests"])
        })
    };
    for (words, cpu, memory) in [
        ("", "250m", "128Mi"),
        ("native-sidecar=false", "250m", "128Mi"),
        ("no-capture", "250m", "128Mi"),
        ("cpu-limit=100m cpu-request=20m memory-request=1Gi", "100m", "1Gi"),
    ] {
        let pod = injected(&pod, words);
        assert!(is_guaranteed(&pod), "{words}");
        let sidecar = containers(&pod["spec"]).find(|container| container["name"] == "dragoman").unwrap();
        assert_eq!(sidecar["resources"]["limits"], json!({"cpu": cpu, "memory": memory}), "{words}");
    }
    let text = serde_json::to_string_pretty(&pod).unwrap();
    let outcome = inject(&text, &options("cpu-limit=none")).unwrap();
    assert!(outcome.reports[0].warnings[0].contains("no longer Guaranteed"), "{:?}", outcome.reports);
    pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("400m");
    assert!(!is_guaranteed(&injected(&pod, "")), "what is burstable is not made to reserve more");
    pod["spec"]["resources"] = json!({"limits": {"cpu": "1"}});
    let whole = injected(&pod, "");
    assert!(whole["spec"]["initContainers"][0]["resources"].is_null(), "the pod says it for all");
}

#[test]
fn who_may_change_the_rules_is_told() {
    for (rights, told) in [
        (json!({"privileged": true}), "container \"app\" is privileged"),
        (json!({"capabilities": {"add": ["NET_ADMIN"]}}), "container \"app\" has the capability NET_ADMIN"),
        (
            json!({"capabilities": {"add": ["CAP_NET_ADMIN"]}}),
            "container \"app\" has the capability CAP_NET_ADMIN",
        ),
        (json!({"capabilities": {"add": ["ALL"]}}), "container \"app\" has the capability ALL"),
        (json!({"capabilities": {"add": ["net_admin"]}}), "container \"app\" has the capability net_admin"),
    ] {
        let mut pod = restricted();
        pod["spec"]["containers"][0]["securityContext"] = rights;
        let text = serde_json::to_string_pretty(&pod).unwrap();
        let warnings = inject(&text, &options("")).unwrap().reports.remove(0).warnings;
        assert!(warnings.len() == 1 && warnings[0].starts_with(told), "{warnings:?}");
        assert!(inject(&text, &options("no-capture")).unwrap().reports[0].warnings.is_empty());
    }
}

#[test]
fn a_native_sidecar_beside_a_plain_one_is_told() {
    let mut pod = restricted();
    pod["spec"]["initContainers"][0]["restartPolicy"] = json!("Always");
    let text = serde_json::to_string_pretty(&pod).unwrap();
    let warnings = |words| inject(&text, &options(words)).unwrap().reports.remove(0).warnings;
    let plain = warnings("native-sidecar=false");
    assert!(
        plain.len() == 1 && plain[0].starts_with("container \"migrate\" is a native sidecar"),
        "{plain:?}"
    );
    assert_eq!(warnings(""), [""; 0]);
}

#[test]
fn probes_that_would_fail_are_told() {
    let mut pod = restricted();
    pod["spec"]["containers"][0]["ports"] = json!([{"name": "http", "containerPort": 8080}]);
    pod["spec"]["containers"][0]["readinessProbe"] = json!({"httpGet": {"port": "http"}});
    pod["spec"]["containers"][0]["startupProbe"] = json!({"grpc": {"port": 9090}});
    pod["spec"]["containers"][0]["livenessProbe"] = json!({"tcpSocket": {"port": 8080}, "periodSeconds": 5});
    let text = serde_json::to_string_pretty(&pod).unwrap();
    for (words, ports) in [
        ("inbound", Some("8080,9090")),
        ("inbound exclude-inbound-ports=8080", Some("9090")),
        ("inbound include-inbound-ports=8080", Some("8080")),
        ("inbound exclude-inbound-ports=8080,9090", None),
        ("", None),
    ] {
        let warnings = inject(&text, &options(words)).unwrap().reports.remove(0).warnings;
        let said: Vec<_> = warnings.iter().map(|warning| warning.rsplit(' ').next().unwrap()).collect();
        assert_eq!(said, ports.into_iter().collect::<Vec<_>>(), "{words}: {warnings:?}");
    }
}
