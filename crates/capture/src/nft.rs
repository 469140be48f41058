//! A plan as text for `nft -f`: what a user reads, keeps or loads by hand. A test loads it and compares the
//! kernel's ruleset with the one that netlink made.

use std::fmt::{Display, Write};

use crate::TABLE;
use crate::netlink::{Family, Layout};
use crate::plan::{Action, Chain, ChainKind, IpVersion, Match, Nets, Plan, Rule};

impl Plan {
    /// The plan as nft text. Loading it replaces what a former plan left in the same tables.
    pub fn to_nft(&self) -> String {
        Layout::preferred(self).families(self).iter().map(|&family| table(self, family)).collect()
    }
}

fn table(plan: &Plan, family: Family) -> String {
    let table = format!("table {} {TABLE}", family.name());
    let mut text = format!("add {table}\ndelete {table}\n{table} {{\n");
    for chain in &plan.chains {
        let _ = writeln!(text, "\tchain {} {{\n\t\t{}", chain.kind.name(), hook(chain));
        for rule in chain.rules.iter().filter(|rule| family.takes(rule)) {
            let _ = writeln!(text, "\t\t{}", line(family, rule));
        }
        text.push_str("\t}\n");
    }
    text + "}\n"
}

fn hook(chain: &Chain) -> &'static str {
    match chain.kind {
        ChainKind::Nat => "type nat hook output priority -100; policy accept;",
        ChainKind::Filter => "type filter hook output priority 0; policy accept;",
        ChainKind::InboundNat => "type nat hook prerouting priority -100; policy accept;",
        ChainKind::InboundFilter => "type filter hook input priority 0; policy accept;",
    }
}

fn line(family: Family, rule: &Rule) -> String {
    let mut parts: Vec<String> = rule.matches.iter().map(condition).collect();
    parts.push(match rule.action {
        Action::Leave => "return".to_owned(),
        Action::Redirect(ports) => format!("redirect to :{ports}"),
        Action::Drop => "drop".to_owned(),
        Action::Reset => "reject with tcp reset".to_owned(),
        Action::Unreachable => format!("reject with {} port-unreachable", icmp(family)),
    });
    parts.push(format!("comment \"{}\"", rule.comment));
    parts.join(" ")
}

/// The ICMP of the table's packets; in an `inet` table of either version.
fn icmp(family: Family) -> &'static str {
    match family {
        Family::Inet => "icmpx",
        Family::Ip => "icmp",
        Family::Ip6 => "icmpv6",
    }
}

fn condition(one: &Match) -> String {
    match one {
        Match::SocketGid(gids) => format!("meta skgid {}", one_of(gids, true)),
        Match::SocketUid(uids) => format!("meta skuid {}", one_of(uids, true)),
        Match::Mark(mark) => format!("meta mark {mark}"),
        Match::Loopback => "oifname \"lo\"".to_owned(),
        Match::FromHere => "iifname \"lo\"".to_owned(),
        Match::ForAnother => "fib daddr type != local".to_owned(),
        Match::Interface(name) => format!("oifname \"{name}\""),
        Match::Version(IpVersion::V4) => "meta nfproto ipv4".to_owned(),
        Match::Version(IpVersion::V6) => "meta nfproto ipv6".to_owned(),
        Match::Destination { nets: Nets::V4(nets), within } => format!("ip daddr {}", set(nets, *within)),
        Match::Destination { nets: Nets::V6(nets), within } => format!("ip6 daddr {}", set(nets, *within)),
        Match::Port { of, ports, within } => format!("{} dport {}", of.name(), one_of(ports, *within)),
        Match::Syn => "tcp flags & (fin|syn|rst|ack) == syn".to_owned(),
        Match::TcpButSyn => "tcp flags & (fin|syn|rst|ack) != syn".to_owned(),
        Match::TcpInvalid => "meta l4proto tcp ct state invalid".to_owned(),
        Match::Translated => "ct status dnat".to_owned(),
    }
}

fn one_of<T: Display>(values: &[T], within: bool) -> String {
    match values {
        [one] => format!("{}{one}", if within { "" } else { "!= " }),
        many => set(many, within),
    }
}

fn set<T: Display>(values: &[T], within: bool) -> String {
    let words: Vec<String> = values.iter().map(T::to_string).collect();
    format!("{}{{ {} }}", if within { "" } else { "!= " }, words.join(", "))
}
