//! `dragoman drain`: tells the proxy that its end has come, or will; for hooks in an image that has no shell.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::ask::{self, At, Unanswered};
use crate::check;
use crate::cli::ControlArguments;
use crate::control::{ANNOUNCE, DRAIN, QUIT};

/// Tell the running proxy to drain, for hooks and operators
///
/// Connections, old and new, are served until none was at work for `proxy.drain_quiet` or `proxy.drain` has passed, and then
/// the proxy ends. With --announce nothing begins yet: it is only noted when the end of this pod or machine began, and
/// `proxy.drain` counts from there, whenever SIGTERM comes. The first announcement counts, and only a restart takes it back.
///
/// Exits with 0 when it is done, or the proxy has ended already. With 1 where it is not: it refuses, does not answer
/// within 5 s, or there is no such socket and never was.
#[derive(Args, Debug)]
#[command(after_help = DRAIN_EXAMPLES)]
pub(crate) struct DrainArguments {
    /// Only note that the end has begun
    #[arg(long, conflicts_with = "quit")]
    pub(crate) announce: bool,
    /// The application is gone: end as soon as no connection is at work
    #[arg(long)]
    pub(crate) quit: bool,
    #[command(flatten)]
    pub(crate) control: ControlArguments,
}

const DRAIN_EXAMPLES: &str = "\
Examples:
  dragoman drain
  dragoman drain --announce                           as a preStop hook
  dragoman drain --quit --control 127.0.0.1:15000     needs control.quit_on_tcp = true";

/// Who asks has not much time itself: a preStop hook's is taken from the pod's.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Runs `dragoman drain`.
pub(crate) fn run(arguments: &DrainArguments) -> ExitCode {
    let path = match arguments {
        DrainArguments { announce: true, .. } => ANNOUNCE,
        DrainArguments { quit: true, .. } => QUIT,
        _ => DRAIN,
    };
    match tell(&arguments.control.at(), path) {
        Ok(answer) => check::print(&answer),
        // It is what was asked for, and a hook that fails is an event that somebody looks at.
        Err(Unanswered::Gone(why)) => {
            eprintln!("dragoman: the proxy has ended already ({why})");
            ExitCode::SUCCESS
        }
        Err(Unanswered::Failed(why)) => {
            eprintln!("dragoman: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Asks for a change.
pub(crate) fn tell(at: &At, path: &str) -> Result<String, Unanswered> {
    let answer = ask::post(at, path, PATIENCE)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
