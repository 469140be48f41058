//! `dragoman check`.

mod files;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use dragoman_config::{Config, Errors, Secrets, Sources};

use crate::cli::CheckArguments;
use crate::logging;

/// The exit code for a wrong configuration; clap uses the same for a wrong command line.
pub(crate) const WRONG_INPUT: u8 = 2;

/// Runs `dragoman check`.
pub(crate) fn run(arguments: &CheckArguments) -> ExitCode {
    let paths = arguments.paths();
    let (sources, config) = match load(&paths) {
        Ok(loaded) => loaded,
        Err(errors) => return refuse(&errors),
    };
    sources.warnings().iter().for_each(|warning| eprintln!("warning: {warning}"));
    if !arguments.print && !arguments.no_files {
        let (errors, warnings) = files::look(&config);
        warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
        if !errors.is_empty() {
            return refuse_files(&errors);
        }
    }
    let secrets = if arguments.show_secrets { Secrets::Shown } else { Secrets::Masked };
    print(&if arguments.print { config.print(secrets) } else { summary(&paths, &sources, &config) })
}

/// What these files and directories say, and the configuration that it is with the environment.
fn load(paths: &[PathBuf]) -> Result<(Sources, Config), Errors> {
    let sources = Sources::read(paths)?;
    let config = Config::resolve(&sources, &environment)?;
    Ok((sources, config))
}

/// Prints all errors of a configuration.
pub(crate) fn refuse(errors: &Errors) -> ExitCode {
    let color = logging::color(&io::stderr());
    eprintln!("{}", errors.render(color).trim_end());
    ExitCode::from(WRONG_INPUT)
}

/// Prints what is wrong with the files that a configuration names, each in a line.
pub(crate) fn refuse_files(lines: &[String]) -> ExitCode {
    lines.iter().for_each(|line| eprintln!("error: {line}"));
    ExitCode::from(WRONG_INPUT)
}

/// An environment variable, as the configuration asks for it.
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The number of files is told where a directory is among the paths: it may have less in it than was meant.
fn summary(paths: &[PathBuf], sources: &Sources, config: &Config) -> String {
    let named = || config.destinations().iter().filter(|destination| &*destination.name != "default");
    let destinations = count(named().count(), "destination");
    let routes = count(named().map(|destination| destination.routes.len()).sum(), "route");
    let directories = paths.iter().any(|path| path.is_dir());
    let files = if directories { count(sources.names().count(), "file") + ", " } else { String::new() };
    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    format!("{}: ok ({files}{destinations}, {routes})\n", paths.join(", "))
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Writes to stdout; a reader that has gone (`| head`) is no error of ours.
pub(crate) fn print(text: &str) -> ExitCode {
    match io::Write::write_all(&mut io::stdout().lock(), text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("dragoman: cannot write to stdout: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}
