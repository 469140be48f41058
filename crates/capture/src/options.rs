//! What the user asks for, and the checks that refuse what could not mean what it says.
//!
//! Exclusions win over inclusions. Inclusions narrow: with `include_cidr` only those networks are captured, with
//! `include_port` only those ports, with both only what matches both. So a value that could never have an effect
//! is a mistake of its author, and is refused rather than ignored.

mod check;
mod read;

use std::fmt::{Display, Formatter};

use ipnet::{IpNet, Ipv4Net};

pub use read::{parse_id, parse_ipv6, parse_number, parse_port};

/// Where captured connections go unless the user says otherwise.
pub const REDIRECT_PORT: u16 = 15001;
/// The proxy's administration port on loopback.
pub const ADMIN_PORT: u16 = 15000;
/// The proxy's port for probes and metrics.
pub const READINESS_PORT: u16 = 15020;
/// Where connections from outside go unless the user says otherwise.
pub const INBOUND_PORT: u16 = 15006;
/// The group that the proxy runs as unless the user says otherwise.
pub const PROXY_GID: u32 = 1337;

/// Whether IPv6 is captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ipv6 {
    /// Captured unless the kernel has no IPv6.
    #[default]
    Auto,
    /// Captured, and an error where that is impossible.
    On,
    /// Left alone: IPv6 connections pass dragoman by.
    Off,
}

/// How dragoman's own sockets are told from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// A process of this group created them.
    Group(u32),
    /// They carry this mark (`SO_MARK`), which takes CAP_NET_ADMIN to set.
    Mark(u32),
}

/// Ports in a row, on which the proxy listens.
///
/// Connections that share a source address and port, to whatever servers, need a redirect port each, or the kernel
/// gives them another source port: one redirect port carries some 64k connections, TIME_WAIT included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last, not below the first.
    pub last: u16,
}

/// Which connections that come from outside are captured. Those of this host to itself never are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// Where the proxy listens for them, on every address: they arrive at the interface by which they came.
    pub port: u16,
    /// Ports of this host that are left alone, such as those of health probes.
    pub exclude_port: Vec<u16>,
    /// If not empty: the only ports of this host that are captured.
    pub include_port: Vec<u16>,
}

/// Which outbound TCP connections are captured, what else is done to outbound packets, and which connections from
/// outside are captured too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where the proxy listens, on 127.0.0.1 and ::1.
    pub port: PortRange,
    /// What is never captured because it is dragoman's.
    pub own: Own,
    /// Destinations that are left alone.
    pub exclude_cidr: Vec<IpNet>,
    /// If not empty: the only destinations that are captured.
    pub include_cidr: Vec<IpNet>,
    /// Destination ports that are left alone.
    pub exclude_port: Vec<u16>,
    /// If not empty: the only destination ports that are captured.
    pub include_port: Vec<u16>,
    /// Users whose sockets are left alone.
    pub exclude_uid: Vec<u32>,
    /// Groups whose sockets are left alone.
    pub exclude_gid: Vec<u32>,
    /// Interfaces by which connections leave that are left alone.
    pub exclude_interface: Vec<String>,
    /// Whether IPv6 is captured.
    pub ipv6: Ipv6,
    /// Also capture what stays on this host, save for dragoman's own ports.
    pub capture_loopback: bool,
    /// The other ports of dragoman's on loopback, which are never captured.
    pub admin_ports: Vec<u16>,
    /// Where DNS over UDP and TCP goes, on 127.0.0.1 and ::1, whatever ports are excluded or included.
    pub capture_dns: Option<u16>,
    /// Refuse UDP to port 443 of what is captured, so that clients of HTTP/3 take TCP.
    pub reject_quic: bool,
    /// If given: refuse UDP to any other network than these, so that nothing but TCP and captured DNS gets out.
    pub udp_only_to: Option<Vec<IpNet>>,
    /// Drop TCP packets that conntrack cannot assign: untranslated, they would reset the connection that they
    /// belong to.
    pub drop_invalid: bool,
    /// If given: capture what comes from outside too.
    pub inbound: Option<Inbound>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            port: PortRange::one(REDIRECT_PORT),
            own: Own::Group(PROXY_GID),
            exclude_cidr: Vec::new(),
            include_cidr: Vec::new(),
            exclude_port: Vec::new(),
            include_port: Vec::new(),
            exclude_uid: Vec::new(),
            exclude_gid: Vec::new(),
            exclude_interface: Vec::new(),
            ipv6: Ipv6::Auto,
            capture_loopback: false,
            admin_ports: vec![ADMIN_PORT, READINESS_PORT],
            capture_dns: None,
            reject_quic: false,
            udp_only_to: None,
            drop_invalid: false,
            inbound: None,
        }
    }
}

impl Default for Inbound {
    fn default() -> Self {
        Inbound { port: INBOUND_PORT, exclude_port: Vec::new(), include_port: Vec::new() }
    }
}

impl PortRange {
    /// A range of one.
    pub const fn one(port: u16) -> PortRange {
        PortRange { first: port, last: port }
    }

    /// Whether the port is in it.
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl Display for PortRange {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            PortRange { first, last } if first == last => write!(f, "{first}"),
            PortRange { first, last } => write!(f, "{first}-{last}"),
        }
    }
}

/// An option whose value cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The option's long name without dashes, such as `exclude-port`.
    pub option: &'static str,
    /// The value as the user would write it.
    pub value: String,
    /// What is wrong with it and what to do.
    pub reason: String,
}

impl Display for Invalid {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.option, self.value, self.reason)
    }
}

impl std::error::Error for Invalid {}

impl Options {
    /// The ports on which dragoman itself listens.
    pub(crate) fn own_ports(&self) -> Vec<u16> {
        let mut ports: Vec<u16> = (self.port.first..=self.port.last).collect();
        ports.extend(&self.admin_ports);
        ports.extend(self.capture_dns);
        ports.extend(self.inbound.as_ref().map(|inbound| inbound.port));
        ports.sort_unstable();
        ports
    }
}

/// Reads a network in CIDR notation; a bare address is a network of one.
///
/// # Errors
/// A reason that completes "VALUE: …": not a network, bits beyond the prefix, or an IPv4 network in IPv6 dress,
/// which no packet would ever match.
pub fn parse_cidr(text: &str) -> Result<IpNet, String> {
    let net: IpNet = match text.parse() {
        Ok(net) => net,
        Err(_) => text
            .parse()
            .map(|address: std::net::IpAddr| address.into())
            .map_err(|_| "expected a network such as 10.0.0.0/8, fd00::/8 or a single address".to_owned())?,
    };
    if net != net.trunc() {
        return Err(format!("has bits beyond its prefix; did you mean {}?", net.trunc()));
    }
    if let IpNet::V6(v6) = net
        && let Some(v4) = v6.addr().to_ipv4_mapped()
        && let Some(prefix) = v6.prefix_len().checked_sub(96)
        && let Ok(v4) = Ipv4Net::new(v4, prefix)
    {
        return Err(format!("is IPv4 written as IPv6, which no packet matches; write {v4}"));
    }
    Ok(net)
}

#[cfg(test)]
mod tests;
