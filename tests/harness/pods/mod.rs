//! Pods without a cluster: `podman kube play` runs the manifests that a cluster would run, on a machine of the test's own.
//!
//! [`Node`] is that machine. [`Pod`] is what it plays: its containers are asked, signalled and compared by their names in
//! the manifest.

mod images;
mod machine;
mod pod;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::binaries;
use crate::net::{Namespace, Net};
use crate::process::{self, Process};
use crate::wait;
use machine::Machine;

pub use images::{APP, DRAGOMAN};
pub use pod::Pod;

/// A machine that runs pods, and servers beside it. Everything of it ends with this value, and with the test's process.
pub struct Node {
    machine: Machine,
    // After the machine, which lives in it.
    net: Net,
}

impl Node {
    /// Starts the machine, with the images of [`APP`] and [`DRAGOMAN`].
    #[expect(clippy::new_without_default, reason = "starting a machine is no default")]
    pub fn new() -> Node {
        let net = Net::with_bridge();
        let node = Node { machine: Machine::start(&net.app), net };
        images::load(&node);
        node
    }

    /// The namespace of the servers. They have the addresses of [`crate::net`], and see each pod's own.
    pub fn servers(&self) -> &Namespace {
        &self.net.servers
    }

    /// The node's own namespace, from where kubelet asks a pod.
    pub fn namespace(&self) -> &Namespace {
        &self.net.app
    }

    /// A file of this node's own.
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        self.machine.scratch.write(name, content)
    }

    /// A folder of this node's own.
    pub fn folder(&self, name: &str) -> PathBuf {
        let folder = self.machine.scratch.path().join(name);
        fs::create_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        folder
    }

    /// A shell on the node, not started yet: what a user would do there.
    pub fn shell(&self) -> Command {
        self.machine.command("sh")
    }

    /// `podman`, not started yet.
    pub fn podman(&self, arguments: &[&str]) -> Command {
        let mut command = self.machine.command("podman");
        command.args(arguments);
        command
    }

    /// Runs `podman`, which must succeed, and returns its standard output.
    pub fn ask(&self, arguments: &[&str]) -> String {
        process::succeed(&mut self.podman(arguments))
    }

    /// Adds an image as [`APP`] is, with further programs of this machine in it.
    pub fn add_image(&self, name: &str, programs: &[&str]) {
        images::app(self, name, programs);
    }

    /// Gives an image a further name, which a manifest has.
    pub fn tag(&self, image: &str, name: &str) {
        self.ask(&["tag", image, name]);
    }

    /// What `dragoman inject` makes of a manifest for this podman, with further options. podman 4.3 does not know native
    /// sidecars, has probes run by a shell of the image, and would restart init containers for ever where the policy is to
    /// restart always.
    pub fn inject(&self, manifest: &str, options: &[&str]) -> String {
        let mut command = Command::new(binaries::dragoman());
        let file = self.write("given.yaml", manifest);
        command
            .args(["inject", "--quiet", "--native-sidecar=false", "--probes=none", "--image", DRAGOMAN, "-f"])
            .arg(file);
        process::succeed(command.args(options)).replace("restartPolicy: Always", "restartPolicy: Never")
    }

    /// Plays a manifest with one pod, and returns when its init containers have ended and all others are started.
    pub fn play(&self, manifest: &str) -> Pod<'_> {
        let out = self.try_play(manifest);
        assert!(
            out.status.success(),
            "podman kube play: {}\n{manifest}\n{}",
            process::text(&out),
            self.told()
        );
        let told = String::from_utf8_lossy(&out.stdout);
        let id = told
            .lines()
            .skip_while(|line| *line != "Pod:")
            .nth(1)
            .unwrap_or_else(|| panic!("no pod: {told}"));
        let name = self.ask(&["pod", "inspect", "--format", "{{.Name}}", id]);
        Pod::find(self, name.trim())
    }

    /// Plays a manifest, or says why not.
    pub fn try_play(&self, manifest: &str) -> Output {
        process::output(&mut self.playing("played.yaml", manifest))
    }

    /// Begins to play a manifest whose init containers a test wants to look at.
    pub fn begin_to_play(&self, manifest: &str) -> Process {
        let log = self.machine.scratch.path().join("play.log");
        Process::start("podman kube play", &mut self.playing("begun.yaml", manifest), &log, None)
    }

    /// Waits until a pod that is being played has its network.
    pub fn playing_pod(&self, playing: &mut Process, name: &str) -> Pod<'_> {
        let mut pod = Pod::find(self, name);
        playing.wait_ready(wait::SOON, || {
            if !pod.has_network() {
                pod = Pod::find(self, name);
            }
            pod.has_network()
        });
        pod
    }

    /// What was handed to the kernel for each container so far, also for those that have ended: OCI's `config.json`.
    pub fn bundles(&self) -> Vec<serde_json::Value> {
        self.machine.bundles()
    }

    fn playing(&self, file: &str, manifest: &str) -> Command {
        let file = self.write(file, manifest);
        let mut command = self.podman(&["kube", "play", "--network", "pods"]);
        command.arg(file);
        command
    }

    /// What all containers have said, for a message.
    fn told(&self) -> String {
        let list = process::output(&mut self.podman(&["ps", "--all", "--format", "{{.Names}} {{.Status}}"]));
        let mut told = process::text(&list);
        for name in String::from_utf8_lossy(&list.stdout).lines().filter_map(|line| line.split(' ').next()) {
            told += &format!(
                "--- {name}\n{}",
                process::text(&process::output(&mut self.podman(&["logs", name])))
            );
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use super::*;

    const POD: &str = "apiVersion: v1
kind: Pod
metadata:
  name: shop
spec:
  restartPolicy: Never
  containers:
    - name: app
      image: localhost/app:test
      imagePullPolicy: Never
      command: [sh, -c, 'echo said; exec sleep 600']
";

    #[test]
    fn a_pod_has_addresses_and_containers_and_nothing_of_it_is_left() {
        let node = Node::new();
        let pod = node.play(POD);
        assert_eq!(pod.wait_for("app", "said"), "said\n");
        let reached = node.servers().try_connect((pod.addresses()[1], 9).into());
        assert_eq!(reached.err().map(|e| e.kind()), Some(std::io::ErrorKind::ConnectionRefused));
        assert!(pod.exec("app", &["true"]).status.success());

        let locks = "/dev/shm/libpod_lock";
        let device = |path: &Path| fs::metadata(path).map(|data| data.dev()).ok();
        let own = device(&node.machine.outside(locks)).expect("podman keeps its locks there");
        assert_ne!(device(Path::new(locks)), Some(own), "locks are shared with this machine's podman");

        let cgroup =
            fs::read_to_string(pod.proc_path("app", "cgroup")).expect("a living process is in a cgroup");
        let deepest =
            cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2)).max_by_key(|path| path.len());
        let pod_cgroup = Path::new(deepest.expect("a cgroup")).parent().expect("a pod's").to_owned();
        let below = pod_cgroup.strip_prefix("/").expect("an absolute path").to_owned();
        let hierarchies =
            fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten().map(|entry| entry.path());
        let hierarchies = hierarchies.chain(["/sys/fs/cgroup".into()]);
        let mut made: Vec<_> =
            hierarchies.map(|path| path.join(&below)).filter(|path| path.exists()).collect();
        assert!(!made.is_empty(), "no cgroup {}", below.display());
        made.extend([node.machine.scratch.path().to_owned(), node.machine.outside("")]);
        drop(pod);
        drop(node);
        for path in made {
            assert!(!path.exists(), "{} is left", path.display());
        }
    }
}
