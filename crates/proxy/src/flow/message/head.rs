//! Heads of HTTP/1 as those of HTTP/2, and the other way (RFC 9113 §8).
//!
//! What belongs to the connection alone stays behind: neither version has a word for that of the other. Everything else goes
//! over as it is, but that HTTP/2 knows no case in names, and that a length is stated once, as a number. HTTP/2 frames its
//! messages, so its readers may be lax about what HTTP/1 readers find the end of a message by: a request that our own strict
//! reader would refuse is not written.

use std::net::SocketAddr;

use bytes::BufMut;
use dragoman_wire::http1::{BadHead, Field, Known, Limits, RequestHead, ResponseHead, Version, list};
use http::header::{CONTENT_LENGTH, COOKIE, HOST, TE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};

use super::Broke;
use super::http1_write::Framing;

/// What a message says that the other version of HTTP has no words for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Untranslatable(pub(crate) &'static str);

/// HTTP/2 has no transfer codings: without its name, what is compressed would be taken for the content.
const COMPRESSED: Untranslatable = Untranslatable("a body that is compressed for the connection");

/// A tunnel is no message.
pub(crate) const NO_CONNECT: Untranslatable =
    Untranslatable("CONNECT is not translated between versions of HTTP");

/// A request that came by HTTP/1, for HTTP/2. One that names no host is for `original`.
///
/// # Errors
/// CONNECT, and bytes that HTTP/2 does not allow.
pub(crate) fn request_from_http1(
    head: &RequestHead,
    bytes: &[u8],
    original: SocketAddr,
) -> Result<Request<()>, Untranslatable> {
    if head.is_connect() {
        return Err(NO_CONNECT);
    }
    if head.is_transfer_compressed() {
        return Err(COMPRESSED);
    }
    let target =
        std::str::from_utf8(head.target(bytes)).map_err(|_| Untranslatable("a target that is not UTF-8"))?;
    let authority = head.authority(bytes).map_or_else(|| original.to_string(), str::to_owned);
    let path = path_and_query(target, head.method(bytes));
    let uri = Uri::builder().scheme("http").authority(authority).path_and_query(path).build();
    let mut request = Request::new(());
    *request.uri_mut() = uri.map_err(|_| Untranslatable("a target that HTTP/2 does not allow"))?;
    *request.method_mut() = Method::from_bytes(head.method(bytes).as_bytes())
        .map_err(|_| Untranslatable("a method that HTTP/2 does not allow"))?;
    copy_fields(head.fields(), bytes, request.headers_mut())?;
    request.headers_mut().remove(HOST);
    let takes_trailers = fields_of(head.fields(), Known::Te)
        .any(|field| list(field.value.of(bytes)).any(|item| item.eq_ignore_ascii_case(b"trailers")));
    if takes_trailers {
        request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
    }
    Ok(request)
}

/// A response that came by HTTP/1, for HTTP/2.
pub(super) fn response_from_http1(head: &ResponseHead, bytes: &[u8]) -> Result<Response<()>, Untranslatable> {
    if head.is_transfer_compressed() {
        return Err(COMPRESSED);
    }
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(head.status())
        .map_err(|_| Untranslatable("a status that HTTP/2 does not allow"))?;
    copy_fields(head.fields(), bytes, response.headers_mut())?;
    if !may_state_length(response.status()) {
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    Ok(response)
}

/// The head of a request as HTTP/1.1 has it, and how its content is framed.
///
/// # Errors
/// What HTTP/2 takes and a reader of HTTP/1 would refuse, or could read in two ways: a host that is none, several of them, a
/// target that is no path.
pub(super) fn request_to_http1(
    request: &Request<()>,
    has_content: bool,
) -> Result<(Vec<u8>, Framing), BadHead> {
    let mut out = Vec::with_capacity(512);
    let uri = request.uri();
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    for part in [request.method().as_str(), " ", target, " HTTP/1.1\r\n"] {
        out.put_slice(part.as_bytes());
    }
    if let Some(authority) = uri.authority() {
        write_field(&mut out, b"host", authority.as_str().as_bytes());
    }
    let headers = request.headers();
    write_fields(&mut out, headers, &[HOST, COOKIE, CONTENT_LENGTH]);
    // The crumbs of a cookie are one field in HTTP/1 (RFC 9113 §8.2.3).
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if !crumbs.is_empty() {
        write_field(&mut out, b"cookie", &crumbs.join(&b"; "[..]));
    }
    if headers.get(TE).is_some_and(|te| te == "trailers") {
        write_field(&mut out, b"te", b"trailers");
        write_field(&mut out, b"connection", b"te");
    }
    let framing = match (headers.contains_key(CONTENT_LENGTH), has_content) {
        (true, _) => {
            let length = length(headers).ok_or(BadHead::Framing("a Content-Length that is not a number"))?;
            write_length(&mut out, length);
            Framing::Plain
        }
        (false, true) => Framing::Chunked,
        (false, false) => Framing::None,
    };
    match framing {
        Framing::Chunked => write_field(&mut out, b"transfer-encoding", b"chunked"),
        // RFC 9110 §8.6: so that a server need not wait for content that such a request usually has.
        Framing::None if matches!(request.method().as_str(), "POST" | "PUT" | "PATCH") => {
            write_length(&mut out, 0);
        }
        _ => {}
    }
    out.put_slice(b"\r\n");
    let limits = Limits { head_bytes: out.len() + 1, headers: usize::MAX };
    RequestHead::default().parse(&out, &limits)?;
    Ok((out, framing))
}

/// What the head of an answer must know about the connection that it goes out on.
#[derive(Clone, Copy, Debug)]
pub(super) struct ForApp {
    pub(super) version: Version,
    /// The connection carries another exchange, if the framing allows it.
    pub(super) keeps_alive: bool,
    /// The request was a HEAD.
    pub(super) to_head: bool,
}

/// The head of a response as HTTP/1.1 has it, how its content is framed, and whether the connection ends with it.
/// `ended`: there is no content.
pub(super) fn response_to_http1(
    response: &Response<()>,
    ended: bool,
    app: ForApp,
) -> (Vec<u8>, Framing, bool) {
    let mut out = Vec::with_capacity(512);
    let status = response.status();
    out.put_slice(b"HTTP/1.1 ");
    out.put_slice(status.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.put_slice(b"\r\n");
    write_fields(&mut out, response.headers(), &[CONTENT_LENGTH]);
    let length = length(response.headers()).filter(|_| may_state_length(status));
    if let Some(length) = length {
        write_length(&mut out, length);
    }
    if status.is_informational() {
        out.put_slice(b"\r\n");
        return (out, Framing::None, false);
    }
    let has_length = length.is_some();
    let has_content = !app.to_head && !matches!(status.as_u16(), 204 | 304);
    let framing = match app.version {
        _ if !has_content => Framing::None,
        _ if has_length || ended => Framing::Plain,
        Version::Http11 => Framing::Chunked,
        Version::Http10 => Framing::Plain,
    };
    if framing == Framing::Chunked {
        write_field(&mut out, b"transfer-encoding", b"chunked");
    }
    if has_content && ended && !has_length {
        write_length(&mut out, 0);
    }
    // Without a length the end of the connection is the end of the content.
    let until_close = framing == Framing::Plain && !has_length && !ended;
    let closes = until_close || !app.keeps_alive;
    match (closes, app.version) {
        (true, _) => write_field(&mut out, b"connection", b"close"),
        (false, Version::Http10) => write_field(&mut out, b"connection", b"keep-alive"),
        (false, Version::Http11) => {}
    }
    out.put_slice(b"\r\n");
    (out, framing, closes)
}

/// Writes the fields of a trailer section, but for those that would change the message before them in the eyes of a reader who
/// merges them into its head: they have no place there (RFC 9110 §6.5.1).
pub(super) fn write_trailers(out: &mut impl BufMut, trailers: &HeaderMap) {
    write_fields(out, trailers, &[HOST, CONTENT_LENGTH]);
}

/// Writes the fields, but for those that belong to the connection, and some others.
fn write_fields(out: &mut impl BufMut, fields: &HeaderMap, without: &[HeaderName]) {
    for (name, value) in fields {
        if !is_hop_by_hop(name) && !without.contains(name) {
            write_field(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
}

/// The fields of a trailer section whose lines were checked as they came.
pub(super) fn parse_trailers(lines: &[u8]) -> Result<HeaderMap, Broke> {
    let bad = || Broke::malformed("a trailer that HTTP/2 does not allow");
    let mut trailers = HeaderMap::new();
    for line in lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        let colon = line.iter().position(|&byte| byte == b':').ok_or_else(bad)?;
        let name = HeaderName::from_bytes(&line[..colon]).map_err(|_| bad())?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).map_err(|_| bad())?;
        if !is_hop_by_hop(&name) {
            trailers.append(name, value);
        }
    }
    Ok(trailers)
}

/// Copies the fields, but for those that belong to the connection. Several equal lengths become one.
fn copy_fields(fields: &[Field], bytes: &[u8], headers: &mut HeaderMap) -> Result<(), Untranslatable> {
    let connection: Vec<&[u8]> =
        fields_of(fields, Known::Connection).flat_map(|field| list(field.value.of(bytes))).collect();
    for field in fields {
        let name = field.name.of(bytes);
        if connection.iter().any(|option| option.eq_ignore_ascii_case(name)) {
            continue;
        }
        let name = HeaderName::from_bytes(name)
            .map_err(|_| Untranslatable("a field name that HTTP/2 does not allow"))?;
        if is_hop_by_hop(&name) || name == CONTENT_LENGTH && headers.contains_key(CONTENT_LENGTH) {
            continue;
        }
        let value = field.value.of(bytes);
        let value = match number(value).filter(|_| name == CONTENT_LENGTH) {
            Some(length) => HeaderValue::from(length),
            None => HeaderValue::from_bytes(value)
                .map_err(|_| Untranslatable("a field value that HTTP/2 does not allow"))?,
        };
        headers.append(name, value);
    }
    Ok(())
}

/// The length that the fields state. Several are all the same: both sides have checked.
fn length(headers: &HeaderMap) -> Option<u64> {
    number(headers.get(CONTENT_LENGTH)?.as_bytes())
}

fn number(value: &[u8]) -> Option<u64> {
    let first = value.split(|&byte| byte == b',').next()?;
    std::str::from_utf8(first.trim_ascii()).ok()?.parse().ok()
}

/// RFC 9110 §8.6: some readers of such a head take a length for content that is to follow.
fn may_state_length(status: StatusCode) -> bool {
    !status.is_informational() && status != StatusCode::NO_CONTENT
}

fn write_length(out: &mut impl BufMut, length: u64) {
    write_field(out, b"content-length", length.to_string().as_bytes());
}

/// Path and query of a request target that is not one of CONNECT (RFC 9112 §3.2). A fragment does not belong into it.
fn path_and_query(target: &str, method: &str) -> String {
    let target = target.split('#').next().unwrap_or_default();
    let Some((_, rest)) = target.split_once("://").filter(|_| !target.starts_with('/')) else {
        return target.to_owned();
    };
    match rest.find(['/', '?']).map_or("", |at| &rest[at..]) {
        "" if method == "OPTIONS" => "*".to_owned(),
        path if path.starts_with('/') => path.to_owned(),
        query => format!("/{query}"),
    }
}

fn fields_of(fields: &[Field], known: Known) -> impl Iterator<Item = &Field> {
    fields.iter().filter(move |field| field.known == known)
}

/// RFC 9113 §8.2.2, and what RFC 9110 §7.6.1 adds. TE has its own rule.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
            | "te"
    )
}

fn write_field(out: &mut impl BufMut, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        out.put_slice(part);
    }
}
