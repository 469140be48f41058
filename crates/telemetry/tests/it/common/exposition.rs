//! A strict reader for the Prometheus text format 0.0.4: families whole and once, with HELP and TYPE before
//! samples.

use std::collections::{BTreeMap, BTreeSet};

/// Series (labels sorted by name) and their values.
pub(crate) fn parse(text: &str) -> Result<BTreeMap<String, f64>, String> {
    let mut samples = BTreeMap::new();
    let mut families = BTreeSet::new();
    let (mut helped, mut typed, mut bucket) = (String::new(), String::new(), 0.0);
    let mut histogram = false;
    if !text.ends_with('\n') {
        return Err("the last line has no end".into());
    }
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').ok_or("HELP without text")?;
            if help.len() < 10 || !families.insert(name.to_owned()) {
                return Err(format!("family twice or without help: {name}"));
            }
            name.clone_into(&mut helped);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or("TYPE without kind")?;
            if name != helped || !matches!(kind, "counter" | "gauge" | "histogram") {
                return Err(format!("TYPE without its HELP, or of no known kind: {line}"));
            }
            if name.ends_with("_total") != (kind == "counter") {
                return Err(format!("a counter ends in _total and nothing else does: {line}"));
            }
            name.clone_into(&mut typed);
            histogram = kind == "histogram";
        } else {
            let (series, value) = line.rsplit_once(' ').ok_or("a sample without value")?;
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let value = value.parse::<f64>().map_err(|e| format!("{e}: {line}"))?;
            let part = name.strip_prefix(&typed).filter(|part| part.is_empty() != histogram);
            let fine = match part {
                Some("_bucket") if labels.contains("le=\"0.0001\"") => true,
                Some("_bucket") => value >= bucket,
                Some("_count") => value == bucket && value > 0.0,
                Some("" | "_sum") => true,
                _ => false,
            };
            if part == Some("_bucket") {
                bucket = value;
            }
            if !fine {
                return Err(format!(
                    "a sample outside of its family, or of a histogram that is not one: {line}"
                ));
            }
            let series = format!("{name}{}", labels_of(labels)?);
            if samples.insert(series, value).is_some() {
                return Err(format!("a series twice: {line}"));
            }
        }
    }
    Ok(samples)
}

/// Checks `key="value",…}` and gives it back sorted. No label of ours needs an escape.
fn labels_of(text: &str) -> Result<String, String> {
    let inner = text.strip_suffix('}').ok_or("labels without closing brace")?;
    if inner.is_empty() {
        return Ok(String::new());
    }
    let mut labels = Vec::new();
    for label in inner.split(',') {
        let (key, value) = label.split_once('=').ok_or("a label without value")?;
        let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).ok_or("a bare label value")?;
        let fine = |c: char| c.is_ascii_alphanumeric() || "._-+:[]".contains(c);
        if key.is_empty()
            || !key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
            || !value.chars().all(fine)
        {
            return Err(format!("label {label}"));
        }
        labels.push(label);
    }
    labels.sort_unstable();
    Ok(format!("{{{}}}", labels.join(",")))
}
