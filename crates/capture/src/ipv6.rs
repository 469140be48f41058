//! Whether IPv6 can be captured on this host.
//!
//! Rules for IPv6 go in whenever the kernel has IPv6 at all, also where it is switched off by sysctl: an address
//! may come later, and a rule that is already there catches it. What must not happen is a host whose IPv6
//! connections pass by unseen, or are redirected to a ::1 that does not exist.

use std::io::ErrorKind;

use crate::Error;
use crate::options::Ipv6;

/// What the kernel says of IPv6 in this network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipv6State {
    /// The kernel has IPv6 (not built without it, not booted with `ipv6.disable=1`).
    pub in_kernel: bool,
    /// The loopback interface has ::1, so a redirect can arrive.
    pub on_loopback: bool,
    /// An interface other than loopback that has an IPv6 address.
    pub interface: Option<String>,
}

const ADDRESSES: &str = "/proc/self/net/if_inet6";

impl Ipv6State {
    /// Reads the state of this network namespace.
    ///
    /// # Errors
    /// If `/proc` cannot be read.
    pub fn read() -> Result<Ipv6State, Error> {
        match std::fs::read_to_string(ADDRESSES) {
            Ok(text) => Ok(Ipv6State::parse(&text)),
            Err(error)
                if error.kind() == ErrorKind::NotFound
                    && std::fs::exists("/proc/self/net").unwrap_or(false) =>
            {
                Ok(Ipv6State { in_kernel: false, on_loopback: false, interface: None })
            }
            Err(source) => Err(Error::Read { path: ADDRESSES, source }),
        }
    }

    /// Whether IPv6 is to be captured.
    ///
    /// # Errors
    /// [`Error::Ipv6`] if IPv6 is wanted and what is captured could not arrive.
    pub fn captured(&self, mode: Ipv6) -> Result<bool, Error> {
        match mode {
            Ipv6::Off => Ok(false),
            Ipv6::On if !self.in_kernel => {
                Err(Error::Ipv6("--ipv6 on: this kernel has no IPv6; use --ipv6 auto".to_owned()))
            }
            Ipv6::On if !self.on_loopback => Err(Error::Ipv6(format!("--ipv6 on: {NO_LOOPBACK}"))),
            Ipv6::Auto if !self.in_kernel => Ok(false),
            Ipv6::On | Ipv6::Auto => match &self.interface {
                Some(interface) if !self.on_loopback => {
                    Err(Error::Ipv6(format!("{interface} has an IPv6 address, but {NO_LOOPBACK}")))
                }
                _ => Ok(true),
            },
        }
    }

    /// Whether IPv4 may be captured alone where no rule for IPv6 can be installed: nobody here could use IPv6.
    pub fn is_dispensable(&self, mode: Ipv6) -> bool {
        mode == Ipv6::Auto && self.interface.is_none()
    }

    /// Each line: address, interface index, prefix length, scope, flags, interface name.
    fn parse(text: &str) -> Ipv6State {
        let mut state = Ipv6State { in_kernel: true, on_loopback: false, interface: None };
        for interface in text.lines().filter_map(|line| line.split_whitespace().nth(5)) {
            match interface {
                "lo" => state.on_loopback = true,
                other => state.interface = Some(other.to_owned()),
            }
        }
        state
    }
}

const NO_LOOPBACK: &str = "lo has no ::1, where captured connections would arrive; \
     set net.ipv6.conf.lo.disable_ipv6=0, or use --ipv6 off to let IPv6 pass by";

#[cfg(test)]
#[path = "ipv6_tests.rs"]
mod tests;
