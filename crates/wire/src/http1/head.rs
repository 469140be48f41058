//! What the strict readers of request and response heads share.
//!
//! The end of the head is looked for first, line by line with memchr: that finds bare LFs, too many
//! fields and too many bytes as soon as they are there, and it is cheap enough to begin anew after each
//! read, so a head keeps no state between two calls. Only a whole head is then read, its start line
//! by `request` or `response`, its field lines by httparse.

use super::fields::{self, Field, Known, Span};
use super::framing::Framing;
use memchr::memchr_iter;
use std::fmt;

/// How much of a head is taken.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest head in bytes, with its start line and the empty lines around it.
    pub head_bytes: usize,
    /// The most field lines; more than 256 counts as 256.
    pub headers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { head_bytes: 64 * 1024, headers: MAX_FIELDS }
    }
}

/// The most field lines that the reader has a table for.
pub(super) const MAX_FIELDS: usize = 256;

/// The versions that are spoken here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say all")]
pub enum Version {
    Http10,
    #[default]
    Http11,
}

/// Why a head was refused. A request is answered with 431 for the first two and 400 for the others; a
/// response gives 502.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHead {
    /// Longer than [`Limits::head_bytes`].
    TooLarge,
    /// More than [`Limits::headers`] field lines.
    TooManyHeaders,
    /// Not the grammar of HTTP/1; the text names what was found.
    Syntax(&'static str),
    /// Two readers could disagree where the message ends or whom it is for; the text names what was found.
    Framing(&'static str),
}

impl fmt::Display for BadHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadHead::TooLarge => "a head with more bytes than the limit",
            BadHead::TooManyHeaders => "a head with more fields than the limit",
            BadHead::Syntax(found) | BadHead::Framing(found) => found,
        })
    }
}

impl std::error::Error for BadHead {}

/// What requests and responses have in common.
#[derive(Debug, Default)]
pub(super) struct Head {
    pub(super) start_line: Span,
    pub(super) fields: Vec<Field>,
    pub(super) framing: Framing,
    pub(super) version: Version,
}

impl Head {
    pub(super) fn read(&mut self, bytes: &[u8], extent: &Extent, version: Version) -> Result<(), BadHead> {
        self.fields.clear();
        self.start_line = Span::new(extent.start, extent.fields);
        self.version = version;
        fields::read(bytes, (extent.fields, extent.end), extent.count, &mut self.fields)?;
        self.framing = Framing::read(bytes, &self.fields, version)?;
        Ok(())
    }

    pub(super) fn find(&self, known: Known) -> Option<&Field> {
        self.fields.iter().find(|field| field.known == known)
    }

    pub(super) fn find_name(&self, bytes: &[u8], name: &[u8]) -> Option<&Field> {
        self.fields.iter().find(|field| field.name.of(bytes).eq_ignore_ascii_case(name))
    }
}

/// Where the parts of a whole head are.
pub(super) struct Extent {
    /// The start line.
    pub(super) start: usize,
    /// The first field line.
    pub(super) fields: usize,
    /// How many field lines there are.
    pub(super) count: usize,
    /// The first byte after the empty line.
    pub(super) end: usize,
}

/// Finds the empty line that ends the head, after at most `empty_lines` before the start line.
pub(super) fn delimit(bytes: &[u8], empty_lines: usize, limits: &Limits) -> Result<Option<Extent>, BadHead> {
    let longest = limits.head_bytes.min(u32::MAX as usize);
    let window = &bytes[..bytes.len().min(longest)];
    let mut start_line = None;
    let mut count = 0;
    let mut skipped = 0;
    let mut at = 0;
    for lf in memchr_iter(b'\n', window) {
        let line = &window[at..lf];
        if line.last() != Some(&b'\r') {
            return Err(BadHead::Syntax("a line that ends in a bare LF"));
        }
        match (line.len(), start_line) {
            (1, None) if skipped == empty_lines => {
                return Err(BadHead::Syntax("an empty line before the head"));
            }
            (1, None) => skipped += 1,
            (1, Some((start, fields))) => return Ok(Some(Extent { start, fields, count, end: lf + 1 })),
            (_, None) => start_line = Some((at, lf + 1)),
            (_, Some(_)) if count == limits.headers.min(MAX_FIELDS) => return Err(BadHead::TooManyHeaders),
            (_, Some(_)) => count += 1,
        }
        at = lf + 1;
    }
    if bytes.len() < longest { Ok(None) } else { Err(BadHead::TooLarge) }
}

pub(super) fn version(text: &[u8]) -> Result<Version, &'static str> {
    match text {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        _ => Err("a version that is neither HTTP/1.0 nor HTTP/1.1"),
    }
}
