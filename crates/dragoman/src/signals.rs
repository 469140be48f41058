//! The signals that ask the process to end, and the one that asks it to open its log again.

use std::fmt;
use std::io;
use std::process::ExitCode;

use tokio::signal::unix::{self, SignalKind, signal};

/// A request to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// From whoever started the process.
    Terminate,
    /// From a person at a terminal.
    Interrupt,
}

impl Signal {
    /// The exit code when this signal, as the second, ends the process at once. To SIGTERM a job ends with 0
    /// however it ends; a shell expects 128 + 2 of what a person interrupted.
    pub(crate) fn exit_code(self) -> ExitCode {
        match self {
            Signal::Terminate => ExitCode::SUCCESS,
            Signal::Interrupt => ExitCode::from(130),
        }
    }

    /// The exit code by which a shell says that this signal ended a program.
    pub(crate) fn shell_code(self) -> u8 {
        match self {
            Signal::Terminate => 143,
            Signal::Interrupt => 130,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Signal::Terminate => "SIGTERM",
            Signal::Interrupt => "SIGINT",
        })
    }
}

/// Catches SIGTERM and SIGINT for as long as the process lives.
pub(crate) struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
}

impl Signals {
    /// Begins to catch them. Needs a runtime.
    ///
    /// # Errors
    /// When the system refuses the handler.
    pub(crate) fn new() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.interrupt.recv() => Signal::Interrupt,
        }
    }
}

/// Does this at each SIGUSR1, which whoever rotates logs sends, for as long as the process lives. Needs a runtime.
///
/// # Errors
/// When the system refuses the handler.
pub(crate) fn on_reopen(reopen: impl Fn() + Send + 'static) -> io::Result<()> {
    let mut rotated = signal(SignalKind::user_defined1())?;
    tokio::spawn(async move {
        while rotated.recv().await.is_some() {
            reopen();
        }
    });
    Ok(())
}
