//! What `dragoman inject` makes, of a corpus of manifests and of `deploy/kubernetes`, in each form.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dragoman_harness::binaries;
use dragoman_harness::process::{self, text};
use dragoman_harness::scratch::Scratch;
use serde_json::Value;

use crate::kubelet::{self, Pod};
use crate::oracles::{self, NEWEST, Verdict, repository};
use crate::standards::against_restricted;

/// Refused by `dragoman inject`, and said so.
const REFUSED: i32 = 2;

/// Files of the corpus that are YAML, and yet not read by Kubernetes: one with a directive.
const UNREAD: [&str; 1] = ["pod-markers.yaml"];

/// A form, and the options that make it.
struct Form {
    name: &'static str,
    options: &'static [&'static str],
    /// Further versions of Kubernetes that take it, the oldest one.
    oldest: &'static str,
    /// What it adds to what Pod Security's level `restricted` forbids.
    forbidden: &'static [&'static str],
    /// How a pod with it looks.
    look: fn(&Pod<'_>) -> bool,
}

const ROOT: [&str; 3] =
    ["dragoman-init: NET_ADMIN", "dragoman-init: runAsNonRoot", "dragoman-init: runAsUser 0"];

const FORMS: [Form; 4] = [
    Form { name: "native", options: &[], oldest: "1.29", forbidden: &ROOT, look: is_native },
    Form {
        name: "plain",
        options: &["--native-sidecar=false"],
        oldest: "1.25",
        forbidden: &ROOT,
        look: is_plain,
    },
    Form {
        name: "plain-for-podman",
        options: &["--native-sidecar=false", "--probes=none", "--scrape-annotations=true"],
        oldest: "1.25",
        forbidden: &ROOT,
        look: |pod| is_plain(pod) && pod.containers()[0]["livenessProbe"].is_null(),
    },
    Form {
        name: "no-capture",
        options: &["--no-capture"],
        oldest: "1.29",
        forbidden: &[],
        look: |pod| names(pod.init_containers()).first() == Some(&"dragoman"),
    },
];

/// First the rules, then the proxy, and the app's own init containers behind them.
fn is_native(pod: &Pod<'_>) -> bool {
    let init = pod.init_containers();
    let is_ours = |container: &&str| container.starts_with("dragoman");
    names(init).starts_with(&["dragoman-init", "dragoman"])
        && init[0]["restartPolicy"].is_null()
        && init[1]["restartPolicy"] == "Always"
        && !init[1]["startupProbe"].is_null()
        && !names(&init[2..]).iter().chain(&names(pod.containers())).any(is_ours)
}

/// The rules after all that is not captured; the proxy before all that is, which it holds back.
fn is_plain(pod: &Pod<'_>) -> bool {
    names(pod.init_containers()).last() == Some(&"dragoman-init")
        && names(pod.containers()).first() == Some(&"dragoman")
        && pod
            .init_containers()
            .iter()
            .all(|container| container["restartPolicy"].is_null() || container["name"] != "dragoman")
        && !pod.containers()[0]["lifecycle"]["postStart"]["exec"].is_null()
}

fn names(containers: &[Value]) -> Vec<&str> {
    containers.iter().map(|container| container["name"].as_str().expect("a name")).collect()
}

fn inject(file: &Path, options: &[&str]) -> Output {
    process::output(Command::new(binaries::dragoman()).arg("inject").args(options).arg("-f").arg(file))
}

/// The corpus of the crate, and what teams deploy by the example.
pub(crate) fn manifests(scratch: &Scratch) -> Vec<PathBuf> {
    let corpus = fs::read_dir(repository("crates/kube/tests/corpus")).expect("the corpus");
    let mut files: Vec<_> = corpus.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json"));
    files.push(repository("deploy/kubernetes/examples/pods.yaml"));
    for folder in ["examples", "overlays/production"] {
        let built = oracles::kustomize(&repository("deploy/kubernetes").join(folder));
        files.push(scratch.write(&format!("{}.yaml", folder.replace('/', "-")), built));
    }
    files.sort();
    files
}

/// Files that a form takes, and what it makes of each.
pub(crate) fn taken(
    form: &str,
    options: &[&str],
    files: &[PathBuf],
    scratch: &Scratch,
) -> Vec<(PathBuf, PathBuf)> {
    let mut taken = Vec::new();
    for file in files {
        let output = inject(file, options);
        let name = file.file_name().expect("a name").to_string_lossy();
        match output.status.code() {
            Some(0) => {
                let made = scratch.write(&format!("{form}-{name}"), &output.stdout);
                taken.push((file.clone(), made));
            }
            Some(REFUSED) => assert!(output.stdout.is_empty(), "{name}: refused, and yet written"),
            _ => panic!("{name}: {}\n{}", output.status, text(&output)),
        }
    }
    taken
}

/// Errors, without the place in a list, which what is added before it moves.
fn placeless(errors: Vec<String>) -> BTreeSet<String> {
    let is_index = |part: &str| part.parse::<usize>().is_ok();
    let placeless =
        |error: String| error.split('.').filter(|part| !is_index(part)).collect::<Vec<_>>().join(".");
    errors.into_iter().map(placeless).collect()
}

fn complaints(verdict: &Verdict) -> BTreeSet<String> {
    verdict.objects.iter().filter_map(kubelet::pod).flat_map(|pod| pod.complaints()).collect()
}

/// How many files Kubernetes' own types do not take, and why.
fn decoded(files: &[PathBuf]) -> BTreeMap<String, usize> {
    let mut reasons = BTreeMap::new();
    for refusal in oracles::decode(files) {
        let (_, reason) = refusal.rsplit_once("\": ").expect("a file, and a reason");
        *reasons.entry(reason.to_owned()).or_default() += 1;
    }
    reasons
}

fn is_injected(object: &Value) -> bool {
    kubelet::pod(object).is_some_and(|pod| pod.container("dragoman").is_some())
}

/// What is wrong with what a form makes: of what was right before, all must be right.
fn wrong(form: &Form, before: &Verdict, after: &Verdict) -> Vec<String> {
    let mut wrong: Vec<_> =
        placeless(after.all_errors()).difference(&placeless(before.all_errors())).cloned().collect();
    wrong.extend(complaints(after).difference(&complaints(before)).cloned());
    for (before, after) in before.objects.iter().zip(&after.objects) {
        if !is_injected(after) {
            if before != after {
                wrong.push(format!("changed, and not injected: {before}"));
            }
            continue;
        }
        let (before, after) = (kubelet::pod(before).expect("a pod"), kubelet::pod(after).expect("a pod"));
        let [already, forbidden] =
            [&before, &after].map(|pod| BTreeSet::from_iter(against_restricted(pod.spec)));
        let added = &forbidden - &already;
        if !(form.look)(&after) {
            wrong.push(format!("{} {}: not the {} form", after.kind, after.name, form.name));
        }
        if !added.iter().eq(form.forbidden) {
            wrong.push(format!("{} {}: further things are forbidden: {added:?}", after.kind, after.name));
        }
    }
    if before.objects.len() != after.objects.len() {
        wrong.push("there are more objects, or less".to_owned());
    }
    wrong
}

#[test]
fn what_is_made_is_valid_wherever_the_manifest_was() {
    let scratch = Scratch::new("injected");
    let files = manifests(&scratch);
    let mut unread = BTreeSet::new();
    for form in &FORMS {
        let pairs = taken(form.name, form.options, &files, &scratch);
        let (before, after): (Vec<_>, Vec<_>) = pairs.iter().cloned().unzip();
        let versions: Vec<_> = [form.oldest].into_iter().chain(NEWEST).collect();
        let mut verdicts = oracles::schemas(&versions, &[before.clone(), after.clone()].concat());
        let made = verdicts.split_off(before.len());
        let mut injected = 0;
        for (file, verdicts) in before.iter().zip(verdicts.iter().zip(&made)) {
            let (Some(before), Some(after)) = verdicts else {
                assert!(verdicts.0.is_none() && verdicts.1.is_none(), "only one is read: {}", file.display());
                unread.insert(file.file_name().expect("a name").to_string_lossy().into_owned());
                continue;
            };
            let found = wrong(form, before, after);
            assert_eq!(found, Vec::<String>::new(), "{} of {}", form.name, file.display());
            injected += after.objects.iter().filter(|object| is_injected(object)).count();
        }
        println!("{}: {} of {} files taken, {injected} pods", form.name, pairs.len(), files.len());
        assert!(injected > files.len() / 2, "{}: {injected} pods in {} files", form.name, files.len());
        assert_eq!(decoded(&after), decoded(&before), "{}", form.name);
    }
    assert!(unread.iter().eq(&UNREAD), "{unread:?}");
}

/// The schemas would see the difference: those of Kubernetes before native sidecars know none.
#[test]
fn a_native_sidecar_is_nothing_for_old_versions() {
    let scratch = Scratch::new("old");
    let file =
        scratch.write("job.yaml", fs::read(repository("deploy/kubernetes/examples/job.yaml")).expect("it"));
    for (form, is_allowed) in [(&FORMS[0], false), (&FORMS[1], true)] {
        let made = taken(form.name, form.options, std::slice::from_ref(&file), &scratch).remove(0).1;
        let errors = oracles::schemas(&["1.27"], &[made]).remove(0).expect("it is read").all_errors();
        assert_eq!(errors.is_empty(), is_allowed, "{}: {errors:?}", form.name);
        assert!(is_allowed || errors.iter().all(|error| error.contains("'restartPolicy' was unexpected")));
    }
}

/// The base and the components find injected pods by what `inject` makes: label, port and its name, ConfigMap.
#[test]
fn monitors_and_policies_fit_what_is_injected() {
    let scratch = Scratch::new("fit");
    let overlay = oracles::kustomize(&repository("deploy/kubernetes/overlays/production"));
    let overlay = scratch.write("overlay.yaml", overlay);
    let made = taken("native", &[], std::slice::from_ref(&overlay), &scratch).remove(0).1;
    let service = repository("deploy/kubernetes/components/service-monitor/service.yaml");
    let read = oracles::schemas(&NEWEST[..1], &[made, service]);
    let [Some(made), Some(service)] = &read[..] else { panic!("not all are read") };

    let deployment = made.of_kind("Deployment").into_iter().find(|object| is_injected(object)).expect("one");
    let template = &deployment["spec"]["template"];
    let pod = kubelet::pod(deployment).expect("it has pods");
    let sidecar = pod.container("dragoman").expect("it is injected");
    let (label, port) = (&template["metadata"]["labels"]["dragoman.dev/injected"], &sidecar["ports"][0]);
    assert_eq!(label, "true");
    let selectors = [
        &made.of_kind("PodMonitor")[0]["spec"]["selector"]["matchLabels"],
        &made.of_kind("NetworkPolicy")[0]["spec"]["podSelector"]["matchLabels"],
        &service.objects[0]["spec"]["selector"],
    ];
    for selector in selectors {
        assert_eq!(*selector, serde_json::json!({ "dragoman.dev/injected": label }));
    }
    assert_eq!(made.of_kind("PodMonitor")[0]["spec"]["podMetricsEndpoints"][0]["port"], port["name"]);
    let rule = &made.of_kind("NetworkPolicy")[0]["spec"]["ingress"][0];
    assert_eq!(rule["ports"][0]["port"], port["containerPort"]);
    assert_eq!(service.objects[0]["spec"]["ports"][0]["targetPort"], port["containerPort"]);

    let maps: Vec<_> = kubelet::list(&pod.spec["volumes"])
        .iter()
        .filter_map(|volume| {
            volume["configMap"]["name"]
                .as_str()
                .filter(|_| volume["name"].as_str().is_some_and(|name| name.starts_with("dragoman-")))
        })
        .collect();
    assert_eq!(maps, ["dragoman-platform", "checkout-policy"]);
    let there: Vec<_> = made.of_kind("ConfigMap").iter().map(|map| map["metadata"]["name"].clone()).collect();
    assert!(maps.iter().all(|map| there.iter().any(|there| there == map)), "{there:?}");
}
