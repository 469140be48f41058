//! What the fields say about the body and the connection (RFC 9112 §6 and §9).

use super::fields::{Field, Known, list};
use super::head::{BadHead, Version};
use crate::syntax::trim_ows;

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// There is none.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
    /// All bytes until the connection ends.
    UntilClose,
}

/// The connection options that the proxy acts on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// `close`
    pub close: bool,
    /// `keep-alive`
    pub keep_alive: bool,
    /// `upgrade`
    pub upgrade: bool,
}

/// What the fields say, before the rules for requests and responses part.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Framing {
    pub(super) length: Option<u64>,
    pub(super) chunked: bool,
    /// What the chunks carry is compressed for the connection.
    pub(super) compressed: bool,
    /// The same length is stated more than once: RFC 9110 §8.6 wants it forwarded as one.
    pub(super) length_repeated: bool,
    pub(super) connection: Connection,
}

impl Framing {
    pub(super) fn read(bytes: &[u8], fields: &[Field], version: Version) -> Result<Self, BadHead> {
        let mut framing = Self::default();
        for field in fields {
            let value = field.value.of(bytes);
            match field.known {
                Known::ContentLength => framing.add_length(value)?,
                Known::TransferEncoding => framing.add_coding(value)?,
                Known::Connection => framing.connection.add(value),
                _ => {}
            }
        }
        if framing.chunked && framing.length.is_some() {
            return Err(BadHead::Framing("both Content-Length and Transfer-Encoding"));
        }
        if framing.chunked && version == Version::Http10 {
            return Err(BadHead::Framing("Transfer-Encoding in HTTP/1.0"));
        }
        Ok(framing)
    }

    /// A body that the fields announce, if they do.
    pub(super) fn announced(&self) -> Option<Body> {
        if self.chunked { Some(Body::Chunked) } else { self.length.map(Body::Length) }
    }

    fn add_length(&mut self, value: &[u8]) -> Result<(), BadHead> {
        for item in value.split(|&b| b == b',') {
            let length = decimal(trim_ows(item))?;
            match self.length.replace(length) {
                None => {}
                Some(before) if before == length => self.length_repeated = true,
                Some(_) => return Err(BadHead::Framing("two different values of Content-Length")),
            }
        }
        Ok(())
    }

    /// A list is taken if all readers find its end in the same place: `chunked` is the last item and no other, and
    /// those before it are compressions that RFC 9112 §7 registers. A name that a reader does not know, an empty item or a
    /// tab is where readers disagree, and no program sends them.
    fn add_coding(&mut self, value: &[u8]) -> Result<(), BadHead> {
        if self.chunked {
            return Err(BadHead::Framing("two Transfer-Encoding fields"));
        }
        let mut codings = value.split(|&b| b == b',').map(trim_spaces);
        if !codings.next_back().is_some_and(|last| last.eq_ignore_ascii_case(b"chunked")) {
            return Err(BadHead::Framing("a Transfer-Encoding whose last coding is not chunked"));
        }
        for coding in codings {
            if !COMPRESSIONS.iter().any(|known| known.eq_ignore_ascii_case(coding)) {
                return Err(BadHead::Framing("a transfer coding that is neither chunked nor a compression"));
            }
            self.compressed = true;
        }
        self.chunked = true;
        Ok(())
    }
}

impl Connection {
    fn add(&mut self, value: &[u8]) {
        for option in list(value) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            self.upgrade |= option.eq_ignore_ascii_case(b"upgrade");
        }
    }

    /// Whether the connection outlives the message (RFC 9112 §9.3).
    pub(super) fn persists(self, version: Version) -> bool {
        match version {
            Version::Http11 => !self.close,
            Version::Http10 => self.keep_alive && !self.close,
        }
    }
}

/// The largest length in bytes: many readers keep it in a signed integer of 64 bits, and to them more is
/// negative.
pub(super) const LENGTH_MAX: u64 = i64::MAX as u64;

/// Transfer codings beside chunked (RFC 9112 §7.2).
const COMPRESSIONS: [&[u8]; 5] = [b"gzip", b"deflate", b"compress", b"x-gzip", b"x-compress"];

fn trim_spaces(item: &[u8]) -> &[u8] {
    let start = item.iter().position(|&b| b != b' ').unwrap_or(item.len());
    let end = item.iter().rposition(|&b| b != b' ').map_or(start, |last| last + 1);
    &item[start..end]
}

/// Digits and nothing else: `str::parse` would take a sign.
fn decimal(digits: &[u8]) -> Result<u64, BadHead> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(BadHead::Framing("a Content-Length that is not a number"));
    }
    digits
        .iter()
        .try_fold(0_u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
        .filter(|&length| length <= LENGTH_MAX)
        .ok_or(BadHead::Framing("a Content-Length beyond 63 bits"))
}
