//! The values of options as they were given, on the command line or in the environment, with the name under which
//! they came: an error must name what the user wrote.

use std::collections::BTreeMap;
use std::ffi::OsString;
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
const OPTIONS: [(&str, Kind); 12] = [
    ("port", Kind::One),
    ("proxy-gid", Kind::One),
    ("exclude-cidr", Kind::List),
    ("include-cidr", Kind::List),
    ("exclude-port", Kind::List),
    ("include-port", Kind::List),
    ("exclude-uid", Kind::List),
    ("exclude-gid", Kind::List),
    ("ipv6", Kind::One),
    ("capture-loopback", Kind::Switch),
    ("drain", Kind::One),
    ("dry-run", Kind::Switch),
];

const PREFIX: &str = "DRAGOMAN_INIT_";

/// The option of this name.
pub(crate) fn option(name: &str) -> Option<(&'static str, Kind)> {
    OPTIONS.into_iter().find(|(known, _)| *known == name)
}

/// What was given, by the name of the option.
#[derive(Default)]
pub(crate) struct Settings(BTreeMap<&'static str, Given>);

struct Given {
    from: From,
    /// Not split at commas yet; never empty.
    values: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Flag,
    Environment,
}

impl Settings {
    /// Takes an option of the command line.
    pub(crate) fn flag(&mut self, name: &'static str, kind: Kind, value: String) -> Result<(), Wrong> {
        let given = self.0.entry(name).or_insert(Given { from: From::Flag, values: Vec::new() });
        given.values.push(value);
        match given.values.len() {
            1 => Ok(()),
            _ if kind == Kind::List => Ok(()),
            _ => Err(Wrong(format!("--{name} is given twice"))),
        }
    }

    /// Takes the variables whose option is not on the command line. One that names no option is a mistake.
    pub(crate) fn environment(
        &mut self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<(), Wrong> {
        for (variable, value) in variables {
            let Some(variable) = variable.to_str().filter(|variable| variable.starts_with(PREFIX)) else {
                continue;
            };
            let (name, _) = OPTIONS
                .into_iter()
                .find(|(name, _)| self::variable(name) == variable)
                .ok_or_else(|| Wrong(format!("{variable}: no option has this variable; see --help")))?;
            let value = value
                .into_string()
                .map_err(|value| Wrong(format!("{variable}={}: is not UTF-8", value.display())))?;
            if !value.trim().is_empty() {
                self.0.entry(name).or_insert(Given { from: From::Environment, values: vec![value] });
            }
        }
        Ok(())
    }

    /// Whether the option is on the command line.
    pub(crate) fn has_flag(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|given| given.from == From::Flag)
    }

    /// The value of an option, read by `read`, whose error says what was expected.
    pub(crate) fn one<T>(
        &self,
        name: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Wrong> {
        let Some(value) = self.0.get(name).and_then(|given| given.values.first()) else { return Ok(None) };
        read(value.trim()).map(Some).map_err(|reason| self.wrong(name, value.trim(), &reason))
    }

    /// The values of a list, each read by `read`, whose error says what was expected.
    pub(crate) fn list<T>(
        &self,
        name: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, Wrong> {
        let values = self.0.get(name).into_iter().flat_map(|given| &given.values);
        values
            .flat_map(|value| value.split(','))
            .map(|item| read(item.trim()).map_err(|reason| self.wrong(name, item.trim(), &reason)))
            .collect()
    }

    /// A refusal of the options as a whole, by the name under which the value came.
    pub(crate) fn invalid(&self, invalid: &Invalid) -> Wrong {
        self.wrong(invalid.option, &invalid.value, &invalid.reason)
    }

    fn wrong(&self, name: &str, value: &str, reason: &str) -> Wrong {
        let value = if value.is_empty() { "\"\"" } else { value };
        Wrong(match self.0.get(name) {
            Some(Given { from: From::Environment, .. }) => format!("{}={value}: {reason}", variable(name)),
            _ => format!("--{name} {value}: {reason}"),
        })
    }
}

fn variable(name: &str) -> String {
    PREFIX.to_owned() + &name.to_ascii_uppercase().replace('-', "_")
}
