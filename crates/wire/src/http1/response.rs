//! The head of a response.

use super::fields::{Field, Known, Span};
use super::framing::{Body, Connection};
use super::head::{BadHead, Head, Limits, Version, delimit, version};
use crate::syntax::is_value_byte;
use memchr::memchr;

/// The head of a response. Reused like [`RequestHead`](super::RequestHead).
#[derive(Debug, Default)]
pub struct ResponseHead {
    pub(super) head: Head,
    status: u16,
}

impl ResponseHead {
    /// Reads the head at the start of `bytes`. `None` until it is whole; then its length.
    pub fn parse(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, BadHead> {
        let Some(extent) = delimit(bytes, 0, limits)? else { return Ok(None) };
        let (version, status) =
            status_line(&bytes[extent.start..extent.fields - 2]).map_err(BadHead::Syntax)?;
        self.status = status;
        self.head.read(bytes, &extent, version)?;
        Ok(Some(extent.end))
    }

    /// The status code, 100 to 999.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The status line with its CRLF.
    pub fn start_line(&self) -> Span {
        self.head.start_line
    }

    /// The version of the status line.
    pub fn version(&self) -> Version {
        self.head.version
    }

    /// The field lines in their order.
    pub fn fields(&self) -> &[Field] {
        &self.head.fields
    }

    /// The first field of that name.
    pub fn find(&self, known: Known) -> Option<&Field> {
        self.head.find(known)
    }

    /// The first field of a name that need not be a known one, in any case.
    pub fn find_name(&self, bytes: &[u8], name: &[u8]) -> Option<&Field> {
        self.head.find_name(bytes, name)
    }

    /// The connection options.
    pub fn connection(&self) -> Connection {
        self.head.framing.connection
    }

    /// Whether the server is willing to take another request. A body until close ends the connection
    /// all the same.
    pub fn keeps_alive(&self) -> bool {
        self.connection().persists(self.version())
    }

    /// Whether the body is compressed for the connection, beneath its chunks: its bytes are not the content.
    pub fn is_transfer_compressed(&self) -> bool {
        self.head.framing.compressed
    }

    /// How the body of the answer to that request ends (RFC 9112 §6.3). `None` after a 101 or a 2xx to
    /// CONNECT means that the tunnel begins.
    pub fn body_for(&self, request_method: &str) -> Body {
        match (self.status, request_method) {
            (100..=199 | 204 | 304, _) | (_, "HEAD") | (200..=299, "CONNECT") => Body::None,
            _ => self.head.framing.announced().unwrap_or(Body::UntilClose),
        }
    }
}

/// `version SP status [SP reason]`: servers that have no reason leave the last space out too.
fn status_line(line: &[u8]) -> Result<(Version, u16), &'static str> {
    let (version_text, rest) = line.split_at(memchr(b' ', line).ok_or("a status line without a status")?);
    let version = version(version_text)?;
    let [b' ', status @ ..] = rest else { return Err("a status line without a status") };
    let (digits, reason) = status.split_first_chunk::<3>().ok_or("a status that is not three digits")?;
    if !digits.iter().all(u8::is_ascii_digit) || digits[0] == b'0' {
        return Err("a status that is not three digits");
    }
    if !matches!(reason, [] | [b' ', ..]) {
        return Err("a status that is not three digits");
    }
    if !reason.iter().all(|&b| is_value_byte(b)) {
        return Err("a control byte in the reason phrase");
    }
    Ok((version, digits.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'))))
}
