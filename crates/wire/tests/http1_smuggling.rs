//! Smuggling vectors: heads that two readers are known to read differently (RFC 9112 §11.2, and the
//! classes CL.TE, TE.CL, TE.TE and line-ending confusion). Each must be refused for the right reason.

use dragoman_wire::http1::{BadHead, Limits, RequestHead, ResponseHead};

/// What is wrong with the vector.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Refused {
    Syntax(&'static str),
    Framing(&'static str),
}
use Refused::{Framing, Syntax};

const BOTH: Refused = Framing("both Content-Length and Transfer-Encoding");
const NOT_LAST: Refused = Framing("a Transfer-Encoding whose last coding is not chunked");
const CODING: Refused = Framing("a transfer coding that is neither chunked nor a compression");
const TWO_CODINGS: Refused = Framing("two Transfer-Encoding fields");
const NOT_A_NUMBER: Refused = Framing("a Content-Length that is not a number");
const TOO_LONG: Refused = Framing("a Content-Length beyond 63 bits");
const TWO_LENGTHS: Refused = Framing("two different values of Content-Length");
const BARE_LF: Refused = Syntax("a line that ends in a bare LF");
const FOLDED: Refused = Syntax("a field line that begins with white space (obs-fold)");
const COLON: Refused = Syntax("white space between field name and colon");
const NAME: Refused = Syntax("a field name that is not a token");
const BARE_CR: Refused = Syntax("a bare CR in a field value");
const CONTROL: Refused = Syntax("a control byte in a field value");
const NO_COLON: Refused = Syntax("a field line without a colon");
const HOST: Refused = Syntax("a Host field that is not a host");
const OTHER_HOST: Refused = Framing("a URL and a Host field that name different hosts");
const TWO_HOSTS: Refused = Framing("two Host fields");
const VERSION: Refused = Syntax("a version that is neither HTTP/1.0 nor HTTP/1.1");
const METHOD: Refused = Syntax("a method that is not a token");
const TARGET: Refused = Syntax("a request target that is neither a path, a URL nor *");
const TARGET_HOST: Refused = Syntax("a request target whose host is not a host");

/// Field lines, put after `POST / HTTP/1.1` and a Host.
#[rustfmt::skip]
const FIELDS: &[(&str, Refused)] = &[
    // CL.TE and TE.CL, in either order.
    ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", BOTH),
    ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", BOTH),
    ("content-length: 0\r\ntransfer-encoding: Chunked\r\n", BOTH),
    ("Transfer-Encoding: chunked\r\nX: y\r\nContent-Length: 5\r\n", BOTH),
    // TE.TE: a coding that one reader takes for chunked and another does not.
    ("Transfer-Encoding: xchunked\r\n", NOT_LAST),
    ("Transfer-Encoding: chunkedx\r\n", NOT_LAST),
    ("Transfer-Encoding: chunked, identity\r\n", NOT_LAST),
    ("Transfer-Encoding: identity, chunked\r\n", CODING),
    ("Transfer-Encoding: identity\r\n", NOT_LAST),
    ("Transfer-Encoding: gzip\r\n", NOT_LAST),
    ("Transfer-Encoding: chunked, gzip\r\n", NOT_LAST),
    ("Transfer-Encoding: x, chunked\r\n", CODING),
    ("Transfer-Encoding: gzip,\tchunked\r\n", NOT_LAST),
    ("Transfer-Encoding: gzip;q=1, chunked\r\n", CODING),
    ("Transfer-Encoding: gzip chunked\r\n", NOT_LAST),
    ("Transfer-Encoding: gzip,, chunked\r\n", CODING),
    ("Transfer-Encoding: gzip, chunked, chunked\r\n", CODING),
    ("Transfer-Encoding: chunked, gzip, chunked\r\n", CODING),
    ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", NOT_LAST),
    ("Transfer-Encoding: gzip, chunked\r\nTransfer-Encoding: chunked\r\n", TWO_CODINGS),
    ("Transfer-Encoding: gzip, chunked\r\nContent-Length: 5\r\n", BOTH),
    ("Transfer-Encoding: chunked, chunked\r\n", CODING),
    ("Transfer-Encoding: chunked,\r\n", NOT_LAST),
    ("Transfer-Encoding: ,chunked\r\n", CODING),
    ("Transfer-Encoding: chunked;q=1\r\n", NOT_LAST),
    ("Transfer-Encoding: \"chunked\"\r\n", NOT_LAST),
    ("Transfer-Encoding: 'chunked'\r\n", NOT_LAST),
    ("Transfer-Encoding: chunk\r\n", NOT_LAST),
    ("Transfer-Encoding: \r\n", NOT_LAST),
    ("Transfer-Encoding: x\r\nContent-Length: 5\r\n", NOT_LAST),
    ("Transfer-Encoding: chun\u{212a}ed\r\n", NOT_LAST),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", TWO_CODINGS),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", TWO_CODINGS),
    ("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", NOT_LAST),
    ("Transfer-Encoding: chunked\r\ntransfer-encoding: x\r\n", TWO_CODINGS),
    ("Transfer-Encoding: \x0bchunked\r\n", CONTROL),
    ("Transfer-Encoding: chunked\x0b\r\n", CONTROL),
    ("Transfer-Encoding: \x0cchunked\r\n", CONTROL),
    ("Transfer-Encoding: chunked\0\r\n", CONTROL),
    ("Transfer-Encoding: chunked\x7f\r\n", CONTROL),
    ("Transfer-Encoding\x0b: chunked\r\n", NAME),
    ("Transfer-Encoding : chunked\r\n", COLON),
    ("Transfer-Encoding\t: chunked\r\n", COLON),
    ("Transfer-Encoding\r\n : chunked\r\n", NO_COLON),
    ("Transfer-Encoding:\r\n chunked\r\n", FOLDED),
    ("Transfer-Encoding:\r\n\tchunked\r\n", FOLDED),
    (" Transfer-Encoding: chunked\r\n", FOLDED),
    ("\tTransfer-Encoding: chunked\r\n", FOLDED),
    ("X: y\r\n Transfer-Encoding: chunked\r\n", FOLDED),
    ("Transfer-Encoding\0: chunked\r\n", NAME),
    ("\"Transfer-Encoding\": chunked\r\n", NAME),
    ("Transfer Encoding: chunked\r\n", NAME),
    ("Transfer-Encoding\u{a0}: chunked\r\n", NAME),
    ("X: y\rTransfer-Encoding: chunked\r\n", BARE_CR),
    ("X: y\r\r\nTransfer-Encoding: chunked\r\n", BARE_CR),
    ("X: y\nTransfer-Encoding: chunked\r\n", BARE_LF),
    ("Transfer-Encoding: chunked\n", BARE_LF),
    // Content-Length.
    ("Content-Length: 5\r\nContent-Length: 6\r\n", TWO_LENGTHS),
    ("Content-Length: 5\r\ncontent-length: 0\r\n", TWO_LENGTHS),
    ("Content-Length: 5,6\r\n", TWO_LENGTHS),
    ("Content-Length: 5, 5, 6\r\n", TWO_LENGTHS),
    ("Content-Length: +5\r\n", NOT_A_NUMBER),
    ("Content-Length: -5\r\n", NOT_A_NUMBER),
    ("Content-Length: 0x5\r\n", NOT_A_NUMBER),
    ("Content-Length: 5 5\r\n", NOT_A_NUMBER),
    ("Content-Length: 5,\r\n", NOT_A_NUMBER),
    ("Content-Length: ,5\r\n", NOT_A_NUMBER),
    ("Content-Length: 5;\r\n", NOT_A_NUMBER),
    ("Content-Length: 5.0\r\n", NOT_A_NUMBER),
    ("Content-Length: 5e1\r\n", NOT_A_NUMBER),
    ("Content-Length: \"5\"\r\n", NOT_A_NUMBER),
    ("Content-Length: 1_0\r\n", NOT_A_NUMBER),
    ("Content-Length: \u{0665}\r\n", NOT_A_NUMBER),
    ("Content-Length: \r\n", NOT_A_NUMBER),
    // A reader with a signed length takes these for a negative one.
    ("Content-Length: 9223372036854775808\r\n", TOO_LONG),
    ("Content-Length: 18446744073709551615\r\n", TOO_LONG),
    ("Content-Length: 18446744073709551616\r\n", TOO_LONG),
    ("Content-Length: 5\x0b\r\n", CONTROL),
    ("Content-Length : 5\r\n", COLON),
    ("Content-Length\0: 5\r\n", NAME),
    ("Content-Length: 5\r\n 6\r\n", FOLDED),
    ("Content-Length: 5\rX: y\r\n", BARE_CR),
    // Field lines in general.
    ("X\r\n", NO_COLON),
    (": y\r\n", Syntax("an empty field name")),
    (" : y\r\n", FOLDED),
    ("X(: y\r\n", NAME),
    ("X: \0\r\n", CONTROL),
    ("X: a\x1bb\r\n", CONTROL),
    ("X: \r\n \r\n", FOLDED),
    // Host.
    ("Host: b.test\r\n", TWO_HOSTS),
    ("host: a.test\r\n", TWO_HOSTS),
];

/// Whole heads.
#[rustfmt::skip]
const HEADS: &[(&str, Refused)] = &[
    ("GET / HTTP/1.1\r\n\r\n", Syntax("no Host field in HTTP/1.1")),
    ("GET http://a.test/ HTTP/1.1\r\n\r\n", Syntax("no Host field in HTTP/1.1")),
    ("GET / HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n", HOST),
    ("GET / HTTP/1.1\r\nHost: a.test/b\r\n\r\n", HOST),
    ("GET / HTTP/1.1\r\nHost: a.test@b.test\r\n\r\n", HOST),
    ("GET / HTTP/1.1\r\nHost: a.test#\r\n\r\n", HOST),
    ("GET / HTTP/1.1\r\nHost: a.test?\r\n\r\n", HOST),
    ("GET / HTTP/1.1\r\nHost: a.test\\\r\n\r\n", HOST),
    ("GET / HTTP/1.1\r\nHost: a.test:80:80\r\n\r\n", HOST),
    ("GET / HTTP/1.1\r\nHost: a.test:8o\r\n\r\n", HOST),
    ("GET / HTTP/1.1\r\nHost: a%2etest\r\n\r\n", HOST),
    ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", HOST),
    ("GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n", HOST),
    ("GET / HTTP/1.1\r\nHost: b\u{fc}cher\r\n\r\n", HOST),
    ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Framing("Transfer-Encoding in HTTP/1.0")),
    ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", BOTH),
    ("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\n", Framing("CONNECT with a body")),
    ("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n", Framing("CONNECT with a body")),
    ("CONNECT /x HTTP/1.1\r\nHost: a\r\n\r\n", Syntax("CONNECT to something other than host:port")),
    ("CONNECT a.test HTTP/1.1\r\nHost: a\r\n\r\n", Syntax("CONNECT to something other than host:port")),
    ("CONNECT %61.test:443 HTTP/1.1\r\nHost: a\r\n\r\n", Syntax("CONNECT to something other than host:port")),
    ("GET http://a.test/ HTTP/1.1\r\nHost: b.test\r\n\r\n", OTHER_HOST),
    ("GET http://a.test/ HTTP/1.0\r\nHost: b.test\r\n\r\n", OTHER_HOST),
    ("GET http://b.test@a.test/ HTTP/1.1\r\nHost: b.test\r\n\r\n", OTHER_HOST),
    ("GET http://a.test/ HTTP/1.1\r\nHost: \r\n\r\n", OTHER_HOST),
    ("CONNECT a.test:443 HTTP/1.1\r\nHost: b.test:443\r\n\r\n", OTHER_HOST),
    // The request line.
    ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Syntax("two spaces after the method")),
    ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", VERSION),
    ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", VERSION),
    ("GET / HTTP/1.1\t\r\nHost: a\r\n\r\n", VERSION),
    ("GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", VERSION),
    ("GET / x HTTP/1.1\r\nHost: a\r\n\r\n", VERSION),
    ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", VERSION),
    ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", VERSION),
    ("GET / HTTP/0.9\r\nHost: a\r\n\r\n", VERSION),
    ("GET / HTTP/1.10\r\nHost: a\r\n\r\n", VERSION),
    ("GET / HTTP/01.1\r\nHost: a\r\n\r\n", VERSION),
    ("GET / http/1.1\r\nHost: a\r\n\r\n", VERSION),
    ("GET /\r\nHost: a\r\n\r\n", Syntax("a request line without a version")),
    ("GET\r\nHost: a\r\n\r\n", Syntax("a request line without a target")),
    ("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", METHOD),
    ("GET /\tHTTP/1.1\r\nHost: a\r\n\r\n", Syntax("a request line without a version")),
    ("GET /\x0b HTTP/1.1\r\nHost: a\r\n\r\n", Syntax("a control byte in the request target")),
    ("GET /\r HTTP/1.1\r\nHost: a\r\n\r\n", Syntax("a control byte in the request target")),
    ("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", Syntax("a control byte in the request target")),
    ("GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n", Syntax("a control byte in the request target")),
    (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", METHOD),
    ("G\0ET / HTTP/1.1\r\nHost: a\r\n\r\n", METHOD),
    ("G\"ET / HTTP/1.1\r\nHost: a\r\n\r\n", METHOD),
    ("GET: / HTTP/1.1\r\nHost: a\r\n\r\n", METHOD),
    ("GET x HTTP/1.1\r\nHost: a\r\n\r\n", TARGET),
    ("GET ?x HTTP/1.1\r\nHost: a\r\n\r\n", TARGET),
    ("GET x/://a HTTP/1.1\r\nHost: a\r\n\r\n", TARGET),
    ("GET *x HTTP/1.1\r\nHost: a\r\n\r\n", TARGET),
    ("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", TARGET_HOST),
    ("GET http://a\\b/ HTTP/1.1\r\nHost: a\r\n\r\n", TARGET_HOST),
    ("GET http://a:b:c/ HTTP/1.1\r\nHost: a\r\n\r\n", TARGET_HOST),
    ("GET http://%61.test/ HTTP/1.1\r\nHost: a\r\n\r\n", TARGET_HOST),
    ("\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Syntax("an empty line before the head")),
    // Line endings.
    ("GET / HTTP/1.1\nHost: a\n\n", BARE_LF),
    ("GET / HTTP/1.1\nHost: a\r\n\r\n", BARE_LF),
    ("GET / HTTP/1.1\r\nHost: a\n\r\n", BARE_LF),
    ("GET / HTTP/1.1\r\nHost: a\r\n\n", BARE_LF),
    ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", BARE_LF),
    ("GET / HTTP/1.1\r\nHost: a\r\n\r\r\n\r\n", NO_COLON),
    ("GET / HTTP/1.1\rHost: a\r\n\r\n", VERSION),
    ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", FOLDED),
    ("GET / HTTP/1.1\r\n\tX: y\r\nHost: a\r\n\r\n", FOLDED),
];

/// Heads of responses.
#[rustfmt::skip]
const RESPONSES: &[(&str, Refused)] = &[
    ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", BOTH),
    ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", TWO_LENGTHS),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", NOT_LAST),
    ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Framing("Transfer-Encoding in HTTP/1.0")),
    ("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", BOTH),
    ("HTTP/1.1 200 OK\r\nX : y\r\n\r\n", COLON),
    ("HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n", FOLDED),
    ("HTTP/1.1 200 OK\nX: y\n\n", BARE_LF),
    ("HTTP/1.1 200 OK\r\nX: y\rZ: x\r\n\r\n", BARE_CR),
    ("HTTP/1.1 200 O\rK\r\n\r\n", Syntax("a control byte in the reason phrase")),
    ("HTTP/1.1 200 O\0K\r\n\r\n", Syntax("a control byte in the reason phrase")),
    ("HTTP/1.1 20 OK\r\n\r\n", Syntax("a status that is not three digits")),
    ("HTTP/1.1 2000 OK\r\n\r\n", Syntax("a status that is not three digits")),
    ("HTTP/1.1 099 OK\r\n\r\n", Syntax("a status that is not three digits")),
    ("HTTP/1.1 +20 OK\r\n\r\n", Syntax("a status that is not three digits")),
    ("HTTP/1.1 200OK\r\n\r\n", Syntax("a status that is not three digits")),
    ("HTTP/1.1  200 OK\r\n\r\n", Syntax("a status that is not three digits")),
    ("HTTP/1.1\r\n\r\n", Syntax("a status line without a status")),
    ("HTTP/2 200 OK\r\n\r\n", VERSION),
    ("ICY 200 OK\r\n\r\n", VERSION),
    ("\r\nHTTP/1.1 200 OK\r\n\r\n", Syntax("an empty line before the head")),
];

#[track_caller]
fn assert_refused(result: Result<Option<usize>, BadHead>, expected: Refused, head: &str) {
    let found = match result {
        Err(BadHead::Syntax(found)) => Syntax(found),
        Err(BadHead::Framing(found)) => Framing(found),
        other => panic!("{head:?}: {other:?}"),
    };
    assert_eq!(found, expected, "{head:?}");
}

#[test]
fn smuggled_fields_are_refused() {
    for &(fields, expected) in FIELDS {
        let head = format!("POST / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n");
        assert_refused(RequestHead::default().parse(head.as_bytes(), &Limits::default()), expected, &head);
    }
}

#[test]
fn a_method_is_at_most_64_bytes() {
    let head = |length: usize| format!("{} / HTTP/1.0\r\n\r\n", "A".repeat(length));
    let parse = |head: &str| RequestHead::default().parse(head.as_bytes(), &Limits::default());
    assert_eq!(parse(&head(64)), Ok(Some(head(64).len())));
    assert_refused(parse(&head(65)), Syntax("a method of more than 64 bytes"), &head(65));
}

#[test]
fn the_same_fields_are_refused_in_a_response() {
    for &(fields, expected) in FIELDS {
        if expected == TWO_HOSTS {
            continue;
        }
        let head = format!("HTTP/1.1 200 OK\r\nServer: a\r\n{fields}\r\n");
        assert_refused(ResponseHead::default().parse(head.as_bytes(), &Limits::default()), expected, &head);
    }
}

#[test]
fn malformed_requests_are_refused() {
    for &(head, expected) in HEADS {
        assert_refused(RequestHead::default().parse(head.as_bytes(), &Limits::default()), expected, head);
    }
}

#[test]
fn malformed_responses_are_refused() {
    for &(head, expected) in RESPONSES {
        assert_refused(ResponseHead::default().parse(head.as_bytes(), &Limits::default()), expected, head);
    }
}

#[test]
fn a_refusal_does_not_depend_on_the_segmentation() {
    let fields = FIELDS.iter().map(|(fields, _)| format!("POST / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n"));
    for head in HEADS.iter().map(|(head, _)| (*head).to_owned()).chain(fields) {
        let bytes = head.as_bytes();
        let whole = RequestHead::default().parse(bytes, &Limits::default());
        let mut reader = RequestHead::default();
        let first = (0..=bytes.len()).find_map(|n| reader.parse(&bytes[..n], &Limits::default()).transpose());
        assert_eq!(first, whole.transpose(), "{head:?}");
    }
}

#[test]
fn what_is_refused_as_a_request_is_not_opaque() {
    use dragoman_wire::{Client, client};
    for &(head, _) in HEADS {
        let opaque = client(head.as_bytes()) == Client::Opaque;
        // These are not HTTP to any reader: no method before the first space, or no version at all.
        let excused = ["G\0ET", "G\"ET", "GET:", "GET /\r\n", "GET\r\n"];
        assert_eq!(opaque, excused.iter().any(|start| head.starts_with(start)), "{head:?}");
    }
}
