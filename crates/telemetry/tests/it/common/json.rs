//! A reader for one flat JSON object, stricter than RFC 8259: printable bytes only, no key twice.

use std::collections::BTreeMap;

/// The members in order of key: strings decoded, numbers and words as they stand.
pub(crate) fn object(line: &str) -> Result<BTreeMap<String, String>, String> {
    if let Some(c) = line.chars().find(|c| c.is_control()) {
        return Err(format!("a raw control character {c:?}"));
    }
    let mut rest = line.strip_prefix('{').ok_or("no opening brace")?;
    let mut members = BTreeMap::new();
    loop {
        let (key, after) = string(rest)?;
        let (value, after) = value(after.strip_prefix(':').ok_or("no colon")?)?;
        if members.insert(key.clone(), value).is_some() {
            return Err(format!("key {key} twice"));
        }
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after == "}" => return Ok(members),
            None => return Err(format!("trailing {after:?}")),
        }
    }
}

fn value(text: &str) -> Result<(String, &str), String> {
    if text.starts_with('"') {
        return string(text);
    }
    let end = text.find([',', '}']).ok_or("no end of value")?;
    let (number, rest) = text.split_at(end);
    let digits = number.strip_prefix('-').unwrap_or(number);
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(whole) || !all_digits(part) || (whole.len() > 1 && whole.starts_with('0')) {
        return Err(format!("not a number: {number:?}"));
    }
    Ok((number.into(), rest))
}

fn string(text: &str) -> Result<(String, &str), String> {
    let mut out = String::new();
    let mut chars = text.strip_prefix('"').ok_or("no opening quote")?.chars();
    loop {
        match chars.next().ok_or("no closing quote")? {
            '"' => return Ok((out, chars.as_str())),
            '\\' => out.push(match chars.next() {
                Some(c @ ('"' | '\\')) => c,
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some('u') => {
                    let digits: String = chars.by_ref().take(4).collect();
                    let code = u32::from_str_radix(&digits, 16).map_err(|e| e.to_string())?;
                    char::from_u32(code).ok_or("a lone surrogate")?
                }
                other => return Err(format!("escape {other:?}")),
            }),
            c => out.push(c),
        }
    }
}
