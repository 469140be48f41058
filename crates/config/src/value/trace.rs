//! Where traces go, and under which name.

use std::net::{IpAddr, Ipv6Addr};

use serde_json::json;

use crate::{
    read::{Fault, Node, Reader, Value},
    schema::{Json, text},
    value::quote,
};

/// What the receivers of traces listen for, below their address (OTLP/HTTP).
const TRACES: &str = "/v1/traces";
/// The longest host and the longest path, in bytes.
const LONGEST: usize = 253;
/// The longest name of a service, in bytes.
const LONGEST_NAME: usize = 255;

/// The URL of an OTLP/HTTP receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Receiver {
    /// A name, or an IP address without brackets.
    pub(crate) host: String,
    /// Never 0.
    pub(crate) port: u16,
    /// What stands after the authority, as it was written.
    path: String,
}

impl Receiver {
    /// The path to post spans to.
    pub(crate) fn traces_path(&self) -> String {
        let base = self.path.trim_end_matches('/');
        base.strip_suffix(TRACES).unwrap_or(base).to_owned() + TRACES
    }
}

impl Value for Receiver {
    fn describe() -> String {
        "the URL of an OTLP/HTTP receiver, as \"http://127.0.0.1:4318\"".into()
    }

    fn schema() -> Json {
        text("^http://[^/?#@ ]+:[0-9]+(/[^?# ]*)?$")
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        reader.text(node, parse)
    }

    fn toml(&self) -> String {
        let host = match self.host.parse::<Ipv6Addr>() {
            Ok(v6) => format!("[{v6}]"),
            Err(_) => self.host.clone(),
        };
        quote(&format!("http://{host}:{}{}", self.port, self.path))
    }
}

fn parse(text: &str) -> Result<Receiver, Fault> {
    if text.starts_with("https://") {
        return Err(Fault::new("TLS is not supported yet")
            .help("export to a collector nearby over http, and let it go on with TLS"));
    }
    let Some(rest) = text.strip_prefix("http://") else {
        return Err(Fault::new("not an http URL").help("write \"http://HOST:4318\""));
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err(Fault::new("a URL with a login").help("send credentials by `headers`"));
    }
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"?#\"\\<>^`{|}".contains(&byte);
    if path.len() > LONGEST || !path.bytes().all(plain) {
        return Err(Fault::new("not the path of a receiver").help("give scheme, host, port and a plain path"));
    }
    let (host, port) = split_authority(authority)?;
    Ok(Receiver { host, port, path: path.to_owned() })
}

fn split_authority(authority: &str) -> Result<(String, u16), Fault> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !authority.ends_with(']') => (host, port),
        _ => {
            return Err(Fault::new("the port is missing")
                .help(format!("receivers of OTLP/HTTP listen on 4318: \"http://{authority}:4318\"")));
        }
    };
    let port = port.parse().ok().filter(|port| *port > 0);
    let port = port.ok_or_else(|| Fault::new("the port is not a number from 1 to 65535"))?;
    if let Some(v6) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        let v6: Ipv6Addr = v6.parse().map_err(|_| Fault::new("not an IPv6 address in the brackets"))?;
        return Ok((v6.to_string(), port));
    }
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    if host.len() > LONGEST || !name.split('.').all(label) {
        return Err(Fault::new("the host is neither a name nor an IP address"));
    }
    // Digits and dots that are no address would be looked up as a name, in vain.
    if name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') && name.parse::<IpAddr>().is_err() {
        return Err(Fault::new("not an IPv4 address"));
    }
    Ok((host.to_ascii_lowercase(), port))
}

/// The name under which a process appears in its traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceName(pub(crate) String);

impl Value for ServiceName {
    fn describe() -> String {
        format!("a name of 1 to {LONGEST_NAME} printable characters")
    }

    fn schema() -> Json {
        json!({ "type": "string", "minLength": 1, "maxLength": LONGEST_NAME })
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        reader.text(node, |text| match text.chars().find(|c| c.is_control()) {
            Some(c) => Err(Fault::new(format!("contains {c:?}"))),
            None if text.trim().is_empty() => Err(Fault::new("the name is empty")),
            None if text.len() > LONGEST_NAME => Err(Fault::new("the name is too long")),
            None => Ok(Self(text.to_owned())),
        })
    }

    fn toml(&self) -> String {
        quote(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_is_host_port_and_path() {
        for (text, host, port, path) in [
            ("http://127.0.0.1:4318", "127.0.0.1", 4318, "/v1/traces"),
            ("http://[::1]:4318/", "::1", 4318, "/v1/traces"),
            (
                "http://Otel-Collector.observability.svc:80/otlp",
                "otel-collector.observability.svc",
                80,
                "/otlp/v1/traces",
            ),
            ("http://tempo:4318/v1/traces", "tempo", 4318, "/v1/traces"),
        ] {
            let receiver = parse(text).ok().unwrap();
            assert_eq!((receiver.host.as_str(), receiver.port), (host, port), "{text}");
            assert_eq!(receiver.traces_path(), path, "{text}");
            let again = receiver.toml();
            assert_eq!(parse(again.trim_matches('"')).ok().as_ref(), Some(&receiver), "{text}");
        }
    }

    #[test]
    fn what_is_no_receiver_is_refused() {
        for text in [
            "",
            "127.0.0.1:4318",
            "grpc://a:4317",
            "https://a:4318",
            "http://",
            "http://:4318",
            "http://a",
            "http://[::1]",
            "http://[::1:4318",
            "http://a:0",
            "http://a:99999",
            "http://a:4318:1",
            "http://u:p@a:4318",
            "http://a:4318/x?y=1",
            "http://a:4318/x y",
            "http://a:4318/\r\nx",
            "http://a b:4318",
            "http://1.2.3:4318",
            "http://a..b:4318",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
