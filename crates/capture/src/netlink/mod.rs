//! nf_tables over netlink: our own messages, because the crates that speak it are GPL or run the `nft` binary.
//!
//! A change is one [`message::Batch`] in one `send`: the kernel applies all of it or nothing, so a process that is
//! killed leaves either the rules of before or the new ones. The kernel confirms each message by its sequence
//! number, and an error names the rule that it refused.

mod layout;
pub(crate) mod message;
mod program;
mod render;
mod set;

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::sockopt::{ReceiveTimeout, SndBufForce};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::Error;
use crate::error::Part;
use crate::plan::Plan;
pub use layout::Family;
pub(crate) use layout::Layout;
use message::{Answer, Attributes, Batch, answers, request};

/// How long the kernel may take to answer; it answers within the call unless it loads a module.
const ANSWER_TIMEOUT_SECONDS: i64 = 10;
/// A batch up to this size fits any socket's default send buffer.
const SMALL_BATCH_BYTES: usize = 64 * 1024;
/// Longer than any answer but the quotation of a refused message, which may be cut.
const ANSWER_BYTES: usize = 8 * 1024;

/// A connection to the kernel's nf_tables, for the network namespace in which it was opened.
pub(crate) struct Nftables(OwnedFd);

impl Nftables {
    /// # Errors
    /// If the kernel has no netfilter over netlink.
    pub(crate) fn open() -> Result<Nftables, Error> {
        let kind = (SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter);
        let socket = socket(AddressFamily::Netlink, kind.0, kind.1, kind.2)
            .map_err(|errno| Error::NoNftables { tried: "socket(AF_NETLINK, NETLINK_NETFILTER)", errno })?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(ANSWER_TIMEOUT_SECONDS))
            .map_err(|errno| Error::Netlink { doing: "setting the answer's deadline", errno })?;
        Ok(Nftables(socket))
    }

    /// The families of which dragoman's table is there.
    ///
    /// # Errors
    /// A missing privilege, a kernel without nf_tables, or a failure of netlink itself.
    pub(crate) fn tables(&self) -> Result<Vec<Family>, Error> {
        let mut found = Vec::new();
        for family in Family::ALL {
            if self.has(libc::NFT_MSG_GETTABLE, family, render::table_name)? {
                found.push(family);
            }
        }
        Ok(found)
    }

    /// Whether a chain of another program's table is there.
    ///
    /// # Errors
    /// As for [`Nftables::tables`].
    pub(crate) fn has_chain(&self, family: Family, table: &str, chain: &str) -> Result<bool, Error> {
        self.has(libc::NFT_MSG_GETCHAIN, family, |name| render::chain_name(name, table, chain))
    }

    /// Makes the plan what dragoman's tables of these families hold, and deletes those of other families, at once.
    ///
    /// # Errors
    /// [`Error::Refused`] names the part that the kernel would not take; then nothing has changed.
    pub(crate) fn replace(&self, plan: &Plan, families: &[Family]) -> Result<(), Error> {
        let mut batch = Batch::new();
        for stale in self.tables()?.into_iter().filter(|family| !families.contains(family)) {
            render::delete(&mut batch, stale);
        }
        render::replace(&mut batch, plan, families);
        self.commit(&batch)
    }

    /// The same in a network namespace that has no such tables yet. To delete nothing is quicker: the kernel would have the
    /// end of this connection wait for what is deleted.
    ///
    /// # Errors
    /// As for [`Nftables::replace`].
    pub(crate) fn add(&self, plan: &Plan, families: &[Family]) -> Result<(), Error> {
        let mut batch = Batch::new();
        render::add(&mut batch, plan, families);
        self.commit(&batch)
    }

    /// Deletes the tables of these families, at once.
    ///
    /// # Errors
    /// As for [`Nftables::replace`].
    pub(crate) fn delete(&self, families: &[Family]) -> Result<(), Error> {
        let mut batch = Batch::new();
        families.iter().for_each(|&family| render::delete(&mut batch, family));
        self.commit(&batch)
    }

    fn has(
        &self,
        question: libc::c_int,
        family: Family,
        name: impl FnOnce(&mut Attributes),
    ) -> Result<bool, Error> {
        self.send(&request(question, family, name))?;
        match self.receive()?.first() {
            Some(Answer::Object) => Ok(true),
            Some(&Answer::Status { errno, .. }) => match Errno::from_raw(errno) {
                Errno::ENOENT | Errno::EAFNOSUPPORT => Ok(false),
                Errno::EPERM => Err(Error::Privilege),
                // nfnetlink's answer for a subsystem that is neither built in nor loadable.
                errno @ (Errno::EINVAL | Errno::EOPNOTSUPP) => {
                    Err(Error::NoNftables { tried: "NFT_MSG_GETTABLE", errno })
                }
                errno => Err(Error::Netlink { doing: "asking for the table", errno }),
            },
            None => Err(Error::Netlink { doing: "asking for the table", errno: Errno::EPROTO }),
        }
    }

    fn commit(&self, batch: &Batch) -> Result<(), Error> {
        let bytes = batch.finish();
        if bytes.len() > SMALL_BATCH_BYTES {
            setsockopt(&self.0, SndBufForce, &bytes.len())
                .map_err(|errno| Error::Netlink { doing: "making room for so many rules", errno })?;
        }
        self.send(&bytes)?;
        let mut confirmed = 0;
        while confirmed < batch.confirmations() {
            for answer in self.receive()? {
                match answer {
                    Answer::Status { errno: 0, .. } => confirmed += 1,
                    Answer::Status { sequence, errno } => return Err(refusal(batch, sequence, errno)),
                    Answer::Object => {}
                }
            }
        }
        Ok(())
    }

    fn send(&self, bytes: &[u8]) -> Result<(), Error> {
        let sent = send(self.0.as_raw_fd(), bytes, MsgFlags::empty())
            .map_err(|errno| Error::Netlink { doing: "sending to the kernel", errno })?;
        debug_assert_eq!(sent, bytes.len(), "netlink takes a datagram whole");
        Ok(())
    }

    fn receive(&self) -> Result<Vec<Answer>, Error> {
        let mut buffer = [0; ANSWER_BYTES];
        let len = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()).map_err(|errno| match errno {
            Errno::EAGAIN => {
                Error::Netlink { doing: "waiting for the kernel's answer", errno: Errno::ETIMEDOUT }
            }
            errno => Error::Netlink { doing: "reading the kernel's answer", errno },
        })?;
        Ok(answers(&buffer[..len]))
    }
}

/// An answer to the batch as such (sequence 0) says that the kernel did not look into it.
fn refusal(batch: &Batch, sequence: u32, errno: i32) -> Error {
    match Errno::from_raw(errno) {
        Errno::EPERM => Error::Privilege,
        errno @ (Errno::EOPNOTSUPP | Errno::EINVAL) if sequence == 0 => {
            Error::NoNftables { tried: "NFNL_MSG_BATCH_BEGIN", errno }
        }
        errno => Error::Refused { part: batch.part(sequence).cloned().unwrap_or(Part::Transaction), errno },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::ChainKind;

    fn text(sequence: u32, errno: Errno) -> String {
        let mut batch = Batch::new();
        let part = Part::Rule { chain: ChainKind::Nat, number: 3, comment: "exclude-cidr".to_owned() };
        batch.push(libc::NFT_MSG_NEWRULE, 0, Family::Inet, part, |_| {});
        refusal(&batch, sequence, errno as i32).to_string()
    }

    #[test]
    fn a_refusal_names_the_rule_and_what_the_errno_means() {
        assert_eq!(
            text(1, Errno::EINVAL),
            "the kernel refused rule 3 of chain output (exclude-cidr), so nothing was changed: \
             EINVAL (Invalid argument)"
        );
        assert_eq!(
            text(1, Errno::ENOENT),
            "the kernel refused rule 3 of chain output (exclude-cidr), so nothing was changed: ENOENT (the kernel \
             lacks a feature that it needs: nf_nat, nft_chain_nat, nft_redir, nft_ct and nft_reject are common gaps)"
        );
        assert!(
            text(9, Errno::EBUSY).starts_with("the kernel refused the transaction, so nothing was changed: ")
        );
    }

    #[test]
    fn a_refused_transaction_tells_missing_privilege_from_missing_nf_tables() {
        assert_eq!(text(0, Errno::EPERM), Error::Privilege.to_string());
        assert_eq!(
            text(0, Errno::EOPNOTSUPP),
            "this kernel offers no nf_tables (CONFIG_NF_TABLES, Linux 3.13 or later; it may need \
             `modprobe nf_tables`): NFNL_MSG_BATCH_BEGIN: EOPNOTSUPP (Operation not supported on transport endpoint)"
        );
    }
}
