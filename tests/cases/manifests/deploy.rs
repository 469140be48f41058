//! `deploy/kubernetes`, as `kubectl kustomize` builds it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use dragoman_harness::binaries;
use dragoman_harness::process;
use dragoman_harness::scratch::Scratch;
use serde_json::Value;

use crate::kubelet;
use crate::oracles::{self, NEWEST, Verdict, repository};
use crate::standards::against_restricted;

/// All that is wrong with the objects of files, but with what Kubernetes has no schema of.
fn faults(verdicts: &[Verdict]) -> Vec<String> {
    let mut all: Vec<_> = verdicts.iter().flat_map(Verdict::all_errors).collect();
    all.retain(|error| !error.contains(" of monitoring.coreos.com/v1"));
    let objects = || verdicts.iter().flat_map(|verdict| &verdict.objects);
    let monitoring: Vec<_> = objects().filter(|object| oracles::is_monitoring(object)).collect();
    if !monitoring.is_empty() {
        all.extend(oracles::monitoring(&monitoring).concat());
    }
    all.extend(objects().filter_map(kubelet::pod).flat_map(|pod| pod.complaints()));
    all
}

/// Builds a kustomization, and answers what it has when all oracles agree.
fn built(scratch: &Scratch, name: &str, folder: &Path) -> Verdict {
    judged(&[scratch.write(name, oracles::kustomize(folder))]).remove(0)
}

/// What these files have, when all oracles agree.
fn judged(files: &[PathBuf]) -> Vec<Verdict> {
    let verdicts = oracles::schemas(&NEWEST, files).into_iter();
    let verdicts: Vec<_> = verdicts.map(|verdict| verdict.expect("Kubernetes reads it")).collect();
    assert_eq!(faults(&verdicts), Vec::<String>::new(), "{files:?}");
    assert_eq!(oracles::decode(files), Vec::<String>::new(), "{files:?}");
    verdicts
}

fn one(versions: &[&str], file: &PathBuf) -> Verdict {
    oracles::schemas(versions, std::slice::from_ref(file)).remove(0).expect("Kubernetes reads it")
}

fn names(verdict: &Verdict) -> Vec<String> {
    let name = |object: &Value| {
        format!(
            "{} {}",
            object["kind"].as_str().expect("a kind"),
            object["metadata"]["name"].as_str().expect("a name")
        )
    };
    let mut names: Vec<_> = verdict.objects.iter().map(name).collect();
    names.sort();
    names
}

#[test]
fn the_base_is_a_policy_and_who_may_look() {
    let scratch = Scratch::new("base");
    let base = built(&scratch, "base.yaml", &repository("deploy/kubernetes/base"));
    // No hash behind the name: a change is one of the same object, which the pods that are there see.
    assert_eq!(names(&base), ["ConfigMap dragoman-platform", "NetworkPolicy dragoman"]);
    let normal = fs::read_to_string(repository("deploy/policies/normal.toml")).expect("the policy");
    assert_eq!(base.of_kind("ConfigMap")[0]["data"]["platform.toml"], normal, "the copy differs");
}

#[test]
fn the_overlay_is_the_base_the_examples_and_what_monitors_them() {
    let scratch = Scratch::new("overlay");
    let files = [("overlay.yaml", "overlays/production"), ("examples.yaml", "examples")];
    let files = files.map(|(name, folder)| {
        scratch.write(name, oracles::kustomize(&repository("deploy/kubernetes").join(folder)))
    });
    let [overlay, examples] = &judged(&files)[..] else { unreachable!("two files") };
    let mut expected = names(examples);
    expected.extend(
        [
            "ConfigMap checkout-policy",
            "ConfigMap dragoman-platform",
            "NetworkPolicy dragoman",
            "PodMonitor dragoman",
            "PrometheusRule dragoman",
        ]
        .map(str::to_owned),
    );
    expected.sort();
    assert_eq!(names(overlay), expected);
    let kinds = ["Deployment", "StatefulSet", "Job", "CronJob"];
    assert!(kinds.iter().all(|kind| !overlay.of_kind(kind).is_empty()), "{:?}", names(overlay));
    let rules = overlay.of_kind("NetworkPolicy")[0]["spec"]["ingress"].as_array().expect("rules").len();
    assert_eq!(rules, 1, "Prometheus alone");
}

/// Each component with the base, by itself: a namespace takes those that it wants.
#[test]
fn each_component_goes_with_the_base() {
    const COMPONENTS: [(&str, &[&str]); 3] = [
        ("alerts", &["PrometheusRule dragoman"]),
        ("pod-monitor", &["PodMonitor dragoman"]),
        ("service-monitor", &["Service dragoman", "ServiceMonitor dragoman"]),
    ];
    let scratch = Scratch::new("component");
    // A kustomization refers to others by paths relative to its own, so that the tree is copied.
    process::succeed(Command::new("cp").arg("-r").arg(repository("deploy/kubernetes")).arg(scratch.path()));
    let files = COMPONENTS.map(|(component, _)| {
        let folder = scratch.path().join("kubernetes/overlays").join(component);
        fs::create_dir_all(&folder).expect("the scratch is ours");
        let text =
            format!("resources: [../../base]\ncomponents: [../../components/{component}]\nnamespace: shop\n");
        fs::write(folder.join("kustomization.yaml"), text).expect("the scratch is ours");
        scratch.write(&format!("{component}.yaml"), oracles::kustomize(&folder))
    });
    for ((_, expected), all) in COMPONENTS.iter().zip(judged(&files)) {
        let mut names = names(&all);
        names.retain(|name| !["ConfigMap dragoman-platform", "NetworkPolicy dragoman"].contains(&&**name));
        assert_eq!(names, *expected);
        assert_eq!(all.objects.len(), expected.len() + 2);
    }
}

/// The examples are what careful teams write who have never heard of dragoman.
#[test]
fn the_examples_know_nothing_of_dragoman() {
    let scratch = Scratch::new("examples");
    let examples = built(&scratch, "examples.yaml", &repository("deploy/kubernetes/examples"));
    assert!(!fs::read_to_string(scratch.path().join("examples.yaml")).expect("built").contains("dragoman"));
    let pods: Vec<_> = examples.objects.iter().filter_map(kubelet::pod).collect();
    assert_eq!(pods.len(), 5);
    for pod in pods {
        assert_eq!(against_restricted(pod.spec), [""; 0], "{}", pod.name);
    }
}

#[test]
fn the_pods_for_one_machine_are_valid() {
    let pods = judged(&[repository("deploy/kubernetes/examples/pods.yaml")]).remove(0);
    assert_eq!(names(&pods), ["ConfigMap dragoman-platform", "Pod checkout", "Pod orders"]);
}

/// Every policy in a ConfigMap is one that the proxy takes, alone and on top of the platform's.
#[test]
fn the_policies_in_configmaps_are_valid() {
    let scratch = Scratch::new("policies");
    let overlay = oracles::kustomize(&repository("deploy/kubernetes/overlays/production"));
    let overlay = scratch.write("overlay.yaml", overlay);
    let pods = repository("deploy/kubernetes/examples/pods.yaml");
    let mut checked = Vec::new();
    for file in [overlay, pods] {
        let verdict = one(&NEWEST[..1], &file);
        let maps = verdict.of_kind("ConfigMap").into_iter().filter_map(|map| map["data"].as_object());
        for (name, policy) in maps.flatten().filter(|(name, _)| name.ends_with(".toml")) {
            let file = scratch.write(name, policy.as_str().expect("text"));
            process::succeed(Command::new(binaries::dragoman()).arg("check").arg(&file));
            checked.push(file);
        }
    }
    checked.sort();
    checked.dedup();
    process::succeed(Command::new(binaries::dragoman()).arg("check").args(&checked));
    assert_eq!(checked.len(), 2, "the platform's and the app's: {checked:?}");
}

/// What is changed in the example of a StatefulSet, and what is then found.
const FAULTS: [[&str; 3]; 9] = [
    ["serviceName:", "servceName:", "'servceName' was unexpected"],
    ["replicas: 2", "replicas: two", "is not of types"],
    ["mountPath: /data", "mountPath: data", "at no absolute path"],
    [
        "- name: data\n              mount",
        "- name: dat\n              mount",
        "mounts `dat`, which is no volume",
    ],
    ["port: http\n          resources", "port: htp\n          resources", "asks a port `htp`"],
    ["name: first-order", "name: ledger", "container `ledger` twice"],
    ["memory: 16Mi", "memory: 64Mi", "asks for more memory than its limit"],
    ["runAsUser: 1000", "runAsUser: 0", "which runAsNonRoot forbids"],
    ["- name: first-order\n", "- name: first-order\n          lifecycle: {}\n", "has no lifecycle"],
];

/// The oracles see what they are there for.
#[test]
fn each_fault_is_found() {
    let scratch = Scratch::new("faulty");
    let good = repository("deploy/kubernetes/examples/statefulset.yaml");
    let good = fs::read_to_string(good).expect("the example");
    let bad = FAULTS.iter().enumerate().map(|(n, [from, to, _])| {
        assert!(good.contains(from), "{from}");
        scratch.write(&format!("{n}.yaml"), good.replace(from, to))
    });
    let verdicts = oracles::schemas(&NEWEST, &bad.collect::<Vec<_>>());
    for ([_, to, found], verdict) in FAULTS.iter().zip(verdicts) {
        let faults = faults(&[verdict.expect("Kubernetes reads it")]);
        assert!(faults.iter().any(|fault| fault.contains(found)), "{to}: {faults:?}");
    }
    let file = scratch.write("bad.yaml", good.replace("memory: 16Mi", "memory: 16Mx"));
    assert!(oracles::decode(&[file])[0].contains("quantities must match"));
    let rule = repository("deploy/kubernetes/components/alerts/prometheus-rule.yaml");
    let mut rule = one(&NEWEST[..1], &rule).objects.remove(0);
    rule["spec"]["groups"][0]["rules"][0]["alrt"] = "x".into();
    assert_eq!(oracles::monitoring(&[&rule]), [["/spec/groups/0/rules/0/alrt is unknown"]]);
}
