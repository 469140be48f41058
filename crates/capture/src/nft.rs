//! A plan as text for `nft -f`: what a user reads, keeps or loads by hand. A test loads it and compares the
//! kernel's ruleset with the one that netlink made.

use std::fmt::{Display, Write};

use crate::plan::{Action, Match, Nets, Plan, Rule};
use crate::{CHAIN, TABLE};

impl Plan {
    /// The plan as nft text. Loading it replaces what a former plan of the same family left.
    pub fn to_nft(&self) -> String {
        let table = format!("table {} {TABLE}", self.family.name());
        let mut text = format!("add {table}\ndelete {table}\n{table} {{\n\tchain {CHAIN} {{\n");
        text.push_str("\t\ttype nat hook output priority -100; policy accept;\n");
        for rule in &self.rules {
            let _ = writeln!(text, "\t\t{}", line(rule));
        }
        text.push_str("\t}\n}\n");
        text
    }
}

fn line(rule: &Rule) -> String {
    let mut parts: Vec<String> = rule.matches.iter().map(condition).collect();
    parts.push(match rule.action {
        Action::Leave => "return".to_owned(),
        Action::Redirect(port) => format!("redirect to :{port}"),
    });
    parts.push(format!("comment \"{}\"", rule.comment));
    parts.join(" ")
}

fn condition(one: &Match) -> String {
    match one {
        Match::SocketGid(gids) => format!("meta skgid {}", one_of(gids, true)),
        Match::SocketUid(uids) => format!("meta skuid {}", one_of(uids, true)),
        Match::Loopback => "oifname \"lo\"".to_owned(),
        Match::IsIpv4 => "meta nfproto ipv4".to_owned(),
        Match::IsIpv6 => "meta nfproto ipv6".to_owned(),
        Match::Destination { nets: Nets::V4(nets), within } => format!("ip daddr {}", set(nets, *within)),
        Match::Destination { nets: Nets::V6(nets), within } => format!("ip6 daddr {}", set(nets, *within)),
        Match::Port { ports, within } => format!("tcp dport {}", one_of(ports, *within)),
        Match::Syn => "tcp flags & (fin|syn|rst|ack) == syn".to_owned(),
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
