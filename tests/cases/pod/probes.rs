//! What a kubelet and Prometheus see of a pod from outside, and what nobody does.

use std::io::ErrorKind;

use dragoman_harness::pods::Node;

use crate::{OBSERVE, app};

#[test]
fn probes_and_metrics_are_seen_from_outside_and_nothing_else() {
    let node = Node::new();
    let pod = node.play(&node.inject(&app(OBSERVE, "Always", "exec sleep 600"), &[]));
    pod.ready();
    for from in [node.servers(), node.namespace()] {
        for address in pod.addresses() {
            let ask = |request: &str| {
                let head = format!(
                    "{request} HTTP/1.1\r\nhost: pod\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                );
                from.connect((address, 15020).into())
                    .exchange(head)
                    .unwrap_or_else(|e| panic!("{request}: {e}"))
            };
            for path in ["/live", "/ready", "/metrics"] {
                assert_eq!(ask(&format!("GET {path}")).status(), 200, "{address} {path}");
                assert_eq!(ask(&format!("POST {path}")).status(), 405, "{address} {path}");
            }
            for path in ["/quitquitquit", "/drain", "/announce", "/reload", "/config", "/flows"] {
                for method in ["GET", "POST"] {
                    let status = ask(&format!("{method} {path}")).status();
                    assert!([404, 405].contains(&status), "{address} {method} {path}: {status}");
                }
            }
            // Where things are shown and changed, and where captured connections come.
            for port in [15000, 15001] {
                let refused = from.try_connect((address, port).into()).err().map(|e| e.kind());
                assert_eq!(refused, Some(ErrorKind::ConnectionRefused), "{address}:{port}");
            }
        }
    }
    assert_eq!(
        pod.admin("/ready").map(|answer| answer.status()),
        Some(200),
        "a request from outside ended it"
    );
}
