//! A network that takes packets and gives nothing, or refuses them.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use dragoman_harness::dragoman::proxy;
use dragoman_harness::faulty::{FaultyServer, Stage};
use dragoman_harness::{Namespace, Net, programs, wait};
use socket2::{Domain, Socket, Type};

use crate::case::{Case, PATIENT, Pair};
use crate::page::{self, Row};
use crate::protocol::{ALL, App, HTTP, Protocol};

const CONNECT: &str = "[defaults]\nconnect_timeout = '2s'\n";

/// The ports of all protocols, as nft writes a set.
const PORTS: &str = "{ 8001, 8002, 8012, 8021, 9000 }";

/// Rules in S; each is a chain's hook and what stands in it.
fn rules(servers: &Namespace, rules: &[(&str, &str)]) {
    let mut script = String::from("add table inet bad; ");
    for (hook, rule) in rules {
        script += &format!(
            "add chain inet bad {hook} {{ type filter hook {hook} priority 0; }}; add rule inet bad {hook} {rule}; "
        );
    }
    servers.succeed(&format!("nft '{script}'"));
}

/// Asks by each protocol, where no connection can be made.
fn unreached(fault: &'static str, policy: &str, prepare: impl FnOnce(&Net), repair: impl FnOnce(&Net)) {
    let net = Net::new();
    let case = Case::new(&net, fault, policy);
    prepare(&net);
    let ask = |protocol: &Protocol| {
        // The proxy accepts first and refuses then.
        let mut app = App::connect(&net, *protocol);
        app.ask();
        (*protocol, app)
    };
    let rows = case.ends(ALL.iter().map(ask).collect());
    repair(&net);
    case.finish(&rows);
}

#[test]
fn nobody_listens() {
    unreached("nobody listens", PATIENT, |_| {}, |_| {});
}

#[test]
fn the_host_is_unreachable() {
    let rule = format!("tcp dport {PORTS} reject with icmpx type host-unreachable");
    let prepare = |net: &Net| rules(&net.servers, &[("input", &rule)]);
    unreached("host unreachable", PATIENT, prepare, |_| {});
}

#[test]
fn the_syn_is_dropped() {
    let rule = format!("tcp dport {PORTS} drop");
    unreached("SYN dropped", CONNECT, |net| rules(&net.servers, &[("input", &rule)]), |_| {});
}

#[test]
fn the_link_is_down_before_the_connection() {
    let prepare = |net: &Net| {
        // Nobody answers for the address either; how soon the kernel gives that up is not what ends it here.
        net.app.succeed("sysctl -qw net.ipv4.neigh.eth0.mcast_solicit=60");
        net.servers.succeed("ip link set eth0 down");
    };
    let repair = |net: &Net| {
        net.servers.succeed("ip link set eth0 up");
    };
    unreached("link down before the connection", CONNECT, prepare, repair);
}

#[test]
fn the_backlog_is_full() {
    let net = Net::new();
    let case = Case::new(&net, "server's backlog is full", CONNECT);
    let full: Vec<Full> = ALL.iter().map(|protocol| Full::new(&net.servers, protocol.address())).collect();
    let ask = |protocol: &Protocol| {
        let mut app = App::connect(&net, *protocol);
        app.ask();
        (*protocol, app)
    };
    let rows = case.ends(ALL.iter().map(ask).collect());
    drop(full);
    case.finish(&rows);
}

/// A listener that takes no more connections.
struct Full {
    _listener: TcpListener,
    _waiting: Vec<Socket>,
}

impl Full {
    fn new(servers: &Namespace, address: SocketAddr) -> Full {
        let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let (listener, waiting) = servers.enter(|| {
            let listener = socket();
            listener.bind(&address.into()).expect("a free port");
            listener.listen(0).expect("a socket listens");
            let connect = |_| {
                let socket = socket();
                socket.set_nonblocking(true).expect("a socket need not wait");
                // Under way, and never accepted.
                let _ = socket.connect(&address.into());
                socket
            };
            (listener, (0..2).map(connect).collect())
        });
        let port = address.port();
        wait::until("the backlog is full", wait::SOON, || {
            // The queue (Recv-Q) and its limit (Send-Q) of a listener.
            let line = servers.succeed(&format!("ss -Hltn 'sport = :{port}'"));
            let mut numbers = line.split_whitespace().filter_map(|word| word.parse::<u32>().ok());
            numbers.next() > numbers.next()
        });
        Full { _listener: listener.into(), _waiting: waiting }
    }
}

/// As [`dragoman_harness::dragoman::proxy`], on a kernel that gives connections up sooner.
fn impatient(net: &Net, configuration: &Path) -> Command {
    let library = programs::library("impatient.c", Path::new(env!("CARGO_TARGET_TMPDIR")));
    let mut command = proxy(net, configuration);
    command.env("LD_PRELOAD", library);
    command
}

/// Everybody is in the middle of something when no packet comes through any more.
fn black_hole(
    fault: &'static str,
    protocols: &[Protocol],
    stage: Stage,
    policy: &str,
    command: fn(&Net, &Path) -> Command,
) -> Vec<Row> {
    let net = Net::new();
    let case = Case::started_by(&net, fault, policy, command);
    let pairs: Vec<Pair> = protocols.iter().map(|protocol| case.halted(*protocol, stage)).collect();
    let [input, output] = ["dport", "sport"].map(|port| format!("tcp {port} {PORTS} drop"));
    rules(&net.servers, &[("input", &input), ("output", &output)]);
    let (apps, servers): (Vec<_>, Vec<_>) =
        pairs.into_iter().map(|pair| ((pair.protocol, pair.app), pair.server)).unzip();
    let rows = case.ends(apps);
    drop(servers);
    case.leaves_nothing();
    rows
}

#[test]
fn packets_are_dropped_before_the_answer() {
    const FAULT: &str = "packets dropped before the answer";
    let mut rows = black_hole(FAULT, &HTTP, Stage::Start, "[defaults]\ntry_timeout = '2s'\n", proxy);
    rows.extend(black_hole(FAULT, &[Protocol::Opaque], Stage::Start, PATIENT, impatient));
    page::check(FAULT, &rows);
}

#[test]
fn packets_are_dropped_in_the_body() {
    const FAULT: &str = "packets dropped in the body";
    page::check(FAULT, &black_hole(FAULT, &ALL, Stage::Body, PATIENT, impatient));
}

#[test]
fn the_link_is_down_for_a_while() {
    let net = Net::new();
    let case = Case::new(&net, "link down in the body, then up", PATIENT);
    let pairs: Vec<Pair> = ALL.iter().map(|protocol| case.halted(*protocol, Stage::Body)).collect();
    net.servers.succeed("ip link set eth0 down");
    let (apps, mut servers): (Vec<_>, Vec<_>) =
        pairs.into_iter().map(|pair| ((pair.protocol, pair.app), pair.server)).unzip();
    servers.iter_mut().for_each(FaultyServer::go_on);
    // Long enough that what was said meanwhile is sent again.
    wait::pause(Duration::from_millis(500));
    net.servers.succeed("ip link set eth0 up");
    let mut rows = case.ends(apps);
    rows.iter_mut().for_each(|row| row.known = "when the link is up".into());
    drop(servers);
    case.finish(&rows);
}

/// The kernel has forgotten that the app's connection leads to the proxy: nothing that the proxy sends reaches the app, and
/// what the app sends next is answered with a reset. The proxy learns by a probe of its keep-alive.
#[test]
fn connection_tracking_is_flushed() {
    let net = Net::new();
    let case = Case::started_by(&net, "connection tracking flushed in the body", PATIENT, impatient);
    let pairs: Vec<Pair> = ALL.iter().map(|protocol| case.halted(*protocol, Stage::Body)).collect();
    net.app.succeed("conntrack -F");
    let (mut apps, servers): (Vec<_>, Vec<_>) =
        pairs.into_iter().map(|pair| ((pair.protocol, pair.app), pair.server)).unzip();
    apps.iter_mut().for_each(|(_, app)| app.speak());
    let mut rows = case.ends(apps);
    rows.iter_mut().for_each(|row| row.known = "when it sends again".into());
    drop(servers);
    case.finish(&rows);
}

/// dragoman asks nobody for a name: endpoints are addresses, and the app has asked before it connects.
#[test]
fn names_are_not_asked_for() {
    let net = Net::new();
    let case = Case::new(&net, "DNS away", PATIENT);
    net.app.succeed(
        "nft 'add table inet names; add chain inet names asked { type filter hook output priority 0; }; \
         add rule inet names asked meta l4proto { tcp, udp } th dport { 53, 853, 5353 } counter drop'",
    );
    let mut pairs: Vec<Pair> = ALL.iter().map(|protocol| case.halted(*protocol, Stage::Body)).collect();
    pairs.iter_mut().for_each(|pair| pair.server.go_on());
    let (apps, servers): (Vec<_>, Vec<_>) =
        pairs.into_iter().map(|pair| ((pair.protocol, pair.app), pair.server)).unzip();
    let rows = case.ends(apps);
    drop(servers);
    let asked = net.app.succeed("nft list chain inet names asked");
    assert!(asked.contains("counter packets 0 bytes 0"), "{asked}");
    case.finish(&rows);
}
