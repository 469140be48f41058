//! The ports that our own queries are sent from.
//!
//! conntrack remembers a query for 30 s and longer by its addresses and ports, and translates whatever has the same ones. An
//! app and dragoman ask the same resolvers from the same address. So if one of them got a port that the other has just used,
//! our query would be led to ourselves, or the app's past us. The kernel gives both their ports from one range; ours are
//! therefore taken from outside of it, at random (RFC 5452).

use std::fs;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::ops::Range;

const KERNEL_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// Below are most ports of services, which must not find theirs taken as they start.
const LOWEST: u32 = 20_000;
/// Fewer would be easier to guess than they are worth: then the kernel chooses.
const FEWEST: usize = 4096;
/// How often a port is drawn that somebody has.
const DRAWS: usize = 8;

/// Where ports are drawn from.
#[derive(Debug)]
pub(super) struct Ports {
    ranges: [Range<u32>; 2],
}

impl Ports {
    /// Outside of what the kernel has for everybody.
    pub(super) fn new() -> Self {
        Self::outside_of(&fs::read_to_string(KERNEL_RANGE).unwrap_or_default())
    }

    /// `range` is two numbers; without them it is what it usually is.
    fn outside_of(range: &str) -> Self {
        let mut bounds = range.split_ascii_whitespace().filter_map(|word| word.parse::<u32>().ok());
        let (first, last) = (bounds.next().unwrap_or(32_768), bounds.next().unwrap_or(60_999));
        Self { ranges: [LOWEST..first, LOWEST.max(last + 1)..1 << 16] }
    }

    /// A socket to `to` from such a port, which `draw` chooses.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn connect(
        &self,
        to: SocketAddr,
        mark: Option<u32>,
        mut draw: impl FnMut() -> u64,
    ) -> io::Result<UdpSocket> {
        for _ in 0..DRAWS {
            let Some(port) = self.pick(draw()) else { break };
            match dragoman_net::connect_udp(to, mark, port) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                socket => return socket,
            }
        }
        dragoman_net::connect_udp(to, mark, 0)
    }

    fn pick(&self, drawn: u64) -> Option<u16> {
        let all = self.ranges.iter().map(ExactSizeIterator::len).sum::<usize>();
        if all < FEWEST {
            return None;
        }
        let place = (drawn % all as u64) as usize;
        let port = self.ranges.iter().cloned().flatten().nth(place)?;
        u16::try_from(port).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_ports_are_drawn_from_outside_of_the_kernels_range() {
        let ports = Ports::outside_of("32768\t60999\n");
        let drawn: Vec<_> = (0..17_304).filter_map(|n| ports.pick(n)).collect();
        assert_eq!((drawn[0], drawn[12_767], drawn[12_768], drawn[17_303]), (20_000, 32_767, 61_000, 65_535));
        assert_eq!(ports.pick(17_304), Some(20_000));
        assert_eq!(
            Ports::outside_of("").pick(u64::MAX).map(|port| (32_768..61_000).contains(&port)),
            Some(false)
        );
    }

    #[test]
    fn where_the_kernel_has_nearly_all_it_chooses() {
        for range in ["1024 65535", "20000 65535", "1024 62000", "0 65535"] {
            assert_eq!(Ports::outside_of(range).pick(1), None, "{range}");
        }
        for (range, first) in [("1024 4999", 20_000), ("40000 65535", 20_000), ("1024 50000", 50_001)] {
            assert_eq!(Ports::outside_of(range).pick(0), Some(first), "{range}");
        }
    }

    #[test]
    fn a_port_that_somebody_has_is_drawn_again() {
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let ports = Ports::new();
        let draw = || std::process::id().into();
        let first = ports.connect(peer, None, draw).unwrap();
        let second = ports.connect(peer, None, draw).unwrap();
        assert_ne!(first.local_addr().unwrap(), second.local_addr().unwrap());
    }
}
