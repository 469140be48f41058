//! The request target in its four forms (RFC 9112 §3.2).

use super::fields::Span;
use super::head::BadHead;
use crate::syntax::is_value_byte;
use memchr::{memchr, memchr2, memchr3, memmem, memrchr};

/// Where the parts of a request target are. A part that the form does not have is empty.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Target {
    pub(super) whole: Span,
    /// Host and port, without user information: of the absolute form and of CONNECT.
    pub(super) authority: Span,
    pub(super) path: Span,
    /// Without the question mark.
    pub(super) query: Span,
}

impl Target {
    /// Reads the target at `span`, which is not empty.
    pub(super) fn read(bytes: &[u8], span: Span, is_connect: bool) -> Result<Self, BadHead> {
        let text = span.of(bytes);
        let start = span.range().start;
        let end = span.range().end;
        if !text.iter().all(|&b| is_value_byte(b) && b != b'\t') {
            return Err(BadHead::Syntax("a control byte in the request target"));
        }
        if is_connect {
            if !is_authority(text) || memchr(b':', text).is_none() {
                return Err(BadHead::Syntax("CONNECT to something other than host:port"));
            }
            return Ok(Self { whole: span, authority: span, ..Self::default() });
        }
        if text[0] == b'/' {
            return Ok(Self { whole: span, ..Self::default() }.with_path(bytes, start, end));
        }
        if text == b"*" {
            return Ok(Self { whole: span, path: span, ..Self::default() });
        }
        let Some(scheme) = memmem::find(text, b"://").filter(|&length| is_scheme(&text[..length])) else {
            return Err(BadHead::Syntax("a request target that is neither a path, a URL nor *"));
        };
        let from = start + scheme + 3;
        let to = memchr3(b'/', b'?', b'#', &bytes[from..end]).map_or(end, |i| from + i);
        // A user name may be anything up to the last @: what stands before it must not pass for the host.
        let from = memrchr(b'@', &bytes[from..to]).map_or(from, |i| from + i + 1);
        let authority = Span::new(from, to);
        if authority.is_empty() || !is_authority(authority.of(bytes)) {
            return Err(BadHead::Syntax("a request target whose host is not a host"));
        }
        Ok(Self { whole: span, authority, ..Self::default() }.with_path(bytes, to, end))
    }

    fn with_path(self, bytes: &[u8], from: usize, end: usize) -> Self {
        // A fragment does not belong into a target; servers that take it cut it off.
        let end = memchr(b'#', &bytes[from..end]).map_or(end, |i| from + i);
        let mark = memchr(b'?', &bytes[from..end]).map_or(end, |i| from + i);
        Self { path: Span::new(from, mark), query: Span::new((mark + 1).min(end), end), ..self }
    }
}

/// Whether `text` is made of the characters of `uri-host [":" port]` (RFC 3986 §3.2): a separator in it
/// would let two readers see two hosts, and so would a name in percent-encoding. An empty one is allowed,
/// as it is in a Host field.
pub(super) fn is_authority(text: &[u8]) -> bool {
    let (host, port) = split_port(text);
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(b);
    let is_host = match host {
        // An address, which may have a zone after a percent sign.
        [b'[', inside @ .., b']'] => inside.iter().all(|b| allowed(b) || b":%".contains(b)),
        name => name.iter().all(allowed),
    };
    is_host && port.iter().all(u8::is_ascii_digit)
}

/// The host of an authority, without its port; an IPv6 address keeps its brackets.
pub(super) fn host(authority: &[u8]) -> &[u8] {
    split_port(authority).0
}

fn split_port(authority: &[u8]) -> (&[u8], &[u8]) {
    match memrchr(b':', authority) {
        Some(colon) if memchr2(b']', b'[', &authority[colon..]).is_none() => {
            (&authority[..colon], &authority[colon + 1..])
        }
        _ => (authority, &[]),
    }
}

fn is_scheme(text: &[u8]) -> bool {
    text.first().is_some_and(u8::is_ascii_alphabetic)
        && text.iter().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(b))
}
