//! Requests that two readers could frame differently: refused with 400, and nothing of them reaches the
//! server. Sent for real over a captured connection, each also behind a valid request.

use dragoman_harness::net::server;
use dragoman_harness::origin::Reply;
use dragoman_harness::{Dragoman, Net, Origin};

/// RFC 9112 sections 2.2, 3, 5 and 6 say why each one is refused. The marker `SMUGGLED` would show at
/// the server.
const VECTORS: &[(&str, &[u8])] = &[
    ("length and chunked", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nSMUGGLED"),
    ("chunked and length", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nSMUGGLED"),
    ("two lengths", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nSMUGGLED"),
    ("a list of lengths", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 6\r\n\r\nSMUGGLED"),
    ("a signed length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nSMUGGLED"),
    ("a negative length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\nSMUGGLED"),
    ("a hexadecimal length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nSMUGGLED"),
    ("an empty length", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nSMUGGLED"),
    ("a length beyond 64 bits", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\nSMUGGLED"),
    ("space before the colon", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 8\r\n\r\nSMUGGLED"),
    ("space before chunked's colon", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\nSMUGGLED"),
    ("a tab in the name", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\t: chunked\r\n\r\nSMUGGLED"),
    ("a folded field", b"POST / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\nSMUGGLED"),
    ("a folded chunked", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\nSMUGGLED"),
    ("a first field that is folded", b"GET / HTTP/1.1\r\n X: a\r\nHost: a\r\n\r\nSMUGGLED"),
    ("a bare CR in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rSMUGGLED: b\r\n\r\n"),
    ("a bare LF after a field", b"GET / HTTP/1.1\r\nHost: a\nSMUGGLED: b\r\n\r\n"),
    ("bare LFs alone", b"GET / HTTP/1.1\nHost: a\n\nSMUGGLED"),
    ("a NUL in a value", b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0SMUGGLED\r\n\r\n"),
    ("chunked twice", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\nSMUGGLED"),
    ("two chunked fields", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nSMUGGLED"),
    ("identity after chunked", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\nSMUGGLED"),
    ("a coding that is not chunked", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\nSMUGGLED"),
    ("almost chunked", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\nSMUGGLED"),
    ("chunked with a vertical tab", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\nSMUGGLED"),
    ("chunked in quotes", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\nSMUGGLED"),
    ("HTTP/1.0 with chunked", b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nSMUGGLED"),
    ("no host", b"GET / HTTP/1.1\r\nX: SMUGGLED\r\n\r\n"),
    ("two hosts", b"GET / HTTP/1.1\r\nHost: a\r\nHost: SMUGGLED\r\n\r\n"),
    ("a space in the target", b"GET /a b HTTP/1.1\r\nHost: a\r\nX: SMUGGLED\r\n\r\n"),
    ("a control byte in the target", b"GET /a\x01b HTTP/1.1\r\nHost: a\r\nX: SMUGGLED\r\n\r\n"),
    ("a version that is not one", b"GET / HTTP/1.10\r\nHost: a\r\nX: SMUGGLED\r\n\r\n"),
    ("a field without a colon", b"GET / HTTP/1.1\r\nHost: a\r\nSMUGGLED\r\n\r\n"),
    ("an empty field name", b"GET / HTTP/1.1\r\nHost: a\r\n: SMUGGLED\r\n\r\n"),
];

/// Chunked bodies whose head is right: it may have gone on when the body turns out wrong, but then what
/// follows must not, and the exchange does not succeed.
const BAD_CHUNKS: &[(&str, &str)] = &[
    ("no digit", "\r\nSMUGGLED\r\n0\r\n\r\n"),
    ("not a digit", "G\r\nSMUGGLED\r\n0\r\n\r\n"),
    ("a sign", "+8\r\nSMUGGLED\r\n0\r\n\r\n"),
    ("a prefix", "0x8\r\nSMUGGLED\r\n0\r\n\r\n"),
    ("a size beyond 64 bits", "10000000000000008\r\nSMUGGLED\r\n0\r\n\r\n"),
    ("space before the digits", " 8\r\nSMUGGLED\r\n0\r\n\r\n"),
    ("a bare LF after the size", "8\nSMUGGLED\r\n0\r\n\r\n"),
    ("a bare LF in an extension", "8;a\nb\r\nSMUGGLED\r\n0\r\n\r\n"),
    ("longer data than said", "1\r\nxSMUGGLED\r\n0\r\n\r\n"),
    ("a bare LF after the data", "1\r\nx\nSMUGGLED\r\n0\r\n\r\n"),
];

#[test]
fn cause_bad_request_refuses_every_smuggling_vector() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"));
    let dragoman = Dragoman::start(&net, "");
    for (name, vector) in VECTORS {
        let mut client = net.app.connect(server(80));
        client.send(vector).unwrap();
        let answer = client.response("POST").unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(
            (answer.status(), answer.header("x-dragoman-cause")),
            (400, Some("bad_request")),
            "{name}"
        );
        assert!(client.read_to_reset().is_ok(), "{name}: the connection stays open");
    }
    dragoman.settle();
    for seen in origin.seen() {
        assert!(seen.bytes.is_empty(), "the server got {:?}", seen.text());
    }
    let metrics = dragoman.metrics();
    let refused = metrics.sum("dragoman_exchanges_total", &[("cause", "bad_request"), ("code", "400")]);
    assert_eq!(refused, VECTORS.len() as u64);
    assert_eq!(dragoman.records_where(VECTORS.len(), |r| r["cause"] == "bad_request").len(), VECTORS.len());
}

#[test]
fn a_vector_behind_a_valid_request_does_not_pass_either() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"));
    let _dragoman = Dragoman::start(&net, "[defaults]\npool = {}\n");
    let valid = b"POST /valid HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    for (name, vector) in VECTORS {
        let mut client = net.app.connect(server(80));
        client.send([valid, *vector].concat()).unwrap();
        assert_eq!(client.response("POST").unwrap().status(), 200, "{name}");
        let answer = client.response("POST").unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(answer.status(), 400, "{name}");
    }
    assert_eq!(origin.requests().len(), VECTORS.len());
    for seen in origin.seen() {
        let clean = seen.text().replace(std::str::from_utf8(valid).unwrap(), "");
        assert_eq!(clean, "", "the server got more than the valid requests");
    }
}

#[test]
fn bad_chunks_end_the_exchange_and_nothing_behind_them_passes() {
    let net = Net::new();
    let origin = Origin::tcp(&net.servers, server(80), |mut peer| {
        while peer.request()?.is_some() {
            peer.send(dragoman_harness::origin::response(200, "ok"))?;
        }
        Ok(())
    });
    let dragoman = Dragoman::start(&net, "[defaults]\npool = {}\n");
    for (name, body) in BAD_CHUNKS {
        let mut client = net.app.connect(server(80));
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        client.send(format!("{head}{body}")).unwrap();
        let (answer, _) = client.read_to_reset().unwrap_or_else(|e| panic!("{name}: {e}"));
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{name}: {answer}");
    }
    assert_eq!(
        dragoman.settle().sum("dragoman_exchanges_total", &[("cause", "bad_request")]),
        BAD_CHUNKS.len() as u64
    );
    for seen in origin.seen() {
        assert!(!seen.text().contains("SMUGGLED"), "the server got {:?}", seen.text());
    }
}
