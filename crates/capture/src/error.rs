//! Why rules could not be installed, removed or verified, in words for the person who ran the command.

use std::fmt::{Display, Formatter};
use std::io;

use nix::errno::Errno;

use crate::netlink::Family;
use crate::options::Invalid;
use crate::plan::ChainKind;
use crate::{TABLE, Way};

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
    /// iptables would not do it, in its own words.
    Iptables(String),
    /// iptables failed half-way, and what was done could not be undone.
    HalfDone {
        /// Why it failed.
        error: Box<Error>,
        /// Why it could not be undone.
        undoing: Box<Error>,
    },
    /// The rules are installed, but what a former run had put elsewhere is still there too.
    Leftover(Box<Error>),
    /// No way of installing the rules works here.
    NoWay(Vec<Attempt>),
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

/// One way that was tried, and why it failed.
#[derive(Debug)]
pub struct Attempt {
    /// The way.
    pub way: Way,
    /// Whether it was tried with rules for IPv6.
    pub ipv6: bool,
    /// Why it failed.
    pub error: Box<Error>,
}

impl Error {
    /// Whether the kernel or the system lacks what this way needs, so that another way may do. Anything else would
    /// be the same with every way, or leaves open what the kernel has done.
    pub(crate) fn is_lack(&self) -> bool {
        match self {
            Error::NoNftables { .. } | Error::Iptables(_) => true,
            Error::Refused { errno, .. } => matches!(
                errno,
                Errno::ENOENT
                    | Errno::EOPNOTSUPP
                    | Errno::EAFNOSUPPORT
                    | Errno::EPROTONOSUPPORT
                    | Errno::EINVAL
            ),
            _ => false,
        }
    }
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
    /// A chain.
    Chain(Family, ChainKind),
    /// A rule, or a set that it needs.
    Rule {
        /// Its chain.
        chain: ChainKind,
        /// Its place in the plan's chain, from 1.
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
            Part::Chain(family, kind) => {
                write!(f, "chain {} of table {} {TABLE}", kind.name(), family.name())
            }
            Part::Rule { chain, number, comment } => {
                write!(f, "rule {number} of chain {} ({comment})", chain.name())
            }
        }
    }
}

impl Display for Attempt {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let versions = if self.ipv6 { "" } else { ", IPv4 alone" };
        write!(f, "{}{versions}: {}", self.way, self.error)
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
                "this kernel offers no nf_tables (CONFIG_NF_TABLES, Linux 3.13 or later; it may need \
                 `modprobe nf_tables`): {tried}: {errno:?} ({})",
                errno.desc()
            ),
            Error::Refused { part, errno } => write!(
                f,
                "the kernel refused {part}, so nothing was changed: {errno:?} ({})",
                meaning(*errno)
            ),
            Error::Iptables(reason) => f.write_str(reason),
            Error::HalfDone { error, undoing } => write!(
                f,
                "{error}; and a part of the change could not be undone: {undoing}; run `dragoman-init remove`"
            ),
            Error::Leftover(error) => write!(
                f,
                "the rules are installed, but those of a former run, in another place, could not be taken out: \
                 {error}; run `dragoman-init remove` and install again"
            ),
            Error::NoWay(attempts) => {
                f.write_str("no way to install the rules works here, and nothing was changed; tried: ")?;
                attempts.iter().enumerate().try_for_each(|(index, attempt)| {
                    write!(f, "{}{}. {attempt}", if index == 0 { "" } else { "; " }, index + 1)
                })
            }
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
            "the kernel lacks a feature that it needs: nf_nat, nft_chain_nat, nft_redir, nft_ct and nft_reject are \
             common gaps"
        }
        Errno::EAFNOSUPPORT => "the kernel has no nf_tables for this address family",
        Errno::EEXIST | Errno::EBUSY => {
            "another program changed the same table at the same moment; run it again"
        }
        Errno::ENOMEM | Errno::ENOSPC | Errno::ENFILE => "the kernel is out of memory or table space",
        other => other.desc(),
    }
}
