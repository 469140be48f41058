//! What the host can reach, to be repeated inside.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Networks that the host has a route to, and its own address there. Its text form is `ADDRESS=NETWORK,…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// The address of the host that its packets there come from.
    pub source: IpAddr,
    /// The networks, of the same version of IP; never empty.
    pub networks: Vec<IpNet>,
}

/// A [`Reach`] in no form that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wrong;

/// Addresses for documentation (RFC 5737, RFC 3849): what reaches them reaches everything.
const ANYWHERE_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
const ANYWHERE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
/// A host with more routes than this is a router, and reaches everything.
const MOST_NETWORKS: usize = 64;
/// Of linux/route.h and linux/ipv6_route.h: no route, one to an address of the host, an anycast address.
const RTF_REJECT: u32 = 0x0200;
const RTF_LOCAL: u32 = 0x8000_0000;
const RTF_ANYCAST: u32 = 0x0010_0000;

impl Reach {
    /// What the host reaches by IPv4 and by IPv6; a version by which it reaches nothing is left out.
    ///
    /// The kernel is asked for a route to anywhere, since a VPN may have it in a table of its own; without one the
    /// networks of the main table are what is reached.
    pub fn of_host() -> Vec<Reach> {
        let v4 = || parse_v4(&fs::read_to_string("/proc/net/route").unwrap_or_default());
        let v6 = || parse_v6(&fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default());
        [Reach::find(ANYWHERE_V4, v4), Reach::find(ANYWHERE_V6, v6)].into_iter().flatten().collect()
    }

    fn find(anywhere: IpAddr, networks: impl FnOnce() -> Vec<IpNet>) -> Option<Reach> {
        if let Some(source) = source_towards(anywhere) {
            return Some(Reach { source, networks: vec![everything(anywhere)] });
        }
        let networks = networks();
        let source = networks.iter().find_map(|network| source_towards(network.hosts().next()?))?;
        let networks = if networks.len() > MOST_NETWORKS { vec![everything(source)] } else { networks };
        Some(Reach { source, networks })
    }
}

/// The address that packets to there would come from, if there is a route. No packet is sent.
fn source_towards(address: IpAddr) -> Option<IpAddr> {
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((address, 9)).ok()?;
    let source = socket.local_addr().ok()?.ip();
    (!source.is_unspecified() && !source.is_loopback()).then_some(source)
}

fn everything(like: IpAddr) -> IpNet {
    match like {
        IpAddr::V4(_) => Ipv4Net::default().into(),
        IpAddr::V6(_) => Ipv6Net::default().into(),
    }
}

/// `/proc/net/route`: addresses in hexadecimal, as the machine has them in memory.
fn parse_v4(text: &str) -> Vec<IpNet> {
    let network = |line: &str| -> Option<IpNet> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [interface, destination, _, flags, _, _, _, mask, ..] = words[..] else { return None };
        let address =
            |word| u32::from_str_radix(word, 16).ok().map(|bits| Ipv4Addr::from(bits.to_ne_bytes()));
        let flags = u32::from_str_radix(flags, 16).ok()?;
        let net = Ipv4Net::with_netmask(address(destination)?, address(mask)?).ok()?;
        (interface != "lo" && flags & RTF_REJECT == 0).then_some(net.into())
    };
    text.lines().skip(1).filter_map(network).collect()
}

/// `/proc/net/ipv6_route`. Link-local addresses mean nothing inside, where the link is another.
fn parse_v6(text: &str) -> Vec<IpNet> {
    let network = |line: &str| -> Option<IpNet> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [destination, length, _, _, _, _, _, _, flags, interface] = words[..] else { return None };
        let address = Ipv6Addr::from(u128::from_str_radix(destination, 16).ok()?);
        let flags = u32::from_str_radix(flags, 16).ok()?;
        let local = address.is_unicast_link_local() || address.is_multicast() || address.is_loopback();
        let unusable = flags & (RTF_REJECT | RTF_LOCAL | RTF_ANYCAST) != 0;
        let net = Ipv6Net::new(address, u8::from_str_radix(length, 16).ok()?).ok()?;
        (interface != "lo" && !local && !unusable).then_some(net.into())
    };
    text.lines().filter_map(network).collect()
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let networks: Vec<String> = self.networks.iter().map(ToString::to_string).collect();
        write!(f, "{}={}", self.source, networks.join(","))
    }
}

impl FromStr for Reach {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Reach, Wrong> {
        let (source, networks) = text.split_once('=').ok_or(Wrong)?;
        let networks: Result<Vec<IpNet>, _> = networks.split(',').map(str::parse).collect();
        Ok(Reach { source: source.parse().map_err(|_| Wrong)?, networks: networks.map_err(|_| Wrong)? })
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected ADDRESS=NETWORK,…")
    }
}

impl std::error::Error for Wrong {}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(networks: &[IpNet]) -> Vec<String> {
        networks.iter().map(ToString::to_string).collect()
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn routes_of_ipv4_are_read() {
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
            *\t0000000A\t00000000\t0201\t0\t0\t0\t000000FF\t0\t0\t0\n\
            lo\t0000007F\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n\
            nonsense\n";
        assert_eq!(words(&parse_v4(text)), ["0.0.0.0/0", "192.0.2.0/24"]);
    }

    #[test]
    fn routes_of_ipv6_are_read() {
        let line = |destination: &str, length: &str, flags: &str, interface: &str| {
            let none = "0".repeat(32);
            format!(
                "{destination} {length} {none} 00 {none} 00000400 00000001 00000000 {flags} {interface}\n"
            )
        };
        let ula = "fd980000000000000000000000000000";
        let text = [
            line(ula, "40", "00000001", "eth0"),
            line("fe800000000000000000000000000000", "40", "00000001", "eth0"),
            line("ff000000000000000000000000000000", "08", "00000001", "eth0"),
            line("fd980000000000000000000000000001", "80", "80200001", "eth0"),
            line(&"0".repeat(32), "00", "00200200", "lo"),
        ]
        .concat();
        assert_eq!(words(&parse_v6(&text)), ["fd98::/64"]);
    }

    #[test]
    fn its_text_is_read_back() {
        for text in ["192.0.2.2=0.0.0.0/0", "fd98::1=fd98::/64,2001:db8::/32"] {
            assert_eq!(text.parse::<Reach>().unwrap().to_string(), text);
        }
        for wrong in ["", "192.0.2.2", "192.0.2.2=", "=0.0.0.0/0"] {
            assert_eq!(wrong.parse::<Reach>(), Err(Wrong), "{wrong}");
        }
    }

    #[test]
    fn the_host_is_asked() {
        for reach in Reach::of_host() {
            assert!(!reach.networks.is_empty() && !reach.source.is_loopback(), "{reach}");
        }
    }
}
