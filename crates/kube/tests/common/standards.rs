//! What the Pod Security Standards say of the specification of a pod.
//!
//! The rules are those of <https://kubernetes.io/docs/concepts/security/pod-security-standards/>, in words of this test's own:
//! it reads the result and knows nothing of how that is made.

use serde_json::{Value, json};

/// Its init containers and containers.
pub(crate) fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers"].into_iter().flat_map(|list| spec[list].as_array().into_iter().flatten())
}

/// What of the container's own, or else the pod's, security context holds.
fn effective<'a>(spec: &'a Value, container: &'a Value, key: &str) -> &'a Value {
    let own = &container["securityContext"][key];
    if own.is_null() { &spec["securityContext"][key] } else { own }
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// What `baseline` objects to, each with the container's name.
pub(crate) fn against_baseline(spec: &Value) -> Vec<String> {
    let allowed = [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    let mut against = Vec::new();
    for key in ["hostNetwork", "hostPID", "hostIPC"] {
        if spec[key] == json!(true) {
            against.push(format!("pod: {key}"));
        }
    }
    for volume in
        spec["volumes"].as_array().into_iter().flatten().filter(|volume| !volume["hostPath"].is_null())
    {
        against.push(format!("{}: hostPath", volume["name"]));
    }
    for container in containers(spec) {
        let name = container["name"].as_str().unwrap();
        let context = &container["securityContext"];
        if context["privileged"] == json!(true) {
            against.push(format!("{name}: privileged"));
        }
        for added in
            texts(&context["capabilities"]["add"]).into_iter().filter(|added| !allowed.contains(added))
        {
            against.push(format!("{name}: {added}"));
        }
        if effective(spec, container, "seccompProfile")["type"] == json!("Unconfined") {
            against.push(format!("{name}: seccomp"));
        }
        if container["ports"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|port| port["hostPort"].as_i64().is_some_and(|port| port != 0))
        {
            against.push(format!("{name}: hostPort"));
        }
        let mount = context["procMount"].as_str().unwrap_or("Default");
        if mount != "Default" {
            against.push(format!("{name}: procMount"));
        }
    }
    against
}

/// What `restricted` objects to beyond that.
pub(crate) fn against_restricted(spec: &Value) -> Vec<String> {
    let mut against = against_baseline(spec);
    let volumes = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    for volume in spec["volumes"].as_array().into_iter().flatten() {
        let kinds = volume.as_object().unwrap().keys().filter(|key| *key != "name");
        kinds
            .filter(|kind| !volumes.contains(&kind.as_str()))
            .for_each(|kind| against.push(format!("volume: {kind}")));
    }
    for container in containers(spec) {
        let name = container["name"].as_str().unwrap();
        let context = &container["securityContext"];
        if context["allowPrivilegeEscalation"] != json!(false) {
            against.push(format!("{name}: allowPrivilegeEscalation"));
        }
        if effective(spec, container, "runAsNonRoot") != &json!(true) {
            against.push(format!("{name}: runAsNonRoot"));
        }
        if effective(spec, container, "runAsUser") == &json!(0) {
            against.push(format!("{name}: runAsUser 0"));
        }
        if !["RuntimeDefault", "Localhost"]
            .map(Value::from)
            .contains(&effective(spec, container, "seccompProfile")["type"])
        {
            against.push(format!("{name}: seccomp"));
        }
        if !texts(&context["capabilities"]["drop"]).contains(&"ALL") {
            against.push(format!("{name}: does not drop ALL"));
        }
        for added in
            texts(&context["capabilities"]["add"]).into_iter().filter(|added| *added != "NET_BIND_SERVICE")
        {
            if !against.contains(&format!("{name}: {added}")) {
                against.push(format!("{name}: {added}"));
            }
        }
    }
    against
}
