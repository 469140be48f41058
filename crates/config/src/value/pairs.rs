//! Names and what each is: `{ "x-team" = "a" }`, for headers to set, headers to look for and the parameters
//! of a query.

use std::{fmt::Debug, marker::PhantomData};

use serde_json::json;
use toml::de::DeValue;

use crate::{
    errors::{Place, Problem},
    print::Page,
    read::{Fault, Node, Reader, Value, entries},
    schema::{Json, text},
    value::{
        collection::segment,
        http::{TOKEN, check_changeable, check_name},
        quote,
    },
};

/// A table of names and values, each name once.
#[derive(Clone, Debug)]
pub(crate) struct Pairs<K>(pub(crate) Vec<Pair>, PhantomData<K>);

/// One entry of [`Pairs`].
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) name: String,
    pub(crate) value: String,
    /// Where the value is written.
    pub(crate) place: Place,
}

/// What the names and values of [`Pairs`] are.
pub(crate) trait Kind: Clone + Debug {
    /// What a message calls one of them: "the {NOUN} `x-team`".
    const NOUN: &str;
    /// What a message calls the table.
    const TABLE: &str;
    /// What a message calls a value.
    const VALUE: &str = "the value of a header: printable ASCII, without spaces at its ends";

    /// A regular expression for names, which may say less than [`check_name`](Self::check_name).
    const NAME_PATTERN: &str = TOKEN;
    /// A regular expression for values.
    const VALUE_PATTERN: &str = "^([!-~]([ -~]*[!-~])?)?$";

    /// Whether this may be a name, or why not.
    fn check_name(name: &str) -> Result<(), &'static str>;

    /// Whether this may be a value, or what is wrong with it; as of a header.
    fn check_value(value: &str) -> Result<(), Fault> {
        if value.trim() != value {
            Err(Fault::new("a space at an end would be lost on the wire"))
        } else if let Some(c) = value.chars().find(|c| !matches!(c, ' '..='~')) {
            Err(Fault::new(format!("contains {c:?}")))
        } else {
            Ok(())
        }
    }

    /// Whether both names mean the same; as of headers.
    fn is_same(one: &str, other: &str) -> bool {
        one.eq_ignore_ascii_case(other)
    }
}

/// Headers that a message gets.
pub(crate) type SetHeaders = Pairs<Changed>;
/// Headers that a request must have; "*" is any value.
pub(crate) type MatchHeaders = Pairs<Matched>;

/// Parameters that the query of a request must have; "*" is any value.
pub(crate) type MatchQuery = Pairs<Queried>;

/// The kind of [`SetHeaders`].
#[derive(Clone, Debug)]
pub(crate) enum Changed {}

/// The kind of [`MatchHeaders`].
#[derive(Clone, Debug)]
pub(crate) enum Matched {}

/// The kind of [`MatchQuery`].
#[derive(Clone, Debug)]
pub(crate) enum Queried {}

impl Kind for Changed {
    const NOUN: &str = "header";
    const TABLE: &str = "a table of headers, as { \"x-team\" = \"a\" }";

    fn check_name(name: &str) -> Result<(), &'static str> {
        check_changeable(name)
    }
}

impl Kind for Matched {
    const NOUN: &str = "header";
    const TABLE: &str = "a table of headers, as { \"x-tenant\" = \"gold\" }, where \"*\" is any value";

    fn check_name(name: &str) -> Result<(), &'static str> {
        check_name(name)?;
        // HTTP/2 has no such header, and HTTP/1 may say it in the request line.
        if name.eq_ignore_ascii_case("host") { Err("write `hosts` to match it") } else { Ok(()) }
    }
}

impl Kind for Queried {
    const NOUN: &str = "parameter";
    const TABLE: &str = "a table of parameters, as { \"version\" = \"2\" }, where \"*\" is any value";
    const VALUE: &str = "the value of a parameter as it is sent, percent-encoded";
    const NAME_PATTERN: &str = r#"^[!"$%'-<>-~]+$"#;
    const VALUE_PATTERN: &str = r#"^[!"$%'-~]*$"#;

    fn check_name(name: &str) -> Result<(), &'static str> {
        let inside = |byte: u8| byte.is_ascii_graphic() && !b"&=#".contains(&byte);
        if !name.is_empty() && name.bytes().all(inside) {
            Ok(())
        } else {
            Err("not the name of a parameter as it is sent, percent-encoded")
        }
    }

    fn check_value(value: &str) -> Result<(), Fault> {
        match value.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '&' | '#')) {
            Some(c) => Err(Fault::new(format!("contains {c:?}"))),
            None => Ok(()),
        }
    }

    fn is_same(one: &str, other: &str) -> bool {
        one == other
    }
}

impl<K: Kind> Pairs<K> {
    pub(crate) fn none() -> Self {
        Self(Vec::new(), PhantomData)
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Pair> {
        self.0.iter().find(|pair| K::is_same(&pair.name, name))
    }
}

impl<K: Kind> Value for Pairs<K> {
    fn describe() -> String {
        K::TABLE.into()
    }

    fn schema() -> Json {
        json!({
            "type": "object",
            "propertyNames": { "pattern": K::NAME_PATTERN },
            "additionalProperties": PairValue::<K>::schema(),
        })
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let DeValue::Table(table) = node.value else {
            reader.mismatch::<Self>(node, Fault::new(node.found()));
            return None;
        };
        let mut pairs = Self::none();
        for (name, place, node) in entries(table, node.place.source) {
            if let Err(reason) = K::check_name(name) {
                let message = format!("the {} `{name}` cannot stand here", K::NOUN);
                reader.report(Problem::new(place, message).label(reason));
                continue;
            }
            if pairs.find(name).is_some() {
                let message = format!("the {} `{name}` is there twice", K::NOUN);
                reader.report(Problem::new(place, message).label("again, in another case"));
                continue;
            }
            let value = reader.within(name, |reader| PairValue::<K>::read(&node, reader));
            let pair = value.map(|value| Pair { name: name.to_owned(), value: value.0, place: node.place });
            pairs.0.extend(pair);
        }
        Some(pairs)
    }

    fn toml(&self) -> String {
        let pairs: Vec<_> =
            self.0.iter().map(|pair| format!("{} = {}", segment(&pair.name), quote(&pair.value))).collect();
        if pairs.is_empty() { "{}".into() } else { format!("{{ {} }}", pairs.join(", ")) }
    }

    fn inherit(&mut self, base: &Self) {
        let missing: Vec<_> = base.0.iter().filter(|pair| self.find(&pair.name).is_none()).cloned().collect();
        self.0.extend(missing);
    }

    fn write(&self, key: &str, origin: &str, page: &mut Page<'_>) {
        if self.0.is_empty() {
            return page.line(key, "{}", origin);
        }
        page.below(key, |page| {
            for pair in &self.0 {
                page.pair(&pair.name, &pair.value, pair.place);
            }
        });
    }
}

/// What stands beside a name.
#[derive(Clone, Debug)]
struct PairValue<K>(String, PhantomData<K>);

impl<K: Kind> Value for PairValue<K> {
    fn describe() -> String {
        K::VALUE.into()
    }

    fn schema() -> Json {
        text(K::VALUE_PATTERN)
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        reader.text(node, |text| K::check_value(text).map(|()| Self(text.to_owned(), PhantomData)))
    }

    fn toml(&self) -> String {
        quote(&self.0)
    }
}
