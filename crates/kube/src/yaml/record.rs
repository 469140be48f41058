//! What was added to a pod, as the record says: enough to find it again, even after other tools have written the object
//! anew. It is a JSON object of places, JSON pointers from the pod on in which an item of a list goes by its name:
//!
//! ```json
//! {"made": ["/spec/volumes"], "keys": {"/metadata/labels": ["dragoman.dev/injected"]}, "last": {"/spec/volumes": ["dragoman-run"]},
//!  "sums": "4f9ddea5,dbac71e0"}
//! ```

use std::collections::BTreeMap;

use super::read::parse;
use crate::value::Value;

/// Places, and what was added there.
pub(super) type Added = BTreeMap<String, Vec<String>>;

/// The additions to one pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Record {
    /// Mappings and lists that were not there, and go again when nothing is left in them.
    pub(super) made: Vec<String>,
    /// What was written where a null was before: `null`, `~`, or nothing.
    pub(super) null: BTreeMap<String, String>,
    /// Keys of mappings.
    pub(super) keys: Added,
    /// Items at the beginning of lists.
    pub(super) first: Added,
    /// Items at the end of lists.
    pub(super) last: Added,
    /// The sums of those that can be changed and found all the same, by their places.
    pub(super) sums: BTreeMap<String, u32>,
}

impl Record {
    /// As JSON.
    pub(super) fn text(&self) -> String {
        let places = |added: &Added| {
            let entries = added.iter().map(|(place, names)| (place.clone(), Value::from(names.clone())));
            Value::Map(entries.collect())
        };
        let nulls =
            self.null.iter().map(|(place, text)| (place.clone(), Value::from(text.as_str()))).collect();
        let fields = [
            ("made", Value::from(self.made.clone())),
            ("null", Value::Map(nulls)),
            ("keys", places(&self.keys)),
            ("first", places(&self.first)),
            ("last", places(&self.last)),
        ];
        let said =
            fields.into_iter().filter(|(_, value)| !(value.items().is_empty() && value.entries().is_empty()));
        let sum = |(place, name): (&str, &str)| {
            self.sums.get(&pointer(place, name)).map(|sum| format!("{sum:08x}")).unwrap_or_default()
        };
        let sums = self.names().map(sum).collect::<Vec<_>>().join(",");
        let said = said.chain([("sums", Value::from(sums))]);
        Value::Map(said.map(|(name, value)| (name.to_owned(), value)).collect()).to_string()
    }

    /// Reads the sums of [`Record::names`], in their order.
    fn set_sums(&mut self, text: &str) -> Option<()> {
        let places: Vec<_> = self.names().map(|(place, name)| pointer(place, name)).collect();
        let mut sums = text.split(',');
        for place in places {
            let sum = sums.next()?;
            if !sum.is_empty() {
                self.sums.insert(place, u32::from_str_radix(sum, 16).ok()?);
            }
        }
        sums.all(str::is_empty).then_some(())
    }

    /// Everything that was added: where, and by which name.
    pub(super) fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.keys.iter().chain(&self.first).chain(&self.last);
        all.flat_map(|(place, names)| names.iter().map(move |name| (place.as_str(), name.as_str())))
    }

    /// From JSON. None for what is no record, or one with more than this version knows of.
    pub(super) fn read(text: &str) -> Option<Record> {
        let documents = parse(text).ok()?;
        let [document] = documents.as_slice() else { return None };
        let Value::Map(fields) = document.value() else { return None };
        let mut record = Record::default();
        let mut sums = None;
        for (name, value) in fields {
            match name.as_str() {
                "made" => record.made = strings(value)?,
                "null" => record.null = pairs(value, null)?,
                "keys" => record.keys = pairs(value, strings)?,
                "first" => record.first = pairs(value, strings)?,
                "last" => record.last = pairs(value, strings)?,
                "sums" => sums = Some(value.text()?),
                _ => return None,
            }
        }
        if let Some(sums) = sums {
            record.set_sums(sums)?;
        }
        Some(record)
    }
}

/// One of the ways to write it: it goes back into the text as it is.
fn null(value: &Value) -> Option<String> {
    value.text().filter(|text| ["", "~", "null", "Null", "NULL"].contains(text)).map(str::to_owned)
}

fn strings(value: &Value) -> Option<Vec<String>> {
    let Value::List(items) = value else { return None };
    items.iter().map(|item| item.text().map(str::to_owned)).collect()
}

fn pairs<T>(value: &Value, read: impl Fn(&Value) -> Option<T>) -> Option<BTreeMap<String, T>> {
    let Value::Map(entries) = value else { return None };
    entries.iter().map(|(key, value)| Some((key.clone(), read(value)?))).collect()
}

/// One step further on the way to a place.
pub(super) fn pointer(to: &str, step: &str) -> String {
    format!("{to}/{}", step.replace('~', "~0").replace('/', "~1"))
}

/// The steps of a place.
pub(super) fn steps(pointer: &str) -> impl Iterator<Item = String> + '_ {
    pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~"))
}

/// What an item of a list goes by: its name, or what it says.
pub(super) fn mark(item: &Value) -> String {
    match (item.get("name"), item) {
        (Some(Value::Text(text)), _) | (None, Value::Text(text)) => text.clone(),
        _ => item.to_string(),
    }
}
