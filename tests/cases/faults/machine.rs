//! A machine that runs out of something, or whose clock is set.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use dragoman_harness::dragoman::{ID, proxy};
use dragoman_harness::faulty::Stage;
use dragoman_harness::metrics::Metrics;
use dragoman_harness::net::APP_V4;
use dragoman_harness::{Net, Peer, binaries, process, wait};
use nix::sys::signal::Signal;
use socket2::{Domain, Socket, Type};

use crate::case::{Case, PATIENT, Pair};
use crate::echo::{Journey, Servers, flood};
use crate::page::{self, Row};
use crate::protocol::{ALL, App, Protocol, Sight};

/// More descriptors than a proxy of a case ever has.
const UNLIMITED: usize = 1024;

/// Sets how many descriptors the proxy may have.
fn limit_descriptors(case: &Case<'_>, limit: usize) {
    // As its own user, who may: not every root may do that to other users' processes.
    let mut prlimit = Command::new("setpriv");
    prlimit.args([
        format!("--reuid={ID}"),
        format!("--regid={ID}"),
        "--clear-groups".into(),
        "prlimit".into(),
    ]);
    let args = [format!("--pid={}", case.dragoman.pid()), format!("--nofile={limit}:")];
    process::succeed(prlimit.args(args));
}

/// The numbers of the proxy's descriptors.
#[derive(PartialEq, Eq)]
struct Descriptors {
    taken: BTreeSet<usize>,
    /// Those of /dev/null: its reserve for the next app, and before that what it was started with, its standard input and
    /// whatever else whoever runs the tests left open.
    nulls: Vec<usize>,
}

impl Descriptors {
    fn of(case: &Case<'_>) -> Descriptors {
        let folder = PathBuf::from(format!("/proc/{}/fd", case.dragoman.pid()));
        let entries = fs::read_dir(&folder).expect("a living process has descriptors").flatten();
        let taken: BTreeSet<usize> =
            entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        let is_null = |n: &usize| {
            let link = fs::read_link(folder.join(n.to_string()));
            link.is_ok_and(|target| target == Path::new("/dev/null"))
        };
        let nulls = taken.iter().copied().filter(is_null).collect();
        Descriptors { taken, nulls }
    }

    /// The numbers that the next ones get, in their order.
    fn free(&self) -> impl Iterator<Item = usize> + '_ {
        (0..).filter(|n| !self.taken.contains(n))
    }
}

/// Whether no thread of the proxy is at work. One that had to make room for another program may have something to close, or to ask
/// for: behind the last connection of a listener `accept` is asked once more, and has a descriptor for that moment.
fn rests(case: &Case<'_>) -> bool {
    let tasks =
        fs::read_dir(format!("/proc/{}/task", case.dragoman.pid())).expect("a living process has tasks");
    let mut stats = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
    // The state is behind the name, which is in brackets.
    stats.all(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S')))
}

/// Lets the proxy open so many more descriptors, and returns the apps that must stay for that. The limit is one on the number: the
/// reserve's must be below it, or what is lent by it could not be taken.
fn leave_descriptors<'n>(case: &Case<'n>, more: usize, nulls: usize) -> Vec<Peer> {
    let mut below = Vec::new();
    wait::until("the proxy rests, and holds its reserve", wait::SOON, || {
        let before = Descriptors::of(case);
        if before.nulls.len() != nulls || !rests(case) {
            return false;
        }
        if before.free().next() < before.nulls.last().copied() {
            below.push(case.served(""));
            return false;
        }
        limit_descriptors(case, before.free().nth(more).expect("numbers do not end"));
        let is_kept = rests(case) && Descriptors::of(case) == before;
        if !is_kept {
            limit_descriptors(case, UNLIMITED);
        }
        is_kept
    });
    below
}

/// Has one app after the other ask when the proxy may open so many more descriptors.
fn with_descriptors(case: &Case<'_>, more: usize) -> Vec<(Protocol, Sight)> {
    let nulls = Descriptors::of(case).nulls.len();
    let ask = |protocol: &Protocol| {
        // Nothing of the one before is about to be closed.
        wait::until("the descriptors are back", wait::SOON, || case.idle_descriptors() <= case.descriptors);
        let below = leave_descriptors(case, more, nulls);
        let peer = case.net.app.try_connect(protocol.address());
        let sight = peer.map_or_else(
            |_| Sight::reset(),
            |peer| {
                let mut app = App::over(peer, *protocol);
                app.ask();
                app.sight()
            },
        );
        limit_descriptors(case, UNLIMITED);
        drop(below);
        (*protocol, sight)
    };
    ALL.iter().map(ask).collect()
}

#[test]
fn no_descriptor_is_left_to_connect() {
    let net = Net::new();
    let case = Case::new(&net, "no descriptor left to connect", PATIENT);
    let sights = with_descriptors(&case, 1);
    let rows: Vec<Row> = sights.into_iter().map(|(protocol, sight)| case.row(protocol, sight)).collect();
    case.finish(&rows);
}

#[test]
fn no_descriptor_is_left_to_accept() {
    const CAUSE: &str = "descriptors_exhausted";
    let net = Net::new();
    let case = Case::new(&net, "no descriptor left to accept", PATIENT);
    let sights = with_descriptors(&case, 0);
    let row = |(protocol, sight): (Protocol, Sight)| Row {
        protocol,
        sight: sight.words,
        cause: CAUSE.into(),
        known: "at once".into(),
    };
    let rows: Vec<Row> = sights.into_iter().map(row).collect();
    // Nobody knows where they were going.
    case.dragoman.records_where(ALL.len(), |record| record["cause"] == CAUSE);
    let counted = |metrics: &Metrics| metrics.sum("dragoman_flows_total", &[("cause", CAUSE)]);
    case.dragoman.metrics_where("each is counted", |metrics| counted(metrics) == ALL.len() as u64);
    case.finish(&rows);
}

/// The one port that is left is that of the app's own connection.
#[test]
fn no_local_port_is_left() {
    let net = Net::new();
    let case = Case::new(&net, "no local port left", PATIENT);
    let range = net.app.succeed("sysctl -n net.ipv4.ip_local_port_range");
    let ports =
        |range: &str| drop(net.app.succeed(&format!("sysctl -qw net.ipv4.ip_local_port_range='{range}'")));
    let ask = |protocol: &Protocol| {
        let socket = net.app.enter(|| Socket::new(Domain::IPV4, Type::STREAM, None)).expect("a socket");
        socket.set_reuse_address(true).expect("a port may be used again");
        socket.bind(&SocketAddr::from((APP_V4, 40_000)).into()).expect("a free port");
        ports("40000 40000");
        socket.connect(&protocol.address().into()).expect("the proxy accepts");
        let mut app = App::over(Peer::new(socket.into()), *protocol);
        app.ask();
        let sight = app.sight();
        ports(range.trim());
        case.row(*protocol, sight)
    };
    let rows: Vec<Row> = ALL.iter().map(ask).collect();
    case.finish(&rows);
}

/// The proxy with a file system of its own, which is full, for its access log.
fn on_full_disk(net: &Net, configuration: &Path) -> Command {
    let mut command = net.app.command("sh");
    // `ip netns exec` has made this a mount namespace of its own.
    let script = "mount -t tmpfs -o size=4k,mode=777 full /mnt; head -c 4096 /dev/zero > /mnt/full; exec \"$0\" \"$@\"";
    command.args(["-c", script]).arg(binaries::dragoman()).args(["proxy", "--config"]).arg(configuration);
    command
}

#[test]
fn the_disk_of_the_log_is_full() {
    let net = Net::new();
    let policy = format!("[log]\naccess = 'all'\naccess_file = '/mnt/access.log'\n{PATIENT}");
    let case = Case::started_by(&net, "disk of the access log full", &policy, on_full_disk);
    let servers = Servers::start(&net, 100);
    let ask = |protocol: &Protocol| {
        let sight = Journey::begin(&net, *protocol, 100).end();
        let counter =
            if *protocol == Protocol::Opaque { "dragoman_flows_total" } else { "dragoman_exchanges_total" };
        let labels = [("destination", protocol.destination()), ("cause", "-")];
        case.dragoman.metrics_where("it is counted", |metrics| metrics.sum(counter, &labels) == 1);
        Row { protocol: *protocol, sight: sight.words, cause: "-".into(), known: "-".into() }
    };
    let rows: Vec<Row> = ALL.iter().map(ask).collect();
    drop(servers);
    let lost = "dragoman_access_log_dropped_total";
    case.dragoman.metrics_where("lost lines are counted", |metrics| metrics.sum(lost, &[]) > 0);
    assert_eq!(fs::metadata(format!("/proc/{}/root/mnt/access.log", case.dragoman.pid())).unwrap().len(), 0);
    case.finish(&rows);
}

/// The file in which the clock of a namespace's proxy stands, as an offset.
fn clock(net: &Net) -> PathBuf {
    std::env::temp_dir().join(format!("dragoman-clock-{}", net.app.name()))
}

/// The proxy with a wall clock that a case can set; the machine's own is left alone.
fn with_clock(net: &Net, configuration: &Path) -> Command {
    let folders = fs::read_dir("/usr/lib").expect("Debian has /usr/lib").flatten();
    let libraries = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    let library = libraries.into_iter().find(|path| path.exists()).expect("libfaketime: run scripts/setup");
    fs::write(clock(net), "+0").expect("a temporary file");
    let mut command = proxy(net, configuration);
    command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", clock(net));
    command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    command
}

fn jump(fault: &'static str, offset: &str) {
    let net = Net::new();
    let policy = format!("{PATIENT}timeout = '10m'\ntry_timeout = '5m'\n");
    let case = Case::started_by(&net, fault, &policy, with_clock);
    let mut pairs: Vec<Pair> = ALL.iter().map(|protocol| case.halted(*protocol, Stage::Body)).collect();
    let year = |record: &serde_json::Value| {
        record["ts"].as_str().and_then(|ts| ts[..4].parse::<i32>().ok()).unwrap()
    };
    let before = year(&case.dragoman.records()[0]);
    fs::write(clock(&net), offset).expect("a temporary file");
    case.serves();
    case.dragoman.records_where(1, |record| (year(record) - before).abs() >= 9);
    pairs.iter_mut().for_each(|pair| pair.server.go_on());
    let (apps, servers): (Vec<_>, Vec<_>) =
        pairs.into_iter().map(|pair| ((pair.protocol, pair.app), pair.server)).unzip();
    let rows = case.ends(apps);
    drop(servers);
    for record in case.dragoman.records() {
        let took = record["duration_ms"].as_f64().expect("a record has a duration");
        assert!((0.0..600_000.0).contains(&took), "{record}");
    }
    case.finish(&rows);
    fs::remove_file(clock(&net)).expect("the file is there");
}

#[test]
fn the_clock_jumps_ahead() {
    jump("wall clock jumps ten years ahead", "+3650d");
}

#[test]
fn the_clock_jumps_back() {
    jump("wall clock jumps ten years back", "-3650d");
}

/// A control group of a namespace's proxy: where it would be, of either version of cgroups.
fn control_group(net: &Net) -> [PathBuf; 2] {
    ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"].map(|root| Path::new(root).join(net.app.name()))
}

/// The proxy with 64 MiB: by a control group where this machine lets us make one, else by its address space, which is a
/// coarser limit and therefore a larger one.
fn in_64_mib(net: &Net, configuration: &Path) -> Command {
    let [one, two] = control_group(net);
    let limited = |group: &Path, file: &str| {
        fs::create_dir(group).is_ok() && fs::write(group.join(file), (64 << 20).to_string()).is_ok()
    };
    let mut command = Command::new("sh");
    let group = if limited(&one, "memory.limit_in_bytes") {
        Some(one)
    } else {
        let _ = fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
        limited(&two, "memory.max").then_some(two)
    };
    match group {
        Some(group) => command.args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$@\""]).arg(group),
        None => {
            println!("no control group can be made here: the limit is one of address space");
            command.args(["-c", "ulimit -v 1048576 && exec \"$@\"", "sh"])
        }
    };
    // Outside of the namespace, which has another /sys.
    command.args(["ip", "netns", "exec", net.app.name()]).arg(binaries::dragoman());
    command.args(["proxy", "--config"]).arg(configuration);
    command
}

#[test]
fn memory_is_limited() {
    const LENGTH: usize = 64 * 1024;
    let net = Net::new();
    let fault = "memory limit of 64 MiB, and 20 readers that stall";
    let case = Case::started_by(&net, fault, PATIENT, in_64_mib);
    let floods = ALL.map(|protocol| flood(&net, protocol));
    // Each could have 64 MiB of its own.
    let ask = |protocol| {
        let mut app = App::connect(&net, protocol);
        app.ask();
        app
    };
    let stalled: Vec<App> = ALL.iter().flat_map(|protocol| (0..4).map(|_| ask(*protocol))).collect();
    wait::until("all are served", wait::SOON, || floods.iter().all(|flood| flood.seen().len() == 4));
    drop(floods);
    let servers = Servers::start(&net, LENGTH);
    let serve = |protocol: &Protocol| {
        let sight = Journey::begin(&net, *protocol, LENGTH).end();
        Row { protocol: *protocol, sight: sight.words, cause: "-".into(), known: "-".into() }
    };
    let rows: Vec<Row> = ALL.iter().map(serve).collect();
    drop((stalled, servers));
    case.finish(&rows);
    drop(case);
    for group in control_group(&net).iter().filter(|group| group.exists()) {
        wait::until("the control group is empty", wait::SOON, || fs::remove_dir(group).is_ok());
    }
}

/// What kills the proxy ends the flows that it serves; new ones are refused, and go no other way.
#[test]
fn dragoman_is_killed() {
    const FAULT: &str = "dragoman killed in the body";
    let net = Net::new();
    let mut case = Case::new(&net, FAULT, PATIENT);
    let pairs: Vec<Pair> = ALL.iter().map(|protocol| case.halted(*protocol, Stage::Body)).collect();
    case.dragoman.signal(Signal::SIGKILL);
    case.dragoman.wait(wait::SOON);
    let (apps, servers): (Vec<_>, Vec<_>) =
        pairs.into_iter().map(|pair| ((pair.protocol, pair.app), pair.server)).unzip();
    let see = |(protocol, app): (Protocol, App)| {
        let sight = app.sight();
        Row { protocol, sight: sight.words, cause: "-".into(), known: "at once".into() }
    };
    let rows: Vec<Row> = apps.into_iter().map(see).collect();
    for protocol in ALL {
        let error = net.app.try_connect(protocol.address()).map(drop).expect_err("nobody is there");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    }
    drop(servers);
    page::check(FAULT, &rows);
}
