//! A plan in words, for whoever reads `dragoman-init print`.

use std::fmt::{Display, Formatter, Result};

use crate::plan::{Action, Family, Match, Nets, Plan, Rule};
use crate::{CHAIN, TABLE};

impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let versions = match self.family {
            Family::Inet => "IPv4 and IPv6",
            Family::Ip => "IPv4",
        };
        writeln!(f, "New outbound TCP connections over {versions}; the first rule that matches decides:")?;
        for (number, rule) in self.rules.iter().enumerate() {
            writeln!(f, "{:3}. {rule}", number + 1)?;
        }
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        writeln!(f, "Table {} {TABLE}, chain {CHAIN}.", self.family.name())
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        if self.matches.is_empty() {
            f.write_str("any")?;
        }
        for (index, one) in self.matches.iter().enumerate() {
            let join = if index == 0 { "" } else { " and " };
            write!(f, "{join}{one}")?;
        }
        match self.action {
            Action::Leave => write!(f, ": left alone")?,
            Action::Redirect(port) => write!(f, ": redirected to port {port}")?,
        }
        write!(f, "  [{}]", self.comment)
    }
}

impl Display for Match {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Match::SocketGid(gids) => write!(f, "made by {}", list("group", gids)),
            Match::SocketUid(uids) => write!(f, "made by {}", list("user", uids)),
            Match::Loopback => f.write_str("stays on this host"),
            Match::IsIpv4 => f.write_str("over IPv4"),
            Match::IsIpv6 => f.write_str("over IPv6"),
            Match::Destination { nets, within } => {
                let nets = match nets {
                    Nets::V4(nets) => list("IPv4 network", nets),
                    Nets::V6(nets) => list("IPv6 network", nets),
                };
                write!(f, "{} {nets}", if *within { "to" } else { "to anywhere but" })
            }
            Match::Port { ports, within } => {
                write!(f, "to {}{}", if *within { "" } else { "anything but " }, list("port", ports))
            }
            Match::Syn => f.write_str("any other"),
        }
    }
}

/// `port 22`, `ports 22, 80 and 443`.
fn list<T: Display>(noun: &str, values: &[T]) -> String {
    let words: Vec<String> = values.iter().map(T::to_string).collect();
    match words.split_last() {
        Some((last, [])) => format!("{noun} {last}"),
        Some((last, rest)) => format!("{noun}s {} and {last}", rest.join(", ")),
        None => format!("no {noun}"),
    }
}
