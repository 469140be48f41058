//! What is refused, and how that is said.

use super::*;

fn refusal(text: &str, edit: Edit) -> String {
    with(text, vec![edit]).unwrap_err().to_string()
}

#[test]
fn what_is_shared_cannot_be_added_to() {
    let text = "base: &base\n  containers: &list\n  - name: a\nmetadata: {}\nmore: *base\nother: *list\n";
    assert_eq!(
        refusal(text, last("more.containers", &["x"])),
        "line 5, column 1: more is an alias (*), and what it stands for is used elsewhere too; write it out"
    );
    assert_eq!(
        refusal("metadata: {}\nmore: &s\n  containers: []\ncopy: *s\n", last("more.containers", &["x"])),
        "line 2, column 1: more has an anchor (&) that line 7 uses: what is added here would be added there too; write it \
         out there"
    );
    let text = "base: &base\n  containers: []\nmetadata: {}\nmore:\n  <<: *base\n  a: b\n";
    assert_eq!(
        refusal(text, last("more.containers", &["x"])),
        "line 4, column 1: more.containers comes from a merge key (<<); write it out"
    );
    let new = with(text, vec![last("more.volumes", &["x"])]).unwrap();
    assert!(new.ends_with("  a: b\n  volumes:\n  - x\n"));
}

#[test]
fn what_is_there_or_of_another_kind_stays() {
    let text = "metadata: {labels: {a: b}}\nmore:\n  containers: none\n  volumes: {}\n";
    assert_eq!(
        refusal(text, entry("metadata.labels", "a", "c")),
        "line 1, column 21: metadata.labels.a is there already"
    );
    assert_eq!(
        refusal(text, last("more.containers", &["x"])),
        "line 3, column 3: more.containers is no list"
    );
    assert_eq!(refusal(text, last("more.volumes", &["x"])), "line 4, column 3: more.volumes is no list");
    assert_eq!(
        refusal(text, entry("more.containers", "x", "y")),
        "line 3, column 3: more.containers is no mapping"
    );
    assert_eq!(
        refusal(text, entry("more.containers.x", "x", "y")),
        "line 3, column 3: more.containers is no mapping"
    );
}

#[test]
fn what_is_added_carries_its_record() {
    let text = "metadata: {}\nspec: {}\n";
    let edits = vec![last("spec.volumes", &["x"])];
    let wrong = apply(text, &parse(text).unwrap(), &[(0, path("metadata"), edits)]).unwrap_err();
    assert_eq!(wrong.reason, "no container dragoman is added");
}

#[test]
fn an_item_without_a_name_of_its_own_cannot_be_found_again() {
    let text = "metadata: {}\nmore:\n- name: a\n- name: a\n- x: k\n";
    assert_eq!(
        refusal(text, entry("more.1", "k", "v")),
        "line 4, column 3: more[1] is not the only one with the name \"a\""
    );
    assert_eq!(refusal(text, entry("more.2", "k", "v")), "line 5, column 3: more[2] has no name");
    assert_eq!(refusal(text, entry("more.7", "k", "v")), "line 2, column 1: there is no more[7]");
}

#[test]
fn a_text_that_would_grow_gets_nothing_behind_it() {
    let text = "metadata: {}\nmore:\n- |\n  a";
    assert!(refusal(text, last("more", &["x"])).contains("add a line break"));
    let text = "metadata: {}\nmore:\n- |-\n  a";
    assert!(with(text, vec![last("more", &["x"])]).is_ok());
    let text = "metadata: {}\nmore:\n- |\n  a\n";
    assert!(with(text, vec![last("more", &["x"])]).is_ok());
}

#[test]
fn what_kubernetes_would_not_read_is_said_with_its_line() {
    for (text, wrong) in [
        ("a: 1\nb: 2\na: 3\n", "line 3, column 1: the key \"a\" is in line 1 already"),
        ("{\"a\": 1,\n \"a\": 2}", "line 2, column 2: the key \"a\" is in line 1 already"),
        ("on: 1\ntrue: 2\n", "line 2, column 1: the key \"true\" is in line 1 already"),
        ("a:\n\tb: 1\n", "line 2, column 2: tabs disallowed within this context (block indentation)"),
        ("[a]: 1\n", "line 1, column 1: this key is a list or a mapping, which Kubernetes has no use for"),
        ("~: 1\n", "line 1, column 1: a key is missing, or null"),
        ("a: &x\n  b: *x\n", "line 2, column 6: this alias stands for something that it is in itself"),
        ("<<: 1\n", "line 1, column 1: a merge key (<<) takes mappings alone"),
        ("a: *b\n", "line 1, column 4: while parsing node, found unknown anchor"),
        ("a: 1\n!!binary YQ==: 1\n", "line 2, column 10: the key \"a\" is in line 1 already"),
        ("a: !!binary YQ\n", "line 1, column 13: !!binary: not base64"),
        ("!!merge \"<<\": {a: 1}\n", "line 1, column 9: a merge key (<<) takes no tag, and no quotes"),
        ("!!str <<: {a: 1}\n", "line 1, column 7: a merge key (<<) takes no tag, and no quotes"),
        ("! <<: {a: 1}\n", "line 1, column 3: a merge key (<<) takes no tag, and no quotes"),
        (
            "a: 1\n# é\u{2028}b: 2\n",
            "line 2, column 4: \\u{2028} is a line break to Kubernetes' tools; take it out",
        ),
        (
            "a: |\n  x\u{85}b: 2\n",
            "line 2, column 4: \\u{85} is a line break to Kubernetes' tools; take it out",
        ),
        (
            "'a': \"b\" #\u{2029}\n",
            "line 1, column 11: \\u{2029} is a line break to Kubernetes' tools; take it out",
        ),
    ] {
        let told = parse(text).unwrap_err().to_string();
        assert_eq!(told, wrong, "{text}");
    }
}

#[test]
fn what_is_written_as_base64_is_read() {
    let [document] = parse("!<tag:yaml.org,2002:binary> aG9zdE5ldHdvcms=: !!binary |\n  UG\n  9k\n")
        .unwrap()
        .try_into()
        .unwrap();
    assert_eq!(*document.value(), Value::from([("hostNetwork", "Pod")]));
}

#[test]
fn in_quotes_the_line_breaks_of_old_are_letters() {
    let text = "{\"a\u{2028}\": \"\u{85}b\", 'c': '\u{2029}'}\n";
    let [document] = parse(text).unwrap().try_into().unwrap();
    assert_eq!(document.value().get("c"), Some(&"\u{2029}".into()));
}

/// kubectl reads from top to bottom, and kustomize as YAML says: only in this order do they see the same.
#[test]
fn a_merge_key_behind_what_it_brings_too_is_refused() {
    let merge = |own: &str, behind: &str| format!("a: &a {{x: 1}}\nb:\n  {own}\n  <<: {behind}\n");
    let wrong = parse(&merge("x: 2", "*a")).unwrap_err().to_string();
    assert_eq!(
        wrong,
        "line 4, column 3: this merge key (<<) brings \"x\", which stands before it: kubectl takes what is merged, and \
         other tools what is said here; put << first"
    );
    assert!(parse(&merge("x: 2", "[{z: 1}, *a]")).is_err());
    for text in [merge("x: 1", "*a"), merge("z: 2", "*a"), merge("x: 1", "[*a, {x: 2}]")] {
        assert_eq!(parse(&text).unwrap()[0].value().at(&["b", "x"]), Some(&1.into()), "{text}");
    }
    let first = "a: &a {x: 1}\nb:\n  <<: *a\n  x: 2\n";
    assert_eq!(parse(first).unwrap()[0].value().at(&["b", "x"]), Some(&2.into()));
}

/// Were it looked through once more for each mapping that is merged, this would take hours.
#[test]
fn many_merged_mappings_take_no_time() {
    let entries: String = (0..20_000).map(|n| format!("a{n}: b\n")).collect();
    let text = format!("<<: [{}]\n{entries}", "{}, ".repeat(20_000));
    let [document] = parse(&text).unwrap().try_into().unwrap();
    assert_eq!(document.value().entries().len(), 20_000);
}

#[test]
fn deep_nesting_and_aliases_without_end_are_refused() {
    for (open, close) in [("[", "]"), ("{a: ", "}"), ("- ", ""), ("a:\n", "")] {
        let mut text = String::new();
        for depth in 0..100_000 {
            if open.ends_with('\n') {
                text.extend(std::iter::repeat_n(' ', depth.min(2_000)));
            }
            text.push_str(open);
            if text.len() > 1_000_000 {
                break;
            }
        }
        text.push_str(&close.repeat(100));
        assert!(parse(&text).is_err());
    }
    let deepest = format!("{}{}", "[".repeat(254), "]".repeat(254));
    assert_eq!(parse(&deepest).unwrap().len(), 1);

    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..20 {
        let before = format!("*a{}, ", n - 1).repeat(10);
        laughs.push_str(&format!("a{n}: &a{n} [{before}]\n"));
    }
    assert!(parse(&laughs).unwrap_err().reason.contains("aliases stand for more"));

    let mut ladder = "a0: &a0 [x]\n".to_owned();
    for n in 1..5_000 {
        ladder.push_str(&format!("a{n}: &a{n} [{}*a{}{}]\n", "[".repeat(100), n - 1, "]".repeat(100)));
    }
    assert!(parse(&ladder).unwrap_err().reason.contains("aliases stand for more"));
}

/// A pod with this record, between two keys of its own.
fn recorded(record: &str) -> String {
    let env = format!("[{{name: {RECORD}, value: '{record}'}}]");
    format!(
        "kind: Pod\nmetadata: {{}}\nspec:\n  containers:\n  - {{name: {CARRIER}, env: {env}}}\n  l: [m]\n"
    )
}

#[test]
fn a_record_that_is_none_is_said() {
    for record in ["what", "{}x", "[1]", r#"{"more": []}"#, r#"{"made": "x"}"#, r#"{"keys": {"/a": "b"}}"#] {
        let wrong = undo(&recorded(record)).unwrap_err();
        assert_eq!(wrong.line, 5);
        assert!(wrong.reason.contains("is no record"), "{wrong}");
    }
    // Places that are not there were taken away by somebody since.
    let record = r#"{"made": ["/x", "/spec/a", ""], "null": {"/q": ""}, "keys": {"/spec": ["y"], "": ["z"]}, "first": {"/spec/l": ["n"], "/kind": ["n"]}}"#;
    assert_eq!(undo(&recorded(record)).unwrap(), recorded(record));
}
