//! What is refused: see [`super`] for why.

use std::collections::HashSet;
use std::fmt::Display;
use std::hash::Hash;

use ipnet::{IpNet, Ipv6Net};

use super::{ADMIN_PORT, Invalid, Ipv6, Options, Own, READINESS_PORT};

/// The longest range of redirect ports: each is a listener of the proxy for each IP version.
const MOST_PORTS: u16 = 64;
/// IFNAMSIZ of linux/if.h, without its final NUL.
const INTERFACE_NAME_BYTES: usize = 15;
const DNS_PORT: u16 = 53;
const QUIC_PORT: u16 = 443;

impl Options {
    /// Refuses what is out of range, given twice, contradictory, or could never have an effect.
    ///
    /// # Errors
    /// The first such value, by the name of its option.
    pub fn check(&self) -> Result<(), Invalid> {
        self.check_redirect_ports()?;
        self.check_own()?;
        self.check_owners()?;
        self.check_interfaces()?;
        self.check_ports()?;
        self.check_dns_and_quic()?;
        self.check_inbound()?;
        self.check_networks()
    }

    fn check_redirect_ports(&self) -> Result<(), Invalid> {
        let range = self.port;
        if range.first == 0 {
            return invalid("port", range, "expected a port from 1 to 65535");
        }
        if range.last < range.first {
            return invalid("port", range, "ends before it begins");
        }
        if range.last - range.first >= MOST_PORTS {
            return invalid("port", range, format!("is more than {MOST_PORTS} ports"));
        }
        for (own, what) in
            [(ADMIN_PORT, "administration port"), (READINESS_PORT, "port for probes and metrics")]
        {
            if range.contains(own) {
                let verb = if range.first == range.last { "is" } else { "has" };
                return invalid("port", range, format!("{verb} dragoman's own {what}"));
            }
        }
        Ok(())
    }

    fn check_own(&self) -> Result<(), Invalid> {
        match self.own {
            Own::Group(0) => invalid(
                "proxy-gid",
                0,
                "would let every process of root's group pass by; run the proxy in a group of its own",
            ),
            Own::Group(u32::MAX) => {
                invalid("proxy-gid", u32::MAX, "is not a group; expected 1 to 4294967294")
            }
            Own::Mark(0) => {
                invalid("mark", 0, "is the mark of every socket that has none; expected 1 or more")
            }
            Own::Group(_) | Own::Mark(_) => Ok(()),
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
        match self.own {
            Own::Group(gid) if self.exclude_gid.contains(&gid) => {
                invalid("exclude-gid", gid, "is the proxy's own group, which is never captured; leave it out")
            }
            Own::Group(_) | Own::Mark(_) => Ok(()),
        }
    }

    fn check_interfaces(&self) -> Result<(), Invalid> {
        unique("exclude-interface", &self.exclude_interface)?;
        for name in &self.exclude_interface {
            let named = !name.is_empty()
                && name.len() <= INTERFACE_NAME_BYTES
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-@:".contains(&byte));
            if !named {
                return invalid(
                    "exclude-interface",
                    name,
                    "is not the name of an interface: up to 15 letters, digits and ._-@: (patterns are not taken)",
                );
            }
            if name == "lo" {
                let reason = if self.capture_loopback {
                    "undoes --capture-loopback; take one of them out"
                } else {
                    "is left alone anyway"
                };
                return invalid("exclude-interface", name, reason);
            }
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
        match self.include_port.iter().find(|&&port| self.port.contains(port)) {
            Some(port) => {
                invalid("include-port", port, "is the port to which captured connections go (--port)")
            }
            None => Ok(()),
        }
    }

    fn check_dns_and_quic(&self) -> Result<(), Invalid> {
        if let Some(port) = self.capture_dns {
            if port == 0 {
                return invalid("capture-dns", port, "expected a port from 1 to 65535");
            }
            if self.port.contains(port) || [ADMIN_PORT, READINESS_PORT].contains(&port) {
                return invalid("capture-dns", port, "is one of dragoman's other ports");
            }
            if self.exclude_port.contains(&DNS_PORT) {
                return invalid(
                    "exclude-port",
                    DNS_PORT,
                    "is what --capture-dns captures; take one of them out",
                );
            }
        }
        if self.reject_quic {
            let what = "keeps TCP to that port from being captured, so --reject-quic has no point";
            if self.exclude_port.contains(&QUIC_PORT) {
                return invalid("exclude-port", QUIC_PORT, what);
            }
            if let Some(first) = self.include_port.first().filter(|_| !self.include_port.contains(&QUIC_PORT))
            {
                let reason = "without 443 keeps TCP to it from being captured, so --reject-quic has no point";
                return invalid("include-port", first, reason);
            }
        }
        Ok(())
    }

    fn check_inbound(&self) -> Result<(), Invalid> {
        let Some(inbound) = &self.inbound else { return Ok(()) };
        let port = inbound.port;
        if port == 0 {
            return invalid("inbound-port", port, "expected a port from 1 to 65535");
        }
        if self.port.contains(port)
            || self.capture_dns == Some(port)
            || [ADMIN_PORT, READINESS_PORT].contains(&port)
        {
            return invalid("inbound-port", port, "is one of dragoman's other ports");
        }
        let (exclude, include) = (&inbound.exclude_port, &inbound.include_port);
        for (option, ports) in [("exclude-inbound-port", exclude), ("include-inbound-port", include)] {
            unique(option, ports)?;
            if ports.contains(&0) {
                return invalid(option, 0, "expected a port from 1 to 65535");
            }
        }
        if let Some(port) = include.iter().find(|&port| exclude.contains(port)) {
            let reason = "is in --exclude-inbound-port too; take it out of one of them";
            return invalid("include-inbound-port", port, reason);
        }
        match include.iter().find(|&port| self.own_ports().contains(port)) {
            Some(port) => invalid(
                "include-inbound-port",
                port,
                "is one of dragoman's own ports, which are never captured",
            ),
            None => Ok(()),
        }
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

fn is_loopback(net: &IpNet) -> bool {
    match net {
        IpNet::V4(net) => net.network().is_loopback() && net.prefix_len() >= 8,
        IpNet::V6(net) => *net == Ipv6Net::from(std::net::Ipv6Addr::LOCALHOST),
    }
}

fn unique<T: Eq + Hash + Display>(option: &'static str, values: &[T]) -> Result<(), Invalid> {
    let mut seen = HashSet::new();
    match values.iter().find(|&value| !seen.insert(value)) {
        Some(twice) => invalid(option, twice, "is given twice"),
        None => Ok(()),
    }
}

fn invalid(option: &'static str, value: impl Display, reason: impl Into<String>) -> Result<(), Invalid> {
    Err(Invalid { option, value: value.to_string(), reason: reason.into() })
}
