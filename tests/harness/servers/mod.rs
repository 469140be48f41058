//! Real servers in namespace S, each started on demand in a directory of its own, on every address of S.
//!
//! Whether one is ready is asked of the kernel of S (`ss -ltn`), never by a connection: an interceptor
//! accepts before the server does.

mod database;
mod names;
mod shell;
mod tls;
mod web;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub use database::{mariadb, postgres, postgres_with_tls, redis};
pub use names::dnsmasq;
pub use shell::{SshServer, git_daemon, ssh};
pub use tls::{java_with_tls, nginx_with_tls, redis_with_tls, s_server, stunnel};
pub use web::{nghttpd, nginx};

use crate::net::Namespace;
use crate::process::{self, Process};
use crate::scratch::Scratch;

/// Starting a database on two busy cores takes seconds.
const START: Duration = Duration::from_secs(60);

/// A running server. It ends when dropped.
pub struct Server {
    process: Process,
    scratch: Scratch,
    port: u16,
}

impl Server {
    fn start(
        namespace: &Namespace,
        name: &str,
        command: &mut Command,
        port: u16,
        scratch: Scratch,
    ) -> Server {
        let log = scratch.path().join("server.log");
        let mut process = Process::start(name, command, &log, None);
        process.wait_ready(START, || namespace.listens(port));
        Server { process, scratch, port }
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its files.
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// Its own log so far.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

/// Makes a self-signed certificate for a name: the files `cert` and `key`.
pub fn self_signed(scratch: &Scratch, name: &str) {
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]);
    openssl.args(["-subj", &format!("/CN={name}"), "-addext", &format!("subjectAltName=DNS:{name}")]);
    openssl.arg("-keyout").arg(scratch.path().join("key")).arg("-out").arg(scratch.path().join("cert"));
    process::succeed(&mut openssl);
}

/// A command that runs as a user who is not root, as some servers demand.
fn as_user(command: &mut Command, user: &str, program: &Path) {
    command.args(["--reuid", user, "--regid", user, "--init-groups"]).arg(program);
}

/// The newest version of a program in Debian's versioned folders, such as `/usr/lib/postgresql/15/bin`.
fn newest(parent: &str, rest: &str) -> PathBuf {
    let entries = fs::read_dir(parent).unwrap_or_else(|e| panic!("{parent}: {e}; run scripts/setup"));
    let mut found: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path().join(rest))).collect();
    found.retain(|path| path.exists());
    found.sort();
    found.pop().unwrap_or_else(|| panic!("no {parent}/*/{rest}: run scripts/setup"))
}
