//! From the parser's events to trees.

use std::collections::HashMap;

use granit_parser::{Event, Marker, Parser, ScalarStyle, Span, StructureStyle, Tag, options};

use super::layout::{ends_open, line_start, line_starts, margin, skip};
use super::tree::{Child, Document, Form, Id, Kind, Node, Place};
use super::{Wrong, meaning, scalar};
use crate::value::Value;

/// Deeper than any manifest, and shallow enough for every recursion here.
const DEEPEST: usize = 255;

/// What YAML 1.1, which Kubernetes' tools read, takes for line breaks, and YAML 1.2 for letters as any other.
const OLD_BREAKS: [char; 3] = ['\u{85}', '\u{2028}', '\u{2029}'];

const NO_KEY: &str = "this key is a list or a mapping, which Kubernetes has no use for";

/// The documents of a stream. Those that are empty count; a stream of comments alone has none.
///
/// # Errors
/// What is not YAML, and what Kubernetes' tools would not take or take differently: a key twice in a mapping, a key that is
/// no scalar, aliases without end, nesting deeper than 255.
pub(crate) fn parse(text: &str) -> Result<Vec<Document>, Wrong> {
    let options = options! {
        emit_anchor_events: true,
        emit_comments: false,
        flow_nesting_limit: DEEPEST,
        block_nesting_limit: DEEPEST,
    };
    let mut documents = Vec::new();
    let mut quoted = Vec::new();
    let mut reader = Reader::new(text, 0);
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, span) = next.map_err(|error| Wrong::at(place_of(error.marker()), error.info()))?;
        if let Event::Scalar(_, ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted, ..) = event {
            quoted.push(range(&span));
        }
        match event {
            Event::DocumentStart(explicit, _) => {
                let (start, end) = range(&span);
                reader = Reader::new(text, if explicit { end } else { start });
            }
            Event::DocumentEnd => {
                documents.push(std::mem::replace(&mut reader, Reader::new(text, 0)).finish()?);
            }
            event => reader.take(&event, &span)?,
        }
    }
    refuse_old_breaks(text, &quoted)?;
    Ok(documents)
}

/// Outside of quotes, what comes behind one of them is another line to Kubernetes' tools: a comment ends there, say.
fn refuse_old_breaks(text: &str, quoted: &[(usize, usize)]) -> Result<(), Wrong> {
    for (at, found) in text.match_indices(OLD_BREAKS) {
        let before = quoted.partition_point(|(start, _)| *start <= at);
        if before.checked_sub(1).is_some_and(|last| at < quoted[last].1) {
            continue;
        }
        let line = line_starts(&text[..at]).count();
        let column = text[line_start(text, at)..at].chars().count() + 1;
        let reason = format!("{} is a line break to Kubernetes' tools; take it out", found.escape_unicode());
        return Err(Wrong::at((line, column), reason));
    }
    Ok(())
}

fn place_of(marker: &Marker) -> Place {
    (marker.line(), marker.col() + 1)
}

fn range(span: &Span) -> (usize, usize) {
    (span.start.byte_offset().unwrap_or_default(), span.end.byte_offset().unwrap_or_default())
}

/// Reads one document.
struct Reader<'a> {
    text: &'a str,
    /// Behind the `---` that the document begins with.
    begin: usize,
    nodes: Vec<Node>,
    stack: Vec<Open>,
    anchors: HashMap<usize, Id>,
    /// The node that an anchor belongs to which comes now.
    last: Option<Id>,
    open_scalar: bool,
}

/// A list or a mapping that is not at its end.
struct Open {
    id: Id,
    /// Behind the last child, or where the first one may begin.
    done: usize,
    /// Where the item begins that comes now.
    item: usize,
    /// Behind its dash, or behind the colon of the entry.
    lead: usize,
    key: Option<Key>,
    lines: HashMap<String, usize>,
}

/// A key whose value comes now.
struct Key {
    text: String,
    from: usize,
    end: usize,
    place: Place,
    merges: bool,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, begin: usize) -> Self {
        let (nodes, stack, anchors) = (Vec::new(), Vec::new(), HashMap::new());
        Reader { text, begin, nodes, stack, anchors, last: None, open_scalar: false }
    }

    fn finish(self) -> Result<Document, Wrong> {
        let value = meaning::value(&self.nodes, 0)?;
        Ok(Document { nodes: self.nodes, value, open_scalar: self.open_scalar })
    }

    fn take(&mut self, event: &Event<'_>, span: &Span) -> Result<(), Wrong> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.scalar(text, *style, *anchor, tag.as_deref(), span)
            }
            Event::Alias(anchor) => self.alias(*anchor, span),
            Event::Anchor(..) => {
                self.anchor(range(span).1);
                Ok(())
            }
            Event::SequenceStart(style, anchor, tag) => {
                let form = if *style == StructureStyle::Flow { Form::Flow } else { Form::Block(0) };
                self.enter(Kind::List { form, items: vec![] }, *anchor, tag.as_deref(), span)
            }
            Event::MappingStart(style, anchor, tag) => {
                let form = match style {
                    StructureStyle::Block => Form::Block(span.start.col()),
                    StructureStyle::Flow if self.text[range(span).0..].starts_with('{') => Form::Flow,
                    StructureStyle::Flow => Form::Pair,
                };
                self.enter(Kind::Map { form, entries: vec![] }, *anchor, tag.as_deref(), span)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                self.leave(range(span).1);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        span: &Span,
    ) -> Result<(), Wrong> {
        let (start, end) = range(span);
        let absent = start == end && style == ScalarStyle::Plain;
        // The parser says `~` for a scalar that is not there.
        let text = if absent { "" } else { text };
        let merges = text == "<<" && style == ScalarStyle::Plain;
        let meaning = self.meaning(text, style, tag, span)?;
        if self.wants_key() {
            return self.key(&meaning, anchor, merges, span);
        }
        let open_scalar = ends_open(self.text)
            && end == self.text.len()
            && matches!(style, ScalarStyle::Literal | ScalarStyle::Folded)
            && text.ends_with('\n');
        self.open_scalar |= open_scalar;
        let id = self.begin(Kind::Scalar(meaning), anchor, tag.is_some(), span)?;
        let node = &mut self.nodes[id];
        if absent {
            (node.start, node.end) = (node.open, node.open);
        } else if matches!(style, ScalarStyle::Literal | ScalarStyle::Folded)
            && margin(self.text, end).is_some()
        {
            // The parser has gone on into the white space of the next line.
            node.end = line_start(self.text, end);
        }
        self.attach(id);
        Ok(())
    }

    /// What it means, with or without a tag.
    fn meaning(
        &self,
        text: &str,
        style: ScalarStyle,
        tag: Option<&Tag>,
        span: &Span,
    ) -> Result<Value, Wrong> {
        let wrong = |reason: &str| Err(Wrong::at(place_of(&span.start), reason));
        let of_yaml = tag.and_then(|tag| tag.suffix_in_namespace("tag:yaml.org,2002:"));
        match (of_yaml.as_deref(), style) {
            (Some("binary"), _) => scalar::binary(text).map_or_else(|| wrong("!!binary: not base64"), Ok),
            (Some(_), _) | (None, ScalarStyle::Plain)
                if text == "<<" && tag.is_some() && self.wants_key() =>
            {
                wrong("a merge key (<<) takes no tag, and no quotes")
            }
            (Some(tag), _) => Ok(scalar::tagged(tag, text)),
            (None, ScalarStyle::Plain) => Ok(scalar::plain(text)),
            (None, _) => Ok(text.into()),
        }
    }

    fn alias(&mut self, anchor: usize, span: &Span) -> Result<(), Wrong> {
        let place = place_of(&span.start);
        let Some(&target) = self.anchors.get(&anchor) else {
            return Err(Wrong::at(place, "this alias stands for a key"));
        };
        if self.stack.iter().any(|open| open.id == target) {
            return Err(Wrong::at(place, "this alias stands for something that it is in itself"));
        }
        self.nodes[target].alias.get_or_insert(place);
        if self.wants_key() {
            let Kind::Scalar(value) = &self.nodes[target].kind else { return Err(Wrong::at(place, NO_KEY)) };
            return self.key(&value.clone(), 0, false, span);
        }
        let id = self.begin(Kind::Alias(target), 0, false, span)?;
        self.attach(id);
        Ok(())
    }

    /// The anchor of the node before ends here: what is in that node comes behind it.
    fn anchor(&mut self, end: usize) {
        let Some(id) = self.last.take() else { return };
        let node = &mut self.nodes[id];
        node.open = node.open.max(end);
        node.start = node.start.max(node.open);
        node.end = node.end.max(node.open);
        if let Some(open) = self.stack.last_mut() {
            open.done = open.done.max(end);
        }
    }

    fn wants_key(&self) -> bool {
        self.stack
            .last()
            .is_some_and(|open| open.key.is_none() && matches!(self.nodes[open.id].kind, Kind::Map { .. }))
    }

    fn key(&mut self, meaning: &Value, anchor: usize, merges: bool, span: &Span) -> Result<(), Wrong> {
        let place = place_of(&span.start);
        let text = match meaning {
            Value::Text(text) | Value::Number(text) => text.clone(),
            Value::Null => return Err(Wrong::at(place, "a key is missing, or null")),
            other => other.to_string(),
        };
        self.last = None;
        self.anchors.remove(&anchor);
        let Some(open) = self.stack.last_mut() else { return Ok(()) };
        if let Some(line) = open.lines.insert(text.clone(), place.0) {
            return Err(Wrong::at(place, format!("the key \"{text}\" is in line {line} already")));
        }
        let from = skip(self.text, open.done, b",");
        open.key = Some(Key { text, from, end: range(span).1, place, merges });
        Ok(())
    }

    /// A node, and what leads to it.
    fn begin(&mut self, kind: Kind, anchor: usize, tagged: bool, span: &Span) -> Result<Id, Wrong> {
        let mut place = place_of(&span.start);
        if self.stack.len() > DEEPEST {
            return Err(Wrong::at(place, format!("nested deeper than {DEEPEST}")));
        }
        let (start, end) = range(span);
        let parent = self.stack.last().map_or(0, |open| open.id);
        let open = match self.stack.last_mut() {
            None => self.begin,
            Some(Open { key: Some(key), .. }) => {
                place = key.place;
                let colon = skip(self.text, key.end, b"");
                if self.text[colon..].starts_with(':') { colon + 1 } else { key.end }
            }
            Some(parent) => {
                parent.item = skip(self.text, parent.done, b",");
                match &mut self.nodes[parent.id].kind {
                    Kind::List { form: Form::Block(column), .. } => {
                        let line = line_start(self.text, parent.item);
                        *column = self.text[line..parent.item].chars().count();
                        parent.item + 1
                    }
                    _ => parent.item,
                }
            }
        };
        let tag_end = span.tag_span().map_or(0, |tag| range(&tag).1);
        if let Some(parent) = self.stack.last_mut() {
            parent.lead = open;
        }
        let open = open.max(tag_end);
        let id = self.nodes.len();
        let (start, end) = (start.max(open), end.max(open));
        self.nodes.push(Node { kind, open, start, end, place, parent, alias: None, tagged });
        if anchor != 0 {
            self.anchors.insert(anchor, id);
        }
        self.last = Some(id);
        Ok(id)
    }

    fn enter(&mut self, kind: Kind, anchor: usize, tag: Option<&Tag>, span: &Span) -> Result<(), Wrong> {
        if self.wants_key() {
            return Err(Wrong::at(place_of(&span.start), NO_KEY));
        }
        let id = self.begin(kind, anchor, tag.is_some(), span)?;
        let node = &mut self.nodes[id];
        if node.form() == Some(Form::Flow) {
            node.open = node.end;
        }
        let done = node.open;
        self.stack.push(Open { id, done, item: done, lead: done, key: None, lines: HashMap::new() });
        Ok(())
    }

    fn leave(&mut self, end: usize) {
        let Some(open) = self.stack.pop() else { return };
        let node = &mut self.nodes[open.id];
        node.end = if node.form() == Some(Form::Flow) { end } else { open.done };
        self.attach(open.id);
    }

    /// The node is whole, and a child of the one around it.
    fn attach(&mut self, id: Id) {
        let Some(parent) = self.stack.last_mut() else { return };
        parent.done = self.nodes[id].end;
        match (&mut self.nodes[parent.id].kind, parent.key.take()) {
            (Kind::Map { entries, .. }, Some(key)) => {
                entries.push(Child {
                    key: key.text,
                    from: key.from,
                    lead: parent.lead,
                    id,
                    merges: key.merges,
                });
            }
            (Kind::List { items, .. }, _) => {
                items.push(Child {
                    key: String::new(),
                    from: parent.item,
                    lead: parent.lead,
                    id,
                    merges: false,
                });
            }
            _ => {}
        }
    }
}
