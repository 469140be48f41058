//! Plain ports: the same policy where nothing is captured and nobody has any capability.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use dragoman_harness::net::server;
use dragoman_harness::origin::Reply;
use dragoman_harness::{Dragoman, Namespace, Net, Origin, Peer, binaries, process, wait};

const GET: &str = "GET / HTTP/1.1\r\nHost: other.example\r\n\r\n";

const POLICY: &str = "
[destination.orders]
endpoints = ['198.18.0.2:80', '198.18.0.2:81']
retry = { base = '1ms' }
headers = { set = { x-by = 'policy' } }
[destination.other]
hosts = ['other.example']
headers = { set = { x-by = 'other' } }
[destination.bytes]
protocol = 'opaque'
endpoints = ['198.18.0.2:7000']
[listener.orders]
address = '127.0.0.1:9001'
destination = 'orders'
[listener.orders6]
address = '[::1]:9001'
destination = 'orders'
[listener.bytes]
address = '127.0.0.1:9002'
destination = 'bytes'
";

/// As nobody, without any capability, and without a way to get one. The folder of the build may be closed to nobody.
fn as_nobody(net: &Net, configuration: &Path) -> Command {
    let folder = configuration.parent().expect("a file is in a folder");
    let program = folder.join("dragoman");
    process::copy(&binaries::dragoman(), &program);
    for path in [folder, &program, configuration] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("its own files");
    }
    let mut command = net.app.command("setpriv");
    command.args([
        "--reuid=nobody",
        "--regid=nogroup",
        "--clear-groups",
        "--no-new-privs",
        "--bounding-set=-all",
    ]);
    command.arg(program).args(["proxy", "--config"]).arg(configuration);
    command
}

fn connect(app: &Namespace, address: &str) -> Peer {
    app.connect(address.parse().expect("an address"))
}

#[test]
fn l8_the_same_policy_without_any_capability_on_plain_ports() {
    let net = Net::new();
    let dead = server(80);
    let _alive = Origin::http(&net.servers, server(81), |request, _| {
        Reply::status(200, request.header("x-by").unwrap_or("nobody"))
    });
    let _bytes = Origin::tcp(&net.servers, server(7000), |mut peer| {
        let said = peer.read_exact(2)?;
        peer.send(said)
    });
    let dragoman = Dragoman::start_by(&net, POLICY, as_nobody);
    let status = std::fs::read_to_string(format!("/proc/{}/status", dragoman.pid())).unwrap();
    for line in ["Uid:\t65534", "CapPrm:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"] {
        assert!(status.contains(line), "{line}: {status}");
    }
    for address in ["127.0.0.1:9001", "[::1]:9001"] {
        let mut client = connect(&net.app, address);
        for _ in 0..4 {
            let answer = client.exchange(GET).unwrap();
            let found = (answer.status(), answer.text());
            assert_eq!(
                found,
                (200, "policy".to_owned()),
                "{dead} is dead, and the port decides, not the host"
            );
        }
    }
    let mut client = connect(&net.app, "127.0.0.1:9002");
    client.send("ok").unwrap();
    assert_eq!(client.read_exact(2).unwrap(), b"ok");
    drop(client);
    let metrics = dragoman.settle();
    assert!(metrics.sum("dragoman_retries_total", &[("destination", "orders")]) >= 4);
    assert_eq!(metrics.sum("dragoman_flows_total", &[("destination", "bytes")]), 1);
    let record = dragoman.records_where(1, |record| record["destination"] == "bytes").remove(0);
    assert_eq!(record["original_dst"], "127.0.0.1:9002", "it is where the app dialled");
}

#[test]
fn l8_the_port_of_captured_connections_refuses_who_comes_directly() {
    let net = Net::new();
    let dragoman = Dragoman::start_by(&net, POLICY, as_nobody);
    let address = "127.0.0.1:15001".parse().unwrap();
    assert_eq!(net.app.knock(address, GET.as_bytes()), (Vec::new(), true));
    wait::until("it is told", wait::SOON, || {
        dragoman.records().iter().any(|record| {
            ["own_listener", "no_original_destination"].iter().any(|cause| record["cause"] == *cause)
        })
    });
}
