//! Whatever the text: never a panic, and either an error or a text that gives every byte back.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::corpus::corpus;
use super::style::Style;
use super::*;
use crate::yaml::expect::same;

static CORPUS: LazyLock<Vec<(String, String)>> = LazyLock::new(corpus);

/// What breaks texts, or gives them another meaning.
const PIECES: [&str; 34] = [
    "\n", "\r\n", "\r", " ", "  ", "\t", "#", " # x", ":", ": ", "-", "- ", "'", "\"", "{", "}", "[", "]",
    ",", "&a ", "*a", "!t ", "|\n", ">-\n", "null", "~", "---\n", "...\n", "? ", "é", "\u{feff}", "\0",
    "<<: ", "\\",
];

/// A change at a place of a text, both as shares of what there is.
#[derive(Clone, Debug)]
enum Change {
    Insert(usize, usize),
    Delete(usize, usize),
    RepeatLine(usize),
    DeleteLine(usize),
    Indent(usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<usize>;
    prop_oneof![
        4 => (at(), 0..PIECES.len()).prop_map(|(at, piece)| Change::Insert(at, piece)),
        2 => (at(), 1..6usize).prop_map(|(at, count)| Change::Delete(at, count)),
        1 => at().prop_map(Change::RepeatLine),
        1 => at().prop_map(Change::DeleteLine),
        2 => (at(), 0..4usize).prop_map(|(at, columns)| Change::Indent(at, columns)),
    ]
}

fn changed(text: &str, change: &Change) -> String {
    let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let of = |share: usize| starts[share % starts.len()];
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut whole = text.to_owned();
    match *change {
        Change::Insert(at, piece) => whole.insert_str(of(at), PIECES[piece]),
        Change::Delete(at, count) => {
            let first = at % starts.len();
            whole.replace_range(starts[first]..starts[(first + count).min(starts.len() - 1)], "");
        }
        Change::RepeatLine(at) | Change::DeleteLine(at) | Change::Indent(at, _) if !lines.is_empty() => {
            let at = at % lines.len();
            let indented;
            match *change {
                Change::RepeatLine(_) => lines.insert(at, lines[at]),
                Change::Indent(_, columns) => {
                    indented = format!("{}{}", " ".repeat(columns), lines[at].trim_start_matches(' '));
                    lines[at] = &indented;
                }
                _ => drop(lines.remove(at)),
            }
            whole = lines.concat();
        }
        _ => {}
    }
    whole
}

/// Nothing is promised of a text that is refused but that it is refused with a reason and a place in it.
fn refused_well(text: &str, wrong: &Wrong) {
    assert!(!wrong.reason.is_empty() && wrong.line > 0 && wrong.column > 0, "{wrong}");
    let lines = text.split(['\n', '\r']).count();
    assert!(wrong.line <= lines + 1, "{wrong}: {lines} lines");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_manifests_are_refused_or_given_back(
        which in any::<usize>(),
        before in prop::collection::vec(change(), 1..4),
        after in prop::collection::vec(change(), 0..3),
    ) {
        let (_, text) = &CORPUS[which % CORPUS.len()];
        let text = before.iter().fold(text.clone(), |text, one| changed(&text, one));
        match all_edits(&text) {
            Ok(new) => {
                prop_assert_eq!(&undo(&new).unwrap(), &text);
                let new = after.iter().fold(new, |text, one| changed(&text, one));
                if let Err(wrong) = undo(&new) {
                    refused_well(&new, &wrong);
                }
            }
            Err(wrong) => refused_well(&text, &wrong),
        }
    }

    #[test]
    fn manifests_in_any_style_are_edited_and_given_back(seed in any::<u64>()) {
        let mut style = Style::new(seed);
        let value = style.pod();
        let text = style.document(&value);
        let documents = parse(&text).unwrap_or_else(|wrong| panic!("{wrong}\n{text}"));
        prop_assert_eq!(documents.len(), 1);
        prop_assert!(same(documents[0].value(), &value), "{}\n{}\n{}", &text, documents[0].value(), &value);
        prop_assert_eq!(undo(&injected(&text)).unwrap(), text);
    }
}
