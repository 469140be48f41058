//! What the head readers accept, and what they say about it.

use dragoman_wire::http1::{BadHead, Body, Connection, Known, Limits, RequestHead, ResponseHead, Version};

fn request(bytes: &[u8]) -> RequestHead {
    let mut head = RequestHead::default();
    assert_eq!(head.parse(bytes, &Limits::default()), Ok(Some(bytes.len())), "{}", bytes.escape_ascii());
    head
}

fn response(bytes: &[u8]) -> ResponseHead {
    let mut head = ResponseHead::default();
    assert_eq!(head.parse(bytes, &Limits::default()), Ok(Some(bytes.len())), "{}", bytes.escape_ascii());
    head
}

/// As curl 7.88 sends it with `-d a=b --http2`.
const CURL: &[u8] = b"POST /a/b?c=d HTTP/1.1\r\nHost: Example.Test:8080\r\nUser-Agent: curl/7.88.1\r\n\
    Accept: */*\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
    HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\nContent-Length: 3\r\n\
    Content-Type: application/x-www-form-urlencoded\r\n\r\n";

#[test]
fn a_captured_request_is_read() {
    let head = request(CURL);
    assert_eq!(head.method(CURL), "POST");
    assert_eq!(head.target(CURL), b"/a/b?c=d");
    assert_eq!(head.path(CURL), "/a/b");
    assert_eq!(head.query(CURL), b"c=d");
    assert_eq!(head.host(CURL), Some("Example.Test"));
    assert_eq!(head.authority(CURL), Some("Example.Test:8080"));
    assert_eq!(head.version(), Version::Http11);
    assert_eq!(head.body(), Body::Length(3));
    assert_eq!(head.connection(), Connection { close: false, keep_alive: false, upgrade: true });
    assert!(head.keeps_alive() && !head.is_connect() && !head.expect_continue());
    let known: Vec<Known> = head.fields().iter().map(|field| field.known).collect();
    use Known::{ContentLength, ContentType, Host, Http2Settings, Other, Upgrade};
    let connection = Known::Connection;
    assert_eq!(known, [Host, Other, Other, connection, Upgrade, Http2Settings, ContentLength, ContentType]);
    let upgrade = head.find(Upgrade).expect("the field is there");
    assert_eq!(upgrade.line.of(CURL), b"Upgrade: h2c\r\n");
    assert_eq!((upgrade.name.of(CURL), upgrade.value.of(CURL)), (&b"Upgrade"[..], &b"h2c"[..]));
    assert_eq!(head.find_name(CURL, b"user-AGENT").map(|f| f.value.of(CURL)), Some(&b"curl/7.88.1"[..]));
    assert!(head.find(Known::Via).is_none() && head.find_name(CURL, b"user").is_none());
}

#[test]
fn a_head_is_incomplete_until_its_last_byte_and_ends_there() {
    let mut head = RequestHead::default();
    for n in 0..CURL.len() {
        assert_eq!(head.parse(&CURL[..n], &Limits::default()), Ok(None), "after {n} bytes");
    }
    let pipelined = [CURL, b"a=bGET / HTTP/1.1\r\n"].concat();
    assert_eq!(head.parse(&pipelined, &Limits::default()), Ok(Some(CURL.len())));
}

#[test]
fn one_reader_reads_one_head_after_the_other() {
    let mut head = request(CURL);
    let next = b"GET /\xff HTTP/1.0\r\n\r\n";
    assert_eq!(head.parse(next, &Limits::default()), Ok(Some(next.len())));
    assert_eq!((head.fields().len(), head.body(), head.host(next)), (0, Body::None, None));
    assert_eq!(head.path(next), "/\u{fffd}");
    assert_eq!(head.parse(CURL, &Limits::default()), Ok(Some(CURL.len())));
    assert_eq!(head.path(CURL), "/a/b");
}

#[test]
fn empty_lines_before_a_request_are_skipped_and_counted() {
    let bytes = b"\r\n\r\nGET / HTTP/1.0\r\n\r\n";
    let head = request(bytes);
    assert_eq!(head.start(), 4);
    assert_eq!(head.start_line().of(bytes), b"GET / HTTP/1.0\r\n");
    assert_eq!(request(CURL).start(), 0);
}

/// Method and target, then host, authority, path and query.
#[rustfmt::skip]
const TARGETS: &[(&str, [&str; 4])] = &[
    ("GET /", ["h", "h:1", "/", ""]),
    ("GET /a//b/../c;d=e%2f?f?g=/h", ["h", "h:1", "/a//b/../c;d=e%2f", "f?g=/h"]),
    ("GET /a?", ["h", "h:1", "/a", ""]),
    ("GET //other.test/a", ["h", "h:1", "//other.test/a", ""]),
    ("GET /a#b?c", ["h", "h:1", "/a", ""]),
    ("GET /a?b#c", ["h", "h:1", "/a", "b"]),
    ("OPTIONS *", ["h", "h:1", "*", ""]),
    ("GET http://T.test:80/a?b", ["T.test", "T.test:80", "/a", "b"]),
    ("GET HTTP://t.test", ["t.test", "t.test", "/", ""]),
    ("GET http://t.test?b=/c", ["t.test", "t.test", "/", "b=/c"]),
    ("GET http://good.test@evil.test/a@b", ["evil.test", "evil.test", "/a@b", ""]),
    ("GET http://a@b@evil.test/", ["evil.test", "evil.test", "/", ""]),
    ("GET http://[::1]:80/a", ["[::1]", "[::1]:80", "/a", ""]),
    ("GET ws+unix://t/a", ["t", "t", "/a", ""]),
    ("GET /?u=http://x/", ["h", "h:1", "/", "u=http://x/"]),
    ("CONNECT c.test:443", ["c.test", "c.test:443", "", ""]),
    ("CONNECT [::1]:443", ["[::1]", "[::1]:443", "", ""]),
    ("connect /", ["h", "h:1", "/", ""]),
];

#[test]
fn each_form_of_target_names_host_and_path() {
    for &(start, [host, authority, path, query]) in TARGETS {
        // The target's own port, if it names one, counts.
        let bytes = format!("{start} HTTP/1.1\r\nHost: {host}:1\r\n\r\n").into_bytes();
        let head = request(&bytes);
        assert_eq!(head.host(&bytes), Some(host), "{start}");
        assert_eq!(head.authority(&bytes), Some(authority), "{start}");
        assert_eq!(head.path(&bytes), path, "{start}");
        assert_eq!(head.query(&bytes), query.as_bytes(), "{start}");
        assert_eq!(head.is_connect(), start.starts_with("CONNECT"), "{start}");
    }
}

#[test]
fn a_url_and_a_host_field_may_write_the_same_name_differently() {
    for (url, host) in [("http://A.test./", "a.test:8080"), ("http://[FE80::1]:80/", "[fe80::1]")] {
        let bytes = format!("GET {url} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
        assert!(url.contains(request(&bytes).host(&bytes).expect("the URL names one")), "{url}");
    }
}

#[test]
fn hosts_are_read_without_their_port() {
    let read = |host: &str| {
        let bytes = format!("GET / HTTP/1.1\r\nHost:{host}\r\n\r\n").into_bytes();
        request(&bytes).host(&bytes).map(str::to_owned)
    };
    assert_eq!(read(" a_b.test:80 ").as_deref(), Some("a_b.test"));
    assert_eq!(read("[2001:db8::1]").as_deref(), Some("[2001:db8::1]"));
    assert_eq!(read("[fe80::1%25eth0]:80").as_deref(), Some("[fe80::1%25eth0]"));
    assert_eq!(read("a.test:").as_deref(), Some("a.test"));
    assert_eq!(read(""), None);
    assert_eq!(read(":80"), None);
}

#[test]
fn bytes_beyond_ascii_pass() {
    let bytes = b"GET /caf\xe9?\xff HTTP/1.1\r\nHost: h\r\nX:\t \xff\x80 a\tb \r\n\r\n";
    let head = request(bytes);
    assert_eq!(head.target(bytes), b"/caf\xe9?\xff");
    assert_eq!((head.path(bytes), head.query(bytes)), ("/caf\u{fffd}", &b"\xff"[..]));
    assert_eq!(head.fields()[1].value.of(bytes), b"\xff\x80 a\tb");
    assert_eq!(response(b"HTTP/1.1 200 d\xe9j\xe0\r\n\r\n").status(), 200);
}

/// fields → body, keeps alive; in HTTP/1.1 and after a Host.
#[rustfmt::skip]
const FRAMING: &[(&str, Body, bool)] = &[
    ("", Body::None, true),
    ("Content-Length: 0\r\n", Body::Length(0), true),
    ("Content-Length: 9223372036854775807\r\n", Body::Length(i64::MAX as u64), true),
    ("Content-Length: 007\r\n", Body::Length(7), true),
    ("Content-Length: 5\r\nContent-Length: 5\r\n", Body::Length(5), true),
    ("Content-Length: 5 , 5\r\n", Body::Length(5), true),
    ("Transfer-Encoding: chunked\r\n", Body::Chunked, true),
    ("transfer-ENCODING:\t CHUNKED \t\r\n", Body::Chunked, true),
    ("Transfer-Encoding: gzip, chunked\r\n", Body::Chunked, true),
    ("Transfer-Encoding: Deflate,X-GZIP , Chunked\r\n", Body::Chunked, true),
    ("Connection: close\r\n", Body::None, false),
    ("Connection: x,  Close ,y\r\n", Body::None, false),
    ("Connection: x\r\nConnection: close\r\n", Body::None, false),
    ("Connection: closed\r\n", Body::None, true),
    ("Connection: keep-alive, close\r\n", Body::None, false),
];

#[test]
fn fields_frame_the_body_and_the_connection() {
    for &(fields, body, keeps_alive) in FRAMING {
        let bytes = format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n").into_bytes();
        let head = request(&bytes);
        assert_eq!((head.body(), head.keeps_alive()), (body, keeps_alive), "{fields:?}");
        let bytes = format!("HTTP/1.1 200 OK\r\n{fields}\r\n").into_bytes();
        let head = response(&bytes);
        let body = if body == Body::None { Body::UntilClose } else { body };
        assert_eq!((head.body_for("GET"), head.keeps_alive()), (body, keeps_alive), "{fields:?}");
    }
    assert!(!request(b"GET / HTTP/1.0\r\n\r\n").keeps_alive());
    assert!(request(b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").keeps_alive());
    assert!(!request(b"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n").keeps_alive());
}

#[test]
fn a_body_that_is_compressed_for_the_connection_is_told_apart() {
    for (coding, compressed) in [("chunked", false), ("gzip, chunked", true)] {
        let fields = format!("Transfer-Encoding: {coding}\r\n\r\n");
        let head = request(format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}").as_bytes());
        assert_eq!(head.is_transfer_compressed(), compressed);
        let head = response(format!("HTTP/1.1 200 OK\r\n{fields}").as_bytes());
        assert_eq!(head.is_transfer_compressed(), compressed);
    }
}

#[test]
fn an_expectation_counts_in_http11_only() {
    let expects = |version: &str, value: &str| {
        request(format!("PUT / HTTP/{version}\r\nHost: h\r\nExpect: {value}\r\n\r\n").as_bytes())
            .expect_continue()
    };
    assert!(expects("1.1", "100-continue") && expects("1.1", "100-Continue"));
    assert!(!expects("1.0", "100-continue") && !expects("1.1", "200-ok"));
}

#[test]
fn the_body_of_a_response_depends_on_status_and_method() {
    #[rustfmt::skip]
    let vectors = [
        (200, "GET", Body::Length(5)), (200, "HEAD", Body::None), (200, "head", Body::Length(5)),
        (204, "GET", Body::None), (304, "GET", Body::None), (100, "POST", Body::None), (101, "GET", Body::None),
        (103, "GET", Body::None), (200, "CONNECT", Body::None), (299, "CONNECT", Body::None),
        (300, "CONNECT", Body::Length(5)), (407, "CONNECT", Body::Length(5)), (205, "GET", Body::Length(5)),
    ];
    for (status, method, body) in vectors {
        let bytes = format!("HTTP/1.1 {status} x\r\nContent-Length: 5\r\n\r\n").into_bytes();
        let head = response(&bytes);
        assert_eq!((head.status(), head.body_for(method)), (status, body), "{status} to {method}");
    }
    let bare = b"HTTP/1.0 200 OK\r\n\r\n";
    assert_eq!(response(bare).body_for("GET"), Body::UntilClose);
}

#[test]
fn a_reason_phrase_may_be_absent() {
    for line in ["HTTP/1.1 200", "HTTP/1.1 200 ", "HTTP/1.1 200 Very\tgood  "] {
        let bytes = format!("{line}\r\n\r\n").into_bytes();
        assert_eq!(response(&bytes).status(), 200, "{line:?}");
    }
}

#[test]
fn limits_hold_to_the_byte_and_the_field() {
    let limits = Limits { head_bytes: CURL.len(), headers: 8 };
    let mut head = RequestHead::default();
    assert_eq!(head.parse(CURL, &limits), Ok(Some(CURL.len())));
    assert_eq!(head.parse(CURL, &Limits { headers: 7, ..limits }), Err(BadHead::TooManyHeaders));
    let short = Limits { head_bytes: CURL.len() - 1, ..limits };
    assert_eq!(head.parse(CURL, &short), Err(BadHead::TooLarge));
    assert_eq!(head.parse(&CURL[..short.head_bytes], &short), Err(BadHead::TooLarge));
    assert_eq!(head.parse(&CURL[..short.head_bytes - 1], &short), Ok(None));
}

#[test]
fn no_configuration_lifts_the_limit_of_the_field_table() {
    let many = |count: usize| format!("GET / HTTP/1.0\r\n{}\r\n", "a: b\r\n".repeat(count)).into_bytes();
    let limits = Limits { head_bytes: usize::MAX, headers: usize::MAX };
    let mut head = RequestHead::default();
    for count in [31, 32, 33, 255, 256] {
        let bytes = many(count);
        assert_eq!(head.parse(&bytes, &limits), Ok(Some(bytes.len())), "{count} fields");
        assert_eq!(head.fields().len(), count);
    }
    assert_eq!(head.parse(&many(257), &limits), Err(BadHead::TooManyHeaders));
}

#[test]
fn errors_are_short_and_say_what_was_found() {
    let say = |error: BadHead| error.to_string();
    assert_eq!(say(BadHead::TooLarge), "a head with more bytes than the limit");
    assert_eq!(say(BadHead::TooManyHeaders), "a head with more fields than the limit");
    assert_eq!(say(BadHead::Framing("two Host fields")), "two Host fields");
}

#[test]
fn every_known_name_is_found_in_any_case() {
    #[rustfmt::skip]
    let names = [
        ("Host", Known::Host), ("Connection", Known::Connection), ("Content-Length", Known::ContentLength),
        ("Transfer-Encoding", Known::TransferEncoding), ("Upgrade", Known::Upgrade), ("Expect", Known::Expect),
        ("TE", Known::Te), ("Trailer", Known::Trailer), ("Keep-Alive", Known::KeepAlive),
        ("Proxy-Connection", Known::ProxyConnection), ("HTTP2-Settings", Known::Http2Settings),
        ("Authorization", Known::Authorization), ("Proxy-Authorization", Known::ProxyAuthorization),
        ("WWW-Authenticate", Known::WwwAuthenticate), ("Proxy-Authenticate", Known::ProxyAuthenticate),
        ("Retry-After", Known::RetryAfter), ("Date", Known::Date), ("Via", Known::Via),
        ("X-Request-Id", Known::XRequestId), ("Traceparent", Known::Traceparent),
        ("Tracestate", Known::Tracestate), ("B3", Known::B3), ("X-B3-TraceId", Known::XB3TraceId),
        ("X-B3-SpanId", Known::XB3SpanId), ("X-B3-ParentSpanId", Known::XB3ParentSpanId),
        ("X-B3-Sampled", Known::XB3Sampled), ("X-B3-Flags", Known::XB3Flags), ("Cookie", Known::Cookie),
        ("Grpc-Timeout", Known::GrpcTimeout), ("Content-Type", Known::ContentType),
    ];
    for (name, known) in names {
        for name in [name.to_owned(), name.to_ascii_lowercase(), name.to_ascii_uppercase()] {
            assert_eq!(Known::of(name.as_bytes()), known, "{name}");
        }
        assert_eq!(Known::of(format!("{name}s").as_bytes()), Known::Other);
    }
    assert_eq!(Known::of(b"hosT\0"), Known::Other);
    assert_eq!(Known::of(b""), Known::Other);
}

#[test]
fn a_head_is_copied_as_it_came_but_for_what_is_dropped() {
    let head = request(CURL);
    let copy = |drop: &dyn Fn(Known) -> bool| {
        let mut out = Vec::new();
        head.copy_without(&mut out, CURL, |field| drop(field.known));
        String::from_utf8(out).expect("the head is ASCII")
    };
    assert_eq!(copy(&|_| false).as_bytes(), &CURL[..CURL.len() - 2]);
    assert_eq!(copy(&|_| true), "POST /a/b?c=d HTTP/1.1\r\n");
    let expected = "POST /a/b?c=d HTTP/1.1\r\nHost: Example.Test:8080\r\nUser-Agent: curl/7.88.1\r\n\
        Accept: */*\r\nContent-Length: 3\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    let hop = |known| matches!(known, Known::Connection | Known::Upgrade | Known::Http2Settings);
    assert_eq!(copy(&hop), expected);
}

#[test]
fn a_repeated_length_is_forwarded_once() {
    for fields in ["Content-Length: 05\r\nA: b\r\ncontent-length: 5\r\n", "Content-Length: 5, 5\r\nA: b\r\n"]
    {
        let bytes = format!("HTTP/1.1 200 OK\r\n{fields}\r\n").into_bytes();
        let head = response(&bytes);
        let mut out = Vec::new();
        head.copy_without(&mut out, &bytes, |_| false);
        assert_eq!(String::from_utf8_lossy(&out), "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nA: b\r\n");
        out.clear();
        head.copy_without(&mut out, &bytes, |field| field.known == Known::ContentLength);
        assert_eq!(String::from_utf8_lossy(&out), "HTTP/1.1 200 OK\r\nA: b\r\n");
    }
}
