//! From records to cuts.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use super::layout::{Splice, break_before, ends_open, line_after, line_start, margin, spliced};
use super::lines::LinesBefore;
use super::read::parse;
use super::record::{Record, mark, pointer, steps};
use super::sum::sum;
use super::tree::{Child, Document, Form, Id, Kind, Node};
use super::{CARRIER, RECORD, Wrong, meaning};
use crate::value::Value;

/// A text without what was added to it.
#[derive(Debug)]
pub(crate) struct Undone {
    /// The text.
    pub(crate) text: String,
    /// What of it somebody had changed, which is gone too.
    pub(crate) lost: Vec<Part>,
    /// What the text means.
    pub(crate) documents: Vec<Document>,
    /// What was taken out of the one before, in order.
    cuts: Vec<Splice>,
}

impl Undone {
    /// The numbers of its lines in the text before, which is `with`.
    pub(crate) fn lines_before(&self, with: &str) -> LinesBefore {
        LinesBefore::new(with, &self.cuts, &self.text)
    }
}

/// A part of a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    /// Its line, from 1.
    pub line: usize,
    /// Where it is, and its name: `spec.initContainers "dragoman"`.
    pub what: String,
}

/// Whether something of this name is ever added at this place of a pod. A record stands in the text that it is about: what it
/// names beyond that is not ours to take out.
pub(crate) type Ours = fn(place: &str, name: &str) -> bool;

/// The text without what the records in it name, and without the records. Where nobody has written it anew since, that is
/// the text before, byte by byte; a text without a record comes back as it is.
///
/// # Errors
/// A text that is no YAML, and a record that this version cannot read, or that names what is not `ours`.
pub(crate) fn taken_out(text: &str, ours: Ours) -> Result<Undone, Wrong> {
    let documents = parse(text)?;
    let (cuts, lost) = cuts(text, &documents, ours)?;
    if cuts.is_empty() {
        return Ok(Undone { text: text.to_owned(), lost, documents, cuts });
    }
    let without = spliced(text, &cuts);
    let documents = parse(&without).map_err(|wrong| Wrong {
        line: LinesBefore::new(text, &cuts, &without).of(wrong.line),
        reason: format!("without what was added this would be no YAML any more ({})", wrong.reason),
        ..wrong
    })?;
    Ok(Undone { text: without, lost, documents, cuts })
}

/// The same for what was just added, and is parsed already.
pub(super) fn undone(text: &str, documents: &[Document]) -> Result<String, Wrong> {
    Ok(spliced(text, &cuts(text, documents, |_, _| true)?.0))
}

fn cuts(text: &str, documents: &[Document], ours: Ours) -> Result<(Vec<Splice>, Vec<Part>), Wrong> {
    let (mut cuts, mut lost) = (Vec::new(), Vec::new());
    for document in documents {
        let (fates, names) = (BTreeMap::new(), HashMap::new());
        let mut undo = Undo { text, document, fates, names, lost: Vec::new() };
        undo.find(ours)?;
        undo.cut(&mut cuts);
        lost.append(&mut undo.lost);
    }
    lost.sort();
    Ok((joined(text, cuts), lost))
}

/// What becomes of a child.
#[derive(Clone, Debug)]
enum Fate {
    /// It goes, with its key.
    Gone,
    /// Its key stays, with the null that was there.
    Null(String),
}

struct Undo<'a> {
    text: &'a str,
    document: &'a Document,
    /// By node, then by the number of the child.
    fates: BTreeMap<Id, BTreeMap<usize, Fate>>,
    /// The children of nodes, by key or by name.
    names: HashMap<Id, HashMap<&'a str, usize>>,
    lost: Vec<Part>,
}

impl<'a> Undo<'a> {
    /// Reads all records.
    fn find(&mut self, ours: Ours) -> Result<(), Wrong> {
        for pod in 0..self.document.nodes.len() {
            let Some(id) = self.carried(pod) else { continue };
            let record = self.document.text(id).and_then(Record::read).ok_or_else(|| {
                let reason = format!(
                    "{RECORD} in the environment of {CARRIER} is no record that this version of dragoman can read"
                );
                Wrong::at(self.document.nodes[id].place, reason)
            })?;
            if let Some((place, name)) = record.names().find(|(place, name)| !ours(place, name)) {
                let reason = format!(
                    "{RECORD} in the environment of {CARRIER} names {name:?} at {place}, which inject does not add; \
                     take out by hand what is dragoman's, and {RECORD} with it"
                );
                return Err(Wrong::at(self.document.nodes[id].place, reason));
            }
            self.record(pod, &record)?;
        }
        Ok(())
    }

    /// The record of a pod, in the environment of its sidecar.
    fn carried(&self, pod: Id) -> Option<Id> {
        let (spec, _) = self.child(pod, "spec")?;
        ["initContainers", "containers"].into_iter().find_map(|list| {
            let sidecar = self.item(self.child(spec, list)?.0, CARRIER)?;
            let variable = self.item(self.child(sidecar, "env")?.0, RECORD)?;
            Some(self.child(variable, "value")?.0)
        })
    }

    /// The item of a list that has this name.
    fn item(&self, list: Id, name: &str) -> Option<Id> {
        let Kind::List { items, .. } = &self.document.nodes[list].kind else { return None };
        items.iter().map(|item| item.id).find(|item| super::insert::name(self.document, *item) == Some(name))
    }

    fn child(&self, id: Id, key: &str) -> Option<(Id, usize)> {
        let Kind::Map { entries, .. } = &self.document.nodes[id].kind else { return None };
        let number = entries.iter().position(|child| child.key == key)?;
        Some((entries[number].id, number))
    }

    fn record(&mut self, pod: Id, record: &Record) -> Result<(), Wrong> {
        let nulls: HashMap<&str, &str> =
            record.null.iter().map(|(place, text)| (place.as_str(), text.as_str())).collect();
        let fate = |place: &str| nulls.get(place).map_or(Fate::Gone, |text| Fate::Null((*text).to_owned()));
        for (place, keys) in &record.keys {
            let Some((_, _, map)) = self.resolve(pod, place) else { continue };
            if !matches!(self.document.nodes[map].kind, Kind::Map { .. }) {
                continue;
            }
            for key in keys {
                if let Some(number) = self.number(map, key) {
                    let fate = fate(&pointer(place, key));
                    let known = self.fates.entry(map).or_default().insert(number, fate);
                    // Once: a record may name it again and again.
                    if known.is_none() {
                        self.compare(record, place, key, self.document.nodes[map].children()[number].id);
                    }
                }
            }
        }
        for (added, first) in [(&record.first, true), (&record.last, false)] {
            for (place, marks) in added {
                if let Some((_, _, list)) = self.resolve(pod, place) {
                    for (mark, id) in self.items(list, marks, first)? {
                        self.compare(record, place, mark, id);
                    }
                }
            }
        }
        let mut made: Vec<&String> = record.made.iter().collect();
        made.sort_by_key(|place| std::cmp::Reverse(steps(place).count()));
        for place in made {
            let Some((parent, number, id)) = self.resolve(pod, place) else { continue };
            let fates = self.fates.get(&id);
            let all = self.document.nodes[id].children().len();
            let gone =
                fates.map_or(0, |fates| fates.values().filter(|fate| matches!(fate, Fate::Gone)).count());
            if gone == all && self.document.nodes[id].form().is_some() {
                self.fates.entry(parent).or_default().insert(number, fate(place));
            }
        }
        Ok(())
    }

    /// Notes what is no longer as it was added.
    fn compare(&mut self, record: &Record, place: &str, name: &str, id: Id) {
        let Some(sum_then) = record.sums.get(&pointer(place, name)) else { return };
        let now = meaning::value(&self.document.nodes, id);
        if now.is_ok_and(|value| sum(&value) != *sum_then) {
            let line = self.document.nodes[id].place.0;
            let place = steps(place).collect::<Vec<_>>().join(".");
            self.lost.push(Part { line, what: format!("{} {name:?}", place.escape_debug()) });
        }
    }

    /// Takes the items that go by these marks, and answers those that have names: those nearest to the end at which they were
    /// added. Words, as those of a command, count together alone: one of them may be the user's as well.
    fn items<'m>(&mut self, list: Id, marks: &'m [String], first: bool) -> Result<Vec<(&'m str, Id)>, Wrong> {
        let Kind::List { items, .. } = &self.document.nodes[list].kind else { return Ok(Vec::new()) };
        let fates = self.fates.entry(list).or_default();
        let mut found: HashMap<String, VecDeque<usize>> = HashMap::new();
        let mut words = Vec::new();
        for (number, item) in items.iter().enumerate().filter(|(number, _)| !fates.contains_key(number)) {
            match meaning::value(&self.document.nodes, item.id) {
                Ok(Value::Text(word)) => words.push((number, word)),
                Ok(value) => found.entry(mark(&value)).or_default().push_back(number),
                Err(_) => {}
            }
        }
        let mut runs = words.windows(marks.len().max(1));
        let is_ours = |run: &&[(usize, String)]| run.iter().map(|(_, word)| word).eq(marks);
        let run = if first { runs.find(is_ours) } else { runs.rfind(is_ours) };
        if let Some(run) = run {
            fates.extend(run.iter().map(|(number, _)| (*number, Fate::Gone)));
            return Ok(Vec::new());
        }
        if let Some((number, word)) = words.iter().find(|(_, word)| marks.first() == Some(word)) {
            let reason = format!("{word:?} was added with others that are not there any more; take it out");
            return Err(Wrong::at(self.document.nodes[items[*number].id].place, reason));
        }
        let mut take = |mark: &'m String| {
            let numbers = found.get_mut(mark)?;
            let number = if first { numbers.pop_front() } else { numbers.pop_back() }?;
            fates.insert(number, Fate::Gone);
            Some((mark.as_str(), items[number].id))
        };
        Ok(if first {
            marks.iter().filter_map(&mut take).collect()
        } else {
            marks.iter().rev().filter_map(&mut take).collect()
        })
    }

    /// The node at a place: what it is in, which child of that it is, and itself.
    fn resolve(&mut self, pod: Id, place: &str) -> Option<(Id, usize, Id)> {
        let mut at = (pod, 0, pod);
        for step in steps(place) {
            let number = self.number(at.2, &step)?;
            at = (at.2, number, self.document.nodes[at.2].children()[number].id);
        }
        Some(at)
    }

    /// Which child has this key, or as an item this name.
    fn number(&mut self, parent: Id, name: &str) -> Option<usize> {
        let document = self.document;
        let names = self.names.entry(parent).or_insert_with(|| {
            let node = &document.nodes[parent];
            let is_map = matches!(node.kind, Kind::Map { .. });
            let name = |child: &'a Child| {
                if is_map { Some(child.key.as_str()) } else { super::insert::name(document, child.id) }
            };
            node.children()
                .iter()
                .enumerate()
                .filter_map(|(number, child)| Some((name(child)?, number)))
                .collect()
        });
        names.get(name).copied()
    }

    fn cut(&self, cuts: &mut Vec<Splice>) {
        let children = |id: Id| self.document.nodes[id].children();
        let going: HashSet<Id> = self
            .fates
            .iter()
            .flat_map(|(&id, fates)| fates.keys().map(move |&number| children(id)[number].id))
            .collect();
        for (&id, fates) in &self.fates {
            if self.is_in(id, &going) {
                continue;
            }
            let node = &self.document.nodes[id];
            let block = matches!(node.form(), Some(Form::Block(_)));
            for (&number, fate) in fates {
                let child = &node.children()[number];
                match fate {
                    Fate::Null(text) if block => self.null_in_block(child, text, cuts),
                    Fate::Null(text) => self.null_in_flow(child, text, cuts),
                    Fate::Gone if block => cuts.push(self.in_block(node, number, fates)),
                    Fate::Gone => {}
                }
            }
            if !block {
                self.in_flow(node, fates, cuts);
            } else if fates.len() == node.children().len()
                && fates.values().all(|fate| matches!(fate, Fate::Gone))
            {
                // It was in brackets before somebody wrote the text anew: only there was it empty.
                let empty = if matches!(node.kind, Kind::Map { .. }) { " {}" } else { " []" };
                cuts.push(Splice { at: node.open, old: 0, new: empty.to_owned() });
            }
        }
    }

    fn is_in(&self, mut id: Id, going: &HashSet<Id>) -> bool {
        while id != 0 && !going.contains(&id) {
            id = self.document.nodes[id].parent;
        }
        going.contains(&id)
    }

    fn in_block(&self, node: &Node, number: usize, fates: &BTreeMap<usize, Fate>) -> Splice {
        let children = node.children();
        let (from, end) = (children[number].from, self.document.nodes[children[number].id].end);
        if margin(self.text, from).is_some() {
            return cut(line_start(self.text, from), line_after(self.text, end));
        }
        // It shares its line with the dash before it: what comes next takes its place.
        let next = (number + 1..children.len()).find(|next| !matches!(fates.get(next), Some(Fate::Gone)));
        cut(from, next.map_or(end, |next| children[next].from))
    }

    fn in_flow(&self, node: &Node, fates: &BTreeMap<usize, Fate>, cuts: &mut Vec<Splice>) {
        let children = node.children();
        let gone = |number: &usize| matches!(fates.get(number), Some(Fate::Gone));
        let end = |number: usize| self.document.nodes[children[number].id].end;
        let mut number = 0;
        while number < children.len() {
            let run = (number..children.len()).take_while(gone).count();
            let next = number + run;
            if run > 0 {
                cuts.push(match (number, next) {
                    (0, next) if next == children.len() => {
                        self.all_in_flow(node, children[0].from, end(next - 1))
                    }
                    (0, next) => cut(children[0].from, children[next].from),
                    (number, next) => cut(end(number - 1), end(next - 1)),
                });
            }
            number = next + 1;
        }
    }

    /// Where line breaks were put in with it, all between the brackets goes.
    fn all_in_flow(&self, node: &Node, from: usize, end: usize) -> Splice {
        if self.text[node.open..from].contains(['\n', '\r']) {
            cut(node.open, node.end - 1)
        } else {
            cut(from, end)
        }
    }

    /// The null is there still, as a comment, unless somebody has written the text anew.
    fn null_in_block(&self, child: &Child, null: &str, cuts: &mut Vec<Splice>) {
        let node = &self.document.nodes[child.id];
        let start = match node.form() {
            Some(Form::Block(_)) => node.children().first().map_or(node.start, |child| child.from),
            _ => node.start,
        };
        if margin(self.text, start).is_some() {
            cuts.push(cut(line_start(self.text, start), line_after(self.text, node.end)));
        } else {
            cuts.push(cut(start, node.end));
        }
        if null.is_empty() {
            return;
        }
        let behind = child.lead;
        let comment = format!("# {null}");
        let between = &self.text[behind..start];
        let whole =
            |at: &usize| !between[at + comment.len()..].starts_with(|next: char| !next.is_whitespace());
        match between.match_indices(&comment).map(|(at, _)| at).find(whole) {
            Some(at) => cuts.push(cut(behind + at, behind + at + "# ".len())),
            None => cuts.push(Splice { at: behind, old: 0, new: format!(" {null}") }),
        }
    }

    fn null_in_flow(&self, child: &Child, null: &str, cuts: &mut Vec<Splice>) {
        let node = &self.document.nodes[child.id];
        let start = node.start;
        // JSON, which others may have made of it, has no other way to say null.
        let json = self.text[child.from..].starts_with('"');
        if null.is_empty() && !json {
            let space = usize::from(self.text[..start].ends_with(' '));
            cuts.push(cut(start - space, node.end));
        } else {
            let null = if null.is_empty() { "null" } else { null };
            cuts.push(Splice { at: start, old: node.end - start, new: null.to_owned() });
        }
    }
}

fn cut(from: usize, to: usize) -> Splice {
    Splice { at: from, old: to - from, new: String::new() }
}

/// In order, and without overlap. What takes the end off a text whose last line has no line break takes the one before it.
fn joined(text: &str, mut cuts: Vec<Splice>) -> Vec<Splice> {
    cuts.sort_by_key(|cut| cut.at);
    let mut joined: Vec<Splice> = Vec::with_capacity(cuts.len());
    for cut in cuts {
        match joined.last_mut() {
            Some(last)
                if cut.at <= last.at + last.old && (last.new.is_empty() || cut.at < last.at + last.old) =>
            {
                last.old = last.old.max(cut.at + cut.old - last.at);
                last.new.push_str(&cut.new);
            }
            _ => joined.push(cut),
        }
    }
    if let Some(last) = joined.last_mut()
        && ends_open(text)
        && last.at + last.old == text.len()
        && last.at == line_start(text, last.at)
        && last.new.is_empty()
    {
        let more = break_before(text, last.at);
        last.at -= more;
        last.old += more;
    }
    joined
}
