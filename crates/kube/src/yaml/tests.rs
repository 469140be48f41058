//! Texts, edits and what comes of them.

use super::*;
use crate::edit::{Edit, End, Path};
use crate::value::Value;

fn path(text: &str) -> Path {
    text.split('.').filter(|step| !step.is_empty()).fold(Path::default(), |path, step| match step.parse() {
        Ok(index) => path.index(index),
        Err(_) => path.key(step),
    })
}

/// What an injection adds to a pod with one container, in small.
fn edits(pod: &str) -> Vec<Edit> {
    let at = |place: &str| path(&format!("{pod}.{place}"));
    let named = |name: &str| Value::from([("name", Value::from(name)), ("emptyDir", Value::Map(vec![]))]);
    let items = |place: &str, end, items: Vec<Value>| Edit::Items { list: at(place), end, items };
    vec![
        Edit::Entry { map: at("metadata.labels"), key: "dragoman.dev/injected".into(), value: "true".into() },
        items("spec.volumes", End::Last, vec![named("dragoman-run"), named("dragoman-app")]),
        items("spec.initContainers", End::First, vec![named("dragoman-init"), named("dragoman")]),
        items(
            "spec.containers.0.command",
            End::First,
            vec!["/run/dragoman/dragoman".into(), "wait".into(), "--".into()],
        ),
        items("spec.containers.0.volumeMounts", End::Last, vec![named("dragoman-run")]),
    ]
}

/// The text with the edits, after the proof that nothing else changed and that it is given back.
fn applied(text: &str, pod: &str) -> String {
    let metadata = path(&format!("{pod}.metadata"));
    let new = apply(text, &parse(text).unwrap(), &[(0, metadata, edits(pod))]).unwrap();
    assert_eq!(undo(&new).unwrap(), text);
    new
}

#[test]
fn nulls_stay_as_comments_and_comments_stay_with_what_they_speak_of() {
    let text = "\
kind: Pod
metadata:
  name: x # the name
spec:
  # all
  containers:
  # main
  - name: app
    command: [\"a\", b] # what
    # tail
  initContainers: ~   # none
  volumes:
";
    let new = applied(text, "");
    assert!(
        new.contains(
            "
  # all
  containers:
  # main
  - name: app
    command: [\"/run/dragoman/dragoman\", \"wait\", \"--\", \"a\", b] # what
    # tail
    volumeMounts:
    - name: dragoman-run
      emptyDir: {}
  initContainers: # ~   # none
  - name: dragoman-init
    emptyDir: {}
  - name: dragoman
    emptyDir: {}
  volumes:
  - name: dragoman-run
"
        ),
        "{new}"
    );
}
