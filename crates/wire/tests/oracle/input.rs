//! Connections that are mostly right: arbitrary bytes would be refused by everybody at once.

use std::path::Path;

use proptest::prelude::*;
use proptest::sample::{Index, select};

/// What one reader would take for a message of its own if it lost the framing.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: h\r\n\r\n";

#[rustfmt::skip]
const REQUEST_LINES: &[&str] = &[
    "GET / HTTP/1.1", "POST /a?b=c HTTP/1.1", "PUT /a%2f../;b HTTP/1.1", "HEAD / HTTP/1.1", "x-y / HTTP/1.1",
    "GET http://a.test:80/a HTTP/1.1", "OPTIONS * HTTP/1.1", "CONNECT a.test:443 HTTP/1.1", "GET / HTTP/1.0",
    "POST / HTTP/1.0", "GET  / HTTP/1.1", "GET /a b HTTP/1.1", "GET / HTTP/1.2", "GET /", "GET /\u{e9} HTTP/1.1",
    "GET /<a> HTTP/1.1", "GET a HTTP/1.1", "GET http://u@b.test/ HTTP/1.1", "GET //a HTTP/1.1",
    "GET http://b.test/ HTTP/1.1",
];

#[rustfmt::skip]
const STATUS_LINES: &[&str] = &[
    "HTTP/1.1 200 OK", "HTTP/1.1 200", "HTTP/1.1 404 Not Found", "HTTP/1.0 200 OK", "HTTP/1.1 204 No Content",
    "HTTP/1.1 304 Not Modified", "HTTP/1.1 101 Switching Protocols", "HTTP/1.1 205 Reset Content",
    "HTTP/1.1 999 x", "HTTP/1.1  200 OK", "HTTP/1.1 20 OK", "HTTP/2 200", "HTTP/1.1 200 \u{e9}",
];

#[rustfmt::skip]
const FIELDS: &[&str] = &[
    "Host: a.test", "Accept: */*", "Connection: close", "Connection: keep-alive", "Connection: Upgrade, X",
    "Upgrade: websocket", "Expect: 100-continue", "X:", "X: a, b ;c", "X: \"a\"", "x: \u{e9}", "X: a\tb  ",
    "TE: trailers", "Trailer: a", "Keep-Alive: 5", "Proxy-Connection: close", "X : a", " X: a", "X\u{e9}: a", "X",
    "Host: b.test", "Connection: close, keep-alive",
];

/// How a head says where its body ends, and the body.
#[rustfmt::skip]
const BODIES: &[(&str, &str)] = &[
    ("Content-Length: 5\r\n", "hello"), ("Content-Length: 0\r\n", ""), ("content-length:5\r\n", "hello"),
    ("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), ("Content-Length: 5, 5\r\n", "hello"),
    ("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!"), ("Content-Length: +5\r\n", "hello"),
    ("Content-Length: 18446744073709551615\r\n", "hello"), ("Content-Length: 9\r\n", "hello"),
    ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
    ("transfer-encoding:CHUNKED\r\n", "1;a=\"b;c\"\r\nx\r\n00\r\nA: b\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\n", "5 \r\nhello\r\n0\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\n", "ffffffffffffffff\r\nhello"),
    ("Transfer-Encoding: chunked\r\n", "1;a\nx\r\n0\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\n", "1\r\nxx\r\n0\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\n", "0\r\nContent-Length: 5\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\n", "0\r\nA : b\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\n", "1 0\r\nhello\r\n0\r\n\r\n"),
    ("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding: x, chunked\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding: identity\r\n", ""),
    ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
    ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
];

/// What is put in, or in place of something, at any byte.
#[rustfmt::skip]
const ODD: &[&[u8]] = &[
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\n\n", b" ", b"\t", b"\0", b"\x0b", b"\x7f", b"\x80", b"\xff", b":", b",",
    b";", b"\"", b"0", b"5", b"f", b"-", b"+", b"_", b"/", b"?", b"#", b"@", b"%", b"\\", b"HTTP/1.0", b"chunked",
    b"X: y\r\n", b"\r\n ", b"\r\n\t", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n",
    b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Host: c\r\n", b"HTTP/1.1 100 Continue\r\n\r\n",
];

/// What a client may send on a connection.
pub(crate) fn requests() -> impl Strategy<Value = Vec<u8>> {
    let request = message(REQUEST_LINES, "Host: a.test\r\n");
    let fresh = prop::collection::vec(request, 1..3).prop_map(|all| all.concat() + HIDDEN);
    damaged(prop_oneof![4 => fresh.prop_map(String::into_bytes), 1 => select(corpus("request_head"))])
}

/// What a server may send in answer to a request.
pub(crate) fn responses() -> impl Strategy<Value = Vec<u8>> {
    let interim =
        select(&["", "", "", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 x\r\nLink: a\r\n\r\n"][..]);
    let fresh = (interim, message(STATUS_LINES, ""))
        .prop_map(|(interim, response)| format!("{interim}{response}").into_bytes());
    damaged(prop_oneof![4 => fresh, 1 => select(corpus("response_head"))])
}

fn message(lines: &'static [&'static str], fixed: &'static str) -> impl Strategy<Value = String> {
    // The first of each table are the ordinary ones.
    let line = prop_oneof![4 => select(&lines[..5]), 2 => select(lines)];
    let field = prop_oneof![3 => select(&FIELDS[1..8]), 2 => select(FIELDS)];
    let body = prop_oneof![2 => Just(("", "")), 2 => select(&BODIES[..4]), 2 => select(&BODIES[9..11]), 3 => select(BODIES)];
    (line, prop::collection::vec(field, 0..3), body).prop_map(move |(line, fields, (framing, body))| {
        let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
        format!("{line}\r\n{fixed}{fields}{framing}\r\n{body}")
    })
}

/// The bytes with a few changes, or none.
fn damaged(whole: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<Index>(), 0..3_usize, prop_oneof![3 => select(ODD), 1 => Just(&b""[..])]);
    let changes = prop_oneof![1 => Just(Vec::new()), 4 => prop::collection::vec(change, 1..4)];
    (whole, changes).prop_map(|(mut bytes, changes)| {
        for (at, removed, put_in) in changes {
            let at = at.index(bytes.len() + 1);
            let end = (at + removed).min(bytes.len());
            bytes.splice(at..end, put_in.iter().copied());
        }
        bytes
    })
}

/// The seeds of a fuzz target: an input per line, escaped as in a byte string.
pub(crate) fn corpus(target: &str) -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../fuzz/seeds/{target}.txt"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(unescaped).collect()
}

fn unescaped(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = line.bytes();
    while let Some(byte) = rest.next() {
        let mut next = || rest.next().expect("an escape is whole");
        bytes.push(match byte {
            b'\\' => match next() {
                b'r' => b'\r',
                b'n' => b'\n',
                b't' => b'\t',
                b'x' => {
                    let digits = [next(), next()];
                    let digits = std::str::from_utf8(&digits).expect("hexadecimal digits");
                    u8::from_str_radix(digits, 16).expect("hexadecimal digits")
                }
                other => other,
            },
            byte => byte,
        });
    }
    bytes
}
