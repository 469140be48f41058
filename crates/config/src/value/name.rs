//! Names that a client says in a Host header or in the TLS server name.

use std::net::IpAddr;

use crate::{
    read::{Fault, Item, Node, Reader, Value},
    value::quote,
};

/// The longest name there is, in bytes (RFC 1035, section 2.3.4, without the final dot).
pub(crate) const MAX_NAME: usize = 253;

/// One name, or every name below one. Kept in lower case, without a final dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum NamePattern {
    /// "pay.example.com": this name.
    Exact(String),
    /// "*.example.com": one or more labels before this name.
    Below(String),
}

impl Value for NamePattern {
    fn describe() -> String {
        "a name, as \"pay.example.com\", or \"*.example.com\" for every name below it".into()
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

fn parse(text: &str) -> Result<NamePattern, Fault> {
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
    Ok(pattern(rest.to_owned()))
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
