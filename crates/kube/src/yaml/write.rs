//! Values as text: lines of a block, or JSON inside brackets.

use super::scalar::in_block;
use crate::value::Value;

/// How far what is inside stands to the right of what it is in, in columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Steps {
    /// The keys of a mapping, from the key that leads to it.
    pub(super) map: usize,
    /// The dashes of a list, from the key that leads to it: often 0.
    pub(super) list: usize,
}

/// Writes lines, each with a line break behind it.
pub(super) struct Lines<'a> {
    /// What is written so far.
    pub(super) text: String,
    /// How lines end.
    pub(super) newline: &'a str,
    /// How far to the right.
    pub(super) steps: Steps,
}

impl Lines<'_> {
    /// An entry of a mapping whose keys stand in `column`.
    pub(super) fn entry(&mut self, column: usize, key: &str, value: &Value) {
        self.pad(column);
        self.bare_entry(column, key, value);
    }

    /// An item of a list whose dashes stand in `column`.
    pub(super) fn item(&mut self, column: usize, value: &Value) {
        self.pad(column);
        self.text.push('-');
        match value {
            Value::Map(entries) if !entries.is_empty() => {
                for (n, (key, value)) in entries.iter().enumerate() {
                    if n == 0 {
                        self.text.push(' ');
                    } else {
                        self.pad(column + 2);
                    }
                    self.bare_entry(column + 2, key, value);
                }
            }
            value => self.short(value),
        }
    }

    /// What stands below a key in `column`.
    pub(super) fn below(&mut self, column: usize, value: &Value) {
        match value {
            Value::Map(entries) if !entries.is_empty() => {
                entries.iter().for_each(|(key, value)| self.entry(column + self.steps.map, key, value));
            }
            Value::List(items) if !items.is_empty() => {
                items.iter().for_each(|item| self.item(column + self.steps.list, item));
            }
            value => {
                self.pad(column + self.steps.map - 1);
                self.short(value);
            }
        }
    }

    fn bare_entry(&mut self, column: usize, key: &str, value: &Value) {
        self.text.push_str(&in_block(key));
        self.text.push(':');
        if value.items().is_empty() && value.entries().is_empty() {
            self.short(value);
        } else {
            self.text.push_str(self.newline);
            self.below(column, value);
        }
    }

    /// On the rest of the line.
    fn short(&mut self, value: &Value) {
        self.text.push(' ');
        match value {
            Value::Text(text) => self.text.push_str(&in_block(text)),
            value => self.text.push_str(&value.to_string()),
        }
        self.text.push_str(self.newline);
    }

    fn pad(&mut self, column: usize) {
        self.text.extend(std::iter::repeat_n(' ', column));
    }
}

/// JSON over several lines, the first of which begins where it is put; the others begin with `margin`, a line break and
/// white space, and `unit` for each level.
pub(super) fn pretty(value: &Value, margin: &str, unit: &str) -> String {
    let deeper = format!("{margin}{unit}");
    let parts: Vec<String> = match value {
        Value::Map(entries) => {
            entries.iter().map(|(key, value)| pair(key, &pretty(value, &deeper, unit))).collect()
        }
        Value::List(items) => items.iter().map(|item| pretty(item, &deeper, unit)).collect(),
        value => return value.to_string(),
    };
    let (open, close) = if matches!(value, Value::Map(_)) { ("{", "}") } else { ("[", "]") };
    if parts.is_empty() {
        return format!("{open}{close}");
    }
    format!("{open}{deeper}{}{margin}{close}", parts.join(&format!(",{deeper}")))
}

/// An entry of a mapping in brackets, its value being written already.
pub(super) fn pair(key: &str, value: &str) -> String {
    format!("{}: {value}", Value::from(key))
}
