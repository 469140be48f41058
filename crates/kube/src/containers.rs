//! The containers and volumes that are added, as values.

use dragoman_capture::{Ipv6, PROXY_GID, READINESS_PORT};

use crate::options::{Limit, Options, Resources};
use crate::quantity::Quantity;
use crate::value::Value;

/// The sidecar, and what every name of ours begins with.
pub(crate) const SIDECAR: &str = "dragoman";
/// The sidecar's port for probes and metrics.
pub(crate) const PORT_NAME: &str = "dragoman-admin";
/// The folder of the control socket, in the sidecar, and of dragoman itself, in the app's containers that wait.
pub(crate) const RUN: &str = "/run/dragoman";
/// dragoman, in the app's containers that wait.
pub(crate) const COPIED: &str = "/run/dragoman/dragoman";

const RUN_VOLUME: &str = "dragoman-run";
const COPY_VOLUME: &str = "dragoman-bin";
const PLATFORM: (&str, &str) = ("dragoman-platform", "/etc/dragoman/platform");
const APP: (&str, &str) = ("dragoman-app", "/etc/dragoman/app");

/// How long the proxy may need for what is not its drain, before the pod is killed.
const RESERVE_MILLIS: i64 = 2000;
/// The longest that `proxy.drain` takes.
const MOST_DRAIN_MILLIS: i64 = 3_600_000;

/// What the containers depend on beside the options.
pub(crate) struct Around {
    /// `terminationGracePeriodSeconds`.
    pub(crate) grace_seconds: i64,
    /// The pod ends by itself, and so must the plain sidecar.
    pub(crate) ends: bool,
    /// Who says what containers may use.
    pub(crate) quality: Quality,
    /// The pod says by which AppArmor profile its containers run.
    pub(crate) has_apparmor: bool,
}

/// How the resources of ours are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quality {
    /// By request and limit.
    Burstable,
    /// All of the app's containers are guaranteed what they may use: ours too, so that the pod stays what it is.
    Guaranteed,
    /// The pod says it for all of its containers together.
    OfPod,
}

/// The init container that puts the rules in.
pub(crate) fn init(options: &Options, around: &Around) -> Value {
    let mut command = vec!["/dragoman-init".to_owned(), "install".to_owned()];
    command.extend(rules(options));
    let rights = [
        ("runAsUser", 0.into()),
        ("runAsGroup", 0.into()),
        ("runAsNonRoot", false.into()),
        (
            "capabilities",
            Value::from([("drop", Value::from(vec!["ALL"])), ("add", vec!["NET_ADMIN"].into())]),
        ),
    ];
    helper("dragoman-init", command, rights.to_vec(), &[], options, around)
}

/// The init container that copies dragoman to where the app's containers can run it.
pub(crate) fn copy(options: &Options, around: &Around) -> Value {
    let command = ["/dragoman", "wait", "--install", COPIED].map(str::to_owned);
    helper(
        "dragoman-copy",
        command.to_vec(),
        unprivileged(),
        &[mount(COPY_VOLUME, RUN, false)],
        options,
        around,
    )
}

/// An init container of ours that ends in a moment.
fn helper(
    name: &str,
    command: Vec<String>,
    rights: Vec<(&str, Value)>,
    mounts: &[Value],
    options: &Options,
    around: &Around,
) -> Value {
    let amounts = Resources {
        cpu_request: Some("10m".to_owned()),
        cpu_limit: Some(Limit::Of("100m".to_owned())),
        memory_request: Some("16Mi".to_owned()),
        memory_limit: Some(Limit::Of("64Mi".to_owned())),
    };
    let amounts = if around.quality == Quality::OfPod { Resources::default() } else { amounts };
    let mut container = begun(name, options);
    container.push(("command", command.into()));
    container.extend(resources(&amounts, around.quality).map(|resources| ("resources", resources)));
    container.push(("securityContext", rights_of(rights, around)));
    if !mounts.is_empty() {
        container.push(("volumeMounts", mounts.to_vec().into()));
    }
    map(container)
}

/// The sidecar.
pub(crate) fn sidecar(options: &Options, around: &Around) -> Value {
    let configs = configs(options);
    let mut command = vec!["/dragoman", "proxy"];
    command.extend(configs.iter().flat_map(|(_, path)| ["--config", path]));
    let mut mounts = vec![mount(RUN_VOLUME, RUN, false)];
    mounts.extend(configs.iter().map(|(volume, path)| mount(volume, path, true)));

    let mut container = begun(SIDECAR, options);
    if options.native_sidecar {
        container.push(("restartPolicy", "Always".into()));
    }
    container.push(("command", command.into()));
    container.push(("env", environment(options, around)));
    let port = vec![("name", PORT_NAME.into()), ("containerPort", port().into()), ("protocol", "TCP".into())];
    container.push(("ports", vec![map(port)].into()));
    if options.probes {
        // A pod waits for the first of these: once in a second is as often as Kubernetes can.
        container.push(("startupProbe", probe("/ready", 1, 60, 2)));
        container.push(("readinessProbe", probe("/ready", 5, 3, 2)));
        // A restart costs every open connection: only what has hung for a minute is restarted.
        container.push(("livenessProbe", probe("/live", 10, 6, 5)));
    }
    container.push(("lifecycle", lifecycle(options)));
    let said = &options.resources;
    let amounts =
        if around.quality == Quality::OfPod { said.clone() } else { of_sidecar(said, around.quality) };
    container.extend(resources(&amounts, around.quality).map(|resources| ("resources", resources)));
    container.push(("securityContext", rights_of(unprivileged(), around)));
    container.push(("volumeMounts", mounts.into()));
    map(container)
}

/// The volumes, of which one is for the app's containers that wait.
pub(crate) fn volumes(options: &Options, copies: bool) -> Vec<Value> {
    // In memory: a pod with a volume on the node's disk would no longer be moved by the cluster autoscaler.
    let memory = |name: &str, most: &str| {
        let of = Value::from([("medium", "Memory"), ("sizeLimit", most)]);
        Value::from([("name", name.into()), ("emptyDir", of)])
    };
    let mut volumes = vec![memory(RUN_VOLUME, "1Mi")];
    if copies {
        volumes.push(memory(COPY_VOLUME, "32Mi"));
    }
    let config_map = |volume: &str, name: &str, optional: bool| {
        let mut of: Vec<(&str, Value)> = vec![("name", name.into())];
        if optional {
            of.push(("optional", true.into()));
        }
        Value::from([("name", volume.into()), ("configMap", map(of))])
    };
    volumes.extend(options.config_map.as_ref().map(|name| config_map(PLATFORM.0, name, true)));
    volumes.extend(options.app_config_map.as_ref().map(|name| config_map(APP.0, name, false)));
    volumes
}

/// Where the app's containers that wait find dragoman; they do not see the control socket.
pub(crate) fn copy_mount() -> Value {
    mount(COPY_VOLUME, RUN, true)
}

fn begun(name: &str, options: &Options) -> Vec<(&'static str, Value)> {
    let mut container = vec![("name", name.into()), ("image", options.image.as_str().into())];
    container.extend(options.image_pull_policy.as_deref().map(|policy| ("imagePullPolicy", policy.into())));
    // Whoever asks why a pod does not start sees the one line that says it.
    container.push(("terminationMessagePolicy", "FallbackToLogsOnError".into()));
    container
}

/// The ConfigMaps' volumes and where they are mounted, the one that is overridden first.
fn configs(options: &Options) -> Vec<(&'static str, &'static str)> {
    let platform = options.config_map.as_ref().map(|_| PLATFORM);
    platform.into_iter().chain(options.app_config_map.as_ref().map(|_| APP)).collect()
}

fn environment(options: &Options, around: &Around) -> Value {
    let port = port();
    let mut variables = vec![("DRAGOMAN_ADMIN_LISTEN", format!("0.0.0.0:{port},[::]:{port}"))];
    variables.push(("DRAGOMAN_PROXY_DRAIN", drain(around.grace_seconds)));
    variables.push(if options.native_sidecar {
        ("DRAGOMAN_PROXY_DRAIN_QUIET", "0s".to_owned())
    } else {
        ("DRAGOMAN_PROXY_DRAIN_WHILE_LISTENING", "true".to_owned())
    });
    if around.ends && !options.native_sidecar {
        variables.push(("DRAGOMAN_CONTROL_QUIT_ON_TCP", "true".to_owned()));
    }
    if let Some(port) = options.rules.capture_dns {
        variables.push(("DRAGOMAN_DNS_LISTEN", format!("127.0.0.1:{port},[::1]:{port}")));
    }
    let variable = |(name, value): (&str, String)| Value::from([("name", name.to_owned()), ("value", value)]);
    Value::List(variables.into_iter().map(variable).collect())
}

/// The proxy's one deadline, in time for the pod's own.
fn drain(grace_seconds: i64) -> String {
    let grace = grace_seconds.saturating_mul(1000);
    let left = if grace < 2 * RESERVE_MILLIS { grace / 2 } else { grace - RESERVE_MILLIS };
    match left.min(MOST_DRAIN_MILLIS) {
        left if left % 1000 == 0 => format!("{}s", left / 1000),
        left => format!("{left}ms"),
    }
}

fn lifecycle(options: &Options) -> Value {
    let exec = |command: &[&str]| Value::from([("exec", Value::from([("command", command.to_vec())]))]);
    let mut hooks = Vec::new();
    if !options.native_sidecar {
        // The kubelet starts the next container when this has returned.
        hooks.push(("postStart", exec(&["/dragoman", "wait"])));
    }
    hooks.push(("preStop", exec(&["/dragoman", "drain", "--announce"])));
    map(hooks)
}

fn probe(path: &str, period_seconds: i64, failures: i64, timeout_seconds: i64) -> Value {
    map(vec![
        ("httpGet", map(vec![("path", path.into()), ("port", port().into())])),
        ("periodSeconds", period_seconds.into()),
        ("timeoutSeconds", timeout_seconds.into()),
        ("failureThreshold", failures.into()),
    ])
}

fn port() -> i64 {
    READINESS_PORT.into()
}

fn mount(volume: &str, path: &str, read_only: bool) -> Value {
    let mut mount: Vec<(&str, Value)> = vec![("name", volume.into()), ("mountPath", path.into())];
    if read_only {
        mount.push(("readOnly", true.into()));
    }
    map(mount)
}

fn unprivileged() -> Vec<(&'static str, Value)> {
    vec![
        ("runAsUser", i64::from(PROXY_GID).into()),
        ("runAsGroup", i64::from(PROXY_GID).into()),
        ("runAsNonRoot", true.into()),
        ("capabilities", Value::from([("drop", vec!["ALL"])])),
    ]
}

/// All that a container could inherit from the pod and that could break ours is said.
fn rights_of(mut rights: Vec<(&str, Value)>, around: &Around) -> Value {
    let runtime_default = || Value::from([("type", "RuntimeDefault")]);
    rights.push(("privileged", false.into()));
    rights.push(("allowPrivilegeEscalation", false.into()));
    rights.push(("readOnlyRootFilesystem", true.into()));
    rights.push(("seccompProfile", runtime_default()));
    if around.has_apparmor {
        // A profile that was made for the app. Said only here, since it is a field of Kubernetes 1.30 and newer.
        rights.push(("appArmorProfile", runtime_default()));
    }
    map(rights)
}

/// The options of dragoman-init.
fn rules(options: &Options) -> Vec<String> {
    let rules = &options.rules;
    let mut arguments = Vec::new();
    let mut list = |name: &str, items: Vec<String>| {
        if !items.is_empty() {
            arguments.extend([format!("--{name}"), items.join(",")]);
        }
    };
    list("exclude-cidr", texts(&rules.exclude_cidr));
    list("include-cidr", texts(&rules.include_cidr));
    list("exclude-port", texts(&rules.exclude_port));
    list("include-port", texts(&rules.include_port));
    list("exclude-uid", texts(&rules.exclude_uid));
    list("exclude-gid", texts(&rules.exclude_gid));
    list("exclude-interface", texts(&rules.exclude_interface));
    list("capture-dns", texts(rules.capture_dns.as_slice()));
    let ipv6 = match rules.ipv6 {
        Ipv6::Auto => None,
        Ipv6::On => Some("on"),
        Ipv6::Off => Some("off"),
    };
    list("ipv6", texts(ipv6.as_slice()));
    if let Some(inbound) = &rules.inbound {
        list("exclude-inbound-port", texts(&inbound.exclude_port));
        list("include-inbound-port", texts(&inbound.include_port));
    }
    for (name, is_on) in [
        ("inbound", rules.inbound.is_some()),
        ("capture-loopback", rules.capture_loopback),
        ("reject-quic", rules.reject_quic),
        ("drop-invalid", rules.drop_invalid),
    ] {
        arguments.extend(is_on.then(|| format!("--{name}")));
    }
    arguments
}

fn texts<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(T::to_string).collect()
}

/// What is said, and for the rest what most pods need: little to count on, and room for what comes at once. Where all is
/// reserved, room is dear.
///
/// A limit on CPU also says how many threads there are; without one there are as many as the node has cores.
fn of_sidecar(said: &Resources, quality: Quality) -> Resources {
    let (cpu, memory) = match quality {
        Quality::Guaranteed => (("250m", "250m"), ("128Mi", "128Mi")),
        Quality::Burstable | Quality::OfPod => (("50m", "1"), ("32Mi", "256Mi")),
    };
    let (cpu_request, cpu_limit) = of_one(&said.cpu_request, &said.cpu_limit, cpu);
    let (memory_request, memory_limit) = of_one(&said.memory_request, &said.memory_limit, memory);
    Resources { cpu_request, cpu_limit, memory_request, memory_limit }
}

/// A request and a limit, of which the one that is said moves the other one's default.
fn of_one(
    request: &Option<String>,
    limit: &Option<Limit>,
    (default_request, default_limit): (&str, &str),
) -> (Option<String>, Option<Limit>) {
    let is_more = |one: &str, other: &str| Quantity::parse(one) > Quantity::parse(other);
    let limit = limit.clone().unwrap_or_else(|| match request {
        Some(request) if is_more(request, default_limit) => Limit::Of(request.clone()),
        _ => Limit::Of(default_limit.to_owned()),
    });
    let request = request.clone().unwrap_or_else(|| match &limit {
        Limit::Of(limit) if is_more(default_request, limit) => limit.clone(),
        _ => default_request.to_owned(),
    });
    (Some(request), Some(limit))
}

fn resources(amounts: &Resources, quality: Quality) -> Option<Value> {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (name, request, limit) in [
        ("cpu", &amounts.cpu_request, &amounts.cpu_limit),
        ("memory", &amounts.memory_request, &amounts.memory_limit),
    ] {
        let limit = if let Some(Limit::Of(limit)) = limit { Some(limit.as_str()) } else { None };
        let request =
            if quality == Quality::Guaranteed { limit.or(request.as_deref()) } else { request.as_deref() };
        requests.extend(request.map(|amount| (name, amount.into())));
        limits.extend(limit.map(|amount| (name, amount.into())));
    }
    let mut both = vec![("requests", requests), ("limits", limits)];
    both.retain(|(_, amounts)| !amounts.is_empty());
    (!both.is_empty()).then(|| map(both.into_iter().map(|(name, amounts)| (name, map(amounts))).collect()))
}

fn map(entries: Vec<(&str, Value)>) -> Value {
    Value::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}
