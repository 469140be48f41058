//! Whatever the text: never a panic, and either an error or a text that gives every byte back.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::corpus::corpus;
use super::*;
use crate::yaml::expect::same;
use crate::yaml::scalar::is_plain_to_all;

static CORPUS: LazyLock<Vec<(String, String)>> = LazyLock::new(corpus);

/// What breaks texts, or gives them another meaning.
const PIECES: [&str; 34] = [
    "\n", "\r\n", "\r", " ", "  ", "\t", "#", " # x", ":", ": ", "-", "- ", "'", "\"", "{", "}", "[", "]", ",", "&a ", "*a", "!t ",
    "|\n", ">-\n", "null", "~", "---\n", "...\n", "? ", "é", "\u{feff}", "\0", "<<: ", "\\",
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

/// Writes values, each time in another way.
struct Style {
    state: u64,
    newline: &'static str,
    anchors: usize,
    /// Whether what was written last is a block scalar.
    in_text: bool,
}

impl Style {
    fn new(seed: u64) -> Self {
        let mut style = Style { state: seed | 1, newline: "\n", anchors: 0, in_text: false };
        if style.one_in(5) {
            style.newline = "\r\n";
        }
        style
    }

    /// Below `end`; Marsaglia's xorshift.
    fn below(&mut self, end: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 20) as usize % end
    }

    fn one_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }

    fn of<'v>(&mut self, all: &[&'v str]) -> &'v str {
        all[self.below(all.len())]
    }

    fn pod(&mut self) -> Value {
        let mut metadata = vec![("name".to_owned(), Value::from("app"))];
        for key in ["labels", "annotations"] {
            match self.below(4) {
                0 => metadata.push((key.to_owned(), Value::Null)),
                1 => metadata.push((key.to_owned(), Value::Map(vec![]))),
                2 => metadata.push((key.to_owned(), Value::from([("a/b", self.text()), ("c", self.text())]))),
                _ => {}
            }
        }
        let mut spec = vec![("hostname".to_owned(), self.text())];
        let count = 1 + self.below(3);
        let containers = (0..count).map(|n| self.container(n)).collect();
        spec.insert(self.below(2), ("containers".to_owned(), Value::List(containers)));
        for key in ["volumes", "initContainers", "tolerations"] {
            match self.below(4) {
                0 => spec.push((key.to_owned(), Value::Null)),
                1 => spec.push((key.to_owned(), Value::List(vec![]))),
                2 => spec.push((key.to_owned(), Value::List(vec![self.thing(), self.thing()]))),
                _ => {}
            }
        }
        let mut pod = vec![("metadata".to_owned(), Value::Map(metadata)), ("spec".to_owned(), Value::Map(spec))];
        if self.one_in(2) {
            pod.reverse();
        }
        if self.one_in(2) {
            pod.push(("status".to_owned(), self.thing()));
        }
        Value::Map(pod)
    }

    fn container(&mut self, n: usize) -> Value {
        let mut entries = vec![("name".to_owned(), Value::from(format!("c{n}")))];
        for key in ["command", "args", "volumeMounts", "resources"] {
            match self.below(5) {
                0 => entries.push((key.to_owned(), Value::List(vec![self.text(), self.text()]))),
                1 if key == "command" => entries.push((key.to_owned(), Value::Null)),
                2 if key != "command" && key != "volumeMounts" => entries.push((key.to_owned(), self.thing())),
                _ => {}
            }
        }
        let at = self.below(entries.len());
        entries.swap(0, at);
        Value::Map(entries)
    }

    fn thing(&mut self) -> Value {
        match self.below(6) {
            0 => Value::Map(vec![]),
            1 => Value::List(vec![Value::List(vec![self.text(), 7.into()]), Value::List(vec![])]),
            2 => Value::from([("x", Value::Null), ("z", self.text())]),
            3 => Value::List(vec![Value::from([("k", self.text()), ("l", true.into())]), self.text()]),
            4 => (-12).into(),
            _ => self.text(),
        }
    }

    fn text(&mut self) -> Value {
        let texts = [
            "plain", "two words", "", "on", "1337", "a: b", "# no comment", "it's", "say \"so\"", "line\nline\n", "line\n\nline",
            "kept\n\n\n", "- dash", "\ttab", "é世界🚂", "back\\slash", "{brace}", " space ", "null", "~", "a,b", "http://x:80/y",
        ];
        self.of(&texts).into()
    }

    fn document(&mut self, value: &Value) -> String {
        let mut out = String::new();
        if self.one_in(8) {
            out.push('\u{feff}');
        }
        if self.one_in(3) {
            self.remarks(&mut out, 0);
        }
        if self.one_in(3) {
            out.push_str("---");
            self.end_of_line(&mut out);
        }
        if self.one_in(6) {
            self.flow(&mut out, value, 0);
            self.end_of_line(&mut out);
        } else {
            self.remarks(&mut out, 0);
            self.entries(&mut out, value.entries(), 0, false);
        }
        if self.one_in(4) {
            out.push_str("...");
            out.push_str(self.newline);
            self.remarks(&mut out, 0);
        }
        if !self.in_text && self.one_in(4) {
            out.truncate(out.trim_end_matches(['\n', '\r']).len());
        }
        out
    }

    fn pad(&self, out: &mut String, column: usize) {
        out.extend(std::iter::repeat_n(' ', column));
    }

    /// Comments and empty lines, before a line in `column`.
    fn remarks(&mut self, out: &mut String, column: usize) {
        // What is indented behind a block scalar, or empty, would be more of it.
        if std::mem::take(&mut self.in_text) {
            if self.one_in(2) {
                return;
            }
            out.push_str("# behind a text");
            out.push_str(self.newline);
        }
        while self.one_in(4) {
            if self.one_in(3) {
                let spaces = self.below(4);
                self.pad(out, spaces);
            } else {
                let column = if self.one_in(4) { self.below(9) } else { column };
                self.pad(out, column);
                out.push_str(self.of(&["# a remark", "#", "# - name: not", "#key: value", "# null"]));
            }
            out.push_str(self.newline);
        }
    }

    fn end_of_line(&mut self, out: &mut String) {
        if self.one_in(6) {
            out.push_str(self.of(&[" # why", "  #", "   ", "\t# tab", " # null", " # ~"]));
        }
        out.push_str(self.newline);
    }

    fn anchor(&mut self, out: &mut String) {
        if self.one_in(12) {
            self.anchors += 1;
            out.push_str(&format!(" &a{}", self.anchors));
        }
    }

    fn entries(&mut self, out: &mut String, entries: &[(String, Value)], column: usize, mut inline: bool) {
        for (key, value) in entries {
            if !std::mem::take(&mut inline) {
                self.remarks(out, column);
                self.in_text = false;
                self.pad(out, column);
            }
            let key = match self.below(6) {
                0 => format!("\"{key}\""),
                1 => format!("'{key}'"),
                _ => key.clone(),
            };
            out.push_str(&key);
            out.push(':');
            self.value(out, value, column, true);
        }
    }

    fn items(&mut self, out: &mut String, items: &[Value], column: usize, mut inline: bool) {
        for item in items {
            if !std::mem::take(&mut inline) {
                self.remarks(out, column);
                self.in_text = false;
                self.pad(out, column);
            }
            out.push('-');
            let compact = self.one_in(2);
            let gap = 1 + self.below(3);
            match item {
                Value::Map(entries) if compact && !entries.is_empty() => {
                    self.pad(out, gap);
                    self.entries(out, entries, column + 1 + gap, true);
                }
                Value::List(items) if compact && !items.is_empty() => {
                    self.pad(out, gap);
                    self.items(out, items, column + 1 + gap, true);
                }
                item => self.value(out, item, column, false),
            }
        }
    }

    /// What comes behind a colon or a dash in `column`, to the end of its last line.
    fn value(&mut self, out: &mut String, value: &Value, column: usize, of_key: bool) {
        let flow = self.one_in(4) || matches!(value, Value::Map(entries) if entries.is_empty());
        let flow = flow || matches!(value, Value::List(items) if items.is_empty());
        match value {
            Value::Map(entries) if !flow => {
                self.anchor(out);
                self.end_of_line(out);
                let column = column + 1 + self.below(4);
                self.entries(out, entries, column, false);
            }
            Value::List(items) if !flow => {
                self.anchor(out);
                self.end_of_line(out);
                let column = column + usize::from(!of_key) + self.below(4);
                self.items(out, items, column, false);
            }
            Value::Map(_) | Value::List(_) => {
                self.anchor(out);
                out.push(' ');
                self.flow(out, value, column + 1);
                self.end_of_line(out);
            }
            Value::Null => {
                out.push_str(self.of(&["", " ~", " null", "  Null"]));
                self.end_of_line(out);
            }
            Value::Text(text) if self.one_in(2) && fits_literal(text) => self.literal(out, text, column),
            value => {
                self.anchor(out);
                out.push(' ');
                self.scalar(out, value, false);
                self.end_of_line(out);
            }
        }
    }

    fn literal(&mut self, out: &mut String, text: &str, column: usize) {
        let body = text.trim_end_matches('\n');
        out.push_str(match text.len() - body.len() {
            0 => " |-",
            1 => " |",
            _ => " |+",
        });
        self.end_of_line(out);
        let column = column + 1 + self.below(4);
        let lines = if text.ends_with('\n') { &text[..text.len() - 1] } else { text };
        for line in lines.split('\n') {
            if !line.is_empty() {
                self.pad(out, column);
            }
            out.push_str(line);
            out.push_str(self.newline);
        }
        self.in_text = true;
    }

    fn scalar(&mut self, out: &mut String, value: &Value, in_brackets: bool) {
        match value {
            Value::Text(text) if is_plain_to_all(text) && !(in_brackets && text.contains(',')) && self.one_in(2) => {
                out.push_str(text);
            }
            Value::Text(text) if !text.contains(['\n', '\t']) && self.one_in(2) => {
                out.push_str(&format!("'{}'", text.replace('\'', "''")));
            }
            value => out.push_str(&value.to_string()),
        }
    }

    fn flow(&mut self, out: &mut String, value: &Value, column: usize) {
        let (open, close, count) = match value {
            Value::Map(entries) => ('{', '}', entries.len()),
            Value::List(items) => ('[', ']', items.len()),
            value => return self.scalar(out, value, true),
        };
        let lines = self.one_in(3);
        let inner = column + 1 + self.below(4);
        out.push(open);
        for n in 0..count {
            self.gap(out, inner, lines);
            match value {
                Value::Map(entries) => {
                    out.push_str(&format!("\"{}\": ", entries[n].0));
                    self.flow(out, &entries[n].1, inner);
                }
                value => self.flow(out, &value.items()[n], inner),
            }
            if self.one_in(5) {
                out.push(' ');
            }
            if n + 1 < count || self.one_in(6) {
                out.push(',');
            }
        }
        self.gap(out, column, lines);
        out.push(close);
    }

    fn gap(&mut self, out: &mut String, column: usize, lines: bool) {
        if lines {
            self.end_of_line(out);
            self.pad(out, column);
        } else if self.one_in(2) {
            out.push(' ');
        }
    }
}

fn fits_literal(text: &str) -> bool {
    !text.is_empty() && !text.starts_with([' ', '\t', '\n'])
}
