//! sshd and the git daemon.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::{fs, io};

use super::Server;
use crate::net::Namespace;
use crate::process;
use crate::scratch::Scratch;

/// A running sshd and what a client needs to log in to it.
pub struct SshServer {
    /// The server.
    pub server: Server,
    /// The private key that may log in as root.
    pub key: PathBuf,
}

/// sshd on port 22 that lets root in with a key of this test's own.
pub fn ssh(namespace: &Namespace) -> SshServer {
    const PORT: u16 = 22;
    // Debian's sshd insists on its privilege separation directory.
    match fs::create_dir("/run/sshd") {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => panic!("/run/sshd: {e}"),
        _ => {}
    }
    let scratch = Scratch::new("sshd");
    let (host, key) = (scratch.path().join("host"), scratch.path().join("client"));
    for file in [&host, &key] {
        process::succeed(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(file));
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("root owns the key");
    }
    let directory = scratch.path().display();
    let configuration = scratch.write(
        "sshd_config",
        format!(
            "Port {PORT}\nHostKey {directory}/host\nPidFile none\nUsePAM no\nStrictModes no\n\
             AuthorizedKeysFile {directory}/client.pub\nPermitRootLogin prohibit-password\nUseDNS no\n"
        ),
    );
    let mut command = namespace.command("/usr/sbin/sshd");
    command.args(["-D", "-e", "-f"]).arg(configuration);
    SshServer { server: Server::start(namespace, "sshd", &mut command, PORT, scratch), key }
}

/// The git daemon over one bare repository, `<directory>/repository.git`, with one commit of `files`.
pub fn git_daemon(namespace: &Namespace, files: &[(&str, &[u8])]) -> Server {
    const PORT: u16 = 9418;
    let scratch = Scratch::new("git");
    let work = scratch.path().join("work");
    fs::create_dir(&work).expect("the scratch directory takes folders");
    for (name, content) in files {
        fs::write(work.join(name), content).expect("the work tree takes files");
    }
    let bare = scratch.path().join("repository.git");
    let git = || {
        let mut git = Command::new("git");
        git.args([
            "-c",
            "user.name=A Tester",
            "-c",
            "user.email=tester@example.org",
            "-c",
            "commit.gpgsign=false",
        ]);
        git
    };
    process::succeed(git().args(["init", "--quiet", "--initial-branch=main"]).arg(&work));
    process::succeed(git().arg("-C").arg(&work).args(["add", "."]));
    process::succeed(git().arg("-C").arg(&work).args(["commit", "--quiet", "-m", "Add the files"]));
    process::succeed(git().args(["clone", "--quiet", "--bare"]).arg(&work).arg(&bare));
    process::succeed(git().arg("-C").arg(&bare).arg("update-server-info"));
    let mut command = namespace.command("git");
    command.args(["daemon", "--reuseaddr", "--export-all", "--verbose"]);
    command.arg(format!("--base-path={}", scratch.path().display())).arg(scratch.path());
    Server::start(namespace, "git daemon", &mut command, PORT, scratch)
}
