//! The command line.
//!
//! Exit codes, for all commands: 0 success, 1 the system refused something (a taken port, a missing right), 2
//! the command line or the configuration is wrong.

use std::path::PathBuf;

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
}

/// Run the proxy until SIGTERM or SIGINT
///
/// As root it opens its ports, gives root up for --user and --group, and only then makes a connection. At the
/// first SIGTERM or SIGINT it takes no new connections and ends with 0 when those that are open have ended,
/// or when `proxy.drain` has passed; a second signal ends it at once.
#[derive(Args, Debug)]
#[command(after_help = PROXY_EXAMPLES)]
pub(crate) struct ProxyArguments {
    /// The configuration; without one, dragoman observes and changes nothing
    #[arg(long, short, value_name = "FILE", env = "DRAGOMAN_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// User to run as when started as root, a number or a name [default: 1337]
    #[arg(long, value_name = "USER", value_parser = privilege::parse_user)]
    pub(crate) user: Option<Uid>,
    /// Group to run as when started as root; its connections are not captured [default: 1337]
    #[arg(long, value_name = "GROUP", value_parser = privilege::parse_group)]
    pub(crate) group: Option<Gid>,
}

const PROXY_EXAMPLES: &str = "\
Examples:
  dragoman proxy                                      observe only
  dragoman proxy --config policy.toml
  dragoman proxy --config policy.toml --user nobody --group 1337";

/// Check a configuration, and say all that is wrong with it
///
/// Exits with 0 if the proxy would start with it, with 2 if not. The DRAGOMAN_ environment variables are
/// taken into account as the proxy would.
#[derive(Args, Debug)]
#[command(after_help = CHECK_EXAMPLES)]
pub(crate) struct CheckArguments {
    /// The configuration
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Print every key with its value and where it comes from
    #[arg(long)]
    pub(crate) print: bool,
}

const CHECK_EXAMPLES: &str = "\
Examples:
  dragoman check policy.toml
  dragoman check policy.toml --print
  DRAGOMAN_RETRY_ATTEMPTS=5 dragoman check policy.toml --print";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }
}
