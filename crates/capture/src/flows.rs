//! The live flows that translation serves.
//!
//! A redirected flow lives by its conntrack entry, and the kernel translates its packets only while the network
//! namespace has a NAT rule. If dragoman's is the only one, to remove it cuts these flows: that is why they are
//! counted first, and why [`crate::remove`] can drain.

use std::fmt::{Display, Formatter};
use std::io;

use crate::options::PortRange;

/// How many flows go through the redirect at this moment.
#[derive(Debug)]
pub enum Flows {
    /// So many.
    Live(usize),
    /// The kernel does not tell.
    Unknown(io::Error),
}

const CONNTRACK: &str = "/proc/self/net/nf_conntrack";

impl Flows {
    /// Counts the flows that are redirected to one of these ports.
    pub(crate) fn through(ports: &[PortRange]) -> Flows {
        match std::fs::read_to_string(CONNTRACK) {
            Ok(text) => Flows::Live(text.lines().filter(|line| is_live(line, ports)).count()),
            Err(error) => Flows::Unknown(error),
        }
    }
}

impl Display for Flows {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Flows::Live(1) => f.write_str("1 live flow"),
            Flows::Live(count) => write!(f, "{count} live flows"),
            Flows::Unknown(error) => write!(f, "an unknown number of live flows ({CONNTRACK}: {error})"),
        }
    }
}

/// Whether a line of the table is a TCP flow that is open and was redirected to one of these ports: its reply
/// comes from there, while the original went to another one or to another address.
fn is_live(line: &str, ports: &[PortRange]) -> bool {
    let mut words = line.split_whitespace().skip(2);
    let (protocol, state) = (words.next(), words.nth(2));
    if protocol != Some("tcp") || matches!(state, Some("TIME_WAIT" | "CLOSE") | None) {
        return false;
    }
    let field = |name: &'static str| line.split_whitespace().filter_map(move |word| word.strip_prefix(name));
    let (mut destinations, mut sources) = (field("dst="), field("src="));
    let (mut dports, mut sports) = (field("dport="), field("sport="));
    let asked = (destinations.next(), dports.next());
    let answers = (sources.nth(1), sports.nth(1));
    asked != answers
        && answers
            .1
            .and_then(|sport| sport.parse().ok())
            .is_some_and(|sport| ports.iter().any(|ports| ports.contains(sport)))
}

#[cfg(test)]
mod tests {
    use super::PortRange;

    const REDIRECTED: &str = "ipv4     2 tcp      6 300 ESTABLISHED src=10.9.0.1 dst=192.0.2.1 sport=47204 dport=80 \
        src=127.0.0.1 dst=10.9.0.1 sport=15001 dport=47204 [ASSURED] mark=0 zone=0 use=2";

    fn is_live(line: &str, port: u16) -> bool {
        super::is_live(line, &[PortRange::one(port)])
    }

    #[test]
    fn counts_what_was_redirected_to_the_port() {
        assert!(is_live(REDIRECTED, 15001));
        assert!(!is_live(REDIRECTED, 15002));
        assert!(super::is_live(REDIRECTED, &[PortRange { first: 15000, last: 15001 }]));
    }

    #[test]
    fn same_port_elsewhere_counts_and_direct_does_not() {
        let elsewhere = REDIRECTED.replace("dport=80", "dport=15001");
        assert!(is_live(&elsewhere, 15001), "a flow to port 15001 of another host is redirected too");
        let direct = elsewhere.replace("dst=192.0.2.1", "dst=127.0.0.1");
        assert!(!is_live(&direct, 15001), "a connection straight to the proxy is not translated");
    }

    #[test]
    fn closed_udp_and_garbage_do_not_count() {
        assert!(!is_live(&REDIRECTED.replace("ESTABLISHED", "TIME_WAIT"), 15001));
        assert!(!is_live(&REDIRECTED.replace("ESTABLISHED", "CLOSE"), 15001));
        assert!(
            is_live(&REDIRECTED.replace("ESTABLISHED", "CLOSE_WAIT"), 15001),
            "half-closed is still open"
        );
        assert!(!is_live(&REDIRECTED.replace(" tcp ", " udp "), 15001));
        assert!(!is_live("", 15001));
        assert!(!is_live("ipv4 2 tcp 6 1 ESTABLISHED sport= dport=x", 15001));
    }
}
