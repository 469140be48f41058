//! The `Retry-After` field: seconds, or a date in any of the three forms of RFC 9110 §5.6.7.
//!
//! A server that says when it will be back knows better than any backoff. The two obsolete date forms
//! must still be understood by a recipient. The day of the week has to be one, but not the right one:
//! the date stands without it.

use std::time::Duration;

const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAY_SECONDS: u64 = 86_400;
/// The mean year of 365.25 days.
const YEAR_SECONDS: u64 = 31_557_600;

/// How long the server asks to be left alone, or `None` if the value is neither seconds nor a date.
///
/// A date is counted from `now_unix_seconds`, and is zero if it has passed. More seconds than 64 bits
/// hold count as that many.
pub fn parse_retry_after(value: &str, now_unix_seconds: u64) -> Option<Duration> {
    let value = value.trim_matches([' ', '\t']);
    let seconds = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        value.parse().unwrap_or(u64::MAX)
    } else {
        parse_http_date(value, now_unix_seconds)?.saturating_sub(now_unix_seconds)
    };
    Some(Duration::from_secs(seconds))
}

/// Seconds since 1970, zero for what was before.
fn parse_http_date(value: &str, now: u64) -> Option<u64> {
    match value.split_once(", ") {
        Some((weekday, rest)) if WEEKDAYS.contains(&weekday) => parse_rfc850(rest, now),
        Some((weekday, rest)) if is_short_weekday(weekday) => parse_imf_fixdate(rest),
        Some(_) => None,
        None => parse_asctime(value),
    }
}

/// `06 Nov 1994 08:49:37 GMT`, the preferred form.
fn parse_imf_fixdate(text: &str) -> Option<u64> {
    let [day, month, year, time, "GMT"] = fields(text, ' ')? else { return None };
    unix_seconds(digits(year, 4)?, month_number(month)?, digits(day, 2)?, time)
}

/// `06-Nov-94 08:49:37 GMT`. Two digits of a year mean the year that is at most 50 years ahead.
fn parse_rfc850(text: &str, now: u64) -> Option<u64> {
    let [date, time, "GMT"] = fields(text, ' ')? else { return None };
    let [day, month, year] = fields(date, '-')?;
    let (day, month, year) = (digits(day, 2)?, month_number(month)?, digits(year, 2)?);
    let latest = now.saturating_add(50 * YEAR_SECONDS);
    // 9999 is the last year that the other forms can name.
    (19..=99)
        .rev()
        .filter_map(|century| unix_seconds(century * 100 + year, month, day, time))
        .find(|at| *at <= latest)
}

/// `Nov  6 08:49:37 1994` after the day of the week, as C's `asctime` writes it.
fn parse_asctime(value: &str) -> Option<u64> {
    let (weekday, rest) = value.split_at_checked(4)?;
    let (month, rest) = rest.split_at_checked(4)?;
    let (day, rest) = rest.split_at_checked(3)?;
    let [time, year] = fields(rest, ' ')?;
    let day = day.strip_suffix(' ')?;
    let day = day.strip_prefix(' ').map_or_else(|| digits(day, 2), |day| digits(day, 1))?;
    is_short_weekday(weekday.strip_suffix(' ')?).then_some(())?;
    unix_seconds(digits(year, 4)?, month_number(month.strip_suffix(' ')?)?, day, time)
}

/// A moment of the Gregorian calendar. `time` is `08:49:37`, with 60 for a leap second.
fn unix_seconds(year: u64, month: usize, day: u64, time: &str) -> Option<u64> {
    let [hour, minute, second] = fields(time, ':')?;
    let (hour, minute, second) = (digits(hour, 2)?, digits(minute, 2)?, digits(second, 2)?);
    let days_in_month = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    if !(1..=days_in_month[month]).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let days = days_before(year) + days_in_month[..month].iter().sum::<u64>() + day - 1;
    let at_midnight = days.saturating_sub(days_before(1970)) * DAY_SECONDS;
    Some(if year < 1970 { 0 } else { at_midnight + hour * 3_600 + minute * 60 + second })
}

/// Days from a fixed one to the start of `year`; only differences mean something.
fn days_before(year: u64) -> u64 {
    let last = year.saturating_sub(1);
    year * 365 + last / 4 - last / 100 + last / 400
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn is_short_weekday(name: &str) -> bool {
    name.len() == 3 && WEEKDAYS.iter().any(|weekday| weekday.starts_with(name))
}

/// From 0.
fn month_number(name: &str) -> Option<usize> {
    MONTHS.iter().position(|month| *month == name)
}

fn digits(text: &str, length: usize) -> Option<u64> {
    (text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Exactly `N` fields.
fn fields<const N: usize>(text: &str, separator: char) -> Option<[&str; N]> {
    let mut parts = text.split(separator);
    let mut found = [""; N];
    for field in &mut found {
        *field = parts.next()?;
    }
    parts.next().is_none().then_some(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110.
    const EXAMPLE: u64 = 784_111_777;

    fn after(value: &str, now: u64) -> Option<u64> {
        parse_retry_after(value, now).map(|wait| wait.as_secs())
    }

    #[test]
    fn seconds_are_taken_as_they_are_and_saturate() {
        for (value, expected) in [
            ("0", 0),
            ("120", 120),
            (" 7\t", 7),
            ("007", 7),
            ("18446744073709551615", u64::MAX),
            ("18446744073709551616", u64::MAX),
            ("99999999999999999999999999999999999999999", u64::MAX),
        ] {
            assert_eq!(after(value, EXAMPLE), Some(expected), "{value:?}");
        }
    }

    #[test]
    fn all_three_forms_of_a_date_mean_the_same() {
        for value in
            ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
        {
            assert_eq!(after(value, EXAMPLE - 90), Some(90), "{value:?}");
            assert_eq!(after(value, EXAMPLE), Some(0), "{value:?}");
            assert_eq!(after(value, EXAMPLE + 1), Some(0), "past: {value:?}");
        }
    }

    #[test]
    fn the_calendar_is_right_where_calendars_go_wrong() {
        for (value, expected) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Wed, 31 Dec 1969 23:59:59 GMT", 0),
            ("Mon, 01 Jan 0000 00:00:00 GMT", 0),
            ("Tue, 29 Feb 2000 00:00:00 GMT", 951_782_400),
            ("Thu, 29 Feb 2024 23:59:59 GMT", 1_709_251_199),
            ("Sat, 31 Dec 2016 23:59:60 GMT", 1_483_228_800),
            ("Fri, 31 Dec 9999 23:59:59 GMT", 253_402_300_799),
            ("Fri Dec 31 23:59:59 9999", 253_402_300_799),
        ] {
            assert_eq!(after(value, 0), Some(expected), "{value:?}");
        }
    }

    #[test]
    fn two_digits_of_a_year_are_never_more_than_fifty_years_ahead() {
        let in_2026 = 1_792_000_000;
        let year_2070 = 3_155_760_000;
        assert_eq!(after("Wednesday, 01-Jan-70 00:00:00 GMT", in_2026), Some(year_2070 - in_2026));
        assert_eq!(after("Wednesday, 01-Jan-80 00:00:00 GMT", in_2026), Some(0));
        // 2000 has this day, 2100 has not.
        assert_eq!(after("Tuesday, 29-Feb-00 00:00:00 GMT", 951_782_300), Some(100));
    }

    #[test]
    fn what_is_neither_is_refused() {
        for value in [
            "",
            " ",
            "-1",
            "+5",
            "1.5",
            "5s",
            "0x10",
            "1 2",
            "soon",
            "\u{661}",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37 GMT ok",
            "sun, 06 nov 1994 08:49:37 gmt",
            "Sun,06 Nov 1994 08:49:37 GMT",
            "Sun, 06  Nov 1994 08:49:37 GMT",
            "Xxx, 06 Nov 1994 08:49:37 GMT",
            ", 06 Nov 1994 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 31 Nov 1994 08:49:37 GMT",
            "Sun, 29 Feb 2023 08:49:37 GMT",
            "Sun, 29 Feb 2100 08:49:37 GMT",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:60:00 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
            "Sun, 06 Nov 1994 8:49:37 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sunday, 06-Nov-1994 08:49:37 GMT",
            "Sun, 06-Nov-94 08:49:37 GMT",
            "Sunday, 29-Feb-23 08:49:37 GMT",
            "Sun Nov 6 08:49:37 1994",
            "Sun Nov  6 08:49:37 1994 GMT",
            "Sun Nov  0 08:49:37 1994",
            "Sunday Nov  6 08:49:37 1994",
            "\u{e9}\u{e9}\u{e9}",
        ] {
            assert_eq!(parse_retry_after(value, EXAMPLE), None, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(value in "\\PC*", now: u64) {
            parse_retry_after(&value, now);
        }

        #[test]
        fn nothing_that_looks_like_a_date_panics(value in "(Sun|Sunday),? ?[0-9A-Za-z:, -]{0,24}( GMT)?", now: u64) {
            parse_retry_after(&value, now);
        }

        /// Counts the days one by one, to share nothing with the parser.
        #[test]
        fn dates_agree_with_a_calendar_that_is_walked(days in 0u64..60_000, second in 0u64..86_400) {
            let (mut year, mut month, mut day) = (1970, 1, 1);
            for _ in 0..days {
                day += 1;
                let length = match month {
                    2 if year % 400 == 0 || (year % 4 == 0 && year % 100 != 0) => 29,
                    2 => 28,
                    4 | 6 | 9 | 11 => 30,
                    _ => 31,
                };
                if day > length {
                    (month, day) = (month + 1, 1);
                }
                if month > 12 {
                    (year, month) = (year + 1, 1);
                }
            }
            let (name, hour, minute) = (MONTHS[month - 1], second / 3_600, second / 60 % 60);
            let time = format!("{hour:02}:{minute:02}:{:02}", second % 60);
            let at = Some(days * 86_400 + second);
            prop_assert_eq!(after(&format!("Mon, {day:02} {name} {year} {time} GMT"), 0), at);
            prop_assert_eq!(after(&format!("Mon {name} {day:>2} {time} {year}"), 0), at);
            let rfc850 = format!("Monday, {day:02}-{name}-{:02} {time} GMT", year % 100);
            prop_assert_eq!(after(&rfc850, days * 86_400), Some(second));
        }
    }
}
