//! Names that a client says in a Host header or in the TLS server name.

use std::{borrow::Cow, net::IpAddr};

use crate::{
    read::{Fault, Item, Node, Reader, Value},
    schema::{Json, text},
    value::quote,
};

/// The longest name there is, in bytes (RFC 1035, section 2.3.4, without the final dot).
const MAX_NAME: usize = 253;

/// One name, or every name below one. Kept in lower case, without a final dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum NamePattern {
    /// "pay.example.com": this name.
    Exact(String),
    /// "*.example.com": one or more labels before this name.
    Below(String),
}

/// How specific a pattern is; greater is more: the labels of a wildcard, and more for an exact name.
pub(crate) type Rank = usize;

impl NamePattern {
    /// `name` is [`comparable`].
    pub(crate) fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(own) => own == name,
            Self::Below(own) => {
                let before = name.strip_suffix(own.as_str()).and_then(|rest| rest.strip_suffix('.'));
                before.is_some_and(|before| !before.is_empty())
            }
        }
    }

    pub(crate) fn rank(&self) -> Rank {
        match self {
            Self::Exact(_) => Rank::MAX,
            Self::Below(name) => name.split('.').count(),
        }
    }

    /// The pattern that matches what both match; `None` if nothing does.
    pub(crate) fn overlap<'a>(&'a self, other: &'a Self) -> Option<&'a Self> {
        if self.covers(other) { Some(other) } else { other.covers(self).then_some(self) }
    }

    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(_), Self::Below(_)) => false,
            (_, Self::Exact(name)) => self.matches(name),
            (Self::Below(own), Self::Below(name)) => own == name || self.matches(name),
        }
    }
}

/// `name` as patterns are compared with: in lower case, without a final dot. `None` if it is longer than any
/// name, since the cost of a look-up may grow with the square of the length.
pub(crate) fn comparable(name: &str) -> Option<Cow<'_, str>> {
    let name = name.strip_suffix('.').unwrap_or(name);
    (name.len() <= MAX_NAME).then(|| match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(name.to_ascii_lowercase()),
        false => Cow::Borrowed(name),
    })
}

/// The host of `host`, `host:port` or `[v6]:port`.
pub(crate) fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.contains(':') => name,
        _ => host,
    }
}

/// So many labels at the end of `name`; `None` if no others stand before them.
pub(crate) fn last_labels(name: &str, labels: usize) -> Option<&str> {
    let (dot, _) = name.rmatch_indices('.').nth(labels.checked_sub(1)?)?;
    (dot > 0).then(|| &name[dot + 1..])
}

impl Value for NamePattern {
    fn describe() -> String {
        "a name, as \"pay.example.com\", or \"*.example.com\" for every name below it".into()
    }

    fn schema() -> Json {
        let label = "[0-9A-Za-z_-]{1,63}";
        let mut schema = text(&format!(r"^(\*\.)?{label}(\.{label})*$"));
        schema["maxLength"] = MAX_NAME.into();
        schema
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        reader.text(node, parse)
    }

    fn toml(&self) -> String {
        match self {
            Self::Exact(name) => quote(name),
            Self::Below(name) => quote(&format!("*.{name}")),
        }
    }
}

impl Item for NamePattern {
    fn plural() -> String {
        "names, as \"pay.example.com\" or \"*.example.com\"".into()
    }
}

pub(super) fn parse(text: &str) -> Result<NamePattern, Fault> {
    let name = text.to_ascii_lowercase();
    if name == "*" {
        return Err(Fault::new("every name").help("to match every name, leave the key out"));
    }
    if let Some((scheme, _)) = name.split_once("://") {
        return Err(Fault::new("this is a URL").help(format!("give the name alone, without `{scheme}://`")));
    }
    if name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return Err(Fault::new("this is an address").help("addresses are matched by `cidrs`"));
    }
    if let Some((host, port)) = name.rsplit_once(':')
        && port.parse::<u16>().is_ok()
    {
        return Err(Fault::new("the port is no part of the name")
            .help(format!("write \"{host}\", and `ports = [{port}]` for the port")));
    }
    let (pattern, rest): (fn(String) -> NamePattern, &str) = match name.strip_prefix("*.") {
        Some(rest) => (NamePattern::Below, rest),
        None => (NamePattern::Exact, &name),
    };
    check(rest)?;
    let pattern = pattern(rest.to_owned());
    match pattern {
        NamePattern::Below(_) if rest.len() + "x.".len() > MAX_NAME => {
            Err(Fault::new(format!("no name below it is short enough: a name has at most {MAX_NAME} bytes")))
        }
        _ => Ok(pattern),
    }
}

/// The letters, digits and hyphens of RFC 1123, and the underscore that container networks use.
fn check(name: &str) -> Result<(), Fault> {
    if name.contains('*') {
        return Err(Fault::new("`*` stands only at the start, for whole labels, as \"*.example.com\""));
    }
    if !name.is_ascii() {
        return Err(Fault::new("not ASCII").help("write the name as it is on the wire, in its `xn--` form"));
    }
    if name.ends_with('.') {
        return Err(
            Fault::new("ends with a dot").help("leave the final dot out; it matches with and without")
        );
    }
    let label = |label: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(plain)
    };
    match name.len() <= MAX_NAME && name.split('.').all(label) {
        true => Ok(()),
        false => Err(Fault::new("not a name")),
    }
}
