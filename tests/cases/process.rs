//! The process around the flows: how it starts, what it refuses when it is full, how it ends.

use std::time::Duration;

use dragoman_harness::dragoman::{ID, init, proxy};
use dragoman_harness::net::server;
use dragoman_harness::origin::echo;
use dragoman_harness::scratch::Scratch;
use dragoman_harness::{Dragoman, Net, Origin, Peer, binaries, process, wait};
use nix::sys::signal::Signal;

fn opaque(net: &Net) -> Peer {
    let mut client = net.app.connect(server(7000));
    client.send(b"\x01\x02").unwrap();
    client
}

#[test]
fn it_drops_to_its_own_user_before_it_dials() {
    let net = Net::new();
    let dragoman = Dragoman::start(&net, "");
    let status = std::fs::read_to_string(format!("/proc/{}/status", dragoman.pid())).unwrap();
    let line = |key: &str| {
        status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim().to_owned()
    };
    let four = [ID; 4].map(|id| id.to_string()).join("\t");
    assert_eq!((line("Uid:"), line("Gid:"), line("Groups:")), (four.clone(), four, String::new()));
    assert_eq!(line("CapEff:"), "0000000000000000");
    assert_eq!(line("CapPrm:"), "0000000000000000");
}

#[test]
fn a_port_that_is_taken_is_a_clear_error() {
    let net = Net::new();
    let _first = Dragoman::start(&net, "");
    let scratch = Scratch::new("second");
    let file = scratch.write("dragoman.toml", "");
    let out = process::output(&mut proxy(&net, &file));
    let said = process::text(&out);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("15001") && said.contains("taken"), "{said}");
}

#[test]
fn cause_drain_deadline_resets_what_is_still_open() {
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(7000), echo);
    let mut dragoman = Dragoman::start(&net, "[proxy]\ndrain = '500ms'\n");
    let mut client = opaque(&net);
    client.read_exact(2).unwrap();
    dragoman.signal(Signal::SIGTERM);
    assert_eq!(client.read_to_reset().unwrap(), (Vec::new(), true));
    assert_eq!(dragoman.wait(Duration::from_secs(5)).code(), Some(0));
    let record = dragoman.record_of("drain_deadline");
    assert_eq!((&record["who"], &record["bytes_to_app"]), (&"dragoman".into(), &2.into()), "{record}");
}

#[test]
fn cause_flow_limit_resets_the_one_too_many_and_spares_the_others() {
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(7000), echo);
    let dragoman = Dragoman::start(&net, "[proxy]\nmax_flows = 3\n");
    let mut open: Vec<Peer> = (0..3).map(|_| opaque(&net)).collect();
    for client in &mut open {
        client.read_exact(2).unwrap();
    }
    assert_eq!(net.app.knock(server(7000), b"\x01\x02"), (Vec::new(), true));
    assert_eq!(dragoman.record_of("flow_limit")["who"], "dragoman");
    let metrics = dragoman.metrics();
    assert_eq!(metrics.sum("dragoman_flows_limit", &[]), 3);
    assert_eq!(metrics.sum("dragoman_flows_total", &[("cause", "flow_limit")]), 1);
    open.pop();
    dragoman.metrics_where("a place is free", |m| m.sum("dragoman_flows_open", &[]) == 2);
    open.push(opaque(&net));
    for client in &mut open {
        client.send("ok").unwrap();
    }
    assert!(open[2].read_exact(2).is_ok());
}

#[test]
fn cause_descriptors_exhausted_is_said_and_passes() {
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(7000), echo);
    // Room for what it opens at its start and for some flows, each of which takes two.
    let dragoman = Dragoman::start_by(&net, "", |net, configuration| {
        let mut command = net.app.command("prlimit");
        command.arg("--nofile=40:40").arg(binaries::dragoman());
        command.args(["proxy", "--config"]).arg(configuration);
        command
    });
    process::succeed(&mut init(&net, &["install"]));
    let reached = || {
        let mut client = net.app.try_connect(server(7000)).ok()?;
        client.send(b"\x01\x02").ok()?;
        client.read_exact(2).ok().map(|_| client)
    };
    let clients: Vec<Option<Peer>> = (0..30).map(|_| reached()).collect();
    let answered = clients.iter().flatten().count();
    assert!((1..30).contains(&answered), "{answered} of 30 flows were served");
    assert_eq!(dragoman.record_of("descriptors_exhausted")["who"], "dragoman");
    drop(clients);
    wait::until_some("it serves again", wait::SOON, reached);
}

#[test]
fn the_admin_port_answers_what_it_offers() {
    let net = Net::new();
    let dragoman = Dragoman::start(&net, "");
    let status = |path| dragoman.admin(path).unwrap().status();
    assert_eq!(
        [status("/live"), status("/ready"), status("/metrics"), status("/nothing")],
        [200, 200, 200, 404]
    );
    assert_eq!(dragoman.metrics().sum("dragoman_build_info", &[]), 1);
}
