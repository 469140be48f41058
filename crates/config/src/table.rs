//! Tables of keys, each described once.
//!
//! One declaration per table (see [`crate::raw`]) gives the name, type, default and meaning of each key.
//! Everything else follows from it: what is read, which keys are unknown and what was meant by them, what
//! a destination inherits, what `--print` shows, what the reference page says and what the schema allows.

use toml::de::DeValue;

use crate::{
    errors::{Place, Problem},
    print::Page,
    read::{Fault, Located, Node, Reader, Value, entries},
    schema::Json,
    suggest::{nearest, tables_with},
};

/// One key of a table, as the reference page and the schema show it.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: String,
    /// Made when it is asked for, since a file of mistakes asks for its keys often.
    pub(crate) schema: fn() -> Json,
    /// As it would be written; `None` if the key may be absent and then means nothing.
    pub(crate) default: Option<String>,
    pub(crate) doc: &'static str,
    /// The keys inside it, if it is a table.
    pub(crate) keys: Vec<Key>,
    /// Whether those stand in tables of the user's naming.
    pub(crate) is_named: bool,
}

/// A set of keys that can be read, merged and printed.
pub(crate) trait Table: Default + Clone {
    /// Its keys, in the order of the reference page.
    fn all_keys() -> Vec<Key>;
    /// Their names, in the same order.
    fn key_names() -> Vec<&'static str>;
    /// Reads the value of `name`; `false` if there is no such key.
    fn read_key(&mut self, name: &str, node: &Node<'_>, reader: &mut Reader) -> bool;
    /// Takes each key that it does not state from `base`, and merges tables key by key.
    fn inherit_keys(&mut self, base: &Self);
    /// The keys that are stated, as dotted paths below `path` (empty, or ending in a dot).
    fn stated_keys(&self, path: &str, found: &mut Vec<(String, Place)>);
    /// Prints each key with its value and origin.
    fn write_keys(&self, page: &mut Page<'_>);
}

/// Declares a [`Table`]: a struct with a field `Option<Located<T>>` per key, and a method of the same
/// name which applies the default. A key without a default gives an `Option`.
macro_rules! table {
    ($(#[doc = $about:literal])+ $name:ident {
        $($(#[doc = $doc:literal])+ $key:ident: $kind:ty $(= $default:expr)?;)+
    }) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, Default)]
        pub(crate) struct $name {
            $($(#[doc = $doc])+ pub(crate) $key: Option<$crate::read::Located<$kind>>,)+
        }

        impl $name {
            $($crate::table::table!(@getter $key: $kind $(= $default)?);)+
        }

        impl $crate::table::Table for $name {
            fn all_keys() -> Vec<$crate::table::Key> {
                vec![$($crate::table::key::<$kind>(
                    stringify!($key),
                    $crate::table::table!(@default $kind $(= $default)?),
                    concat!($($doc),+).trim_start(),
                )),+]
            }

            fn key_names() -> Vec<&'static str> {
                vec![$(stringify!($key)),+]
            }

            fn read_key(
                &mut self,
                name: &str,
                node: &$crate::read::Node<'_>,
                reader: &mut $crate::read::Reader,
            ) -> bool {
                match name {
                    $(stringify!($key) => self.$key = $crate::table::read_key(name, node, reader),)+
                    _ => return false,
                }
                true
            }

            fn inherit_keys(&mut self, base: &Self) {
                $($crate::table::inherit(&mut self.$key, base.$key.as_ref());)+
            }

            fn stated_keys(&self, path: &str, found: &mut Vec<(String, $crate::errors::Place)>) {
                $($crate::table::stated(path, stringify!($key), self.$key.as_ref(), found);)+
            }

            fn write_keys(&self, page: &mut $crate::print::Page<'_>) {
                $(page.entry(
                    stringify!($key),
                    self.$key.as_ref(),
                    $crate::table::table!(@default $kind $(= $default)?),
                );)+
            }
        }

        $crate::table::table!(@value $name);
    };
    (@getter $key:ident: $kind:ty = $default:expr) => {
        pub(crate) fn $key(&self) -> $kind {
            self.$key.as_ref().map_or_else(|| $default, |located| located.value.clone())
        }
    };
    (@getter $key:ident: $kind:ty) => {
        pub(crate) fn $key(&self) -> Option<$kind> {
            self.$key.as_ref().map(|located| located.value.clone())
        }
    };
    (@default $kind:ty = $default:expr) => { Some($default) };
    (@default $kind:ty) => { None::<$kind> };
    (@value $name:ident) => {
        impl $crate::read::Value for $name {
            fn describe() -> String {
                "a table".into()
            }

            fn schema() -> $crate::schema::Json {
                $crate::schema::table(&<Self as $crate::table::Table>::all_keys())
            }

            fn read(node: &$crate::read::Node<'_>, reader: &mut $crate::read::Reader) -> Option<Self> {
                $crate::table::read_table(node, reader)
            }

            fn toml(&self) -> String {
                "{}".into()
            }

            fn inherit(&mut self, base: &Self) {
                $crate::table::Table::inherit_keys(self, base);
            }

            fn stated(&self, path: &str, found: &mut Vec<(String, $crate::errors::Place)>) {
                $crate::table::Table::stated_keys(self, path, found);
            }

            fn write(&self, key: &str, _origin: &str, page: &mut $crate::print::Page<'_>) {
                page.below(key, |page| $crate::table::Table::write_keys(self, page));
            }

            fn keys() -> Vec<$crate::table::Key> {
                <Self as $crate::table::Table>::all_keys()
            }
        }
    };
}

/// Declares a [`Table`] that has the keys of several others, so that what `[defaults]`, a destination and
/// a route share is described once.
macro_rules! joined_table {
    ($(#[doc = $about:literal])+ $name:ident { $($(#[doc = $doc:literal])+ $part:ident: $kind:ty;)+ }) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, Default)]
        pub(crate) struct $name {
            $($(#[doc = $doc])+ pub(crate) $part: $kind,)+
        }

        impl $crate::table::Table for $name {
            fn all_keys() -> Vec<$crate::table::Key> {
                let mut keys = Vec::new();
                $(keys.extend(<$kind as $crate::table::Table>::all_keys());)+
                keys
            }

            fn key_names() -> Vec<&'static str> {
                let mut names = Vec::new();
                $(names.extend(<$kind as $crate::table::Table>::key_names());)+
                names
            }

            fn read_key(
                &mut self,
                name: &str,
                node: &$crate::read::Node<'_>,
                reader: &mut $crate::read::Reader,
            ) -> bool {
                $($crate::table::Table::read_key(&mut self.$part, name, node, reader))||+
            }

            fn inherit_keys(&mut self, base: &Self) {
                $($crate::table::Table::inherit_keys(&mut self.$part, &base.$part);)+
            }

            fn stated_keys(&self, path: &str, found: &mut Vec<(String, $crate::errors::Place)>) {
                $($crate::table::Table::stated_keys(&self.$part, path, found);)+
            }

            fn write_keys(&self, page: &mut $crate::print::Page<'_>) {
                $($crate::table::Table::write_keys(&self.$part, page);)+
            }
        }

        $crate::table::table!(@value $name);
    };
}

pub(crate) use {joined_table, table};

pub(crate) fn key<T: Value>(name: &'static str, default: Option<T>, doc: &'static str) -> Key {
    let default = default.map(|value| value.toml());
    Key { name, kind: T::describe(), schema: T::schema, default, doc, keys: T::keys(), is_named: T::IS_NAMED }
}

pub(crate) fn read_key<T: Value>(name: &str, node: &Node<'_>, reader: &mut Reader) -> Option<Located<T>> {
    let value = reader.within(name, |reader| T::read(node, reader))?;
    Some(Located { value, place: node.place })
}

pub(crate) fn read_table<T: Table + Value>(node: &Node<'_>, reader: &mut Reader) -> Option<T> {
    let DeValue::Table(entries_of) = node.value else {
        reader.mismatch::<T>(node, Fault::new(node.found()));
        return None;
    };
    let mut table = T::default();
    for (name, place, node) in entries(entries_of, node.place.source) {
        if !table.read_key(name, &node, reader) {
            reader.report(unknown_key(name, place, &node, &T::key_names(), &reader.path()));
        }
    }
    Some(table)
}

pub(crate) fn inherit<T: Value>(own: &mut Option<Located<T>>, base: Option<&Located<T>>) {
    match (own, base) {
        (Some(own), Some(base)) => own.value.inherit(&base.value),
        (own, Some(base)) => *own = Some(base.clone()),
        (_, None) => {}
    }
}

pub(crate) fn stated<T: Value>(
    path: &str,
    name: &str,
    own: Option<&Located<T>>,
    found: &mut Vec<(String, Place)>,
) {
    if let Some(located) = own {
        let key = format!("{path}{name}");
        located.value.stated(&format!("{key}."), found);
        found.push((key, located.place));
    }
}

fn unknown_key(name: &str, place: Place, node: &Node<'_>, known: &[&str], path: &str) -> Problem {
    let message = match path {
        "" => format!("unknown table or key `{name}`"),
        _ => format!("unknown key `{name}` in `{path}`"),
    };
    let problem = Problem::new(place, message);
    if let Some(near) = nearest(name, known.iter().copied()) {
        return problem.help(format!("did you mean `{near}`?"));
    }
    let elsewhere = tables_with(name);
    if !elsewhere.is_empty() {
        return problem.help(format!("`{name}` belongs in {}", elsewhere.join(" or ")));
    }
    if let Some((table, first)) = path.rsplit_once('.').filter(|_| node.value.is_table()) {
        let help = format!("a name with dots stands in quotes: [{table}.\"{first}.{name}…\"]");
        return problem.help(help);
    }
    problem.help(format!("known here: {}", known.join(", ")))
}
