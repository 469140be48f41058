//! A pod that podman plays: what its containers say, how they end, and its network namespace.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Node;
use crate::dragoman::Record;
use crate::metrics::Metrics;
use crate::net::Namespace;
use crate::peer::Message;
use crate::{process, wait};

/// How long a pod may take for something: podman starts several processes for each step, and they share two cores with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where podman names network namespaces.
const NETNS: &str = "/run/netns/";

/// A pod. Containers are named as in the manifest.
pub struct Pod<'n> {
    node: &'n Node,
    name: String,
    network: Option<Network>,
}

struct Network {
    namespace: Namespace,
    addresses: [IpAddr; 2],
}

impl Network {
    /// Finds what podman made for a pod. podman itself would not answer before all init containers have ended.
    fn find(node: &Node, pod: &str) -> Option<Network> {
        let bundles = node.bundles();
        let own = bundles.iter().filter(|bundle| bundle["hostname"] == pod);
        let namespaces = own.filter_map(|bundle| bundle["linux"]["namespaces"].as_array()).flatten();
        // The first container of a pod is handed a namespace that is made; the others join it.
        let named =
            namespaces.filter_map(|each| each["path"].as_str()).filter(|path| path.starts_with(NETNS));
        // Those of former pods of this name are no more.
        let namespace = named.filter_map(|path| Namespace::adopt(&node.machine.outside(path))).next()?;
        let told = json(&namespace.succeed("ip -json address show scope global"));
        let all = told
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|device| device["addr_info"].as_array())
            .flatten();
        let all: Vec<_> = all.collect();
        let address =
            |family: &str| text(&all.iter().find(|each| each["family"] == family)?["local"]).parse().ok();
        let addresses = [address("inet")?, address("inet6")?];
        Some(Network { namespace, addresses })
    }
}

impl<'n> Pod<'n> {
    /// The pod of that name, with its network if that is there: not before its first container, nor after its last.
    pub(super) fn find(node: &'n Node, name: &str) -> Pod<'n> {
        Pod { node, name: name.to_owned(), network: Network::find(node, name) }
    }

    /// Whether it has its network.
    pub(super) fn has_network(&self) -> bool {
        self.network.is_some()
    }

    /// Its address over IPv4, then over IPv6.
    pub fn addresses(&self) -> [IpAddr; 2] {
        self.network().addresses
    }

    /// Its network namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.network().namespace
    }

    fn network(&self) -> &Network {
        self.network
            .as_ref()
            .unwrap_or_else(|| panic!("the pod has no network, or had ended: {}", self.node.told()))
    }

    /// What podman calls a container.
    pub fn container(&self, container: &str) -> String {
        format!("{}-{container}", self.name)
    }

    /// All that podman knows about a container.
    pub fn inspect(&self, container: &str) -> Value {
        json(&self.node.ask(&["inspect", &self.container(container)]))[0].take()
    }

    /// What a container has written so far, on both outputs.
    pub fn log(&self, container: &str) -> String {
        process::text(&process::output(&mut self.node.podman(&["logs", &self.container(container)])))
    }

    /// What a container has written so far on its standard output.
    pub fn output(&self, container: &str) -> String {
        self.node.ask(&["logs", &self.container(container)])
    }

    /// Waits until a container has written a line that begins so, and returns all that it wrote to its standard output.
    pub fn wait_for(&self, container: &str, line: &str) -> String {
        let what = format!("{container} writes {line:?}");
        let look =
            || Some(self.output(container)).filter(|all| all.lines().any(|each| each.starts_with(line)));
        self.unless_lost(&what, look)
    }

    /// Waits for the end of a container, and returns its exit code.
    pub fn end(&self, container: &str) -> i64 {
        let look = || {
            let state = self.inspect(container)["State"].take();
            (state["Status"] == "exited")
                .then(|| state["ExitCode"].as_i64().expect("an exit code is a number"))
        };
        self.unless_lost(&format!("the end of {container}"), look)
    }

    /// Runs a program in a container to its end.
    pub fn exec(&self, container: &str, command: &[&str]) -> Output {
        process::output(self.node.podman(&["exec", &self.container(container)]).args(command))
    }

    /// Sends a signal to the first process of a container.
    pub fn signal(&self, container: &str, signal: &str) {
        self.node.ask(&["kill", "--signal", signal, &self.container(container)]);
    }

    /// Starts a container again that has ended.
    pub fn start(&self, container: &str) {
        self.node.ask(&["start", &self.container(container)]);
    }

    /// Ends these containers as a kubelet does when the pod is deleted: SIGTERM to all at once, SIGKILL after the grace, and the
    /// pod's network after the last of them. `podman pod stop` would take the network from them first.
    pub fn stop(&self, grace_seconds: u32, containers: &[&str]) {
        let names: Vec<_> = containers.iter().map(|container| self.container(container)).collect();
        let mut command = self.node.podman(&["stop", "--time", &grace_seconds.to_string()]);
        process::succeed(command.args(names));
    }

    /// Asks the sidecar's admin surface from inside of the pod.
    pub fn admin(&self, path: &str) -> Option<Message> {
        let at = SocketAddr::from(([127, 0, 0, 1], 15020));
        let mut peer = self.namespace().try_connect(at).ok()?;
        peer.exchange(format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n")).ok()
    }

    /// Waits until the sidecar is ready.
    pub fn ready(&self) {
        self.unless_lost("the sidecar is ready", || {
            self.admin("/ready").filter(|answer| answer.status() == 200)
        });
    }

    /// Scrapes `/metrics` of the sidecar.
    pub fn metrics(&self) -> Metrics {
        let answer =
            self.admin("/metrics").unwrap_or_else(|| panic!("no /metrics:\n{}", self.log("dragoman")));
        Metrics::parse(&answer.text())
    }

    /// Waits until `/metrics` satisfies a condition.
    pub fn metrics_where(&self, what: &str, condition: impl Fn(&Metrics) -> bool) {
        self.unless_lost(what, || condition(&self.metrics()).then_some(()));
    }

    /// Waits for `n` lines of the sidecar's access log that satisfy a condition, and returns them.
    pub fn records_where(&self, n: usize, condition: impl Fn(&Record) -> bool) -> Vec<Record> {
        self.unless_lost(&format!("{n} lines of the access log"), || {
            let out = self.output("dragoman");
            let records = out.lines().filter_map(|line| serde_json::from_str::<Record>(line).ok());
            Some(records.filter(|record| condition(record)).collect::<Vec<_>>())
                .filter(|found| found.len() >= n)
        })
    }

    /// Waits for something, and says what all containers wrote if it does not come.
    pub fn unless_lost<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(Instant::now() < end, "waited in vain: {what}\n{}", self.node.told());
            wait::pause(Duration::from_millis(50));
        }
    }

    /// The folder that a container has mounted there, on the test's own machine.
    pub fn mounted(&self, container: &str, path: &str) -> PathBuf {
        let mounts = self.inspect(container)["Mounts"].take();
        let mount = mounts.as_array().into_iter().flatten().find(|mount| mount["Destination"] == path);
        let mount = mount.unwrap_or_else(|| panic!("{container} has nothing mounted at {path}: {mounts:#}"));
        self.node.machine.outside(text(&mount["Source"]))
    }

    /// A file of a container's first process below `/proc`, such as `status`.
    pub fn proc(&self, container: &str, file: &str) -> String {
        let path = self.proc_path(container, file);
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("{container}: {}: {e}", path.display()))
    }

    pub(super) fn proc_path(&self, container: &str, file: &str) -> PathBuf {
        let pid = self.inspect(container)["State"]["Pid"].take();
        self.node.machine.outside(&format!("/proc/{pid}/{file}"))
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("podman's JSON: {e}: {text}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}"))
}
