//! What is added to an object. Nothing is ever taken away or changed: what was there stays.

use std::fmt;

use crate::value::Value;

/// A step from a node to one below it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// To the value of this key.
    Key(String),
    /// To this item of a list, counted from 0.
    Index(usize),
}

/// The way from the root of a document to a node of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Path(pub Vec<Step>);

impl Path {
    /// One step further.
    pub fn key(&self, key: &str) -> Path {
        self.then(Step::Key(key.to_owned()))
    }

    /// One step further.
    pub fn index(&self, index: usize) -> Path {
        self.then(Step::Index(index))
    }

    fn then(&self, step: Step) -> Path {
        let mut steps = self.0.clone();
        steps.push(step);
        Path(steps)
    }
}

/// As people write it: `spec.template.spec.containers[0]`.
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if n == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Which end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Before all that is there.
    First,
    /// Behind all that is there.
    Last,
}

/// One addition. Mappings and lists on the way that are not there, or null, are made.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// An entry of a mapping, which has no such key yet.
    Entry {
        /// The mapping.
        map: Path,
        /// The key.
        key: String,
        /// Its value.
        value: Value,
    },
    /// Items of a list.
    Items {
        /// The list.
        list: Path,
        /// Where in it.
        end: End,
        /// At least one.
        items: Vec<Value>,
    },
}
