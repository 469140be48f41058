//! The handful of keys that a pod specification sets without a file: where something of it, such as its grace period,
//! decides what the value must be, or where it is easier to change.
//!
//! A variable overrides the files; what a destination says itself still wins over `[defaults]`. Its text becomes a source of its own, so that an error points into it as it would into the file. An empty
//! variable is one that is not set, because that is how templates leave one out.

use toml::{Spanned, de::DeValue};

use crate::{
    errors::{Place, Source},
    raw::Root,
    read::{Located, Node, Reader, Value},
    table::read_key,
    value::collection::Switch,
};

/// A variable and the key that it sets.
pub(crate) struct Variable {
    pub(crate) name: &'static str,
    /// The key, as a dotted path.
    pub(crate) key: &'static str,
    pub(crate) doc: &'static str,
    apply: fn(&mut Root, &Setting<'_>, &mut Reader),
}

pub(crate) const VARIABLES: [Variable; 10] = [
    Variable {
        name: "DRAGOMAN_RETRY_ATTEMPTS",
        key: "defaults.retry.attempts",
        doc: "Turns retry on.",
        apply: |root, setting, reader| {
            setting.put(&setting.number(), reader, &mut root.defaults, |defaults| {
                &mut turned_on(&mut defaults.exchange.retry, setting.place).attempts
            });
        },
    },
    Variable {
        name: "DRAGOMAN_BREAKER_FAILURES",
        key: "defaults.breaker.failures",
        doc: "Turns the breaker on.",
        apply: |root, setting, reader| {
            setting.put(&setting.number(), reader, &mut root.defaults, |defaults| {
                &mut turned_on(&mut defaults.connection.breaker, setting.place).failures
            });
        },
    },
    Variable {
        name: "DRAGOMAN_UPSTREAM",
        key: "defaults.endpoints",
        doc: "One or more IP:port, with commas between them.",
        apply: |root, setting, reader| {
            setting.put(&setting.list(), reader, &mut root.defaults, |defaults| {
                &mut defaults.connection.endpoints
            });
        },
    },
    Variable {
        name: "DRAGOMAN_LOG_LEVEL",
        key: "log.level",
        doc: "",
        apply: |root, setting, reader| {
            setting.put(&setting.string(), reader, &mut root.log, |log| &mut log.level);
        },
    },
    Variable {
        name: "DRAGOMAN_PROXY_DRAIN",
        key: "proxy.drain",
        doc: "As `28s`, with a unit; less than the time until SIGKILL.",
        apply: |root, setting, reader| {
            setting.put(&setting.string(), reader, &mut root.proxy, |proxy| &mut proxy.drain);
        },
    },
    Variable {
        name: "DRAGOMAN_PROXY_DRAIN_QUIET",
        key: "proxy.drain_quiet",
        doc: "`0s` where SIGTERM comes when the app is gone.",
        apply: |root, setting, reader| {
            setting.put(&setting.string(), reader, &mut root.proxy, |proxy| &mut proxy.drain_quiet);
        },
    },
    Variable {
        name: "DRAGOMAN_PROXY_DRAIN_WHILE_LISTENING",
        key: "proxy.drain_while_listening",
        doc: "`true` or `false`.",
        apply: |root, setting, reader| {
            setting
                .put(&setting.boolean(), reader, &mut root.proxy, |proxy| &mut proxy.drain_while_listening);
        },
    },
    Variable {
        name: "DRAGOMAN_ADMIN_LISTEN",
        key: "admin.listen",
        doc: "With commas between them: `0.0.0.0:15020,[::]:15020`.",
        apply: |root, setting, reader| {
            setting.put(&setting.list(), reader, &mut root.admin, |admin| &mut admin.listen);
        },
    },
    Variable {
        name: "DRAGOMAN_DNS_LISTEN",
        key: "dns.listen",
        doc: "With commas between them: `127.0.0.1:15053,[::1]:15053`.",
        apply: |root, setting, reader| {
            setting.put(&setting.list(), reader, &mut root.dns, |dns| &mut dns.listen);
        },
    },
    Variable {
        name: "DRAGOMAN_CONTROL_QUIT_ON_TCP",
        key: "control.quit_on_tcp",
        doc: "`true` or `false`.",
        apply: |root, setting, reader| {
            setting.put(&setting.boolean(), reader, &mut root.control, |control| &mut control.quit_on_tcp);
        },
    },
];

/// Applies each variable that is set, and adds it to the sources.
pub(crate) fn apply(
    root: &mut Root,
    env: &dyn Fn(&str) -> Option<String>,
    sources: &mut Vec<Source>,
    reader: &mut Reader,
) {
    for variable in &VARIABLES {
        let Some(text) = env(variable.name).filter(|text| !text.trim().is_empty()) else { continue };
        let start = variable.name.len() + 1;
        let place = Place { source: sources.len(), start, end: start + text.len() };
        let setting = Setting { variable: variable.name, text: &text, place };
        (variable.apply)(root, &setting, reader);
        sources.push(Source::variable(variable.name, &text));
    }
}

/// The text of a variable that is set.
struct Setting<'a> {
    variable: &'static str,
    text: &'a str,
    place: Place,
}

impl Setting<'_> {
    /// Reads `value` like that of a key, and puts it into its table, which is made where no file has it. Errors name the variable
    /// in place of the key, and leave the table as it is.
    fn put<T: Default, V: Value>(
        &self,
        value: &DeValue<'_>,
        reader: &mut Reader,
        table: &mut Option<Located<T>>,
        key: impl FnOnce(&mut T) -> &mut Option<Located<V>>,
    ) {
        let read = read_key(self.variable, &Node { value, place: self.place }, reader);
        if read.is_some() {
            *key(&mut table
                .get_or_insert_with(|| Located { value: T::default(), place: self.place })
                .value) = read;
        }
    }

    /// An integer if it is one; otherwise a string, which the key will refuse.
    fn number(&self) -> DeValue<'_> {
        match DeValue::parse(self.text.trim()) {
            Ok(value) if value.get_ref().is_integer() => value.into_inner(),
            _ => self.string(),
        }
    }

    /// `true` or `false` if it is one; otherwise a string, which the key will refuse.
    fn boolean(&self) -> DeValue<'_> {
        self.text.trim().parse().map_or_else(|_| self.string(), DeValue::Boolean)
    }

    fn string(&self) -> DeValue<'_> {
        DeValue::String(self.text.trim().into())
    }

    fn list(&self) -> DeValue<'_> {
        let mut start = self.place.start;
        let items = self.text.split(',').map(|item| {
            let at = start + (item.len() - item.trim_start().len());
            start += item.len() + 1;
            let item = item.trim();
            Spanned::new(at..at + item.len(), DeValue::String(item.into()))
        });
        DeValue::Array(items.collect())
    }
}

fn turned_on<T: Default>(switch: &mut Option<Located<Switch<T>>>, place: Place) -> &mut T {
    let located = switch.get_or_insert_with(|| Located { value: Switch::Off, place });
    if matches!(located.value, Switch::Off) {
        *located = Located { value: Switch::On(T::default()), place };
    }
    match &mut located.value {
        Switch::On(settings) => settings,
        Switch::Off => unreachable!("it was turned on above"),
    }
}
