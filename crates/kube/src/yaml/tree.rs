//! A stream of documents as trees, each node with its place in the text.

use crate::edit::{Path, Step};
use crate::value::Value;

/// A node's number in its document. What is inside has a higher one.
pub(super) type Id = usize;

/// A place for messages: line and column, from 1.
pub(super) type Place = (usize, usize);

/// A node of the text.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// Behind what leads to it: the colon or the dash, then its anchor and its tag.
    pub(super) open: usize,
    /// Where it begins itself.
    pub(super) start: usize,
    /// Behind its last byte; in a block, that of the last thing in it, and behind the line break if that is a block scalar.
    pub(super) end: usize,
    /// Of the key or the item that it is.
    pub(super) place: Place,
    /// What it is in; of the first one, itself.
    pub(super) parent: Id,
    /// The alias that stands for it elsewhere.
    pub(super) alias: Option<Place>,
    /// Whether it says of what type it is.
    pub(super) tagged: bool,
}

/// What a node is.
#[derive(Debug)]
pub(super) enum Kind {
    Scalar(Value),
    /// Of the node with this number.
    Alias(Id),
    List {
        form: Form,
        items: Vec<Child>,
    },
    Map {
        form: Form,
        entries: Vec<Child>,
    },
}

/// How a list or a mapping is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Line by line, with the dashes or the keys in this column, from 0.
    Block(usize),
    /// In brackets.
    Flow,
    /// `[a: b]`, a mapping with no brackets of its own.
    Pair,
}

/// An item, or an entry with its key.
#[derive(Debug)]
pub(super) struct Child {
    /// Empty for an item.
    pub(super) key: String,
    /// Where its dash, its key or (in brackets) its value begins, with anchors and tags.
    pub(super) from: usize,
    /// Behind the dash or the colon.
    pub(super) lead: usize,
    pub(super) id: Id,
    /// `<<`, whose value's entries are taken for this mapping's own.
    pub(super) merges: bool,
}

impl Node {
    /// What is in it.
    pub(super) fn children(&self) -> &[Child] {
        match &self.kind {
            Kind::List { items, .. } => items,
            Kind::Map { entries, .. } => entries,
            _ => &[],
        }
    }

    /// How it is written, where it holds others.
    pub(super) fn form(&self) -> Option<Form> {
        match &self.kind {
            Kind::List { form, .. } | Kind::Map { form, .. } => Some(*form),
            _ => None,
        }
    }

    /// Whether it is null, written out or not.
    pub(super) fn is_null(&self) -> bool {
        matches!(self.kind, Kind::Scalar(Value::Null))
    }
}

/// One document of a stream.
#[derive(Debug)]
pub(crate) struct Document {
    pub(super) nodes: Vec<Node>,
    pub(super) value: Value,
    /// Whether the text ends within a block scalar that would grow if a line break were put behind it.
    pub(super) open_scalar: bool,
}

impl Document {
    /// What it means: null for an empty one. What aliases and merge keys (`<<`) stand for is in it.
    pub(crate) fn value(&self) -> &Value {
        &self.value
    }

    /// The line and column of a node: those of its key, or of the item. None where the text has no such node of its own
    /// (it may come from an alias).
    pub(crate) fn place(&self, path: &Path) -> Option<(usize, usize)> {
        let id = path.0.iter().try_fold(0, |id, step| self.child(id, step))?;
        Some(self.nodes.get(id)?.place)
    }

    /// One step down.
    pub(super) fn child(&self, id: Id, step: &Step) -> Option<Id> {
        match (&self.nodes.get(id)?.kind, step) {
            (Kind::Map { entries, .. }, Step::Key(key)) => entries.iter().find(|child| child.key == *key),
            (Kind::List { items, .. }, Step::Index(index)) => items.get(*index),
            _ => None,
        }
        .map(|child| child.id)
    }

    /// The text of a node.
    pub(super) fn text(&self, id: Id) -> Option<&str> {
        if let Kind::Scalar(Value::Text(text)) = &self.nodes[id].kind { Some(text) } else { None }
    }
}
