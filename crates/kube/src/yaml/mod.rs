//! The text of manifests: a stream of YAML (or JSON) documents, edited by putting bytes in between and leaving every
//! other byte as it is, and given back by taking exactly those out again.
//!
//! ```text
//! tree: nodes and where they are ─┬─ insert: edits become splices, and a record of them goes into the sidecar's environment
//!                                 └─ undo: what a record names is found again, and cut out
//! ```
//!
//! Both use [`layout`], which knows the extent of a node in the text. [`apply`] proves what it did before it answers: the
//! result is read again, must mean the original with the edits, and must give back the original's bytes when it is undone.

mod expect;
mod insert;
mod layout;
mod lines;
mod meaning;
mod place;
mod read;
mod record;
mod scalar;
mod sum;
mod tree;
mod undo;
mod write;

#[cfg(test)]
use read::parse;
#[cfg(test)]
mod tests;

use std::fmt;

pub(crate) use insert::apply;
pub(crate) use tree::Document;
pub use undo::Part;
pub(crate) use undo::{Undone, taken_out};

/// The container that carries the record of what was added to a pod, and the variable of its environment that is the record.
/// An annotation would be the place for it, but for podman, which takes none of more than 63 characters.
pub(crate) const CARRIER: &str = "dragoman";
pub(crate) const RECORD: &str = "DRAGOMAN_INJECTION";

/// What cannot be read or edited, and where. Lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// The line of the text.
    pub(crate) line: usize,
    /// The column of that line, in characters.
    pub(crate) column: usize,
    /// What is wrong, as a sentence without a full stop.
    pub(crate) reason: String,
}

impl Wrong {
    fn at((line, column): (usize, usize), reason: impl Into<String>) -> Self {
        Wrong { line, column, reason: reason.into() }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.reason)
    }
}
