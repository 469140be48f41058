//! What does the first flight speak?
//!
//! Each protocol has a reader that says no, "so far it could be", or yes. The readers are asked in a
//! fixed order and the first that does not say no decides; a reader that said no or yes says so for
//! every longer input, so the answer as a whole never changes its mind.
//!
//! HTTP/1 is recognised more widely than it is accepted. A first line that a lenient server could
//! take for a request must reach the strict parser and be refused there: called opaque, it would slip
//! past every rule that policy has for HTTP.

use crate::postgres;
use crate::syntax::{is_ows, is_token_byte, trim_ows};
use memchr::memchr;

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// More bytes are needed.
    Incomplete(Likely),
    /// HTTP/1: the strict parser of [`crate::http1`] has the last word.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// A TLS handshake record that begins a ClientHello.
    Tls,
    /// PostgreSQL: start-up, SSLRequest, GSSENCRequest or cancel.
    Postgres,
    /// RESP, the protocol of Redis, as an array of bulk strings.
    Redis,
    /// None of the above.
    Opaque,
}

/// How much an incomplete first flight gives away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likely {
    /// The beginning of a registered HTTP method, of the HTTP/2 preface, of a TLS record or of a PostgreSQL
    /// start-up (more than its length): however long the client is silent now, that decides nothing.
    Known,
    /// It could still become HTTP with a method of its own, RESP, or what begins with a length; no more than that.
    Unknown,
}

/// What a server speaks that says something before its client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// More bytes are needed.
    Incomplete,
    /// A SETTINGS frame: an HTTP/2 server (gRPC servers do this) that did not wait for the preface.
    Http2Settings,
    /// An HTTP/1 response without a request, such as a 408 on an idle connection.
    Http1,
    /// A MySQL or MariaDB greeting, or the error packet in its place.
    Mysql,
    /// A 220 greeting that names SMTP.
    Smtp,
    /// A 220 greeting that names FTP.
    Ftp,
    /// An SSH identification line.
    Ssh,
    /// Anything else.
    Other,
}

/// The longest first line that is looked at, in bytes.
const LINE_MAX: usize = 64 * 1024;
/// The longest method token, in bytes.
pub(crate) const METHOD_MAX: usize = 64;
/// The longest word that is taken for a method here: what the parser refuses must still reach the parser.
const WORD_MAX: usize = 1024;
/// White space that may precede the request line. More than the parser takes, for the same reason.
const LEADING_MAX: usize = 1024;
/// The longest greeting line of SMTP (RFC 5321 §4.5.3.1.5), taken for FTP too, in bytes.
const GREETING_MAX: usize = 512;
/// The longest server version in a MySQL greeting, in bytes.
const MYSQL_VERSION_MAX: usize = 255;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The IANA registry of HTTP methods.
#[rustfmt::skip]
const METHODS: [&[u8]; 40] = [
    b"ACL", b"BASELINE-CONTROL", b"BIND", b"CHECKIN", b"CHECKOUT", b"CONNECT", b"COPY", b"DELETE", b"GET",
    b"HEAD", b"LABEL", b"LINK", b"LOCK", b"MERGE", b"MKACTIVITY", b"MKCALENDAR", b"MKCOL",
    b"MKREDIRECTREF", b"MKWORKSPACE", b"MOVE", b"OPTIONS", b"ORDERPATCH", b"PATCH", b"POST", b"PRI",
    b"PROPFIND", b"PROPPATCH", b"PUT", b"QUERY", b"REBIND", b"REPORT", b"SEARCH", b"TRACE", b"UNBIND",
    b"UNCHECKOUT", b"UNLINK", b"UNLOCK", b"UPDATE", b"UPDATEREDIRECTREF", b"VERSION-CONTROL",
];

/// Recognises a client by all the bytes that it has sent so far.
pub fn client(bytes: &[u8]) -> Client {
    // HTTP/2 before HTTP/1: the preface begins like a request. RESP before HTTP/1: `*` is a token.
    type Reader = fn(&[u8]) -> Guess;
    const READERS: [(Client, Reader); 5] = [
        (Client::Http2, http2),
        (Client::Tls, tls),
        (Client::Postgres, postgres),
        (Client::Redis, redis),
        (Client::Http1, http1),
    ];
    if bytes.is_empty() {
        return Client::Incomplete(Likely::Unknown);
    }
    for (protocol, read) in READERS {
        match read(bytes) {
            Guess::No => {}
            Guess::Prefix(likely) => return Client::Incomplete(likely),
            Guess::Yes => return protocol,
        }
    }
    Client::Opaque
}

/// Recognises a server that spoke first by all the bytes that it has sent so far.
pub fn server(bytes: &[u8]) -> Server {
    type Reader = fn(&[u8]) -> Option<Server>;
    const READERS: [Reader; 5] = [http1_status, ssh, greeting, http2_settings, mysql];
    READERS.iter().find_map(|read| read(bytes)).unwrap_or(Server::Other)
}

enum Guess {
    No,
    Prefix(Likely),
    Yes,
}

/// Yes if the first `needed` bytes are plausible, each judged by its position.
fn by_position(bytes: &[u8], needed: usize, plausible: impl Fn(usize, u8) -> bool) -> Guess {
    if !bytes.iter().take(needed).enumerate().all(|(i, &byte)| plausible(i, byte)) {
        return Guess::No;
    }
    if bytes.len() < needed { Guess::Prefix(Likely::Known) } else { Guess::Yes }
}

fn http2(bytes: &[u8]) -> Guess {
    by_position(bytes, PREFACE.len(), |i, byte| byte == PREFACE[i])
}

/// A record header (RFC 8446 §5.1) and the type of the handshake message inside. Servers ignore the minor
/// version, so it is ignored here too: opaque, a hello with an odd one would slip past policy by SNI.
fn tls(bytes: &[u8]) -> Guess {
    if let [_, _, _, high, low, ..] = *bytes
        && !(1..=crate::client_hello::RECORD_MAX).contains(&usize::from(u16::from_be_bytes([high, low])))
    {
        return Guess::No;
    }
    by_position(bytes, 6, |i, byte| match i {
        0 => byte == 22,
        1 => byte == 3,
        5 => byte == 1,
        _ => true,
    })
}

fn postgres(bytes: &[u8]) -> Guess {
    if let Some(length) = bytes.first_chunk().map(|&b| u32::from_be_bytes(b))
        && !(postgres::LENGTH_MIN..=postgres::LENGTH_MAX).contains(&length)
    {
        return Guess::No;
    }
    // Minor versions of protocol 3 differ in the last two bytes; the request codes only in the last.
    let third = bytes.get(4) == Some(&0);
    let guess = by_position(bytes, 8, |i, byte| match i {
        0 | 1 => byte == 0,
        4 => byte == 0 || byte == 0x04,
        5 => byte == if third { 0x03 } else { 0xd2 },
        6 => third || byte == 0x16,
        7 => third || (0x2e..=0x30).contains(&byte),
        _ => true,
    });
    match guess {
        // Many a protocol begins with a length, and some with a lone zero byte that wants an answer.
        Guess::Prefix(_) if bytes.len() <= 4 => Guess::Prefix(Likely::Unknown),
        guess => guess,
    }
}

/// `*N CR LF $`: a command is an array of bulk strings.
fn redis(bytes: &[u8]) -> Guess {
    if bytes[0] != b'*' {
        return Guess::No;
    }
    let digits = bytes[1..].iter().take(10).take_while(|b| b.is_ascii_digit()).count();
    let rest = &bytes[1 + digits..];
    match rest.iter().zip(b"\r\n$").all(|(a, b)| a == b) {
        true if digits > 0 && rest.len() >= 3 => Guess::Yes,
        true if digits > 0 || rest.is_empty() => Guess::Prefix(Likely::Unknown),
        _ => Guess::No,
    }
}

/// A first line of at least two words that begins with a method and ends with an HTTP version.
fn http1(bytes: &[u8]) -> Guess {
    let leading = bytes.iter().take(LEADING_MAX).take_while(|b| b" \t\r\n".contains(b)).count();
    let line = &bytes[leading..];
    let method = line.iter().take(WORD_MAX + 1).take_while(|&&b| is_token_byte(b)).count();
    if method > WORD_MAX {
        return Guess::No;
    }
    let Some(&separator) = line.get(method) else {
        let known = method > 0 && METHODS.iter().any(|name| name.starts_with(line));
        return Guess::Prefix(if known { Likely::Known } else { Likely::Unknown });
    };
    if method == 0 || !is_ows(separator) {
        return Guess::No;
    }
    let registered = METHODS.contains(&&line[..method]);
    let window = &line[..line.len().min(LINE_MAX)];
    let end = memchr(b'\n', window);
    let first_line = &window[..end.unwrap_or(window.len())];
    if !registered && has_control_byte(first_line) {
        return Guess::No;
    }
    match end {
        Some(_) if first_line.split(|&b| b == b'\r').any(ends_with_version) => Guess::Yes,
        Some(_) => Guess::No,
        None if window.len() == LINE_MAX && registered => Guess::Yes,
        None if window.len() == LINE_MAX => Guess::No,
        None if registered => Guess::Prefix(Likely::Known),
        None => Guess::Prefix(Likely::Unknown),
    }
}

/// White space is no control byte here, and neither is CR. Without an early end the compiler makes this
/// a loop over vectors, and a line that comes byte by byte is looked at again after each.
fn has_control_byte(line: &[u8]) -> bool {
    line.iter().fold(false, |found, &b| found | ((b < b' ') & (b != b'\t') & (b != b'\r')))
}

/// Some readers take a bare CR for the end of a line, so `line` may be a part of one.
fn ends_with_version(line: &[u8]) -> bool {
    let word = trim_ows(line).rsplit(|&b| is_ows(b)).next().unwrap_or_default();
    contains_ignore_case(word, b"HTTP/")
}

fn contains_ignore_case(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word))
}

/// `Some` unless `bytes` cannot begin with `text`.
fn starting_with(bytes: &[u8], text: &[u8], server: Server) -> Option<Server> {
    if bytes.starts_with(text) {
        Some(server)
    } else if text.starts_with(bytes) {
        Some(Server::Incomplete)
    } else {
        None
    }
}

fn http1_status(bytes: &[u8]) -> Option<Server> {
    starting_with(bytes, b"HTTP/1.", Server::Http1)
}

fn ssh(bytes: &[u8]) -> Option<Server> {
    starting_with(bytes, b"SSH-", Server::Ssh)
}

/// SMTP and FTP greet with the same code: only the words of the first line tell them apart.
fn greeting(bytes: &[u8]) -> Option<Server> {
    let code = b"220";
    if !bytes.starts_with(code) {
        return code.starts_with(bytes).then_some(Server::Incomplete);
    }
    if !matches!(bytes.get(3), None | Some(b' ' | b'-')) {
        return None;
    }
    let window = &bytes[..bytes.len().min(GREETING_MAX)];
    let Some(end) = memchr(b'\n', window) else {
        return (window.len() < GREETING_MAX).then_some(Server::Incomplete);
    };
    let line = &window[..end];
    if contains_ignore_case(line, b"SMTP") {
        Some(Server::Smtp)
    } else {
        contains_ignore_case(line, b"FTP").then_some(Server::Ftp)
    }
}

/// A SETTINGS frame on stream 0 (RFC 9113 §6.5) that is not an acknowledgement.
fn http2_settings(bytes: &[u8]) -> Option<Server> {
    if let [_, high, low, ..] = *bytes {
        let length = u16::from_be_bytes([high, low]);
        if length > 16384 || length % 6 != 0 {
            return None;
        }
    }
    let plausible = |i: usize, byte: u8| match i {
        0 => byte == 0,
        3 => byte == 4,
        4 => byte & 1 == 0,
        5 => byte & 0x7f == 0,
        6..=8 => byte == 0,
        _ => true,
    };
    if !bytes.iter().take(9).enumerate().all(|(i, &byte)| plausible(i, byte)) {
        return None;
    }
    Some(if bytes.len() < 9 { Server::Incomplete } else { Server::Http2Settings })
}

/// A packet header (3 bytes of length, sequence 0), then a greeting of protocol 9 or 10 with its
/// NUL-terminated version, or an error packet.
fn mysql(bytes: &[u8]) -> Option<Server> {
    const ERROR: u8 = 0xff;
    let plausible = |i: usize, byte: u8| match i {
        1 => byte <= 4,
        2 | 3 => byte == 0,
        4 => matches!(byte, 9 | 10 | ERROR),
        _ => true,
    };
    if !bytes.iter().take(5).enumerate().all(|(i, &byte)| plausible(i, byte)) {
        return None;
    }
    let [low, high, _, _, kind, version @ ..] = bytes else { return Some(Server::Incomplete) };
    let room = usize::from(u16::from_le_bytes([*low, *high])).saturating_sub(1).min(MYSQL_VERSION_MAX + 1);
    if *kind == ERROR {
        return (room > 1).then_some(Server::Mysql);
    }
    let version = &version[..version.len().min(room)];
    let printable = version.iter().take_while(|b| matches!(b, b' '..=b'~')).count();
    match version.get(printable) {
        Some(0) if printable > 0 => Some(Server::Mysql),
        None if version.len() < room => Some(Server::Incomplete),
        _ => None,
    }
}
