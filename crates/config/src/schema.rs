//! The JSON Schema of the file format, by which editors complete, explain and check what is typed.
//!
//! It is made of the same tables and types that read the files, so it cannot be wrong about them. It says less than
//! they do: a schema sees neither the range of a duration nor two keys that contradict each other. But it never
//! refuses what is read, and always what no table knows. Where a key takes several types it lists them side by side
//! rather than as alternatives, because then a validator points at what is wrong inside of one.

use serde_json::{Map, json};
use toml::de::DeValue;

use crate::{
    raw::Root,
    table::{Key, Table},
};

pub(crate) use serde_json::Value as Json;

/// The JSON Schema (draft 2020-12) of a configuration file: `docs/dragoman.schema.json`.
pub fn schema() -> String {
    let mut schema = table(&Root::all_keys());
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = "dragoman".into();
    schema["description"] = "The configuration of dragoman; every key may be left out.".into();
    format!("{schema:#}\n")
}

/// A table with these keys and no others.
pub(crate) fn table(keys: &[Key]) -> Json {
    let properties: Map<_, _> = keys.iter().map(|key| (key.name.to_owned(), property(key))).collect();
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

/// A string in which this regular expression, which has its own anchors, matches. It is written in what ECMA 262
/// and the validators' own languages have in common.
pub(crate) fn text(pattern: &str) -> Json {
    json!({ "type": "string", "pattern": pattern })
}

fn property(key: &Key) -> Json {
    let mut property = (key.schema)();
    // Of a table alone there is nothing to say but what its keys say.
    let says = key.keys.is_empty() || property["type"] != "object";
    property["description"] = match says {
        true => format!("{}\n\nTakes {}.", key.doc, key.kind).into(),
        false => key.doc.into(),
    };
    if let Some(default) = key.default.as_ref().filter(|_| says) {
        let value = DeValue::parse(default).expect("a default is written as in a file");
        property["default"] = from_toml(value.get_ref());
    }
    property
}

fn from_toml(value: &DeValue<'_>) -> Json {
    match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Integer(number) => number.as_str().parse::<i64>().map_or(Json::Null, Json::from),
        DeValue::Float(number) => number.as_str().parse::<f64>().map_or(Json::Null, Json::from),
        DeValue::Boolean(truth) => (*truth).into(),
        DeValue::Datetime(time) => time.to_string().into(),
        DeValue::Array(items) => items.iter().map(|item| from_toml(item.get_ref())).collect(),
        DeValue::Table(table) => {
            table.iter().map(|(key, value)| (key.get_ref().to_string(), from_toml(value.get_ref()))).collect()
        }
    }
}
