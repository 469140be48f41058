//! What is not ours and judges manifests.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dragoman_harness::process::{self, text};
use dragoman_harness::programs;
use serde_json::Value;

/// The newest minors of Kubernetes, against whose schemas all manifests are held.
pub(crate) const NEWEST: [&str; 3] = ["1.35", "1.36", "1.37"];

/// A folder of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// What the schemas say of one file.
pub(crate) struct Verdict {
    /// The objects in it, those of a List one by one.
    pub(crate) objects: Vec<Value>,
    /// What is wrong, by version of Kubernetes.
    pub(crate) errors: BTreeMap<String, Vec<String>>,
}

impl Verdict {
    /// All that is wrong, with the version before it.
    pub(crate) fn all_errors(&self) -> Vec<String> {
        let lines = |(version, errors): (&String, &Vec<String>)| -> Vec<String> {
            errors.iter().map(|error| format!("{version}: {error}")).collect()
        };
        self.errors.iter().flat_map(lines).collect()
    }

    /// The objects of a kind.
    pub(crate) fn of_kind(&self, kind: &str) -> Vec<&Value> {
        self.objects.iter().filter(|object| object["kind"] == kind).collect()
    }
}

/// Holds files against the schemas of these versions, in one process.
pub(crate) fn schemas(versions: &[&str], files: &[PathBuf]) -> Vec<Verdict> {
    assert!(!files.is_empty(), "nothing to judge");
    let mut command = Command::new(programs::python());
    command.arg(programs::path("kubernetes.py")).arg(versions.join(",")).args(files);
    let said = process::succeed(&mut command);
    let mut said: Value = serde_json::from_str(&said).expect("the verdicts");
    let verdict = |file: &PathBuf| {
        let mut one = said[file.to_str().expect("a path of ours")].take();
        let errors = serde_json::from_value(one["errors"].take()).expect("errors by version");
        let objects = serde_json::from_value(one["documents"].take()).expect("objects");
        Verdict { objects, errors }
    };
    files.iter().map(verdict).collect()
}

/// Whether an object is one of the Prometheus operator's, of which Kubernetes itself has no schema.
pub(crate) fn is_monitoring(object: &Value) -> bool {
    object["apiVersion"].as_str().is_some_and(|version| version.starts_with("monitoring.coreos.com/"))
}

/// What the types of the Prometheus operator say of each of these objects.
pub(crate) fn monitoring(objects: &[&Value]) -> Vec<Vec<String>> {
    let mut node = Command::new("node");
    node.arg(programs::path("node/monitoring.mjs"));
    let said = fed(&mut node, &serde_json::to_string(objects).expect("objects"));
    serde_json::from_str(&said).expect("errors by object")
}

/// A kustomization as kubectl builds it. It needs no cluster, and finds none.
pub(crate) fn kustomize(folder: &Path) -> String {
    process::succeed(kubectl().arg("kustomize").arg(folder))
}

/// Why Kubernetes' own types do not take one of these files. What has no pods, or is of a kind that they do not know, is passed
/// over. Nothing but how a thing is decoded comes of it: kubectl is told to change a variable and to throw the result away.
pub(crate) fn decode(files: &[PathBuf]) -> Vec<String> {
    let mut command = kubectl();
    command.args(["set", "env", "--local", "--output=name", "DECODED=yes"]);
    files.iter().for_each(|file| {
        command.arg("--filename").arg(file);
    });
    let output = command.output().expect("kubectl runs");
    let said = text(&output);
    let refusals = said.lines().filter(|line| line.contains("unable to decode"));
    refusals.filter(|line| !line.contains("no kind \"")).map(str::to_owned).collect()
}

fn kubectl() -> Command {
    let mut command = Command::new(programs::kubectl());
    // No cluster of whoever runs the tests, and no cache in their home directory.
    command.env("KUBECONFIG", "/dev/null").env("KUBECACHEDIR", std::env::temp_dir()).stdin(Stdio::null());
    command
}

/// What a command that must succeed says when it is fed this.
pub(crate) fn fed(command: &mut Command, input: &str) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("cannot run {command:?}: {e}; run scripts/setup"));
    let mut stdin = child.stdin.take().expect("it is piped");
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, text(&output));
    writer.join().expect("the writer ends").expect("it reads all of its input");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
