//! The command line told to others: to shells, and to `man`.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::CommandFactory;

use crate::check::WRONG_INPUT;
use crate::cli::{Cli, CompletionsArguments, ManArguments};

/// Runs `dragoman completions`.
pub(crate) fn completions(arguments: &CompletionsArguments) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "dragoman", &mut script);
    print(&script)
}

/// Runs `dragoman man`.
pub(crate) fn man(arguments: &ManArguments) -> ExitCode {
    let mut cli = Cli::command().disable_help_subcommand(true);
    cli.build();
    let found = arguments.command.iter().try_fold(&cli, |page, name| page.find_subcommand(name).ok_or(name));
    let page = match found {
        Ok(page) => page.clone(),
        Err(name) => {
            eprintln!("dragoman: no command {name:?}");
            return ExitCode::from(WRONG_INPUT);
        }
    };
    let mut text = Vec::new();
    match clap_mangen::Man::new(page).render(&mut text) {
        Ok(()) => print(&text),
        Err(error) => {
            eprintln!("dragoman: cannot make the page: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A reader that has gone has seen enough.
fn print(text: &[u8]) -> ExitCode {
    let _ = io::stdout().write_all(text);
    ExitCode::SUCCESS
}
