//! What the kernel says of the process and of the network namespace, read from `/proc` when a page is asked for.
//!
//! Three things of the namespace run out under a transparent proxy before anything else does: entries of the
//! connection tracking table, since every redirected connection has one; local ports towards one server, which the app's
//! own sockets and ours share; and ports of one client towards our listener, since all redirected connections of a source
//! address become connections to one port. What cannot be read has no series.

mod ports;

use std::fs;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::metrics::{Metric, Page};
use ports::{Ports, count_ports};

/// Reading the list of sockets costs the kernel some 40 ms for each ten thousand: it is done no more often than this, and
/// takes no more than the hundredth part of a core.
const PORTS_EVERY: Duration = Duration::from_secs(5);
const PORTS_SHARE: u32 = 100;
/// What /proc counts processor time in, per second: USER_HZ, which is 100 on every architecture that Rust's Linux
/// targets of ours have (proc_pid_stat(5)).
const TICKS: f64 = 100.0;

/// Where the figures are read from, and what is remembered of them.
#[derive(Debug, Default)]
pub(crate) struct Host {
    own_ports: OnceLock<Vec<u16>>,
    ports: Mutex<Known>,
}

/// What was last read of the sockets, and when it is worth reading again.
#[derive(Debug, Default)]
struct Known {
    ports: Option<Ports>,
    next: Option<Instant>,
}

impl Host {
    /// States the ports that captured connections are redirected to. The first statement stays.
    pub(crate) fn set_own_ports(&self, ports: Vec<u16>) {
        let _ = self.own_ports.set(ports);
    }

    /// Writes all figures. Reads files, and so must not run where a flow waits for it.
    pub(crate) fn write(&self, page: &mut Page, now: Instant) {
        write_process(page);
        for (metric, name) in
            [(Metric::ConntrackEntries, "nf_conntrack_count"), (Metric::ConntrackLimit, "nf_conntrack_max")]
        {
            let path = Path::new("/proc/sys/net/netfilter").join(name);
            let figure = fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
            figure.inspect(|figure| page.sample(metric, &[], figure));
        }
        self.write_ports(page, now);
    }

    fn write_ports(&self, page: &mut Page, now: Instant) {
        let mut known = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        if known.next.is_none_or(|next| next <= now) {
            let start = Instant::now();
            known.ports = count_ports(self.own_ports.get().map_or(&[], Vec::as_slice));
            known.next = Some(now + PORTS_EVERY.max(start.elapsed() * PORTS_SHARE));
        }
        let Some(ports) = &known.ports else { return };
        page.sample(Metric::PortsUsed, &["app"], ports.app);
        page.sample(Metric::PortsUsed, &["upstream"], ports.upstream);
        page.sample(Metric::PortsLimit, &["app"], ports::APP_LIMIT);
        ports.upstream_limit.inspect(|limit| page.sample(Metric::PortsLimit, &["upstream"], limit));
    }
}

fn write_process(page: &mut Page) {
    let read = |name: &str| fs::read_to_string(Path::new("/proc/self").join(name)).unwrap_or_default();
    if let Some(seconds) = cpu_seconds(&read("stat")) {
        page.sample(Metric::ProcessCpu, &[], seconds);
    }
    let status = read("status");
    if let Some(kib) = line_value(&status, "VmRSS:") {
        page.sample(Metric::ProcessMemory, &[], kib * 1024);
    }
    if let Some(threads) = line_value(&status, "Threads:") {
        page.sample(Metric::ProcessThreads, &[], threads);
    }
    if let Some(limit) = line_value(&read("limits"), "Max open files") {
        page.sample(Metric::ProcessMaxFds, &[], limit);
    }
    if let Ok(descriptors) = fs::read_dir("/proc/self/fd") {
        // One of them is the one that this very reading needs.
        page.sample(Metric::ProcessOpenFds, &[], descriptors.count().saturating_sub(1));
    }
}

/// User and system time together. The name of the process, in parentheses, may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let user = fields.nth(11)?.parse::<u64>().ok()?;
    let system = fields.next()?.parse::<u64>().ok()?;
    Some((user + system) as f64 / TICKS)
}

/// The first number after `key` on the line that begins with it.
fn line_value(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_process_does_not_mislead() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 3 0 1 2 3";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(cpu_seconds("7 (a"), None);
    }

    #[test]
    fn a_value_is_found_by_its_line() {
        let limits =
            "Limit  Soft  Hard\nMax open files            1024                 4096                 files\n";
        assert_eq!(line_value(limits, "Max open files"), Some(1024));
        assert_eq!(line_value("Max open files unlimited unlimited", "Max open files"), None);
        assert_eq!(line_value("Name:\tx\nVmRSS:\t  12 kB\n", "VmRSS:"), Some(12));
    }

    #[test]
    fn the_figures_of_this_process_are_there() {
        let mut page = Page::new();
        Host::default().write(&mut page, Instant::now());
        let text = page.finish();
        for name in ["cpu_seconds_total", "resident_memory_bytes", "threads", "open_fds", "max_fds"] {
            let value = text.lines().find_map(|line| line.strip_prefix(&format!("process_{name} ")));
            let value = value.unwrap_or_else(|| panic!("no {name} in {text}")).parse::<f64>().unwrap();
            assert!(value > 0.0 || name == "cpu_seconds_total", "{name} {value}");
        }
        assert!(text.contains("dragoman_ports_used{side=\"upstream\"}"), "{text}");
    }
}
