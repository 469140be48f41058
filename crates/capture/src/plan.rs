//! The rules, as values.
//!
//! Their order is their meaning: the first rule of a chain that matches a packet decides it there. What captures is
//! the NAT chain. dragoman's own sockets come first in it, so that no option can make it dial itself; then what
//! stays on the host, exclusions, inclusions, and last the redirect, for SYN packets alone. The kernel's connection
//! tracking is lenient by default (`nf_conntrack_tcp_loose`): it takes a packet from the middle of an unknown session
//! for a new connection, and a redirect of that packet would kill every session that was open before the rules.
//!
//! A NAT chain sees only what conntrack takes for the first packet of a flow, and can refuse nothing. So the filter
//! chain stands behind it and refuses each SYN that should have been redirected and was not: capture fails closed.
//! docs/adr/0016 has the case for which that matters.
//!
//! Where connections from outside are captured too, two more chains do the same on the way in. There the redirect
//! leads to the address of the interface, not to loopback.

mod rules;

use std::fmt::{Display, Formatter};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::options::{Invalid, Options, PortRange};

/// Everything that [`crate::install()`] puts into the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Whether IPv6 packets meet these rules too.
    pub ipv6: bool,
    /// In the order in which a packet meets them.
    pub chains: Vec<Chain>,
    /// What a user should know that no rule says.
    pub notes: Vec<String>,
}

/// Rules at one place of the way that a packet takes out of the host, or into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The place.
    pub kind: ChainKind,
    /// In order: the first that matches decides.
    pub rules: Vec<Rule>,
}

/// A place of the way that a packet takes out of the host, or into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainKind {
    /// Where the first packet of a flow gets its translation.
    Nat,
    /// Where every packet may be refused, after translation.
    Filter,
    /// Where the first packet of a flow from outside gets its translation.
    InboundNat,
    /// Where every packet that came in may be refused, after translation.
    InboundFilter,
}

/// A version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// One rule: if all of `matches` hold, `action` decides the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// All must hold.
    pub matches: Vec<Match>,
    /// What then becomes of the packet, or of the connection that it opens.
    pub action: Action,
    /// Why the rule is there, as `nft list ruleset` shows it; at most 120 bytes of ASCII.
    pub comment: String,
}

/// What a rule does with what it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It goes where it was going.
    Leave,
    /// The connection goes to one of these ports of 127.0.0.1 or ::1: the first one unless its source address and
    /// port are in use there.
    Redirect(PortRange),
    /// The packet is lost, without a word.
    Drop,
    /// The sender gets a TCP reset: connection refused.
    Reset,
    /// The sender gets an ICMP error, port unreachable.
    Unreachable,
}

/// One condition on a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// The socket was created under one of these groups. The group counts at that moment: a process that drops
    /// its privileges later keeps the old group on the sockets that it has.
    SocketGid(Vec<u32>),
    /// The socket was created under one of these users.
    SocketUid(Vec<u32>),
    /// The socket has this mark.
    Mark(u32),
    /// The packet leaves by the loopback interface: to 127.0.0.0/8, ::1 or any other address of this host.
    Loopback,
    /// The packet came by the loopback interface: from this host.
    FromHere,
    /// The packet came in and is for another host: this one passes it on.
    ForAnother,
    /// The packet leaves by this interface.
    Interface(String),
    /// The packet is of this version of IP.
    Version(IpVersion),
    /// The destination is in (or, if not `within`, outside of) these networks, which are of one IP version.
    Destination {
        /// The networks, sorted and without overlap.
        nets: Nets,
        /// In, not outside.
        within: bool,
    },
    /// The destination port is (or, if not `within`, is not) one of these.
    Port {
        /// Of which protocol.
        of: Transport,
        /// The ports, sorted.
        ports: Vec<u16>,
        /// One of them, not any other.
        within: bool,
    },
    /// The first packet of a TCP connection: SYN, without ACK, FIN and RST.
    Syn,
    /// A TCP packet that is not the first.
    TcpButSyn,
    /// A TCP packet that conntrack cannot assign to a connection, and so does not translate.
    TcpInvalid,
    /// A packet of a flow whose destination was translated, by these rules or by others.
    Translated,
}

/// A protocol that has ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Networks of one IP version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nets {
    /// IPv4 networks.
    V4(Vec<Ipv4Net>),
    /// IPv6 networks.
    V6(Vec<Ipv6Net>),
}

impl Plan {
    /// What `options` mean, with or without IPv6.
    ///
    /// # Errors
    /// What [`Options::check`] refuses, and inclusions that leave nothing to capture without IPv6.
    pub fn new(options: &Options, ipv6: bool) -> Result<Plan, Invalid> {
        options.check()?;
        rules::plan(options, ipv6)
    }

    /// Rules that capture nothing new and keep what was captured alive: the kernel translates only as long as some
    /// rule could, so the redirect stays, out of reach.
    pub(crate) fn draining(ipv6: bool, port: PortRange) -> Plan {
        Plan { ipv6, chains: vec![rules::draining(port)], notes: Vec::new() }
    }

    /// How many rules there are.
    pub fn rule_count(&self) -> usize {
        self.chains.iter().map(|chain| chain.rules.len()).sum()
    }

    /// The versions of IP whose packets meet these rules.
    pub(crate) fn versions(&self) -> &'static [IpVersion] {
        if self.ipv6 { &[IpVersion::V4, IpVersion::V6] } else { &[IpVersion::V4] }
    }
}

impl ChainKind {
    /// The name of the chain in dragoman's table.
    pub fn name(self) -> &'static str {
        match self {
            ChainKind::Nat => "output",
            ChainKind::Filter => "filter",
            ChainKind::InboundNat => "inbound",
            ChainKind::InboundFilter => "inbound_filter",
        }
    }
}

impl Rule {
    /// The only version of IP whose packets can match; `None` is either.
    pub(crate) fn version(&self) -> Option<IpVersion> {
        self.matches.iter().find_map(|one| match one {
            Match::Version(version) => Some(*version),
            Match::Destination { nets: Nets::V4(_), .. } => Some(IpVersion::V4),
            Match::Destination { nets: Nets::V6(_), .. } => Some(IpVersion::V6),
            _ => None,
        })
    }

    /// Whether a packet of this version could match.
    pub(crate) fn is_for(&self, version: IpVersion) -> bool {
        self.version().is_none_or(|only| only == version)
    }
}

impl Display for IpVersion {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            IpVersion::V4 => "IPv4",
            IpVersion::V6 => "IPv6",
        })
    }
}

impl Transport {
    /// The name that nft and iptables give it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        }
    }
}

impl Nets {
    /// The networks of each version, sorted and without overlap; `None` where there are none.
    fn of(nets: &[IpNet]) -> (Option<Nets>, Option<Nets>) {
        let v4: Vec<Ipv4Net> =
            nets.iter().filter_map(|net| if let IpNet::V4(v4) = net { Some(*v4) } else { None }).collect();
        let v6: Vec<Ipv6Net> =
            nets.iter().filter_map(|net| if let IpNet::V6(v6) = net { Some(*v6) } else { None }).collect();
        (
            (!v4.is_empty()).then(|| Nets::V4(Ipv4Net::aggregate(&v4))),
            (!v6.is_empty()).then(|| Nets::V6(Ipv6Net::aggregate(&v6))),
        )
    }
}

#[cfg(test)]
mod tests;
