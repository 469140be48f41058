//! The sniffer against first flights of real programs, byte by byte, and against hostile ones.

use dragoman_wire::{Client, Likely, Server, client, server};
use proptest::prelude::*;

const KNOWN: Client = Client::Incomplete(Likely::Known);
const UNKNOWN: Client = Client::Incomplete(Likely::Unknown);

/// First flights captured from the program named, with what they are.
const CAPTURED: &[(&str, Client, &[u8])] = &[
    (
        "curl 7.88",
        Client::Http1,
        b"GET /a/b?c=d HTTP/1.1\r\nHost: 127.0.0.1:43687\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n",
    ),
    ("curl --http1.0", Client::Http1, b"GET / HTTP/1.0\r\nHost: 127.0.0.1:36271\r\nAccept: */*\r\n\r\n"),
    ("curl -X PROPFIND", Client::Http1, b"PROPFIND / HTTP/1.1\r\nHost: 127.0.0.1:38379\r\n\r\n"),
    ("curl -x, http", Client::Http1, b"GET http://example.com/q HTTP/1.1\r\nHost: example.com\r\n\r\n"),
    ("curl -x, https", Client::Http1, b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n"),
    ("python 3.11 urllib", Client::Http1, b"GET /x HTTP/1.1\r\nAccept-Encoding: identity\r\n\r\n"),
    (
        "git over http",
        Client::Http1,
        b"GET /r.git/info/refs?service=git-upload-pack HTTP/1.1\r\nHost: 127.0.0.1:53835\r\n\r\n",
    ),
    ("curl --http2-prior-knowledge", Client::Http2, include_bytes!("data/curl-7.88-h2-prior-knowledge.bin")),
    ("openssl s_client", Client::Tls, include_bytes!("data/openssl-3.0-hello.bin")),
    ("curl https", Client::Tls, include_bytes!("data/curl-7.88-hello.bin")),
    ("psql, sslmode=prefer", Client::Postgres, b"\0\0\0\x08\x04\xd2\x16/"),
    (
        "psql, sslmode=disable",
        Client::Postgres,
        b"\0\0\x006\0\x03\0\0user\0app\0database\0shop\0application_name\0psql\0\0",
    ),
    ("redis-cli ping", Client::Redis, b"*1\r\n$4\r\nping\r\n"),
    ("ssh", Client::Opaque, b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u10\r\n"),
    (
        "git over its own protocol",
        Client::Opaque,
        b"003bgit-upload-pack /r.git\0host=127.0.0.1:45873\0\0version=2\0",
    ),
];

/// Short flights, whole or not, with the one right answer.
#[rustfmt::skip]
const TABLE: &[(&[u8], Client)] = &[
    (b"", UNKNOWN),
    // HTTP/1: any token is a method; a registered one makes silence meaningless.
    (b"G", KNOWN), (b"GET", KNOWN), (b"GET ", KNOWN), (b"GET /a b c", KNOWN), (b"\r\nGE", KNOWN),
    (b"VERSION-CONTROL /", KNOWN), (b"P", KNOWN), (b"PR", KNOWN), (b"PRO", KNOWN), (b"PRI", KNOWN),
    (b"g", UNKNOWN), (b"GETT", UNKNOWN), (b"GETT /", UNKNOWN), (b"\r", UNKNOWN), (b"\r\n\r\n", UNKNOWN),
    (b"PURGE /x HTTP/1.1\r\n", Client::Http1), (b"~! x HTTP/1.1\r\n", Client::Http1),
    (b"\r\n\r\n\r\nGET / HTTP/1.1\r\n", Client::Http1), (b"\r\n\r\n\r\n", UNKNOWN),
    // The strict parser is to refuse these: as opaque bytes they would pass all HTTP policy.
    (b"GET / HTTP/1.1\n", Client::Http1), (b"\nGET / HTTP/1.1\n", Client::Http1),
    (b"GET / http/1.1\r\n", Client::Http1), (b"GET / HTTP/1.1 \t\r\n", Client::Http1),
    (b"GET\t/\tHTTP/1.1\r\n", Client::Http1), (b"GET  /  HTTP/1.1\r\n", Client::Http1),
    (b"GET / HTTP/9.9\r\n", Client::Http1), (b"GET / xHTTP/1.1\r\n", Client::Http1),
    (b"GET /\0 HTTP/1.1\r\n", Client::Http1), (b"PRI * HTTP/2.0\r\nHost: x\r\n", Client::Http1),
    (b"GET /x\r HTTP/1.1\r\n", Client::Http1), (b"GET HTTP/1.1\r\n", Client::Http1),
    // Protocols that only look like it.
    (b"GET /x\r\n", Client::Opaque), (b"get a b\r\n", Client::Opaque), (b"EHLO x\r\n", Client::Opaque),
    (b"SSH-2.0-x\r\n", Client::Opaque), (b"CONNECT\naccept-version:1.2\n", Client::Opaque),
    (b"OPTIONS rtsp://x RTSP/1.0\r\n", Client::Opaque), (b"INVITE sip:a SIP/2.0\r\n", Client::Opaque),
    (b"PUB subject 5\r\nhello\r\n", Client::Opaque), (b"HTTP/1.1 200 OK\r\n", Client::Opaque),
    (b" GET / HTTP/1.1\r\n", Client::Http1), (b"G(T / HTTP/1.1\r\n", Client::Opaque),
    (b"foo \0 HTTP/1.1\r\n", Client::Opaque), (b"NICK a\r\nUSER b HTTP/1.1\r\n", Client::Opaque),
    // HTTP/2.
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", KNOWN), (b"PRI * HTTP/2.0\r\n", KNOWN),
    // TLS: major version 3 (servers ignore the minor one), a plausible length, a ClientHello.
    (b"\x16", KNOWN), (b"\x16\x03\x01\x02\x00", KNOWN), (b"\x16\x03\x04\x41\x00\x01", Client::Tls),
    (b"\x16\x03\xff", KNOWN), (b"\x16\x03\x05\x02\x00\x01", Client::Tls), (b"\x16\x02", Client::Opaque), (b"\x17\x03\x03", Client::Opaque),
    (b"\x16\x03\x01\x00\x00", Client::Opaque), (b"\x16\x03\x01\x41\x01", Client::Opaque),
    (b"\x16\x03\x01\x02\x00\x02", Client::Opaque), (b"\x80\x2e\x01\x03\x01", Client::Opaque),
    // PostgreSQL: 3.0, 3.2, SSLRequest, GSSENCRequest, cancel; not a Kafka or a MongoDB length.
    (b"\0", UNKNOWN), (b"\0\0\0\x08", UNKNOWN), (b"\0\0\0\x08\x04", KNOWN), (b"\0\0\0\x08\x04\xd2\x16", KNOWN), (b"\0\0\x27\x10\0\x03\0\x02", Client::Postgres),
    (b"\0\0\0\x08\x04\xd2\x16\x30", Client::Postgres), (b"\0\0\0\x10\x04\xd2\x16\x2e", Client::Postgres),
    (b"\0\0\0\x07", Client::Opaque), (b"\0\0\x27\x11", Client::Opaque), (b"\0\x01", Client::Opaque),
    (b"\0\0\0\x20\0\x12\0\x03", Client::Opaque), (b"\0\0\0\x08\x04\xd2\x16\x31", Client::Opaque),
    (b"\0\0\0\x08\0\x02", Client::Opaque), (b"\0\0\0\x08\x04\x03", Client::Opaque),
    // RESP.
    (b"*", UNKNOWN), (b"*12", UNKNOWN), (b"*3\r\n", UNKNOWN), (b"*3\r\n$", Client::Redis),
    (b"*\r", Client::Opaque), (b"*3\r\n:", Client::Opaque), (b"*3\n", Client::Opaque),
    (b"*-1\r\n", Client::Opaque), (b"*12345678901\r\n$", Client::Opaque), (b"*3x y HTTP/1.1\n", Client::Http1),
    (b"PING\r\n", Client::Opaque),
];

#[test]
fn each_flight_has_its_answer() {
    for &(bytes, expected) in TABLE {
        assert_eq!(client(bytes), expected, "{}", bytes.escape_ascii());
    }
}

#[test]
fn captured_flights_are_recognised_and_never_misjudged_on_the_way() {
    for &(program, expected, bytes) in CAPTURED {
        let answers: Vec<Client> = (0..=bytes.len()).map(|n| client(&bytes[..n])).collect();
        let first = answers.iter().position(|answer| !matches!(answer, Client::Incomplete(_)));
        let first = first.unwrap_or_else(|| panic!("{program}: never decided"));
        assert!(answers[first..].iter().all(|&answer| answer == expected), "{program}: {answers:?}");
    }
}

#[test]
fn s2_silence_decides_nothing_on_a_known_protocol() {
    for &(program, expected, bytes) in CAPTURED {
        if matches!(expected, Client::Opaque | Client::Redis) {
            continue;
        }
        // A length alone is no more than any protocol may begin with (docs/adr/0004).
        let mut n = if expected == Client::Postgres { 5 } else { 1 };
        while client(&bytes[..n]) != expected {
            assert_eq!(client(&bytes[..n]), KNOWN, "{program}: after {n} bytes");
            n += 1;
        }
    }
}

#[test]
fn an_endless_first_line_is_bounded() {
    let line = |start: &str, length: usize| {
        let mut bytes = start.as_bytes().to_vec();
        bytes.resize(length, b'a');
        bytes
    };
    assert_eq!(client(&line("GET /", 65_535)), KNOWN);
    assert_eq!(client(&line("GET /", 65_536)), Client::Http1);
    assert_eq!(client(&line("XGET /", 65_535)), UNKNOWN);
    assert_eq!(client(&line("XGET /", 65_536)), Client::Opaque);
    assert_eq!(client(&line("", 1024)), UNKNOWN);
    assert_eq!(client(&line("", 1025)), Client::Opaque);
    assert_eq!(client(&[b'\n'; 1024]), UNKNOWN);
    assert_eq!(client(&[b'\n'; 1025]), Client::Opaque);
}

const CAPTURED_SERVERS: &[(&str, Server, &[u8])] = &[
    ("mariadb 10.11", Server::Mysql, include_bytes!("data/mariadb-10.11-greeting.bin")),
    ("openssh 9.2", Server::Ssh, b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u10\r\n"),
    ("a gRPC server", Server::Http2Settings, b"\0\0\x06\x04\0\0\0\0\0\0\x05\0\0\x40\0"),
];

#[rustfmt::skip]
const SERVERS: &[(&[u8], Server)] = &[
    (b"", Server::Incomplete),
    (b"HTTP/1", Server::Incomplete), (b"HTTP/1.0 408 Request Time-out\r\n", Server::Http1),
    (b"HTTP/2", Server::Other), (b"SSH", Server::Incomplete), (b"SSX", Server::Other),
    (b"220 mail.example ESMTP Postfix\r\n", Server::Smtp), (b"220-mail smtp\r\n220 x\r\n", Server::Smtp),
    (b"220 (vsFTPd 3.0.3)\r\n", Server::Ftp), (b"220---------- Welcome to Pure-FTPd\r\n", Server::Ftp),
    (b"220 hello\r\n", Server::Other), (b"220 mail ESMTP", Server::Incomplete), (b"2200", Server::Other),
    (b"\0\0\0\x04\0\0\0\0", Server::Incomplete), (b"\0\0\0\x04\0\0\0\0\0", Server::Http2Settings),
    (b"\0\0\x12\x04\0\x80\0\0\0", Server::Http2Settings),
    (b"\0\0\0\x04\x01\0\0\0\0", Server::Other), (b"\0\0\x05\x04\0\0\0\0\0", Server::Other),
    (b"\0\0\x09\x04\0\0\0\0\0", Server::Other), (b"\x02\0\0\0\xff", Server::Other),
    (b"\0\0\x06\x04\0\0\0\0\x01", Server::Other), (b"\0\x40\x02\x04\0\0\0\0\0", Server::Other),
    (b"\0\0\x06\x08\0\0\0\0\0", Server::Other),
    (b"\x17\0\0\0\xff\x10\x04Too many connections", Server::Mysql), (b"\x4a\0\0\0\x09", Server::Incomplete),
    (b"\x4a\0\0\0\x0a8.4.0", Server::Incomplete), (b"\x4a\0\0\0\x0a8.4.0\0", Server::Mysql),
    (b"\x4a\0\0\x01\x0a", Server::Other), (b"\x4a\0\0\0\x0b", Server::Other), (b"\x4a\0\0\0\x0a\0", Server::Other),
    (b"\x4a\0\0\0\x0a\x01", Server::Other), (b"\x03\0\0\0\x0a8.4.0\0", Server::Other),
    (b"+OK POP3 ready\r\n", Server::Other), (b"* OK IMAP4\r\n", Server::Other), (b"\xff\xfd", Server::Other),
    (b"RFB 003.008\n", Server::Other), (b"\x15\x03\x01\0\x02\x02\x0a", Server::Other),
];

#[test]
fn each_greeting_has_its_answer() {
    for &(bytes, expected) in SERVERS {
        assert_eq!(server(bytes), expected, "{}", bytes.escape_ascii());
    }
    let endless = [b"220 ".as_slice(), &[b'a'; 508]].concat();
    assert_eq!(server(&endless[..511]), Server::Incomplete);
    assert_eq!(server(&endless), Server::Other);
}

#[test]
fn captured_greetings_are_recognised_and_never_misjudged_on_the_way() {
    for &(program, expected, bytes) in CAPTURED_SERVERS {
        let answers: Vec<Server> = (0..=bytes.len()).map(|n| server(&bytes[..n])).collect();
        let first = answers.iter().position(|&answer| answer != Server::Incomplete);
        let first = first.unwrap_or_else(|| panic!("{program}: never decided"));
        assert!(answers[first..].iter().all(|&answer| answer == expected), "{program}: {answers:?}");
    }
}

/// Bytes that come near to something: arbitrary ones would be opaque at once and prove nothing.
fn near_misses() -> impl Strategy<Value = Vec<u8>> {
    let starts: Vec<Vec<u8>> = TABLE
        .iter()
        .map(|(bytes, _)| bytes.to_vec())
        .chain(SERVERS.iter().map(|(bytes, _)| bytes.to_vec()))
        .chain(CAPTURED.iter().map(|(_, _, bytes)| bytes[..bytes.len().min(60)].to_vec()))
        .collect();
    let tail = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        "[ -~\r\n\t]{0,40}".prop_map(String::into_bytes),
        "[A-Z]{0,5}[ \t]?/?[ \t]?(HTTP/1.1)?\r?\n?".prop_map(String::into_bytes),
    ];
    (prop::sample::select(starts), any::<prop::sample::Index>(), tail).prop_map(|(start, cut, tail)| {
        let cut = cut.index(start.len() + 1);
        [&start[..cut], &tail].concat()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn a_final_answer_is_final(bytes in near_misses()) {
        let mut decided = None;
        let mut decided_server = None;
        for n in 0..=bytes.len() {
            let answer = client(&bytes[..n]);
            if let Some(before) = decided {
                prop_assert_eq!(before, answer, "after {} bytes", n);
            } else if !matches!(answer, Client::Incomplete(_)) {
                decided = Some(answer);
            }
            let answer = server(&bytes[..n]);
            if let Some(before) = decided_server {
                prop_assert_eq!(before, answer, "after {} bytes", n);
            } else if answer != Server::Incomplete {
                decided_server = Some(answer);
            }
        }
    }
}
