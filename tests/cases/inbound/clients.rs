//! Clients that may connect: what the app gets of them.

use std::io::{Read, Write};
use std::process::Command;

use dragoman_harness::http2::Http2Origin;
use dragoman_harness::origin::{Reply, Seen, echo};
use dragoman_harness::pki::Issued;
use dragoman_harness::{Origin, process};

use crate::{PAY, Rig, Tls, VERSIONS, WEB, connect, handshakes, read};

/// What the app is told of this client.
fn forwarded(client: &Issued) -> String {
    let sum = process::succeed(Command::new("sh").args([
        "-c",
        &format!(
            "openssl x509 -outform DER -in '{}' | sha256sum | cut -d' ' -f1",
            client.certificate.display()
        ),
    ]));
    format!("By={PAY};Hash={};URI={WEB};DNS=web.test", sum.trim())
}

/// Says that nothing more comes of the client.
fn finish(client: &mut Tls) {
    client.conn.send_close_notify();
    client.flush().unwrap();
}

#[test]
fn an_app_that_speaks_http1_is_told_who_asks() {
    let rig = Rig::new();
    let app = Origin::http(&rig.net.app, "[::]:8080".parse().unwrap(), |_, _| Reply::status(200, "hello"));
    let dragoman = rig.start(&rig.inbound(&format!("allow = ['{WEB}']")));
    let mut curl = rig.curl(&rig.web);
    assert_eq!(process::succeed(curl.arg("https://pay.test:8080/a?b=c")), "hello");

    let request = &app.requests()[0];
    assert_eq!(request.header("x-forwarded-client-cert"), Some(&*forwarded(&rig.web)));
    assert_eq!((request.word(1), request.header("host")), ("/a?b=c", Some("pay.test:8080")));
    dragoman.settle();
    let flow = dragoman.records_where(1, |record| record["kind"] == "flow").remove(0);
    assert_eq!(
        (&flow["direction"], &flow["client"], &flow["cause"]),
        (&"inbound".into(), &WEB.into(), &().into())
    );
    assert_eq!((&flow["original_dst"], &flow["destination"]), (&"198.18.0.1:8080".into(), &"inbound".into()));
    let exchange = dragoman.records_where(1, |record| record["kind"] == "exchange").remove(0);
    assert_eq!((&exchange["direction"], &exchange["path"]), (&"inbound".into(), &"/a".into()));
}

/// In whatever way it is written: some servers cannot tell `_` from `-`.
#[test]
fn what_a_client_says_of_itself_does_not_reach_the_app() {
    let rig = Rig::new();
    let app = Origin::http(&rig.net.app, "[::]:8080".parse().unwrap(), |_, _| Reply::status(200, "hello"));
    let _dragoman = rig.start(&rig.inbound(""));
    let mut curl = rig.curl(&rig.web);
    for name in [
        "x-forwarded-client-cert",
        "X-Forwarded-Client-CERT",
        "x_forwarded_client_cert",
        "X-Forwarded_Client-Cert",
    ] {
        curl.args(["-H", &format!("{name}: By=me;Hash=0;URI=spiffe://shop.test/admin")]);
    }
    process::succeed(curl.arg("https://pay.test:8080/"));
    let request = app.connection(0).text();
    assert_eq!(request.to_lowercase().matches("client").count(), 1, "{request}");
    assert!(request.contains(&format!("x-forwarded-client-cert: {}\r\n", forwarded(&rig.web))), "{request}");
    assert!(!request.contains("admin"), "{request}");
}

/// Many an app answers CONNECT as any other request, and takes what follows for the next one: after it nobody would look
/// at the headers.
#[test]
fn a_tunnel_is_no_way_past_the_header() {
    let rig = Rig::new();
    let app = Origin::http(&rig.net.app, "[::]:8080".parse().unwrap(), |_, _| Reply::status(200, "hello"));
    let dragoman = rig.start(&rig.inbound("[inbound.app_port.8080]\nprotocol = 'http'"));
    let mut client = connect(&rig.net.servers, rig.client(Some(&rig.web), VERSIONS[1]), Rig::app(8080));
    let next = "GET /next HTTP/1.1\r\nHost: pay.test\r\nx-forwarded-client-cert: URI=spiffe://shop.test/admin\r\n\r\n";
    let tunnel = "CONNECT pay.test:8080 HTTP/1.1\r\nHost: pay.test:8080\r\n\r\n";
    client.write_all(format!("{tunnel}{next}").as_bytes()).unwrap();
    finish(&mut client);
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer);
    drop(client);
    dragoman.settle();
    let seen: String = app.seen().iter().map(Seen::text).collect();
    assert!(!seen.contains("admin"), "{seen}");
    assert!(
        answer.starts_with(b"HTTP/1.1 4") || answer.starts_with(b"HTTP/1.1 5"),
        "{}",
        answer.escape_ascii()
    );
}

#[test]
fn an_app_that_speaks_http2_is_told_who_asks() {
    let rig = Rig::new();
    let app = Http2Origin::start(&rig.net.app, "[::]:8080".parse().unwrap(), |wire, request, _| {
        wire.respond(request.stream, "200", b"hello from http2")
    });
    let dragoman = rig.start(&rig.inbound(&format!("allow = ['{WEB}']")));
    let mut nghttp = rig.net.servers.bounded("nghttp");
    nghttp.arg("--cert").arg(&rig.web.certificate).arg("--key").arg(&rig.web.key);
    nghttp.args(["-H", "x-forwarded-client-cert: URI=spiffe://shop.test/admin"]);
    let said = process::succeed(nghttp.arg("https://198.18.0.1:8080/x"));
    assert_eq!(said, "hello from http2");
    let requests = app.requests();
    let values: Vec<_> = requests[0]
        .fields
        .iter()
        .filter(|(name, _)| name == "x-forwarded-client-cert")
        .map(|(_, value)| value.clone())
        .collect();
    assert_eq!(values, [forwarded(&rig.web)]);
    dragoman.settle();
    let flow = dragoman.records_where(1, |record| record["kind"] == "flow").remove(0);
    assert_eq!((&flow["protocol"], &flow["cause"]), (&"http2".into(), &().into()));
}

#[test]
fn bytes_of_any_kind_reach_the_app_as_they_are() {
    let rig = Rig::new();
    let _echo = Origin::tcp(&rig.net.app, "[::]:7000".parse().unwrap(), echo);
    let _greets = Origin::tcp(&rig.net.app, "[::]:7001".parse().unwrap(), |mut peer| {
        peer.send(b"220 at your service\r\n")?;
        let rest = peer.read_to_end()?;
        peer.send(rest)
    });
    let dragoman = rig.start(&rig.inbound(""));
    for version in VERSIONS {
        for app in [Rig::app(7000), Rig::app_v6(7000)] {
            let mut client = connect(&rig.net.servers, rig.client(Some(&rig.web), version), app);
            // More than a record, and more than one side's socket takes at once.
            let many: Vec<u8> = (0..200_000_u32).flat_map(u32::to_be_bytes).collect();
            client.write_all(b"\x00\x01ping\r\n").unwrap();
            assert_eq!(read(&mut client, 8), b"\x00\x01ping\r\n");
            for part in many.chunks(50_000) {
                client.write_all(part).unwrap();
                assert!(read(&mut client, part.len()) == part);
            }
            finish(&mut client);
            assert_eq!(client.read_to_end(&mut Vec::new()).unwrap(), 0);
        }
        let mut client = connect(&rig.net.servers, rig.client(Some(&rig.web), version), Rig::app(7001));
        assert_eq!(read(&mut client, 21), b"220 at your service\r\n");
        client.write_all(b"HELO a\r\n").unwrap();
        finish(&mut client);
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"HELO a\r\n", "our end is passed on, and the other direction goes on");
    }
    dragoman.settle();
    let flows = dragoman.records_where(6, |record| record["kind"] == "flow");
    assert!(flows.iter().all(|flow| flow["cause"].is_null() && flow["client"] == WEB), "{flows:#?}");
}

/// A later connection goes on with what the first one agreed, and the app is told the same.
#[test]
fn a_client_that_resumes_is_known_again() {
    let rig = Rig::new();
    let app = Origin::http(&rig.net.app, "[::]:8080".parse().unwrap(), |_, _| Reply::status(200, "hello"));
    let dragoman = rig.start(&rig.inbound(&format!("allow = ['{WEB}']")));
    for version in VERSIONS {
        let config = rig.client(Some(&rig.web), version);
        let kinds: Vec<_> = (0..3)
            .map(|_| {
                let mut client = connect(&rig.net.servers, config.clone(), Rig::app(8080));
                client.write_all(b"GET / HTTP/1.1\r\nHost: pay.test\r\nConnection: close\r\n\r\n").unwrap();
                client.read_to_end(&mut Vec::new()).unwrap();
                finish(&mut client);
                client.conn.handshake_kind()
            })
            .collect();
        use rustls::HandshakeKind::{Full, Resumed};
        assert_eq!(kinds, [Some(Full), Some(Resumed), Some(Resumed)], "{version:?}");
    }
    let told: Vec<_> = app
        .requests()
        .iter()
        .map(|request| request.header("x-forwarded-client-cert").map(str::to_owned))
        .collect();
    assert_eq!(told, vec![Some(forwarded(&rig.web)); 6]);
    assert_eq!(handshakes(&dragoman), [2, 4, 0]);
    let took = dragoman.metrics().sum("dragoman_tls_handshake_seconds_count", &[("destination", "inbound")]);
    assert_eq!(took, 6);
}
