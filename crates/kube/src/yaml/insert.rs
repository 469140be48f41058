//! From edits to splices.

use std::collections::{BTreeMap, HashMap};

use super::expect::{deepest_first, edited, make, same};
use super::layout::{newline, spliced};
use super::place::steps;
use super::read::parse;
use super::record::{Added, Record, mark, pointer};
use super::sum::sum;
use super::tree::{Document, Id, Kind};
use super::undo::undone;
use super::write::Steps;
use super::{CARRIER, RECORD, Wrong};
use crate::edit::{Edit, End, Path, Step};
use crate::value::Value;

/// The text with the edits of these pods, each the number of its document, the path of its `metadata`, and what is added to
/// it; a record of that goes into the container [`CARRIER`] that is added. Everything else stays as it is, byte by byte.
///
/// # Errors
/// Where an edit would add to what an alias or a merge key stands for, to something that is no mapping or list, or where a
/// key is that it adds; and where the text could not be given back as it is now.
pub(crate) fn apply(
    text: &str,
    documents: &[Document],
    pods: &[(usize, Path, Vec<Edit>)],
) -> Result<String, Wrong> {
    let mut splices = Vec::new();
    let mut expected: Vec<Value> = documents.iter().map(|document| document.value().clone()).collect();
    let mut sorted: Vec<&(usize, Path, Vec<Edit>)> = pods.iter().collect();
    sorted.sort_by_key(|(number, ..)| *number);
    for pods in sorted.chunk_by(|(a, ..), (b, ..)| a == b) {
        let number = pods[0].0;
        let Some(document) = documents.get(number) else {
            return Err(Wrong::at((1, 1), "there is no such document"));
        };
        let mut plan = Plan::new(text, document);
        for (_, metadata, edits) in pods {
            for edit in plan.pod(metadata, edits)? {
                edited(&mut expected[number], &edit)
                    .ok_or_else(|| plan.wrong(0, "this edit does not fit"))?;
            }
        }
        splices.extend(plan.splices()?);
    }
    let new = spliced(text, &splices);
    let meant = parse(&new)?;
    let means =
        meant.len() == expected.len() && meant.iter().zip(&expected).all(|(new, old)| same(new.value(), old));
    if !means || undone(&new, &meant)? != text {
        let place = pods.first().and_then(|(number, path, _)| documents.get(*number)?.place(path));
        return Err(Wrong::at(
            place.unwrap_or((1, 1)),
            "the way this is written leaves no room to add to it and give it back as it is; write it as `kubectl create --dry-run=client -o yaml` does",
        ));
    }
    Ok(new)
}

/// What is to be added to the nodes of one document.
pub(super) struct Plan<'a> {
    pub(super) text: &'a str,
    pub(super) document: &'a Document,
    pub(super) newline: &'static str,
    pub(super) steps: Steps,
    pub(super) additions: BTreeMap<Id, Addition>,
    /// How often each name occurs in a list.
    names: HashMap<Id, HashMap<&'a str, usize>>,
}

/// What is to be added to one node.
#[derive(Default)]
pub(super) struct Addition {
    /// To a mapping.
    pub(super) entries: Vec<(String, Value)>,
    /// To a list.
    pub(super) first: Vec<Value>,
    pub(super) last: Vec<Value>,
    /// In the place of a null.
    pub(super) instead: Option<Value>,
}

/// Where an edit adds to.
enum Spot<'p> {
    Node(Id),
    Made(&'p mut Value),
}

impl<'a> Plan<'a> {
    fn new(text: &'a str, document: &'a Document) -> Self {
        let (additions, names) = (BTreeMap::new(), HashMap::new());
        Plan { text, document, newline: newline(text), steps: steps(document), additions, names }
    }

    pub(super) fn wrong(&self, id: Id, reason: impl Into<String>) -> Wrong {
        Wrong::at(self.document.nodes.get(id).map_or((1, 1), |node| node.place), reason)
    }

    /// Plans a pod's edits, and answers them in their order, with the record of them in the one that can carry it.
    fn pod(&mut self, metadata: &Path, edits: &[Edit]) -> Result<Vec<Edit>, Wrong> {
        let mut record = Record::default();
        let root = metadata.0.len().saturating_sub(1);
        let mut edits: Vec<Edit> = deepest_first(edits).into_iter().cloned().collect();
        for edit in &edits {
            self.edit(root, edit, &mut record)?;
        }
        let text = record.text();
        let carrier = edits.iter_mut().find_map(carrier);
        let (list, item) =
            carrier.ok_or_else(|| self.wrong(0, format!("no container {CARRIER} is added")))?;
        carry(item, &text);
        let planned = match self.reach(root, list, &Value::Null, &mut record)? {
            Spot::Made(Value::List(items)) => items.iter_mut().find(|item| is_carrier(item)),
            Spot::Made(_) => None,
            Spot::Node(id) => {
                let Addition { first, last, .. } = self.additions.entry(id).or_default();
                first.iter_mut().chain(last).find(|item| is_carrier(item))
            }
        };
        planned.into_iter().for_each(|item| carry(item, &text));
        Ok(edits)
    }

    fn edit(&mut self, root: usize, edit: &Edit, record: &mut Record) -> Result<(), Wrong> {
        match edit {
            Edit::Entry { map, key, value } => {
                let place = self.pointer(root, map)?;
                match self.reach(root, map, &Value::Map(vec![]), record)? {
                    Spot::Node(id) => self.entry(id, map, (key, value), &place, record)?,
                    Spot::Made(Value::Map(entries)) => entries.push((key.clone(), value.clone())),
                    Spot::Made(_) => return Err(self.wrong(0, format!("{map} is no mapping"))),
                }
                record.sums.insert(pointer(&place, key), sum(value));
                note(&mut record.keys, place, [key.clone()], End::Last);
            }
            Edit::Items { list, end, items } => {
                let place = self.pointer(root, list)?;
                let document = self.document;
                let spot = self.reach(root, list, &Value::List(vec![]), record)?;
                let (at, old) = match (spot, end) {
                    (Spot::Made(Value::List(old)), End::First) => (0, old),
                    (Spot::Made(Value::List(old)), End::Last) => (old.len(), old),
                    (Spot::Node(id), _) if !matches!(document.nodes[id].kind, Kind::List { .. }) => {
                        return Err(self.wrong(id, format!("{list} is no list")));
                    }
                    (Spot::Node(id), End::First) => (0, &mut self.additions.entry(id).or_default().first),
                    (Spot::Node(id), End::Last) => {
                        let last = &mut self.additions.entry(id).or_default().last;
                        (last.len(), last)
                    }
                    (Spot::Made(_), _) => return Err(self.wrong(0, format!("{list} is no list"))),
                };
                old.splice(at..at, items.iter().cloned());
                let named = items.iter().filter(|item| item.get("name").is_some());
                record.sums.extend(named.map(|item| (pointer(&place, &mark(item)), sum(item))));
                let ends = if *end == End::First { &mut record.first } else { &mut record.last };
                note(ends, place, items.iter().map(mark), *end);
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        id: Id,
        map: &Path,
        (key, value): (&str, &Value),
        place: &str,
        record: &mut Record,
    ) -> Result<(), Wrong> {
        if !matches!(self.document.nodes[id].kind, Kind::Map { .. }) {
            return Err(self.wrong(id, format!("{map} is no mapping")));
        }
        let there = self.document.child(id, &Step::Key(key.to_owned()));
        if let Some(child) = there.filter(|child| self.document.nodes[*child].is_null()) {
            self.instead_of_null(child, pointer(place, key), record)?;
            self.additions.entry(child).or_default().instead = Some(value.clone());
            return Ok(());
        }
        self.refuse_merged(id, &map.key(key))?;
        let entries = &mut self.additions.entry(id).or_default().entries;
        if there.is_some() || entries.iter().any(|(name, _)| name == key) {
            return Err(self.wrong(there.unwrap_or(id), format!("{} is there already", map.key(key))));
        }
        entries.push((key.to_owned(), value.clone()));
        Ok(())
    }

    /// The node at the end of the path, or what is planned there; what is not there is made, and recorded.
    fn reach(
        &mut self,
        root: usize,
        path: &Path,
        last: &Value,
        record: &mut Record,
    ) -> Result<Spot<'_>, Wrong> {
        let places: Vec<String> = (0..=path.0.len())
            .map(|n| self.pointer(root, &Path(path.0[..n].to_vec())))
            .collect::<Result<_, _>>()?;
        let mut id = 0;
        self.check(id, &Path::default())?;
        for (n, step) in path.0.iter().enumerate() {
            let here = Path(path.0[..=n].to_vec());
            let child = self.document.child(id, step);
            let value = match (child, step) {
                (Some(child), _) => {
                    self.check(child, &here)?;
                    if !self.document.nodes[child].is_null() {
                        id = child;
                        continue;
                    }
                    let new = self.additions.get(&child).is_none_or(|addition| addition.instead.is_none());
                    if new {
                        self.instead_of_null(child, places[n + 1].clone(), record)?;
                    }
                    self.additions.entry(child).or_default().instead.get_or_insert(Value::Null)
                }
                (None, Step::Index(_)) => return Err(self.wrong(id, format!("there is no {here}"))),
                (None, Step::Key(key)) => {
                    if !matches!(self.document.nodes[id].kind, Kind::Map { .. }) {
                        return Err(self.wrong(id, format!("{} is no mapping", Path(path.0[..n].to_vec()))));
                    }
                    self.refuse_merged(id, &here)?;
                    let entries = &mut self.additions.entry(id).or_default().entries;
                    let at = entries.iter().position(|(name, _)| name == key).unwrap_or_else(|| {
                        entries.push((key.clone(), Value::Null));
                        entries.len() - 1
                    });
                    &mut entries[at].1
                }
            };
            let rest = &path.0[n + 1..];
            let made =
                make(value, rest, last, &mut |left| record.made.push(places[path.0.len() - left].clone()));
            let place = self.document.nodes[id].place;
            return made
                .map(Spot::Made)
                .ok_or_else(|| Wrong::at(place, format!("{path} cannot be made here")));
        }
        Ok(Spot::Node(id))
    }

    /// Refuses a node that is not written here alone.
    fn check(&self, id: Id, path: &Path) -> Result<(), Wrong> {
        let Some(node) = self.document.nodes.get(id) else {
            return Err(self.wrong(0, "this document is empty"));
        };
        let name = if path.0.is_empty() { "the document".to_owned() } else { path.to_string() };
        if matches!(node.kind, Kind::Alias(_)) {
            let reason =
                format!("{name} is an alias (*), and what it stands for is used elsewhere too; write it out");
            return Err(self.wrong(id, reason));
        }
        if let Some((line, _)) = node.alias {
            let reason = format!(
                "{name} has an anchor (&) that line {line} uses: what is added here would be added there too; write it out there"
            );
            return Err(self.wrong(id, reason));
        }
        Ok(())
    }

    /// Refuses to add a key that a merge key (`<<`) brings already.
    fn refuse_merged(&self, id: Id, path: &Path) -> Result<(), Wrong> {
        let merges = self.document.nodes[id].children().iter().any(|child| child.merges);
        if merges && value_at(self.document.value(), path).is_some() {
            return Err(self.wrong(id, format!("{path} comes from a merge key (<<); write it out")));
        }
        Ok(())
    }

    fn instead_of_null(&self, id: Id, place: String, record: &mut Record) -> Result<(), Wrong> {
        let node = &self.document.nodes[id];
        if node.tagged {
            return Err(self.wrong(id, "this null has a tag (!); take it away"));
        }
        record.null.insert(place, self.text[node.start..node.end].to_owned());
        Ok(())
    }

    /// The path from the pod on, where items go by their names.
    fn pointer(&mut self, root: usize, path: &Path) -> Result<String, Wrong> {
        let mut to = String::new();
        let mut id = Some(0);
        for (n, step) in path.0.iter().enumerate() {
            let parent = id;
            id = id.and_then(|id| self.document.child(id, step));
            if n < root {
                continue;
            }
            to = match step {
                Step::Key(key) => pointer(&to, key),
                Step::Index(_) => {
                    let here = Path(path.0[..=n].to_vec());
                    let list = parent.unwrap_or(0);
                    let Some(item) = id else { return Err(self.wrong(list, format!("there is no {here}"))) };
                    let Some(name) = name(self.document, item) else {
                        return Err(self.wrong(item, format!("{here} has no name")));
                    };
                    if self.names(list).get(name).copied() != Some(1) {
                        return Err(
                            self.wrong(item, format!("{here} is not the only one with the name \"{name}\""))
                        );
                    }
                    pointer(&to, name)
                }
            };
        }
        Ok(to)
    }

    fn names(&mut self, list: Id) -> &HashMap<&'a str, usize> {
        let document = self.document;
        self.names.entry(list).or_insert_with(|| {
            let mut names = HashMap::new();
            for child in document.nodes[list].children() {
                if let Some(name) = name(document, child.id) {
                    *names.entry(name).or_default() += 1;
                }
            }
            names
        })
    }
}

/// The container that carries the record, and the list that it is added to.
fn carrier(edit: &mut Edit) -> Option<(&Path, &mut Value)> {
    let Edit::Items { list, items, .. } = edit else { return None };
    Some((list, items.iter_mut().find(|item| is_carrier(item))?))
}

fn is_carrier(item: &Value) -> bool {
    item.name() == Some(CARRIER)
}

/// Adds the record to a container's environment.
fn carry(container: &mut Value, record: &str) {
    let Value::Map(entries) = container else { return };
    let variable = Value::from([("name", RECORD), ("value", record)]);
    match entries.iter_mut().find(|(name, _)| name == "env") {
        Some((_, Value::List(variables))) => variables.push(variable),
        Some((_, other)) => *other = Value::List(vec![variable]),
        None => entries.push(("env".to_owned(), Value::List(vec![variable]))),
    }
}

/// The name of an item.
pub(super) fn name(document: &Document, item: Id) -> Option<&str> {
    document.child(item, &Step::Key("name".to_owned())).and_then(|name| document.text(name))
}

fn value_at<'v>(value: &'v Value, path: &Path) -> Option<&'v Value> {
    path.0.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.entries().iter().find(|(name, _)| name == key).map(|(_, value)| value),
        Step::Index(index) => value.items().get(*index),
    })
}

/// What was added at the same place is noted together, in its order.
fn note(added: &mut Added, place: String, names: impl IntoIterator<Item = String>, end: End) {
    let known = added.entry(place).or_default();
    let at = if end == End::First { 0 } else { known.len() };
    known.splice(at..at, names);
}
