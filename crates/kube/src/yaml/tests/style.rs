//! Manifests in any style that YAML has.

use crate::value::Value;
use crate::yaml::scalar::is_plain_to_all;

/// Writes values, each time in another way.
pub(super) struct Style {
    state: u64,
    newline: &'static str,
    anchors: usize,
    /// Whether what was written last is a block scalar.
    in_text: bool,
}

impl Style {
    pub(super) fn new(seed: u64) -> Self {
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

    pub(super) fn pod(&mut self) -> Value {
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
        let mut pod =
            vec![("metadata".to_owned(), Value::Map(metadata)), ("spec".to_owned(), Value::Map(spec))];
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
                2 if key != "command" && key != "volumeMounts" => {
                    entries.push((key.to_owned(), self.thing()));
                }
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
            "plain",
            "two words",
            "",
            "on",
            "1337",
            "a: b",
            "# no comment",
            "it's",
            "say \"so\"",
            "line\nline\n",
            "line\n\nline",
            "kept\n\n\n",
            "- dash",
            "\ttab",
            "é世界🚂",
            "back\\slash",
            "{brace}",
            " space ",
            "null",
            "~",
            "a,b",
            "http://x:80/y",
        ];
        self.of(&texts).into()
    }

    pub(super) fn document(&mut self, value: &Value) -> String {
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
        let lines = text.strip_suffix('\n').unwrap_or(text);
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
            Value::Text(text)
                if is_plain_to_all(text) && !(in_brackets && text.contains(',')) && self.one_in(2) =>
            {
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
