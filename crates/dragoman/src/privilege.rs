//! What the process may do: root is given up before anything is dialled, and descriptors are taken up to the
//! limit.
//!
//! A socket is excluded from capture by the group that its creator has at that moment, so the identity must
//! be final before the first dial. It must also be final before the first thread starts: a thread that began
//! as root and is missed by the change would stay root.

use std::fmt;

use nix::errno::Errno;
use nix::sys::prctl::set_no_new_privs;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Group, Uid, User, setgroups, setresgid, setresuid};

/// The user and group that the proxy runs as, unless told otherwise. The group is the one that dragoman-init
/// excludes from capture.
const DEFAULT_ID: u32 = 1337;

/// Who the process will run as, given these.
pub(crate) fn identity(user: Option<Uid>, group: Option<Gid>) -> (Uid, Gid) {
    if !Uid::effective().is_root() {
        return (Uid::effective(), Gid::effective());
    }
    (user.unwrap_or(Uid::from_raw(DEFAULT_ID)), group.unwrap_or(Gid::from_raw(DEFAULT_ID)))
}

/// Gives root up for this user and group. A process that is not root keeps what it is.
///
/// # Errors
/// When the system refuses.
pub(crate) fn drop_root(user: Option<Uid>, group: Option<Gid>) -> Result<(), PrivilegeError> {
    if !Uid::effective().is_root() {
        warn_if_other(user, group);
        return Ok(());
    }
    let (uid, gid) = identity(user, group);
    change(uid, gid).map_err(|errno| PrivilegeError { uid, gid, errno })?;
    if uid.is_root() {
        tracing::warn!("running as root, as --user asks");
    }
    Ok(())
}

/// Reads `--user`: a number or a name of this system.
///
/// # Errors
/// A name that this system does not know.
pub(crate) fn parse_user(text: &str) -> Result<Uid, &'static str> {
    let named = || User::from_name(text).ok().flatten().map(|user| user.uid);
    number(text).map(Uid::from_raw).or_else(named).ok_or("no such user here; give its number")
}

/// Reads `--group`: a number or a name of this system.
///
/// # Errors
/// A name that this system does not know.
pub(crate) fn parse_group(text: &str) -> Result<Gid, &'static str> {
    let named = || Group::from_name(text).ok().flatten().map(|group| group.gid);
    number(text).map(Gid::from_raw).or_else(named).ok_or("no such group here; give its number")
}

/// An identifier. The highest number is none: to setresuid(2) it means "leave as it is", which would stay
/// root.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|&number| number != u32::MAX)
}

/// Takes as many file descriptors as the hard limit allows, and returns how many that is. A flow needs two.
pub(crate) fn raise_descriptor_limit() -> Result<u64, Errno> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// The groups go first: without uid 0 they could not be changed any more.
fn change(uid: Uid, gid: Gid) -> Result<(), Errno> {
    setgroups(&[])?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    set_no_new_privs()
}

fn warn_if_other(user: Option<Uid>, group: Option<Gid>) {
    let (own_user, own_group) = (Uid::effective(), Gid::effective());
    if let Some(uid) = user.filter(|&uid| uid != own_user) {
        tracing::warn!("--user {uid} has no effect: not started as root, running as uid {own_user}");
    }
    if let Some(gid) = group.filter(|&gid| gid != own_group) {
        tracing::warn!("--group {gid} has no effect: not started as root, running as gid {own_group}");
    }
}

/// Why root could not be given up.
#[derive(Debug)]
pub(crate) struct PrivilegeError {
    uid: Uid,
    gid: Gid,
    errno: Errno,
}

impl fmt::Display for PrivilegeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PrivilegeError { uid, gid, errno } = self;
        write!(
            f,
            "cannot give root up for {uid}:{gid}: {}; this needs CAP_SETUID and CAP_SETGID, or start dragoman as \
             that user and group",
            errno.desc()
        )
    }
}

impl std::error::Error for PrivilegeError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_taken() {
        assert_eq!(parse_user("root"), Ok(Uid::from_raw(0)));
        assert_eq!(parse_group("root"), Ok(Gid::from_raw(0)));
        assert_eq!(parse_user("4294967294"), Ok(Uid::from_raw(4_294_967_294)));
        assert_eq!(parse_group("1337"), Ok(Gid::from_raw(1337)));
        for wrong in ["", "-1", "no-such-name", "1337 ", "4294967295", "4294967296"] {
            assert!(parse_user(wrong).is_err() && parse_group(wrong).is_err(), "{wrong:?}");
        }
    }
}
