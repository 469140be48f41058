//! The pods that cannot be captured, or whose own parts stand in the way, and why.

use dragoman_capture::{ADMIN_PORT, PROXY_GID, READINESS_PORT, REDIRECT_PORT};

use crate::containers::{RUN, SIDECAR};
use crate::edit::Path;
use crate::look::Node;
use crate::options::Options;
use crate::refusal::Refusals;
use crate::value::Value;
use crate::workload::Object;

/// What to do about a pod that dragoman is not for.
pub(crate) const LEAVE: &str = "to leave it alone, give it the annotation dragoman.dev/inject: \"false\"";

/// A container of the app.
pub(crate) struct Container<'a> {
    /// What it is called in messages.
    pub(crate) name: String,
    pub(crate) node: Node<'a>,
}

/// The app's containers of one list.
pub(crate) fn containers<'a>(spec: &Node<'a>, list: &str, wrong: &mut Refusals) -> Vec<Container<'a>> {
    let named = |node: Node<'a>, wrong: &mut Refusals| {
        let name = node
            .text("name", wrong)
            .map_or_else(|| node.at.to_string(), |name| format!("container {name:?}"));
        Container { name, node }
    };
    spec.maps(list, wrong).into_iter().map(|node| named(node, wrong)).collect()
}

/// What is wrong with the object that a pod is in.
pub(crate) fn object(object: &Object<'_>, wrong: &mut Refusals) {
    let spec = object.node.get("spec");
    let selector = spec.get("selector");
    if object.selects_by_labels && selector.value.entries().is_empty() {
        let reason = format!(
            "there is no {at}: Kubernetes would take all labels of the template for it, the one that is added among \
             them, and not know the pods that run already; write it out",
            at = selector.at
        );
        wrong.push(&selector.at, reason);
    }
    // A claim takes the place of the volume of its name.
    for claim in spec.maps("volumeClaimTemplates", wrong) {
        let metadata = claim.map("metadata", wrong);
        let name = metadata.text("name", wrong);
        ours(name, "volumeClaimTemplate", &metadata, wrong);
    }
}

/// What is wrong with the pod as a whole.
pub(crate) fn pod(spec: &Node<'_>, options: &Options, wrong: &mut Refusals) {
    if spec.bool("hostNetwork", wrong) == Some(true) {
        let reason = format!(
            "hostNetwork: true: the pod has no network of its own, and what would be captured is the node's; {LEAVE}"
        );
        wrong.push(&spec.at.key("hostNetwork"), reason);
    }
    let os = spec.map("os", wrong);
    let selector = spec.map("nodeSelector", wrong);
    for (node, key) in [(&os, "name"), (&selector, "kubernetes.io/os"), (&selector, "beta.kubernetes.io/os")]
    {
        if node.text(key, wrong).is_some_and(|name| name.eq_ignore_ascii_case("windows")) {
            let reason = format!("the pod is for Windows, and dragoman is for Linux; {LEAVE}");
            wrong.push(&node.at.key(key), reason);
        }
    }
    let context = spec.map("securityContext", wrong);
    let groups = context.items("supplementalGroups", wrong).into_iter().map(|id| ("supplementalGroups", id));
    for (key, id) in groups.chain([("fsGroup", context.get("fsGroup"))]) {
        let number = id.of("an integer", Value::int, wrong);
        if number == Some(PROXY_GID.into()) && options.capture {
            let reason = format!(
                "{key} {PROXY_GID} is the proxy's own group: a process that takes it on would go round the proxy; \
                 give the pod another one"
            );
            wrong.push(&id.at, reason);
        }
    }
    for volume in spec.maps("volumes", wrong) {
        let name = volume.text("name", wrong);
        ours(name, "volume", &volume, wrong);
    }
}

/// What is wrong with one container of the app.
pub(crate) fn container(spec: &Node<'_>, container: &Container<'_>, options: &Options, wrong: &mut Refusals) {
    let Container { name, node } = container;
    ours(node.text("name", wrong), "container", node, wrong);
    identity(spec, container, options, wrong);
    for port in node.maps("ports", wrong) {
        ours(port.text("name", wrong), "port", &port, wrong);
        let Some(number) = port.int("containerPort", wrong) else { continue };
        let inbound = options.rules.inbound.as_ref().map(|inbound| inbound.port);
        let fixed = [ADMIN_PORT, REDIRECT_PORT, READINESS_PORT];
        let mut taken = fixed.into_iter().chain(options.rules.capture_dns).chain(inbound);
        if taken.any(|own| number == i64::from(own)) {
            let reason =
                format!("{name}: containerPort {number} is where dragoman listens; take another port");
            wrong.push(&port.at.key("containerPort"), reason);
        }
    }
    for mount in node.maps("volumeMounts", wrong) {
        let Some(volume) = mount.text("name", wrong).filter(|volume| volume.starts_with(SIDECAR)) else {
            continue;
        };
        let reason = format!(
            "{name}: volumeMount {volume:?}: volumes whose names begin with {SIDECAR} are dragoman's own, and whoever \
             reaches its control socket commands it; take it out"
        );
        wrong.push(&mount.at.key("name"), reason);
    }
    if options.capture {
        // Looked at for its types: a warning comes of it, later.
        let capabilities = node.map("securityContext", wrong).map("capabilities", wrong);
        capabilities.items("add", wrong);
    }
}

/// The user and the group that it runs as, as far as the manifest says it.
fn identity(spec: &Node<'_>, container: &Container<'_>, options: &Options, wrong: &mut Refusals) {
    let contexts = [container.node.map("securityContext", wrong), spec.map("securityContext", wrong)];
    let mut effective = |key: &str| {
        let said = contexts.iter().map(|context| (context.int(key, wrong), context.at.key(key)));
        said.collect::<Vec<_>>().into_iter().find_map(|(id, at)| Some((id?, at)))
    };
    let (user, group) = (effective("runAsUser"), effective("runAsGroup"));
    let proxy = i64::from(PROXY_GID);
    let name = &container.name;
    if let Some((_, at)) = group.filter(|(id, _)| *id == proxy && options.capture) {
        let reason = format!(
            "{name}: runAsGroup {proxy} is the proxy's own group, which is never captured: its connections would go \
             round the proxy; give it another group"
        );
        wrong.push(&at, reason);
    }
    if let Some((_, at)) = user.filter(|(id, _)| *id == proxy) {
        let reason = format!(
            "{name}: runAsUser {proxy} is the proxy's own user, who may stop and change the proxy; give it another user"
        );
        wrong.push(&at, reason);
    }
}

/// All of a pod that has a name of ours: containers, volumes, and in other containers their mounts.
pub(crate) fn named_as_ours(spec: &Node<'_>) -> Vec<(Path, String)> {
    let mut found = Vec::new();
    let mut look = |list: &Node<'_>| {
        for (n, item) in list.value.items().iter().enumerate() {
            let name = item.name().filter(|name| name.starts_with(SIDECAR));
            found.extend(name.map(|name| (list.at.index(n), name.to_owned())));
        }
    };
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        let containers = spec.get(list);
        look(&containers);
        for (n, value) in containers.value.items().iter().enumerate() {
            look(&Node { value, at: containers.at.index(n) }.get("volumeMounts"));
        }
    }
    look(&spec.get("volumes"));
    found
}

/// Names that begin as ours do are ours.
fn ours(name: Option<&str>, what: &str, node: &Node<'_>, wrong: &mut Refusals) {
    let Some(name) = name.filter(|name| name.starts_with(SIDECAR)) else { return };
    let reason = match (what, name) {
        ("container", "dragoman" | "dragoman-init" | "dragoman-copy") => format!(
            "container {name:?} is there already, without the record of an injection: take out what was put in by \
             hand or by a webhook"
        ),
        _ => {
            format!("{what} {name:?}: names that begin with {SIDECAR} are dragoman's own; take another name")
        }
    };
    wrong.push(&node.at.key("name"), reason);
}

/// What is mounted where dragoman itself has to be.
pub(crate) fn mounts(container: &Container<'_>, wrong: &mut Refusals) {
    for mount in container.node.maps("volumeMounts", wrong) {
        let Some(path) = mount.text("mountPath", wrong) else { continue };
        let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        // /var/run is /run almost everywhere.
        let parts =
            parts.strip_prefix(&["var"]).filter(|rest| rest.first() == Some(&"run")).unwrap_or(&parts);
        if parts.starts_with(&["run", "dragoman"]) {
            let reason = format!(
                "{}: mountPath {path} is in {RUN}, where dragoman itself is mounted; take another path, or say \
                 dragoman.dev/wrap: \"false\"",
                container.name
            );
            wrong.push(&mount.at.key("mountPath"), reason);
        } else if parts == ["run"] && mount.bool("readOnly", wrong) == Some(true) {
            let reason = format!(
                "{}: mountPath {path} is read-only, and {RUN}, where dragoman itself is mounted, cannot be made in it; \
                 let it be written, or say dragoman.dev/wrap: \"false\"",
                container.name
            );
            wrong.push(&mount.at.key("readOnly"), reason);
        }
    }
}
