//! The `dragoman` program: reads the command line and hands over.

mod admin;
mod app;
mod check;
mod cli;
mod logging;
mod privilege;
mod signals;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Proxy(arguments) => app::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
    }
}
