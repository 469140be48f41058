//! What a scalar means, read as Kubernetes reads it; and how a text is written so that nobody reads it otherwise.
//!
//! Kubernetes' tools read YAML by sigs.k8s.io/yaml, whose scalars are those of YAML 1.1 as go-yaml v2 has them: `on`, `Yes`
//! and `n` are booleans, `0644` is octal, `1_000` is a number; times and base 60 (`12:30`) are text.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::value::Value;

/// What a plain scalar without a tag means.
pub(super) fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Value::Bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Value::Bool(false)
        }
        _ => number(text).unwrap_or_else(|| text.into()),
    }
}

/// What a scalar with one of YAML's own tags means (`!!str` and its like, by their last word).
pub(super) fn tagged(tag: &str, text: &str) -> Value {
    match (tag, plain(text)) {
        ("null", Value::Null) => Value::Null,
        ("bool", value @ Value::Bool(_)) => value,
        ("int" | "float", value @ (Value::Int(_) | Value::Number(_))) => value,
        _ => text.into(),
    }
}

/// What a scalar with the tag `!!binary` means; none where it is no base64.
pub(super) fn binary(text: &str) -> Option<Value> {
    let digits: String = text.chars().filter(|letter| !matches!(letter, '\n' | '\r')).collect();
    let bytes = BASE64_STANDARD.decode(digits).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned().into())
}

fn number(text: &str) -> Option<Value> {
    if !text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first)) {
        return None;
    }
    if matches!(text, ".nan" | ".NaN" | ".NAN") || is_infinity(text) {
        return Some(Value::Number(text.to_owned()));
    }
    let digits = text.replace('_', "");
    if let Some(integer) = integer(&digits) {
        return Some(i64::try_from(integer).map_or_else(|_| Value::Number(text.to_owned()), Value::Int));
    }
    is_decimal(&digits).then(|| Value::Number(text.to_owned()))
}

fn is_infinity(text: &str) -> bool {
    matches!(text.strip_prefix(['+', '-']).unwrap_or(text), ".inf" | ".Inf" | ".INF")
}

/// As Go reads an integer whose base is in its prefix. None beyond what 64 bits hold, signed or not.
fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let prefix = digits.get(..2).unwrap_or("").to_ascii_lowercase();
    let (base, digits) = match prefix.as_str() {
        "0x" => (16, &digits[2..]),
        "0o" => (8, &digits[2..]),
        "0b" => (2, &digits[2..]),
        _ if digits.len() > 1 && digits.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits),
    };
    if !digits.starts_with(|first: char| first.is_digit(base)) {
        return None;
    }
    let number = i128::from(u64::from_str_radix(digits, base).ok()?);
    let number = if negative { -number } else { number };
    (number >= i128::from(i64::MIN)).then_some(number)
}

/// `1`, `1.`, `.5`, `1e3`, `-1.5e-3`.
fn is_decimal(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = text.split_once(['e', 'E']).map_or((text, None), |(m, e)| (m, Some(e)));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent = exponent.map(|exponent| exponent.strip_prefix(['+', '-']).unwrap_or(exponent));
    all_digits(whole)
        && all_digits(fraction)
        && whole.len() + fraction.len() > 0
        && exponent.is_none_or(|exponent| !exponent.is_empty() && all_digits(exponent))
}

/// Whether every reader of YAML, 1.1 or 1.2, takes these bytes without quotes for this text, in a block.
pub(super) fn is_plain_to_all(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"._/-:=@+, ".contains(&byte);
    let first_fits = text.starts_with(|first: char| first.is_ascii_alphanumeric() || "/_".contains(first))
        || text
            .strip_prefix("--")
            .is_some_and(|rest| rest.starts_with(|next: char| next.is_ascii_alphabetic()));
    first_fits
        && text.bytes().all(inner)
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !is_a_word_of_yaml(text)
        && !could_be_a_number_or_a_time(text)
}

fn is_a_word_of_yaml(text: &str) -> bool {
    ["y", "yes", "true", "on", "n", "no", "false", "off", "null", "nan", "inf"]
        .iter()
        .any(|word| text.eq_ignore_ascii_case(word))
}

/// Generous: what begins with a digit, and has no letter that no number and no time has.
fn could_be_a_number_or_a_time(text: &str) -> bool {
    let of_numbers = |letter: char| letter.is_ascii_hexdigit() || "xXoOtTzZ".contains(letter);
    text.starts_with(|first: char| first.is_ascii_digit())
        && text.chars().filter(char::is_ascii_alphabetic).all(of_numbers)
}

/// The text as it stands in a block: bare where that is safe, in single quotes where that reads better than in double ones.
pub(super) fn in_block(text: &str) -> String {
    if is_plain_to_all(text) {
        text.to_owned()
    } else if text.contains(['"', '\\']) && text.chars().all(|letter| (' '..='~').contains(&letter)) {
        format!("'{}'", text.replace('\'', "''"))
    } else {
        Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_what_kubernetes_sees() {
        for (text, value) in [
            ("on", Value::Bool(true)),
            ("n", Value::Bool(false)),
            ("oN", "oN".into()),
            ("~", Value::Null),
            ("1337", 1337.into()),
            ("0644", 420.into()),
            ("0o17", 15.into()),
            ("0x1F", 31.into()),
            ("0b11", 3.into()),
            ("1_000", 1000.into()),
            ("-5", (-5).into()),
            ("+5", 5.into()),
            ("08", Value::Number("08".into())),
            ("18446744073709551615", Value::Number("18446744073709551615".into())),
            ("99999999999999999999", Value::Number("99999999999999999999".into())),
            ("1.5", Value::Number("1.5".into())),
            ("1e3", Value::Number("1e3".into())),
            ("-.inf", Value::Number("-.inf".into())),
            ("12:30", "12:30".into()),
            ("2026-11-21", "2026-11-21".into()),
            ("1.2.3", "1.2.3".into()),
            ("10.0.0.0/8", "10.0.0.0/8".into()),
            ("-", "-".into()),
            (".", ".".into()),
            ("0x", "0x".into()),
            ("100m", "100m".into()),
            ("--5", "--5".into()),
        ] {
            assert_eq!(plain(text), value, "{text}");
        }
        assert_eq!(tagged("str", "1"), "1".into());
        assert_eq!(tagged("int", "1"), 1.into());
    }

    #[test]
    fn quotes_stand_where_a_reader_could_err() {
        for text in [
            "1337",
            "true",
            "on",
            "12:30",
            "0x1f",
            "null",
            "~",
            "",
            "No",
            "1e3",
            "-5",
            "2026-11-21",
            "0o7",
            "1_000",
            "y",
            " a",
            "a ",
            "a: b",
            "a #b",
            "*a",
            "&a",
            "!a",
            "- a",
            "-",
            "--",
            "---",
            "...",
            "{a}",
            "[a]",
            "a:",
            "|",
            ">",
            "%a",
            "@a",
            "`a",
            "'a",
            "\"a",
            "é",
            "a\nb",
            "a\tb",
            "=",
            "<<",
            ".inf",
            "? a",
            ",a",
            "2001-12-14t21:59:43Z",
        ] {
            assert!(!is_plain_to_all(text), "{text}");
        }
        for text in [
            "dragoman-init",
            "/run/dragoman",
            "dragoman:0.1.0",
            "--config",
            "28s",
            "100m",
            "64Mi",
            "a b",
            "NET_ADMIN",
        ] {
            assert!(is_plain_to_all(text), "{text}");
        }
        assert_eq!(in_block(r#"{"a": "it's"}"#), r#"'{"a": "it''s"}'"#);
        assert_eq!(in_block("a\nb"), r#""a\nb""#);
    }
}
