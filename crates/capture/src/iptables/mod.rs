//! iptables: the way where the kernel or its netlink cannot do what [`crate::netlink`] asks for.
//!
//! Its programs come with two back-ends, one over nf_tables and one over the older ip_tables, under names that tell
//! them apart, and under plain names with whichever one the system has chosen. Each is a way of its own.
//!
//! `iptables-restore` carries out one table of one version of IP at once. So a plan of two tables and two versions
//! goes in in four steps, and this module keeps "all or nothing" by undoing what came before a step that fails. A
//! kill between two steps can leave a part of the rules; to install again, or to remove, mends it.

mod content;
mod render;

use std::fmt::{Display, Formatter};
use std::io::{ErrorKind, Write};
use std::process::{Command, Output, Stdio};

use crate::Error;
use crate::netlink::{Family, Nftables};
use crate::plan::{IpVersion, Plan};
use content::Content;
pub(crate) use content::{CHAIN, INBOUND_CHAIN};

/// How long `iptables-restore` waits while another program holds the lock of ip_tables, in seconds.
const LOCK_SECONDS: &str = "5";
/// How much of a program's complaint an error repeats, in bytes.
const COMPLAINT_BYTES: usize = 300;
const VERSIONS: [IpVersion; 2] = [IpVersion::V4, IpVersion::V6];
/// Where the kernel names the ip_tables tables of this network namespace.
const LEGACY_TABLES: [&str; 2] = ["/proc/self/net/ip_tables_names", "/proc/self/net/ip6_tables_names"];
const TABLES: [&str; 2] = ["nat", "filter"];

/// The programs of iptables, by what they drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// `iptables-nft-restore`: nf_tables.
    Nft,
    /// `iptables-legacy-restore`: ip_tables.
    Legacy,
    /// `iptables-restore`: either.
    Unnamed,
}

impl Plan {
    /// The plan as text for both `iptables-restore --noflush` and `ip6tables-restore --noflush`, where nothing of
    /// dragoman's is installed yet.
    pub fn to_iptables(&self) -> String {
        Content::default().transition(&render::content(self))
    }
}

impl Backend {
    pub(crate) const ALL: [Backend; 3] = [Backend::Nft, Backend::Legacy, Backend::Unnamed];

    /// The back-ends that hold rules of dragoman's. Programs are only run where the kernel does not rule it out.
    pub(crate) fn installed(nftables: Option<&Nftables>) -> Result<Vec<Backend>, Error> {
        let nft = nftables.map_or(Ok(true), has_nft_chains)?;
        let legacy = has_legacy_tables();
        let possible = |backend: &Backend| match backend {
            Backend::Nft => nft,
            Backend::Legacy => legacy,
            Backend::Unnamed => nft || legacy,
        };
        let mut installed = Vec::new();
        for backend in Backend::ALL.into_iter().filter(possible) {
            let contents = VERSIONS.map(|version| backend.content(version).ok());
            // The plain names are those of a back-end that was asked already, unless it has no other name here.
            let is_new = backend != Backend::Unnamed || installed.is_empty();
            if is_new && contents.iter().flatten().any(|content| !content.is_empty()) {
                installed.push(backend);
            }
        }
        Ok(installed)
    }

    /// Makes the plan what dragoman has in iptables, for both versions of IP or for none.
    ///
    /// # Errors
    /// [`Error::Iptables`] with nothing changed, or [`Error::HalfDone`].
    pub(crate) fn replace(self, plan: &Plan) -> Result<(), Error> {
        let wanted = render::content(plan);
        let nothing = Content::default();
        self.change(|version| if plan.versions().contains(&version) { &wanted } else { &nothing })
    }

    /// Takes all that is dragoman's out of iptables.
    ///
    /// # Errors
    /// As for [`Backend::replace`].
    pub(crate) fn remove(self) -> Result<(), Error> {
        let nothing = Content::default();
        self.change(|_| &nothing)
    }

    /// Whether dragoman has rules for IPv6 here.
    pub(crate) fn has_ipv6(self) -> bool {
        self.content(IpVersion::V6).is_ok_and(|content| !content.is_empty())
    }

    fn change<'a>(self, wanted: impl Fn(IpVersion) -> &'a Content) -> Result<(), Error> {
        let mut before = Vec::new();
        for version in VERSIONS {
            let wanted = wanted(version);
            let step = match self.content(version) {
                Ok(now) if now.is_empty() && wanted.is_empty() => continue,
                // Without the program there is nothing to be taken out.
                Err(_) if wanted.is_empty() => continue,
                Ok(now) => {
                    let text = now.transition(wanted);
                    before.push((version, now));
                    self.restore(version, &text)
                }
                Err(error) => Err(error),
            };
            step.map_err(|error| self.undo(&before, error))?;
        }
        Ok(())
    }

    /// Restores what was there before, newest first, and returns what to say of `error`.
    fn undo(self, before: &[(IpVersion, Content)], error: Error) -> Error {
        for (version, before) in before.iter().rev() {
            let undone = self.content(*version).and_then(|now| {
                if now == *before { Ok(()) } else { self.restore(*version, &now.transition(before)) }
            });
            if let Err(undoing) = undone {
                return Error::HalfDone { error: Box::new(error), undoing: Box::new(undoing) };
            }
        }
        error
    }

    fn content(self, version: IpVersion) -> Result<Content, Error> {
        let saved = run(Command::new(self.program(version, "save")), "")?;
        Ok(Content::parse(&saved))
    }

    fn restore(self, version: IpVersion, text: &str) -> Result<(), Error> {
        let mut command = Command::new(self.program(version, "restore"));
        command.arg("--noflush");
        // The programs that have no other name may be too old (before 1.6.2) to know of the lock.
        if self != Backend::Unnamed {
            command.args(["--wait", LOCK_SECONDS]);
        }
        run(command, text).map(drop)
    }

    fn program(self, version: IpVersion, verb: &str) -> String {
        let prefix = match version {
            IpVersion::V4 => "iptables",
            IpVersion::V6 => "ip6tables",
        };
        let backend = match self {
            Backend::Nft => "-nft",
            Backend::Legacy => "-legacy",
            Backend::Unnamed => "",
        };
        format!("{prefix}{backend}-{verb}")
    }
}

impl Display for Backend {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.program(IpVersion::V4, "restore"))
    }
}

fn has_nft_chains(nftables: &Nftables) -> Result<bool, Error> {
    for family in [Family::Ip, Family::Ip6] {
        for table in TABLES {
            if nftables.has_chain(family, table, CHAIN)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// A kernel that has no such file has no ip_tables; one that does not let it be read may have.
fn has_legacy_tables() -> bool {
    LEGACY_TABLES.iter().any(|path| match std::fs::read_to_string(path) {
        Ok(names) => names.lines().any(|name| TABLES.contains(&name)),
        Err(error) => error.kind() != ErrorKind::NotFound,
    })
}

/// Runs a program of iptables to its end with `input`, and returns what it printed.
fn run(mut command: Command, input: &str) -> Result<String, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |what: &dyn Display| Error::Iptables(format!("{program}: {what}"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = command.spawn().and_then(|mut child| {
        if let Some(mut stdin) = child.stdin.take() {
            // One that ends before it has read all says why in its own words.
            let _ = stdin.write_all(input.as_bytes());
        }
        child.wait_with_output()
    });
    match output {
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => Err(failed(&complaint(&output))),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(failed(&"not in PATH")),
        Err(error) => Err(failed(&error)),
    }
}

/// What the program said, in one line.
fn complaint(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let mut text = lines.join("; ");
    if text.is_empty() {
        text = output.status.to_string();
    }
    let end = (0..=COMPLAINT_BYTES.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests;
