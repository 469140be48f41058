//! A ConfigMap is followed while the pod runs.

use std::fs;

use dragoman_harness::pods::{Node, Pod};
use dragoman_harness::process;

use crate::{HOSTS, app, servers};

const FOLDER: &str = "/etc/dragoman/platform";

fn policy(team: &str) -> String {
    format!("log.access = \"all\"\n[defaults]\nheaders = {{ set = {{ \"x-team\" = \"{team}\" }} }}\n")
}

#[test]
fn a_changed_config_map_is_in_force_without_a_restart_and_a_broken_one_is_not() {
    let node = Node::new();
    let origins = servers(&node);
    let pod = node.play(&node.inject(&app(&policy("blue"), "Always", "exec sleep 600"), &[]));
    pod.ready();
    let started = pod.inspect("dragoman")["State"]["StartedAt"].take();
    ask(&pod, "blue");

    replace(&pod, &policy("green"));
    pod.metrics_where("the new policy is in force", |metrics| {
        metrics.sum("dragoman_config_generation", &[]) == 2
    });
    ask(&pod, "green");

    replace(&pod, "[defaults]\nretries = {}\n");
    let refused = || pod.log("dragoman").contains("retries").then_some(());
    pod.unless_lost("the broken policy is refused, by the name of its key", refused);
    ask(&pod, "still-green");

    for origin in origins {
        let teams: Vec<_> =
            origin.requests().iter().map(|request| request.header("x-team").map(str::to_owned)).collect();
        assert_eq!(teams, ["blue", "green", "green"].map(|team| Some(team.to_owned())));
    }
    assert_eq!(pod.inspect("dragoman")["State"]["StartedAt"], started, "it was restarted");
}

/// Replaces the file of the ConfigMap as kubelet does: all at once.
fn replace(pod: &Pod<'_>, policy: &str) {
    let folder = pod.mounted("dragoman", FOLDER);
    let new = folder.join("..new");
    fs::write(&new, policy).expect("a volume of the test's own");
    fs::rename(new, folder.join("platform.toml")).expect("both are in one folder");
}

fn ask(pod: &Pod<'_>, path: &str) {
    for host in HOSTS {
        let out = pod.exec("app", &["curl", "--silent", "--fail", &format!("http://{host}/{path}")]);
        assert!(out.status.success(), "{host}: {}\n{}", process::text(&out), pod.log("dragoman"));
    }
}
