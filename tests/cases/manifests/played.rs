//! What podman makes of manifests, as they are and injected: it reads them with a parser of its own, and makes containers of them. It
//! starts none of these, since nothing of what they run is here; `tests/cases/pod` starts others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use dragoman_harness::pods::{APP, Node};
use dragoman_harness::process;
use dragoman_harness::scratch::Scratch;
use serde_json::{Value, json};

use crate::injected::{manifests, taken};
use crate::kubelet::{self, list};
use crate::oracles;

/// What podman 4.3 says of files that it does not take as they are. Their pods are played, as Kubernetes reads them.
const AS_PODS: [(&str, &[&str]); 4] = [
    (
        "YAML document does not contain any supported kube kind",
        &[
            "cronjob-crlf.json",
            "cronjob.yaml",
            "daemonset.yaml",
            "deployment-kubectl-get.json",
            "job-template-null-metadata.yaml",
            "job.yaml",
            "list-four-spaces-and-metadata.yaml",
            "list.yaml",
            "replicaset.yaml",
            "statefulset.yaml",
        ],
    ),
    (
        "cannot unmarshal string into Go struct field DeploymentSpec.spec.paused",
        &["deployment-booleans.yaml"],
    ),
    ("initializing source docker://registry.example/api@sha256:", &["deployment-kustomize.yaml"]),
    ("yaml: line 15: found unknown escape character", &["pod-tabs.json"]),
];

/// What it says of those whose pods it does not take either.
const REFUSED: [(&str, &[&str]); 5] = [
    // It decodes what the tag !!binary says is encoded, and then decodes it again.
    ("illegal base64 data at input byte 0", &["long-texts.yaml"]),
    // It writes texts anew that begin with spaces, and cannot read what it wrote.
    ("did not find expected '-' indicator", &["deployment-folded-command.yaml"]),
    // It crashes where a Secret is mounted that is there.
    ("no secret with name or id \"ledger\"", &["deployment-four-spaces.yaml"]),
    ("fieldPath status.podIP is either not valid or not supported", &["pod-every-field.yaml"]),
    ("found incompatible YAML document", &["pod-markers.yaml"]),
];

/// How it says that it knows no native sidecars: an init container with probes and hooks.
const NO_SIDECARS: &str = "cannot create an init container that has either of lifecycle, livenessProbe, readinessProbe, or startupProbe set\n";

/// The keys that this is about.
const OF_SIDECARS: [&str; 4] = ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"];

/// A Secret that a variable of the corpus comes from, as podman 4.3 wants it then.
const SECRET: (&str, &str) = ("report", r#"{"to": "c2VjcmV0"}"#);

/// A form, and the options that make it.
struct Form {
    name: &'static str,
    options: &'static [&'static str],
    is_native: bool,
    /// Files that `dragoman inject` refuses in it.
    refused: &'static [&'static str],
}

/// Jobs that have no command of their own.
const NOT_PLAIN: &[&str] = &["cronjob-crlf.json", "many-documents.yaml"];

const FORMS: [Form; 3] = [
    Form { name: "plain", options: &["--native-sidecar=false"], is_native: false, refused: NOT_PLAIN },
    Form {
        name: "plain-no-capture",
        options: &["--native-sidecar=false", "--no-capture"],
        is_native: false,
        refused: NOT_PLAIN,
    },
    Form { name: "native", options: &[], is_native: true, refused: &[] },
];

/// The containers of each pod. What is the same more than once is here once.
type Made = BTreeSet<BTreeSet<String>>;

/// How a manifest is played.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// Every byte as it is.
    Text,
    /// Its pods, as Kubernetes reads them.
    Pods,
}

struct Manifest {
    name: String,
    way: Way,
    text: String,
    /// As Kubernetes reads it; none where it cannot.
    objects: Vec<Value>,
}

#[test]
fn podman_takes_injected_what_it_takes_as_it_is() {
    let (node, scratch) = (node(), Scratch::new("played"));
    let files = manifests(&scratch);
    assert!(files.len() >= 40, "the corpus is not all there");
    let ways = as_they_are(&node, read(&files));
    for form in &FORMS {
        let (taken, made): (Vec<_>, Vec<_>) =
            taken(form.name, form.options, &files, &scratch).into_iter().unzip();
        let refused = files.iter().filter(|file| !taken.contains(file)).map(|file| name(file));
        assert_eq!(refused.collect::<Vec<_>>(), form.refused, "{}", form.name);
        let mut injected = Vec::new();
        for (file, manifest) in taken.iter().zip(read(&made)) {
            injected.extend(ways.get(name(file)).map(|way| Manifest { way: *way, ..manifest }));
        }
        assert_eq!(injected.len(), ways.len() - form.refused.len(), "{}", form.name);

        let mut results = play(&node, &injected, &[]);
        if form.is_native {
            for (manifest, result) in injected.iter_mut().zip(results) {
                let why = result.err().unwrap_or_default();
                assert!(why.ends_with(NO_SIDECARS) && why.lines().count() == 1, "{}: {why}", manifest.name);
                manifest.way = Way::Pods;
            }
            results = play(&node, &injected, &OF_SIDECARS);
        }
        for (manifest, result) in injected.iter().zip(results) {
            assert_eq!(result, Ok(manifest.containers()), "{}", manifest.name);
            assert!(result.is_ok_and(|pods| pods.iter().any(|pod| pod.contains("dragoman"))));
        }
        println!("{}: {} of {} files played", form.name, injected.len(), files.len());
    }
}

/// A machine that knows at once that no registry can be reached: podman looks for a newer image wherever no policy says otherwise.
fn node() -> Node {
    let node = Node::new();
    node.namespace().succeed("ip -4 route del default && ip -6 route del default");
    let (name, content) = SECRET;
    process::succeed(node.podman(&["secret", "create", name]).arg(node.write(name, content)));
    node
}

/// Reads files, which are to be played as text.
fn read(files: &[PathBuf]) -> Vec<Manifest> {
    let manifest = |(file, objects): (&PathBuf, Option<Vec<Value>>)| Manifest {
        name: name(file).to_owned(),
        way: Way::Text,
        text: fs::read_to_string(file).expect("a manifest"),
        objects: objects.unwrap_or_default(),
    };
    files.iter().zip(oracles::read(files)).map(manifest).collect()
}

/// How podman takes each manifest as it is. All that it does not take, or not as text, is in the tables.
fn as_they_are(node: &Node, manifests: Vec<Manifest>) -> BTreeMap<String, Way> {
    tag_images(node, &manifests);
    let mut ways = BTreeMap::new();
    let (mut as_pods, mut refused) = (Vec::new(), 0);
    let results = play(node, &manifests, &[]);
    for (manifest, result) in manifests.into_iter().zip(results) {
        match result {
            Err(why) if says(&AS_PODS, &manifest.name, &why) => {
                as_pods.push(Manifest { way: Way::Pods, ..manifest });
            }
            Err(why) if says(&REFUSED, &manifest.name, &why) => refused += 1,
            result => {
                assert_eq!(result, Ok(manifest.containers()), "{}", manifest.name);
                ways.insert(manifest.name, manifest.way);
            }
        }
    }
    assert_eq!([as_pods.len(), refused], [files_of(&AS_PODS), files_of(&REFUSED)], "the tables are stale");
    for (manifest, result) in as_pods.iter().zip(play(node, &as_pods, &[])) {
        assert_eq!(result, Ok(manifest.containers()), "{}", manifest.name);
        ways.insert(manifest.name.clone(), manifest.way);
    }
    ways
}

/// Gives the image of an app all names that images have in these manifests.
fn tag_images(node: &Node, manifests: &[Manifest]) {
    let pods = manifests.iter().flat_map(|manifest| &manifest.objects).filter_map(kubelet::pod);
    let containers = pods.flat_map(|pod| [pod.init_containers(), pod.containers()].concat());
    let images: BTreeSet<_> = containers
        .map(|container| match without_digest(&container["image"]) {
            // Where podman looks first for a short name.
            image if !image.contains('/') => format!("localhost/{image}"),
            image => image.to_owned(),
        })
        .collect();
    process::succeed(node.podman(&["tag", APP]).args(images));
}

/// Whether a table has a file, with what was said of it.
fn says(table: &[(&str, &[&str])], file: &str, why: &str) -> bool {
    table.iter().any(|(said, files)| files.contains(&file) && why.contains(said))
}

fn files_of(table: &[(&str, &[&str])]) -> usize {
    table.iter().map(|(_, files)| files.len()).sum()
}

impl Manifest {
    /// What podman reads. Of pods, init containers lack these keys.
    fn played(&self, without: &[&str]) -> String {
        match self.way {
            Way::Text => self.text.clone(),
            Way::Pods => self.pods(without),
        }
    }

    /// Its pods and ConfigMaps, a document each.
    fn pods(&self, without: &[&str]) -> String {
        let document = |(n, object): (usize, &Value)| {
            if object["kind"] == "ConfigMap" {
                return Some(object.to_string());
            }
            let pod = kubelet::pod(object)?;
            let mut spec = pod.spec.clone();
            // As the controller of a StatefulSet does.
            let claimed =
                |name: &&str| json!({ "name": name, "persistentVolumeClaim": { "claimName": name } });
            let volumes = list(&spec["volumes"]).iter().cloned().chain(pod.claims.iter().map(claimed));
            spec["volumes"] = volumes.collect();
            for init in spec["initContainers"].as_array_mut().into_iter().flatten() {
                init.as_object_mut().expect("a container").retain(|key, _| !without.contains(&key.as_str()));
            }
            for kind in ["initContainers", "containers"] {
                for container in spec[kind].as_array_mut().into_iter().flatten() {
                    container["image"] = without_digest(&container["image"]).into();
                }
            }
            let name = json!({ "name": format!("{}-{n}", self.name) });
            Some(json!({ "apiVersion": "v1", "kind": "Pod", "metadata": name, "spec": spec }).to_string())
        };
        self.objects.iter().enumerate().filter_map(document).collect::<Vec<_>>().join("\n---\n")
    }

    /// The containers of all that podman makes pods of.
    fn containers(&self) -> Made {
        let kinds = ["Pod", "Deployment"];
        let pods = self.objects.iter().filter_map(kubelet::pod);
        let pods = pods.filter(|pod| self.way == Way::Pods || kinds.contains(&pod.kind));
        let names = |pod: kubelet::Pod<'_>| {
            let all = pod.init_containers().iter().chain(pod.containers());
            all.filter_map(|container| container["name"].as_str().map(str::to_owned)).collect()
        };
        pods.map(names).collect()
    }
}

/// Has podman make the containers of manifests, and says of each which there are, or why there are none. Nothing of them is left.
fn play(node: &Node, manifests: &[Manifest], without: &[&str]) -> Vec<Result<Made, String>> {
    let mut containers = BTreeMap::new();
    let mut results = Vec::new();
    for manifest in manifests {
        let file = node.write("played.yaml", &manifest.played(without));
        let create = || {
            process::output(node.podman(&["kube", "play", "--start=false", "--network", "pods"]).arg(&file))
        };
        let mut out = create();
        // To take pods away one by one would take longer than all else. Some have the name of one before them.
        if process::text(&out).contains("pod already exists") {
            remove_all(node, &mut containers);
            out = create();
        }
        let told = String::from_utf8_lossy(&out.stdout).into_owned();
        results.push(if out.status.success() { Ok(told) } else { Err(process::text(&out)) });
    }
    remove_all(node, &mut containers);
    let made = |told: String| {
        let lines = told.lines().zip(told.lines().skip(1));
        let pods = lines.filter(|(before, _)| *before == "Pod:").map(|(_, id)| id);
        pods.map(|id| containers.get(id).cloned().unwrap_or_default()).collect()
    };
    results.into_iter().map(|told| told.map(made)).collect()
}

/// Takes all pods away, and notes the containers of each by its id.
fn remove_all(node: &Node, containers: &mut BTreeMap<String, BTreeSet<String>>) {
    let format = "{{.Pod}} {{.PodName}} {{.Names}}";
    for line in node.ask(&["ps", "--all", "--no-trunc", "--pod", "--format", format]).lines() {
        let [id, pod, container] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        // The one that holds a pod together is not named after it.
        if let Some(name) = container.strip_prefix(pod).and_then(|rest| rest.strip_prefix('-')) {
            containers.entry(id.to_owned()).or_default().insert(name.to_owned());
        }
    }
    for kind in ["pod", "volume"] {
        node.ask(&[kind, "rm", "--all", "--force"]);
    }
}

/// The name of an image, without what it has in it.
fn without_digest(image: &Value) -> &str {
    image.as_str().and_then(|image| image.split('@').next()).unwrap_or_default()
}

fn name(file: &Path) -> &str {
    file.file_name().and_then(|name| name.to_str()).expect("a name")
}
