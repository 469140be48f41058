//! `dragoman ca watch`: identities renewed before they expire.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use super::arguments::WatchArguments;
use super::authority::Authority;
use super::identity::Identity;
use super::{CaError, utc};
use crate::signals::Signals;

/// The longest that is slept at once: the clock may be set, the machine suspended, the files replaced meanwhile.
const LOOK_AT_LEAST: Duration = Duration::from_secs(60);
/// The shortest, however soon the next one is due.
const PAUSE: Duration = Duration::from_millis(200);
/// Between two tries at what failed.
const RETRY: Duration = Duration::from_secs(5);

/// Runs `dragoman ca watch`.
pub(crate) fn run(arguments: &WatchArguments) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let watched = runtime.map_err(|error| CaError::system(Path::new("watch"), "cannot begin", &error));
    match watched.and_then(|runtime| runtime.block_on(watch(arguments))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => super::refuse(&error),
    }
}

async fn watch(arguments: &WatchArguments) -> Result<(), CaError> {
    let signals = Signals::new();
    let mut signals = signals.map_err(|error| CaError::system(Path::new("watch"), "cannot begin", &error))?;
    for directory in &arguments.directories {
        look(&arguments.which.ca, directory, true)?;
    }
    loop {
        let next = arguments.directories.iter().map(|directory| {
            look(&arguments.which.ca, directory, false).unwrap_or_else(|error| {
                eprintln!("dragoman: {error}; trying again in {RETRY:?}");
                SystemTime::now() + RETRY
            })
        });
        let next = next.min().expect("at least one directory is given");
        let wait = next.duration_since(SystemTime::now()).unwrap_or_default().clamp(PAUSE, LOOK_AT_LEAST);
        tokio::select! {
            () = sleep(wait) => {}
            signal = signals.next() => {
                eprintln!("dragoman: {signal}, no longer renewing");
                return Ok(());
            }
        }
    }
}

/// Renews an identity if it is due, and says when it will be next.
fn look(ca: &Path, directory: &Path, tell: bool) -> Result<SystemTime, CaError> {
    let authority = Authority::load(ca)?;
    let identity = Identity::load(&authority, directory)?;
    let now = SystemTime::now();
    let due = identity.due(now);
    let shown = directory.display();
    if due > now {
        if tell {
            let (names, until) = (&identity.names, utc(identity.not_after));
            eprintln!("dragoman: watching {shown}: {names}, valid until {until}, renewal at {}", utc(due));
        }
        return Ok(due);
    }
    let written = identity.renew(&authority, now)?;
    let due = Identity::load(&authority, directory)?.due(now);
    let until = utc(written.not_after);
    eprintln!("dragoman: renewed {shown}: {}, valid until {until}, next at {}", written.names, utc(due));
    Ok(due)
}
