//! Heads that go through both versions of HTTP mean what they meant, as the strict reader of `wire` reads them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use dragoman_wire::http1::{Body, Field, Limits, RequestHead, ResponseHead, Version};
use http::{HeaderMap, Request};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::head::{
    ForApp, parse_trailers, request_from_http1, request_to_http1, response_from_http1, response_to_http1,
    write_trailers,
};

/// Values by lower-case name: what the order of fields may mean.
type Fields = BTreeMap<String, Vec<Vec<u8>>>;

fn original() -> SocketAddr {
    ([198, 18, 0, 2], 80).into()
}

fn fields_of(fields: &[Field], bytes: &[u8]) -> Fields {
    let mut out = Fields::new();
    for field in fields {
        let name = String::from_utf8_lossy(field.name.of(bytes)).to_ascii_lowercase();
        out.entry(name).or_default().push(field.value.of(bytes).to_vec());
    }
    out
}

fn parsed_request(bytes: &[u8]) -> RequestHead {
    let mut head = RequestHead::default();
    let length = head.parse(bytes, &Limits::default());
    assert_eq!(length, Ok(Some(bytes.len())), "{}", String::from_utf8_lossy(bytes));
    head
}

fn parsed_response(bytes: &[u8]) -> ResponseHead {
    let mut head = ResponseHead::default();
    let length = head.parse(bytes, &Limits::default());
    assert_eq!(length, Ok(Some(bytes.len())), "{}", String::from_utf8_lossy(bytes));
    head
}

/// Lines of fields that belong to the message: names in any case, some of them more than once.
fn field_lines() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    let name = select(vec!["X-A", "x-a", "X-B", "Set-Cookie", "Accept", "Cache-Control", "Trailer"]);
    let value = vec(prop_oneof![0x21..=0x7e_u8, 0x80..=0xff_u8, Just(b','), Just(b';')], 0..12);
    vec((name.prop_map(str::to_owned), value), 0..8)
}

/// Lines of the connection's own fields, and a field that they name.
fn connection_lines() -> impl Strategy<Value = &'static str> {
    select(vec![
        "",
        "Connection: keep-alive\r\nKeep-Alive: 5\r\n",
        "Connection: close, X-Mine\r\nX-Mine: 1\r\n",
        "Proxy-Connection: x\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\nConnection: Upgrade\r\n",
    ])
}

#[derive(Clone, Copy, Debug)]
enum Content {
    None,
    Length(u32),
    Chunked,
}

impl Content {
    fn line(self) -> String {
        match self {
            Self::None => String::new(),
            Self::Length(length) => format!("Content-Length: {length}, 0{length}\r\n"),
            Self::Chunked => "Transfer-Encoding: chunked\r\n".into(),
        }
    }
}

fn content() -> impl Strategy<Value = Content> {
    prop_oneof![Just(Content::None), any::<u32>().prop_map(Content::Length), Just(Content::Chunked)]
}

fn write_lines(out: &mut Vec<u8>, lines: &[(String, Vec<u8>)]) {
    for (name, value) in lines {
        out.extend([name.as_bytes(), b":\t", value, b" \r\n"].concat());
    }
}

/// What is left of fields that went through HTTP/2: all but those of the connection and of the framing.
fn kept(lines: &[(String, Vec<u8>)]) -> Fields {
    let mut out = Fields::new();
    for (name, value) in lines {
        out.entry(name.to_ascii_lowercase()).or_default().push(value.clone());
    }
    out
}

proptest! {
    #[test]
    fn a_request_through_http2_means_the_same(
        method in select(vec!["GET", "POST", "PUT", "OPTIONS", "M-SEARCH", "get"]),
        host in select(vec!["a.test", "A.test:8080", "[::1]:80", "a_b"]),
        absolute in any::<bool>(),
        path in "/[!-~&&[^#]]{0,20}",
        content in content(),
        connection in connection_lines(),
        lines in field_lines(),
    ) {
        let scheme = if absolute { format!("http://{host}") } else { String::new() };
        let mut bytes = format!("{method} {scheme}{path} HTTP/1.1\r\nHost: {host}\r\n{}{connection}", content.line())
            .into_bytes();
        write_lines(&mut bytes, &lines);
        bytes.extend(b"\r\n");
        let head = parsed_request(&bytes);
        let Ok(message) = request_from_http1(&head, &bytes, original()) else {
            // No URI (RFC 3986) may have them.
            prop_assert!(path.contains(['"', '<', '>', '\\', '^', '`', '{', '|', '}']), "{path}");
            return Ok(());
        };
        let (again, _) = request_to_http1(&message, !matches!(head.body(), Body::None | Body::Length(0))).unwrap();
        let read = parsed_request(&again);
        prop_assert_eq!(read.method(&again), method);
        prop_assert_eq!(read.target(&again), path.as_bytes());
        prop_assert_eq!(read.authority(&again), Some(host));
        let no_content = (head.body() == Body::None).then_some(Body::Length(0));
        prop_assert!(read.body() == head.body() || Some(read.body()) == no_content);
        prop_assert!(read.keeps_alive());
        let mut left = fields_of(read.fields(), &again);
        for of_framing in ["host", "content-length", "transfer-encoding"] {
            left.remove(of_framing);
        }
        prop_assert_eq!(left, kept(&lines));
    }

    #[test]
    fn a_response_through_http2_means_the_same(
        status in 100..=999_u16,
        content in content(),
        connection in connection_lines(),
        lines in field_lines(),
        to_head in any::<bool>(),
    ) {
        prop_assume!(status != 101);
        let mut bytes = format!("HTTP/1.1 {status} Reason\r\n{}{connection}", content.line()).into_bytes();
        write_lines(&mut bytes, &lines);
        bytes.extend(b"\r\n");
        let head = parsed_response(&bytes);
        let method = if to_head { "HEAD" } else { "GET" };
        let body = head.body_for(method);
        let message = response_from_http1(&head, &bytes).unwrap();
        let ended = matches!(body, Body::None | Body::Length(0));
        let about = ForApp { version: Version::Http11, keeps_alive: true, to_head };
        let (again, _, closes) = response_to_http1(&message, ended, about);
        let read = parsed_response(&again);
        prop_assert_eq!(read.status(), status);
        // What ended with the connection has an end of its own now.
        let expected = if body == Body::UntilClose { Body::Chunked } else { body };
        prop_assert_eq!(read.body_for(method), expected);
        prop_assert!(!closes && read.keeps_alive());
        let mut left = fields_of(read.fields(), &again);
        let length = left.remove("content-length");
        let states_none = status < 200 || status == 204;
        prop_assert!(!(states_none && (length.is_some() || left.contains_key("transfer-encoding"))));
        left.remove("transfer-encoding");
        prop_assert_eq!(left, kept(&lines));
    }

    #[test]
    fn an_http10_app_finds_the_end_of_every_response(
        status in 200..=599_u16,
        length in proptest::option::of(0..10_u32),
        keeps_alive in any::<bool>(),
        to_head in any::<bool>(),
    ) {
        let mut message = http::Response::builder().status(status);
        if let Some(length) = length {
            message = message.header("content-length", length);
        }
        let about = ForApp { version: Version::Http10, keeps_alive, to_head };
        let (bytes, _, closes) = response_to_http1(&message.body(()).unwrap(), false, about);
        let read = parsed_response(&bytes);
        let method = if to_head { "HEAD" } else { "GET" };
        prop_assert!(read.find(dragoman_wire::http1::Known::TransferEncoding).is_none());
        prop_assert_eq!(closes, !keeps_alive || read.body_for(method) == Body::UntilClose);
        prop_assert_eq!(read.connection().close, closes);
    }

    #[test]
    fn whatever_http2_brings_is_one_request_or_none(
        method in "[A-Za-z!#$%&'*+.^_`|~-]{1,70}",
        authority in prop_oneof![Just("a.test".to_owned()), "[a-z0-9.:@_%\\[\\]!-]{1,8}"],
        path in prop_oneof![Just("*".to_owned()), "[/?#][ -~\u{80}-\u{ff}]{0,6}"],
        fields in vec((
            select(vec!["host", "content-length", "cookie", "te", "expect", "x-a", "http2-settings"]),
            vec(prop_oneof![Just(b'\t'), 0x20..=0x7e_u8, 0x80..=0xff_u8], 0..6),
        ), 0..6),
        has_content in any::<bool>(),
    ) {
        let uri = http::Uri::builder().scheme("http").authority(authority.as_str()).path_and_query(path.as_str());
        let Ok(uri) = uri.build() else { return Ok(()) };
        let mut message = Request::builder().method(method.as_str()).uri(uri);
        for (name, value) in &fields {
            message = message.header(*name, value.as_slice());
        }
        let message = message.body(()).unwrap();
        let Ok((bytes, _)) = request_to_http1(&message, has_content) else { return Ok(()) };
        let read = parsed_request(&bytes);
        prop_assert_eq!(read.method(&bytes), method);
        prop_assert_eq!(read.target(&bytes), message.uri().path_and_query().unwrap().as_str().as_bytes());
        prop_assert_eq!(read.path(&bytes), message.uri().path());
        prop_assert_eq!(read.host(&bytes).unwrap_or_default(), message.uri().host().unwrap());
        prop_assert!(read.keeps_alive());
        let stated = message.headers().contains_key("content-length");
        match read.body() {
            Body::Length(_) => prop_assert!(stated || !has_content),
            Body::Chunked => prop_assert!(!stated && has_content),
            _ => prop_assert!(!stated && !has_content),
        }
    }

    #[test]
    fn trailers_through_http2_mean_the_same(lines in field_lines()) {
        let mut bytes = Vec::new();
        write_lines(&mut bytes, &lines);
        let trailers: HeaderMap = parse_trailers(&bytes).unwrap();
        let mut again = b"GET / HTTP/1.0\r\n".to_vec();
        write_trailers(&mut again, &trailers);
        again.extend(b"\r\n");
        prop_assert_eq!(fields_of(parsed_request(&again).fields(), &again), kept(&lines));
    }
}
