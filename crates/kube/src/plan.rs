//! What is added to a pod: the one decision of this crate.

use crate::annotations::{self, LABEL};
use crate::containers::{self, Around, COPIED, Quality, SIDECAR};
use crate::edit::{Edit, End};
use crate::look::Node;
use crate::options::Options;
use crate::quantity::Quantity;
use crate::refusal::{Refusal, Refusals};
use crate::refuse::{self, Container};
use crate::value::Value;
use crate::warn;
use crate::workload::Pod;

/// `terminationGracePeriodSeconds` where a pod does not say it.
const GRACE_SECONDS: i64 = 30;

/// The annotation that says which container `kubectl` means where nobody says it.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// The annotations that a Prometheus without an operator goes by.
const SCRAPE: [&str; 3] = ["prometheus.io/scrape", "prometheus.io/port", "prometheus.io/path"];

/// What is done to a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What is added; nothing where the pod wants nothing of dragoman.
    pub edits: Vec<Edit>,
    /// What came of it.
    pub done: Done,
    /// What is allowed and doubtful, each in one line.
    pub warnings: Vec<String>,
}

/// What came of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It has dragoman.
    Injected {
        /// As a native sidecar, or a plain one.
        native: bool,
        /// Whether its connections are captured.
        captured: bool,
    },
    /// It said that it does not want to.
    Skipped,
    /// It is of an object whose kind is not known, and stays as it is.
    Unknown,
}

/// Decides what is added to a pod that has nothing of dragoman yet: a pure function of the pod and the options.
///
/// # Errors
/// Every reason against it at once.
pub fn plan(pod: &Pod<'_>, options: &Options) -> Result<Plan, Vec<Refusal>> {
    let mut wrong = Refusals::of(&pod.object);
    let metadata = part(pod, "metadata", pod.metadata, &mut wrong);
    let Some(options) = annotations::read(&metadata, options, &mut wrong) else {
        wrong.done()?;
        return Ok(Plan { edits: Vec::new(), done: Done::Skipped, warnings: Vec::new() });
    };
    let spec = part(pod, "spec", pod.spec, &mut wrong);
    let app = App::read(&spec, pod.is_job, &options, &mut wrong);
    wrong.done()?;
    let mut edits = Vec::new();
    label(&metadata, &options, &mut edits);
    app.default_container(&metadata, &options, &mut edits);
    app.edits(&spec, &options, &mut edits);
    let done = Done::Injected { native: options.native_sidecar, captured: options.capture };
    let is_guaranteed = app.around.quality == Quality::Guaranteed;
    let warnings = warn::all(&app.containers, &app.init, is_guaranteed, &options);
    Ok(Plan { edits, done, warnings })
}

/// Metadata or specification, which must be a mapping if it is there.
fn part<'a>(pod: &Pod<'a>, key: &str, value: &'a Value, wrong: &mut Refusals) -> Node<'a> {
    let node = Node { value, at: pod.at.key(key) };
    let is_map = |value: &'a Value| matches!(value, Value::Map(_)).then_some(value);
    let value = node.of("a mapping", is_map, wrong).unwrap_or(&crate::look::NOTHING);
    Node { value, ..node }
}

/// The pod as the app has made it.
struct App<'a> {
    containers: Vec<Container<'a>>,
    init: Vec<Container<'a>>,
    around: Around,
    /// The containers whose command waits for the proxy, by the number in their list.
    wrapped: Vec<usize>,
    /// The argument by which the command that waits also ends the proxy.
    quit: Option<&'static str>,
}

impl<'a> App<'a> {
    /// Reads it, and refuses what stands in the way.
    fn read(spec: &Node<'a>, is_job: bool, options: &Options, wrong: &mut Refusals) -> App<'a> {
        refuse::pod(spec, options, wrong);
        let containers = refuse::containers(spec, "containers", wrong);
        let init = refuse::containers(spec, "initContainers", wrong);
        let ephemeral = refuse::containers(spec, "ephemeralContainers", wrong);
        for container in containers.iter().chain(&init).chain(&ephemeral) {
            refuse::container(spec, container, options, wrong);
        }
        let list = spec.get("containers");
        if *list.value == Value::Null || *list.value == Value::List(Vec::new()) {
            let at = &list.at;
            wrong.push(at, format!("{at}: expected at least one container; {}", refuse::LEAVE));
        }
        let restart = spec.text("restartPolicy", wrong);
        let ends = is_job || matches!(restart, Some("Never" | "OnFailure"));
        let explicit = explicit(&containers, wrong);
        let wrapped = if options.wrap && !options.native_sidecar { explicit } else { Vec::new() };
        wrapped.iter().for_each(|n| refuse::mounts(&containers[*n], wrong));
        let quits = ends && !options.native_sidecar && !options.app_quits;
        if quits && (containers.len() > 1 || wrapped.is_empty()) {
            wrong.push(&spec.at.key("containers"), no_end(containers.len()));
        }
        let around = Around {
            grace_seconds: grace(spec, wrong),
            ends,
            quality: quality(spec, &containers, &init, wrong),
            has_apparmor: spec.map("securityContext", wrong).value.get("appArmorProfile").is_some(),
        };
        // The kubelet starts the app's container again after a failure, but not a proxy that has ended well.
        let quit = if restart == Some("OnFailure") { "--quit=success" } else { "--quit" };
        App { containers, init, around, wrapped, quit: quits.then_some(quit) }
    }

    /// What is added to its specification.
    fn edits(&self, spec: &Node<'_>, options: &Options, edits: &mut Vec<Edit>) {
        let mut add = |list, end, items| edits.push(Edit::Items { list, end, items });
        let init = options.capture.then(|| containers::init(options, &self.around));
        let sidecar = containers::sidecar(options, &self.around);
        let copies = !self.wrapped.is_empty();
        if options.native_sidecar {
            let both = init.into_iter().chain([sidecar]).collect();
            add(spec.at.key("initContainers"), End::First, both);
        } else {
            let copy = copies.then(|| containers::copy(options, &self.around));
            // Last: the app's own init containers have no proxy yet, and are not captured.
            let both: Vec<_> = copy.into_iter().chain(init).collect();
            if !both.is_empty() {
                add(spec.at.key("initContainers"), End::Last, both);
            }
            add(spec.at.key("containers"), End::First, vec![sidecar]);
        }
        let waits = [COPIED, "wait"].into_iter().chain(self.quit).chain(["--"]);
        let waits: Vec<Value> = waits.map(Value::from).collect();
        for n in &self.wrapped {
            let at = &self.containers[*n].node.at;
            add(at.key("command"), End::First, waits.clone());
            add(at.key("volumeMounts"), End::Last, vec![containers::copy_mount()]);
        }
        add(spec.at.key("volumes"), End::Last, containers::volumes(options, copies));
    }

    /// `kubectl logs` and `kubectl exec` take the first container, which was the app's.
    fn default_container(&self, metadata: &Node<'_>, options: &Options, edits: &mut Vec<Edit>) {
        let annotations = metadata.get("annotations");
        let first = self.containers.first().and_then(|first| first.node.value.get("name"));
        if let Some(name) = first
            && !options.native_sidecar
            && annotations.value.get(DEFAULT_CONTAINER).is_none()
        {
            let key = DEFAULT_CONTAINER.to_owned();
            edits.push(Edit::Entry { map: annotations.at, key, value: name.clone() });
        }
    }
}

/// Whether this is the name of something that is added at this place of a pod, by this version or an older one.
pub(crate) fn is_ours(place: &str, name: &str) -> bool {
    match place {
        "/metadata/labels" => name == LABEL,
        "/metadata/annotations" => name == DEFAULT_CONTAINER || SCRAPE.contains(&name),
        "/spec/initContainers" | "/spec/containers" | "/spec/volumes" => name.starts_with(SIDECAR),
        _ if place.ends_with("/volumeMounts") => name.starts_with(SIDECAR),
        _ if place.ends_with("/command") => {
            [COPIED, "wait", "--"].contains(&name) || name.starts_with("--quit")
        }
        _ => false,
    }
}

/// The label, and what Prometheus looks for.
fn label(metadata: &Node<'_>, options: &Options, edits: &mut Vec<Edit>) {
    let mut entry = |of: &str, key: &str, value: &str| {
        edits.push(Edit::Entry { map: metadata.at.key(of), key: key.to_owned(), value: value.into() });
    };
    entry("labels", LABEL, "true");
    let annotations = metadata.value.get("annotations").map(Value::entries).unwrap_or_default();
    let has_own = annotations.iter().any(|(name, _)| SCRAPE.contains(&name.as_str()));
    if options.scrape_annotations && !has_own {
        let port = dragoman_capture::READINESS_PORT.to_string();
        SCRAPE
            .iter()
            .zip(["true", &port, "/metrics"])
            .for_each(|(key, value)| entry("annotations", key, value));
    }
}

/// The containers with a command of their own; an empty one is that of the image.
fn explicit(containers: &[Container<'_>], wrong: &mut Refusals) -> Vec<usize> {
    let mut explicit = Vec::new();
    for (n, container) in containers.iter().enumerate() {
        let words = container.node.items("command", wrong);
        for word in &words {
            word.of("text", Value::text, wrong);
        }
        if !words.is_empty() {
            explicit.push(n);
        }
    }
    explicit
}

fn no_end(containers: usize) -> String {
    let why = if containers > 1 {
        "has more than one container, and none of them knows when all have ended"
    } else {
        "has no command of its own that could be wrapped"
    };
    format!(
        "the pod ends by itself and {why}, so that a plain sidecar would keep it running: take a native sidecar, or \
         let the app POST to http://127.0.0.1:15000/quitquitquit at its end and say dragoman.dev/quit: \"app\""
    )
}

fn grace(spec: &Node<'_>, wrong: &mut Refusals) -> i64 {
    let grace = spec.int("terminationGracePeriodSeconds", wrong).unwrap_or(GRACE_SECONDS);
    if grace < 0 {
        let at = spec.at.key("terminationGracePeriodSeconds");
        wrong.push(&at, format!("{at}: expected seconds, from 0 on"));
    }
    grace
}

/// As Kubernetes decides it: guaranteed is a pod whose containers all have limits of CPU and memory, and requests that are the same.
fn quality(
    spec: &Node<'_>,
    containers: &[Container<'_>],
    init: &[Container<'_>],
    wrong: &mut Refusals,
) -> Quality {
    if !spec.map("resources", wrong).value.entries().is_empty() {
        return Quality::OfPod;
    }
    let mut is_guaranteed = true;
    for container in containers.iter().chain(init) {
        let resources = container.node.map("resources", wrong);
        let (requests, limits) = (resources.map("requests", wrong), resources.map("limits", wrong));
        for name in ["cpu", "memory"] {
            let (request, limit) = (amount(&requests, name), amount(&limits, name));
            is_guaranteed &=
                limit.is_some_and(|limit| request.is_none_or(|request| Quantity::same(&request, &limit)));
        }
    }
    if is_guaranteed { Quality::Guaranteed } else { Quality::Burstable }
}

/// As text: amounts may be written as numbers.
fn amount(amounts: &Node<'_>, name: &str) -> Option<String> {
    match amounts.value.get(name)? {
        Value::Text(text) | Value::Number(text) => Some(text.clone()),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    }
}
