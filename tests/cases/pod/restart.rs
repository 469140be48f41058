//! The proxy's container ends alone: what was open is reset, what is dialled is refused, and nothing goes past.

use dragoman_harness::Origin;
use dragoman_harness::net::server_in_both_families;
use dragoman_harness::pods::{Node, Pod};

use crate::{HOSTS, OBSERVE, app, servers};

/// The exit codes of curl.
const REFUSED: i32 = 7;
const RESET: i32 = 56;

/// Reads two answers that do not end, and says how each ended for it.
const APP: &str = "
for host in 198.18.0.2 [fd98::2]; do
    (curl --silent --no-buffer http://$host:81/open; code=$?; echo; echo ended $code) &
done
exec sleep 600";

#[test]
fn without_the_proxy_flows_are_reset_and_refused_and_nothing_goes_past_until_it_is_back() {
    let node = Node::new();
    let origins = servers(&node);
    // An answer that ends with the connection: were it closed and not reset, it would look like a whole one.
    let open = server_in_both_families(81).map(|address| {
        Origin::tcp(node.servers(), address, |mut peer| {
            peer.request()?;
            peer.send("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhalf")?;
            peer.read_to_reset().map(drop)
        })
    });
    let pod = node.play(&node.inject(&app(OBSERVE, "Never", APP), &[]));
    pod.unless_lost("both answers have begun", || {
        (pod.output("app").matches("half").count() == 2).then_some(())
    });
    assert_eq!(HOSTS.map(|host| request(&pod, host)), [0, 0]);
    assert_eq!(counts(&origins), [1, 1]);

    pod.signal("dragoman", "KILL");
    assert_eq!(pod.end("dragoman"), 137);
    let ended = || (pod.output("app").matches("ended").count() == 2).then(|| pod.output("app"));
    let said = pod.unless_lost("both flows have ended for the app", ended);
    assert_eq!(said.matches(&format!("ended {RESET}\n")).count(), 2, "{said}");
    assert_eq!(HOSTS.map(|host| request(&pod, host)), [REFUSED, REFUSED]);

    pod.start("dragoman");
    pod.ready();
    assert_eq!(HOSTS.map(|host| request(&pod, host)), [0, 0]);
    assert_eq!(counts(&origins), [2, 2], "a connection went past the proxy while it was away");
    assert_eq!(counts(&open), [1, 1]);
}

/// curl's exit code for one request.
fn request(pod: &Pod<'_>, host: &str) -> i32 {
    let url = format!("http://{host}/");
    let out = pod.exec("app", &["curl", "--silent", "--output", "/dev/null", &url]);
    out.status.code().expect("podman exits")
}

fn counts(origins: &[Origin; 2]) -> [usize; 2] {
    [origins[0].seen().len(), origins[1].seen().len()]
}
