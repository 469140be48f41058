//! Why rules could not be installed, removed or verified, in words for the person who ran the command.

use std::fmt::{Display, Formatter};
use std::io;

use nix::errno::Errno;

use crate::options::Invalid;
use crate::plan::Family;
use crate::{CHAIN, TABLE};

/// Why rules could not be installed, removed or verified.
#[derive(Debug)]
pub enum Error {
    /// The options contradict each other.
    Invalid(Invalid),
    /// The process may not change rules in this network namespace.
    Privilege,
    /// The kernel has no nf_tables, or no netlink to reach it.
    NoNftables {
        /// The call or message that showed it.
        tried: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The kernel refused one part of the transaction, and so all of it.
    Refused {
        /// The part.
        part: Part,
        /// The kernel's answer.
        errno: Errno,
    },
    /// Talking to the kernel failed.
    Netlink {
        /// What was being done.
        doing: &'static str,
        /// The failure.
        errno: Errno,
    },
    /// IPv6 is wanted and could not be captured.
    Ipv6(String),
    /// A file of `/proc` could not be read.
    Read {
        /// The file.
        path: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The check cannot say anything from where it runs.
    Verify(String),
}

/// A part of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The transaction as such.
    Transaction,
    /// The making of the table.
    Table(Family),
    /// The deletion of the table.
    Deletion(Family),
    /// The NAT chain.
    Chain(Family),
    /// A rule, or a set that it needs.
    Rule {
        /// Its place in the plan, from 1.
        number: usize,
        /// Its comment.
        comment: String,
    },
}

impl Display for Part {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Part::Transaction => f.write_str("the transaction"),
            Part::Table(family) => write!(f, "table {} {TABLE}", family.name()),
            Part::Deletion(family) => write!(f, "the deletion of table {} {TABLE}", family.name()),
            Part::Chain(family) => write!(f, "NAT chain {CHAIN} of table {} {TABLE}", family.name()),
            Part::Rule { number, comment } => write!(f, "rule {number} ({comment})"),
        }
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Invalid(invalid) => invalid.fmt(f),
            Error::Privilege => f.write_str(
                "changing rules needs CAP_NET_ADMIN (run as root, or add the capability); \
                 tried: nf_tables over netlink: EPERM",
            ),
            Error::NoNftables { tried, errno } => write!(
                f,
                "this kernel offers no nf_tables (CONFIG_NF_TABLES, Linux 3.13 or later; it may need `modprobe nf_tables`); \
                 tried: nf_tables over netlink: {tried}: {errno:?} ({})",
                errno.desc()
            ),
            Error::Refused { part, errno } => write!(
                f,
                "the kernel refused {part}, so nothing was changed: {}; tried: nf_tables over netlink: {errno:?}",
                meaning(*errno)
            ),
            Error::Netlink { doing, errno } => {
                write!(f, "{doing}: {errno:?} ({}); tried: nf_tables over netlink", errno.desc())
            }
            Error::Ipv6(reason) | Error::Verify(reason) => f.write_str(reason),
            Error::Read { path, .. } => write!(f, "cannot read {path}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Read { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Error {
        Error::Invalid(invalid)
    }
}

/// What an errno means when nf_tables says it; the general description misleads for some of them.
fn meaning(errno: Errno) -> &'static str {
    match errno {
        Errno::ENOENT | Errno::EOPNOTSUPP => {
            "the kernel lacks a feature that it needs (nf_nat, nft_chain_nat, nft_redir and nft_ct are common gaps)"
        }
        Errno::EAFNOSUPPORT => "the kernel has no nf_tables for this address family",
        Errno::EEXIST | Errno::EBUSY => {
            "another program changed the same table at the same moment; run it again"
        }
        Errno::ENOMEM | Errno::ENOSPC | Errno::ENFILE => "the kernel is out of memory or table space",
        other => other.desc(),
    }
}
