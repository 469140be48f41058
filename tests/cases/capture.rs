//! What the rules send to the proxy, and what the proxy does with connections that no rule sent.

use std::net::SocketAddr;

use dragoman_harness::dragoman::{PORT, init, proxy, run_init};
use dragoman_harness::net::{APP_V4, server, server_in_both_families, server_v4};
use dragoman_harness::origin::Reply;
use dragoman_harness::scratch::Scratch;
use dragoman_harness::{Dragoman, Net, Origin, Peer, binaries, process, wait};
use socket2::{Domain, Socket, Type};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn own_listeners() -> [SocketAddr; 2] {
    ["127.0.0.1", "::1"].map(|ip| SocketAddr::new(ip.parse().unwrap(), PORT))
}

/// Dials the proxy's own port in both families; each is reset without a byte.
fn dial_itself(net: &Net) {
    for address in own_listeners() {
        assert_eq!(net.app.knock(address, GET.as_bytes()), (Vec::new(), true), "{address}");
    }
}

#[test]
fn cause_no_original_destination_without_rules_is_a_reset() {
    let net = Net::new();
    let dragoman = Dragoman::start_uncaptured(&net, "");
    dial_itself(&net);
    // With no conntrack in the namespace nothing is known; with it the listener's own address is.
    let known = ["no_original_destination", "own_listener"];
    let records = dragoman.records_where(2, |r| known.iter().any(|cause| r["cause"] == *cause));
    assert_eq!(records.len(), 2);
    assert_eq!(records.iter().filter(|r| r["cause"] == "no_original_destination").count(), 2, "{records:#?}");
}

#[test]
fn c1_cause_own_listener_with_rules_is_a_reset_and_no_loop() {
    let net = Net::new();
    let dragoman = Dragoman::start(&net, "");
    dial_itself(&net);
    let metrics = dragoman.settle();
    let refused = metrics.sum("dragoman_flows_total", &[("cause", "own_listener")])
        + metrics.sum("dragoman_flows_total", &[("cause", "no_original_destination")]);
    assert_eq!((refused, metrics.sum("dragoman_flows_total", &[])), (2, 2), "a loop would be more flows");
}

#[test]
fn cause_own_listener_names_the_app() {
    let net = Net::new();
    let dragoman = Dragoman::start(&net, "");
    // Captured loopback: every dial of the proxy's port has an original destination, its own.
    process::succeed(&mut init(&net, &["install", "--capture-loopback"]));
    net.app
        .succeed("nft add rule inet dragoman output tcp dport 15001 meta skgid != 1337 redirect to :15001");
    dial_itself(&net);
    let record = dragoman.record_of("own_listener");
    assert_eq!(record["who"], "app", "{record}");
}

#[test]
fn c1_the_proxys_own_connections_are_not_captured() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"));
    let dragoman = Dragoman::start(&net, "");
    assert_eq!(net.app.connect(server(80)).exchange(GET).unwrap().status(), 200);
    assert_eq!(dragoman.settle().sum("dragoman_flows_total", &[]), 1);
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn c2_an_app_under_the_proxys_uid_is_still_captured() {
    let net = Net::new();
    let _origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"));
    let dragoman = Dragoman::start(&net, "");
    net.app.succeed("setpriv --reuid 1337 --regid 1000 --clear-groups curl -sS http://198.18.0.2/");
    assert_eq!(dragoman.settle().sum("dragoman_flows_total", &[]), 1);
    net.app.succeed("setpriv --reuid 1000 --regid 1337 --clear-groups curl -sS http://198.18.0.2/");
    assert_eq!(dragoman.settle().sum("dragoman_flows_total", &[]), 1, "its group is what is left alone");
}

#[test]
fn c3_both_families_keep_their_original_destination() {
    let net = Net::new();
    let dragoman = Dragoman::start(&net, "");
    for address in server_in_both_families(80) {
        let _origin = Origin::http(&net.servers, address, |_, _| Reply::status(200, "ok"));
        let mut client = net.app.connect(address);
        assert_eq!(client.exchange(GET).unwrap().status(), 200);
        let (peer, original) = (client.local().to_string(), address.to_string());
        drop(client);
        let record = dragoman
            .records_where(1, |r| r["kind"] == "flow" && r["original_dst"] == original.as_str())
            .remove(0);
        assert_eq!(record["peer"], peer.as_str(), "{record}");
    }
}

/// The mirror image of a source port that carries an app past the rules: dragoman's own SYN meets the closed entry of
/// an app's connection, and is translated like that one. It comes back as a flow of its own, and gets there.
#[test]
fn a_dial_that_meets_an_apps_closed_connection_gets_there_in_two_steps() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"));
    let dragoman = Dragoman::start(&net, "");
    let ports = |range: &str| net.app.succeed(&format!("sysctl -qw net.ipv4.ip_local_port_range='{range}'"));
    // The only port that dragoman could dial from is the app's: it resets the app, and the entry is there.
    ports("40000 40000");
    let mut first = net.app.enter(|| from_port(40_000, server(80)));
    first.send([1, 2]).unwrap();
    assert!(first.read_to_reset().unwrap().1);
    drop(first);
    // Now it dials from that port, and meets itself, which has one more.
    ports("40000 40001");
    let mut second = net.app.enter(|| from_port(40_010, server(80)));
    assert_eq!(second.exchange(GET).unwrap().status(), 200);
    drop(second);
    ports("32768 60999");
    let peers = |records: Vec<dragoman_harness::dragoman::Record>| {
        records.iter().map(|r| r["peer"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    let mut peers = peers(dragoman.records_where(3, |r| r["kind"] == "flow"));
    peers.sort_unstable();
    let peer = |port| SocketAddr::new(APP_V4.into(), port).to_string();
    assert_eq!(peers, [peer(40_000), peer(40_000), peer(40_010)]);
    assert_eq!(origin.requests().len(), 1);
}

/// A connection in this namespace from A's address and this port.
fn from_port(port: u16, target: SocketAddr) -> Peer {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SocketAddr::new(APP_V4.into(), port).into()).unwrap();
    socket.connect(&target.into()).unwrap();
    Peer::new(socket.into())
}

/// A proxy that is told by its mark, under a group that is captured like any other.
#[test]
fn c1_the_proxys_own_connections_are_not_captured_by_their_mark() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"));
    let traces = Origin::http(&net.servers, server(4318), |_, _| Reply::status(200, ""));
    let configuration = "[proxy]\nmark = 17\n[trace]\nendpoint = 'http://198.18.0.2:4318'\nsample = 1.0\n";
    let dragoman = Dragoman::start_by(&net, configuration, |net, configuration| {
        let mut command = net.app.command("setpriv");
        command.args(["--reuid=1000", "--regid=1000", "--clear-groups"]);
        command.args([
            "--inh-caps=+net_admin",
            "--ambient-caps=+net_admin",
            "--bounding-set=-all,+net_admin",
        ]);
        command.arg(binaries::dragoman()).args(["proxy", "--config"]).arg(configuration);
        command
    });
    process::succeed(&mut init(&net, &["--mark", "17"]));
    assert_eq!(net.app.connect(server(80)).exchange(GET).unwrap().status(), 200);
    wait::until("the span is exported", wait::SOON, || traces.requests().len() == 1);
    assert_eq!(dragoman.settle().sum("dragoman_flows_total", &[]), 1, "a loop would be more flows");
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn a_mark_without_its_capability_is_a_clear_error() {
    let net = Net::new();
    let scratch = Scratch::new("mark");
    let out = process::output(&mut proxy(&net, &scratch.write("dragoman.toml", "[proxy]\nmark = 17\n")));
    let said = process::text(&out);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(
        said.contains("cannot mark connections (Operation not permitted") && said.contains("CAP_NET_ADMIN"),
        "{said}"
    );
}

/// Two connections from one source port, to two servers: each needs a redirect port of its own to be told apart.
#[test]
fn c7_a_range_of_ports_serves_connections_of_one_source() {
    let net = Net::new();
    let targets = [0, 1].map(|n| SocketAddr::new(server_v4(n), 80));
    let _origins = targets.map(|target| Origin::http(&net.servers, target, |_, _| Reply::status(200, "ok")));
    let dragoman = Dragoman::start_by(&net, "[proxy]\nport_count = 2\n", proxy);
    process::succeed(&mut init(&net, &["--port", "15001-15002"]));
    let out = run_init(&net, &["verify", "--port", "15001-15002"]);
    assert!(out.status.success(), "{}\n{}", process::text(&out), dragoman.log());
    let source = SocketAddr::new(APP_V4.into(), 40_000);
    let mut clients = targets.map(|target| net.app.enter(|| from_port(source.port(), target)));
    for client in &mut clients {
        assert_eq!(client.exchange(GET).unwrap().status(), 200);
    }
    drop(clients);
    for target in targets {
        let original = target.to_string();
        let record = dragoman
            .records_where(1, |r| r["kind"] == "flow" && r["original_dst"] == original.as_str())
            .remove(0);
        assert_eq!(record["peer"], source.to_string(), "the source is as the app chose it: {record}");
    }
}

#[test]
fn c9_verify_proves_that_the_running_proxy_gets_what_is_captured() {
    let net = Net::new();
    let dragoman = Dragoman::start(&net, "");
    let out = run_init(&net, &["verify"]);
    assert!(out.status.success(), "{}\n{}", process::text(&out), dragoman.log());
    process::succeed(&mut init(&net, &["remove"]));
    let out = run_init(&net, &["verify"]);
    assert_eq!(out.status.code(), Some(1), "without rules nothing is proved: {}", process::text(&out));
}

#[test]
fn drained_rules_serve_open_flows_to_their_end_and_leave_new_ones_alone() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"));
    let dragoman = Dragoman::start(&net, "[defaults]\nrequest_id = true\n");
    let mut open = net.app.connect(server(80));
    let captured = |answered: usize| origin.requests()[answered].header("x-request-id").is_some();
    open.exchange(GET).unwrap();
    assert!(captured(0));
    std::thread::scope(|scope| {
        let removing = scope.spawn(|| run_init(&net, &["remove", "--drain", "20"]));
        wait::until("new connections go direct", wait::SOON, || {
            net.app.connect(server(80)).exchange(GET).unwrap();
            !captured(origin.requests().len() - 1)
        });
        open.exchange(GET).unwrap();
        assert!(captured(origin.requests().len() - 1), "the open flow still passes through dragoman");
        drop(open);
        let out = removing.join().unwrap();
        assert!(out.status.success(), "{}", process::text(&out));
    });
    assert_eq!(net.app.succeed("nft list ruleset"), "");
    dragoman.settle();
}
