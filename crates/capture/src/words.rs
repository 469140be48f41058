//! A plan in words, for whoever reads `dragoman-init print`.

use std::fmt::{Display, Formatter, Result};

use crate::plan::{Action, Chain, ChainKind, Match, Nets, Plan, Rule, Transport};

impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let versions = if self.ipv6 { "IPv4 and IPv6" } else { "IPv4" };
        for chain in &self.chains {
            match chain.kind {
                ChainKind::Nat => write!(f, "New outbound connections over {versions}")?,
                ChainKind::Filter => write!(f, "Then every outbound packet over {versions}")?,
                ChainKind::InboundNat => write!(f, "New connections from outside over {versions}")?,
                ChainKind::InboundFilter => write!(f, "Then every packet for this host over {versions}")?,
            }
            writeln!(f, "; the first rule that matches decides (chain {}):", chain.kind.name())?;
            chain.fmt(f)?;
        }
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        Ok(())
    }
}

impl Display for Chain {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        for (number, rule) in self.rules.iter().enumerate() {
            writeln!(f, "{:3}. {rule}", number + 1)?;
        }
        Ok(())
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
            Action::Redirect(port) if port.first == port.last => write!(f, ": redirected to port {port}")?,
            Action::Redirect(ports) => write!(f, ": redirected to ports {ports}")?,
            Action::Drop => write!(f, ": dropped")?,
            Action::Reset => write!(f, ": refused with a reset")?,
            Action::Unreachable => write!(f, ": refused as unreachable")?,
        }
        write!(f, "  [{}]", self.comment)
    }
}

impl Display for Match {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Match::SocketGid(gids) => write!(f, "made by {}", list("group", gids)),
            Match::SocketUid(uids) => write!(f, "made by {}", list("user", uids)),
            Match::Mark(mark) => write!(f, "from a socket with mark {mark}"),
            Match::Loopback => f.write_str("stays on this host"),
            Match::FromHere => f.write_str("comes from this host"),
            Match::ForAnother => f.write_str("is for another host"),
            Match::Interface(name) => write!(f, "leaves by {name}"),
            Match::Version(version) => write!(f, "over {version}"),
            Match::Destination { nets, within } => {
                let nets = match nets {
                    Nets::V4(nets) => list("IPv4 network", nets),
                    Nets::V6(nets) => list("IPv6 network", nets),
                };
                write!(f, "{} {nets}", if *within { "to" } else { "to anywhere but" })
            }
            Match::Port { of, ports, within } => {
                let noun = match of {
                    Transport::Tcp => "port",
                    Transport::Udp => "UDP port",
                };
                write!(f, "to {}{}", if *within { "" } else { "anything but " }, list(noun, ports))
            }
            Match::Syn => f.write_str("a new TCP connection"),
            Match::TcpButSyn => f.write_str("a later packet of TCP"),
            Match::TcpInvalid => f.write_str("a packet of TCP that belongs to no connection"),
            Match::Translated => f.write_str("of a translated connection"),
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
