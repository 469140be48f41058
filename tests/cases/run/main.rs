//! `dragoman run` by an ordinary user: what the command does is as without, every connection of it is seen, and nothing
//! stays.
//!
//! The host of these tests is namespace A, and the user one of this test's own, whom no file names.

mod ends;
mod forbidden;
mod loopback;
mod names;
mod programs;
mod table;
mod terminal;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use dragoman_harness::scratch::Scratch;
use dragoman_harness::{Net, binaries, process};
use serde_json::Value;

/// Root's may name folders that are closed to others.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

/// An ordinary user, with a home and without a name.
struct User {
    uid: u32,
    home: Scratch,
    dragoman: PathBuf,
}

impl User {
    fn new() -> User {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // No other test that runs at the same time has it: so its processes can be told from all others.
        let uid = 1_000_000 + std::process::id() * 64 + COUNT.fetch_add(1, Ordering::Relaxed);
        let home = Scratch::new("run");
        chown(home.path(), Some(uid), Some(uid)).unwrap();
        let dragoman = within_reach(&binaries::dragoman(), uid, &home);
        User { uid, home, dragoman }
    }

    /// A program that this user runs in A, ended when it is stuck.
    fn runs(&self, net: &Net, program: impl AsRef<Path>) -> Command {
        let mut command = net.app.bounded("setpriv");
        as_user(&mut command, self.uid).arg(program.as_ref());
        command
            .env("HOME", self.home.path())
            .env("LC_ALL", "C.UTF-8")
            .env("PATH", PATH)
            .current_dir(self.home.path());
        let ours = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("DRAGOMAN_"));
        ours.for_each(|(name, _)| {
            command.env_remove(name);
        });
        command
    }

    /// `dragoman run` by this user, with these arguments.
    fn run(&self, net: &Net, arguments: &[&str]) -> Command {
        let mut command = self.runs(net, &self.dragoman);
        command.arg("run").args(arguments);
        command
    }

    /// A configuration that writes the access log to this user's home.
    fn logging(&self) -> String {
        let file = self.log_file();
        let _ = fs::remove_file(&file);
        let text = format!("[log]\naccess = \"all\"\naccess_file = {:?}\n", file.display().to_string());
        self.home.write("log.toml", text).display().to_string()
    }

    fn log_file(&self) -> PathBuf {
        self.home.path().join("access.log")
    }

    /// Where the flows of the last run went, sorted: all is written when it has ended.
    fn destinations(&self) -> Vec<SocketAddr> {
        let text = fs::read_to_string(self.log_file()).unwrap();
        let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let flows = records.filter(|record| record["kind"] == "flow");
        let mut met: Vec<SocketAddr> =
            flows.map(|flow| flow["original_dst"].as_str().unwrap().parse().unwrap()).collect();
        met.sort_unstable();
        met
    }

    /// The processes of this user, by what they are.
    fn processes(&self) -> Vec<String> {
        let of_user = |pid: PathBuf| {
            let status = fs::read_to_string(pid.join("status")).ok()?;
            let uid = format!("Uid:\t{}\t", self.uid);
            status.contains(&uid).then(|| status.lines().take(3).collect::<Vec<_>>().join(" "))
        };
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| of_user(entry.path())).collect()
    }
}

/// Whoever runs the tests may have them ignore signals (nohup, a background job), which a shell could then not trap.
fn as_user(command: &mut Command, uid: u32) -> &mut Command {
    command.args([format!("--reuid={uid}"), format!("--regid={uid}"), "--clear-groups".to_owned()]);
    command.args(["env", "--default-signal"])
}

/// The program, or a copy where the folder that it was built in is closed to others.
fn within_reach(program: &Path, uid: u32, home: &Scratch) -> PathBuf {
    let mut test = Command::new("setpriv");
    as_user(&mut test, uid).args(["test", "-x"]).arg(program);
    if process::output(&mut test).status.success() {
        return program.to_owned();
    }
    let copy = home.path().join("dragoman");
    process::copy(program, &copy);
    copy
}

/// Exit code (128 + n where signal n was the end), standard output and standard error.
fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().or_else(|| output.status.signal().map(|signal| 128 + signal));
    (code, text(&output.stdout), text(&output.stderr))
}

/// The same of a command that is run to its end.
fn says(command: &mut Command) -> (Option<i32>, String, String) {
    said(&process::output(command))
}
