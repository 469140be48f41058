//! A machine of the test's own for podman: pid, mount and network namespaces, whose first process ends when the test does.
//!
//! podman keeps a good deal in places of its own choice (`/run/netns`, `/run/libpod`, lock files, overlay mounts, processes that
//! outlive it). Here all of them are in namespaces that the kernel takes apart when their first process has ended, however the test
//! ended: it waits for the end of a pipe that only the test holds.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Once;

use crate::net::Namespace;
use crate::scratch::Scratch;
use crate::{process, programs, wait};

const PURPOSE: &str = "machine";
/// Where the runtime leaves a copy of each container's configuration.
const BUNDLES: &str = "bundles";
const CGROUPS: &str = "/sys/fs/cgroup";

pub(super) struct Machine {
    /// `unshare`, which ends when the first process has, and with it all others.
    outside: Child,
    /// The first process, as this machine counts.
    pid: String,
    /// Its folder outside, which goes with it.
    pub(super) scratch: Scratch,
}

impl Machine {
    /// Starts it in this network namespace.
    pub(super) fn start(network: &Namespace) -> Machine {
        static SWEEP: Once = Once::new();
        SWEEP.call_once(sweep);
        let scratch = Scratch::new(PURPOSE);
        let runtime =
            scratch.write("runtime", fs::read(programs::path("pods/runtime")).expect("a file of ours"));
        fs::set_permissions(&runtime, fs::Permissions::from_mode(0o755)).expect("a file of our own");
        fs::create_dir(scratch.path().join(BUNDLES)).expect("a folder of our own");
        let outside = Command::new("nsenter")
            .arg(format!("--net={}", network.path().display()))
            .args(["unshare", "--mount", "--pid", "--fork", "--kill-child"])
            .arg(programs::path("pods/machine"))
            .arg(scratch.path())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("nsenter: {e}; run scripts/setup"));
        let mut machine = Machine { outside, pid: String::new(), scratch };
        machine.pid = wait::until_some("the machine for podman is ready", wait::SOON, || {
            let ended = machine.outside.try_wait().expect("a child can be asked");
            assert!(ended.is_none(), "the machine for podman ended: {ended:?}; run scripts/setup");
            Some(fs::read_to_string(machine.scratch.path().join("pid")).ok()?.trim().to_owned())
        });
        machine
    }

    /// A command that will run on this machine, and is ended when it is stuck.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("timeout");
        command.arg("--kill-after=1").arg(process::STUCK_SECONDS.to_string());
        command.args(["nsenter", "--target", &self.pid, "--mount", "--pid", "--net", program]);
        command
    }

    /// What was handed to runc for each container.
    pub(super) fn bundles(&self) -> Vec<serde_json::Value> {
        let folder = fs::read_dir(self.scratch.path().join(BUNDLES)).expect("a folder of our own");
        let read = |path: PathBuf| serde_json::from_slice(&fs::read(path).ok()?).ok();
        folder.flatten().filter_map(|entry| read(entry.path())).collect()
    }

    /// Where a path of this machine is outside of it.
    pub(super) fn outside(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.pid))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.outside.stdin.take());
        let _ = self.outside.wait();
        remove_cgroups(self.scratch.path());
    }
}

/// Removes the cgroups of machines that were killed, and their folders.
fn sweep() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        let rest =
            name.strip_prefix("dragoman-").and_then(|rest| rest.strip_prefix(PURPOSE)?.strip_prefix('-'));
        let owner = rest.and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            remove_cgroups(&entry.path());
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Removes the empty cgroups that the runtime noted in this folder. Nothing here panics: it runs while tests fail.
fn remove_cgroups(folder: &Path) {
    let noted = fs::read_to_string(folder.join("cgroups")).unwrap_or_default();
    // Each container's is in one of its pod's, where podman has further ones.
    let pods: std::collections::BTreeSet<_> =
        noted.lines().filter_map(|path| Path::new(path).parent()).collect();
    let hierarchies = fs::read_dir(CGROUPS).into_iter().flatten().flatten().map(|entry| entry.path());
    for hierarchy in hierarchies.chain([PathBuf::from(CGROUPS)]) {
        for pod in pods.iter().filter(|pod| pod.components().count() > 1) {
            remove_empty(&hierarchy.join(pod.strip_prefix("/").unwrap_or(pod)));
        }
    }
}

fn remove_empty(cgroup: &Path) {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    let _ = fs::remove_dir(cgroup);
}
