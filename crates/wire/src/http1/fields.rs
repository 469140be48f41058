//! Field lines as spans into the head, and the names that the proxy knows.

use super::head::{BadHead, MAX_FIELDS};
use crate::syntax::{is_ows, is_token_byte, is_value_byte, trim_ows};
use memchr::memchr;

/// A range of bytes, counted from the first byte that was given to `parse`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// Heads are shorter than 4 GiB: `Limits::head_bytes` is cut to that.
    pub(super) fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    /// The bytes of this span; none if `bytes` is shorter than the head that was parsed.
    pub fn of<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(self.range()).unwrap_or_default()
    }

    /// The span as a range of indices.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The length in bytes.
    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether the span has no bytes.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

/// One field line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The whole line with its CRLF.
    pub line: Span,
    /// The name as it was written.
    pub name: Span,
    /// The value without the white space around it.
    pub value: Span,
    /// The name, if it is one that the proxy knows.
    pub known: Known,
}

/// The field names that the proxy acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the field of that name")]
pub enum Known {
    /// Any other name.
    Other,
    Host,
    Connection,
    ContentLength,
    TransferEncoding,
    Upgrade,
    Expect,
    Te,
    Trailer,
    KeepAlive,
    ProxyConnection,
    Http2Settings,
    Authorization,
    ProxyAuthorization,
    WwwAuthenticate,
    ProxyAuthenticate,
    RetryAfter,
    Date,
    Via,
    XRequestId,
    Traceparent,
    Tracestate,
    B3,
    XB3TraceId,
    XB3SpanId,
    XB3ParentSpanId,
    XB3Sampled,
    XB3Flags,
    Cookie,
    GrpcTimeout,
    ContentType,
}

impl Known {
    /// Finds a name in any case: its length leaves a handful of candidates.
    pub fn of(name: &[u8]) -> Self {
        let candidates: &[(&str, Known)] = match name.len() {
            2 => &[("te", Known::Te), ("b3", Known::B3)],
            3 => &[("via", Known::Via)],
            4 => &[("host", Known::Host), ("date", Known::Date)],
            6 => &[("cookie", Known::Cookie), ("expect", Known::Expect)],
            7 => &[("upgrade", Known::Upgrade), ("trailer", Known::Trailer)],
            10 => &[
                ("connection", Known::Connection),
                ("keep-alive", Known::KeepAlive),
                ("tracestate", Known::Tracestate),
                ("x-b3-flags", Known::XB3Flags),
            ],
            11 => &[
                ("traceparent", Known::Traceparent),
                ("retry-after", Known::RetryAfter),
                ("x-b3-spanid", Known::XB3SpanId),
            ],
            12 => &[
                ("content-type", Known::ContentType),
                ("x-request-id", Known::XRequestId),
                ("grpc-timeout", Known::GrpcTimeout),
                ("x-b3-traceid", Known::XB3TraceId),
                ("x-b3-sampled", Known::XB3Sampled),
            ],
            13 => &[("authorization", Known::Authorization)],
            14 => &[("content-length", Known::ContentLength), ("http2-settings", Known::Http2Settings)],
            16 => {
                &[("proxy-connection", Known::ProxyConnection), ("www-authenticate", Known::WwwAuthenticate)]
            }
            17 => &[
                ("transfer-encoding", Known::TransferEncoding),
                ("x-b3-parentspanid", Known::XB3ParentSpanId),
            ],
            18 => &[("proxy-authenticate", Known::ProxyAuthenticate)],
            19 => &[("proxy-authorization", Known::ProxyAuthorization)],
            _ => &[],
        };
        let Some(last) = name.last().map(u8::to_ascii_lowercase) else { return Known::Other };
        candidates
            .iter()
            // The last letter tells nearly all of one length apart.
            .filter(|(candidate, _)| candidate.as_bytes().last() == Some(&last))
            .find(|(candidate, _)| candidate.as_bytes().eq_ignore_ascii_case(name))
            .map_or(Known::Other, |&(_, known)| known)
    }
}

/// The items of a comma-separated value (RFC 9110 §5.6.1), without white space and empty items. It
/// splits at every comma, so it is for lists without quoted strings, such as Connection and Upgrade.
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(trim_ows).filter(|item| !item.is_empty())
}

/// Reads the field lines of `bytes[from..to]`, whose last two bytes are the empty line that ends the
/// head, into `fields`. Each line ends in CRLF; `delimit` in `head` saw to that.
pub(super) fn read(
    bytes: &[u8],
    (from, to): (usize, usize),
    count: usize,
    fields: &mut Vec<Field>,
) -> Result<(), BadHead> {
    // Most heads are short, and httparse wants its table initialised.
    const FEW: usize = 32;
    let block = &bytes[from..to];
    let mut at = from;
    let mut push = |header: &httparse::Header<'_>| {
        let name = Span::new(at, at + header.name.len());
        let value_start = after_ows(bytes, name.range().end + ":".len());
        let value = Span::new(value_start, value_start + header.value.len());
        let end = after_ows(bytes, value.range().end) + "\r\n".len();
        fields.push(Field { line: Span::new(at, end), name, value, known: Known::of(name.of(bytes)) });
        at = end;
    };
    let whole = if count <= FEW {
        validate::<FEW>(block, &mut push)
    } else {
        validate::<MAX_FIELDS>(block, &mut push)
    };
    if whole { Ok(()) } else { Err(BadHead::Syntax(reason(block))) }
}

/// Whether httparse takes `block` as a whole; if so, each of its fields goes to `push`.
fn validate<const N: usize>(block: &[u8], push: impl FnMut(&httparse::Header<'_>)) -> bool {
    let mut table = [httparse::EMPTY_HEADER; N];
    match httparse::parse_headers(block, &mut table) {
        Ok(httparse::Status::Complete((length, headers))) if length == block.len() => {
            headers.iter().for_each(push);
            true
        }
        _ => false,
    }
}

/// The first place from `at` on without white space.
fn after_ows(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|&b| !is_ows(b)).map_or(bytes.len(), |length| at + length)
}

/// Why httparse refused these field lines: it says only name or value, and a person wants to know more.
#[cold]
fn reason(block: &[u8]) -> &'static str {
    block
        .split_inclusive(|&b| b == b'\n')
        .map(|line| line.strip_suffix(b"\r\n").unwrap_or(line))
        .take_while(|line| !line.is_empty())
        .find_map(fault)
        .unwrap_or("a malformed field line")
}

fn fault(line: &[u8]) -> Option<&'static str> {
    if line.first().is_some_and(|&b| is_ows(b)) {
        return Some("a field line that begins with white space (obs-fold)");
    }
    let Some(colon) = memchr(b':', line) else { return Some("a field line without a colon") };
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() {
        Some("an empty field name")
    } else if name.last().is_some_and(|&b| is_ows(b)) {
        Some("white space between field name and colon")
    } else if !name.iter().all(|&b| is_token_byte(b)) {
        Some("a field name that is not a token")
    } else if value.contains(&b'\r') {
        Some("a bare CR in a field value")
    } else if !value.iter().all(|&b| is_value_byte(b)) {
        Some("a control byte in a field value")
    } else {
        None
    }
}
