//! The system calls without a safe wrapper: the only unsafe code of the workspace.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsRawFd;

mod raw {
    nix::ioctl_read_bad!(
        /// `SIOCOUTQ` (the same number as `TIOCOUTQ`): bytes sent and not acknowledged, or not yet sent.
        outq,
        nix::libc::TIOCOUTQ,
        nix::libc::c_int
    );
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
