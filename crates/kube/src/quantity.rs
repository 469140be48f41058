//! Amounts of CPU and memory, as Kubernetes writes them.
//!
//! The grammar and the suffixes are those of `resource.Quantity`:
//! <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>.

use std::cmp::Ordering;

/// An amount such as `50m` or `256Mi`, not below 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Quantity {
    /// In units of a nano, the least that Kubernetes keeps; rounded up, as there.
    nano: u128,
}

/// More than Kubernetes can hold, and far from what overflows here.
const MOST_DIGITS: usize = 18;
/// 2^63 - 1, in nano: what is above is cut there.
const MOST: u128 = i64::MAX as u128 * 1_000_000_000;

impl Quantity {
    /// Reads one.
    pub(crate) fn parse(text: &str) -> Option<Quantity> {
        let unsigned = text.strip_prefix('+').unwrap_or(text);
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        if whole.len() + part.len() == 0 || whole.len().max(part.len()) > MOST_DIGITS || part.contains('.') {
            return None;
        }
        let digits: u128 = format!("{whole}{part}").parse().ok()?;
        let scale = scale(suffix)?;
        let places = u32::try_from(part.len()).ok()?;
        Some(Quantity { nano: scale.of(digits, places) })
    }

    /// Compares two texts as amounts; texts that are none are equal where they are the same.
    pub(crate) fn same(one: &str, other: &str) -> bool {
        match (Quantity::parse(one), Quantity::parse(other)) {
            (Some(one), Some(other)) => one.cmp(&other) == Ordering::Equal,
            _ => one == other,
        }
    }
}

/// `base` to the power of `exponent`.
#[derive(Clone, Copy)]
struct Scale {
    base: u128,
    exponent: i32,
}

impl Scale {
    /// The digits, of which so many stand behind the point, in nano.
    fn of(self, digits: u128, places: u32) -> u128 {
        let power = |base: u128, exponent: u32| base.checked_pow(exponent);
        let up = match self.base {
            10 => power(10, u32::try_from((self.exponent + 9).max(0)).unwrap_or(u32::MAX)),
            base => power(base, u32::try_from(self.exponent).unwrap_or(u32::MAX))
                .and_then(|scale| scale.checked_mul(1_000_000_000)),
        };
        let below = match self.base {
            10 => u32::try_from((-9 - self.exponent).max(0)).unwrap_or(u32::MAX),
            _ => 0,
        };
        let Some(all) = up.and_then(|up| digits.checked_mul(up)) else {
            return if digits == 0 { 0 } else { MOST };
        };
        let down = places.checked_add(below).and_then(|places| power(10, places));
        down.map_or(u128::from(digits > 0), |down| all.div_ceil(down)).min(MOST)
    }
}

fn scale(suffix: &str) -> Option<Scale> {
    let decimal = |exponent| Some(Scale { base: 10, exponent });
    let binary = |exponent| Some(Scale { base: 1024, exponent });
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            let is_short =
                (1..=2).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
            decimal(is_short.then(|| exponent.parse().ok()).flatten()?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nano(text: &str) -> Option<u128> {
        Quantity::parse(text).map(|quantity| quantity.nano)
    }

    #[test]
    fn the_same_amount_is_the_same_however_it_is_written() {
        for (one, other) in [
            ("1", "1000m"),
            ("0.5", "500m"),
            (".5", "500000u"),
            ("1.", "1e0"),
            ("1Gi", "1024Mi"),
            ("1G", "1e9"),
            ("1.5Ki", "1536"),
            ("128974848", "123Mi"),
            ("+2", "2e+0"),
            ("100n", "1e-7"),
            ("0.1n", "1n"),
            ("1e-12", "1n"),
            ("0E", "0"),
        ] {
            assert!(nano(one).is_some() && nano(one) == nano(other), "{one} {other}: {:?}", nano(one));
            assert!(Quantity::same(one, other));
        }
        assert!(Quantity::parse("999m") < Quantity::parse("1"));
        assert!(Quantity::parse("1M") < Quantity::parse("1Mi"));
        assert!(!Quantity::same("1", "2") && !Quantity::same("x", "y") && Quantity::same("x", "x"));
    }

    #[test]
    fn what_is_none_is_refused_and_nothing_overflows() {
        for text in
            ["", "m", "-1", "1 ", "1mi", "1.2.3", ".", "1e", "1e100", "1K", "0x1", "١", "9999999999999999999"]
        {
            assert_eq!(nano(text), None, "{text}");
        }
        assert_eq!(nano("999999999999999999Ei"), Some(MOST));
        assert_eq!(nano("999999999999999999e99"), Some(MOST));
        assert_eq!(nano("999999999999999999.999999999999999999Ei"), Some(MOST));
        assert_eq!(nano("0.000000000000000001e-99"), Some(1));
        assert_eq!(nano("0e99"), Some(0));
    }
}
