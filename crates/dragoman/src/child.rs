//! A command that runs as a child of this process, in its place for whoever started it: what comes to this process goes to
//! the command, and how the command ends is how this process ends.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};

use dragoman_net::{for_child, hear_of_children};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::{Pid, getpgid, getpgrp};

/// Exit codes of shells for a program that was found and cannot be run, and for one that is not there.
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;
/// The exit code where dragoman itself failed, as of env(1) and timeout(1): no command means it by that.
pub(crate) const FAILED: u8 = 125;

/// What is not passed on: what cannot be, what tells of a defect of this process's own or of its pipes, and what a terminal
/// stops all of its processes by.
const NOT_PASSED_ON: [Signal; 14] = [
    Signal::SIGKILL,
    Signal::SIGSTOP,
    Signal::SIGCHLD,
    Signal::SIGABRT,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGSEGV,
    Signal::SIGSYS,
    Signal::SIGTRAP,
    Signal::SIGPIPE,
    Signal::SIGTSTP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
];

/// As a shell says it.
pub(crate) fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(FAILED)
}

/// Says that a command cannot be run; returns the exit code that says so too.
pub(crate) fn not_run(program: &OsStr, error: &io::Error) -> u8 {
    eprintln!("dragoman: cannot run {}: {error}", program.display());
    if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { CANNOT_RUN }
}

/// The signals that this process waits for.
pub(crate) struct Signals {
    /// What was blocked when it started, and is the command's to have.
    pub(crate) mask_before: SigSet,
    queue: SignalFd,
}

impl Signals {
    /// Waits for these, and for news of children.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn new(passed_on: impl IntoIterator<Item = Signal>) -> io::Result<Signals> {
        hear_of_children()?;
        let mask_before = SigSet::thread_get_mask()?;
        let all: SigSet = passed_on.into_iter().chain([Signal::SIGCHLD]).collect();
        all.thread_block()?;
        let queue = SignalFd::with_flags(&all, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Signals { mask_before, queue })
    }

    /// The same for all that a command may be told by.
    pub(crate) fn all() -> io::Result<Signals> {
        Signals::new(Signal::iterator().filter(|signal| !NOT_PASSED_ON.contains(signal)))
    }

    /// The next one that has come, SIGCHLD among them, if there is one.
    pub(crate) fn next(&self) -> Result<Option<(Signal, siginfo)>, Errno> {
        while let Some(info) = self.queue.read_signal()? {
            if let Ok(signal) = Signal::try_from(info.ssi_signo as i32) {
                return Ok(Some((signal, info)));
            }
        }
        Ok(None)
    }

    /// Returns when one may have come.
    fn wait(&self) -> Result<(), Errno> {
        match poll(&mut [PollFd::new(self.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}

/// Runs the command until it ends, and returns its exit code, or 126 or 127 where it cannot be run. Whatever else has this
/// process as its parent, as orphans have the first process of a container, is waited for too.
///
/// # Errors
/// What the system says.
pub(crate) fn stay(command: &[OsString], signals: &Signals) -> io::Result<u8> {
    let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(program);
    command.args(arguments);
    for_child(&mut command, signals.mask_before);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Ok(not_run(program, &error)),
    };
    let pid = Pid::from_raw(child.id() as i32);
    loop {
        signals.wait()?;
        while let Some((signal, info)) = signals.next()? {
            if signal != Signal::SIGCHLD && !has_got(pid, signal, &info) {
                // It is there until it is waited for, which happens here alone.
                let _ = kill(pid, signal);
            }
        }
        if let Some(status) = reap(&mut child)? {
            return Ok(code(status));
        }
    }
}

/// Whether the child got the signal as well: a terminal sends these to all of its foreground processes.
fn has_got(child: Pid, signal: Signal, info: &siginfo) -> bool {
    let by_terminal = info.ssi_code == libc::SI_KERNEL
        && matches!(signal, Signal::SIGINT | Signal::SIGQUIT | Signal::SIGWINCH);
    by_terminal && getpgid(Some(child)) == Ok(getpgrp())
}

/// Waits for whoever has ended, and tells how the child has, if it is among them.
fn reap(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    let ended = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    loop {
        let Some(pid) = waitid(Id::All, ended)?.pid() else { return Ok(None) };
        if pid.as_raw() == child.id() as i32 {
            return child.try_wait();
        }
        waitpid(pid, Some(WaitPidFlag::WNOHANG))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_as_a_shell_tells_it() {
        for (raw, expected) in [(0, 0), (7 << 8, 7), (255 << 8, 255), (15, 143), (9, 137)] {
            assert_eq!(code(ExitStatus::from_raw(raw)), expected);
        }
    }
}
