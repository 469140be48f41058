//! What a process is given that stands for another one's child.

use std::io;
use std::process::Command;

use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};

use crate::sys;

/// Has `command` run with this mask of signals, whatever that of this thread is then, and be killed when this thread
/// ends: nothing of it stays where this process is killed.
pub fn for_child(command: &mut Command, mask: SigSet) {
    sys::before_exec(command, prepare, mask);
}

/// Has this process hear of children that end, and find out how. Where whoever started it ignores SIGCHLD, and so it does itself,
/// the kernel does neither.
///
/// # Errors
/// What `sigaction` says.
pub fn hear_of_children() -> io::Result<()> {
    sys::default_sigchld()
}

/// Runs in the child, between fork and exec: system calls alone, and no memory.
fn prepare(mask: &SigSet) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    mask.thread_set_mask()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_the_thread_is_not_the_childs() {
        let blocked = SigSet::from(Signal::SIGUSR1);
        blocked.thread_block().unwrap();
        let mut command = Command::new("grep");
        command.args(["-E", "^SigBlk:\\s0+$", "/proc/self/status"]);
        for_child(&mut command, SigSet::empty());
        let output = command.output().unwrap();
        blocked.thread_unblock().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}
