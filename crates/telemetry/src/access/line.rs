//! One line of the access log, as JSON or as `key=value` text, from the same calls.
//!
//! Values come from the application and from servers, so all of them are hostile: nothing in a value can end
//! a line, start a key, or send a control sequence to a terminal.

use std::fmt::{Display, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::AccessFormat;
use super::field::{Field, Shape};
use crate::cause::Cause;
use crate::text;

/// Builds one line. Each key is given once.
pub(crate) struct Line {
    format: AccessFormat,
    text: String,
}

impl Line {
    /// Starts a line with its time and kind.
    pub(crate) fn new(format: AccessFormat, kind: &'static str) -> Line {
        let mut line = Line { format, text: String::with_capacity(384) };
        if format == AccessFormat::Json {
            line.text.push('{');
        }
        line.plain(Field::Ts, Timestamp(SystemTime::now()));
        line.plain(Field::Kind, kind);
        line
    }

    /// A value that is known to need no escape: an address, an identifier, a word of a closed set.
    pub(crate) fn plain(&mut self, field: Field, value: impl Display) {
        self.key(field, Shape::Word);
        let quote = if self.format == AccessFormat::Json { "\"" } else { "" };
        push(&mut self.text, format_args!("{quote}{value}{quote}"));
    }

    /// A number.
    pub(crate) fn number(&mut self, field: Field, value: impl Display) {
        self.key(field, Shape::Number);
        push(&mut self.text, format_args!("{value}"));
    }

    /// Any text; an empty one is left out.
    pub(crate) fn text(&mut self, field: Field, value: &str) {
        if value.is_empty() {
            return;
        }
        self.key(field, Shape::Text);
        match self.format {
            AccessFormat::Text if value.bytes().all(is_bare) => self.text.push_str(value),
            _ => push_quoted(&mut self.text, value),
        }
    }

    /// A duration in milliseconds, to the microsecond.
    pub(crate) fn milliseconds(&mut self, field: Field, value: Duration) {
        let micros = value.as_micros();
        self.number(field, format_args!("{}.{:03}", micros / 1000, micros % 1000));
    }

    /// Why it did not end well, and who ended it; nothing for a good end.
    pub(crate) fn cause(&mut self, cause: Option<Cause>, detail: Option<&str>) {
        if let Some(cause) = cause {
            self.plain(Field::Cause, cause);
            self.plain(Field::Who, cause.who());
        }
        self.text(Field::Detail, text::shortened(detail.unwrap_or_default()));
    }

    /// The retries as `reason:proof` in their order, and why the last failure was not repeated.
    pub(crate) fn retries(
        &mut self,
        retries: &[(&'static str, &'static str)],
        refused: Option<&'static str>,
    ) {
        let mut words = String::new();
        for (reason, proof) in retries {
            let comma = if words.is_empty() { "" } else { "," };
            push(&mut words, format_args!("{comma}{reason}:{proof}"));
        }
        self.text(Field::Retries, &words);
        self.text(Field::RetryRefused, refused.unwrap_or_default());
    }

    /// The whole line, with its line feed.
    pub(crate) fn finish(mut self) -> String {
        if self.format == AccessFormat::Json {
            self.text.push('}');
        }
        self.text.push('\n');
        self.text
    }

    fn key(&mut self, field: Field, shape: Shape) {
        debug_assert_eq!(field.shape(), shape, "{field:?}");
        let key = field.key();
        let json = self.format == AccessFormat::Json;
        if self.text.len() > usize::from(json) {
            self.text.push(if json { ',' } else { ' ' });
        }
        if json {
            push(&mut self.text, format_args!("\"{key}\":"));
        } else {
            push(&mut self.text, format_args!("{key}="));
        }
    }
}

/// Bytes of which a text value may consist without quotes.
fn is_bare(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'=' | b'\\')
}

/// Appends a JSON string (RFC 8259 section 7). Beyond what JSON asks for, all control characters are escaped
/// (DEL, C1, and the bidirectional ones), since a line may be shown on a terminal.
fn push_quoted(out: &mut String, value: &str) {
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() || is_invisible(c) => push(out, format_args!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Line separators and marks that change the direction of text; all are in the basic plane.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn push(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    out.write_fmt(arguments).expect("writing to a String cannot fail");
}

/// A time as RFC 3339, UTC, to the millisecond.
pub(crate) struct Timestamp(pub(crate) SystemTime);

impl Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
        let (year, month, day) = civil(days);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let millis = since.subsec_millis();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

/// Year, month and day of a count of days since 1970-01-01, in the Gregorian calendar.
///
/// Years are taken to begin in March, so that the leap day is the last of a year; source: Howard Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`, for dates that are not before 1970.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_rfc_3339() {
        let cases = [
            (0, "1970-01-01T00:00:00.007Z"),
            (951_782_399, "2000-02-28T23:59:59.007Z"),
            (951_782_400, "2000-02-29T00:00:00.007Z"),
            (1_709_251_199, "2024-02-29T23:59:59.007Z"),
            (1_735_689_599, "2024-12-31T23:59:59.007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.007Z"),
            (253_402_300_799, "9999-12-31T23:59:59.007Z"),
        ];
        for (seconds, text) in cases {
            let time = UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 7);
            assert_eq!(Timestamp(time).to_string(), text);
        }
    }

    #[test]
    fn the_two_formats_say_the_same() {
        let write = |format| {
            let mut line = Line::new(format, "flow");
            line.text(Field::Host, "a b");
            line.text(Field::Path, "/x");
            line.text(Field::Sni, "");
            line.milliseconds(Field::DurationMs, Duration::from_nanos(12_034_567));
            line.cause(Some(Cause::ConnectRefused), Some("say \"no\""));
            let text = line.finish();
            text[text.find("kind").unwrap()..].to_owned()
        };
        assert_eq!(
            write(AccessFormat::Text),
            "kind=flow host=\"a b\" path=/x duration_ms=12.034 cause=connect_refused who=upstream \
             detail=\"say \\\"no\\\"\"\n"
        );
        assert_eq!(
            write(AccessFormat::Json),
            "kind\":\"flow\",\"host\":\"a b\",\"path\":\"/x\",\"duration_ms\":12.034,\
             \"cause\":\"connect_refused\",\"who\":\"upstream\",\"detail\":\"say \\\"no\\\"\"}\n"
        );
    }
}
