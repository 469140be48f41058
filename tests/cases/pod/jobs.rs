//! Pods that end: when the app has ended the proxy does too, and how the app ended is kept.

use std::fs;
use std::path::Path;

use dragoman_harness::Origin;
use dragoman_harness::net::server;
use dragoman_harness::origin::Reply;
use dragoman_harness::pods::{APP, Node, Pod};

use crate::{OBSERVE, app, servers};

/// Asks both servers, and then does as it is told.
const ASK: &str = "
for host in 198.18.0.2 [fd98::2]; do
    curl --silent --show-error --fail http://$host/ || exit 9
done
";

#[test]
fn a_job_completes() {
    assert_eq!(job("exit 0"), 0);
}

#[test]
fn a_job_that_fails_keeps_its_code() {
    assert_eq!(job("exit 3"), 3);
}

#[test]
fn a_job_that_is_killed_says_so() {
    assert_eq!(job("kill -KILL $$"), 137);
}

#[test]
fn a_job_that_is_told_to_end_says_so() {
    let node = Node::new();
    let pod = play(&node, "trap 'exit 4' TERM; echo ready; while true; do sleep 0.1; done");
    pod.wait_for("app", "ready");
    pod.signal("app", "TERM");
    assert_eq!(ended(&pod), 4);
}

/// The example of a Job, whose template is played as a pod since podman 4.3 knows no Job.
#[test]
fn the_example_of_a_job_completes() {
    let node = Node::new();
    node.tag(APP, "docker.io/library/busybox:1.37");
    let origin = Origin::http(node.servers(), server(80), |_, n| match n % 3 {
        0 => Reply::status(200, "order\n"),
        _ => Reply::status(503, "busy\n"),
    });
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kubernetes/examples");
    let read = |name: &str| fs::read_to_string(examples.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let injected = node.inject(&read("job.yaml"), &[]);
    let policy = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: dragoman-platform\ndata:\n  \
                  platform.toml: |\n    defaults.retry = {}\n";
    let pod = node.play(&format!("{policy}---\n{}", template_as_pod(&injected, "import")));
    assert_eq!(pod.end("import"), 0, "{}", pod.log("import"));
    assert_eq!(pod.end("dragoman"), 0, "{}", pod.log("dragoman"));
    assert_eq!(pod.output("import"), "order\n".repeat(10));
    assert_eq!(origin.requests().len(), 28);
}

/// The template of a Job as a pod, with what stands for the names that a cluster would serve.
fn template_as_pod(job: &str, name: &str) -> String {
    let template = job.lines().skip_while(|line| *line != "  template:").skip(1);
    let own = template.take_while(|line| line.is_empty() || line.starts_with("    "));
    let lines: String = own.map(|line| format!("{}\n", line.strip_prefix("    ").unwrap_or(line))).collect();
    let named = lines.replacen("metadata:\n", &format!("metadata:\n  name: {name}\n"), 1);
    let spec = "spec:\n  hostAliases:\n    - ip: 198.18.0.2\n      hostnames: [orders]\n";
    format!("apiVersion: v1\nkind: Pod\n{}", named.replacen("\nspec:\n", &format!("\n{spec}"), 1))
}

/// The exit code of a job that asks, and then runs this.
fn job(last: &str) -> i64 {
    let node = Node::new();
    let origins = servers(&node);
    let pod = play(&node, &format!("{ASK}{last}"));
    let code = ended(&pod);
    assert_eq!(pod.output("app"), "sold\nsold\n");
    assert_eq!(origins.map(|origin| origin.requests().len()), [1, 1]);
    code
}

fn play<'n>(node: &'n Node, script: &str) -> Pod<'n> {
    node.play(&node.inject(&app(OBSERVE, "Never", script), &[]))
}

/// The app's exit code, when both have ended and the proxy was content.
fn ended(pod: &Pod<'_>) -> i64 {
    let code = pod.end("app");
    assert_eq!(pod.end("dragoman"), 0, "{}", pod.log("dragoman"));
    code
}
