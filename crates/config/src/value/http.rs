//! Statuses, methods and headers.

use serde_json::json;

use crate::{
    read::{Fault, Item, Node, Reader, Value},
    schema::{Json, text},
    value::{quantity::Count, quote},
};

/// A token of RFC 9110, section 5.6.2, as a regular expression; see [`is_token`].
pub(super) const TOKEN: &str = "^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}$";

/// A status by which a server says that it failed, or a whole class of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Status {
    /// This one: a 5xx, 408, 421, 425 or 429.
    One(u16),
    /// "5xx": 500 to 599.
    ServerErrors,
}

impl Status {
    pub(crate) fn codes(self) -> std::ops::RangeInclusive<u16> {
        match self {
            Self::One(status) => status..=status,
            Self::ServerErrors => 500..=599,
        }
    }
}

impl Value for Status {
    fn describe() -> String {
        "a status that is a failure of the server: 500 to 599, \"5xx\" for all of those, 408, 421, 425 or 429"
            .into()
    }

    fn schema() -> Json {
        let others: Vec<_> =
            (100..500).filter(|status| dragoman_policy::is_retryable_status(*status)).collect();
        json!({ "anyOf": [Count::<500, 599>::schema(), { "const": "5xx" }, { "enum": others }] })
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        if !node.value.is_integer() {
            return reader.text(node, |text| match text {
                "5xx" => Ok(Self::ServerErrors),
                _ if text.parse::<u16>().is_ok() => {
                    Err(Fault::new("a status is an integer").help(format!("write {text} without the quotes")))
                }
                _ => Err(Fault::new("not a status")),
            });
        }
        let status = node.integer().and_then(|status| u16::try_from(status).ok());
        if let Some(status) = status.filter(|status| dragoman_policy::is_retryable_status(*status)) {
            return Some(Self::One(status));
        }
        reader.mismatch::<Self>(
            node,
            Fault::new(match node.integer() {
                Some(400..500) => "blames the request, which does not get better by waiting",
                Some(100..400) => "is not a failure",
                _ => "not a status",
            }),
        );
        None
    }

    fn toml(&self) -> String {
        match self {
            Self::One(status) => status.to_string(),
            Self::ServerErrors => quote("5xx"),
        }
    }
}

impl Item for Status {
    fn plural() -> String {
        "statuses: 500 to 599, \"5xx\", 408, 421, 425, 429".into()
    }
}

/// A status by which a server can say that it did not process the request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct UnprocessedStatus(pub(crate) u16);

impl Value for UnprocessedStatus {
    fn describe() -> String {
        "a status that can mean \"not processed\": 408, 421, 425, 429 or 503".into()
    }

    fn schema() -> Json {
        let allowed = |status: &u16| dragoman_policy::UNPROCESSED_STATUSES.contains(*status);
        json!({ "enum": (100..600).filter(allowed).collect::<Vec<_>>() })
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let status = node.integer().and_then(|status| u16::try_from(status).ok());
        let allowed = status.filter(|status| dragoman_policy::UNPROCESSED_STATUSES.contains(*status));
        if allowed.is_none() {
            let fault = match node.value.is_integer() {
                true => Fault::new("says nothing about whether the request was processed"),
                false => Fault::new(node.found()),
            };
            reader.mismatch::<Self>(node, fault);
        }
        allowed.map(Self)
    }

    fn toml(&self) -> String {
        self.0.to_string()
    }
}

impl Item for UnprocessedStatus {
    fn plural() -> String {
        "statuses out of 408, 421, 425, 429, 503".into()
    }
}

/// A request method, in the case in which it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Method(pub(crate) String);

impl Value for Method {
    fn describe() -> String {
        "a method, as \"GET\"".into()
    }

    fn schema() -> Json {
        text(&TOKEN.replace("a-z", ""))
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        reader.text(node, |text| {
            let upper = text.to_ascii_uppercase();
            if !is_token(text) {
                Err(Fault::new("not a method"))
            } else if upper != text {
                Err(Fault::new("case matters in methods").help(format!("did you mean \"{upper}\"?")))
            } else {
                Ok(Self(upper))
            }
        })
    }

    fn toml(&self) -> String {
        quote(&self.0)
    }
}

impl Item for Method {
    fn plural() -> String {
        "methods, as \"GET\"".into()
    }
}

/// The name of a header to look for; kept in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeaderName(pub(crate) String);

impl Value for HeaderName {
    fn describe() -> String {
        "the name of a header".into()
    }

    fn schema() -> Json {
        text(TOKEN)
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        reader.text(node, |text| {
            check_name(text).map_err(Fault::new)?;
            Ok(Self(text.to_ascii_lowercase()))
        })
    }

    fn toml(&self) -> String {
        quote(&self.0)
    }
}

/// The name of a header that policy may change; compared without regard to case.
#[derive(Clone, Debug)]
pub(crate) struct ChangeableHeader(pub(crate) String);

impl PartialEq for ChangeableHeader {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Value for ChangeableHeader {
    fn describe() -> String {
        "the name of a header that policy may change".into()
    }

    fn schema() -> Json {
        text(TOKEN)
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        reader.text(node, |text| {
            check_changeable(text).map_err(Fault::new)?;
            Ok(Self(text.to_owned()))
        })
    }

    fn toml(&self) -> String {
        quote(&self.0)
    }
}

impl Item for ChangeableHeader {
    fn plural() -> String {
        "names of headers".into()
    }
}

/// Whether this is the name of a header, or why not.
pub(super) fn check_name(name: &str) -> Result<(), &'static str> {
    if is_token(name) { Ok(()) } else { Err("not the name of a header") }
}

/// Headers that frame the message or belong to the connection: changing them would change what the
/// message is, not what it says (RFC 9110, 7.6.1; RFC 9112, 6).
pub(crate) fn check_changeable(name: &str) -> Result<(), &'static str> {
    check_name(name)?;
    match name.to_ascii_lowercase().as_str() {
        "host" => Err("it says where the request goes, which policy cannot change"),
        "content-length" | "transfer-encoding" | "trailer" => {
            Err("it frames the body, which policy cannot change")
        }
        "connection" | "keep-alive" | "proxy-connection" | "te" | "upgrade" => {
            Err("it belongs to one connection, not to the message")
        }
        "expect" => Err("it is part of how the body is sent"),
        _ => Ok(()),
    }
}

/// A token of RFC 9110, section 5.6.2.
fn is_token(text: &str) -> bool {
    let tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=256).contains(&text.len()) && text.bytes().all(tchar)
}
