//! `dragoman-init`: redirects the outbound TCP of this network namespace to dragoman, and proves that it does.
//!
//! Thin on purpose: it reads the command line, the environment and a file of options, calls `dragoman-capture`, and says in one line
//! what happened. Exit codes: 0 done, 1 could not be done, 2 wrong input.

mod args;
mod settings;

use std::error::Error as _;
use std::process::ExitCode;

use args::{Command, Parsed, Request};
use dragoman_capture::{Error, INBOUND_PORT, Installed, Ipv6, Options, Own, Plan};

const HELP: &str = include_str!("help.txt");

fn main() -> ExitCode {
    let parsed = match args::parse(std::env::args_os().skip(1), std::env::vars_os()) {
        Ok(parsed) => parsed,
        Err(wrong) => {
            eprintln!("dragoman-init: {wrong}");
            return ExitCode::from(2);
        }
    };
    let request = match parsed {
        Parsed::Help => return say(HELP),
        Parsed::Version => return say(concat!("dragoman-init ", env!("CARGO_PKG_VERSION"), "\n")),
        Parsed::Run(request) => request,
    };
    run(&request).unwrap_or_else(|error| {
        eprintln!("dragoman-init: {error}{}", causes(&error));
        ExitCode::FAILURE
    })
}

fn run(request: &Request) -> Result<ExitCode, Error> {
    let options = &request.options;
    Ok(match request.command {
        Command::Print if request.iptables => say(&dragoman_capture::plan(options)?.to_iptables()),
        Command::Print => print(&dragoman_capture::plan(options)?),
        Command::Install if request.dry_run => print(&dragoman_capture::plan(options)?),
        Command::Install => say(&installed(&dragoman_capture::install(options)?, options)),
        Command::Remove if request.dry_run => say(
            "would remove the tables dragoman of nf_tables and the chains DRAGOMAN_OUTPUT and DRAGOMAN_INBOUND of iptables\n",
        ),
        Command::Remove => {
            let inbound = options.inbound.as_ref().map_or(INBOUND_PORT, |inbound| inbound.port);
            let removed = dragoman_capture::remove(options.port, inbound, request.drain)?;
            say(&format!("dragoman-init: {removed}\n"))
        }
        Command::Verify => {
            let report = dragoman_capture::verify(options)?;
            let said = say(&if request.json { report.to_json() } else { report.to_string() });
            if report.is_proof() { said } else { ExitCode::FAILURE }
        }
    })
}

/// The words are comments to nft, so that the whole can be piped into `nft -f -`.
fn print(plan: &Plan) -> ExitCode {
    let words: String = plan.to_string().lines().map(|line| format!("# {line}\n")).collect();
    say(&(words + &plan.to_nft()))
}

fn installed(installed: &Installed, options: &Options) -> String {
    let versions = match (installed.plan.ipv6, options.ipv6) {
        (true, _) => "over IPv4 and IPv6",
        (false, Ipv6::Off) => "over IPv4 (not IPv6: --ipv6 off)",
        (false, _) => "over IPv4 (not IPv6: this kernel cannot)",
    };
    let port = options.port;
    let ports = if port.first == port.last { "port" } else { "ports" };
    let own = match options.own {
        Own::Group(gid) => format!("of group {gid}"),
        Own::Mark(mark) => format!("with mark {mark}"),
    };
    let inbound = options.inbound.as_ref().map(|inbound| format!("; from outside, to port {}", inbound.port));
    let inbound = inbound.unwrap_or_default();
    format!(
        "dragoman-init: new outbound TCP connections {versions} go to {ports} {port}, save for those {own}{inbound}: \
         {installed}\n"
    )
}

/// A reader that has gone away is no reason to fail: what had to be done is done.
fn say(text: &str) -> ExitCode {
    use std::io::Write;
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn causes(error: &Error) -> String {
    let mut text = String::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
