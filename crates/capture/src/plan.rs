//! The rules, as values.
//!
//! Their order is their meaning: the first rule that matches a connection decides it. dragoman's own sockets come
//! first, so that no option can make it dial itself; then what stays on the host, exclusions, inclusions, and
//! last the redirect, for SYN packets alone. The kernel's connection tracking is lenient by default
//! (`nf_conntrack_tcp_loose`): it takes a packet from the middle of an unknown session for a new connection, and a
//! redirect of that packet would kill every session that was open before the rules.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::options::{Invalid, Options};

/// Everything that [`crate::install()`] puts into the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Which packets the table sees.
    pub family: Family,
    /// In order: the first that matches decides.
    pub rules: Vec<Rule>,
    /// What a user should know that no rule says.
    pub notes: Vec<String>,
}

/// The nf_tables family of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4 alone.
    Ip,
}

/// One rule: if all of `matches` hold, `action` decides the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// All must hold.
    pub matches: Vec<Match>,
    /// What then becomes of the connection.
    pub action: Action,
    /// Why the rule is there, as `nft list ruleset` shows it; at most 120 bytes of ASCII.
    pub comment: String,
}

/// What a rule does with a connection that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The connection goes where it was going.
    Leave,
    /// The connection goes to this port of 127.0.0.1 or ::1.
    Redirect(u16),
}

/// One condition on a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// The socket was created under one of these groups. The group counts at that moment: a process that drops
    /// its privileges later keeps the old group on the sockets that it has.
    SocketGid(Vec<u32>),
    /// The socket was created under one of these users.
    SocketUid(Vec<u32>),
    /// The packet leaves by the loopback interface: to 127.0.0.0/8, ::1 or any other address of this host.
    Loopback,
    /// The packet is IPv4.
    IsIpv4,
    /// The packet is IPv6.
    IsIpv6,
    /// The destination is in (or, if not `within`, outside of) these networks, which are of one IP version.
    Destination {
        /// The networks, sorted and without overlap.
        nets: Nets,
        /// In, not outside.
        within: bool,
    },
    /// The destination port is (or, if not `within`, is not) one of these.
    Port {
        /// The ports, sorted.
        ports: Vec<u16>,
        /// One of them, not any other.
        within: bool,
    },
    /// The first packet of a TCP connection: SYN, without ACK, FIN and RST.
    Syn,
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
    /// What `options` mean for a table of `family`.
    ///
    /// # Errors
    /// What [`Options::check`] refuses, and inclusions that leave nothing to capture in this family.
    pub fn new(options: &Options, family: Family) -> Result<Plan, Invalid> {
        options.check()?;
        let mut rules = vec![leave(
            vec![Match::SocketGid(vec![options.proxy_gid])],
            "dragoman itself: sockets of its group are never captured",
        )];
        rules.push(local(options));
        rules.extend(exclusions(options, family));
        rules.extend(inclusions(options, family)?);
        rules.push(redirect(options.port));
        Ok(Plan { family, rules, notes: notes(family) })
    }

    /// Whether any IPv6 packet meets these rules.
    pub fn captures_ipv6(&self) -> bool {
        self.family == Family::Inet
    }

    /// A table that captures nothing new and keeps what was captured alive: the kernel translates only as long as
    /// some rule could, so the redirect stays, out of reach.
    pub(crate) fn draining(family: Family, port: u16) -> Plan {
        let rules = vec![leave(Vec::new(), "draining: new connections pass by"), redirect(port)];
        Plan { family, rules, notes: Vec::new() }
    }
}

impl Family {
    /// The name that nft gives the family.
    pub fn name(self) -> &'static str {
        match self {
            Family::Inet => "inet",
            Family::Ip => "ip",
        }
    }
}

impl Nets {
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

fn local(options: &Options) -> Rule {
    if options.capture_loopback {
        let own = Match::Port { ports: options.own_ports(), within: true };
        leave(vec![Match::Loopback, own], "dragoman's own ports on this host")
    } else {
        leave(vec![Match::Loopback], "local traffic is captured with --capture-loopback only")
    }
}

fn exclusions(options: &Options, family: Family) -> Vec<Rule> {
    let mut rules = Vec::new();
    if !options.exclude_gid.is_empty() {
        rules.push(leave(vec![Match::SocketGid(sorted(&options.exclude_gid))], "exclude-gid"));
    }
    if !options.exclude_uid.is_empty() {
        rules.push(leave(vec![Match::SocketUid(sorted(&options.exclude_uid))], "exclude-uid"));
    }
    let (v4, v6) = Nets::of(&options.exclude_cidr);
    let v6 = v6.filter(|_| family == Family::Inet);
    for nets in [v4, v6].into_iter().flatten() {
        rules.push(leave(vec![Match::Destination { nets, within: true }], "exclude-cidr"));
    }
    if !options.exclude_port.is_empty() {
        let ports = sorted(&options.exclude_port);
        rules.push(leave(vec![Match::Port { ports, within: true }], "exclude-port"));
    }
    rules
}

fn inclusions(options: &Options, family: Family) -> Result<Vec<Rule>, Invalid> {
    let mut rules = Vec::new();
    if let Some(first) = options.include_cidr.first() {
        let (v4, v6) = Nets::of(&options.include_cidr);
        if family == Family::Ip && v4.is_none() {
            return Err(Invalid {
                option: "include-cidr",
                value: first.to_string(),
                reason: "is IPv6, of which nothing can be captured here; include an IPv4 network".to_owned(),
            });
        }
        rules.push(match v4 {
            Some(nets) => outside(nets),
            None => leave(vec![Match::IsIpv4], "include-cidr has no IPv4 network"),
        });
        if family == Family::Inet {
            rules.push(match v6 {
                Some(nets) => outside(nets),
                None => leave(vec![Match::IsIpv6], "include-cidr has no IPv6 network"),
            });
        }
    }
    if !options.include_port.is_empty() {
        let ports = sorted(&options.include_port);
        rules.push(leave(vec![Match::Port { ports, within: false }], "not in include-port"));
    }
    Ok(rules)
}

fn outside(nets: Nets) -> Rule {
    leave(vec![Match::Destination { nets, within: false }], "not in include-cidr")
}

fn redirect(port: u16) -> Rule {
    Rule {
        matches: vec![Match::Syn],
        action: Action::Redirect(port),
        comment: "new connections go to dragoman; older sessions stay as they are".to_owned(),
    }
}

fn notes(family: Family) -> Vec<String> {
    let mut notes = vec!["Only TCP is captured: UDP, and with it QUIC, passes by.".to_owned()];
    if family == Family::Ip {
        notes.push("IPv6 is not captured: its connections pass by.".to_owned());
    }
    notes
}

fn leave(matches: Vec<Match>, comment: &str) -> Rule {
    Rule { matches, action: Action::Leave, comment: comment.to_owned() }
}

fn sorted<T: Copy + Ord>(values: &[T]) -> Vec<T> {
    let mut values = values.to_vec();
    values.sort_unstable();
    values
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
