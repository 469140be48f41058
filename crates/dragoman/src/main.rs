//! The `dragoman` program: reads the command line and hands over.

mod admin;
mod app;
mod check;
mod cli;
mod control;
mod destinations;
mod logging;
mod notify;
mod privilege;
mod reload;
mod run;
mod signals;
mod sockets;
mod surface;
mod takeover;
mod traces;
mod wait;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command, SchemaArguments};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Proxy(arguments) => app::run(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Keeper(arguments) => run::keeper::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Wait(arguments) => wait::run(&arguments),
        Command::Schema(SchemaArguments {}) => check::print(&dragoman_config::schema()),
    }
}
