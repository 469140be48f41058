//! The command line of `dragoman wait`.

use std::convert::Infallible;
use std::ffi::OsString;
use std::net::{AddrParseError, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::ask::At;

/// Wait until the proxy is ready, then run a command
///
/// The command takes the place of this process: same process id, and signals and exit code are its own. Without
/// one, exits with 0 when the proxy is ready and with 1 when it is not in time. A command that is not there is 127, one
/// that cannot be run 126.
///
/// With --quit this process stays, for jobs: it passes signals on, waits for what the command leaves behind where it is the
/// first process of a container, and ends with the command's exit code, or 128 + n where signal n ended it. Before that it
/// tells the proxy to end, which needs `control.quit_on_tcp = true` there.
#[derive(Args, Debug)]
#[command(after_help = WAIT_EXAMPLES)]
pub(crate) struct WaitArguments {
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// One of the addresses of `admin.listen`
    #[arg(long, value_name = "ADDRESS", default_value = ADMIN, env = "DRAGOMAN_ADMIN", value_parser = admin)]
    pub(crate) admin: SocketAddr,
    /// Stay, and at the end of the command tell the proxy to end: `always`, or after `success` alone, where the command is
    /// tried again when it failed
    #[arg(
        long,
        value_name = "WHEN",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "always",
        requires = "command"
    )]
    pub(crate) quit: Option<Quit>,
    /// Where --quit tells it: one of the addresses of `control.listen`, or the control.socket
    #[arg(long, value_name = "ADDRESS|SOCKET", default_value = CONTROL, env = "DRAGOMAN_CONTROL", value_parser = control)]
    pub(crate) control: At,
    /// Copy this program to PATH, for containers of other images, and exit
    #[arg(long, value_name = "PATH", conflicts_with_all = ["command", "quit"])]
    pub(crate) install: Option<PathBuf>,
    /// The command and its arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<OsString>,
}

/// Where a proxy is asked that is configured as usual.
const ADMIN: &str = "127.0.0.1:15020";
const CONTROL: &str = "127.0.0.1:15000";

/// After which ends of the command `wait --quit` tells the proxy to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Quit {
    Always,
    Success,
}

const WAIT_EXAMPLES: &str = "\
Examples:
  dragoman wait
  dragoman wait -- ./app --port 8080
  dragoman wait --timeout 2m --admin 127.0.0.1:15020 -- ./app
  dragoman wait --quit -- ./job
  dragoman wait --quit=success -- ./job               where a job that failed is started again
  dragoman wait --install /shared/dragoman            for containers of other images";

fn duration(text: &str) -> Result<Duration, &'static str> {
    dragoman_config::duration(text).ok_or("write an integer and a unit: 500ms, 30s or 1m30s")
}

/// An address, or the usual one: a variable may be left empty by whoever fills a template in.
fn admin(text: &str) -> Result<SocketAddr, AddrParseError> {
    if text.is_empty() { ADMIN.parse() } else { text.parse() }
}

fn control(text: &str) -> Result<At, Infallible> {
    if text.is_empty() { CONTROL.parse() } else { text.parse() }
}
