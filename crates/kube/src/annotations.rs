//! What a pod says for itself.

use crate::look::Node;
use crate::options::Options;
use crate::refusal::Refusals;
use crate::settings::{INJECT, PREFIX, SETTINGS, Said, Setting, switch};
use crate::value::Value;
use crate::workload::{Object, metadata_above_pod};

/// The label by which injected pods are found.
pub(crate) const LABEL: &str = "dragoman.dev/injected";

/// The options as the annotations of this pod change them; nothing where it wants nothing of dragoman.
pub(crate) fn read(metadata: &Node<'_>, options: &Options, wrong: &mut Refusals) -> Option<Options> {
    let annotations = metadata.map("annotations", wrong);
    let ours = || annotations.value.entries().iter().filter(|(name, _)| name.starts_with(PREFIX));
    for (name, value) in ours() {
        let at = annotations.at.key(name);
        match known(name) {
            Ok(_) if !matches!(value, Value::Text(_)) => {
                let instead = match value {
                    Value::Null | Value::List(_) | Value::Map(_) => format!(", found {}", value.kind()),
                    value => format!("; write \"{value}\" in quotes"),
                };
                wrong.push(&at, format!("annotation {name}: expected text{instead}"));
            }
            Ok(_) => {}
            Err(reason) => wrong.push(&at, reason),
        }
    }
    refuse_labels(metadata, wrong);
    let said = |name: &str| annotations.value.get(&format!("{PREFIX}{name}")).and_then(Value::text);
    if said(INJECT).is_some_and(|value| switch(value.trim()) == Ok(false)) {
        return None;
    }
    let mut options = options.clone();
    for setting in SETTINGS.iter().filter(|setting| setting.said != Said::Option) {
        let Some(value) = said(setting.name) else { continue };
        if let Err(reason) = setting.set(&mut options, value) {
            wrong.push(
                &at(&annotations, setting),
                format!("annotation {PREFIX}{}: {value:?}: {reason}", setting.name),
            );
        }
    }
    for invalid in options.check().err().unwrap_or_default() {
        let setting = invalid.setting;
        let is_said = said(setting).is_some();
        let (what, at) = if is_said {
            (format!("annotation {PREFIX}{setting}"), annotations.at.key(&format!("{PREFIX}{setting}")))
        } else {
            (format!("options and annotations together: {setting}"), annotations.at.clone())
        };
        wrong.push(&at, format!("{what}: {}", invalid.reason));
    }
    Some(options)
}

fn at(annotations: &Node<'_>, setting: &Setting) -> crate::edit::Path {
    annotations.at.key(&format!("{PREFIX}{}", setting.name))
}

/// Refuses annotations of ours, and labels that should be some, where nobody would read them.
pub(crate) fn refuse_misplaced(object: &Object<'_>, wrong: &mut Refusals) {
    let Some(pod) = object.pod() else { return };
    let belongs = pod.at.key("metadata").key("annotations");
    for metadata in metadata_above_pod(object) {
        let annotations = metadata.get("annotations");
        for (name, _) in annotations.value.entries().iter().filter(|(name, _)| name.starts_with(PREFIX)) {
            let reason = format!(
                "annotation {name} is about pods, and is read from their template alone: move it to {belongs}"
            );
            wrong.push(&annotations.at.key(name), reason);
        }
        let labels = metadata.get("labels");
        let is_setting = |name: &str| name.starts_with(PREFIX) && known(name).is_ok();
        for (name, _) in labels.value.entries().iter().filter(|(name, _)| is_setting(name)) {
            let reason = format!("label {name}: it is an annotation of pods; move it to {belongs}");
            wrong.push(&labels.at.key(name), reason);
        }
    }
}

/// Refuses annotations of ours in an object with pods that nothing is added to: whoever wrote them counts on it.
pub(crate) fn refuse_unread(object: &Object<'_>, wrong: &mut Refusals) {
    let Some(template) = object.unknown_template() else { return };
    let asks_for_nothing = |name: &str, value: &Value| {
        name.strip_prefix(PREFIX) == Some(INJECT) && value.text() == Some("false")
    };
    for node in [&object.node, &template] {
        let annotations = node.get("metadata").get("annotations");
        for (name, value) in annotations.value.entries() {
            if name.starts_with(PREFIX) && !asks_for_nothing(name, value) {
                let reason = format!(
                    "annotation {name} has no effect: the object is of no kind that inject knows, and its pods stay as they \
                     are; take it out"
                );
                wrong.push(&annotations.at.key(name), reason);
            }
        }
    }
}

/// Labels decide nothing here, and one that looks as if it did would be overlooked in silence.
fn refuse_labels(metadata: &Node<'_>, wrong: &mut Refusals) {
    let labels = metadata.map("labels", wrong);
    for (name, _) in labels.value.entries().iter().filter(|(name, _)| name.starts_with(PREFIX)) {
        let reason = match known(name) {
            _ if name == LABEL => format!("label {name} is what inject itself adds; take it out"),
            Ok(_) => format!("label {name}: it is an annotation; move it there"),
            Err(reason) => reason.replacen("annotation", "label", 1),
        };
        wrong.push(&labels.at.key(name), reason);
    }
}

/// The setting of this annotation, or why there is none.
fn known(name: &str) -> Result<&'static Setting, String> {
    let short = name.strip_prefix(PREFIX).unwrap_or(name);
    let mut of_pods = SETTINGS.iter().filter(|setting| setting.said != Said::Option);
    if let Some(setting) = of_pods.clone().find(|setting| setting.name == short) {
        return Ok(setting);
    }
    if SETTINGS.iter().any(|setting| setting.name == short) {
        return Err(format!(
            "annotation {name}: it is for the platform to say, by the option --{short} alone"
        ));
    }
    let nearest = of_pods.by_ref().min_by_key(|setting| distance(short, setting.name));
    let nearest = nearest.map(|setting| setting.name).unwrap_or_default();
    Err(format!("annotation {name} is not known; the nearest is {PREFIX}{nearest}"))
}

/// How many letters are inserted, taken out or changed from one to the other (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    // Names are ASCII; of what is not, and of what is far too long, the beginning will do.
    let one = &one.as_bytes()[..one.len().min(64)];
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (n, a) in one.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = n + 1;
        for (m, b) in other.bytes().enumerate() {
            let changed = diagonal + usize::from(*a != b);
            diagonal = row[m + 1];
            row[m + 1] = changed.min(row[m] + 1).min(row[m + 1] + 1);
        }
    }
    row[other.len()]
}
