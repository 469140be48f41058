//! From the syntax tree of the file to typed values that know where they were written.
//!
//! The tree is walked by hand rather than through serde, because serde stops at the first error and
//! forgets places; here each value reports what is wrong with it and the walk goes on.

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{
    errors::{Place, Problem},
    print::Page,
    schema::Json,
    table::Key,
};

/// A type that a key may have: how it is named, read, inherited and printed.
pub(crate) trait Value: Clone + Sized {
    /// Whether it is a table of tables, each under a name of the user's.
    const IS_NAMED: bool = false;

    /// What a message and the reference page call it, with an article and the range: "an integer from 1
    /// to 9".
    fn describe() -> String;

    /// The same for programs, in JSON Schema; it may allow more than [`read`](Self::read), and never less.
    fn schema() -> Json;

    /// Reads it, or reports why it cannot be. A list or table with a bad part comes without that part.
    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self>;

    /// As one would write it in the file.
    fn toml(&self) -> String;

    /// Takes from `base` what it does not say itself. What is no table says everything.
    fn inherit(&mut self, _base: &Self) {}

    /// The keys inside it that are stated, as dotted paths below `path`.
    fn stated(&self, _path: &str, _found: &mut Vec<(String, Place)>) {}

    /// Prints it under `key`; a table prints each of its keys.
    fn write(&self, key: &str, origin: &str, page: &mut Page<'_>) {
        page.line(key, &self.toml(), origin);
    }

    /// The keys inside it, if it is a table.
    fn keys() -> Vec<Key> {
        Vec::new()
    }
}

/// A [`Value`] that stands in lists.
pub(crate) trait Item: Value + PartialEq {
    /// What a message calls several of them.
    fn plural() -> String;
}

/// A value and where it was stated.
#[derive(Clone, Debug)]
pub(crate) struct Located<T> {
    pub(crate) value: T,
    pub(crate) place: Place,
}

/// A part of the syntax tree.
#[derive(Clone, Copy)]
pub(crate) struct Node<'a> {
    pub(crate) value: &'a DeValue<'a>,
    pub(crate) place: Place,
}

impl<'a> Node<'a> {
    pub(crate) fn new(value: &'a Spanned<DeValue<'a>>, source: usize) -> Self {
        Self { value: value.get_ref(), place: Place::new(source, value.span()) }
    }

    /// What the value is, for "found …".
    pub(crate) fn found(&self) -> String {
        match self.value {
            DeValue::String(_) => "this is a string".into(),
            DeValue::Integer(_) => "this is an integer".into(),
            DeValue::Float(_) => "this is a number with a point".into(),
            DeValue::Boolean(_) => "this is a boolean".into(),
            DeValue::Datetime(_) => "this is a date or time".into(),
            DeValue::Array(_) => "this is a list".into(),
            DeValue::Table(_) => "this is a table".into(),
        }
    }

    /// The value if it is an integer that 128 bits can hold.
    pub(crate) fn integer(&self) -> Option<i128> {
        let integer = self.value.as_integer()?;
        i128::from_str_radix(integer.as_str(), integer.radix()).ok()
    }
}

/// What is wrong with a text: what is said beside the caret, and what to write instead.
pub(crate) struct Fault {
    label: String,
    help: Option<String>,
}

impl Fault {
    pub(crate) fn new(label: impl Into<String>) -> Self {
        Self { label: label.into(), help: None }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// The state of a walk: where it is, and what was wrong so far.
#[derive(Default)]
pub(crate) struct Reader {
    pub(crate) problems: Vec<Problem>,
    path: Vec<String>,
}

impl Reader {
    /// Runs `read` one level deeper, under `key`.
    pub(crate) fn within<T>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(key.to_owned());
        let result = read(self);
        self.path.pop();
        result
    }

    /// The dotted path to where the walk is; empty at the top.
    pub(crate) fn path(&self) -> String {
        self.path.join(".")
    }

    pub(crate) fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Reports that the value at `node` is of a wrong type or out of range.
    pub(crate) fn mismatch<T: Value>(&mut self, node: &Node<'_>, fault: Fault) {
        let key = self.path.last().map_or("", String::as_str);
        let message = format!("`{key}` takes {}", T::describe());
        let problem = Problem::new(node.place, message).label(fault.label);
        self.report(match fault.help {
            Some(help) => problem.help(help),
            None => problem,
        });
    }

    /// Reads a value that is written as a string.
    pub(crate) fn text<T: Value>(
        &mut self,
        node: &Node<'_>,
        parse: impl FnOnce(&str) -> Result<T, Fault>,
    ) -> Option<T> {
        let result = match node.value {
            DeValue::String(text) => parse(text),
            _ => Err(Fault::new(node.found())),
        };
        result.map_err(|fault| self.mismatch::<T>(node, fault)).ok()
    }
}

/// The entries of a table in the order of the file, which the tree itself does not keep.
pub(crate) fn entries<'a>(
    table: &'a DeTable<'a>,
    source: usize,
) -> impl Iterator<Item = (&'a str, Place, Node<'a>)> {
    let mut entries: Vec<_> = table
        .iter()
        .map(|(key, value)| {
            (key.get_ref().as_ref(), Place::new(source, key.span()), Node::new(value, source))
        })
        .collect();
    entries.sort_by_key(|(_, place, _)| *place);
    entries.into_iter()
}
