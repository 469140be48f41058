//! Reading an object whose values may be of any type: what is of the wrong one is refused, and read as absent.

use crate::edit::Path;
use crate::refusal::Refusals;
use crate::value::Value;

/// What absent mappings are read as.
pub(crate) static NOTHING: Value = Value::Null;

/// A value, and where it is.
#[derive(Clone, Debug)]
pub(crate) struct Node<'a> {
    pub(crate) value: &'a Value,
    pub(crate) at: Path,
}

impl<'a> Node<'a> {
    /// Below this key; null where there is nothing.
    pub(crate) fn get(&self, key: &str) -> Node<'a> {
        Node { value: self.value.get(key).unwrap_or(&NOTHING), at: self.at.key(key) }
    }

    /// Below this key, a mapping or nothing.
    pub(crate) fn map(&self, key: &str, wrong: &mut Refusals) -> Node<'a> {
        let node = self.get(key);
        let is_map = matches!(node.value, Value::Map(_) | Value::Null);
        if is_map { node } else { Node { value: &NOTHING, at: node.refuse("a mapping", wrong) } }
    }

    /// Below this key, the items of a list, which are all mappings.
    pub(crate) fn maps(&self, key: &str, wrong: &mut Refusals) -> Vec<Node<'a>> {
        let items = self.items(key, wrong);
        items
            .into_iter()
            .filter(|item| {
                let is_map = matches!(item.value, Value::Map(_));
                if !is_map {
                    item.refuse("a mapping", wrong);
                }
                is_map
            })
            .collect()
    }

    /// Below this key, the items of a list.
    pub(crate) fn items(&self, key: &str, wrong: &mut Refusals) -> Vec<Node<'a>> {
        let node = self.get(key);
        if !matches!(node.value, Value::List(_) | Value::Null) {
            node.refuse("a list", wrong);
        }
        let items = node.value.items().iter().enumerate();
        items.map(|(n, value)| Node { value, at: node.at.index(n) }).collect()
    }

    /// Below this key, text.
    pub(crate) fn text(&self, key: &str, wrong: &mut Refusals) -> Option<&'a str> {
        self.get(key).of("text", Value::text, wrong)
    }

    /// Below this key, an integer.
    pub(crate) fn int(&self, key: &str, wrong: &mut Refusals) -> Option<i64> {
        self.get(key).of("an integer", Value::int, wrong)
    }

    /// Below this key, `true` or `false`.
    pub(crate) fn bool(&self, key: &str, wrong: &mut Refusals) -> Option<bool> {
        self.get(key).of("true or false", Value::bool, wrong)
    }

    /// This value, read by `read`; null is nothing.
    pub(crate) fn of<T>(
        &self,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
        wrong: &mut Refusals,
    ) -> Option<T> {
        let found = read(self.value);
        if found.is_none() && *self.value != Value::Null {
            self.refuse(expected, wrong);
        }
        found
    }

    /// Says that it is of the wrong type.
    fn refuse(&self, expected: &str, wrong: &mut Refusals) -> Path {
        wrong.push(&self.at, format!("{}: expected {expected}, found {}", self.at, self.value.kind()));
        self.at.clone()
    }
}
