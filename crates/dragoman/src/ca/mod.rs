//! `dragoman ca`: an authority for development and tests (docs/identity.md, docs/adr/0029).

pub(crate) mod arguments;
mod authority;
mod folder;
mod identity;
mod names;
mod watch;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use x509_parser::time::ASN1Time;

use crate::check::print;
use crate::plain::{align, plain};
use arguments::{CaArguments, CaCommand, InitArguments, IssueArguments, RenewArguments};
use authority::Authority;
use identity::{CERTIFICATE, Identity, KEY, ROOTS, Written};

/// Runs `dragoman ca`.
pub(crate) fn run(arguments: &CaArguments) -> ExitCode {
    let now = SystemTime::now();
    let said = match &arguments.command {
        CaCommand::Init(arguments) => init(arguments, now),
        CaCommand::Issue(arguments) => issue(arguments, now),
        CaCommand::Renew(arguments) => return renew(arguments, now),
        CaCommand::Watch(arguments) => return watch::run(arguments),
    };
    match said {
        Ok(text) => print(&text),
        Err(error) => refuse(&error),
    }
}

fn init(arguments: &InitArguments, now: SystemTime) -> Result<String, CaError> {
    let directory = &arguments.which.ca;
    let authority = Authority::create(directory, &arguments.permit, arguments.life, arguments.force, now)?;
    let file = |name: &str| directory.join(name).display().to_string();
    let table = table(&[
        [file(ROOTS), "for all to trust".into(), authority.name.clone(), utc(authority.not_after)],
        [file(authority::KEY), "the key: for nobody to read".into(), String::new(), String::new()],
    ]);
    Ok(format!(
        "{table}For development and tests: who has the key can pose as anybody to those who trust it.\n"
    ))
}

fn issue(arguments: &IssueArguments, now: SystemTime) -> Result<String, CaError> {
    let IssueArguments { named, out, life, force, which } = arguments;
    let authority = Authority::load(&which.ca)?;
    let written = identity::issue(&authority, out, named.names(), *life, *force, now)?;
    Ok(tell(&authority, out, &written, now))
}

/// What fails is said, and does not keep the others from being renewed.
fn renew(arguments: &RenewArguments, now: SystemTime) -> ExitCode {
    let authority = match Authority::load(&arguments.which.ca) {
        Ok(authority) => authority,
        Err(error) => return refuse(&error),
    };
    let mut code = ExitCode::SUCCESS;
    let mut said = String::new();
    for directory in &arguments.directories {
        let identity = Identity::load(&authority, directory);
        match identity.and_then(|identity| identity.renew(&authority, now)) {
            Ok(written) => said += &tell(&authority, directory, &written, now),
            Err(error) => code = refuse(&error),
        }
    }
    let printed = print(&said);
    if code == ExitCode::SUCCESS { printed } else { code }
}

fn tell(authority: &Authority, directory: &Path, written: &Written, now: SystemTime) -> String {
    let file = |name: &str| directory.join(name).display().to_string();
    let table = table(&[
        [file(CERTIFICATE), "certificate".into(), written.names.to_string(), utc(written.not_after)],
        [file(KEY), "its private key".into(), String::new(), String::new()],
        [file(ROOTS), "for peers to trust".into(), authority.name.clone(), utc(authority.not_after)],
    ]);
    let shortened = written.not_after < now + written.life;
    let note = if shortened { "Shorter than asked for: it ends with the authority.\n" } else { "" };
    format!("{table}{note}")
}

fn table(files: &[[String; 4]]) -> String {
    let mut rows = vec![["FILE", "WHAT", "NAMES", "VALID UNTIL"].map(str::to_owned)];
    rows.extend(files.iter().cloned());
    align(&rows).into_iter().map(|line| line + "\n").collect()
}

fn refuse(error: &CaError) -> ExitCode {
    eprintln!("dragoman: {error}");
    ExitCode::FAILURE
}

/// A point in time as a person reads it, in UTC.
fn utc(at: SystemTime) -> String {
    let seconds = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let at = ASN1Time::from_timestamp(i64::try_from(seconds).unwrap_or(i64::MAX)).unwrap_or(ASN1Time::now());
    let at = at.to_datetime();
    let (date, time) = (at.date(), at.time());
    let (hour, minute, second) = time.as_hms();
    format!("{date} {hour:02}:{minute:02}:{second:02} UTC")
}

/// What could not be done, with the file that it is about and what to do.
#[derive(Debug)]
struct CaError {
    path: PathBuf,
    why: String,
}

impl CaError {
    fn new(path: &Path, why: impl Into<String>) -> CaError {
        CaError { path: path.to_owned(), why: why.into() }
    }

    /// The system refused something.
    fn system(path: &Path, what: &str, error: &io::Error) -> CaError {
        CaError::new(path, format!("{what}: {error}"))
    }
}

impl fmt::Display for CaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&plain(&format!("{}: {}", self.path.display(), self.why)))
    }
}

impl std::error::Error for CaError {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_told_in_utc() {
        assert_eq!(utc(UNIX_EPOCH + Duration::from_secs(1_795_274_003)), "2026-11-21 15:13:23 UTC");
    }
}
