//! The effective configuration: every key with its value and where it came from.
//!
//! What is printed is itself a valid configuration of the same meaning: keys that are not set, or that
//! have no effect where they would stand, appear as comments.

use crate::{
    effective::Effective,
    errors::{Lines, Place, Source},
    raw::Root,
    read::{Located, Value},
    table::Table,
    value::collection::segment,
};

/// Where the comment beside a key starts, in columns.
const COMMENT_COLUMN: usize = 44;

/// The whole file as it takes effect.
pub(crate) fn print(root: &Root, sources: &[Source]) -> String {
    let named = root.destination();
    let destinations: Vec<_> = named.0.iter().map(|entry| Effective::of(root, entry)).collect();
    let mut page = Page { sources, text: String::new(), path: String::new(), effective: None };
    page.section("proxy");
    root.proxy().write_keys(&mut page);
    page.section("admin");
    root.admin().write_keys(&mut page);
    page.section("log");
    root.log().write_keys(&mut page);
    page.section("defaults");
    root.defaults().write_keys(&mut page);
    for effective in &destinations {
        let path = format!("destination.{}", segment(&effective.entry.name));
        page.section(&path);
        page.effective = Some(effective);
        effective.table.write_keys(&mut page);
        for route in &effective.routes {
            page.section(&format!("{path}.route.{}", segment(&route.name)));
            route.table.write_keys(&mut page);
        }
        page.effective = None;
    }
    page.text
}

/// A page that is being written.
pub(crate) struct Page<'a> {
    sources: &'a [Source],
    text: String,
    /// The dotted path of the keys that come next, below their section.
    path: String,
    /// The destination whose keys they are.
    effective: Option<&'a Effective<'a>>,
}

impl Page<'_> {
    fn section(&mut self, path: &str) {
        let gap = if self.text.is_empty() { "" } else { "\n" };
        self.text.push_str(&format!("{gap}[{path}]\n"));
    }

    /// One key: stated, by default, or not set.
    pub(crate) fn entry<T: Value>(&mut self, name: &str, stated: Option<&Located<T>>, default: Option<T>) {
        let key = format!("{}{name}", self.path);
        if let Some(reason) = self.effective.and_then(|effective| effective.inert(&key)) {
            if let Some(stated) = stated {
                let origin = self.origin(stated.place);
                self.text.push_str(&format!("# {key} has no effect: {} # {origin}\n", reason.text));
            }
            return;
        }
        match (stated, default) {
            (Some(stated), _) => stated.value.write(name, &self.origin(stated.place), self),
            (None, Some(default)) => default.write(name, "default", self),
            (None, None) => self.text.push_str(&format!("# {key} is not set\n")),
        }
    }

    /// One key with its value.
    pub(crate) fn line(&mut self, name: &str, value: &str, origin: &str) {
        let line = format!("{}{name} = {value}", self.path);
        self.text.push_str(&format!("{line:<width$} # {origin}\n", width = COMMENT_COLUMN - 1));
    }

    /// The keys inside the table `name`.
    pub(crate) fn below(&mut self, name: &str, write: impl FnOnce(&mut Self)) {
        let outer = self.path.len();
        self.path.push_str(&format!("{name}."));
        write(self);
        self.path.truncate(outer);
    }

    /// Where a value was stated.
    pub(crate) fn origin(&self, place: Place) -> String {
        let source = &self.sources[place.source];
        match source.text.split_once('=') {
            Some((variable, _)) if place.source > 0 => format!("environment {variable}"),
            _ => format!("line {}", Lines::of(&source.text).number(place.start)),
        }
    }
}
