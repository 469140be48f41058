//! Text for a person: what others chose made harmless, and colour where it is wanted.

use std::fmt::Write;

/// The text with all that is not printable ASCII escaped: nothing in it can move the cursor or turn the line around.
pub(crate) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ' '..='~' => out.push(c),
            _ => out.extend(c.escape_unicode()),
        }
    }
    out
}

/// JSON with all that is not ASCII, and DEL, escaped, which means the same (RFC 8259, section 7).
pub(crate) fn ascii_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() && c != '\x7f' {
            out.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            write!(out, "\\u{unit:04x}").expect("a String takes all");
        }
    }
    out
}

/// What a line or a word says about how it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Mended,
    Bad,
}

impl Tone {
    /// The text in this tone's colour, if that is wanted.
    pub(crate) fn paint(self, text: &str, color: bool) -> String {
        let code = match self {
            _ if !color => return text.to_owned(),
            Tone::Good => 32,
            Tone::Mended => 33,
            Tone::Bad => 31,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Microseconds as a person reads them.
pub(crate) fn time(micros: u64) -> String {
    match micros {
        0..10_000_000 => format!("{}.{:03} ms", micros / 1000, micros % 1000),
        _ => format!("{}.{:01} s", micros / 1_000_000, micros / 100_000 % 10),
    }
}

/// Rows under each other, each column as wide as its widest cell; the last one as it is.
pub(crate) fn align<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let widths: Vec<_> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        let hostile = "a\x1b[2J\u{7}\r\n\u{9b}31m\u{202e}\u{7f}é\t";
        assert!(plain(hostile).bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{:?}", plain(hostile));
        let json = serde_json::to_string(hostile).unwrap();
        let harmless = ascii_json(&json);
        assert!(harmless.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{harmless:?}");
        assert_eq!(serde_json::from_str::<String>(&harmless).unwrap(), hostile);
    }

    #[test]
    fn times_are_short() {
        assert_eq!(
            [0, 1234, 9_999_999, 10_000_000].map(time),
            ["0.000 ms", "1.234 ms", "9999.999 ms", "10.0 s"]
        );
    }
}
