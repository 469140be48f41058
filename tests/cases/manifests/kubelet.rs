//! What the API server and kubelet refuse, or would misread, although the schemas allow it.

use std::collections::BTreeSet;

use serde_json::Value;

/// A pod, or the template of one.
pub(crate) struct Pod<'a> {
    pub(crate) kind: &'a str,
    pub(crate) name: &'a str,
    pub(crate) spec: &'a Value,
    /// Volumes that come from elsewhere: `volumeClaimTemplates`.
    pub(crate) claims: Vec<&'a str>,
}

/// The pod of an object, where its kind has one.
pub(crate) fn pod(object: &Value) -> Option<Pod<'_>> {
    let kind = object["kind"].as_str()?;
    let template = match kind {
        "Pod" => object,
        "CronJob" => &object["spec"]["jobTemplate"]["spec"]["template"],
        "PodTemplate" => &object["template"],
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "ReplicationController" | "Job" => {
            &object["spec"]["template"]
        }
        _ => return None,
    };
    let claims = list(&object["spec"]["volumeClaimTemplates"]).iter();
    let claims = claims.filter_map(|claim| claim["metadata"]["name"].as_str()).collect();
    let name = object["metadata"]["name"].as_str().or(object["metadata"]["generateName"].as_str());
    Some(Pod { kind, name: name.unwrap_or(""), spec: &template["spec"], claims })
}

impl<'a> Pod<'a> {
    /// The init containers, in their order.
    pub(crate) fn init_containers(&self) -> &'a [Value] {
        list(&self.spec["initContainers"])
    }

    /// The containers, in their order.
    pub(crate) fn containers(&self) -> &'a [Value] {
        list(&self.spec["containers"])
    }

    /// A container or init container.
    pub(crate) fn container(&self, name: &str) -> Option<&'a Value> {
        self.init_containers().iter().chain(self.containers()).find(|container| container["name"] == name)
    }

    /// All that is wrong with it, each a line of `kind name: container: what`.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let mut all = self.of_names();
        let init = self.init_containers().iter().map(|container| (container, true));
        for (container, init) in init.chain(self.containers().iter().map(|container| (container, false))) {
            let name = text(&container["name"]);
            let found = [
                self.of_mounts(container),
                of_ports(container),
                of_handlers(container),
                of_probes(container),
                of_resources(container),
                of_variables(container),
                self.of_user(container),
                if init { of_init(container) } else { Vec::new() },
            ];
            all.extend(found.concat().into_iter().map(|what| format!("{name}: {what}")));
        }
        all.into_iter().map(|what| format!("{} {}: {what}", self.kind, self.name)).collect()
    }

    fn of_names(&self) -> Vec<String> {
        let containers = self.init_containers().iter().chain(self.containers());
        let containers: Vec<_> = containers.map(|container| text(&container["name"])).collect();
        let volumes: Vec<_> =
            list(&self.spec["volumes"]).iter().map(|volume| text(&volume["name"])).collect();
        let mut all = repeated("container", &containers);
        all.extend(repeated("volume", &volumes));
        let names = containers.iter().chain(&volumes).filter(|name| !is_label(name));
        all.extend(names.map(|name| format!("`{name}` is no name")));
        if self.containers().is_empty() {
            all.push("no container".to_owned());
        }
        all
    }

    fn of_mounts(&self, container: &Value) -> Vec<String> {
        let mounts = list(&container["volumeMounts"]);
        let paths: Vec<_> = mounts.iter().map(|mount| text(&mount["mountPath"])).collect();
        let mut all = repeated("mount path", &paths);
        for mount in mounts {
            let name = text(&mount["name"]);
            let volumes = list(&self.spec["volumes"]);
            if !volumes.iter().any(|volume| volume["name"] == name) && !self.claims.contains(&name) {
                all.push(format!("mounts `{name}`, which is no volume"));
            }
            if !text(&mount["mountPath"]).starts_with('/') || text(&mount["mountPath"]).contains(':') {
                all.push(format!("mounts `{name}` at no absolute path"));
            }
        }
        all
    }

    /// kubelet does not start a container that is to run as root and must not.
    fn of_user(&self, container: &Value) -> Vec<String> {
        let setting = |key: &str| match &container["securityContext"][key] {
            Value::Null => self.spec["securityContext"][key].clone(),
            stated => stated.clone(),
        };
        if setting("runAsNonRoot") == true && setting("runAsUser") == 0 {
            return vec!["runs as root, which runAsNonRoot forbids".to_owned()];
        }
        Vec::new()
    }
}

fn of_ports(container: &Value) -> Vec<String> {
    let ports = list(&container["ports"]);
    let names: Vec<_> = ports.iter().filter_map(|port| port["name"].as_str()).collect();
    let numbers = ports.iter().map(|port| format!("{}/{}", port["containerPort"], protocol(port)));
    let numbers: Vec<_> = numbers.collect();
    let numbers: Vec<_> = numbers.iter().map(String::as_str).collect();
    let mut all = repeated("port name", &names);
    all.extend(repeated("port", &numbers));
    all.extend(names.iter().filter(|name| !is_port_name(name)).map(|name| format!("`{name}` names no port")));
    all
}

fn protocol(port: &Value) -> &str {
    port["protocol"].as_str().unwrap_or("TCP")
}

/// Each probe and hook says one thing to do, and its port is there.
fn of_handlers(container: &Value) -> Vec<String> {
    const KINDS: [&str; 5] = ["exec", "httpGet", "tcpSocket", "grpc", "sleep"];
    let probes = ["startupProbe", "readinessProbe", "livenessProbe"].map(|key| (key, &container[key]));
    let hooks = ["postStart", "preStop"].map(|key| (key, &container["lifecycle"][key]));
    let mut all = Vec::new();
    for (key, handler) in probes.into_iter().chain(hooks).filter(|(_, handler)| !handler.is_null()) {
        let stated: Vec<_> = KINDS.into_iter().filter(|kind| !handler[kind].is_null()).collect();
        let [kind] = stated[..] else {
            all.push(format!("{key} states {} things to do", stated.len()));
            continue;
        };
        if kind == "exec" && list(&handler["exec"]["command"]).is_empty() {
            all.push(format!("{key} runs nothing"));
        }
        match &handler[kind]["port"] {
            Value::String(name)
                if !list(&container["ports"]).iter().any(|port| port["name"] == name.as_str()) =>
            {
                all.push(format!("{key} asks a port `{name}` that it does not have"));
            }
            Value::Number(number) if !(1..=65535).contains(&number.as_i64().unwrap_or(0)) => {
                all.push(format!("{key} asks port {number}"));
            }
            _ => {}
        }
    }
    all
}

fn of_probes(container: &Value) -> Vec<String> {
    let one = |key: &&str| container[*key]["successThreshold"].as_i64().unwrap_or(1) != 1;
    let wrong = ["startupProbe", "livenessProbe"].into_iter().filter(one);
    wrong.map(|key| format!("{key} must succeed once")).collect()
}

fn of_resources(container: &Value) -> Vec<String> {
    let limits = container["resources"]["limits"].as_object().into_iter().flatten();
    let mut all = Vec::new();
    for (resource, limit) in limits {
        let request = &container["resources"]["requests"][resource];
        if !request.is_null() && quantity(request) > quantity(limit) {
            all.push(format!("asks for more {resource} than its limit"));
        }
    }
    all
}

fn of_variables(container: &Value) -> Vec<String> {
    let variables: Vec<_> = list(&container["env"]).iter().map(|variable| text(&variable["name"])).collect();
    repeated("variable", &variables)
}

/// An init container that ends has neither probes nor hooks.
fn of_init(container: &Value) -> Vec<String> {
    if container["restartPolicy"] == "Always" {
        return Vec::new();
    }
    let keys = ["startupProbe", "readinessProbe", "livenessProbe", "lifecycle"].into_iter();
    let stated = keys.filter(|key| !container[*key].is_null());
    stated.map(|key| format!("an init container has no {key}")).collect()
}

/// The number that a quantity states: of cores, bytes or whatever it counts.
pub(crate) fn quantity(value: &Value) -> f64 {
    const SUFFIXES: [(&str, f64); 9] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
    ];
    let stated = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let suffix = SUFFIXES.into_iter().find(|(suffix, _)| stated.ends_with(suffix));
    let (digits, factor) =
        suffix.map_or((&*stated, 1.0), |(suffix, factor)| (&stated[..stated.len() - suffix.len()], factor));
    digits.parse::<f64>().unwrap_or_else(|_| panic!("`{stated}` is no quantity that this test knows"))
        * factor
}

fn repeated(what: &str, names: &[&str]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    names.iter().filter(|name| !seen.insert(**name)).map(|name| format!("{what} `{name}` twice")).collect()
}

/// A DNS label: RFC 1123.
fn is_label(name: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// The name of a service: RFC 6335, section 5.1.
fn is_port_name(name: &str) -> bool {
    is_label(name) && name.len() <= 15 && !name.contains("--") && name.bytes().any(|c| c.is_ascii_lowercase())
}

/// The items of a list that may not be there.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}
