//! A pod that podman plays: what its containers say, how they end, and its network namespace.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use super::Node;
use crate::dragoman::Record;
use crate::metrics::Metrics;
use crate::net::Namespace;
use crate::peer::Message;
use crate::{process, wait};

/// A pod. Containers are named as in the manifest.
pub struct Pod<'n> {
    node: &'n Node,
    id: String,
    name: String,
    addresses: [IpAddr; 2],
    namespace: Namespace,
}

impl<'n> Pod<'n> {
    /// Finds the pod of which `podman kube play` told.
    pub(super) fn of_playing(node: &'n Node, told: &str) -> Pod<'n> {
        let mut lines = told.lines().skip_while(|line| *line != "Pod:").skip(1);
        let id = lines.next().unwrap_or_else(|| panic!("podman told of no pod: {told}"));
        Pod::find(node, id)
    }

    /// Finds a pod whose first container runs.
    pub(super) fn find(node: &'n Node, id: &str) -> Pod<'n> {
        let pod = json(&node.ask(&["pod", "inspect", id]));
        let infra = json(&node.ask(&["inspect", text(&pod["InfraContainerID"])]));
        let network = &infra[0]["NetworkSettings"];
        let address = |key: &str| {
            let value = text(&network["Networks"]["pods"][key]);
            value.parse().unwrap_or_else(|e| panic!("{key} {value:?}: {e}"))
        };
        let file = node.machine.outside(text(&network["SandboxKey"]));
        Pod {
            node,
            id: text(&pod["Id"]).to_owned(),
            name: text(&pod["Name"]).to_owned(),
            addresses: [address("IPAddress"), address("GlobalIPv6Address")],
            namespace: Namespace::adopt(&file),
        }
    }

    /// Its address over IPv4, then over IPv6.
    pub fn addresses(&self) -> [IpAddr; 2] {
        self.addresses
    }

    /// Its network namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
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
        let look = || Some(self.output(container)).filter(|all| all.lines().any(|each| each.starts_with(line)));
        self.unless_lost(&what, look)
    }

    /// Waits for the end of a container, and returns its exit code.
    pub fn end(&self, container: &str) -> i64 {
        let look = || {
            let state = self.inspect(container)["State"].take();
            (state["Status"] == "exited").then(|| state["ExitCode"].as_i64().expect("an exit code is a number"))
        };
        self.unless_lost(&format!("the end of {container}"), look)
    }

    /// Runs a shell line in a container that has a shell.
    pub fn shell(&self, container: &str, line: &str) -> Output {
        process::output(&mut self.node.podman(&["exec", &self.container(container), "sh", "-c", line]))
    }

    /// Sends a signal to the first process of a container.
    pub fn signal(&self, container: &str, signal: &str) {
        self.node.ask(&["kill", "--signal", signal, &self.container(container)]);
    }

    /// Starts a container again that has ended.
    pub fn start(&self, container: &str) {
        self.node.ask(&["start", &self.container(container)]);
    }

    /// Ends all containers as the deletion of a pod does: SIGTERM to all, and SIGKILL after `grace_seconds`.
    pub fn stop(&self, grace_seconds: u32) {
        self.node.ask(&["pod", "stop", "--time", &grace_seconds.to_string(), &self.id]);
    }

    /// Asks the sidecar's admin surface from inside of the pod.
    pub fn admin(&self, path: &str) -> Option<Message> {
        let at = SocketAddr::from(([127, 0, 0, 1], 15020));
        let mut peer = self.namespace.try_connect(at).ok()?;
        peer.exchange(format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n")).ok()
    }

    /// Waits until the sidecar is ready.
    pub fn ready(&self) {
        self.unless_lost("the sidecar is ready", || self.admin("/ready").filter(|answer| answer.status() == 200));
    }

    /// Scrapes `/metrics` of the sidecar.
    pub fn metrics(&self) -> Metrics {
        let answer = self.admin("/metrics").unwrap_or_else(|| panic!("no /metrics:\n{}", self.log("dragoman")));
        Metrics::parse(&answer.text())
    }

    /// Waits for `n` lines of the sidecar's access log that satisfy a condition, and returns them.
    pub fn records_where(&self, n: usize, condition: impl Fn(&Record) -> bool) -> Vec<Record> {
        self.unless_lost(&format!("{n} lines of the access log"), || {
            let out = self.output("dragoman");
            let records = out.lines().filter_map(|line| serde_json::from_str::<Record>(line).ok());
            Some(records.filter(|record| condition(record)).collect::<Vec<_>>()).filter(|found| found.len() >= n)
        })
    }

    /// Waits for something, and says what all containers wrote if it does not come.
    pub fn unless_lost<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let end = std::time::Instant::now() + wait::SOON;
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(std::time::Instant::now() < end, "waited in vain: {what}\n{}", self.node.told());
            wait::pause(std::time::Duration::from_millis(50));
        }
    }

    /// Where a path of a container is on the test's own machine, as long as the container runs.
    pub fn file(&self, container: &str, path: &str) -> std::path::PathBuf {
        let inspected = self.inspect(container);
        let merged = text(&inspected["GraphDriver"]["Data"]["MergedDir"]);
        self.node.machine.outside(Path::new(merged).join(path.trim_start_matches('/')).to_str().expect("UTF-8"))
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("podman's JSON: {e}: {text}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}"))
}
