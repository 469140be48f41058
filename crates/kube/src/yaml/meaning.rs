//! What the nodes of a document mean together: aliases and merge keys are followed.

use std::collections::{HashMap, HashSet};

use super::Wrong;
use super::tree::{Child, Id, Kind, Node};
use crate::value::Value;

/// How many nodes aliases may add to a document: what they stand for counts each time.
const COPIES: usize = 1_000_000;

/// How deep aliases may lead, each into what it stands for.
const DEEPEST: usize = 512;

/// The value of a node, and of all that is in it; null if there is none.
pub(super) fn value(nodes: &[Node], id: Id) -> Result<Value, Wrong> {
    if nodes.is_empty() {
        return Ok(Value::Null);
    }
    Meaning { nodes, left: nodes.len() + COPIES }.of(id, 0)
}

struct Meaning<'a> {
    nodes: &'a [Node],
    left: usize,
}

impl Meaning<'_> {
    fn of(&mut self, id: Id, depth: usize) -> Result<Value, Wrong> {
        let node = &self.nodes[id];
        if self.left == 0 || depth == DEEPEST {
            return Err(Wrong::at(node.place, "aliases stand for more than a manifest can hold"));
        }
        self.left -= 1;
        match &node.kind {
            Kind::Scalar(value) => Ok(value.clone()),
            Kind::Alias(target) => self.of(*target, depth + 1),
            Kind::List { items, .. } => items
                .iter()
                .map(|item| self.of(item.id, depth + 1))
                .collect::<Result<_, _>>()
                .map(Value::List),
            Kind::Map { entries, .. } => self.map(entries, depth + 1),
        }
    }

    /// What a mapping says itself goes before what it merges, and of that the first goes before the others.
    fn map(&mut self, children: &[Child], depth: usize) -> Result<Value, Wrong> {
        let mut entries = Vec::with_capacity(children.len());
        for child in children.iter().filter(|child| !child.merges) {
            entries.push((child.key.clone(), self.of(child.id, depth)?));
        }
        if let Some(at) = children.iter().position(|child| child.merges) {
            self.merge(&children[at], at, &mut entries, depth)?;
        }
        Ok(Value::Map(entries))
    }

    /// Adds what a merge key brings to the entries, of which `before` stand before it.
    ///
    /// Those tools disagree about: kubectl (go-yaml v2) takes what is merged, as it reads from top to bottom; kustomize
    /// (go-yaml v3) and PyYAML what the mapping says itself.
    fn merge(
        &mut self,
        key: &Child,
        before: usize,
        entries: &mut Vec<(String, Value)>,
        depth: usize,
    ) -> Result<(), Wrong> {
        let place = self.nodes[key.id].place;
        let merged = self.of(key.id, depth)?;
        let maps = if let Value::List(maps) = merged { maps } else { vec![merged] };
        let own: HashMap<String, usize> =
            entries.iter().enumerate().map(|(n, (key, _))| (key.clone(), n)).collect();
        let mut known = HashSet::new();
        for map in maps {
            let Value::Map(others) = map else {
                return Err(Wrong::at(place, "a merge key (<<) takes mappings alone"));
            };
            for (key, value) in others {
                if !known.insert(key.clone()) {
                    continue;
                }
                match own.get(&key) {
                    None => entries.push((key, value)),
                    Some(&n) if n < before && entries[n].1 != value => {
                        let reason = format!(
                            "this merge key (<<) brings {key:?}, which stands before it: kubectl takes what is merged, \
                             and other tools what is said here; put << first"
                        );
                        return Err(Wrong::at(place, reason));
                    }
                    Some(_) => {}
                }
            }
        }
        Ok(())
    }
}
