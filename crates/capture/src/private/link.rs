//! Loopback, addresses and routes of a namespace that has nothing yet, over rtnetlink. Layouts and numbers are from
//! linux/rtnetlink.h, linux/if_link.h and linux/if_addr.h.

use std::net::IpAddr;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

use super::{Failed, Reach};
use crate::netlink::message::{Answer, Attributes, answers};

/// Loopback is the first interface of every namespace.
const LOOPBACK: u32 = 1;
const SCOPE_GLOBAL: u8 = 0;
const SCOPE_LINK: u8 = 253;
const TABLE_MAIN: u8 = 254;
const PROTOCOL_STATIC: u8 = 4;
const ANSWER_BYTES: usize = 8 * 1024;

/// Brings loopback up, and gives it the host's own address and a route to whatever the host reaches.
///
/// # Errors
/// What the kernel refuses. IPv6 is left out where loopback cannot have it.
pub fn furnish(reaches: &[Reach]) -> Result<(), Failed> {
    let rtnetlink = Rtnetlink::open()?;
    rtnetlink.ask("bring loopback up", libc::RTM_NEWLINK, 0, &link_up(), |_| {})?;
    for reach in reaches {
        match rtnetlink.open_to(reach) {
            Err(failed) if reach.source.is_ipv6() && lacks_ipv6(&failed) => {}
            opened => opened?,
        }
    }
    Ok(())
}

/// Without the sysctl, or without IPv6 in the kernel.
fn lacks_ipv6(failed: &Failed) -> bool {
    matches!(
        failed.error.raw_os_error().map(Errno::from_raw),
        Some(Errno::EACCES | Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT)
    )
}

struct Rtnetlink(std::os::fd::OwnedFd);

impl Rtnetlink {
    fn open() -> Result<Rtnetlink, Failed> {
        let (kind, flags) = (SockType::Raw, SockFlag::SOCK_CLOEXEC);
        socket(AddressFamily::Netlink, kind, flags, SockProtocol::NetlinkRoute)
            .map(Rtnetlink)
            .map_err(|errno| Failed::new("speak to the kernel about interfaces (rtnetlink)", errno))
    }

    fn open_to(&self, reach: &Reach) -> Result<(), Failed> {
        const CREATE: libc::c_int = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        let source = octets(reach.source);
        self.ask("give loopback an address", libc::RTM_NEWADDR, CREATE, &address(reach.source), |new| {
            new.bytes(libc::IFA_LOCAL, &source);
            new.bytes(libc::IFA_ADDRESS, &source);
        })?;
        for network in &reach.networks {
            let body = route(network.network(), network.prefix_len());
            self.ask("make a route", libc::RTM_NEWROUTE, libc::NLM_F_CREATE, &body, |new| {
                if network.prefix_len() > 0 {
                    new.bytes(libc::RTA_DST, &octets(network.network()));
                }
                new.bytes(libc::RTA_OIF, &LOOPBACK.to_ne_bytes());
                new.bytes(libc::RTA_PREFSRC, &source);
            })?;
        }
        Ok(())
    }

    /// Sends one message and waits for the kernel's word on it, which comes within the call.
    fn ask(
        &self,
        doing: &'static str,
        kind: u16,
        flags: libc::c_int,
        body: &[u8],
        fill: impl FnOnce(&mut Attributes),
    ) -> Result<(), Failed> {
        let failed = |errno: Errno| Failed::new(doing, errno);
        send(self.0.as_raw_fd(), &message(kind, flags, body, fill), MsgFlags::empty()).map_err(failed)?;
        let mut buffer = [0; ANSWER_BYTES];
        let length = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()).map_err(failed)?;
        match answers(&buffer[..length]).first() {
            Some(Answer::Status { errno: 0, .. }) => Ok(()),
            Some(&Answer::Status { errno, .. }) => Err(failed(Errno::from_raw(errno))),
            Some(Answer::Object) | None => Err(failed(Errno::EPROTO)),
        }
    }
}

fn message(kind: u16, flags: libc::c_int, body: &[u8], fill: impl FnOnce(&mut Attributes)) -> Vec<u8> {
    let mut attributes = Attributes::default();
    fill(&mut attributes);
    let attributes = attributes.into_bytes();
    let flags = (flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
    let length = (16 + body.len() + attributes.len()) as u32;
    // struct nlmsghdr: length, type, flags, sequence number, port.
    let header = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &flags.to_ne_bytes(), &[0; 8]].concat();
    [header.as_slice(), body, &attributes].concat()
}

/// struct ifinfomsg: family, padding, type, index, flags, which flags change.
fn link_up() -> Vec<u8> {
    let up = (libc::IFF_UP as u32).to_ne_bytes();
    [&[0; 4][..], &LOOPBACK.to_ne_bytes(), &up, &up].concat()
}

/// struct ifaddrmsg: family, prefix, flags, scope, index. The whole prefix: no network comes with the address. Nobody
/// else can have it here: without that flag an IPv6 address is of no use for a moment.
fn address(source: IpAddr) -> Vec<u8> {
    let whole = octets(source).len() as u8 * 8;
    [&[family(source), whole, libc::IFA_F_NODAD as u8, SCOPE_GLOBAL][..], &LOOPBACK.to_ne_bytes()].concat()
}

/// struct rtmsg: family, lengths of destination and source, TOS, table, protocol, scope, type, flags.
fn route(network: IpAddr, prefix: u8) -> Vec<u8> {
    let scope = if network.is_ipv4() { SCOPE_LINK } else { SCOPE_GLOBAL };
    let fixed = [family(network), prefix, 0, 0, TABLE_MAIN, PROTOCOL_STATIC, scope, libc::RTN_UNICAST];
    [&fixed[..], &[0; 4]].concat()
}

fn family(address: IpAddr) -> u8 {
    (if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }) as u8
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
