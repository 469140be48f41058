//! An app that wants to get rid of its proxy.

use dragoman_harness::Origin;
use dragoman_harness::pods::Node;

use crate::{OBSERVE, app, servers};

/// Each line is an attempt, whose exit code is told.
const ATTEMPTS: &str = "
try() { name=$1; shift; \"$@\" >/tmp/said 2>&1; echo \"$name $?\"; }
try flush nft flush ruleset
try delete nft delete table inet dragoman
try insert nft insert rule inet dragoman output accept
try user-namespace unshare --user --map-root-user nft flush ruleset
try group setpriv --regid 1337 --clear-groups curl --silent http://198.18.0.2/group
try group-kept setpriv --regid 1337 --keep-groups curl --silent http://198.18.0.2/group
try user setpriv --reuid 1337 --keep-groups true
cp /usr/bin/curl /tmp/curl
try owner chgrp 1337 /tmp/curl
try sockets curl --silent --unix-socket /run/dragoman/control.sock http://dragoman/config
try binary touch /run/dragoman/dragoman
try signal kill -TERM -1
try drain curl --silent --fail --request POST http://127.0.0.1:15000/drain
try reload curl --silent --fail --request POST http://127.0.0.1:15000/reload
try admin curl --silent --fail --request POST http://127.0.0.1:15020/drain
try loop curl --silent --max-time 10 http://127.0.0.1:15001/
curl --silent --fail http://198.18.0.2/captured
curl --silent --fail http://[fd98::2]/captured
echo done
exec sleep 600";

/// Those whose success harms nobody: a process may signal all that it may, which is none but itself.
const HARMLESS: [&str; 1] = ["signal"];

#[test]
fn an_app_without_capabilities_cannot_get_round_its_proxy() {
    as_user("1000");
}

#[test]
fn nor_can_one_that_runs_as_root() {
    as_user("0");
}

fn as_user(user: &str) {
    let node = Node::new();
    let origins = servers(&node);
    node.add_image("localhost/tools:test", &["/usr/sbin/nft", "/usr/bin/setpriv", "/usr/bin/unshare"]);
    let manifest = app(OBSERVE, "Always", ATTEMPTS)
        .replace("localhost/app:test", "localhost/tools:test")
        .replace("runAsUser: 1000", &format!("runAsUser: {user}"))
        .replace("runAsGroup: 1000", &format!("runAsGroup: {user}"));
    let pod = node.play(&node.inject(&manifest, &[]));
    pod.ready();
    let before = pod.namespace().succeed("nft list ruleset");
    let said = pod.wait_for("app", "done");
    let attempts = said.lines().filter_map(|line| line.split_once(' '));
    let codes: Vec<_> = attempts.filter_map(|(name, code)| Some((name, code.parse::<i32>().ok()?))).collect();
    assert_eq!(codes.len(), 15, "{said}");
    let worked = codes.iter().filter(|(name, code)| *code == 0 && !HARMLESS.contains(name));
    assert_eq!(worked.count(), 0, "an attempt worked: {said}");
    assert!(codes.iter().all(|(_, code)| ![126, 127].contains(code)), "a program is missing: {said}");

    assert_eq!(pod.namespace().succeed("nft list ruleset"), before);
    let paths =
        |origin: &Origin| origin.requests().iter().map(|each| each.word(1).to_owned()).collect::<Vec<_>>();
    for origin in &origins {
        assert_eq!(paths(origin), ["/captured"]);
    }
    let records = pod.records_where(2, |record| record["path"] == "/captured");
    assert_eq!(records.len(), 2);
}
