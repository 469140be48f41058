//! Real manifests, injected in each form: beside each other in `corpus` and `injected`. Nothing but what is added differs, and all
//! of that can be taken out again.
//!
//! `DRAGOMAN_BLESS=1 cargo test -p dragoman-kube` writes them anew; read the difference.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{files, folder, golden, options, settle, told};
use dragoman_kube::{Done, Options, Original, Refusal, inject, uninject};

/// The folder of each form, and its options.
const FORMS: [(&str, &str); 3] =
    [("native", ""), ("plain", "native-sidecar=false"), ("no-capture", "no-capture")];

fn corpus() -> Vec<PathBuf> {
    let found = files(&folder("corpus"), &["yaml", "json"]);
    assert!(found.len() >= 40, "the corpus is not all there: {}", found.len());
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

fn injected(text: &str, options: &Options) -> Result<String, Vec<Refusal>> {
    inject(text, options).map(|outcome| outcome.text)
}

#[test]
fn each_manifest_is_injected_as_its_file_says() {
    let forms = FORMS.iter().flat_map(|form| corpus().into_iter().map(move |path| (form, path)));
    settle(forms.map(|((form, words), path)| {
        let beside = folder("injected").join(form).join(name(&path));
        match injected(&read(&path), &options(words)) {
            Ok(text) => golden(&beside, &text),
            Err(refusals) => golden(&beside.with_extension("txt"), &told(name(&path), &refusals)),
        }
    }));
}

#[test]
fn what_was_added_comes_out_again_byte_for_byte() {
    for (path, (form, words)) in corpus().iter().flat_map(|path| FORMS.map(|form| (path, form))) {
        let text = read(path);
        let Ok(with) = injected(&text, &options(words)) else { continue };
        let original = Original { text: text.clone(), lost: vec![], left: vec![] };
        assert_eq!(uninject(&with).unwrap(), original, "{} {form}", name(path));
        assert_eq!(uninject(&text).unwrap(), original, "{}: nothing to take out", name(path));
    }
}

#[test]
fn to_inject_again_is_to_inject_once_by_the_later_options() {
    let many = FORMS.map(|(_, words)| options(words));
    let all_said = options(
        "image=other:2 exclude-ports=22 capture-dns=15053 app-config-map=policy scrape-annotations cpu-limit=none",
    );
    let all: Vec<_> = many.into_iter().chain([all_said]).collect();
    for path in corpus() {
        let text = read(&path);
        let once: Vec<_> = all.iter().map(|options| injected(&text, options)).collect();
        for (n, first) in once.iter().enumerate() {
            let Ok(first) = first else { continue };
            for after in [n, (n + 1) % all.len()] {
                let again = injected(first, &all[after]);
                assert_eq!(said(&again, first), said(&once[after], &text), "{} {n} {after}", name(&path));
            }
        }
    }
}

/// What came of it; of refusals also the text of their line, whose number differs, and behind which something may be added.
fn said<'a>(
    result: &'a Result<String, Vec<Refusal>>,
    text: &'a str,
) -> Result<&'a str, Vec<(String, &'a str)>> {
    let line = |refusal: &Refusal| text.lines().nth(refusal.line.unwrap() - 1).unwrap().trim_end_matches(',');
    let told = |refusals: &Vec<Refusal>| {
        refusals.iter().map(|refusal| (refusal.to_string(), line(refusal))).collect()
    };
    result.as_deref().map_err(told)
}

#[test]
fn a_pod_that_wants_nothing_any_more_gets_its_own_back() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\nspec:\n  containers:\n    - name: app\n";
    let with = injected(text, &options("")).unwrap();
    let said =
        with.replace("  name: web\n", "  name: web\n  annotations:\n    dragoman.dev/inject: \"false\"\n");
    let without = injected(&said, &options("")).unwrap();
    assert!(
        without.contains("dragoman.dev/inject: \"false\"") && !without.contains("initContainers"),
        "{without}"
    );
    assert_eq!(uninject(&without).unwrap().text, without);
}

#[test]
fn what_has_no_pods_passes_as_it_is() {
    for text in [
        "",
        "# nothing\n",
        "kind: Service\napiVersion: v1\nspec: {hostNetwork: true}\n",
        "apiVersion: batch.volcano.sh/v1alpha1\nkind: Job\nspec: {tasks: []}\n",
        "just text\n",
        "- a list\n- kind: Pod\n",
        "apiVersion: v1\nkind: PodList\nitems: []\n",
        "{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"data\": {\"pod.yaml\": \"kind: Pod\"}}",
    ] {
        let outcome = inject(text, &options("")).unwrap();
        assert_eq!(outcome.text, text);
        assert!(outcome.reports.iter().all(|report| report.done.is_none()), "{:?}", outcome.reports);
    }
}

/// Whose annotations are refused, but for the one that asks for nothing: tests/refused/unknown-kind.yaml.
#[test]
fn pods_of_a_kind_that_is_not_known_are_told() {
    let text = "apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: web}
spec:
  template:
    metadata: {annotations: {dragoman.dev/inject: \"false\", other: x}}
    spec: {containers: [{name: app}]}
";
    let outcome = inject(text, &options("")).unwrap();
    assert_eq!(outcome.text, text);
    assert_eq!(outcome.reports[0].done, Some(Done::Unknown), "{:?}", outcome.reports);
}

/// Another group may have a list of that name, and the objects in a list need not say what they are.
#[test]
fn objects_of_a_list_are_of_its_group() {
    let list = |version: &str| {
        format!(
            "{version}kind: PodList\nitems:\n- metadata: {{name: a}}\n  spec: {{containers: [{{name: app}}]}}\n"
        )
    };
    for (version, is_pod) in [("", true), ("apiVersion: v1\n", true), ("apiVersion: ex.com/v1\n", false)] {
        let outcome = inject(&list(version), &options("")).unwrap();
        assert_eq!(outcome.reports[0].object, "Pod a");
        assert_eq!(outcome.reports[0].done.is_some(), is_pod, "{version}");
        assert_eq!(outcome.text == list(version), !is_pod, "{version}");
    }
}

/// Each of these is gone with what it was changed in, and nobody would know.
#[test]
fn what_was_changed_since_is_told() {
    let text = "kind: Pod\nmetadata: {name: web}\nspec:\n  containers:\n  - name: app\n    command: [app]\n";
    let with = injected(text, &options("native-sidecar=false scrape-annotations")).unwrap();
    for (old, new, what) in [
        ("value: 28s", "value: 9s", "spec.containers \"dragoman\""),
        (
            "- name: DRAGOMAN_PROXY_DRAIN\n",
            "- name: MINE\n    - name: DRAGOMAN_PROXY_DRAIN\n",
            "spec.containers \"dragoman\"",
        ),
        ("sizeLimit: 1Mi", "sizeLimit: 2Mi", "spec.volumes \"dragoman-run\""),
        (
            "- name: dragoman-bin\n      mountPath: /run/dragoman\n      readOnly: true",
            "- name: dragoman-bin\n      mountPath: /run/dragoman",
            "spec.containers.app.volumeMounts \"dragoman-bin\"",
        ),
        (
            "default-container\": \"app\"",
            "default-container\": \"b\"",
            "metadata.annotations \"kubectl.kubernetes.io/default-container\"",
        ),
        ("io/port\": \"15020\"", "io/port\": \"9\"", "metadata.annotations \"prometheus.io/port\""),
        ("injected\": \"true\"", "injected\": \"no\"", "metadata.labels \"dragoman.dev/injected\""),
    ] {
        let changed = with.replacen(old, new, 1);
        assert_ne!(changed, with, "{old}\n{with}");
        let original = uninject(&changed).unwrap();
        let [lost] = &original.lost[..] else { panic!("{what}: {:?}", original.lost) };
        assert_eq!((&*original.text, &*lost.what), (text, what));
        let key = what.rsplit('"').nth(1).unwrap();
        assert!(changed.lines().nth(lost.line - 1).unwrap().contains(key), "{lost:?}");
        assert_eq!(inject(&changed, &options("")).unwrap().lost, original.lost);
    }
    // What a cluster fills in is nobody's.
    let filled = with
        .replace(
            "    readinessProbe:\n",
            "    imagePullPolicy: IfNotPresent\n    readinessProbe:\n      successThreshold: 1\n",
        )
        .replace("        port: 15020\n", "        port: 15020\n        scheme: HTTP\n");
    assert_ne!(filled, with);
    assert_eq!(uninject(&filled).unwrap().lost, []);
}

/// Such a pod would not start.
#[test]
fn what_no_record_leads_to_any_more_is_told() {
    let text = "kind: Pod\nmetadata: {name: web}\nspec:\n  containers:\n  - name: app\n    command: [app]\n";
    let with = injected(text, &options("native-sidecar=false")).unwrap();
    let renamed = with.replace("- name: app\n", "- name: other\n");
    let original = uninject(&renamed).unwrap();
    let [left] = &original.left[..] else { panic!("{:?}", original.left) };
    assert_eq!(left.what, "spec.containers[0].volumeMounts[0] \"dragoman-bin\"");
    assert!(renamed.lines().nth(left.line - 1).unwrap().contains("dragoman-bin"), "{left:?}");

    let by_hand = text.replace("- name: app\n", "- name: dragoman\n  - name: app\n")
        + "  volumes: [{name: dragoman-run}]\n";
    let left: Vec<_> =
        uninject(&by_hand).unwrap().left.into_iter().map(|part| (part.line, part.what)).collect();
    let known = [(5, "spec.containers[0] \"dragoman\""), (8, "spec.volumes[0] \"dragoman-run\"")];
    assert_eq!(left, known.map(|(line, what)| (line, what.to_owned())));
}

/// Whoever puts another command in the place of the one that waits keeps each of its words.
#[test]
fn a_command_that_was_changed_loses_no_word_of_its_own() {
    let text = "kind: Pod\nmetadata: {}\nspec:\n  containers:\n  - name: a\n    command: [sh]\n";
    let with = injected(text, &options("native-sidecar=false")).unwrap();
    let (waits, own) = (r#""/run/dragoman/dragoman", "wait", "--", "#, "[timeout, --, wait, /app]");
    let whole = format!("[{waits}sh]");
    assert!(with.contains(&whole), "{with}");
    assert_eq!(uninject(&with.replace(&whole, own)).unwrap().text, text.replace("[sh]", own));
    let before = with.replace(&whole, &format!("[strace, {waits}sh, wait]"));
    assert_eq!(uninject(&before).unwrap().text, text.replace("[sh]", "[strace, sh, wait]"));
    let part = uninject(&with.replace(r#""wait", "--", sh"#, "sh, --")).unwrap_err();
    assert!(part[0].reason.contains("was added with others"), "{}", part[0]);
}
