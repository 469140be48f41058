//! The command line.
//!
//! Exit codes, for all commands: 0 success, 1 the system refused something (a taken port, a missing right), 2
//! the command line or the configuration is wrong.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use dragoman_capture::private::Reach;
use nix::unistd::{Gid, Uid};

use crate::ask::At;
use crate::ca::arguments::CaArguments;
use crate::drain::DrainArguments;
use crate::inject::arguments::InjectArguments;
use crate::privilege;
use crate::wait::arguments::WaitArguments;

/// A transparent outbound proxy beside one application: retries, timeouts, circuit breaking and observability
/// for every connection that the application opens, without a change to the application.
#[derive(Debug, Parser)]
#[command(name = "dragoman", version, max_term_width = 100, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(RunArguments),
    Proxy(ProxyArguments),
    Check(CheckArguments),
    Schema(SchemaArguments),
    Wait(WaitArguments),
    Drain(DrainArguments),
    Explain(ExplainArguments),
    Flows(FlowsArguments),
    Inject(InjectArguments),
    Ca(CaArguments),
    Completions(CompletionsArguments),
    Man(ManArguments),
    Keeper(KeeperArguments),
}

/// Run a command with all its outbound TCP captured: no root, no container, no change to the machine
///
/// The command gets a network of its own in which every connection leads to dragoman, which makes it from here. It keeps
/// its terminal, directory, environment, user, signals and exit code.
#[derive(Args, Debug)]
#[command(after_help = RUN_EXAMPLES)]
pub(crate) struct RunArguments {
    /// A configuration file, or a directory of files *.toml, as for `dragoman proxy`. Without one, dragoman observes
    /// and changes nothing
    #[arg(long, short, value_name = "PATH", env = "DRAGOMAN_CONFIG")]
    pub(crate) config: Vec<PathBuf>,
    /// At the end, list on stderr each connection that the command made, and what became of it
    #[arg(long)]
    pub(crate) explain: bool,
    /// Keep the command from this machine's 127.0.0.1 and ::1: only what it listens on itself is there
    #[arg(long)]
    pub(crate) isolate_loopback: bool,
    /// The command and its arguments
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<OsString>,
}

const RUN_EXAMPLES: &str = "\
Examples:
  dragoman run curl http://example.com/               observe only
  dragoman run --explain -- git clone http://git.example.com/project
  dragoman run --config policy.toml -- ./app --port 8080
  dragoman run --config policy.toml -- bash           a shell, and all that is started in it

Exit code: that of the command, or 128 + n where signal n ended it; 127 where there is no such
command, 126 where it cannot be run, 125 where dragoman itself failed, 2 where its command line or
configuration is wrong.

Limits:
  127.0.0.1       first what the command itself listens on, then this machine
                  (see --isolate-loopback)
  from outside    nothing can connect to what the command listens on
  UDP             refused, but for DNS: HTTP/3 falls back to TCP. There is no ping
  connect         always succeeds: a server that refuses shows as a reset, as behind any such proxy
  one user        where not started by root, only your own user and group exist inside:
                  no sudo, other owners show as nobody, and no process can be left out of
                  capture by its group
  the end         what the command leaves running loses its connections when the command ends";

/// The process inside of `dragoman run`: makes its namespaces, runs the command there and waits for it.
#[derive(Args, Debug)]
#[command(hide = true)]
pub(crate) struct KeeperArguments {
    /// The process id of `dragoman run`
    #[arg(long)]
    pub(crate) parent: i32,
    /// What the host reaches
    #[arg(long)]
    pub(crate) reach: Vec<Reach>,
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<OsString>,
}

/// Run the proxy until SIGTERM or SIGINT
///
/// As root it opens its ports, gives root up for --user and --group, and only then makes a connection. At the
/// first SIGTERM or SIGINT it begins to drain: connections, old and new, are served until none was at work for
/// `proxy.drain_quiet` or `proxy.drain` has passed since then, or since `dragoman drain --announce` before it. Then it ends
/// with 0. A second signal ends it at once.
#[derive(Args, Debug)]
#[command(after_help = PROXY_EXAMPLES)]
pub(crate) struct ProxyArguments {
    /// A configuration file, or a directory of files *.toml; of several, later ones override earlier ones key by
    /// key. Without one, dragoman observes and changes nothing
    #[arg(long, short, value_name = "PATH", env = "DRAGOMAN_CONFIG")]
    pub(crate) config: Vec<PathBuf>,
    /// User to run as when started as root, a number or a name [default: 1337]
    #[arg(long, value_name = "USER", value_parser = privilege::parse_user)]
    pub(crate) user: Option<Uid>,
    /// Group to run as when started as root; its connections are not captured [default: 1337]
    #[arg(long, value_name = "GROUP", value_parser = privilege::parse_group)]
    pub(crate) group: Option<Gid>,
    /// Take the listeners over from the dragoman with this control socket, which then drains
    #[arg(long, value_name = "SOCKET")]
    pub(crate) takeover: Option<PathBuf>,
}

const PROXY_EXAMPLES: &str = "\
Examples:
  dragoman proxy                                      observe only
  dragoman proxy --config policy.toml
  dragoman proxy --config base.toml --config conf.d   what conf.d/*.toml says overrides base.toml
  dragoman proxy --config policy.toml --user nobody --group 1337
  dragoman proxy --config policy.toml --takeover /run/dragoman/control.sock";

/// Check a configuration, and say all that is wrong with it
///
/// Exits with 0 if the proxy would take it, with 2 if not. The files that it names are looked at too: certificates, keys, roots and
/// revocation lists must be readable, belong together and be in date, and what is doubtful about them is told as a warning. The DRAGOMAN_ environment variables are taken into
/// account as the proxy would.
#[derive(Args, Debug)]
#[command(after_help = CHECK_EXAMPLES)]
pub(crate) struct CheckArguments {
    /// A configuration file or a directory, as for `dragoman proxy`
    #[arg(long, short, value_name = "PATH")]
    pub(crate) config: Vec<PathBuf>,
    /// The same, without `--config` before each
    #[arg(value_name = "PATH", required_unless_present = "config", conflicts_with = "config")]
    paths: Vec<PathBuf>,
    /// Print every key with its value and where it comes from: a file and line, a variable, or the default
    #[arg(long)]
    pub(crate) print: bool,
    /// Print also the values of headers and parameters whose names sound secret, such as `authorization`
    #[arg(long, requires = "print")]
    pub(crate) show_secrets: bool,
    /// Do not look at the certificates, keys, roots and revocation lists that it names; `--print` never does
    #[arg(long)]
    pub(crate) no_files: bool,
}

impl CheckArguments {
    /// Every path, in the order in which they override each other.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        if self.paths.is_empty() { self.config.clone() } else { self.paths.clone() }
    }
}

const CHECK_EXAMPLES: &str = "\
Examples:
  dragoman check policy.toml
  dragoman check base.toml conf.d                     both, merged as the proxy would
  dragoman check base.toml conf.d --print             where each value came from
  DRAGOMAN_RETRY_ATTEMPTS=5 dragoman check policy.toml --print";

/// Print the JSON Schema of configuration files, for editors
///
/// An editor with a TOML language server (Even Better TOML, taplo) completes, explains and checks keys with it. It
/// sees one file at a time, and less than `dragoman check` does.
#[derive(Args, Debug)]
#[command(after_help = SCHEMA_EXAMPLES)]
pub(crate) struct SchemaArguments {}

const SCHEMA_EXAMPLES: &str = "\
Examples:
  dragoman schema > dragoman.schema.json              then, as the first line of policy.toml:
  #:schema ./dragoman.schema.json";

/// Tell the story of a flow or exchange, or what would be done for one
///
/// For a flow or exchange that was: where it went, what was recognised by which bytes, why its destination and route
/// matched, each attempt with its times, why it was repeated or not, and who ended it. Ids are in the access log and in
/// `dragoman flows`; an `x-request-id` will do too. The proxy keeps what ended last (recorder.memory).
///
/// For a URL or HOST:PORT: which destination and route would match, why others would not, and what their policy does.
/// Nothing is connected to; a name is looked up.
///
/// Exits with 0 where there is an answer, with 1 where there is none (it says why), with 2 for a wrong question.
#[derive(Args, Debug)]
#[command(after_help = EXPLAIN_EXAMPLES)]
pub(crate) struct ExplainArguments {
    /// An id, an `x-request-id`, a URL, or HOST:PORT; without one, what ended last
    #[arg(value_name = "ID|URL|HOST:PORT")]
    pub(crate) target: Option<String>,
    /// The stories of the last N that ended
    #[arg(long, value_name = "N", conflicts_with = "target")]
    pub(crate) last: Option<usize>,
    /// The method of the request [default: GET]
    #[arg(long, value_name = "METHOD", requires = "target")]
    pub(crate) method: Option<String>,
    /// Its path, with or without a query
    #[arg(long, value_name = "PATH", requires = "target")]
    pub(crate) path: Option<String>,
    /// A header of it; may be given many times
    #[arg(long, value_name = "NAME:VALUE", requires = "target")]
    pub(crate) header: Vec<String>,
    /// The address that the program would dial, instead of looking the name up
    #[arg(long, value_name = "IP", requires = "target")]
    pub(crate) address: Option<IpAddr>,
    /// Explain by these files, as for `dragoman proxy`, rather than by what the running proxy has
    #[arg(long, short, value_name = "PATH", requires = "target")]
    pub(crate) config: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) control: ControlArguments,
    /// JSON, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  dragoman explain                                    what ended last
  dragoman explain --last 5
  dragoman explain 7c1f0a9be2d45e10
  dragoman explain http://pay.example.com/v1/charges --method POST
  dragoman explain 10.0.0.7:5432 --config policy.toml";

/// Where the running proxy is asked
#[derive(Args, Debug)]
pub(crate) struct ControlArguments {
    /// The proxy's control.socket, or one of its control.listen [default: /run/dragoman/control.sock]
    #[arg(long, value_name = "SOCKET|ADDRESS", env = "DRAGOMAN_CONTROL")]
    control: Option<At>,
}

impl ControlArguments {
    pub(crate) fn at(&self) -> At {
        self.control.clone().unwrap_or_default()
    }
}

/// List flows and exchanges, those that ended last or those to come
///
/// One line each. `dragoman explain ID` has the whole story. A flow is a connection, an exchange a request and its
/// response. On a terminal the colour says how it went: green well, yellow after a retry, red badly; not where NO_COLOR is
/// set.
#[derive(Args, Debug)]
#[command(after_help = FLOWS_EXAMPLES)]
pub(crate) struct FlowsArguments {
    /// Go on with what ends from now on, until interrupted
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// The last N of those that fit
    #[arg(long, value_name = "N", default_value = "20", conflicts_with = "follow")]
    pub(crate) last: usize,
    /// Only those of this destination
    #[arg(long, value_name = "NAME")]
    pub(crate) destination: Option<String>,
    /// Only those that ended with this cause; `any` is any
    #[arg(long, value_name = "CAUSE")]
    pub(crate) cause: Option<String>,
    /// Only those with this status, as 503 or 5xx
    #[arg(long, value_name = "STATUS")]
    pub(crate) status: Option<String>,
    #[command(flatten)]
    pub(crate) control: ControlArguments,
    /// One JSON object a line, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

const FLOWS_EXAMPLES: &str = "\
Examples:
  dragoman flows
  dragoman flows --follow --cause any                 failures, as they come
  dragoman flows --destination payments --status 5xx
  dragoman flows --follow --json | jq .duration_us";

/// Print what a shell needs to complete the command line
#[derive(Args, Debug)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub(crate) struct CompletionsArguments {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  dragoman completions bash > /etc/bash_completion.d/dragoman
  dragoman completions zsh > \"${fpath[1]}/_dragoman\"
  dragoman completions fish > ~/.config/fish/completions/dragoman.fish";

/// Print the manual page, of a command or of all
#[derive(Args, Debug)]
#[command(hide = true, after_help = MAN_EXAMPLES)]
pub(crate) struct ManArguments {
    /// The command, as `explain` or `ca issue`; without one, the page of all
    #[arg(value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

const MAN_EXAMPLES: &str = "\
Examples:
  dragoman man | man -l -
  dragoman man explain > /usr/local/share/man/man1/dragoman-explain.1";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }
}
