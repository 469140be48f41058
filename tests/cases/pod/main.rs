//! Pods with dragoman in them, played by podman as a cluster would: manifests as users write them, `dragoman inject`,
//! containers with the users and capabilities that it gives them, and servers beside the pod.

mod captured;
mod configuration;
mod deletion;
mod hostile;
mod jobs;
mod probes;
mod readme;
mod restart;
mod retry;
mod rules;
mod unchanged;

use dragoman_harness::Origin;
use dragoman_harness::net::server_in_both_families;
use dragoman_harness::origin::Reply;
use dragoman_harness::pods::Node;

/// The addresses of the server in a URL, over IPv4 and over IPv6.
const HOSTS: [&str; 2] = ["198.18.0.2", "[fd98::2]"];

/// A policy that says nothing but that all is to be seen in the access log.
const OBSERVE: &str = "log.access = \"all\"";

/// A manifest as the owner of an app writes it: a policy, and a pod whose container `app` runs a shell script.
fn app(policy: &str, restart: &str, script: &str) -> String {
    app_after("", policy, restart, script)
}

/// The same with further lines in the specification of the pod.
fn app_after(lines: &str, policy: &str, restart: &str, script: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: dragoman-platform\ndata:\n  platform.toml: |\n{}---\n\
         apiVersion: v1\nkind: Pod\nmetadata:\n  name: shop\nspec:\n  restartPolicy: {restart}\n\
         \x20 terminationGracePeriodSeconds: 40\n{lines}\
         \x20 containers:\n    - name: app\n      image: localhost/app:test\n      imagePullPolicy: Never\n\
         \x20     command: [sh, -c]\n      args:\n        - |\n{}{SECURITY}",
        indented(4, policy),
        indented(10, script),
    )
}

/// What a cluster that takes care asks of every app.
const SECURITY: &str = "      securityContext:
        runAsUser: 1000
        runAsGroup: 1000
        allowPrivilegeEscalation: false
        capabilities:
          drop: [ALL]
";

fn indented(columns: usize, text: &str) -> String {
    text.trim_matches('\n').lines().map(|line| format!("{:columns$}{line}\n", "")).collect()
}

/// A server on port 80 over both families that answers everything.
fn servers(node: &Node) -> [Origin; 2] {
    server_in_both_families(80)
        .map(|address| Origin::http(node.servers(), address, |_, _| Reply::status(200, "sold\n")))
}
