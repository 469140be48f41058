//! The private namespaces of `dragoman run`: all that a command connects to is captured there, and nothing of the
//! machine changes.
//!
//! A process with one thread enters a network and a mount namespace of its own, and for an ordinary user a user
//! namespace in which it is itself: the one uid and gid that are mapped are its own. There is no interface but
//! loopback, and no packet ever leaves. The routes of the host are repeated on loopback, with the host's own address as
//! the source: a connection needs a route to begin at all, and one with a global source address, or its answers are
//! lost. What the host has no route to is unreachable inside too, at once, where capture would have made it connect.
//!
//! The kernel takes all of it away with the last process inside.

mod forbidden;
mod hide;
mod link;
mod reach;

use std::fmt;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid};

pub use hide::hide_resolvers;
pub use link::furnish;
pub use reach::{Reach, Wrong};

use crate::{Ipv6, Options, Own};
use forbidden::Facts;

/// The port of loopback to which DNS goes inside.
pub const DNS_PORT: u16 = 15053;

/// What could not be done, and what forbids it.
#[derive(Debug)]
pub struct Failed {
    doing: &'static str,
    error: io::Error,
    advice: Option<String>,
}

impl Failed {
    fn new(doing: &'static str, error: impl Into<io::Error>) -> Failed {
        let error = error.into();
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or_default());
        let advice = forbidden::advice(errno, Uid::effective().is_root(), &Facts::read());
        Failed { doing, error, advice }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.doing, self.error)?;
        self.advice.iter().try_for_each(|advice| write!(f, "; {advice}"))
    }
}

impl std::error::Error for Failed {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Moves this process, which must have one thread, into namespaces of its own. As root it stays root.
///
/// # Errors
/// What the system forbids, by which setting, and what to do.
pub fn enter() -> Result<(), Failed> {
    let namespaces = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
    // Root of a container may lack the right, and can do as anybody else does.
    if Uid::effective().is_root() && unshare(namespaces).is_ok() {
        return Ok(());
    }
    let (uid, gid) = (Uid::effective(), Gid::effective());
    unshare(namespaces | CloneFlags::CLONE_NEWUSER)
        .map_err(|errno| Failed::new("make namespaces for the command", errno))?;
    // Whoever could give groups up could reach what is forbidden to a group: only then is it a user's to map his own.
    write_map("/proc/self/setgroups", "deny")?;
    write_map("/proc/self/uid_map", &format!("{uid} {uid} 1"))?;
    write_map("/proc/self/gid_map", &format!("{gid} {gid} 1"))
}

/// What is captured inside: everything, what stays there too, but for sockets with this mark. Of UDP, only what stays
/// there is let by.
pub fn options(mark: u32, reaches: &[Reach]) -> Options {
    const LOOPBACK_V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
    const LOOPBACK_V6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128);
    let own = reaches.iter().map(|reach| IpNet::from(reach.source));
    Options {
        own: Own::Mark(mark),
        ipv6: Ipv6::Auto,
        capture_loopback: true,
        admin_ports: Vec::new(),
        capture_dns: Some(DNS_PORT),
        udp_only_to: Some(own.chain([LOOPBACK_V4.into(), LOOPBACK_V6.into()]).collect()),
        ..Options::default()
    }
}

fn write_map(path: &str, text: &str) -> Result<(), Failed> {
    match fs::write(path, text) {
        // Linux before 3.19 has no such file, and needs none.
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.ends_with("setgroups") => Ok(()),
        written => written.map_err(|error| Failed::new("map the user into a namespace of its own", error)),
    }
}
