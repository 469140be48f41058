//! `dragoman check`.

use std::fmt::Write;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use dragoman_config::{Config, Errors};

use crate::cli::CheckArguments;
use crate::logging;

/// The exit code for a wrong configuration; clap uses the same for a wrong command line.
pub(crate) const WRONG_INPUT: u8 = 2;

/// Runs `dragoman check`.
pub(crate) fn run(arguments: &CheckArguments) -> ExitCode {
    let config = match Config::load(&arguments.file, &environment) {
        Ok(config) => config,
        Err(errors) => return refuse(&errors),
    };
    let text = if arguments.print { config.print() } else { summary(&arguments.file, &config) };
    print(&text)
}

/// Prints all errors of a configuration.
pub(crate) fn refuse(errors: &Errors) -> ExitCode {
    let color = logging::color(&io::stderr());
    eprintln!("{}", errors.render(color).trim_end());
    ExitCode::from(WRONG_INPUT)
}

/// An environment variable, as the configuration asks for it.
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn summary(file: &Path, config: &Config) -> String {
    let named = || config.destinations().iter().filter(|destination| &*destination.name != "default");
    let destinations = count(named().count(), "destination");
    let routes = count(named().map(|destination| destination.routes.len()).sum(), "route");
    let mut text = String::new();
    writeln!(text, "{}: ok ({destinations}, {routes})", file.display()).expect("a String takes all");
    text
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Writes to stdout; a reader that has gone (`| head`) is no error of ours.
fn print(text: &str) -> ExitCode {
    match io::Write::write_all(&mut io::stdout().lock(), text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("dragoman: cannot write to stdout: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}
