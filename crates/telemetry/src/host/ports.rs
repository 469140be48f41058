//! How many ports are taken towards whom, counted from the kernel's list of TCP sockets.
//!
//! Sockets in TIME_WAIT are in the list and count: they hold their port for a minute, and their entry in the connection
//! tracking table for two. The kernel may use some of them again sooner, so a figure near the limit is a warning and
//! not yet a failure.

use std::collections::HashMap;
use std::fs::{self, File};
use std::hash::Hash;
use std::io::{BufRead, BufReader};

/// How many redirected connections one source address can have to one port: where two of them would be equal, the
/// kernel gives one of them another source port, from 1024 on.
pub(crate) const APP_LIMIT: u64 = 65_536 - 1024;

const LISTEN: &str = "0A";

/// What is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    /// Connections to our listeners from the address that has the most of them.
    pub(crate) app: usize,
    /// Connections of anybody in this network namespace to the address and port that has the most of them.
    pub(crate) upstream: usize,
    /// How many ports the kernel gives to outgoing connections.
    pub(crate) upstream_limit: Option<u64>,
}

/// Reads the list of sockets. `None` where it cannot be read.
pub(crate) fn count_ports(own_ports: &[u16]) -> Option<Ports> {
    let mut counts = Counts::default();
    counts.add(BufReader::new(File::open("/proc/net/tcp").ok()?), own_ports);
    // A kernel without IPv6 has no such file.
    if let Ok(file) = File::open("/proc/net/tcp6") {
        counts.add(BufReader::new(file), own_ports);
    }
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok();
    Some(Ports {
        app: most(&counts.app),
        upstream: most(&counts.upstream),
        upstream_limit: range.and_then(|text| range_size(&text)),
    })
}

/// An address as the kernel writes it: hexadecimal words in the byte order of the machine.
type Address = u128;

#[derive(Default)]
struct Counts {
    app: HashMap<Address, usize>,
    upstream: HashMap<(Address, u16), usize>,
}

impl Counts {
    fn add(&mut self, mut list: impl BufRead, own_ports: &[u16]) {
        let mut line = String::new();
        while list.read_line(&mut line).is_ok_and(|length| length > 0) {
            if let Some((local, remote)) = ends(&line) {
                if own_ports.contains(&local.1) {
                    *self.app.entry(remote.0).or_default() += 1;
                } else {
                    *self.upstream.entry(remote).or_default() += 1;
                }
            }
            line.clear();
        }
    }
}

/// Both ends of the connection of a line, unless it is the heading or a listener.
fn ends(line: &str) -> Option<((Address, u16), (Address, u16))> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (local, remote, state) = (fields.next()?, fields.next()?, fields.next()?);
    if state == LISTEN {
        return None;
    }
    Some((end(local)?, end(remote)?))
}

fn end(text: &str) -> Option<(Address, u16)> {
    let (address, port) = text.split_once(':')?;
    // IPv4 in IPv6 is the same address on the wire.
    let address = address.strip_prefix("0000000000000000FFFF0000").unwrap_or(address);
    Some((Address::from_str_radix(address, 16).ok()?, u16::from_str_radix(port, 16).ok()?))
}

fn most<K: Eq + Hash>(counts: &HashMap<K, usize>) -> usize {
    counts.values().copied().max().unwrap_or_default()
}

/// How many ports "32768 60999" are.
fn range_size(text: &str) -> Option<u64> {
    let mut ports = text.split_ascii_whitespace().map(str::parse::<u64>);
    let (first, last) = (ports.next()?.ok()?, ports.next()?.ok()?);
    Some((last + 1).saturating_sub(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADING: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n";

    fn line(local: &str, remote: &str, state: &str) -> String {
        format!(
            "   0: {local} {remote} {state} 00000000:00000000 00:00000000 00000000     0        0 109 1 0 100\n"
        )
    }

    #[test]
    fn the_busiest_on_either_side_is_found() {
        let (listener, app, server) = ("0100007F:3A99", "010012C6:8235", "020012C6:0050");
        let mut v4 = HEADING.to_owned();
        v4 += &line(listener, "00000000:0000", LISTEN);
        v4 += &line(listener, app, "01");
        v4 += &line(listener, "010012C6:8236", "06");
        v4 += &line(listener, "0100007F:8236", "01");
        v4 += &line(app, server, "01");
        v4 += &line("010012C6:9000", server, "06");
        v4 += &line("010012C6:9001", "020012C6:0051", "01");
        v4 += "nonsense\n   1: x:y z 01\n";
        // A socket of both families to the same server, and another server.
        let v6 = HEADING.to_owned()
            + &line("0000000000000000FFFF0000010012C6:9002", "0000000000000000FFFF0000020012C6:0050", "01")
            + &line("000000000000000000000000010012C6:9002", "B80D0120000000000000000001000000:0050", "01");
        let mut counts = Counts::default();
        counts.add(v4.as_bytes(), &[15_001]);
        counts.add(v6.as_bytes(), &[15_001]);
        assert_eq!((most(&counts.app), most(&counts.upstream)), (2, 3));
    }

    #[test]
    fn a_range_has_both_its_ends() {
        assert_eq!(range_size("32768\t60999\n"), Some(28_232));
        assert_eq!(range_size("1 1"), Some(1));
        assert_eq!(range_size("9 1"), Some(0));
        assert_eq!(range_size(""), None);
    }
}
