//! Texts, edits and what comes of them.

mod corpus;
mod forms;
mod random;
mod refused;
mod style;

use super::*;
use crate::edit::{Edit, End, Path};
use crate::value::Value;

/// The text without what the records in it name.
fn undo(text: &str) -> Result<String, Wrong> {
    taken_out(text, |_, _| true).map(|undone| undone.text)
}

/// `a.0.b`.
fn path(text: &str) -> Path {
    text.split('.').filter(|step| !step.is_empty()).fold(Path::default(), |path, step| match step.parse() {
        Ok(index) => path.index(index),
        Err(_) => path.key(step),
    })
}

/// All that looks like a pod: where it is, and how many containers it has.
fn pods(value: &Value) -> Vec<(Path, usize)> {
    fn walk(value: &Value, here: &Path, found: &mut Vec<(Path, usize)>) {
        let containers = value.at(&["spec", "containers"]).map(Value::items).unwrap_or_default();
        if !containers.is_empty() && containers.iter().all(|container| container.get("name").is_some()) {
            found.push((here.clone(), containers.len()));
        }
        value.entries().iter().for_each(|(key, value)| walk(value, &here.key(key), found));
        value.items().iter().enumerate().for_each(|(n, value)| walk(value, &here.index(n), found));
    }
    let mut found = Vec::new();
    walk(value, &Path::default(), &mut found);
    found
}

/// Something of every form that a manifest has.
fn thing(name: &str) -> Value {
    let nested = Value::from([
        ("empty", Value::Map(vec![])),
        ("none", Value::List(vec![])),
        ("null", Value::Null),
        (
            "list",
            Value::List(vec![
                "a".into(),
                1.into(),
                Value::from([("x", Value::from("1")), ("y", true.into())]),
            ]),
        ),
        ("lists", Value::List(vec![Value::from(vec!["a", "b"]), Value::Map(vec![])])),
    ]);
    Value::from([
        ("name", Value::from(name)),
        (
            "texts",
            Value::from(vec![
                "1337",
                "on",
                "it's \"so\"",
                "a: b # c",
                "two\nlines\t\u{e9}\u{2028}",
                "",
                "- x",
            ]),
        ),
        ("number", Value::from(1337)),
        ("nested", nested),
    ])
}

/// What is added to one pod: something of every kind that an injection adds.
fn edits(pod: &Path, containers: usize) -> Vec<Edit> {
    let of = |path: &str| {
        path.split('.').fold(pod.clone(), |path, step| match step.parse() {
            Ok(index) => path.index(index),
            Err(_) => path.key(step),
        })
    };
    let mut edits = vec![
        Edit::Items {
            list: of("spec.initContainers"),
            end: End::First,
            items: vec![thing("dragoman-init"), thing("dragoman")],
        },
        Edit::Items { list: of("spec.containers"), end: End::First, items: vec![thing("dragoman-side")] },
        Edit::Items { list: of("spec.containers"), end: End::Last, items: vec![thing("dragoman-last")] },
        Edit::Entry { map: of("metadata.labels"), key: "dragoman.dev/injected".into(), value: "true".into() },
        Edit::Items {
            list: of("spec.volumes"),
            end: End::Last,
            items: vec![thing("dragoman-run"), thing("dragoman-app")],
        },
        Edit::Entry { map: of("spec.made.deep"), key: "in".into(), value: thing("here") },
    ];
    for n in 0..containers {
        let of = |key: &str| of(&format!("spec.containers.{n}.{key}"));
        let command = ["/run/dragoman/dragoman", "wait", "--"].map(Value::from);
        edits.push(Edit::Items { list: of("command"), end: End::First, items: command.to_vec() });
        edits.push(Edit::Items {
            list: of("volumeMounts"),
            end: End::Last,
            items: vec![thing("dragoman-bin")],
        });
    }
    edits
}

/// All pods of a text with their edits.
fn all_edits(text: &str) -> Result<String, Wrong> {
    let documents = parse(text)?;
    let mut all = Vec::new();
    for (number, document) in documents.iter().enumerate() {
        for (pod, containers) in pods(document.value()) {
            all.push((number, pod.key("metadata"), edits(&pod, containers)));
        }
    }
    apply(text, &documents, &all)
}

/// The text with the edits of a small injection into the pod at its root, which gives every byte back.
fn injected(text: &str) -> String {
    let new = all_edits(text).unwrap_or_else(|wrong| panic!("{wrong}\n{text}"));
    assert_ne!(new, text);
    assert_eq!(undo(&new).unwrap(), text);
    new
}

/// What stands before the text of a case: where the record of its edits goes.
const HEAD: &str = "spec:\n  initContainers:\n  - name: first\n";

/// The text with edits of the pod at its root, which has no `spec` of its own.
fn with(text: &str, mut edits: Vec<Edit>) -> Result<String, Wrong> {
    let carrier = Value::from([("name", CARRIER)]);
    edits.push(Edit::Items { list: path("spec.initContainers"), end: End::First, items: vec![carrier] });
    let head = if text.contains("\r\n") { HEAD.replace('\n', "\r\n") } else { HEAD.to_owned() };
    let whole = head.clone() + text;
    let of_text = |wrong: Wrong| Wrong { line: wrong.line.saturating_sub(HEAD.lines().count()), ..wrong };
    let new = apply(&whole, &parse(&whole)?, &[(0, path("metadata"), edits)]).map_err(of_text)?;
    assert_eq!(undo(&new).unwrap(), whole);
    Ok(new)
}

fn last(list: &str, items: &[&str]) -> Edit {
    Edit::Items {
        list: path(list),
        end: End::Last,
        items: items.iter().map(|item| Value::from(*item)).collect(),
    }
}

fn first(list: &str, items: &[&str]) -> Edit {
    Edit::Items {
        list: path(list),
        end: End::First,
        items: items.iter().map(|item| Value::from(*item)).collect(),
    }
}

fn entry(map: &str, key: &str, value: impl Into<Value>) -> Edit {
    Edit::Entry { map: path(map), key: key.to_owned(), value: value.into() }
}
