//! Whether what was added is still what it was. The record has a sum of each addition; of what differs, undo says so.

use std::collections::BTreeMap;

use super::RECORD;
use crate::value::Value;

/// What a cluster fills in where a manifest says nothing, each as JSON.
const FILLED_IN: [(&str, &str); 7] = [
    ("terminationMessagePath", "\"/dev/termination-log\""),
    ("imagePullPolicy", "\"IfNotPresent\""),
    ("imagePullPolicy", "\"Always\""),
    ("protocol", "\"TCP\""),
    ("scheme", "\"HTTP\""),
    ("successThreshold", "1"),
    ("defaultMode", "420"),
];

/// A number of what a value says (FNV-1a of its JSON, 32 bits): the same however it is written, in which order its keys stand,
/// whatever a cluster fills in, and with the record in it or without.
pub(super) fn sum(value: &Value) -> u32 {
    let text = said(value).map(|value| value.to_string()).unwrap_or_default();
    text.bytes().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// The value without what says nothing.
fn said(value: &Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::List(items) => {
            let is_record = |item: &Value| item.name() == Some(RECORD);
            let items: Vec<_> = items.iter().filter(|item| !is_record(item)).filter_map(said).collect();
            (!items.is_empty()).then_some(Value::List(items))
        }
        Value::Map(entries) => {
            let is_filled_in = |key: &str, value: &Value| {
                FILLED_IN.iter().any(|(name, json)| *name == key && value.to_string() == *json)
            };
            let entries: BTreeMap<_, _> = entries
                .iter()
                .filter(|(key, value)| !is_filled_in(key, value))
                .filter_map(|(key, value)| Some((key.clone(), said(value)?)))
                .collect();
            (!entries.is_empty()).then(|| Value::Map(entries.into_iter().collect()))
        }
        value => Some(value.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::parse;

    fn of(text: &str) -> u32 {
        sum(parse(text).unwrap()[0].value())
    }

    #[test]
    fn it_changes_with_what_is_said_alone() {
        let one = of("{name: a, env: [{name: X, value: v}], ports: [{containerPort: 1, protocol: TCP}]}");
        for same in [
            "ports:\n- containerPort: 1\nenv:\n- value: 'v'\n  name: X\nname: \"a\"\nresources: {}\n",
            "{name: a, env: [{name: X, value: v}, {name: DRAGOMAN_INJECTION, value: z}], ports: [{containerPort: 1}]}",
            "{name: a, env: [{name: X, value: v}], ports: [{containerPort: 1}], imagePullPolicy: Always, args: null}",
        ] {
            assert_eq!(of(same), one, "{same}");
        }
        for other in [
            "{name: a, env: [{name: X, value: z}], ports: [{containerPort: 1}]}",
            "{name: a, env: [{name: X, value: v}, {name: Z}], ports: [{containerPort: 1}]}",
            "{name: a, env: [{name: X, value: v}], ports: [{containerPort: '1'}]}",
            "{name: a, ports: [{containerPort: 1}]}",
        ] {
            assert_ne!(of(other), one, "{other}");
        }
        // It stands in manifests: it must not change with the version.
        assert_eq!((of("{}"), of("\"a\""), of("a: 1")), (0x811c_9dc5, 0x61a1_cfea, 0xd492_a4df));
    }
}
