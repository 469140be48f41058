//! What is not ours and judges manifests.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dragoman_harness::process::{self, text};
use dragoman_harness::programs;
use dragoman_harness::scratch::Scratch;
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

/// Holds files against the schemas of these versions. `None` for a file that Kubernetes cannot even read.
pub(crate) fn schemas(versions: &[&str], files: &[PathBuf]) -> Vec<Option<Verdict>> {
    let read = read(files);
    let objects: Vec<_> = read.iter().flatten().flatten().collect();
    let mut python = Command::new(programs::python());
    python.arg(programs::path("kubernetes.py")).arg(versions.join(","));
    let said = fed(&mut python, &serde_json::to_string(&objects).expect("objects"));
    let said: Vec<BTreeMap<String, Vec<String>>> = serde_json::from_str(&said).expect("the verdicts");
    let mut said = said.into_iter();
    let mut verdict = |objects: Vec<Value>| {
        let mut errors = BTreeMap::<String, Vec<String>>::new();
        for by_version in said.by_ref().take(objects.len()) {
            by_version
                .into_iter()
                .for_each(|(version, found)| errors.entry(version).or_default().extend(found));
        }
        Verdict { objects, errors }
    };
    read.into_iter().map(|objects| objects.map(&mut verdict)).collect()
}

/// The objects of each file, as Kubernetes itself reads YAML and JSON. `None` for a file that it cannot read.
pub(crate) fn read(files: &[PathBuf]) -> Vec<Option<Vec<Value>>> {
    const MARK: &str = "ends-a-file";
    let scratch = Scratch::new("marks");
    let mark = format!("{{ apiVersion: v1, kind: ConfigMap, metadata: {{ name: {MARK} }} }}");
    let mark = scratch.write("mark.yaml", mark);
    // A patch that changes nothing, of which no cluster is told.
    let mut command = kubectl();
    command.args(["patch", "--local", "--type=merge", "--patch={}", "--output=json"]);
    for file in files {
        command.arg("--filename").arg(file).arg("--filename").arg(&mark);
    }
    let output = command.output().expect("kubectl runs");
    let refused = String::from_utf8_lossy(&output.stderr);
    let objects = serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Value>();
    let objects: Vec<_> = objects.map(|object| object.expect("kubectl prints JSON")).collect();
    let mut read: Vec<_> = objects.split(|object| object["metadata"]["name"] == MARK).collect();
    assert_eq!(read.pop().map(<[Value]>::len), Some(0), "the last is the mark: {refused}");
    assert_eq!(read.len(), files.len(), "{refused}");
    let is_read = |file: &PathBuf| !refused.contains(&format!("{}:", file.display()));
    files.iter().zip(read).map(|(file, objects)| is_read(file).then(|| objects.to_vec())).collect()
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
