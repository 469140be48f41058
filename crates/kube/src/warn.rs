//! What is allowed in a pod and doubtful.

use dragoman_capture::Inbound;

use crate::options::{Limit, Options};
use crate::refuse::Container;
use crate::value::Value;

/// Of the app's containers, and of what ours may use in a pod that is Guaranteed or not.
pub(crate) fn all(
    containers: &[Container<'_>],
    init: &[Container<'_>],
    is_guaranteed: bool,
    options: &Options,
) -> Vec<String> {
    let mut warnings = Vec::new();
    for container in containers.iter().chain(init).filter(|_| options.capture) {
        warnings.extend(rights(container));
        warnings.extend(options.rules.inbound.as_ref().and_then(|inbound| probes(container, inbound)));
    }
    if !options.native_sidecar {
        warnings.extend(init.iter().filter_map(outlives));
    }
    let of = &options.resources;
    if is_guaranteed && [&of.cpu_limit, &of.memory_limit].contains(&&Some(Limit::None)) {
        warnings.push("without a limit of the sidecar the pod is no longer Guaranteed".to_owned());
    }
    warnings
}

/// Whoever has NET_ADMIN in the pod's network can change the rules.
fn rights(Container { name, node }: &Container<'_>) -> Option<String> {
    let context = node.get("securityContext");
    let added = context.value.at(&["capabilities", "add"]).map(Value::items).unwrap_or_default();
    // In any case: container runtimes are no stricter.
    let is_mighty = |right: &&str| {
        let right = right.to_ascii_uppercase();
        matches!(right.trim_start_matches("CAP_"), "NET_ADMIN" | "ALL")
    };
    let what = if context.value.get("privileged").and_then(Value::bool) == Some(true) {
        "is privileged".to_owned()
    } else {
        format!("has the capability {}", added.iter().filter_map(Value::text).find(is_mighty)?)
    };
    Some(format!("{name} {what}: it can change the rules and go round the proxy"))
}

/// The kubelet starts a native sidecar of the app's before a plain one, and ends it when all plain ones have ended.
fn outlives(Container { name, node }: &Container<'_>) -> Option<String> {
    let is_native = node.value.get("restartPolicy").and_then(Value::text) == Some("Always");
    is_native.then(|| {
        format!(
            "{name} is a native sidecar, which begins before a plain proxy and ends after it: what it connects to then \
             goes round the proxy or fails, and while it listens the proxy ends at its deadline only; take the native form"
        )
    })
}

/// The kubelet has no certificate.
fn probes(Container { name, node }: &Container<'_>, inbound: &Inbound) -> Option<String> {
    let named = |wanted: &str| {
        let mut ports = node.value.get("ports").map(Value::items).unwrap_or_default().iter();
        let port = ports.find(|port| port.name() == Some(wanted))?;
        port.get("containerPort")?.int()
    };
    let probes =
        ["startupProbe", "readinessProbe", "livenessProbe"].iter().filter_map(|probe| node.value.get(probe));
    let how = |probe: &Value| {
        ["httpGet", "tcpSocket", "grpc"].iter().find_map(|how| probe.at(&[how, "port"]).cloned())
    };
    let numbers = probes.filter_map(how).filter_map(|port| port.int().or_else(|| named(port.text()?)));
    let is_in = |ports: &[u16], port: i64| ports.iter().any(|known| i64::from(*known) == port);
    let is_captured = |port: &i64| {
        let all = inbound.include_port.is_empty();
        !is_in(&inbound.exclude_port, *port) && (all || is_in(&inbound.include_port, *port))
    };
    let mut captured: Vec<i64> = numbers.filter(is_captured).collect();
    captured.sort_unstable();
    captured.dedup();
    let ports: Vec<_> = captured.iter().map(i64::to_string).collect();
    (!ports.is_empty()).then(|| {
        format!(
            "{name} is probed on a port that is captured, and the kubelet has no certificate to show: say \
             exclude-inbound-ports {}",
            ports.join(",")
        )
    })
}
