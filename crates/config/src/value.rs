//! The types of the keys: how each is written, what it may be, and what is said when it is not.

pub(crate) mod collection;
pub(crate) mod grpc;
pub(crate) mod http;
pub(crate) mod name;
pub(crate) mod net;
pub(crate) mod pairs;
pub(crate) mod path;
pub(crate) mod quantity;
pub(crate) mod tls;
pub(crate) mod trace;
pub(crate) mod word;

/// `text` as a TOML string.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
