//! Where additions go in the text, and how they are written there.

use super::Wrong;
use super::insert::{Addition, Plan};
use super::layout::{Splice, after_comments, ends_open, indent, line_after, line_start, margin};
use super::tree::{Child, Document, Form, Id, Kind, Node};
use super::write::{Lines, Steps, pair, pretty};
use crate::value::Value;

impl Plan<'_> {
    /// All that is planned, in the order of the text. At one place, what belongs deeper inside comes first.
    pub(super) fn splices(&self) -> Result<Vec<Splice>, Wrong> {
        let mut splices = Vec::new();
        for (&id, addition) in &self.additions {
            let node = &self.document.nodes[id];
            let mut here = Vec::new();
            match (&addition.instead, node.form()) {
                (Some(value), _) => self.instead(id, value, &mut here)?,
                (None, Some(Form::Block(column))) => self.in_block(node, column, addition, &mut here)?,
                (None, Some(Form::Flow)) => self.in_flow(node, addition, &mut here),
                (None, _) => {
                    return Err(self.wrong(id, "this mapping has no brackets of its own; write it with {}"));
                }
            }
            splices.extend(here.into_iter().map(|splice| (splice, id)));
        }
        splices.sort_by_key(|(splice, id)| (splice.at, std::cmp::Reverse(*id)));
        Ok(splices.into_iter().map(|(splice, _)| splice).collect())
    }

    fn lines(&self) -> Lines<'_> {
        Lines { text: String::new(), newline: self.newline, steps: self.steps }
    }

    fn in_block(
        &self,
        node: &Node,
        column: usize,
        addition: &Addition,
        out: &mut Vec<Splice>,
    ) -> Result<(), Wrong> {
        if !addition.first.is_empty() {
            let mut lines = self.lines();
            addition.first.iter().for_each(|item| lines.item(column, item));
            out.push(self.before(node, column, lines.text));
        }
        let mut lines = self.lines();
        addition.last.iter().for_each(|item| lines.item(column, item));
        addition.entries.iter().for_each(|(key, value)| lines.entry(column, key, value));
        if !lines.text.is_empty() {
            // Where the dashes stand below the key that leads to them, a comment there may be of the next key.
            let parent = self.document.nodes[node.parent].form();
            let indented = matches!(node.kind, Kind::Map { .. }) || parent != Some(Form::Block(column));
            out.push(self.behind(node, column + usize::from(!indented), lines.text)?);
        }
        Ok(())
    }

    /// Before the first item of a list, and before the comments that speak of it.
    fn before(&self, list: &Node, column: usize, lines: String) -> Splice {
        let from = list.children().first().map_or(list.start, |child| child.from);
        if margin(self.text, from).is_some() {
            let at = line_after(self.text, list.open).min(line_start(self.text, from));
            return Splice { at, old: 0, new: lines };
        }
        // `- - a`: the inner list begins in the middle of a line, and goes on in that column.
        let new = lines[column..].to_owned() + &lines[..column];
        Splice { at: from, old: 0, new }
    }

    /// Behind the last line of a node, and behind the comments that follow it from `column` on.
    fn behind(&self, node: &Node, column: usize, lines: String) -> Result<Splice, Wrong> {
        let at = after_comments(self.text, line_after(self.text, node.end), column);
        if at < self.text.len() || !ends_open(self.text) {
            return Ok(Splice { at, old: 0, new: lines });
        }
        if self.document.open_scalar {
            let reason = "the file ends within a text, without a line break, and nothing can come behind it; add a line break";
            return Err(Wrong::at(node.place, reason));
        }
        let new = self.newline.to_owned() + lines.strip_suffix(self.newline).unwrap_or(&lines);
        Ok(Splice { at, old: 0, new })
    }

    /// In the place of a null. In a block it stays, as a comment.
    fn instead(&self, id: Id, value: &Value, out: &mut Vec<Splice>) -> Result<(), Wrong> {
        let node = &self.document.nodes[id];
        let parent = &self.document.nodes[node.parent];
        match (&parent.kind, parent.form()) {
            (Kind::Map { .. }, Some(Form::Block(column))) => {
                if node.start < node.end {
                    out.push(Splice { at: node.start, old: 0, new: "# ".to_owned() });
                }
                let mut lines = self.lines();
                lines.below(column, value);
                out.push(self.behind(node, column + 1, lines.text)?);
            }
            (Kind::Map { .. }, Some(Form::Flow)) if node.start < node.end => {
                out.push(Splice { at: node.start, old: node.end - node.start, new: value.to_string() });
            }
            (Kind::Map { .. }, Some(Form::Flow)) if self.text[..node.open].ends_with(':') => {
                out.push(Splice { at: node.open, old: 0, new: format!(" {value}") });
            }
            _ => return Err(self.wrong(id, "nothing can be added to a null in this place; write {} or []")),
        }
        Ok(())
    }

    fn in_flow(&self, node: &Node, addition: &Addition, out: &mut Vec<Splice>) {
        let children = node.children();
        let [first, .., last] = children else {
            let [only] = children else { return out.push(self.in_empty(node, addition)) };
            return self.beside(node, (only, only), addition, out);
        };
        self.beside(node, (first, last), addition, out);
    }

    fn beside(
        &self,
        node: &Node,
        (first, last): (&Child, &Child),
        addition: &Addition,
        out: &mut Vec<Splice>,
    ) {
        if !addition.first.is_empty() {
            let (gap, unit) = self.gap(node, first);
            let new: String =
                addition.first.iter().map(|item| flow(item, &gap, &unit) + "," + or_space(&gap)).collect();
            out.push(Splice { at: first.from, old: 0, new });
        }
        let (gap, unit) = self.gap(node, last);
        let items = addition.last.iter().map(|item| flow(item, &gap, &unit));
        let entries = addition.entries.iter().map(|(key, value)| pair(key, &flow(value, &gap, &unit)));
        let new: String = items.chain(entries).map(|part| format!(",{}{part}", or_space(&gap))).collect();
        if !new.is_empty() {
            out.push(Splice { at: self.document.nodes[last.id].end, old: 0, new });
        }
    }

    /// What stands before a child that has a line of its own, the line break included, and how far that is inside; nothing
    /// where it shares the line.
    fn gap(&self, node: &Node, child: &Child) -> (String, String) {
        let Some(margin) = margin(self.text, child.from) else { return (String::new(), String::new()) };
        let outer = indent(self.text, line_start(self.text, node.end.saturating_sub(1)));
        let unit = margin.strip_prefix(outer).filter(|unit| !unit.is_empty()).unwrap_or("  ");
        (format!("{}{margin}", self.newline), unit.to_owned())
    }

    /// Between the brackets of a node that has nothing in it.
    fn in_empty(&self, node: &Node, addition: &Addition) -> Splice {
        let parts: Vec<Value> = addition.first.iter().chain(&addition.last).cloned().collect();
        let value = if matches!(node.kind, Kind::Map { .. }) {
            Value::Map(addition.entries.clone())
        } else {
            Value::List(parts)
        };
        let parent = &self.document.nodes[node.parent];
        let beside = parent.children().first().filter(|_| parent.form() == Some(Form::Flow));
        let (gap, unit) = beside.map(|child| self.gap(parent, child)).unwrap_or_default();
        // What is between the brackets stays: only where that is nothing can line breaks be told from it again.
        let roomy = node.end == node.open + 1;
        let written = if roomy { flow(&value, &gap, &unit) } else { value.to_string() };
        Splice { at: node.open, old: 0, new: written[1..written.len() - 1].to_owned() }
    }
}

fn flow(value: &Value, gap: &str, unit: &str) -> String {
    if gap.is_empty() { value.to_string() } else { pretty(value, gap, unit) }
}

fn or_space(gap: &str) -> &str {
    if gap.is_empty() { " " } else { gap }
}

/// How the document is indented: as the first block in a block of it is.
pub(super) fn steps(document: &Document) -> Steps {
    let inside = |lists: bool| {
        document.nodes.iter().find_map(|node| {
            let (Form::Block(inner), Form::Block(outer)) =
                (node.form()?, document.nodes[node.parent].form()?)
            else {
                return None;
            };
            let of_map = matches!(document.nodes[node.parent].kind, Kind::Map { .. });
            let is_list = matches!(node.kind, Kind::List { .. });
            (of_map && is_list == lists && node.open != document.nodes[0].open)
                .then(|| inner.saturating_sub(outer))
        })
    };
    let map = inside(false).unwrap_or(2).max(1);
    Steps { map, list: inside(true).unwrap_or(map) }
}
