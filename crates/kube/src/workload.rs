//! Where the pods of an object are.

use crate::edit::Path;
use crate::look::{NOTHING, Node};
use crate::value::Value;

/// A pod, or the template of pods, as it stands in an object.
#[derive(Clone, Debug)]
pub struct Pod<'a> {
    /// What it is of, as `Deployment shop/web`.
    pub object: String,
    /// Where the mapping with its metadata and its specification is.
    pub at: Path,
    /// Its metadata; null where it has none.
    pub metadata: &'a Value,
    /// Its specification; null where it has none.
    pub spec: &'a Value,
    /// Whether it is of a Job or CronJob.
    pub is_job: bool,
}

/// An object of a document.
#[derive(Debug)]
pub(crate) struct Object<'a> {
    /// As `Deployment shop/web`.
    pub(crate) name: String,
    /// Where it is: in a list, or the whole document.
    pub(crate) node: Node<'a>,
    /// The way from there to its pod, if it is of a kind that has one.
    pub(crate) to_pod: Option<&'static [&'static str]>,
    is_job: bool,
    /// Kubernetes takes the labels of its template for its selector, where it has none.
    pub(crate) selects_by_labels: bool,
}

impl<'a> Object<'a> {
    /// Its pod, where it is of a kind that has one.
    pub(crate) fn pod(&self) -> Option<Pod<'a>> {
        let pod = self.to_pod?.iter().fold(self.node.clone(), |node, key| node.get(key));
        let part = |key| pod.value.get(key).unwrap_or(&NOTHING);
        Some(Pod {
            object: self.name.clone(),
            metadata: part("metadata"),
            spec: part("spec"),
            at: pod.at,
            is_job: self.is_job,
        })
    }

    /// The template of pods in an object of a kind that is not known, as operators have them (`Rollout`).
    pub(crate) fn unknown_template(&self) -> Option<Node<'a>> {
        let template = self.node.get("spec").get("template");
        let has_containers = matches!(template.get("spec").get("containers").value, Value::List(_));
        (self.to_pod.is_none() && has_containers).then_some(template)
    }
}

/// A kind of objects that have a pod.
struct Workload {
    kind: &'static str,
    /// What its `apiVersion` begins with; other groups have kinds of the same name.
    groups: &'static [&'static str],
    to_pod: &'static [&'static str],
}

const TEMPLATE: &[&str] = &["spec", "template"];
const APPS: &[&str] = &["apps/", "extensions/"];

const WORKLOADS: [Workload; 9] = [
    Workload { kind: "Pod", groups: &["v1"], to_pod: &[] },
    Workload { kind: "Deployment", groups: APPS, to_pod: TEMPLATE },
    Workload { kind: "StatefulSet", groups: APPS, to_pod: TEMPLATE },
    Workload { kind: "DaemonSet", groups: APPS, to_pod: TEMPLATE },
    Workload { kind: "ReplicaSet", groups: APPS, to_pod: TEMPLATE },
    Workload { kind: "ReplicationController", groups: &["v1"], to_pod: TEMPLATE },
    Workload { kind: "PodTemplate", groups: &["v1"], to_pod: &["template"] },
    Workload { kind: "Job", groups: &["batch/"], to_pod: TEMPLATE },
    Workload { kind: "CronJob", groups: &["batch/"], to_pod: &["spec", "jobTemplate", "spec", "template"] },
];

/// The objects of a document: itself, or those of the lists that it is.
pub(crate) fn objects(document: &Value) -> Vec<Object<'_>> {
    let mut found = Vec::new();
    find(Node { value: document, at: Path::default() }, None, &mut found);
    found
}

/// What an object is of.
#[derive(Clone, Copy)]
struct Type<'a> {
    kind: &'a str,
    version: Option<&'a str>,
}

/// Lists of one kind, as `PodList`, need not say the type of their items.
fn find<'a>(node: Node<'a>, listed: Option<Type<'a>>, found: &mut Vec<Object<'a>>) {
    let text = |key| node.value.get(key).and_then(Value::text);
    let said = text("kind").map(|kind| Type { kind, version: text("apiVersion") });
    let unsaid = Type { kind: "", version: text("apiVersion") };
    let Type { kind, version } = said.or(listed).unwrap_or(unsaid);
    if let (Some(item), Some(Value::List(items))) = (kind.strip_suffix("List"), node.value.get("items")) {
        let listed = Some(Type { kind: item, version }).filter(|_| !item.is_empty());
        for (n, value) in items.iter().enumerate() {
            find(Node { value, at: node.at.key("items").index(n) }, listed, found);
        }
        return;
    }
    let is_of = |group: &str| match version {
        Some(version) if group.ends_with('/') => version.starts_with(group),
        Some(version) => version == group,
        None => true,
    };
    let workload = WORKLOADS
        .iter()
        .find(|workload| workload.kind == kind && workload.groups.iter().any(|group| is_of(group)));
    found.push(Object {
        name: name(kind, &node),
        to_pod: workload.map(|workload| workload.to_pod),
        is_job: workload.is_some_and(|workload| workload.groups == ["batch/"]),
        selects_by_labels: workload.is_some_and(|workload| workload.kind == "ReplicationController"),
        node,
    });
}

/// As `Deployment shop/web`. What is no text is not shown: it is refused elsewhere, or none of our business.
fn name(kind: &str, node: &Node<'_>) -> String {
    let metadata = |key| node.value.at(&["metadata", key]).and_then(Value::text).map(printable);
    let kind = if kind.is_empty() { "an object without kind".to_owned() } else { printable(kind) };
    let name = metadata("name").or(metadata("generateName").map(|prefix| format!("{prefix}*")));
    match (metadata("namespace"), name) {
        (Some(namespace), Some(name)) => format!("{kind} {namespace}/{name}"),
        (None, Some(name)) => format!("{kind} {name}"),
        (_, None) => format!("{kind} without name"),
    }
}

/// On one line, and no longer than names of Kubernetes.
fn printable(text: &str) -> String {
    text.chars().take(253).map(|letter| if letter.is_control() { '\u{FFFD}' } else { letter }).collect()
}

/// The metadata of the object and of what is between it and its pod.
pub(crate) fn metadata_above_pod<'a>(object: &Object<'a>) -> Vec<Node<'a>> {
    let steps = object.to_pod.unwrap_or_default();
    let mut node = object.node.clone();
    let mut above = Vec::new();
    for key in steps {
        above.push(node.get("metadata"));
        node = node.get(key);
    }
    above
}
