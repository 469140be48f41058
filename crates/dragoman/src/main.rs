//! The `dragoman` program: reads the command line and hands over.

mod admin;
mod app;
mod ask;
mod ca;
mod check;
mod child;
mod cli;
mod control;
mod describe;
mod destinations;
mod drain;
mod explain;
mod flows;
mod inject;
mod logging;
mod notify;
mod plain;
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
        Command::Inject(arguments) => inject::run(&arguments),
        Command::Ca(arguments) => ca::run(&arguments),
        Command::Wait(arguments) => wait::run(&arguments),
        Command::Drain(arguments) => drain::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Flows(arguments) => flows::command::run(&arguments),
        Command::Completions(arguments) => describe::completions(&arguments),
        Command::Man(arguments) => describe::man(&arguments),
        Command::Schema(SchemaArguments {}) => check::print(&dragoman_config::schema()),
    }
}
