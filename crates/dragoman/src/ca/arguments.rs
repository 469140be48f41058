//! The command line of `dragoman ca`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::names::{self, Names};

/// A small certificate authority for development and tests: it makes, renews and rotates identities
///
/// Its key lies in a file, nothing can be revoked, and nobody is asked who he is: it is not for production, and its name
/// says so wherever it is seen. There, cert-manager, SPIRE and Vault write the same files (docs/identity.md).
///
/// An identity is a directory with three files in PEM: tls.crt (the certificate), tls.key (its private key, readable by its
/// owner alone) and ca.crt (what the other side has to trust). What is written belongs to the owner of the directory.
#[derive(Args, Debug)]
#[command(after_help = CA_EXAMPLES, disable_help_subcommand = true)]
pub(crate) struct CaArguments {
    #[command(subcommand)]
    pub(crate) command: CaCommand,
}

const CA_EXAMPLES: &str = "\
Examples:
  dragoman ca init
  dragoman ca issue --dns payments --dns payments.shop.test --out payments
  dragoman ca issue --spiffe spiffe://shop.test/ns/web --out web
  dragoman ca watch payments web                      renews both, until it is ended

In a configuration:
  [identity]
  certificate = \"/home/me/web/tls.crt\"
  key = \"/home/me/web/tls.key\"

Exit code: 0 success, 1 something was refused (it says what), 2 the command line is wrong.";

#[derive(Debug, Subcommand)]
pub(crate) enum CaCommand {
    Init(InitArguments),
    Issue(IssueArguments),
    Renew(RenewArguments),
    Watch(WatchArguments),
}

/// Which authority
#[derive(Args, Debug)]
pub(crate) struct Which {
    /// The directory of the authority
    #[arg(long, value_name = "DIR", default_value = "dragoman-ca", env = "DRAGOMAN_CA")]
    pub(crate) ca: PathBuf,
}

/// Make an authority: a key and a certificate that others trust
#[derive(Args, Debug)]
#[command(after_help = INIT_EXAMPLES)]
pub(crate) struct InitArguments {
    #[command(flatten)]
    pub(crate) which: Which,
    /// How long it is valid
    #[arg(long, value_name = "TIME", default_value = "365d", value_parser = life)]
    pub(crate) life: Duration,
    /// Let it sign only this domain and names below it; may be given many times. IP addresses are then limited to those of
    /// private networks and loopback; SPIFFE IDs are not limited
    #[arg(long, value_name = "DOMAIN", value_parser = names::domain)]
    pub(crate) permit: Vec<String>,
    /// Replace the authority that is there; what it has issued is then trusted no more
    #[arg(long)]
    pub(crate) force: bool,
}

const INIT_EXAMPLES: &str = "\
Examples:
  dragoman ca init
  dragoman ca init --ca ~/dev-ca --life 30d
  dragoman ca init --permit shop.test                 safe to have in a list of trusted roots";

/// Make an identity: a new key, and a certificate for these names
#[derive(Args, Debug)]
#[command(after_help = ISSUE_EXAMPLES)]
pub(crate) struct IssueArguments {
    #[command(flatten)]
    pub(crate) named: Named,
    /// The directory to write tls.crt, tls.key and ca.crt into; it is made if it is not there
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// How long it is valid
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = life)]
    pub(crate) life: Duration,
    /// Replace the identity that is there
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) which: Which,
}

const ISSUE_EXAMPLES: &str = "\
Examples:
  dragoman ca issue --dns payments --dns '*.payments.test' --ip 127.0.0.1 --out payments
  dragoman ca issue --spiffe spiffe://shop.test/ns/web --life 1h --out web";

/// What a certificate is for; at least one of them
#[derive(Args, Debug)]
#[group(required = true, multiple = true)]
pub(crate) struct Named {
    /// A DNS name, or `*.DOMAIN`; may be given many times
    #[arg(long, value_name = "NAME", value_parser = names::dns)]
    dns: Vec<String>,
    /// A SPIFFE ID
    #[arg(long, value_name = "ID", value_parser = names::spiffe)]
    spiffe: Option<String>,
    /// An IP address; may be given many times
    #[arg(long, value_name = "IP")]
    ip: Vec<IpAddr>,
}

impl Named {
    pub(crate) fn names(&self) -> Names {
        Names { dns: self.dns.clone(), spiffe: self.spiffe.clone(), ips: self.ip.clone() }
    }
}

/// Give identities a new key and certificate: same names, and valid for as long as before
#[derive(Args, Debug)]
#[command(after_help = RENEW_EXAMPLES)]
pub(crate) struct RenewArguments {
    /// Directories that `dragoman ca issue` has written
    #[arg(value_name = "DIR", required = true)]
    pub(crate) directories: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) which: Which,
}

const RENEW_EXAMPLES: &str = "\
Examples:
  dragoman ca renew payments web";

/// Renew identities when two thirds of their life are over, until SIGTERM or SIGINT
///
/// Says on stderr what it does. What cannot be renewed is tried again; what is wrong at the start ends it with 1.
#[derive(Args, Debug)]
#[command(after_help = WATCH_EXAMPLES)]
pub(crate) struct WatchArguments {
    /// Directories that `dragoman ca issue` has written
    #[arg(value_name = "DIR", required = true)]
    pub(crate) directories: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) which: Which,
}

const WATCH_EXAMPLES: &str = "\
Examples:
  dragoman ca watch payments web
  dragoman ca issue --dns web --life 1m --out web && dragoman ca watch web    to see rotation";

/// The longest life, in seconds: ten years.
const LIFE_MAX: u64 = 10 * 365 * 24 * 3600;

/// Days, or what `dragoman` takes as a duration elsewhere; in whole seconds, as certificates have them.
fn life(text: &str) -> Result<Duration, &'static str> {
    let days = text.strip_suffix('d').and_then(|days| days.parse().ok());
    let days = days.map(|days: u64| Duration::from_secs(days.saturating_mul(24 * 3600)));
    let life = days.or_else(|| dragoman_config::duration(text));
    let life = life.ok_or("write an integer and a unit: 365d, 24h or 1h30m")?;
    match life.as_secs() {
        0 => Err("at least one second"),
        seconds if seconds > LIFE_MAX => Err("at most 3650d"),
        seconds => Ok(Duration::from_secs(seconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_of_days_or_less() {
        assert_eq!(life("2d"), Ok(Duration::from_secs(172_800)));
        assert_eq!(life("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(life("1500ms"), Ok(Duration::from_secs(1)));
        for wrong in ["", "d", "1", "-1d", "1.5d", "0d", "0s", "999ms", "3651d", "99999999999999999999d"] {
            assert!(life(wrong).is_err(), "{wrong}");
        }
    }
}
