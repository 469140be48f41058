//! Nothing of the app leaves the pod but through the proxy, from the first packet on.

use dragoman_harness::pods::{Node, Pod};
use dragoman_harness::wait;

use crate::{OBSERVE, app_after, servers};

/// An init container of the app's own: it connects to the servers before there is a proxy, but not before it is told so.
const EARLY: &str = "  initContainers:
    - name: early
      image: localhost/app:test
      imagePullPolicy: Never
      command: [sh, -ec]
      args:
        - |
          nc -l -p 9999
          curl --silent --fail http://198.18.0.2/early
          curl --silent --fail http://[fd98::2]/early
";

/// Connects as soon as it is there, and often.
const APP: &str = "
for n in $(seq 20); do
    for host in 198.18.0.2 [fd98::2]; do
        curl --silent --show-error --write-out '%{local_port}\\n' --output /dev/null http://$host/$n || echo failed
    done
done
echo done
exec sleep 600";

/// Counts what begins a connection to another machine and is not of the proxy's group, at the last place before the wire.
const WITNESS: &str = "table inet witness {
    counter v4 { }
    counter v6 { }
    chain leaving {
        type filter hook postrouting priority 300; policy accept;
        oifname != lo meta skgid != 1337 tcp flags & (syn | ack) == syn meta nfproto ipv4 counter name v4
        oifname != lo meta skgid != 1337 tcp flags & (syn | ack) == syn meta nfproto ipv6 counter name v6
    }
}";

#[test]
fn the_app_is_captured_from_its_first_packet_and_what_runs_before_is_direct() {
    let node = Node::new();
    let origins = servers(&node);
    let mut playing = node.begin_to_play(&node.inject(&app_after(EARLY, OBSERVE, "Always", APP), &[]));
    let pod = node.playing_pod(&mut playing, "shop");
    wait::until("the app's own init container waits", wait::SOON, || pod.namespace().listens(9999));
    pod.namespace().succeed(&format!("nft -f - <<'END'\n{WITNESS}\nEND"));
    assert_eq!(past_the_proxy(&pod), [0, 0]);

    drop(node.namespace().connect((pod.addresses()[0], 9999).into()));
    let said = pod.wait_for("app", "done");
    drop(playing);

    // One of each family is that of the init container: it shows that the witness is awake.
    assert_eq!(past_the_proxy(&pod), [1, 1], "a connection of the app went past the proxy");
    let ports: Vec<u16> = said.lines().filter_map(|line| line.parse().ok()).collect();
    assert_eq!(ports.len(), 40, "{said}");
    let records = pod.records_where(40, |record| record["kind"] == "exchange");
    let mut captured: Vec<u16> = records.iter().map(|record| port(record["peer"].as_str())).collect();
    let mut dialled = ports;
    captured.sort_unstable();
    dialled.sort_unstable();
    assert_eq!(captured, dialled, "the ports that the proxy saw, and those that curl had");
    for origin in origins {
        let seen = origin.seen();
        assert_eq!(seen.len(), 21, "{:?}", origin.address());
        assert!(seen.iter().all(|seen| pod.addresses().contains(&seen.peer.ip())), "{seen:?}");
        assert!(seen[0].text().starts_with("GET /early "), "{}", seen[0].text());
        assert!(seen[1].text().starts_with("GET /1 "), "{}", seen[1].text());
    }
    assert!(records.iter().all(|record| record["path"] != "/early"), "{records:?}");
}

/// How many connections over IPv4 and IPv6 left the pod without the proxy.
fn past_the_proxy(pod: &Pod<'_>) -> [u64; 2] {
    ["v4", "v6"].map(|name| {
        let told = pod.namespace().succeed(&format!("nft list counter inet witness {name}"));
        let mut words = told.split_whitespace().skip_while(|word| *word != "packets").skip(1);
        words.next().and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("nft: {told}"))
    })
}

fn port(address: Option<&str>) -> u16 {
    let address = address.unwrap_or_else(|| panic!("a record without a peer"));
    address.parse::<std::net::SocketAddr>().unwrap_or_else(|e| panic!("{address}: {e}")).port()
}
