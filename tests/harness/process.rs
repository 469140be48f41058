//! Child processes with an end: bounded when run, killed by pid when dropped.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use crate::wait;

/// How long a client program may take before it counts as stuck, in seconds.
pub const STUCK_SECONDS: u32 = 60;

/// Exit status by which coreutils' `timeout` says that it ended the program.
const TIMED_OUT: i32 = 124;

/// A running program. Dropped, it gets SIGTERM, then SIGKILL.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    grace: Duration,
}

impl Process {
    /// Starts `command`. Its standard error goes to the file `log`, and so does its standard output
    /// unless `stdout` is another file.
    pub fn start(name: &str, command: &mut Command, log: &Path, stdout: Option<File>) -> Process {
        let stderr = File::create(log).unwrap_or_else(|e| panic!("cannot write {}: {e}", log.display()));
        let stdout = stdout.unwrap_or_else(|| stderr.try_clone().expect("a file can be duplicated"));
        let child = command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {name} ({command:?}): {e}; run scripts/setup"));
        Process { name: name.to_owned(), child, log: log.to_owned(), grace: Duration::from_secs(2) }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        signal::kill(pid(&self.child), signal).unwrap_or_else(|e| panic!("{}: {signal}: {e}", self.name));
    }

    /// Whether it has ended, and how.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }

    /// Waits for its end.
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        wait::until_some(&what, deadline, || self.ended())
    }

    /// Waits until `ready`; panics with its log if it ends first.
    pub fn wait_ready(&mut self, deadline: Duration, mut ready: impl FnMut() -> bool) {
        let end = Instant::now() + deadline;
        while !ready() {
            let ended = self.ended();
            assert!(ended.is_none(), "{} ended ({ended:?}):\n{}", self.name, self.log());
            assert!(Instant::now() < end, "{} is not ready after {deadline:?}:\n{}", self.name, self.log());
            wait::pause(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.try_wait().ok().flatten().is_some() {
            return;
        }
        // Errors mean that it has just ended by itself.
        let _ = signal::kill(pid(&self.child), Signal::SIGTERM);
        let end = Instant::now() + self.grace;
        while self.child.try_wait().ok().flatten().is_none() {
            if Instant::now() > end {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            wait::pause(Duration::from_millis(5));
        }
    }
}

/// Runs to the end and returns all output. Panics if the program cannot be started or was stuck.
pub fn output(command: &mut Command) -> Output {
    let out = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("cannot run {command:?}: {e}; run scripts/setup"));
    assert!(out.status.code() != Some(TIMED_OUT), "stuck for {STUCK_SECONDS} s: {command:?}\n{}", text(&out));
    out
}

/// Copies a program that is going to be run. A process that another test starts would inherit the descriptor by which this one
/// writes, and for as long as that is open nobody can run the copy (ETXTBSY): so cp writes it.
pub fn copy(program: &Path, to: &Path) {
    succeed(Command::new("cp").arg(program).arg(to));
}

/// Runs to the end and returns the standard output. Panics unless the program succeeds.
pub fn succeed(command: &mut Command) -> String {
    let out = output(command);
    assert!(out.status.success(), "{command:?}: {}\n{}", out.status, text(&out));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// Both outputs of a program, for a message.
pub fn text(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("a pid fits in i32"))
}
