//! The page of metrics itself.

use std::collections::BTreeSet;
use std::fs;

use dragoman_harness::net::{APP_V4, server};
use dragoman_harness::{Dragoman, Net, Origin};

use crate::busy::Busy;

/// What is on the page of a proxy to which everything has happened is what docs/metrics.md has: no more, no less, with the
/// same labels.
#[test]
fn the_page_and_its_documentation_have_the_same_metrics() {
    let net = Net::new();
    let busy = Busy::start(&net);
    let metrics = busy
        .dragoman
        .metrics_where("the failed flow has been counted", |m| m.sum("dragoman_flows_total", &[]) > 1);
    let base = |name: &str| {
        let part = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
        part.filter(|base| metrics.names().contains(&*format!("{base}_bucket"))).unwrap_or(name).to_owned()
    };
    let shown: BTreeSet<String> = metrics.names().iter().map(|name| base(name)).collect();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    let documented = fs::read_to_string(file).unwrap();
    let rows = documented.lines().filter(|line| line.starts_with("| `"));
    let mut described = BTreeSet::new();
    for row in rows {
        let columns: Vec<_> = row.split('|').map(str::trim).collect();
        let (name, kind) = (columns[1].trim_matches('`'), columns[2]);
        let mut labels: BTreeSet<&str> = columns[3].split_whitespace().map(|l| l.trim_matches('`')).collect();
        let series = if kind == "histogram" { format!("{name}_bucket") } else { name.to_owned() };
        if kind == "histogram" {
            labels.insert("le");
        }
        assert_eq!(metrics.labels(&series), Some(labels), "the labels of {name}");
        described.insert(name.to_owned());
    }
    assert_eq!(shown, described);
}

/// Figures of the kernel's, compared with what the case made.
#[test]
fn the_host_is_seen_as_it_is_by_a_process_without_rights() {
    const FLOWS: usize = 40;
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(83), |mut peer| {
        peer.send("SSH-2.0-test\r\n")?;
        peer.more()
    });
    let dragoman = Dragoman::start(&net, "");
    let idle = dragoman.descriptors() as u64;
    let open: Vec<_> = (0..FLOWS)
        .map(|_| {
            let mut peer = net.app.connect(server(83));
            peer.read_until(b"\n").unwrap();
            peer
        })
        .collect();
    assert!(open.iter().all(|peer| peer.local().ip() == APP_V4));
    // The list of sockets is read by the first scrape, and then not soon again.
    let metrics = dragoman.metrics_where("the sockets are counted", |metrics| {
        metrics.sum("dragoman_ports_used", &[("side", "app")]) >= FLOWS as u64
    });
    let (grown, tracked) =
        (metrics.sum("process_open_fds", &[]) - idle, metrics.sum("dragoman_conntrack_entries", &[]));
    let upstream = metrics.sum("dragoman_ports_used", &[("side", "upstream")]);
    println!("{FLOWS} flows: {upstream} ports upstream, {grown} descriptors");
    assert!(upstream >= 2 * FLOWS as u64, "the app's own sockets and ours go to one server: {upstream}");
    assert!(grown >= 2 * FLOWS as u64, "{grown}");
    // Each flow is two connections to the kernel: the app's, and ours.
    assert!(tracked >= 2 * FLOWS as u64, "{tracked}");
    assert!(metrics.sum("dragoman_conntrack_limit", &[]) > 1000);
    assert_eq!(metrics.sum("dragoman_ports_limit", &[("side", "app")]), 64_512);
    assert!(
        metrics.sum("process_threads", &[]) > 1
            && metrics.sum("process_resident_memory_bytes", &[]) > 1 << 20
    );
    assert_eq!(metrics.sum("dragoman_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), 1);
}
