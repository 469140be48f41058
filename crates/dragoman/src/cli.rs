//! The command line.
//!
//! Exit codes, for all commands: 0 success, 1 the system refused something (a taken port, a missing right), 2
//! the command line or the configuration is wrong.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use nix::unistd::{Gid, Uid};

use crate::privilege;

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
    Proxy(ProxyArguments),
    Check(CheckArguments),
    Schema(SchemaArguments),
    Wait(WaitArguments),
}

/// Run the proxy until SIGTERM or SIGINT
///
/// As root it opens its ports, gives root up for --user and --group, and only then makes a connection. At the
/// first SIGTERM or SIGINT it begins to drain: connections, old and new, are served until none was at work for
/// `proxy.drain_quiet` or `proxy.drain` has passed, and then it ends with 0. A second signal ends it at once.
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
/// Exits with 0 if the proxy would take it, with 2 if not. The DRAGOMAN_ environment variables are taken into
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

/// Wait until the proxy is ready, then run a command
///
/// The command takes the place of this process: same process id, and signals and exit code are its own. Without
/// one, exits with 0 when the proxy is ready and with 1 when it is not in time. A command that is not there is 127, one
/// that cannot be run 126.
#[derive(Args, Debug)]
#[command(after_help = WAIT_EXAMPLES)]
pub(crate) struct WaitArguments {
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// One of the addresses of `admin.listen`
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:15020", env = "DRAGOMAN_ADMIN")]
    pub(crate) admin: SocketAddr,
    /// The command and its arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<OsString>,
}

const WAIT_EXAMPLES: &str = "\
Examples:
  dragoman wait
  dragoman wait -- ./app --port 8080
  dragoman wait --timeout 2m --admin 127.0.0.1:15020 -- ./app";

fn duration(text: &str) -> Result<Duration, &'static str> {
    dragoman_config::duration(text).ok_or("write an integer and a unit: 500ms, 30s or 1m30s")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }
}
