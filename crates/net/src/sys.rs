//! The system calls without a safe wrapper: the only unsafe code of the workspace.
#![allow(unsafe_code)]

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

mod raw {
    nix::ioctl_read_bad!(
        /// `SIOCOUTQ` (the same number as `TIOCOUTQ`): bytes sent and not acknowledged, or not yet sent.
        outq,
        nix::libc::TIOCOUTQ,
        nix::libc::c_int
    );
}

/// Has this done between fork and exec.
pub(crate) fn before_exec(command: &mut Command, act: fn(&SigSet) -> io::Result<()>, mask: SigSet) {
    // SAFETY: `act` is a plain function of this crate that does nothing but system calls (see `child`), as a process
    // with the memory of a forked thread must; `mask` is plain data.
    unsafe { command.pre_exec(move || act(&mask)) };
}

/// Has SIGCHLD do what it does unless somebody says otherwise.
///
/// # Errors
/// What `sigaction` says.
pub(crate) fn default_sigchld() -> io::Result<()> {
    // SAFETY: the default action is no code of this process, and what the action before was is not used.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }?;
    Ok(())
}

/// Bytes that were written to `socket` and that the other side has not acknowledged (tcp(7), SIOCOUTQ).
///
/// # Errors
/// What `ioctl` says, EBADF or EINVAL.
pub(crate) fn unacknowledged_bytes(socket: &impl AsRawFd) -> io::Result<usize> {
    let mut bytes = 0;
    // SAFETY: the descriptor is borrowed for the call, and the kernel writes one c_int to a valid pointer.
    unsafe { raw::outq(socket.as_raw_fd(), &mut bytes) }?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// Reads what has come on `socket` into the room that `out` has left, without waiting where the socket does not; 0 means
/// that the other side has ended, or that there is no room.
///
/// # Errors
/// What `recv` says: `WouldBlock` when nothing has come.
pub(crate) fn receive(socket: &impl AsFd, out: &mut Vec<u8>) -> io::Result<usize> {
    let count = SockRef::from(socket).recv(out.spare_capacity_mut())?;
    // SAFETY: the kernel has filled so many bytes of the spare room, which begins where the vector ends.
    unsafe { out.set_len(out.len() + count) };
    Ok(count)
}

/// Receives one byte and the descriptors that came with it, each closed on exec. No byte is the end.
///
/// # Errors
/// What `recvmsg` says.
pub(crate) fn receive_descriptors(from: &impl AsRawFd) -> io::Result<(Option<u8>, Vec<OwnedFd>)> {
    let mut mark = [0];
    let mut control = nix::cmsg_space!([RawFd; 1]);
    let mut slices = [IoSliceMut::new(&mut mark)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(from.as_raw_fd(), &mut slices, Some(&mut control), flags)?;
    let mut received = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = part {
            // SAFETY: the kernel has just made these descriptors for this process, and nobody else knows them.
            received.extend(descriptors.into_iter().map(|raw| unsafe { OwnedFd::from_raw_fd(raw) }));
        }
    }
    let came = message.bytes;
    Ok(((came > 0).then_some(mark[0]), received))
}

/// Has the runtime watch `descriptor` for reads.
///
/// # Errors
/// The kernel cannot watch it: no memory, or a limit.
///
/// # Panics
/// Outside of a tokio runtime.
pub(crate) fn watch_reads(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open, and the same one, for as long as it lives, and it lives in the AsyncFd.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?)
}
