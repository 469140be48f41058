//! Pods without a cluster: `podman kube play` runs the manifests that a cluster would run, on a machine of the test's own.
//!
//! [`Node`] is that machine. [`Pod`] is what it plays: its containers are asked, signalled and compared by their names in
//! the manifest.

mod images;
mod machine;
mod pod;

use std::path::PathBuf;
use std::process::{Command, Output};

use crate::binaries;
use crate::net::{Namespace, Net};
use crate::process::{self, Process};
use crate::scratch::Scratch;
use machine::Machine;

pub use images::{APP, DRAGOMAN};
pub use pod::Pod;

/// A machine that runs pods, and servers beside it. Everything of it ends with this value, and with the test's process.
pub struct Node {
    machine: Machine,
    scratch: Scratch,
    // After the machine, which lives in it.
    net: Net,
}

impl Node {
    /// Starts the machine, with the images of [`APP`] and [`DRAGOMAN`].
    #[expect(clippy::new_without_default, reason = "starting a machine is no default")]
    pub fn new() -> Node {
        let net = Net::with_bridge();
        let node = Node { machine: Machine::start(&net.app), scratch: Scratch::new("node"), net };
        images::load(&node);
        node
    }

    /// The namespace of the servers. They have the addresses of [`crate::net`], and see each pod's own.
    pub fn servers(&self) -> &Namespace {
        &self.net.servers
    }

    /// A file of this node's own.
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        self.scratch.write(name, content)
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

    /// Adds an image under a name that manifests have.
    pub fn tag(&self, image: &str, name: &str) {
        self.ask(&["tag", image, name]);
    }

    /// What `dragoman inject` makes of a manifest for this podman, which knows neither native sidecars nor a use of probes
    /// without a shell in the image; with further options.
    pub fn inject(&self, manifest: &str, options: &[&str]) -> String {
        let mut command = Command::new(binaries::dragoman());
        let file = self.write("given.yaml", manifest);
        command.args(["inject", "--quiet", "--native-sidecar=false", "--image", DRAGOMAN, "-f"]).arg(file);
        process::succeed(command.args(options))
    }

    /// Plays a manifest with one pod, and returns when its init containers have ended and all others are started.
    pub fn play(&self, manifest: &str) -> Pod<'_> {
        let out = self.try_play(manifest);
        assert!(out.status.success(), "podman kube play: {}\n{manifest}\n{}", process::text(&out), self.told());
        Pod::of_playing(self, &String::from_utf8_lossy(&out.stdout))
    }

    /// Plays a manifest, or says why not.
    pub fn try_play(&self, manifest: &str) -> Output {
        process::output(&mut self.playing("played.yaml", manifest))
    }

    /// Begins to play a manifest whose init containers a test wants to look at.
    pub fn begin_to_play(&self, manifest: &str) -> Process {
        let log = self.scratch.path().join("play.log");
        Process::start("podman kube play", &mut self.playing("begun.yaml", manifest), &log, None)
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
            told += &format!("--- {name}\n{}", process::text(&process::output(&mut self.podman(&["logs", name]))));
        }
        told
    }
}
