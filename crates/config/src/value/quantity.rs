//! Numbers with a range: counts, durations, sizes, ratios.

use std::time::Duration;

use serde_json::json;
use toml::de::DeValue;

use crate::{
    read::{Fault, Node, Reader, Value},
    schema::{Json, text},
};

/// In milliseconds, for the ranges of [`Time`].
pub(crate) const SECOND: u64 = 1000;
/// In milliseconds.
pub(crate) const MINUTE: u64 = 60 * SECOND;
/// In milliseconds.
pub(crate) const HOUR: u64 = 60 * MINUTE;
/// In milliseconds.
pub(crate) const DAY: u64 = 24 * HOUR;
/// In bytes, for the ranges of [`Size`].
pub(crate) const KIB: u64 = 1024;
/// In bytes.
pub(crate) const MIB: u64 = 1024 * KIB;
/// In bytes.
pub(crate) const GIB: u64 = 1024 * MIB;

/// The units of time, largest first, in milliseconds.
const TIME_UNITS: [(&str, u64); 4] = [("h", HOUR), ("m", MINUTE), ("s", SECOND), ("ms", 1)];
/// The units of size, largest first, in bytes.
const SIZE_UNITS: [(&str, u64); 4] = [("GiB", GIB), ("MiB", MIB), ("KiB", KIB), ("B", 1)];

/// An integer from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Count<const MIN: u64, const MAX: u64>(pub(crate) u64);

impl<const MIN: u64, const MAX: u64> Value for Count<MIN, MAX> {
    fn describe() -> String {
        format!("an integer from {MIN} to {MAX}")
    }

    fn schema() -> Json {
        json!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let within = node.integer().and_then(|n| u64::try_from(n).ok()).filter(|n| (MIN..=MAX).contains(n));
        if within.is_none() {
            let fault =
                if node.value.is_integer() { Fault::new("out of range") } else { Fault::new(node.found()) };
            reader.mismatch::<Self>(node, fault);
        }
        within.map(Self)
    }

    fn toml(&self) -> String {
        self.0.to_string()
    }
}

/// How many attempts an exchange may have. A type of its own, because of what 0 is meant to say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Attempts(pub(crate) u32);

impl Attempts {
    const MAX: u64 = 20;
}

impl Value for Attempts {
    fn describe() -> String {
        Count::<1, { Self::MAX }>::describe()
    }

    fn schema() -> Json {
        Count::<1, { Self::MAX }>::schema()
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        if node.integer() == Some(0) {
            let fault = Fault::new("the first attempt counts too");
            reader.mismatch::<Self>(node, fault.help("for no retries, write `retry = false`"));
            return None;
        }
        let count = Count::<1, { Self::MAX }>::read(node, reader)?;
        u32::try_from(count.0).ok().map(Self)
    }

    fn toml(&self) -> String {
        self.0.to_string()
    }
}

impl Value for bool {
    fn describe() -> String {
        "`true` or `false`".into()
    }

    fn schema() -> Json {
        json!({ "type": "boolean" })
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let value = node.value.as_bool();
        if value.is_none() {
            reader.mismatch::<Self>(node, Fault::new(node.found()));
        }
        value
    }

    fn toml(&self) -> String {
        self.to_string()
    }
}

/// A number from 0 to `MAX`, such as 0.2 for 20 %.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ratio<const MAX: u32>(pub(crate) f64);

impl<const MAX: u32> Value for Ratio<MAX> {
    fn describe() -> String {
        format!("a number from 0 to {MAX} (0.2 is 20 %)")
    }

    fn schema() -> Json {
        json!({ "type": "number", "minimum": 0, "maximum": MAX })
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let number = match node.value {
            DeValue::Integer(_) => node.integer().map(|n| n as f64),
            DeValue::Float(float) => float.as_str().parse().ok(),
            _ => None,
        };
        let within = number.filter(|n| (0.0..=f64::from(MAX)).contains(n));
        if within.is_none() {
            let number = matches!(node.value, DeValue::Integer(_) | DeValue::Float(_));
            let fault = if number { Fault::new("out of range") } else { Fault::new(node.found()) };
            reader.mismatch::<Self>(node, fault);
        }
        within.map(Self)
    }

    fn toml(&self) -> String {
        format!("{:?}", self.0)
    }
}

/// A duration from `MIN` to `MAX`, both in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Time<const MIN: u64, const MAX: u64>(pub(crate) Duration);

impl<const MIN: u64, const MAX: u64> Time<MIN, MAX> {
    /// A default, in milliseconds.
    pub(crate) const fn of(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }
}

impl<const MIN: u64, const MAX: u64> Value for Time<MIN, MAX> {
    fn describe() -> String {
        format!("a duration from {} to {}", show_time(MIN), show_time(MAX))
    }

    fn schema() -> Json {
        let parts: String = TIME_UNITS.iter().map(|(unit, _)| format!("([0-9]+{unit})?")).collect();
        let mut schema = text(&format!("^{parts}$"));
        // Every part may be missing, but not all.
        schema["minLength"] = 2.into();
        schema
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        if node.value.is_integer() {
            let fault = Fault::new("a duration needs a unit");
            let number = node.integer().unwrap_or_default();
            let help = format!("in seconds it is \"{number}s\"; the units are ms, s, m and h");
            reader.mismatch::<Self>(node, fault.help(help));
            return None;
        }
        reader.text(node, |text| {
            let millis = parse_time(text)?;
            match (MIN..=MAX).contains(&millis) {
                true => Ok(Self(Duration::from_millis(millis))),
                false => Err(Fault::new("out of range")),
            }
        })
    }

    fn toml(&self) -> String {
        format!("\"{}\"", show_time(u64::try_from(self.0.as_millis()).unwrap_or(MAX)))
    }
}

/// A deadline that may be absent, which is what zero would have meant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Deadline(pub(crate) Duration);

type DeadlineTime = Time<1, DAY>;

impl Value for Deadline {
    fn describe() -> String {
        DeadlineTime::describe()
    }

    fn schema() -> Json {
        DeadlineTime::schema()
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let zero = node.value.as_str().is_some_and(|text| matches!(parse_time(text), Ok(0)));
        if zero || node.integer() == Some(0) {
            let fault = Fault::new("nothing would ever finish in no time");
            reader.mismatch::<Self>(node, fault.help("for no deadline, leave the key out"));
            return None;
        }
        DeadlineTime::read(node, reader).map(|time| Self(time.0))
    }

    fn toml(&self) -> String {
        DeadlineTime::toml(&Time(self.0))
    }
}

/// A number of bytes from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Size<const MIN: u64, const MAX: u64>(pub(crate) usize);

impl<const MIN: u64, const MAX: u64> Value for Size<MIN, MAX> {
    fn describe() -> String {
        format!("a size from {} to {}", show_size(MIN), show_size(MAX))
    }

    fn schema() -> Json {
        let units = SIZE_UNITS.map(|(unit, _)| unit).join("|");
        let pattern = format!("^[0-9]+({units})$");
        json!({ "type": ["integer", "string"], "minimum": MIN, "maximum": MAX, "pattern": pattern })
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        let within = |bytes: u64| {
            let within = (MIN..=MAX).contains(&bytes).then_some(bytes);
            within.and_then(|bytes| usize::try_from(bytes).ok()).map(Self)
        };
        if !node.value.is_integer() {
            return reader
                .text(node, |text| within(parse_size(text)?).ok_or_else(|| Fault::new("out of range")));
        }
        let size = node.integer().and_then(|bytes| within(u64::try_from(bytes).ok()?));
        if size.is_none() {
            reader.mismatch::<Self>(node, Fault::new("out of range"));
        }
        size
    }

    fn toml(&self) -> String {
        format!("\"{}\"", show_size(self.0 as u64))
    }
}

/// Milliseconds of "1m30s": integers with a unit each, larger units first, without spaces.
pub(crate) fn parse_time(text: &str) -> Result<u64, Fault> {
    let wrong = || {
        let fault = Fault::new("not a duration");
        fault.help(
            "write an integer and a unit, as \"5s\", \"250ms\" or \"1m30s\"; the units are ms, s, m and h",
        )
    };
    let mut rest = text;
    let mut units = &TIME_UNITS[..];
    let mut total = 0_u64;
    while !rest.is_empty() || units.len() == TIME_UNITS.len() {
        let (number, after) = split_number(rest).ok_or_else(wrong)?;
        let unit = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let position = units.iter().position(|(name, _)| *name == unit).ok_or_else(wrong)?;
        total = total.saturating_add(number.saturating_mul(units[position].1));
        units = &units[position + 1..];
        rest = after;
    }
    Ok(total)
}

/// Bytes of "64KiB": one integer and a unit, without a space.
fn parse_size(text: &str) -> Result<u64, Fault> {
    let wrong = || {
        let fault = Fault::new("not a size");
        fault.help("write an integer and a unit, as \"64KiB\"; the units are B, KiB, MiB and GiB")
    };
    let (number, unit) = split_number(text).ok_or_else(wrong)?;
    let (_, factor) = SIZE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
    Ok(number.saturating_mul(*factor))
}

/// Splits leading digits off; a number beyond 64 bits saturates, to be found out of range.
fn split_number(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    (!number.is_empty()).then(|| (number.parse().unwrap_or(u64::MAX), rest))
}

fn show_time(millis: u64) -> String {
    let mut rest = millis;
    let mut text = String::new();
    for (unit, factor) in TIME_UNITS {
        if rest >= factor {
            text.push_str(&format!("{}{unit}", rest / factor));
            rest %= factor;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

fn show_size(bytes: u64) -> String {
    let exact = SIZE_UNITS.iter().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor));
    exact.map_or_else(|| "0B".into(), |(unit, factor)| format!("{}{unit}", bytes / factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("0s", Some(0)),
            ("5s", Some(5000)),
            ("250ms", Some(250)),
            ("1m30s", Some(90_000)),
            ("1h1ms", Some(3_600_001)),
            ("007s", Some(7000)),
            ("99999999999999999999h", Some(u64::MAX)),
            ("", None),
            ("5", None),
            ("s", None),
            ("5 s", None),
            (" 5s", None),
            ("1.5s", None),
            ("-1s", None),
            ("30s1m", None),
            ("1s1s", None),
            ("5S", None),
            ("5sec", None),
            ("٣s", None),
        ] {
            assert_eq!(parse_time(text).ok(), millis, "{text:?}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0B", Some(0)),
            ("64KiB", Some(65_536)),
            ("2GiB", Some(2_147_483_648)),
            ("18446744073709551616B", Some(u64::MAX)),
            ("64", None),
            ("64k", None),
            ("64KB", None),
            ("64 KiB", None),
            ("", None),
        ] {
            assert_eq!(parse_size(text).ok(), bytes, "{text:?}");
        }
    }

    #[test]
    fn what_is_shown_can_be_read() {
        for millis in [0, 1, 999, 1000, 90_000, 3_600_001, 86_400_000] {
            assert_eq!(parse_time(&show_time(millis)).ok(), Some(millis));
        }
        for bytes in [0, 1, 1023, 1024, 1025, 65_536, MIB, 3 * 1024 * MIB] {
            assert_eq!(parse_size(&show_size(bytes)).ok(), Some(bytes));
        }
    }
}
