//! Addresses, networks and ports.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use serde_json::json;

use crate::{
    read::{Fault, Item, Node, Reader, Value},
    schema::{Json, text},
    value::quote,
};

impl Value for IpAddr {
    fn describe() -> String {
        "an IP address".into()
    }

    fn schema() -> Json {
        text("^[0-9A-Fa-f.:]+$")
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        reader.text(node, |text| {
            let address: Self = text.parse().map_err(|_| match text.parse::<SocketAddr>() {
                Ok(_) => Fault::new("an address with a port").help("the port is a key of its own: `port`"),
                Err(_) => Fault::new("not an IP address"),
            })?;
            not_mapped(address)?;
            Ok(address)
        })
    }

    fn toml(&self) -> String {
        quote(&self.to_string())
    }
}

impl Item for IpAddr {
    fn plural() -> String {
        "IP addresses".into()
    }
}

impl Value for SocketAddr {
    fn describe() -> String {
        "an address with a port, as \"127.0.0.1:15020\" or \"[::1]:15020\"".into()
    }

    fn schema() -> Json {
        text(r"^([0-9.]+|\[[0-9A-Fa-f.:]+\]):[0-9]+$")
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        reader.text(node, parse_address)
    }

    fn toml(&self) -> String {
        quote(&self.to_string())
    }
}

impl Item for SocketAddr {
    fn plural() -> String {
        "addresses with a port".into()
    }
}

/// An address that serves a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint(pub(crate) SocketAddr);

impl Value for Endpoint {
    fn describe() -> String {
        "an endpoint, as \"10.1.2.3:8080\" or \"[fd00::1]:8080\"".into()
    }

    fn schema() -> Json {
        SocketAddr::schema()
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        reader.text(node, |text| {
            let address = parse_address(text)?;
            let ip = address.ip();
            let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
            match ip.is_unspecified() || ip.is_multicast() || broadcast {
                true => Err(Fault::new("no connection can be made to this address")),
                false => Ok(Self(address)),
            }
        })
    }

    fn toml(&self) -> String {
        self.0.toml()
    }
}

impl Item for Endpoint {
    fn plural() -> String {
        "endpoints (IP:port)".into()
    }
}

fn parse_address(text: &str) -> Result<SocketAddr, Fault> {
    let address: SocketAddr = text.parse().map_err(|_| explain_address(text))?;
    not_mapped(address.ip())?;
    if matches!(address, SocketAddr::V6(v6) if v6.scope_id() != 0) {
        return Err(Fault::new("a scope id is not supported"));
    }
    if address.port() == 0 {
        return Err(Fault::new("port 0 is no port").help("ports go from 1 to 65535"));
    }
    Ok(address)
}

fn explain_address(text: &str) -> Fault {
    if text.contains("://") {
        return Fault::new("this is a URL").help("give IP:port alone");
    }
    match text.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => {
            return Fault::new("the port is missing").help(format!("give IP:port, as \"{ip}:80\""));
        }
        Ok(IpAddr::V6(_)) => {
            return Fault::new("the port is missing, or the brackets before it")
                .help("give IP:port, as \"[fd00::1]:80\"");
        }
        Err(_) => {}
    }
    match text.rsplit_once(':') {
        Some((ip, port)) if ip.parse::<Ipv6Addr>().is_ok() => {
            Fault::new("an IPv6 address with a port needs brackets").help(format!("write \"[{ip}]:{port}\""))
        }
        Some((ip, _)) if ip.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() => {
            Fault::new("the port is not a number from 1 to 65535")
        }
        _ if text.contains(|c: char| c.is_ascii_alphabetic()) => {
            Fault::new("this is a name").help("names are not supported yet; give IP:port")
        }
        _ => Fault::new("not an address with a port").help("give IP:port"),
    }
}

/// The kernel hands a mapped address out as IPv4, so one in the file would silently match nothing.
fn not_mapped(address: IpAddr) -> Result<(), Fault> {
    match address {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => {
                Err(Fault::new("an IPv4 address in an IPv6 coat").help(format!("write it as IPv4: {v4}")))
            }
            None => Ok(()),
        },
        IpAddr::V4(_) => Ok(()),
    }
}

impl Value for IpNet {
    fn describe() -> String {
        "a network, as \"10.0.0.0/8\" or \"fd00::/8\"".into()
    }

    fn schema() -> Json {
        text("^[0-9A-Fa-f.:]+/[0-9]+$")
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        reader.text(node, |text| {
            let network: Self = text.parse().map_err(|_| match text.parse::<IpAddr>() {
                Ok(address) => {
                    let alone = Self::from(address);
                    Fault::new("the prefix length is missing")
                        .help(format!("for this address alone write \"{alone}\""))
                }
                Err(_) => Fault::new("not a network"),
            })?;
            not_mapped(network.addr())?;
            match network.addr() == network.network() {
                true => Ok(network),
                false => {
                    Err(Fault::new(format!("bits are set beyond /{}", network.prefix_len())).help(format!(
                        "the network is \"{}\"; this address alone is \"{}\"",
                        network.trunc(),
                        Self::from(network.addr())
                    )))
                }
            }
        })
    }

    fn toml(&self) -> String {
        quote(&self.to_string())
    }
}

impl Item for IpNet {
    fn plural() -> String {
        "networks, as \"10.0.0.0/8\"".into()
    }
}

/// A port for the proxy to listen on or to match: never 0.
pub(crate) type Port = super::quantity::Count<1, 65535>;

/// One port or a range of ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Ports {
    pub(crate) first: u16,
    pub(crate) last: u16,
}

impl Value for Ports {
    fn describe() -> String {
        "a port from 1 to 65535, or a range as \"8000-8099\"".into()
    }

    fn schema() -> Json {
        let mut schema = Port::schema();
        schema["type"] = json!(["integer", "string"]);
        schema["pattern"] = "^[0-9]+-[0-9]+$".into();
        schema
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        if !node.value.is_integer() {
            return reader.text(node, parse_ports);
        }
        let port = node.integer().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
        if port.is_none() {
            reader.mismatch::<Self>(node, Fault::new("out of range"));
        }
        port.map(|port| Self { first: port, last: port })
    }

    fn toml(&self) -> String {
        if self.first == self.last {
            self.first.to_string()
        } else {
            format!("\"{}-{}\"", self.first, self.last)
        }
    }
}

impl Item for Ports {
    fn plural() -> String {
        "ports and ranges of ports, as 80 or \"8000-8099\"".into()
    }
}

fn parse_ports(text: &str) -> Result<Ports, Fault> {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0 && digits(text));
    let Some((first, last)) = text.split_once('-') else {
        return Err(match port(text) {
            Some(port) => {
                Fault::new("a single port is an integer").help(format!("write {port} without the quotes"))
            }
            None => Fault::new("not a port"),
        });
    };
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first < last => Ok(Ports { first, last }),
        (Some(first), Some(last)) if first == last => {
            Err(Fault::new("a range of one port").help(format!("write {first} without the quotes")))
        }
        (Some(first), Some(last)) => {
            Err(Fault::new("the range ends before it starts")
                .help(format!("did you mean \"{last}-{first}\"?")))
        }
        _ => Err(Fault::new("not a range of ports")),
    }
}
