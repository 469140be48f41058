//! What a YAML document means, apart from how it is written.

use std::fmt;

/// A node of a document. Mappings keep their order: what is written out reads as whoever built it meant.
///
/// A number other than an integer stays the text that it was: nothing here computes with one.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A number that is no such integer, as written.
    Number(String),
    /// Text.
    Text(String),
    /// A sequence.
    List(Vec<Value>),
    /// A mapping. No key occurs twice.
    Map(Vec<(String, Value)>),
}

impl Value {
    /// The value of `key`, where this is a mapping that has it and it is not null.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let Value::Map(entries) = self else { return None };
        entries
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value)
            .filter(|value| **value != Value::Null)
    }

    /// The value below these keys.
    pub fn at(&self, keys: &[&str]) -> Option<&Value> {
        keys.iter().try_fold(self, |value, key| value.get(key))
    }

    /// The items, where this is a list; none otherwise.
    pub fn items(&self) -> &[Value] {
        if let Value::List(items) = self { items } else { &[] }
    }

    /// The entries, where this is a mapping; none otherwise.
    pub fn entries(&self) -> &[(String, Value)] {
        if let Value::Map(entries) = self { entries } else { &[] }
    }

    /// The text, where this is text.
    pub fn text(&self) -> Option<&str> {
        if let Value::Text(text) = self { Some(text) } else { None }
    }

    /// What an item of a list goes by in Kubernetes: its `name`.
    pub(crate) fn name(&self) -> Option<&str> {
        self.get("name").and_then(Value::text)
    }

    /// The integer, where this is one.
    pub fn int(&self) -> Option<i64> {
        if let Value::Int(number) = self { Some(*number) } else { None }
    }

    /// Whether it is `true` or `false`, where this is one of them.
    pub fn bool(&self) -> Option<bool> {
        if let Value::Bool(is) = self { Some(*is) } else { None }
    }

    /// What it is, for a message.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Int(_) | Value::Number(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(text)
    }
}

impl From<bool> for Value {
    fn from(is: bool) -> Self {
        Value::Bool(is)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Value::Int(number)
    }
}

impl<V: Into<Value>> From<Vec<V>> for Value {
    fn from(items: Vec<V>) -> Self {
        Value::List(items.into_iter().map(Into::into).collect())
    }
}

impl<V: Into<Value>, const N: usize> From<[(&str, V); N]> for Value {
    fn from(entries: [(&str, V); N]) -> Self {
        Value::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect())
    }
}

/// As JSON, which is YAML too.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("null"),
            Value::Bool(is) => write!(f, "{is}"),
            Value::Int(number) => write!(f, "{number}"),
            Value::Number(text) => f.write_str(text),
            Value::Text(text) => quote(f, text),
            Value::List(items) => {
                f.write_str("[")?;
                for (n, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if n == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
            Value::Map(entries) => {
                f.write_str("{")?;
                for (n, (key, value)) in entries.iter().enumerate() {
                    f.write_str(if n == 0 { "" } else { ", " })?;
                    quote(f, key)?;
                    write!(f, ": {value}")?;
                }
                f.write_str("}")
            }
        }
    }
}

fn quote(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for letter in text.chars() {
        match letter {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            letter if letter < ' ' || letter == '\u{7f}' => write!(f, "\\u{:04x}", u32::from(letter))?,
            letter => write!(f, "{letter}")?,
        }
    }
    f.write_str("\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_as_json() {
        let value =
            Value::from([("a\"b", Value::from(vec!["x\ny", "\u{1}"])), ("n", Value::Null), ("m", 3.into())]);
        assert_eq!(value.to_string(), r#"{"a\"b": ["x\ny", "\u0001"], "n": null, "m": 3}"#);
    }

    #[test]
    fn null_is_as_good_as_absent() {
        let value = Value::from([("spec", Value::from([("volumes", Value::Null)]))]);
        assert_eq!(value.at(&["spec", "volumes"]), None);
        assert_eq!(value.at(&["spec"]).map(Value::kind), Some("a mapping"));
    }
}
