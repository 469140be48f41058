//! Why an object is not touched.

use std::collections::HashSet;
use std::fmt;

use crate::edit::Path;

/// One reason why nothing can be added to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its line in the text, from 1, where it came from a text.
    pub line: Option<usize>,
    /// The object, as `Deployment shop/web`; empty where the text is none.
    pub object: String,
    /// What of it this is about, from the root of the document.
    pub at: Path,
    /// What is wrong and what to do.
    pub reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.object.is_empty() {
            write!(f, "{}: ", self.object)?;
        }
        f.write_str(&self.reason)
    }
}

/// Collects what is wrong with one object.
pub(crate) struct Refusals {
    object: String,
    all: Vec<Refusal>,
    /// Two checks may look at the same value.
    told: HashSet<(Path, String)>,
}

impl Refusals {
    pub(crate) fn of(object: &str) -> Refusals {
        Refusals { object: object.to_owned(), all: Vec::new(), told: HashSet::new() }
    }

    /// One more.
    pub(crate) fn push(&mut self, at: &Path, reason: impl Into<String>) {
        let reason = reason.into();
        if self.told.insert((at.clone(), reason.clone())) {
            self.all.push(Refusal { line: None, object: self.object.clone(), at: at.clone(), reason });
        }
    }

    /// All, or that there is none.
    pub(crate) fn done(self) -> Result<(), Vec<Refusal>> {
        if self.all.is_empty() { Ok(()) } else { Err(self.all) }
    }
}
