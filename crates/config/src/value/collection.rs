//! Lists, tables that can be switched off, and tables of named tables.

use std::collections::HashMap;

use serde_json::json;
use toml::de::DeValue;

use crate::{
    errors::{Place, Problem},
    print::Page,
    read::{Fault, Item, Located, Node, Reader, Value, entries},
    schema::Json,
    table::{Key, Table, read_table},
    value::quote,
};

/// A list without duplicates, which may be empty.
#[derive(Clone, Debug)]
pub(crate) struct List<T>(pub(crate) Vec<Located<T>>);

impl<T: Item> List<T> {
    /// A list that stands nowhere in the file.
    pub(crate) fn of(items: impl IntoIterator<Item = T>) -> Self {
        let place = Place::default();
        Self(items.into_iter().map(|value| Located { value, place }).collect())
    }

    /// The items without their places.
    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|item| &item.value)
    }
}

impl<T: Item> Value for List<T> {
    fn describe() -> String {
        format!("a list of {}", T::plural())
    }

    fn schema() -> Json {
        json!({ "type": "array", "items": T::schema(), "uniqueItems": true })
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let DeValue::Array(array) = node.value else {
            reader.mismatch::<Self>(node, Fault::new(node.found()).help("put it in brackets: [ … ]"));
            return None;
        };
        let mut items: Vec<Located<T>> = Vec::with_capacity(array.len());
        for node in array.iter().map(|value| Node::new(value, node.place.source)) {
            let Some(value) = T::read(&node, reader) else { continue };
            match items.iter().find(|item| item.value == value) {
                Some(first) => reader.report(
                    Problem::new(node.place, format!("{} is in the list twice", value.toml()))
                        .label("again")
                        .also(first.place, "first"),
                ),
                None => items.push(Located { value, place: node.place }),
            }
        }
        Some(Self(items))
    }

    fn toml(&self) -> String {
        let items: Vec<_> = self.values().map(Value::toml).collect();
        format!("[{}]", items.join(", "))
    }
}

/// A list that says nothing when it is empty, and therefore must not be.
#[derive(Clone, Debug)]
pub(crate) struct NonEmpty<T>(pub(crate) List<T>);

impl<T: Item> Value for NonEmpty<T> {
    fn describe() -> String {
        format!("a list of one or more {}", T::plural())
    }

    fn schema() -> Json {
        let mut schema = List::<T>::schema();
        schema["minItems"] = 1.into();
        schema
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        if node.value.as_array().is_some_and(|array| array.is_empty()) {
            let fault = Fault::new("the list is empty");
            reader.mismatch::<Self>(node, fault.help("leave the key out if nothing is meant"));
            return None;
        }
        List::read(node, reader).map(Self)
    }

    fn toml(&self) -> String {
        self.0.toml()
    }
}

/// A table of settings whose presence, even empty, turns something on, and `false` off.
#[derive(Clone, Debug)]
pub(crate) enum Switch<T> {
    Off,
    On(T),
}

impl<T> Switch<T> {
    pub(crate) fn on(self) -> Option<T> {
        match self {
            Self::Off => None,
            Self::On(settings) => Some(settings),
        }
    }
}

impl<T: Table + Value> Value for Switch<T> {
    fn describe() -> String {
        "a table (`{}` is all defaults) or `false`".into()
    }

    fn schema() -> Json {
        let mut schema = T::schema();
        schema["type"] = json!(["object", "boolean"]);
        schema["not"] = json!({ "const": true });
        schema
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        match node.value {
            DeValue::Boolean(false) => Some(Self::Off),
            DeValue::Boolean(true) => {
                let fault = Fault::new("`true` has no settings");
                reader.mismatch::<Self>(node, fault.help("write `{}` to turn it on with its defaults"));
                None
            }
            DeValue::Table(_) => read_table(node, reader).map(Self::On),
            _ => {
                reader.mismatch::<Self>(node, Fault::new(node.found()));
                None
            }
        }
    }

    fn toml(&self) -> String {
        match self {
            Self::Off => "false".into(),
            Self::On(settings) => settings.toml(),
        }
    }

    fn inherit(&mut self, base: &Self) {
        if let (Self::On(own), Self::On(base)) = (self, base) {
            own.inherit_keys(base);
        }
    }

    fn stated(&self, path: &str, found: &mut Vec<(String, Place)>) {
        if let Self::On(settings) = self {
            settings.stated_keys(path, found);
        }
    }

    fn write(&self, key: &str, origin: &str, page: &mut Page<'_>) {
        match self {
            Self::Off => page.line(key, "false", origin),
            Self::On(settings) => Value::write(settings, key, origin, page),
        }
    }

    fn keys() -> Vec<Key> {
        T::all_keys()
    }
}

/// A table of tables, each under a name of the user's.
#[derive(Clone, Debug)]
pub(crate) struct Named<T>(pub(crate) Vec<Entry<T>>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// One of the tables of a [`Named`].
#[derive(Clone, Debug)]
pub(crate) struct Entry<T> {
    pub(crate) name: String,
    /// Where the name is written.
    pub(crate) place: Place,
    /// Whether all of it could be read: what is incomplete must not be compared with others.
    pub(crate) complete: bool,
    pub(crate) table: T,
}

impl<T: Table + Value> Value for Named<T> {
    const IS_NAMED: bool = true;

    fn describe() -> String {
        "tables, each with a name".into()
    }

    fn schema() -> Json {
        json!({
            "type": "object",
            "propertyNames": { "pattern": "^[a-z0-9._-]{1,63}$" },
            "additionalProperties": T::schema(),
        })
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let path = reader.path();
        let DeValue::Table(tables) = node.value else {
            reader.mismatch::<Self>(
                node,
                Fault::new(node.found()).help(format!("give it a name: [{path}.NAME]")),
            );
            return None;
        };
        let mut named = Vec::with_capacity(tables.len());
        for (name, place, node) in entries(tables, node.place.source) {
            if !node.value.is_table() {
                let message = format!("`{name}` stands where the name of a table is expected");
                let help = format!("give the table a name: [{path}.NAME], and put `{name}` below it");
                reader.report(Problem::new(place, message).help(help));
                continue;
            }
            if let Some(problem) = wrong_name(&path, name, place) {
                reader.report(problem);
            }
            let before = reader.problems.len();
            let table = reader.within(&segment(name), |reader| read_table(&node, reader));
            let complete = reader.problems.len() == before;
            named.extend(table.map(|table| Entry { name: name.to_owned(), place, complete, table }));
        }
        Some(Self(named))
    }

    fn toml(&self) -> String {
        "{}".into()
    }

    /// Tables of the same name are merged. The place stays where the name stood first, which is where most is said
    /// about it; and what is incomplete in one file is so in all.
    fn inherit(&mut self, base: &Self) {
        let mut merged = base.0.clone();
        let places: HashMap<_, _> = base.0.iter().enumerate().map(|(at, entry)| (&entry.name, at)).collect();
        for own in self.0.drain(..) {
            let Some(at) = places.get(&own.name) else {
                merged.push(own);
                continue;
            };
            let entry = &mut merged[*at];
            let base = std::mem::replace(&mut entry.table, own.table);
            entry.table.inherit_keys(&base);
            entry.complete &= own.complete;
        }
        self.0 = merged;
    }

    // Named tables are printed by whoever resolved them, each below a header of its own.
    fn write(&self, _key: &str, _origin: &str, _page: &mut Page<'_>) {}

    fn keys() -> Vec<Key> {
        T::all_keys()
    }
}

/// `name` as a part of a dotted TOML key: quoted only where it must be.
pub(crate) fn segment(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !name.is_empty() && name.chars().all(bare) { name.to_owned() } else { quote(name) }
}

/// Names become metric labels and parts of log lines, so they stay short and plain.
fn wrong_name(path: &str, name: &str, place: Place) -> Option<Problem> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    if !(1..=63).contains(&name.len()) || !name.chars().all(plain) {
        let message = format!("`{name}` cannot be a name in `{path}`");
        return Some(Problem::new(place, message).label("this name").help(
            "a name has 1 to 63 characters out of a-z, 0-9, `-`, `_` and `.` (with a dot, in quotes)",
        ));
    }
    if path == "destination" && name == "default" {
        let message = "the name `default` stands for traffic that no destination matches";
        return Some(
            Problem::new(place, message).label("reserved").help("its policy is written in [defaults]"),
        );
    }
    None
}
