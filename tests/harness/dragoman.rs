//! The proxy under test: the real binary in namespace A, with real rules.

use std::collections::HashSet;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::binaries;
use crate::metrics::Metrics;
use crate::net::{Namespace, Net};
use crate::peer::Message;
use crate::process::{self, Process};
use crate::scratch::Scratch;
use crate::wait;

/// Where the proxy listens.
pub const PORT: u16 = 15001;
/// The user and the group that it drops to; the rules leave that group alone.
pub const ID: u32 = 1337;

const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 15020);

/// The name of its configuration.
const FILE: &str = "dragoman.toml";

/// Every flow and exchange in the log, so that a case can read what became of each.
const LOG: &str = "[log]\naccess = \"all\"\n";

/// The policy of demos, benchmarks and docs, with every flow and exchange in the log.
pub fn normal() -> String {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/policies/normal.toml");
    let policy = fs::read_to_string(file).unwrap_or_else(|e| panic!("{file}: {e}"));
    let logging = policy.replace("access = \"failures\"", "access = \"all\"");
    assert!(logging != policy, "normal.toml no longer says what its access log is");
    logging
}

fn with_log(configuration: &str) -> String {
    let log = if configuration.contains("[log]") { "" } else { LOG };
    format!("{log}{configuration}")
}

/// One line of the access log.
pub type Record = Value;

/// A running proxy.
pub struct Dragoman<'n> {
    namespace: &'n Namespace,
    process: Process,
    access_log: PathBuf,
    // Dropped last: the proxy writes into it.
    scratch: Scratch,
}

impl<'n> Dragoman<'n> {
    /// Starts the proxy in A with this configuration (a `[log]` table is added where it has none), waits
    /// until it is ready, and has `dragoman-init` capture everything that leaves A.
    pub fn start(net: &'n Net, configuration: &str) -> Dragoman<'n> {
        let dragoman = Dragoman::start_uncaptured(net, configuration);
        process::succeed(&mut init(net, &["install"]));
        dragoman
    }

    /// Starts the proxy without any rule.
    pub fn start_uncaptured(net: &'n Net, configuration: &str) -> Dragoman<'n> {
        Dragoman::start_by(net, configuration, proxy)
    }

    /// Starts the proxy without any rule by a command of the case's own, given the configuration's path.
    pub fn start_by(
        net: &'n Net,
        configuration: &str,
        command: impl FnOnce(&Net, &Path) -> Command,
    ) -> Dragoman<'n> {
        Dragoman::run(&net.app, configuration, |path| command(net, path))
    }

    /// Starts the proxy in any namespace, without any rule.
    pub fn start_in(namespace: &'n Namespace, configuration: &str) -> Dragoman<'n> {
        Dragoman::run(namespace, configuration, |path| proxy_in(namespace, path))
    }

    fn run(
        namespace: &'n Namespace,
        configuration: &str,
        command: impl FnOnce(&Path) -> Command,
    ) -> Dragoman<'n> {
        let scratch = Scratch::new("proxy");
        let mut command = command(&scratch.write(FILE, with_log(configuration)));
        let access_log = scratch.path().join("access.log");
        let stdout = File::create(&access_log).expect("the scratch directory takes a file");
        let log = scratch.path().join("dragoman.log");
        let mut process = Process::start("dragoman", &mut command, &log, Some(stdout));
        process.wait_ready(wait::SOON, || admin(namespace, "/ready").is_some_and(|r| r.status() == 200));
        Dragoman { namespace, process, access_log, scratch }
    }

    /// Replaces its configuration (a `[log]` table is added where it has none), and waits until that is in force.
    pub fn reload(&self, configuration: &str) -> Metrics {
        let generation = |metrics: &Metrics| metrics.sum("dragoman_config_generation", &[]);
        let before = generation(&self.metrics());
        self.write(configuration);
        self.signal(Signal::SIGHUP);
        self.metrics_where("the new configuration is in force", |metrics| generation(metrics) == before + 1);
        // A scrape is no moment: that one may have read other gauges before.
        self.metrics()
    }

    /// Replaces its configuration, as [`reload`](Self::reload) does, and leaves it to find out.
    pub fn write(&self, configuration: &str) {
        let new = self.scratch.write("dragoman.toml.new", with_log(configuration));
        fs::rename(new, self.scratch.path().join(FILE)).expect("a file can be renamed beside itself");
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What it wrote on its standard error.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for its end.
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        self.process.wait(deadline)
    }

    /// Asks its admin port; `None` when nobody answers there.
    pub fn admin(&self, path: &str) -> Option<Message> {
        admin(self.namespace, path)
    }

    /// Reads `/metrics`.
    pub fn metrics(&self) -> Metrics {
        let answer = self.admin("/metrics").unwrap_or_else(|| panic!("no /metrics:\n{}", self.log()));
        assert_eq!(answer.status(), 200, "{}", answer.text());
        Metrics::parse(&answer.text())
    }

    /// Waits until `/metrics` satisfies a condition, and returns that scrape.
    pub fn metrics_where(&self, what: &str, condition: impl Fn(&Metrics) -> bool) -> Metrics {
        let look = || Some(self.metrics()).filter(|metrics| condition(metrics));
        wait::until_some(what, wait::SOON, look)
    }

    /// Waits until no flow is open, so that each has been counted and logged.
    pub fn settle(&self) -> Metrics {
        self.metrics_where("no flow is open", |metrics| metrics.sum("dragoman_flows_open", &[]) == 0);
        // A scrape reads its counters before its gauges: that one may have missed the last flow's.
        self.metrics()
    }

    /// The whole lines of the access log so far. That of a flow comes after those of its exchanges, unless a drain cut both.
    pub fn records(&self) -> Vec<Record> {
        let text = fs::read_to_string(&self.access_log).expect("the access log can be read");
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let parse = |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let records: Vec<Record> = whole.map(parse).collect();
        let mut over = HashSet::new();
        for record in &records {
            match record["kind"].as_str() {
                Some("flow") if record["cause"] == "drain_deadline" => {}
                Some("flow") => _ = over.insert(record["id"].as_str()),
                _ => assert!(!over.contains(&record["flow"].as_str()), "its flow is over: {record}"),
            }
        }
        records
    }

    /// Waits for `n` lines that satisfy a condition and returns them.
    pub fn records_where(&self, n: usize, condition: impl Fn(&Record) -> bool) -> Vec<Record> {
        let mut found = Vec::new();
        let mut look = || {
            found = self.records().into_iter().filter(|record| condition(record)).collect();
            found.len() >= n
        };
        let end = std::time::Instant::now() + wait::SOON;
        while !look() && std::time::Instant::now() < end {
            wait::pause(Duration::from_millis(10));
        }
        assert!(
            found.len() >= n,
            "{} of {n} lines; the log:\n{}\n{:#?}",
            found.len(),
            self.log(),
            self.records()
        );
        found
    }

    /// Waits for the first line of a flow or an exchange that ended with `cause`.
    pub fn record_of(&self, cause: &str) -> Record {
        self.records_where(1, |record| record["cause"] == cause).remove(0)
    }

    /// How many descriptors it holds.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("a living process has descriptors").count()
    }
}

/// `dragoman proxy` in A, not started yet.
pub fn proxy(net: &Net, configuration: &Path) -> Command {
    proxy_in(&net.app, configuration)
}

fn proxy_in(namespace: &Namespace, configuration: &Path) -> Command {
    let mut command = namespace.command(binaries::dragoman());
    command.args(["proxy", "--config"]).arg(configuration);
    command
}

/// `dragoman-init` in A, not started yet.
pub fn init(net: &Net, arguments: &[&str]) -> Command {
    init_in(&net.app, arguments)
}

/// `dragoman-init` in any namespace, not started yet.
pub fn init_in(namespace: &Namespace, arguments: &[&str]) -> Command {
    let mut command = namespace.bounded(binaries::dragoman_init());
    command.args(arguments);
    command
}

/// Runs `dragoman-init` in A to its end.
pub fn run_init(net: &Net, arguments: &[&str]) -> Output {
    process::output(&mut init(net, arguments))
}

fn admin(namespace: &Namespace, path: &str) -> Option<Message> {
    let mut peer = namespace.try_connect(ADMIN).ok()?;
    peer.exchange(format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n")).ok()
}
