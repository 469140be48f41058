//! The head of a request.

use super::fields::{self, Field, Known, Span};
use super::framing::{Body, Connection};
use super::head::{BadHead, Head, Limits, Version, delimit, version};
use super::target::{self, Target};
use crate::sniff::METHOD_MAX;
use crate::syntax::is_token_byte;
use memchr::memchr;

/// The head of a request. Make one per connection and parse one head after the other with it: its
/// storage is reused. The spans and accessors speak about the `bytes` of the last parse that gave a
/// length; give them the same bytes.
#[derive(Debug, Default)]
pub struct RequestHead {
    pub(super) head: Head,
    method: Span,
    target: Target,
    host: Span,
    is_connect: bool,
    expects_continue: bool,
    /// The path with its odd bytes replaced, where it is not UTF-8.
    odd_path: String,
}

impl RequestHead {
    /// Reads the head at the start of `bytes`, which are all bytes that came since the last message.
    /// `None` until it is whole; then its length, with up to two empty lines that may stand before it.
    pub fn parse(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, BadHead> {
        const EMPTY_LINES: usize = 2;
        let Some(extent) = delimit(bytes, EMPTY_LINES, limits)? else { return Ok(None) };
        let line = &bytes[extent.start..extent.fields - 2];
        let (method, target, version) = request_line(line).map_err(BadHead::Syntax)?;
        self.is_connect = &line[..method] == b"CONNECT";
        let target_start = extent.start + method + 1;
        self.method = Span::new(extent.start, extent.start + method);
        self.target = Target::read(bytes, Span::new(target_start, target_start + target), self.is_connect)?;
        self.head.read(bytes, &extent, version)?;
        self.host = self.check_host(bytes)?;
        if self.is_connect && !matches!(self.body(), Body::None | Body::Length(0)) {
            return Err(BadHead::Framing("CONNECT with a body"));
        }
        self.expects_continue = self.reads_expect(bytes);
        self.odd_path.clear();
        let path = self.target.path.of(bytes);
        if std::str::from_utf8(path).is_err() {
            self.odd_path.push_str(&String::from_utf8_lossy(path));
        }
        Ok(Some(extent.end))
    }

    /// Where the request line begins: after the empty lines, which are not to be forwarded.
    pub fn start(&self) -> usize {
        self.head.start_line.range().start
    }

    /// The request line with its CRLF.
    pub fn start_line(&self) -> Span {
        self.head.start_line
    }

    /// The method, in the case it came in.
    pub fn method<'a>(&self, bytes: &'a [u8]) -> &'a str {
        text(self.method.of(bytes))
    }

    /// The request target as it came. It need not be UTF-8.
    pub fn target<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        self.target.whole.of(bytes)
    }

    /// The host that the request is for, without port, in the case it came in: of the target where that
    /// names one, else of the Host field (RFC 9112 §3.2.2). An IPv6 address keeps its brackets. `None`
    /// if there is none or it is empty.
    pub fn host<'a>(&self, bytes: &'a [u8]) -> Option<&'a str> {
        let host = target::host(self.authority_span().of(bytes));
        (!host.is_empty()).then(|| text(host))
    }

    /// The same with its port, as it came.
    pub fn authority<'a>(&self, bytes: &'a [u8]) -> Option<&'a str> {
        let authority = self.authority_span().of(bytes);
        (!authority.is_empty()).then(|| text(authority))
    }

    /// The path without query, not decoded: `/` where an absolute target has none, empty for CONNECT.
    /// Bytes that are not UTF-8 are replaced here; in what is forwarded they are not.
    pub fn path<'a>(&'a self, bytes: &'a [u8]) -> &'a str {
        match self.target.path.of(bytes) {
            b"" if self.is_connect => "",
            b"" => "/",
            _ if !self.odd_path.is_empty() => &self.odd_path,
            path => text(path),
        }
    }

    /// What stands after the question mark; empty if there is none.
    pub fn query<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        self.target.query.of(bytes)
    }

    /// The version of the request line.
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

    /// How the body ends (RFC 9112 §6.3): a request that announces none has none.
    pub fn body(&self) -> Body {
        self.head.framing.announced().unwrap_or(Body::None)
    }

    /// The connection options.
    pub fn connection(&self) -> Connection {
        self.head.framing.connection
    }

    /// Whether the client is willing to send another request on this connection.
    pub fn keeps_alive(&self) -> bool {
        self.connection().persists(self.version())
    }

    /// Whether the body is compressed for the connection, beneath its chunks: its bytes are not the content.
    pub fn is_transfer_compressed(&self) -> bool {
        self.head.framing.compressed
    }

    /// Whether the client waits for a 100 before it sends the body (RFC 9110 §10.1.1).
    pub fn expect_continue(&self) -> bool {
        self.expects_continue
    }

    /// Whether the method is CONNECT.
    pub fn is_connect(&self) -> bool {
        self.is_connect
    }

    fn authority_span(&self) -> Span {
        if self.target.authority.is_empty() { self.host } else { self.target.authority }
    }

    fn reads_expect(&self, bytes: &[u8]) -> bool {
        let expects = |field: &Field| {
            field.known == Known::Expect
                && fields::list(field.value.of(bytes)).any(|item| item.eq_ignore_ascii_case(b"100-continue"))
        };
        self.version() == Version::Http11 && self.fields().iter().any(expects)
    }

    /// RFC 9112 §3.2: HTTP/1.1 has exactly one Host, and it is a host.
    fn check_host(&self, bytes: &[u8]) -> Result<Span, BadHead> {
        let mut hosts = self.fields().iter().filter(|field| field.known == Known::Host);
        let Some(host) = hosts.next() else {
            return match self.version() {
                Version::Http10 => Ok(Span::default()),
                Version::Http11 => Err(BadHead::Syntax("no Host field in HTTP/1.1")),
            };
        };
        if hosts.next().is_some() {
            return Err(BadHead::Framing("two Host fields"));
        }
        if !target::is_authority(host.value.of(bytes)) {
            return Err(BadHead::Syntax("a Host field that is not a host"));
        }
        // Servers differ in which of the two they believe (RFC 9112 §3.2.2): policy would judge the one and the server
        // serve the other.
        let named = target::host(self.target.authority.of(bytes));
        if !named.is_empty() && !is_same_host(named, target::host(host.value.of(bytes))) {
            return Err(BadHead::Framing("a URL and a Host field that name different hosts"));
        }
        Ok(host.value)
    }
}

fn is_same_host(one: &[u8], other: &[u8]) -> bool {
    let bare = |host: &'_ [u8]| host.strip_suffix(b".").unwrap_or(host).to_ascii_lowercase();
    bare(one) == bare(other)
}

/// `method SP target SP version`: the lengths of method and target, and the version.
fn request_line(line: &[u8]) -> Result<(usize, usize, Version), &'static str> {
    let method = memchr(b' ', line).ok_or("a request line without a target")?;
    if method == 0 || !line[..method].iter().all(|&b| is_token_byte(b)) {
        return Err("a method that is not a token");
    }
    if method > METHOD_MAX {
        return Err("a method of more than 64 bytes");
    }
    let rest = &line[method + 1..];
    let target = memchr(b' ', rest).ok_or("a request line without a version")?;
    if target == 0 {
        return Err("two spaces after the method");
    }
    Ok((method, target, version(&rest[target + 1..])?))
}

/// Bytes that the reader has found to be UTF-8.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}
