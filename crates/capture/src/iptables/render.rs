//! A plan as rules of iptables. One text serves both versions of IP: `-4` and `-6` in front of a rule make the
//! program for the other version pass over it.
//!
//! A rule of iptables has one value for each condition and no negated list. So a list becomes several rules, and
//! "outside of these" becomes a fork: what is within goes on in a further chain, the rest returns.

use super::content::{CHAIN, Content, INBOUND_CHAIN, Table};
use crate::plan::{Action, Chain, ChainKind, IpVersion, Match, Nets, Plan, Rule, Transport};

/// The most ports that one rule of the multiport match takes (XT_MULTI_PORTS).
const MULTIPORT: usize = 15;

/// The state in which this plan is installed.
pub(super) fn content(plan: &Plan) -> Content {
    let mut tables: Vec<Table> = Vec::new();
    for chain in &plan.chains {
        let (name, hook, own) = place(chain.kind);
        let index = tables.iter().position(|table| table.name == name).unwrap_or_else(|| {
            tables.push(Table { name: name.to_owned(), ..Table::default() });
            tables.len() - 1
        });
        tables[index].add(chain, hook, own);
    }
    Content(tables)
}

/// The table, the chain of the system that leads to dragoman's, and dragoman's.
fn place(kind: ChainKind) -> (&'static str, &'static str, &'static str) {
    match kind {
        ChainKind::Nat => ("nat", "OUTPUT", CHAIN),
        ChainKind::Filter => ("filter", "OUTPUT", CHAIN),
        ChainKind::InboundNat => ("nat", "PREROUTING", INBOUND_CHAIN),
        ChainKind::InboundFilter => ("filter", "INPUT", INBOUND_CHAIN),
    }
}

impl Table {
    fn add(&mut self, chain: &Chain, hook: &str, own: &str) {
        self.chains.push(own.to_owned());
        self.jumps.push(format!("{hook} -j {own}"));
        for rule in &chain.rules {
            match rule.matches.iter().find_map(Fork::of) {
                Some(fork) => self.fork(own, &fork, &rule.comment),
                None => self.rule(rule),
            }
        }
    }

    fn chain(&self) -> &str {
        self.chains.last().map_or(CHAIN, String::as_str)
    }

    fn push(&mut self, words: &[&str]) {
        let words: Vec<&str> = words.iter().copied().filter(|word| !word.is_empty()).collect();
        self.rules.push(format!("{} {}", self.chain(), words.join(" ")));
    }

    fn rule(&mut self, rule: &Rule) {
        let protocol = rule.matches.iter().find_map(transport).map_or(String::new(), protocol);
        let comment = comment(&rule.comment);
        for conditions in combinations(&rule.matches) {
            for (version, target) in targets(rule) {
                self.push(&[version, &protocol, &conditions, &comment, &target]);
            }
        }
    }

    /// What is within goes on in the next chain, what is without returns, and what was not asked goes on too.
    fn fork(&mut self, own: &str, fork: &Fork, text: &str) {
        let chains = self.chains.iter().filter(|chain| chain.starts_with(own)).count();
        let next = format!("{own}_{}", chains + 1);
        let comment = comment(text);
        for one in &fork.within {
            self.push(&[fork.scope, one, &comment, "-g", &next]);
        }
        self.push(&[fork.scope, &comment, "-j RETURN"]);
        self.push(&["-g", &next]);
        self.chains.push(next);
    }
}

/// A negated list.
struct Fork {
    /// Which packets are asked at all.
    scope: &'static str,
    /// The conditions, one of which must hold to go on.
    within: Vec<String>,
}

impl Fork {
    fn of(one: &Match) -> Option<Fork> {
        match one {
            Match::Destination { nets, within: false } => {
                let version = match nets {
                    Nets::V4(_) => IpVersion::V4,
                    Nets::V6(_) => IpVersion::V6,
                };
                Some(Fork { scope: flag(version), within: destinations(nets) })
            }
            Match::Port { of: Transport::Tcp, ports, within: false } => {
                Some(Fork { scope: "-p tcp", within: dports(ports) })
            }
            _ => None,
        }
    }
}

/// The target of a rule, with the version of IP for which it is.
fn targets(rule: &Rule) -> Vec<(&'static str, String)> {
    let version = rule.version().map_or("", flag);
    match rule.action {
        Action::Leave => vec![(version, "-j RETURN".to_owned())],
        Action::Redirect(ports) => vec![(version, format!("-j REDIRECT --to-ports {ports}"))],
        Action::Drop => vec![(version, "-j DROP".to_owned())],
        Action::Reset => vec![(version, "-j REJECT --reject-with tcp-reset".to_owned())],
        Action::Unreachable => vec![
            (flag(IpVersion::V4), "-j REJECT --reject-with icmp-port-unreachable".to_owned()),
            (flag(IpVersion::V6), "-j REJECT --reject-with icmp6-port-unreachable".to_owned()),
        ],
    }
}

/// Every way to choose one alternative of each condition.
fn combinations(matches: &[Match]) -> Vec<String> {
    matches.iter().fold(vec![String::new()], |combinations, one| {
        let alternatives = alternatives(one);
        let with = |chosen: &String| {
            alternatives.iter().map(|one| [chosen, one].map(String::as_str).join(" ")).collect::<Vec<_>>()
        };
        combinations.iter().flat_map(with).map(|words| words.trim().to_owned()).collect()
    })
}

/// The conditions without the protocol, any one of which is what `one` says.
fn alternatives(one: &Match) -> Vec<String> {
    match one {
        Match::SocketGid(gids) => gids.iter().map(|gid| format!("-m owner --gid-owner {gid}")).collect(),
        Match::SocketUid(uids) => uids.iter().map(|uid| format!("-m owner --uid-owner {uid}")).collect(),
        Match::Mark(mark) => vec![format!("-m mark --mark {mark}")],
        Match::Loopback => vec!["-o lo".to_owned()],
        Match::FromHere => vec!["-i lo".to_owned()],
        Match::ForAnother => vec!["-m addrtype ! --dst-type LOCAL".to_owned()],
        Match::Interface(name) => vec![format!("-o {name}")],
        Match::Version(_) => vec![String::new()],
        Match::Destination { nets, .. } => destinations(nets),
        Match::Port { ports, .. } => dports(ports),
        Match::Syn => vec!["--syn".to_owned()],
        Match::TcpButSyn => vec!["! --syn".to_owned()],
        Match::TcpInvalid => vec!["-m conntrack --ctstate INVALID".to_owned()],
        Match::Translated => vec!["-m conntrack --ctstate DNAT".to_owned()],
    }
}

fn destinations(nets: &Nets) -> Vec<String> {
    match nets {
        Nets::V4(nets) => nets.iter().map(|net| format!("-d {net}")).collect(),
        Nets::V6(nets) => nets.iter().map(|net| format!("-d {net}")).collect(),
    }
}

fn dports(ports: &[u16]) -> Vec<String> {
    let chunk = |ports: &[u16]| match ports {
        [port] => format!("--dport {port}"),
        _ => {
            let words: Vec<String> = ports.iter().map(u16::to_string).collect();
            format!("-m multiport --dports {}", words.join(","))
        }
    };
    ports.chunks(MULTIPORT).map(chunk).collect()
}

fn transport(one: &Match) -> Option<Transport> {
    match one {
        Match::Port { of, .. } => Some(*of),
        Match::Syn | Match::TcpButSyn | Match::TcpInvalid => Some(Transport::Tcp),
        _ => None,
    }
}

fn protocol(of: Transport) -> String {
    format!("-p {}", of.name())
}

fn flag(version: IpVersion) -> &'static str {
    match version {
        IpVersion::V4 => "-4",
        IpVersion::V6 => "-6",
    }
}

fn comment(text: &str) -> String {
    format!("-m comment --comment \"{text}\"")
}
