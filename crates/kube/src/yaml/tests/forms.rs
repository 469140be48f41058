//! Forms of text, one by one.

use super::*;

#[test]
fn nulls_stay_as_comments_and_comments_stay_with_what_they_speak_of() {
    let text = "\
kind: Pod
metadata:
  name: x # the name
more:
  # all
  containers:
  # main
  - name: app
    command: [\"a\", b] # what
    # tail
  # the volumes
  volumes: ~   # none
  initContainers:
";
    let new = with(
        text,
        vec![
            first("more.containers.0.command", &["w", "--"]),
            entry("more.containers.0", "tty", true),
            last("more.containers", &["end"]),
            first("more.containers", &["begin"]),
            last("more.volumes", &["v"]),
            last("more.initContainers", &["i"]),
        ],
    )
    .unwrap();
    let more = "
more:
  # all
  containers:
  - begin
  # main
  - name: app
    command: [\"w\", \"--\", \"a\", b] # what
    # tail
    tty: true
  - end
  # the volumes
  volumes: # ~   # none
  - v
  initContainers:
  - i
";
    assert!(new.ends_with(more), "{new}");
}

#[test]
fn a_block_scalar_keeps_its_blank_lines_and_others_leave_theirs_behind() {
    let text = "metadata: {}\nmore:\n  args:\n  - |+\n    a\n\n\n  list:\n  - b\n\n\n  # c\n  other: 1\n";
    let new = with(text, vec![last("more.args", &["x"]), last("more.list", &["z"])]).unwrap();
    assert!(new.ends_with(
        "more:\n  args:\n  - |+\n    a\n\n\n  - x\n  list:\n  - b\n  - z\n\n\n  # c\n  other: 1\n"
    ));
}

#[test]
fn lists_inside_of_lists_and_keys_behind_dashes() {
    let text = "metadata: {a: b}\nmore:\n  - - a\n    - b\n  -   - c\n";
    let new = with(text, vec![first("more.0", &["x", "y"])]);
    assert!(new.unwrap_err().reason.contains("more[0] has no name"));
    let text = "metadata: {a: b}\nmore:\n- name: m\n  x:\n    - - a\n";
    let new = with(text, vec![last("more.0.x", &["z"]), first("more.0.x", &["y"])]).unwrap();
    assert!(new.ends_with("more:\n- name: m\n  x:\n    - \"y\"\n    - - a\n    - z\n"), "{new}");
}

#[test]
fn a_text_without_a_last_line_break_has_none_behind() {
    for text in [
        "metadata: {}\nmore:\n- a",
        "metadata: {}\nmore:\n- a # c",
        "metadata: {}\r\nmore:\r\n- a",
        "more:\n- a\nmetadata:",
    ] {
        let new = with(text, vec![last("more", &["b"]), entry("other", "k", "v")]).unwrap();
        assert!(!new.ends_with(['\n', '\r']), "{new:?}");
        assert_eq!(new.contains("\r\n"), text.contains("\r\n"));
        assert!(!new.replace("\r\n", "").contains('\r'), "{new:?}");
    }
}

#[test]
fn what_is_inside_brackets_is_json() {
    for (text, new) in [
        ("[]", r#"["x", "y"]"#),
        ("[ ]", r#"["x", "y" ]"#),
        ("[ # none\n  ]", "[\"x\", \"y\" # none\n  ]"),
        ("[a]", r#"["x", a, "y"]"#),
        ("[a,]", r#"["x", a, "y",]"#),
        ("[ 'a' , b ]", r#"[ "x", 'a' , b, "y" ]"#),
        ("[\n    a,\n    b # c\n  ]", "[\n    \"x\",\n    a,\n    b,\n    \"y\" # c\n  ]"),
        ("[[a], {b: c}, d: e]", r#"["x", [a], {b: c}, d: e, "y"]"#),
    ] {
        let text = format!("metadata: {{}}\nmore: {text}\n");
        let done = with(&text, vec![first("more", &["x"]), last("more", &["y"])]).unwrap();
        assert!(done.ends_with(&format!("\nmore: {new}\n")), "{done}");
    }
}

#[test]
fn nulls_in_brackets() {
    for (text, new) in [
        ("{a: null, b: 1}", r#"{a: ["x"], b: 1}"#),
        ("{a: ~}", r#"{a: ["x"]}"#),
        ("{a: , b: 1}", r#"{a: ["x"] , b: 1}"#),
        ("{a: }", r#"{a: ["x"] }"#),
        ("{\"a\":null}", r#"{"a":["x"]}"#),
    ] {
        let text = format!("metadata: {{}}\nmore: {text}\n");
        let done = with(&text, vec![last("more.a", &["x"])]).unwrap();
        assert!(done.ends_with(&format!("\nmore: {new}\n")), "{done}");
    }
}

#[test]
fn a_key_that_is_null_gets_its_value() {
    let text = "metadata:\n  labels:\n    a:\nmore:\n  b: null # c\n";
    let new =
        with(text, vec![entry("metadata.labels", "a", "1"), entry("more", "b", Value::from(vec!["x"]))])
            .unwrap();
    assert!(new.contains("first\nmetadata:\n  labels:\n    a:\n      \"1\"\n"), "{new}");
    assert!(new.ends_with("more:\n  b: # null # c\n  - x\n"), "{new}");
}

#[test]
fn what_others_added_since_stays() {
    let text = "metadata:\n  name: a\nmore:\n  containers:\n  - name: app\n";
    let new = with(text, vec![last("more.volumes", &["ours"]), first("more.containers", &["side"])]).unwrap();
    let theirs =
        new.replace("- side\n", "- theirs\n  - side\n").replace("- ours\n", "- ours\n  - their volume\n");
    let theirs = theirs.replace("env:\n", "tty: true\n    env:\n");
    let back = undo(&theirs).unwrap();
    assert_eq!(
        back,
        HEAD.to_owned()
            + "metadata:\n  name: a\nmore:\n  containers:\n  - theirs\n  - name: app\n  volumes:\n  - their volume\n"
    );
}

#[test]
fn places_are_those_of_keys_and_items() {
    let text = "# c\nmetadata: &m\n  name: é\nspec:\n  containers:\n  - name: a\n    x: {k: 1}\n  - *m\n";
    let documents = parse(text).unwrap();
    let place = |at: &str| documents[0].place(&path(at));
    assert_eq!(place("metadata"), Some((2, 1)));
    assert_eq!(place("spec.containers"), Some((5, 3)));
    assert_eq!(place("spec.containers.0"), Some((6, 5)));
    assert_eq!(place("spec.containers.0.x.k"), Some((7, 9)));
    assert_eq!(place("spec.containers.1"), Some((8, 5)));
    assert_eq!(place("spec.containers.1.name"), None);
    assert_eq!(place("spec.nothing"), None);
    assert_eq!(
        documents[0].value().at(&["spec", "containers"]).unwrap().items()[1].get("name"),
        Some(&"é".into())
    );
}

#[test]
fn documents_are_counted_as_they_stand() {
    assert_eq!(parse("").unwrap().len(), 0);
    assert_eq!(parse("# only\n").unwrap().len(), 0);
    let documents = parse("---\n# none\n---\na: 1\n...\n---\n").unwrap();
    let values: Vec<String> = documents.iter().map(|document| document.value().to_string()).collect();
    assert_eq!(values, ["null", "{\"a\": 1}", "null"]);
}

#[test]
fn merge_keys_and_aliases_are_followed_in_the_value() {
    let text = "a: &a {x: 1, k: 2}\nb: &b {k: 3, z: 4}\nc: {<<: *a, k: 9}\nd: {<<: [*a, *b]}\ne: [*a]\n";
    let documents = parse(text).unwrap();
    let value = |key: &str| documents[0].value().get(key).unwrap().to_string();
    assert_eq!(value("c"), r#"{"k": 9, "x": 1}"#);
    assert_eq!(value("d"), r#"{"x": 1, "k": 2, "z": 4}"#);
    assert_eq!(value("e"), r#"[{"x": 1, "k": 2}]"#);
}
