//! Pods of which any part is of any type: each is injected or refused, in one line with a reason, and nothing panics.

mod common;

use common::options;
use dragoman_kube::{Edit, Pod, Value, inject, plan, uninject};
use proptest::prelude::*;

/// All that is looked at in a pod, with values that it could have.
fn likely() -> impl Strategy<Value = Value> {
    let names = prop::sample::select(vec![
        "app",
        "dragoman",
        "dragoman-init",
        "",
        "x",
        "linux",
        "windows",
        "Never",
        "ALL",
        "cpu",
    ]);
    let numbers = prop::sample::select(vec![0, 1, 30, 80, 1337, 15001, 15020, -1, i64::MAX, i64::MIN]);
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        numbers.prop_map(Value::from),
        Just(Value::Number("1.5e3".to_owned())),
        names.prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
    ]
}

fn key() -> impl Strategy<Value = String> {
    let known = vec![
        "metadata",
        "spec",
        "labels",
        "annotations",
        "name",
        "containers",
        "initContainers",
        "volumes",
        "ports",
        "containerPort",
        "securityContext",
        "runAsUser",
        "runAsGroup",
        "fsGroup",
        "supplementalGroups",
        "capabilities",
        "add",
        "hostNetwork",
        "os",
        "nodeSelector",
        "command",
        "volumeMounts",
        "mountPath",
        "resources",
        "limits",
        "requests",
        "cpu",
        "memory",
        "restartPolicy",
        "terminationGracePeriodSeconds",
        "ephemeralContainers",
        "dragoman.dev/inject",
        "dragoman.dev/exclude-ports",
        "dragoman.dev/capture",
        "template",
        "jobTemplate",
        "items",
        "kind",
    ];
    prop::sample::select(known).prop_map(str::to_owned)
}

fn anything() -> impl Strategy<Value = Value> {
    likely().prop_recursive(6, 48, 5, |inner| {
        let entries = prop::collection::btree_map(key(), inner.clone(), 0..5);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::List),
            entries.prop_map(|entries| Value::Map(entries.into_iter().collect())),
        ]
    })
}

/// A pod that is right but for one thing, at any depth.
fn nearly_right() -> impl Strategy<Value = Value> {
    (any::<prop::sample::Index>(), anything()).prop_map(|(at, other)| {
        let rights = Value::from([
            ("runAsUser", Value::from(5)),
            ("capabilities", Value::from([("add", Value::from(vec!["KILL"]))])),
        ]);
        let mount = Value::from([("name", "v"), ("mountPath", "/v")]);
        let amounts = Value::from([("limits", Value::from([("cpu", "1"), ("memory", "1Gi")]))]);
        let container = Value::from([
            ("name", Value::from("app")),
            ("command", Value::from(vec!["app"])),
            ("ports", Value::from(vec![Value::from([("containerPort", Value::from(80))])])),
            ("securityContext", rights),
            ("volumeMounts", Value::from(vec![mount])),
            ("resources", amounts),
        ]);
        let spec = Value::from([
            ("restartPolicy", Value::from("Always")),
            ("securityContext", Value::from([("supplementalGroups", Value::from(vec![Value::from(7)]))])),
            ("containers", Value::from(vec![container])),
            ("volumes", Value::from(vec![Value::from([("name", "v")])])),
        ]);
        let metadata = Value::from([
            ("labels", Value::from([("app", "web")])),
            ("annotations", Value::from([("a", "b")])),
        ]);
        let mut pod = Value::from([("metadata", metadata), ("spec", spec)]);
        let target = at.index(count(&pod));
        replace(&mut pod, &mut { target }, &other);
        pod
    })
}

fn children(value: &mut Value) -> Vec<&mut Value> {
    match value {
        Value::List(items) => items.iter_mut().collect(),
        Value::Map(entries) => entries.iter_mut().map(|(_, value)| value).collect(),
        _ => Vec::new(),
    }
}

fn count(value: &Value) -> usize {
    1 + children(&mut value.clone()).into_iter().map(|child| count(child)).sum::<usize>()
}

/// Puts `other` in the place of a node, counted from the root.
fn replace(value: &mut Value, left: &mut usize, other: &Value) -> bool {
    if *left == 0 {
        *value = other.clone();
        return true;
    }
    *left -= 1;
    children(value).into_iter().any(|child| replace(child, left, other))
}

/// As an object of the kind, in JSON.
fn object(pod: &Value, kind: &str) -> String {
    let part = |key: &str| pod.get(key).cloned().unwrap_or(Value::Null);
    let version = ("apiVersion", Value::from(if kind == "Job" { "batch/v1" } else { "v1" }));
    let entries = [version, ("kind", Value::from(kind))];
    match kind {
        "Pod" => Value::from([
            entries[0].clone(),
            entries[1].clone(),
            ("metadata", part("metadata")),
            ("spec", part("spec")),
        ]),
        _ => Value::from([
            entries[0].clone(),
            entries[1].clone(),
            ("spec", Value::from([("template", pod.clone())])),
        ]),
    }
    .to_string()
}

/// Were each reason compared with all others, or all pods written again for each that cannot be, this would take minutes.
#[test]
fn many_reasons_take_no_time() {
    let ports = "    - containerPort: 15001\n".repeat(10_000);
    let text = format!("kind: Pod\nmetadata: {{}}\nspec:\n  containers:\n  - name: a\n    ports:\n{ports}");
    assert_eq!(inject(&text, &options("")).unwrap_err().len(), 10_000);
    let pod = "kind: Pod\nmetadata: {labels: &l {a: b}}\nspec: {containers: [{name: a}], nodeSelector: *l}\n";
    // Their lines are those of the text with what is taken out of it before, whatever ends a line.
    for newline in ["\n", "\r\n", "\r"] {
        let lines = |text: &str| text.replace('\n', newline);
        let with =
            inject(&lines("kind: Pod\nspec:\n  containers:\n  - name: a\n---\n"), &options("")).unwrap().text;
        let (before, all) = (with.replace("\r\n", "\n").matches(['\n', '\r']).count(), with + &lines(&text));
        let refusals = inject(&all, &options("")).unwrap_err();
        let found: Vec<_> = refusals.iter().filter_map(|refusal| refusal.line).collect();
        assert!(found.into_iter().eq(before + 7..before + 7 + 10_000), "{newline:?}: {:?}", refusals[0]);
    }
    let refusals = inject(&vec![pod; 500].join("---\n"), &options("")).unwrap_err();
    assert!(refusals[0].reason.contains("anchor") && refusals.len() >= 100, "{}", refusals[0]);
}

proptest! {
    #[test]
    fn any_pod_is_injected_or_refused(
        pod in prop_oneof![nearly_right(), anything()],
        words in prop::sample::select(vec!["", "native-sidecar=false", "no-capture", "inbound capture-dns=15053"]),
        kind in prop::sample::select(vec!["Pod", "Job"]),
    ) {
        let text = object(&pod, kind);
        match inject(&text, &options(words)) {
            Ok(outcome) => {
                serde_json::from_str::<serde_json::Value>(&outcome.text).expect("JSON stays JSON");
                let original = uninject(&outcome.text).unwrap();
                prop_assert_eq!((original.text, original.lost), (text, vec![]));
            }
            Err(refusals) => {
                prop_assert!(!refusals.is_empty());
                for refusal in &refusals {
                    prop_assert!(refusal.line == Some(1) && refusal.to_string().lines().count() == 1, "{}", refusal);
                }
            }
        }
    }

    /// What a webhook asks, with nothing of a text.
    #[test]
    fn the_decision_is_a_function_of_the_pod_alone(pod in nearly_right()) {
        let null = Value::Null;
        let part = |key| pod.get(key).unwrap_or(&null);
        let of = Pod { object: "Pod a".to_owned(), at: Default::default(), metadata: part("metadata"), spec: part("spec"), is_job: false };
        let once = plan(&of, &options(""));
        prop_assert_eq!(&once, &plan(&of, &options("")));
        if let Ok(plan) = once {
            let is_one = |edit: &Edit| match edit {
                Edit::Entry { map, .. } => map.to_string().starts_with("metadata."),
                Edit::Items { list, items, .. } => list.to_string().starts_with("spec.") && !items.is_empty(),
            };
            prop_assert!(plan.edits.iter().all(is_one), "{:?}", plan.edits);
        }
    }
}
