//! Each setting by its name: an option `--NAME` of `dragoman inject`, and an annotation `dragoman.dev/NAME` of a pod.

use dragoman_capture::{Inbound, parse_cidr, parse_id, parse_ipv6, parse_port};

use crate::options::{Limit, Options};
use crate::quantity::Quantity;

/// What stands before the name of each annotation and label of ours.
pub const PREFIX: &str = "dragoman.dev/";

/// Where a setting is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// By an option, and by an annotation, which wins.
    Both,
    /// By an option alone: it is the platform's.
    Option,
    /// By an annotation alone.
    Annotation,
}

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// Where it is said.
    pub said: Said,
    /// What its value is, as help shows it. `BOOL` is true or false, and may be left out of an option.
    pub value: &'static str,
    /// What holds where nothing is said.
    pub default: &'static str,
    /// What it does.
    pub about: &'static str,
    set: fn(&mut Options, &str) -> Result<(), String>,
}

impl Setting {
    /// Reads a value and puts it into the options.
    ///
    /// # Errors
    /// What is wrong with the value.
    pub fn set(&self, options: &mut Options, value: &str) -> Result<(), String> {
        (self.set)(options, value.trim())
    }

    /// Whether it is `true` or `false`.
    pub fn is_switch(&self) -> bool {
        self.value == "BOOL"
    }
}

/// The one with which a pod says that it wants nothing of dragoman; no option, and read before all others.
pub(crate) const INJECT: &str = "inject";

/// All settings, in the order in which they are read and shown.
pub const SETTINGS: &[Setting] = &[
    Setting {
        name: INJECT,
        said: Said::Annotation,
        value: "BOOL",
        default: "true",
        about: "`false`: nothing is added to this pod, and what was added before is taken out",
        set: |_, value| switch(value).map(drop),
    },
    Setting {
        name: "image",
        said: Said::Both,
        value: "IMAGE",
        default: "dragoman:VERSION",
        about: "The image of all containers that are added",
        set: |options, value| image(value).map(|image| options.image = image),
    },
    Setting {
        name: "image-pull-policy",
        said: Said::Both,
        value: "POLICY",
        default: "not set",
        about: "When it is pulled: Always, IfNotPresent or Never",
        set: |options, value| match value {
            "Always" | "IfNotPresent" | "Never" => {
                options.image_pull_policy = Some(value.to_owned());
                Ok(())
            }
            _ => Err("expected Always, IfNotPresent or Never".to_owned()),
        },
    },
    Setting {
        name: "native-sidecar",
        said: Said::Both,
        value: "BOOL",
        default: "true",
        about: "A native sidecar (Kubernetes 1.29 or newer); `false`: a plain one, among the app's containers",
        set: |options, value| switch(value).map(|is| options.native_sidecar = is),
    },
    Setting {
        name: "wrap",
        said: Said::Both,
        value: "BOOL",
        default: "true",
        about: "In the plain form: explicit commands of the app wait until the proxy is ready",
        set: |options, value| switch(value).map(|is| options.wrap = is),
    },
    Setting {
        name: "quit",
        said: Said::Annotation,
        value: "WHO",
        default: "wrap",
        about: "Who ends the plain sidecar of a pod that ends: `wrap`, the command that waited for it, or `app`, \
                the app by POST to http://127.0.0.1:15000/quitquitquit",
        set: |options, value| match value {
            "wrap" | "app" => {
                options.app_quits = value == "app";
                Ok(())
            }
            _ => Err("expected wrap or app".to_owned()),
        },
    },
    Setting {
        name: "probes",
        said: Said::Both,
        value: "KIND",
        default: "http",
        about: "Probes of the sidecar: `http`, or `none`, which the plain form alone allows",
        set: |options, value| match value {
            "http" | "none" => {
                options.probes = value == "http";
                Ok(())
            }
            _ => Err("expected http or none".to_owned()),
        },
    },
    Setting {
        name: "config-map",
        said: Said::Option,
        value: "NAME",
        default: "dragoman-platform",
        about: "The platform's ConfigMap, with files *.toml; it may be missing. An empty NAME is none",
        set: |options, value| {
            options.config_map = config_map(value)?;
            Ok(())
        },
    },
    Setting {
        name: "app-config-map",
        said: Said::Option,
        value: "NAME",
        default: "none",
        about: "The app's ConfigMap, whose files override the platform's; it must exist",
        set: |options, value| {
            options.app_config_map = config_map(value)?;
            Ok(())
        },
    },
    Setting {
        name: "config",
        said: Said::Annotation,
        value: "NAME",
        default: "--app-config-map",
        about: "The app's ConfigMap, whose files override the platform's; it must exist. An empty NAME is none",
        set: |options, value| {
            options.app_config_map = config_map(value)?;
            Ok(())
        },
    },
    Setting {
        name: "no-capture",
        said: Said::Option,
        value: "BOOL",
        default: "false",
        about: "No init container and no capability: the sidecar serves the policy's plain listeners alone",
        set: |options, value| switch(value).map(|is| captures(options, !is)),
    },
    Setting {
        name: "capture",
        said: Said::Annotation,
        value: "BOOL",
        default: "true",
        about: "`false`: as --no-capture",
        set: |options, value| switch(value).map(|is| captures(options, is)),
    },
    Setting {
        name: "exclude-ports",
        said: Said::Both,
        value: "PORT,…",
        default: "none",
        about: "Destination ports that are left alone",
        set: |options, value| list(value, parse_port).map(|ports| options.rules.exclude_port = ports),
    },
    Setting {
        name: "include-ports",
        said: Said::Both,
        value: "PORT,…",
        default: "all",
        about: "The only destination ports that are captured",
        set: |options, value| list(value, parse_port).map(|ports| options.rules.include_port = ports),
    },
    Setting {
        name: "exclude-cidrs",
        said: Said::Both,
        value: "NET,…",
        default: "none",
        about: "Destinations that are left alone",
        set: |options, value| list(value, parse_cidr).map(|nets| options.rules.exclude_cidr = nets),
    },
    Setting {
        name: "include-cidrs",
        said: Said::Both,
        value: "NET,…",
        default: "all",
        about: "The only destinations that are captured",
        set: |options, value| list(value, parse_cidr).map(|nets| options.rules.include_cidr = nets),
    },
    Setting {
        name: "exclude-uids",
        said: Said::Both,
        value: "UID,…",
        default: "none",
        about: "Users whose connections are left alone",
        set: |options, value| {
            list(value, parse_id("a user's number")).map(|users| options.rules.exclude_uid = users)
        },
    },
    Setting {
        name: "exclude-gids",
        said: Said::Both,
        value: "GID,…",
        default: "none",
        about: "Groups whose connections are left alone",
        set: |options, value| {
            list(value, parse_id("a group's number")).map(|groups| options.rules.exclude_gid = groups)
        },
    },
    Setting {
        name: "exclude-interfaces",
        said: Said::Both,
        value: "NAME,…",
        default: "none",
        about: "What leaves by these interfaces is left alone",
        set: |options, value| {
            list(value, |name| Ok(name.to_owned())).map(|names| options.rules.exclude_interface = names)
        },
    },
    Setting {
        name: "ipv6",
        said: Said::Both,
        value: "auto|on|off",
        default: "auto",
        about: "auto: IPv6 is captured unless the kernel has none; on: or fail; off: it passes by",
        set: |options, value| parse_ipv6(value).map(|ipv6| options.rules.ipv6 = ipv6),
    },
    Setting {
        name: "capture-loopback",
        said: Said::Both,
        value: "BOOL",
        default: "false",
        about: "Capture what stays inside of the pod too",
        set: |options, value| switch(value).map(|is| options.rules.capture_loopback = is),
    },
    Setting {
        name: "capture-dns",
        said: Said::Both,
        value: "PORT",
        default: "none",
        about: "Capture DNS: the sidecar answers it on this port of loopback, by the pod's resolvers",
        set: |options, value| {
            options.rules.capture_dns = if value.is_empty() { None } else { Some(parse_port(value)?) };
            Ok(())
        },
    },
    Setting {
        name: "reject-quic",
        said: Said::Both,
        value: "BOOL",
        default: "false",
        about: "Refuse UDP to port 443, so that clients take TCP",
        set: |options, value| switch(value).map(|is| options.rules.reject_quic = is),
    },
    Setting {
        name: "drop-invalid",
        said: Said::Both,
        value: "BOOL",
        default: "false",
        about: "Drop TCP packets that conntrack cannot assign, which would reset connections",
        set: |options, value| switch(value).map(|is| options.rules.drop_invalid = is),
    },
    Setting {
        name: "inbound",
        said: Said::Both,
        value: "BOOL",
        default: "false",
        about: "Capture connections from outside too; the policy says `[inbound]`",
        set: |options, value| {
            let inbound = options.rules.inbound.take().unwrap_or_default();
            options.rules.inbound = switch(value)?.then_some(inbound);
            Ok(())
        },
    },
    Setting {
        name: "exclude-inbound-ports",
        said: Said::Both,
        value: "PORT,…",
        default: "none",
        about: "Ports of the pod that are left alone: those of probes",
        set: |options, value| {
            list(value, parse_port).and_then(|ports| inbound(options, |of| of.exclude_port = ports))
        },
    },
    Setting {
        name: "include-inbound-ports",
        said: Said::Both,
        value: "PORT,…",
        default: "all",
        about: "The only ports of the pod that are captured",
        set: |options, value| {
            list(value, parse_port).and_then(|ports| inbound(options, |of| of.include_port = ports))
        },
    },
    Setting {
        name: "cpu-request",
        said: Said::Both,
        value: "AMOUNT",
        default: "50m",
        about: "CPU for the sidecar to count on",
        set: |options, value| amount(value).map(|amount| options.resources.cpu_request = Some(amount)),
    },
    Setting {
        name: "cpu-limit",
        said: Said::Both,
        value: "AMOUNT|none",
        default: "1",
        about: "The most CPU of the sidecar",
        set: |options, value| limit(value, amount).map(|limit| options.resources.cpu_limit = Some(limit)),
    },
    Setting {
        name: "memory-request",
        said: Said::Both,
        value: "AMOUNT",
        default: "32Mi",
        about: "Memory for the sidecar to count on",
        set: |options, value| memory(value).map(|amount| options.resources.memory_request = Some(amount)),
    },
    Setting {
        name: "memory-limit",
        said: Said::Both,
        value: "AMOUNT|none",
        default: "256Mi",
        about: "The most memory of the sidecar",
        set: |options, value| limit(value, memory).map(|limit| options.resources.memory_limit = Some(limit)),
    },
    Setting {
        name: "scrape-annotations",
        said: Said::Both,
        value: "BOOL",
        default: "false",
        about: "Add prometheus.io/scrape, -port and -path where the pod has none of them",
        set: |options, value| switch(value).map(|is| options.scrape_annotations = is),
    },
];

/// Kubernetes takes no longer names of objects.
const NAME_BYTES: usize = 253;
/// Far more than any registry takes.
const IMAGE_BYTES: usize = 1024;

/// Whether it is `true` or `false`.
///
/// # Errors
/// What was expected.
pub(crate) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

/// Where nothing is captured, what was said before of what to capture does not count.
fn captures(options: &mut Options, is: bool) {
    if !is {
        options.rules = dragoman_capture::Options::default();
    }
    options.capture = is;
}

/// Nothing is an empty list.
fn list<T>(text: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let items = text.split(',').map(str::trim);
    items.map(|item| read(item).map_err(|reason| format!("{item:?}: {reason}"))).collect()
}

fn inbound(options: &mut Options, change: impl FnOnce(&mut Inbound)) -> Result<(), String> {
    let Some(inbound) = &mut options.rules.inbound else { return Err("goes with inbound only".to_owned()) };
    change(inbound);
    Ok(())
}

fn image(text: &str) -> Result<String, String> {
    let is_one = (1..=IMAGE_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_one {
        Ok(text.to_owned())
    } else {
        Err("expected an image such as registry.example/dragoman:1.2".to_owned())
    }
}

/// A DNS subdomain, as RFC 1123 has it and Kubernetes asks for.
fn config_map(text: &str) -> Result<Option<String>, String> {
    let is_label = |label: &str| {
        let inner =
            label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        inner && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    match text {
        "" => Ok(None),
        name if name.len() <= NAME_BYTES && name.split('.').all(is_label) => Ok(Some(name.to_owned())),
        _ => Err("expected the name of a ConfigMap: lower-case letters, digits, - and .".to_owned()),
    }
}

fn amount(text: &str) -> Result<String, String> {
    match Quantity::parse(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("expected an amount such as 50m, 1 or 256Mi".to_owned()),
    }
}

/// A number alone is bytes, and `m` is thousandths of one: nobody means that.
fn memory(text: &str) -> Result<String, String> {
    let text = amount(text)?;
    if Quantity::parse(&text) < Quantity::parse("1Mi") {
        return Err("is less than a mebibyte; expected an amount such as 64Mi".to_owned());
    }
    Ok(text)
}

fn limit(text: &str, amount: fn(&str) -> Result<String, String>) -> Result<Limit, String> {
    if text == "none" { Ok(Limit::None) } else { amount(text).map(Limit::Of) }
}
