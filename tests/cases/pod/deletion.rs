//! A pod is deleted while its app works: SIGTERM to all containers at once, and SIGKILL when the grace is over.

use dragoman_harness::Origin;
use dragoman_harness::pods::Node;

use crate::{OBSERVE, app, servers};

/// What `app` says in the specification, as the deletion of a pod takes it from there.
const GRACE_SECONDS: u32 = 40;

/// Asks without an end, by a connection of its own each time. Told to end, it does AFTER, asks 10 more times, and ends.
const APP: &str = "
LISTEN
trap 'told=1' TERM
more=10
n=0
while [ $more -gt 0 ]; do
    for host in 198.18.0.2 [fd98::2]; do
        n=$((n + 1))
        echo asked $n
        curl --silent --show-error --fail --output /dev/null http://$host/$n && echo answered $n || echo lost $n
    done
    if [ \"$told\" = 1 ]; then
        [ $more = 10 ] && echo told && AFTER
        more=$((more - 1))
    fi
done
echo done
exit 0";

#[test]
fn no_request_of_a_worker_is_lost_until_it_has_ended() {
    deleted(&APP.replace("LISTEN\n", "").replace("AFTER", "true"));
}

#[test]
fn nor_of_a_server_that_is_quiet_for_longer_than_the_proxy_would_wait() {
    deleted(&APP.replace("LISTEN", "httpd -p 8080 -h /tmp").replace("AFTER", "sleep 3"));
}

fn deleted(script: &str) {
    let node = Node::new();
    let origins = servers(&node);
    let pod = node.play(&node.inject(&app(OBSERVE, "Always", script), &[]));
    pod.wait_for("app", "answered 6");
    pod.stop(GRACE_SECONDS, &["app", "dragoman"]);

    let said = pod.output("app");
    assert!(said.contains("told\n") && said.ends_with("done\n"), "the app did not end by itself: {said}");
    assert_eq!(pod.end("app"), 0, "{said}");
    let count = |word: &str| said.lines().filter(|line| line.starts_with(word)).count();
    assert_eq!(count("lost"), 0, "{said}\n{}", pod.log("dragoman"));
    assert_eq!(count("answered"), count("asked"), "{said}");
    let served: usize = origins.iter().map(|origin: &Origin| origin.requests().len()).sum();
    assert_eq!(served, count("asked"), "the server and the app count differently");
    assert_eq!(pod.end("dragoman"), 0, "{}", pod.log("dragoman"));
}
