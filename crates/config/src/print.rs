//! The effective configuration: every key with its value and where it came from.
//!
//! What is printed is itself a valid configuration of the same meaning: keys that are not set, or that have no
//! effect where they would stand, appear as comments. That is so unless [`Secrets::Masked`] took a value out of it, by
//! which routes may even become the same.
//!
//! Policy holds secrets only as the values of headers and parameters, and what is one can only be told by the
//! name beside it. The guess is meant to be wrong on the safe side.

use crate::{
    effective::Effective,
    errors::{Lines, Place, Source},
    raw::Root,
    read::{Located, Value},
    table::Table,
    value::{
        collection::{Switch, segment},
        quote,
    },
};

/// Where the comment beside a key starts, in columns.
const COMMENT_COLUMN: usize = 44;

/// What stands for a masked value; quoted, it is a value that any header may have.
const MASK: &str = "***";

/// Names with one of these in them, in any case, have values that are masked.
const SECRET_NAMES: [&str; 10] =
    ["auth", "bearer", "cookie", "credential", "key", "passw", "secret", "session", "signature", "token"];

/// What becomes of secrets: values of headers and parameters with a name such as `authorization` or `x-api-key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// They are replaced by `***`.
    Masked,
    /// They are printed, so that the page means the same as the files.
    Shown,
}

/// All files as they take effect.
pub(crate) fn print(root: &Root, sources: &[Source], secrets: Secrets) -> String {
    let named = root.destination();
    let destinations: Vec<_> = named.0.iter().map(|entry| Effective::of(root, entry)).collect();
    let lines = sources.iter().map(|source| Lines::of(&source.text)).collect();
    let mut page =
        Page { sources, lines, secrets, text: String::new(), path: String::new(), effective: None };
    page.section("proxy");
    root.proxy().write_keys(&mut page);
    page.section("admin");
    root.admin().write_keys(&mut page);
    page.section("control");
    root.control().write_keys(&mut page);
    page.section("log");
    root.log().write_keys(&mut page);
    page.section("dns");
    root.dns().write_keys(&mut page);
    page.section("trace");
    root.trace().write_keys(&mut page);
    page.section("recorder");
    root.recorder().write_keys(&mut page);
    page.section("identity");
    root.identity().write_keys(&mut page);
    inbound(root, &mut page);
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
    for entry in &root.listener().0 {
        page.section(&format!("listener.{}", segment(&entry.name)));
        entry.table.write_keys(&mut page);
    }
    page.text
}

/// What is off has no section: that it is off is what a file without one says too.
fn inbound(root: &Root, page: &mut Page<'_>) {
    let Switch::On(inbound) = root.inbound() else { return };
    page.section("inbound");
    inbound.write_keys(page);
    for entry in &inbound.app_port().0 {
        page.section(&format!("inbound.app_port.{}", segment(&entry.name)));
        entry.table.write_keys(page);
    }
}

/// A page that is being written.
pub(crate) struct Page<'a> {
    sources: &'a [Source],
    /// Those of each source, found once: every key asks for the number of its line.
    lines: Vec<Lines>,
    secrets: Secrets,
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

    /// One entry of a table of names and values.
    pub(crate) fn pair(&mut self, name: &str, value: &str, place: Place) {
        let origin = self.origin(place);
        let folded = name.to_ascii_lowercase();
        match self.secrets == Secrets::Masked && SECRET_NAMES.iter().any(|secret| folded.contains(secret)) {
            true => self.line(&segment(name), &quote(MASK), &format!("{origin}, masked")),
            false => self.line(&segment(name), &quote(value), &origin),
        }
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
        self.sources[place.source].origin(self.lines[place.source].number(place.start))
    }
}
