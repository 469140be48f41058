//! What holds for every manifest of tests/corpus.

use super::*;
use crate::yaml::expect::same;
use crate::yaml::write::{Lines, Steps};

/// Name and text of each.
pub(super) fn corpus() -> Vec<(String, String)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus");
    let mut all: Vec<(String, String)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml" || extension == "json"))
        .map(|path| {
            (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(path).unwrap())
        })
        .collect();
    all.sort();
    assert!(all.len() >= 40);
    all
}

#[test]
fn every_byte_comes_back() {
    for (name, text) in corpus() {
        let new = all_edits(&text).unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
        assert_ne!(new, text, "{name} has a pod");
        let back = undo(&new).unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
        assert_eq!(back, text, "{name}");
        assert_eq!(all_edits(&back).unwrap(), new, "{name}");
        assert_eq!(undo(&text).unwrap(), text, "{name} has no record");
    }
}

#[test]
fn every_line_stays_in_its_order() {
    for (name, text) in corpus() {
        let new = all_edits(&text).unwrap();
        let mut lines = new.split_inclusive('\n').map(|line| line.trim_end_matches(['\n', '\r'])).peekable();
        for line in text.lines().map(|line| line.trim_end_matches('\r')) {
            // Only brackets that something was put into, a null, a list that begins behind its key, and what a comma follows now are written otherwise.
            if !line.contains(['[', ']', '{', '}', '~', '"', '\''])
                && !line.to_lowercase().contains("null")
                && !line.contains(": -")
            {
                assert!(
                    lines.any(|other| other == line || other.strip_suffix(',') == Some(line)),
                    "{name}: {line}"
                );
            }
        }
        if !name.ends_with(".json") {
            let mut bytes = new.bytes();
            assert!(text.bytes().all(|byte| bytes.any(|other| other == byte)), "{name}: a byte is gone");
        }
    }
}

#[test]
fn json_stays_json() {
    for (name, text) in corpus().into_iter().filter(|(name, _)| name.ends_with(".json")) {
        let new = all_edits(&text).unwrap();
        let value: serde_json::Value =
            serde_json::from_str(&new).unwrap_or_else(|error| panic!("{name}: {error}"));
        let ours: serde_json::Value =
            serde_json::from_str(&parse(&new).unwrap()[0].value().to_string()).unwrap();
        assert_eq!(value, ours, "{name}");
    }
}

#[test]
fn what_other_tools_wrote_anew_gives_the_object_back() {
    for (name, text) in corpus() {
        let old = parse(&text).unwrap();
        let new = parse(&all_edits(&text).unwrap()).unwrap();
        for (old, new) in old.iter().zip(&new) {
            for form in [as_json as fn(&Value) -> String, as_sorted_blocks] {
                let text = form(new.value());
                let back = undo(&text).unwrap_or_else(|wrong| panic!("{name}: {wrong}\n{text}"));
                let back = parse(&back).unwrap_or_else(|wrong| panic!("{name}: {wrong}\n{back}"));
                assert!(
                    same(back[0].value(), old.value()),
                    "{name}:\n{text}\n{}\n{}",
                    back[0].value(),
                    old.value()
                );
            }
        }
    }
}

fn as_json(value: &Value) -> String {
    value.to_string()
}

/// As `kubectl get -o yaml` writes.
fn as_sorted_blocks(value: &Value) -> String {
    let mut lines = Lines { text: String::new(), newline: "\n", steps: Steps { map: 2, list: 0 } };
    match sorted(value) {
        Value::Map(entries) => entries.iter().for_each(|(key, value)| lines.entry(0, key, value)),
        value => return value.to_string(),
    }
    lines.text
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Map(entries) => {
            let mut entries: Vec<_> =
                entries.iter().map(|(key, value)| (key.clone(), sorted(value))).collect();
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            Value::Map(entries)
        }
        Value::List(items) => Value::List(items.iter().map(sorted).collect()),
        value => value.clone(),
    }
}
