//! The configuration: TOML in, a model that cannot be invalid out.
//!
//! Two stages, so that what follows can trust what it is given. `raw` mirrors the file: each key is
//! declared once, with its type, default and meaning, and everything that is unknown, mistyped or out of
//! range is refused there. `resolve` fills in what is inherited and refuses contradictions. Neither stops
//! at the first mistake: [`Errors`] holds them all, each with its place in the file and what to write.
//!
//! An empty file is valid and changes nothing. The keys are listed in `docs/configuration.md`, which is
//! [`reference()`]; which destination and which route wins is told there and in the modules `select` and
//! `route`.

mod effective;
mod environment;
mod errors;
mod model;
mod print;
mod raw;
mod read;
mod reference;
mod resolve;
mod route;
mod select;
mod suggest;
mod table;
mod value;

use std::{collections::HashSet, fs::File, io::Read, net::SocketAddr, path::Path, sync::Arc};

use toml::de::{DeTable, DeValue};

pub use errors::{Errors, Problem};
pub use model::{
    Access, Admin, BreakerPolicy, ByAddress, Destination, Format, HeaderRules, Level, Log, Name, Policy,
    PoolParams, Protocol, Proxy, Request, ResponseRules, Route,
};
pub use reference::reference;

use errors::{Lines, Place, Source};
use raw::Root;
use read::{Node, Reader};
use select::Index;

/// The largest file that is read, in bytes: enough for thousands of destinations, and an end for
/// `--config /dev/zero`.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// A valid configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The listener of captured connections, and the limits of the process.
    pub proxy: Proxy,
    /// The read-only surface for probes and scrapes.
    pub admin: Admin,
    /// The log of the process, and the access log.
    pub log: Log,
    index: Index,
    root: Root,
    sources: Vec<Source>,
}

impl Config {
    /// The configuration of an empty file, which changes nothing.
    pub fn empty() -> Self {
        Self::parse("", "", &|_| None).expect("the defaults contradict nothing, as a test shows")
    }

    /// Reads a file. `env` gives the value of an environment variable, such as those of the reference page.
    ///
    /// # Errors
    /// Every mistake at once, also those of the variables; or that the file cannot be read, is larger than
    /// 4 MiB, or is not UTF-8.
    pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Errors> {
        let name = path.display().to_string();
        match read_file(path) {
            Ok(bytes) => match String::from_utf8(bytes) {
                Ok(text) => Self::parse(&name, &text, env),
                Err(error) => Err(not_utf8(name, error.as_bytes(), error.utf8_error().valid_up_to())),
            },
            Err(reason) => {
                let problem = Problem::nowhere(format!("cannot read {name}: {reason}"));
                Err(Errors::new(vec![Source { name, text: String::new() }], vec![problem]))
            }
        }
    }

    /// Reads the text of a file called `name`; see [`load`](Self::load).
    ///
    /// # Errors
    /// Every mistake at once. Contradictions are looked for only in what is TOML.
    pub fn parse(name: &str, text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Errors> {
        let mut sources = vec![Source { name: name.to_owned(), text: text.to_owned() }];
        let mut reader = Reader::default();
        let (tree, syntax) = DeTable::parse_recoverable(text);
        let lines = Lines::of(text);
        let syntax = syntax_problems(text, &lines, &syntax);
        let tree = DeValue::Table(tree.into_inner());
        let mut root: Root = table::read_table(&Node { value: &tree, place: Place::default() }, &mut reader)
            .unwrap_or_default();
        environment::apply(&mut root, env, &mut sources, &mut reader);
        if !syntax.is_empty() {
            return Err(Errors::new(sources, beside(syntax, reader.problems, &lines)));
        }
        let resolved = resolve::resolve(&root, &mut reader.problems);
        if !reader.problems.is_empty() {
            return Err(Errors::new(sources, reader.problems));
        }
        let resolve::Resolved { proxy, admin, log, index } = resolved;
        Ok(Self { proxy, admin, log, index, root, sources })
    }

    /// Every destination; the one at index `i` has that [`Destination::index`]. Index 0 is the one that
    /// matches whatever no other does: the user's own without match keys, or the implicit "default".
    pub fn destinations(&self) -> &[Arc<Destination>] {
        self.index.destinations()
    }

    /// What is known of a flow to `dst` before it gives a name.
    pub fn by_address(&self, dst: SocketAddr) -> ByAddress<'_> {
        self.index.by_address(dst)
    }

    /// The destination of a flow to `dst` which gave that name. Quick enough for every exchange.
    pub fn lookup(&self, dst: SocketAddr, name: Name<'_>) -> &Arc<Destination> {
        self.index.lookup(dst, name)
    }

    /// The effective configuration as TOML of the same meaning: every key with its value and, as a comment,
    /// where it came from.
    pub fn print(&self) -> String {
        print::print(&self.root, &self.sources)
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes));
    match read {
        Err(error) => Err(error.to_string()),
        Ok(read) if read as u64 > MAX_FILE => Err("it is larger than 4 MiB".into()),
        Ok(_) => Ok(bytes),
    }
}

fn not_utf8(name: String, bytes: &[u8], valid: usize) -> Errors {
    let text = String::from_utf8_lossy(bytes).into_owned();
    // The replacement character that stands for the first bad byte.
    let place = Place::new(0, valid..valid + char::REPLACEMENT_CHARACTER.len_utf8());
    let problem = Problem::new(place, "the file is not UTF-8").label("this byte");
    Errors::new(vec![Source { name, text }], vec![problem.help("save the file as UTF-8")])
}

/// The syntax errors: the first of each line, because the parser stumbles over the rest of it.
fn syntax_problems(text: &str, lines: &Lines, errors: &[toml::de::Error]) -> Vec<Problem> {
    let mut places: Vec<_> = errors
        .iter()
        .map(|error| (Place::new(0, error.span().unwrap_or_default()), error.message()))
        .collect();
    places.sort_by_key(|(place, _)| *place);
    places.dedup_by_key(|(place, _)| lines.number(place.start));
    let explain = |(place, message): (Place, &str)| {
        let missing =
            place.start == place.end && text[..place.start].trim_end_matches([' ', '\t']).ends_with('=');
        let message = if missing { "a value is missing" } else { message };
        Problem::new(place, format!("not TOML: {message}"))
    };
    places.into_iter().map(explain).collect()
}

/// Adds the other mistakes to the syntax errors, without those on the same lines, which follow from them.
fn beside(mut syntax: Vec<Problem>, others: Vec<Problem>, lines: &Lines) -> Vec<Problem> {
    let line = |problem: &Problem| problem.span().map(|span| lines.number(span.start));
    let broken: HashSet<_> = syntax.iter().filter_map(line).collect();
    syntax.extend(
        others.into_iter().filter(|problem| line(problem).is_none_or(|line| !broken.contains(&line))),
    );
    syntax
}
