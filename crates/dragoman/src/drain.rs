//! `dragoman drain`: tells the proxy that its end has come, or will; for hooks in an image that has no shell.

use std::process::ExitCode;
use std::time::Duration;

use crate::ask::{self, At, Unanswered};
use crate::check;
use crate::cli::DrainArguments;
use crate::control::{ANNOUNCE, DRAIN, QUIT};

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
