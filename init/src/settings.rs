//! The values of options as they were given, on the command line, in the environment or in a file, with the place
//! from which they came: an error must name what the user wrote.
//!
//! What stands on the command line wins over the environment, and that over the file. A list is taken whole from
//! one of them.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::{Display, Formatter};

use dragoman_capture::Invalid;

/// Input that cannot be meant, in one line that names it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wrong(pub(crate) String);

impl Display for Wrong {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// How often an option may be given, and with what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One value.
    One,
    /// Values separated by commas, any number of times.
    List,
    /// No value, or `true` or `false`.
    Switch,
}

/// Every option that takes part in the rules or the command.
const OPTIONS: [(&str, Kind); 24] = [
    ("port", Kind::One),
    ("proxy-gid", Kind::One),
    ("mark", Kind::One),
    ("exclude-cidr", Kind::List),
    ("include-cidr", Kind::List),
    ("exclude-port", Kind::List),
    ("include-port", Kind::List),
    ("exclude-uid", Kind::List),
    ("exclude-gid", Kind::List),
    ("exclude-interface", Kind::List),
    ("ipv6", Kind::One),
    ("capture-loopback", Kind::Switch),
    ("capture-dns", Kind::One),
    ("reject-quic", Kind::Switch),
    ("drop-invalid", Kind::Switch),
    ("inbound", Kind::Switch),
    ("inbound-port", Kind::One),
    ("exclude-inbound-port", Kind::List),
    ("include-inbound-port", Kind::List),
    ("drain", Kind::One),
    ("dry-run", Kind::Switch),
    ("json", Kind::Switch),
    ("iptables", Kind::Switch),
    ("options", Kind::One),
];

/// The option that names the file of options.
pub(crate) const FILE: &str = "options";
/// No file of options is longer, in bytes.
pub(crate) const FILE_BYTES: u64 = 1024 * 1024;

const PREFIX: &str = "DRAGOMAN_INIT_";

/// The option of this name.
pub(crate) fn option(name: &str) -> Option<(&'static str, Kind)> {
    OPTIONS.into_iter().find(|(known, _)| *known == name)
}

/// What was given, by the name of the option.
#[derive(Default)]
pub(crate) struct Settings {
    given: BTreeMap<&'static str, Given>,
    /// The path of the file of options, as it was given.
    file: String,
}

struct Given {
    from: From,
    /// Not split at commas yet; never empty.
    values: Vec<Value>,
}

struct Value {
    text: String,
    /// In the file, from 1; 0 elsewhere.
    line: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Flag,
    Environment,
    File,
}

impl Settings {
    /// Takes an option of the command line.
    pub(crate) fn flag(&mut self, name: &'static str, kind: Kind, text: String) -> Result<(), Wrong> {
        if self.take(From::Flag, name, kind, Value { text, line: 0 }) {
            Ok(())
        } else {
            Err(Wrong(format!("--{name} is given twice")))
        }
    }

    /// Takes the variables whose option is not on the command line. One that names no option is a mistake, unless
    /// Kubernetes put it there.
    pub(crate) fn environment(
        &mut self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<(), Wrong> {
        for (variable, value) in variables {
            let Some(variable) = variable.to_str().filter(|variable| variable.starts_with(PREFIX)) else {
                continue;
            };
            if is_service_link(variable, &value) {
                continue;
            }
            let (name, kind) = OPTIONS
                .into_iter()
                .find(|(name, _)| self::variable(name) == variable)
                .ok_or_else(|| Wrong(format!("{variable}: no option has this variable; see --help")))?;
            let text = value
                .into_string()
                .map_err(|value| Wrong(format!("{variable}={}: is not UTF-8", value.display())))?;
            if !text.trim().is_empty() {
                self.take(From::Environment, name, kind, Value { text, line: 0 });
            }
        }
        Ok(())
    }

    /// Takes the lines of a file whose options are neither on the command line nor in the environment: one option
    /// in each line, as on the command line, with or without dashes; `#` begins a comment.
    pub(crate) fn file(&mut self, path: &str, text: &str) -> Result<(), Wrong> {
        path.clone_into(&mut self.file);
        for (index, content) in text.lines().enumerate() {
            let line = index + 1;
            let content = content.split('#').next().unwrap_or_default().trim();
            if content.is_empty() {
                continue;
            }
            let at = |reason: String| Wrong(format!("{path}:{line}: {reason}"));
            let (name, value) = split(content);
            let (name, kind) = option(name)
                .filter(|(name, _)| *name != FILE)
                .ok_or_else(|| at(format!("{name}: no such option; see --help")))?;
            let text = match (value, kind) {
                ("", Kind::Switch) => "true",
                ("", Kind::One | Kind::List) => return Err(at(format!("{name}: a value must follow"))),
                (value, _) => value,
            };
            if !self.take(From::File, name, kind, Value { text: text.to_owned(), line }) {
                return Err(at(format!("{name} is given twice")));
            }
        }
        Ok(())
    }

    /// Whether the option is on the command line.
    pub(crate) fn has_flag(&self, name: &str) -> bool {
        self.given.get(name).is_some_and(|given| given.from == From::Flag)
    }

    /// Whether the option is given anywhere.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// The value of an option, read by `read`, whose error says what was expected.
    pub(crate) fn one<T>(
        &self,
        name: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Wrong> {
        let Some(given) = self.given.get(name) else { return Ok(None) };
        let Some(value) = given.values.first() else { return Ok(None) };
        let text = value.text.trim();
        read(text).map(Some).map_err(|reason| self.wrong(name, text, value.line, &reason))
    }

    /// The values of a list, each read by `read`, whose error says what was expected.
    pub(crate) fn list<T>(
        &self,
        name: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, Wrong> {
        let values = self.given.get(name).into_iter().flat_map(|given| &given.values);
        values
            .flat_map(|value| value.text.split(',').map(move |item| (item.trim(), value.line)))
            .map(|(item, line)| read(item).map_err(|reason| self.wrong(name, item, line, &reason)))
            .collect()
    }

    /// A refusal of the options as a whole, by the name under which the value came.
    pub(crate) fn invalid(&self, invalid: &Invalid) -> Wrong {
        let values = self.given.get(invalid.option).map_or(&[][..], |given| &given.values);
        // The last of them: where a value is given twice, the second one is the mistake.
        let is_it = |value: &&Value| value.text.split(',').any(|item| item.trim() == invalid.value);
        let line = values.iter().rev().find(is_it).or(values.last()).map_or(0, |value| value.line);
        self.wrong(invalid.option, &invalid.value, line, &invalid.reason)
    }

    /// False if the option may be given only once in one place, and was already. What a place of higher standing
    /// has said stays.
    fn take(&mut self, from: From, name: &'static str, kind: Kind, value: Value) -> bool {
        let given = self.given.entry(name).or_insert(Given { from, values: Vec::new() });
        if given.from != from {
            return true;
        }
        given.values.push(value);
        kind == Kind::List || given.values.len() == 1
    }

    fn wrong(&self, name: &str, value: &str, line: usize, reason: &str) -> Wrong {
        let value = if value.is_empty() { "\"\"" } else { value };
        Wrong(match self.given.get(name).map(|given| given.from) {
            Some(From::Environment) => format!("{}={value}: {reason}", variable(name)),
            Some(From::File) => format!("{}:{line}: {name} {value}: {reason}", self.file),
            Some(From::Flag) | None => format!("--{name} {value}: {reason}"),
        })
    }
}

/// A line of the file as a name and the rest: `--port 1`, `port 1` and `port = 1` are the same.
fn split(content: &str) -> (&str, &str) {
    let content = content.strip_prefix("--").unwrap_or(content);
    let end = content.find(|c: char| c == '=' || c.is_whitespace()).unwrap_or(content.len());
    let (name, rest) = content.split_at(end);
    let rest = rest.trim_start();
    (name, rest.strip_prefix('=').unwrap_or(rest).trim())
}

fn variable(name: &str) -> String {
    PREFIX.to_owned() + &name.to_ascii_uppercase().replace('-', "_")
}

/// Whether Kubernetes tells of a Service by this variable, as it does in every container of its namespace
/// (`enableServiceLinks`): of one called `dragoman-init`, `DRAGOMAN_INIT_PORT=tcp://10.0.0.1:80` is one of seven.
fn is_service_link(variable: &str, value: &OsStr) -> bool {
    let protocols = ["tcp", "udp", "sctp"];
    let is_url = |value: &str| {
        value
            .split_once("://")
            .is_some_and(|(protocol, _)| protocols.contains(&protocol.to_ascii_lowercase().as_str()))
    };
    let is_of_port = |rest: &str| {
        let mut words = rest.split('_');
        words.next().is_some_and(|port| port.parse::<u16>().is_ok())
            && words
                .next()
                .is_some_and(|protocol| protocols.contains(&protocol.to_ascii_lowercase().as_str()))
    };
    variable.ends_with("_SERVICE_HOST")
        || variable.ends_with("_SERVICE_PORT")
        || variable.contains("_SERVICE_PORT_")
        || variable.ends_with("_PORT") && value.to_str().is_some_and(is_url)
        || variable.match_indices("_PORT_").any(|(at, word)| is_of_port(&variable[at + word.len()..]))
}
