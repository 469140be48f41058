//! What the user asks for, and the checks that refuse what could not mean what it says.
//!
//! Exclusions win over inclusions. Inclusions narrow: with `include_cidr` only those networks are captured, with
//! `include_port` only those ports, with both only what matches both. So a value that could never have an effect
//! is a mistake of its author, and is refused rather than ignored.

use std::collections::HashSet;
use std::fmt::Display;
use std::hash::Hash;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Where captured connections go unless the user says otherwise.
pub const REDIRECT_PORT: u16 = 15001;
/// The proxy's administration port on loopback.
pub const ADMIN_PORT: u16 = 15000;
/// The proxy's port for probes and metrics.
pub const READINESS_PORT: u16 = 15020;
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

/// Which outbound TCP connections are captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where the proxy listens, on 127.0.0.1 and ::1.
    pub port: u16,
    /// Sockets that a process of this group created are dragoman's own.
    pub proxy_gid: u32,
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
    /// Whether IPv6 is captured.
    pub ipv6: Ipv6,
    /// Also capture what stays on this host, save for dragoman's own ports.
    pub capture_loopback: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            port: REDIRECT_PORT,
            proxy_gid: PROXY_GID,
            exclude_cidr: Vec::new(),
            include_cidr: Vec::new(),
            exclude_port: Vec::new(),
            include_port: Vec::new(),
            exclude_uid: Vec::new(),
            exclude_gid: Vec::new(),
            ipv6: Ipv6::Auto,
            capture_loopback: false,
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
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.option, self.value, self.reason)
    }
}

impl std::error::Error for Invalid {}

impl Options {
    /// Refuses what is out of range, given twice, contradictory, or could never have an effect.
    ///
    /// # Errors
    /// The first such value, by the name of its option.
    pub fn check(&self) -> Result<(), Invalid> {
        self.check_own()?;
        self.check_owners()?;
        self.check_ports()?;
        self.check_networks()
    }

    /// The ports on which dragoman itself listens.
    pub(crate) fn own_ports(&self) -> Vec<u16> {
        let mut ports = vec![self.port, ADMIN_PORT, READINESS_PORT];
        ports.sort_unstable();
        ports
    }

    fn check_own(&self) -> Result<(), Invalid> {
        match self.port {
            0 => return invalid("port", 0, "expected a port from 1 to 65535"),
            ADMIN_PORT => return invalid("port", ADMIN_PORT, "is dragoman's own administration port"),
            READINESS_PORT => {
                return invalid("port", READINESS_PORT, "is dragoman's own port for probes and metrics");
            }
            _ => {}
        }
        match self.proxy_gid {
            0 => invalid(
                "proxy-gid",
                0,
                "would let every process of root's group pass by; run the proxy in a group of its own",
            ),
            u32::MAX => invalid("proxy-gid", u32::MAX, "is not a group; expected 1 to 4294967294"),
            _ => Ok(()),
        }
    }

    fn check_owners(&self) -> Result<(), Invalid> {
        unique("exclude-uid", &self.exclude_uid)?;
        unique("exclude-gid", &self.exclude_gid)?;
        if self.exclude_uid.contains(&u32::MAX) {
            return invalid("exclude-uid", u32::MAX, "is not a user; expected 0 to 4294967294");
        }
        if self.exclude_gid.contains(&u32::MAX) {
            return invalid("exclude-gid", u32::MAX, "is not a group; expected 0 to 4294967294");
        }
        if self.exclude_gid.contains(&self.proxy_gid) {
            return invalid(
                "exclude-gid",
                self.proxy_gid,
                "is the proxy's own group, which is never captured; leave it out",
            );
        }
        Ok(())
    }

    fn check_ports(&self) -> Result<(), Invalid> {
        unique("exclude-port", &self.exclude_port)?;
        unique("include-port", &self.include_port)?;
        for (option, ports) in [("exclude-port", &self.exclude_port), ("include-port", &self.include_port)] {
            if ports.contains(&0) {
                return invalid(option, 0, "expected a port from 1 to 65535");
            }
        }
        if let Some(port) = self.include_port.iter().find(|&port| self.exclude_port.contains(port)) {
            return invalid("include-port", port, "is in --exclude-port too; take it out of one of them");
        }
        if self.include_port.contains(&self.port) {
            return invalid(
                "include-port",
                self.port,
                "is the port to which captured connections go (--port)",
            );
        }
        Ok(())
    }

    fn check_networks(&self) -> Result<(), Invalid> {
        unique("exclude-cidr", &self.exclude_cidr)?;
        unique("include-cidr", &self.include_cidr)?;
        for net in &self.include_cidr {
            if let Some(wider) = self.exclude_cidr.iter().find(|exclude| exclude.contains(net)) {
                return invalid(
                    "include-cidr",
                    net,
                    format!("lies within --exclude-cidr {wider}, which wins; take one of them out"),
                );
            }
            if matches!(net, IpNet::V6(_)) && self.ipv6 == Ipv6::Off {
                return invalid("include-cidr", net, "is IPv6, which --ipv6 off leaves alone");
            }
            if !self.capture_loopback && is_loopback(net) {
                return invalid(
                    "include-cidr",
                    net,
                    "never leaves this host, so it is captured with --capture-loopback only",
                );
            }
        }
        Ok(())
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

fn is_loopback(net: &IpNet) -> bool {
    match net {
        IpNet::V4(net) => net.network().is_loopback() && net.prefix_len() >= 8,
        IpNet::V6(net) => *net == Ipv6Net::from(std::net::Ipv6Addr::LOCALHOST),
    }
}

fn unique<T: Copy + Eq + Hash + Display>(option: &'static str, values: &[T]) -> Result<(), Invalid> {
    let mut seen = HashSet::new();
    match values.iter().find(|&value| !seen.insert(value)) {
        Some(twice) => invalid(option, twice, "is given twice"),
        None => Ok(()),
    }
}

fn invalid(option: &'static str, value: impl Display, reason: impl Into<String>) -> Result<(), Invalid> {
    Err(Invalid { option, value: value.to_string(), reason: reason.into() })
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
