//! HTTP/2 apps and HTTP/1 servers of ill will: no message becomes another one on its way.

use dragoman_harness::http2::{End, Wire, request};
use dragoman_harness::net::server;
use dragoman_harness::origin::{Reply, response};
use dragoman_harness::{Dragoman, Net, Origin};

use crate::TO_HTTP1;

fn client(net: &Net) -> Wire {
    Wire::client(net.app.connect(server(80)), &[]).unwrap()
}

fn ok(net: &Net) -> Origin {
    Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"))
}

#[test]
fn heads_that_http1_readers_could_read_in_two_ways_reach_no_server() {
    let net = Net::new();
    let origin = ok(&net);
    let policy = "[defaults]\nupstream_protocol = 'http1'\nbreaker = { failures = 3 }\n";
    let dragoman = Dragoman::start(&net, policy);
    let mut client = client(&net);
    let (method, scheme) = ((":method", "GET"), (":scheme", "http"));
    let (authority, path) = ((":authority", "a.test"), (":path", "/"));
    let long = "M".repeat(65);
    let heads: &[&[(&str, &str)]] = &[
        &[method, scheme, (":authority", "user:word@a.test"), path],
        &[method, scheme, (":authority", "b.test@a.test"), path],
        &[method, scheme, (":authority", "a.test:x"), path],
        &[method, scheme, authority, (":path", "?q")],
        &[method, scheme, path],
        &[method, scheme, path, ("host", "a b")],
        &[method, scheme, authority, path, ("content-length", "")],
        &[(":method", &long), scheme, authority, path],
    ];
    for (n, head) in heads.iter().enumerate() {
        let stream = 2 * n as u32 + 1;
        client.fields(stream, head, true).unwrap();
        let answer = client.response(stream).unwrap();
        assert_eq!(
            (answer.status(), answer.field("x-dragoman-cause")),
            (400, Some("bad_request")),
            "{head:?}"
        );
    }
    // None of it is the server's fault.
    client.get(101, "/").unwrap();
    assert_eq!(client.response(101).unwrap().status(), 200);
    assert_eq!(origin.requests().len(), 1);
    drop(client);
    dragoman.records_where(heads.len(), |record| record["cause"] == "bad_request");
}

#[test]
fn heads_that_break_http2_itself_end_their_streams_alone() {
    let net = Net::new();
    let origin = ok(&net);
    let _dragoman = Dragoman::start(&net, TO_HTTP1);
    let mut client = client(&net);
    let extra: &[(&str, &str)] = &[
        ("x-split", "a\r\nx-other: b"),
        ("x-lf", "a\nb"),
        ("x-nul", "a\0b"),
        ("x name", "a"),
        ("x:name", "a"),
        ("X-Case", "a"),
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("content-length", "+0"),
        ("content-length", "1"),
        ("content-length", "0, 0"),
    ];
    let paths = ["/a b", "/a\r\nx: y", "/a\tb", "http://a.test/", "//\0", "", "a", "**"];
    let mut heads: Vec<Vec<(&str, &str)>> = Vec::new();
    heads.extend(extra.iter().map(|field| [&request("GET", "/")[..], &[*field]].concat()));
    heads.extend(paths.iter().map(|path| request("GET", path).to_vec()));
    heads.extend(["GET /x HTTP/1.1\r\nx:", "", "G\nET"].map(|method| request(method, "/").to_vec()));
    for (n, head) in heads.iter().enumerate() {
        let stream = 2 * n as u32 + 1;
        let mut client = self::client(&net);
        client.fields(stream, head, true).unwrap();
        let ended = client.response(stream);
        assert!(ended.is_err() || ended.unwrap().status() != 200, "{head:?}");
    }
    client.get(1, "/").unwrap();
    assert_eq!(client.response(1).unwrap().status(), 200);
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn a_length_is_stated_once_and_content_that_does_not_match_it_is_never_a_whole_request() {
    let net = Net::new();
    let origin = ok(&net);
    let _dragoman = Dragoman::start(&net, TO_HTTP1);
    let mut client = client(&net);
    let with = |lengths: &[&'static str]| {
        let mut fields = request("POST", "/").to_vec();
        fields.extend(lengths.iter().map(|length| ("content-length", *length)));
        fields
    };
    client.fields(1, &with(&["5", "05"]), false).unwrap();
    client.data(1, b"hello", true).unwrap();
    assert_eq!(client.response(1).unwrap().status(), 200);
    let head = origin.requests()[0].head.clone();
    assert_eq!(head.matches("content-length").count(), 1, "{head}");
    assert!(head.contains("\r\ncontent-length: 5\r\n") && !head.contains("transfer-encoding"), "{head}");
    for (stream, length, body) in [(3, "5", &b"hell"[..]), (5, "5", b"hello!")] {
        client.fields(stream, &with(&[length]), false).unwrap();
        client.data(stream, body, true).unwrap();
        assert!(matches!(client.response(stream).unwrap().end, End::Reset(_)), "{length} {body:?}");
    }
    client.fields(9, &with(&["5", "6"]), false).unwrap();
    assert!(matches!(client.response(9).unwrap().end, End::Reset(_)));
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn trailers_cannot_change_the_message_before_them() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |_, _| {
        Reply::Send(
            b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\nTE: x\r\n\r\n".to_vec(),
        )
    });
    let _dragoman = Dragoman::start(&net, TO_HTTP1);
    let mut client = client(&net);
    client.fields(1, &request("POST", "/"), false).unwrap();
    client.data(1, b"body", false).unwrap();
    client.fields(1, &[("content-length", "9"), ("host", "b.test"), ("x-sum", "1")], true).unwrap();
    let answer = client.response(1).unwrap();
    assert_eq!(answer.trailers, [("x-sum".to_owned(), "1".to_owned())]);
    let raw = origin.connection(0).text();
    assert!(raw.ends_with("\r\n\r\n4\r\nbody\r\n0\r\nx-sum: 1\r\n\r\n"), "{raw}");
}

#[test]
fn h12_a_connection_that_somebody_logged_in_on_is_nobody_elses() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |request, _| match request.word(1) {
        "/challenge" => {
            Reply::Send(b"HTTP/1.1 401 X\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n".to_vec())
        }
        _ => Reply::status(200, "ok"),
    });
    let _dragoman = Dragoman::start(&net, TO_HTTP1);
    let mut client = client(&net);
    let mut login = request("GET", "/login").to_vec();
    login.push(("authorization", "Negotiate abc"));
    client.fields(1, &login, true).unwrap();
    assert_eq!(client.response(1).unwrap().status(), 200);
    client.get(3, "/challenge").unwrap();
    assert_eq!(client.response(3).unwrap().status(), 401);
    for n in 0..4 {
        client.get(5 + 2 * n, "/").unwrap();
        assert_eq!(client.response(5 + 2 * n).unwrap().status(), 200);
    }
    for seen in origin.seen() {
        let text = seen.text();
        let requests = text.matches("HTTP/1.1\r\n").count();
        let bound = text.contains("Negotiate") || text.contains("/challenge");
        assert!(!bound || requests == 1, "shared after a login: {text}");
    }
}

#[test]
fn a_request_without_content_is_the_same_bytes_each_time() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |_, n| match n {
        0 | 2 => Reply::status(503, "later"),
        _ => Reply::status(200, "done"),
    });
    let policy = "[defaults]\nupstream_protocol = 'http1'\nretry = { base = '1ms', methods = ['PUT'] }\n";
    let _dragoman = Dragoman::start(&net, policy);
    let mut client = client(&net);
    // The end comes apart from the head, and from nothing.
    client.fields(1, &request("PUT", "/apart"), false).unwrap();
    client.round_trip().unwrap();
    client.data(1, b"", true).unwrap();
    assert_eq!(client.response(1).unwrap().status(), 200);
    client.fields(3, &request("PUT", "/with"), true).unwrap();
    assert_eq!(client.response(3).unwrap().status(), 200);
    let all = origin.requests();
    for both in all.chunks(2) {
        assert_eq!((&both[0].head, &both[0].body), (&both[1].head, &both[1].body));
    }
    assert!(all[0].head.contains("transfer-encoding: chunked") && all[2].head.contains("content-length: 0"));
}

#[test]
fn heads_of_answers_that_http2_has_no_place_for_lose_only_that() {
    let net = Net::new();
    let _origin = Origin::http(&net.servers, server(80), |request, _| {
        Reply::Send(match request.word(1) {
            "/204" => b"HTTP/1.1 204 X\r\nContent-Length: 5\r\n\r\n".to_vec(),
            "/103" => ["HTTP/1.1 103 X\r\nContent-Length: 5\r\nLink: </x>\r\n\r\n", &response(200, "ok")]
                .concat()
                .into_bytes(),
            "/two" => b"HTTP/1.1 200 X\r\nContent-Length: 2, 2\r\nContent-Length: 02\r\n\r\nok".to_vec(),
            "/zeros" => b"HTTP/1.1 200 X\r\nContent-Length: 0000000000000000000000002\r\n\r\nok".to_vec(),
            "/latin" => b"HTTP/1.1 200 X\r\nX-Name: caf\xe9\r\nContent-Length: 2\r\n\r\nok".to_vec(),
            _ => b"HTTP/1.1 999 X\r\nContent-Length: 2\r\n\r\nok".to_vec(),
        })
    });
    let _dragoman = Dragoman::start(&net, TO_HTTP1);
    let mut client = client(&net);
    client.get(1, "/204").unwrap();
    let answer = client.response(1).unwrap();
    assert_eq!((answer.status(), answer.field("content-length")), (204, None));
    client.get(3, "/103").unwrap();
    let answer = client.response(3).unwrap();
    assert_eq!(answer.interim[0], [(":status".into(), "103".into()), ("link".into(), "</x>".into())]);
    for (stream, path) in [(5, "/two"), (7, "/zeros")] {
        client.get(stream, path).unwrap();
        let answer = client.response(stream).unwrap();
        let lengths: Vec<_> = answer.fields.iter().filter(|(name, _)| name == "content-length").collect();
        assert_eq!(
            (lengths.len(), lengths[0].1.as_str(), answer.body.as_slice()),
            (1, "2", &b"ok"[..]),
            "{path}"
        );
    }
    client.get(9, "/latin").unwrap();
    assert_eq!(client.response(9).unwrap().field("x-name"), Some("caf\u{e9}"));
    client.get(11, "/999").unwrap();
    let answer = client.response(11).unwrap();
    assert_eq!((answer.status(), answer.end), (999, End::Whole));
}
