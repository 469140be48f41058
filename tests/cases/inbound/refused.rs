//! Clients that may not connect: the app never hears of them, and both sides have a cause.

use std::io::Write;

use dragoman_harness::origin::{Reply, echo};
use dragoman_harness::pki::{Pki, Spec};
use dragoman_harness::{Net, Origin, Peer};
use rustls::version::{TLS12, TLS13};

use crate::{Rig, VERSIONS, WEB, client_of, connect, handshakes, read, told};

/// An app that must not be reached.
fn app(net: &Net) -> Origin {
    Origin::http(&net.app, "[::]:8080".parse().unwrap(), |_, _| Reply::status(200, "never"))
}

#[test]
fn cause_client_no_certificate_is_told_to_both() {
    let rig = Rig::new();
    let app = app(&rig.net);
    let dragoman = rig.start(&rig.inbound(""));
    for (n, version) in VERSIONS.into_iter().enumerate() {
        let said = told(connect(&rig.net.servers, rig.client(None, version), Rig::app(8080)));
        assert!(said.contains("alert"), "{version:?}: {said}");
        let records = dragoman.records_where(n + 1, |record| record["cause"] == "client_no_certificate");
        assert_eq!((&records[n]["who"], &records[n]["direction"]), (&"app".into(), &"inbound".into()));
    }
    assert!(app.seen().is_empty(), "the app was reached");
    assert_eq!(dragoman.settle().sum("dragoman_flows_total", &[("cause", "client_no_certificate")]), 2);
    assert_eq!(handshakes(&dragoman), [0, 0, 2]);
}

#[test]
fn cause_client_not_trusted_says_why_and_when() {
    let rig = Rig::new();
    let app = app(&rig.net);
    let revoked = rig.pki.issue(&Spec::uri(WEB));
    let list = rig.pki.crl(&[&revoked]);
    let dragoman = rig.start(&rig.inbound(&format!("crls = ['{}']", list.display())));
    let cases = [
        (rig.pki.issue(&Spec::uri(WEB).expired()), &["expired", "now ", "notBefore ", "notAfter "][..]),
        (rig.pki.issue(&Spec::uri(WEB).not_yet_valid()), &["not yet valid", "now ", "notBefore "]),
        (Pki::new().issue(&Spec::uri(WEB)), &["trusted"]),
        (revoked, &["revoked"]),
        (rig.pki.issue(&Spec::uri(WEB).and_uri("spiffe://shop.test/admin")), &["more than one URI"]),
        (
            rig.pki.issue(&Spec::uri(WEB).only_for(dragoman_harness::pki::Usage::Server)),
            &["not for this use"],
        ),
    ];
    let mut count = 0;
    for (client, words) in &cases {
        for version in VERSIONS {
            let said = told(connect(&rig.net.servers, rig.client(Some(client), version), Rig::app(8080)));
            assert!(said.contains("alert"), "{words:?}: {said}");
            count += 1;
            let records = dragoman.records_where(count, |record| record["cause"] == "client_not_trusted");
            let detail = records[count - 1]["detail"].as_str().unwrap_or_default();
            assert!(words.iter().all(|word| detail.contains(word)), "{words:?}: {detail}");
        }
    }
    assert!(app.seen().is_empty(), "the app was reached");
}

#[test]
fn cause_client_not_allowed_says_who_it_was_and_follows_the_configuration() {
    let rig = Rig::new();
    let app = app(&rig.net);
    let _other = Origin::http(&rig.net.app, "[::]:8081".parse().unwrap(), |_, _| Reply::status(200, "any"));
    let allow = |who: &str| rig.inbound(&format!("allow = ['{who}']\n[inbound.app_port.8081]\nallow = []"));
    let dragoman = rig.start(&allow("spiffe://shop.test/admin/*"));
    for (n, version) in VERSIONS.into_iter().enumerate() {
        let config = rig.client(Some(&rig.web), version);
        let said = told(connect(&rig.net.servers, config.clone(), Rig::app(8080)));
        assert!(said.contains("alert"), "{said}");
        let records = dragoman.records_where(n + 1, |record| record["cause"] == "client_not_allowed");
        assert_eq!(
            records[n]["detail"],
            format!("the client is {WEB}, and allowed is `spiffe://shop.test/admin/*`")
        );
        let mut client = connect(&rig.net.servers, config, Rig::app(8081));
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(read(&mut client, 12), b"HTTP/1.1 200", "that port has rules of its own");
    }
    assert!(app.seen().is_empty(), "the app was reached");
    // What a client has agreed on before does not outlive the rules under which it was.
    let config = rig.client(Some(&rig.web), &TLS13);
    for who in ["dns:web.test", "spiffe://shop.test/*"] {
        dragoman.reload(&allow(who));
        let mut client = connect(&rig.net.servers, config.clone(), Rig::app(8080));
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(read(&mut client, 12), b"HTTP/1.1 200");
    }
    dragoman.reload(&allow("dns:other.test"));
    told(connect(&rig.net.servers, config, Rig::app(8080)));
    dragoman.records_where(3, |record| record["cause"] == "client_not_allowed");
}

#[test]
fn cause_client_not_tls_is_a_reset_that_the_app_never_sees() {
    let rig = Rig::new();
    let app = app(&rig.net);
    let dragoman = rig.start(&rig.inbound(""));
    for address in [Rig::app(8080), Rig::app_v6(8080)] {
        for first in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\u{15}", "x"] {
            assert_eq!(rig.net.servers.knock(address, first.as_bytes()), (Vec::new(), true), "{first:?}");
        }
    }
    assert!(app.seen().is_empty(), "the app was reached");
    assert_eq!(dragoman.settle().sum("dragoman_flows_total", &[("cause", "client_not_tls")]), 6);
    assert_eq!(handshakes(&dragoman), [0; 3], "who speaks no TLS has begun none");
}

#[test]
fn cause_client_tls_failed_for_what_only_begins_like_tls() {
    let rig = Rig::new();
    let app = app(&rig.net);
    let dragoman = rig.start(&rig.inbound("min_version = '1.3'"));
    let mut clients: Vec<Peer> = Vec::new();
    for garbage in
        [&b"\x16nonsense that is not a record at all"[..], b"\x16\x03\x01\x00\x05hello", b"\x16\x03\x01"]
    {
        let mut client = rig.net.servers.connect(Rig::app(8080));
        client.send(garbage).unwrap();
        client.finish_sending().unwrap();
        client.read_to_reset().unwrap();
        clients.push(client);
    }
    let said = told(connect(&rig.net.servers, rig.client(Some(&rig.web), &TLS12), Rig::app(8080)));
    assert!(said.contains("ProtocolVersion"), "{said}");
    // A client that does not trust us tells why.
    let config = client_of(&[&Pki::new().intermediate()], Some(&rig.web), &TLS13);
    let said = told(connect(&rig.net.servers, config, Rig::app(8080)));
    assert!(said.contains("UnknownIssuer"), "{said}");
    let records = dragoman.records_where(5, |record| record["cause"] == "client_tls_failed");
    assert!(
        records.iter().any(|record| record["detail"].as_str().unwrap_or_default().contains("unknown_ca")),
        "{records:#?}"
    );
    assert!(app.seen().is_empty(), "the app was reached");
}

/// A close with bytes of it unread would be a reset, and then why may never be heard.
#[test]
fn a_client_that_goes_on_after_it_was_refused_hears_why() {
    let rig = Rig::new();
    let dragoman = rig.start(&rig.inbound("min_version = '1.3'"));
    let mut client = connect(&rig.net.servers, rig.client(Some(&rig.web), &TLS12), Rig::app(8080));
    let mut said = Vec::new();
    client.conn.write_tls(&mut said).unwrap();
    said.resize(50_000, 0);
    client.sock.write_all(&said).unwrap();
    dragoman.record_of("client_tls_failed");
    let mut client = Peer::new(client.sock);
    rig.net.servers.enter(|| client.wait_acknowledged());
    client.finish_sending().unwrap();
    let (alert, reset) = client.read_to_reset().unwrap();
    assert_eq!((alert.first(), reset), (Some(&21), false), "{alert:?}");
    assert!(client.stream().take_error().unwrap().is_none(), "a reset behind it");
}

#[test]
fn a_client_that_stalls_in_the_handshake_has_the_time_of_a_request_head() {
    let rig = Rig::new();
    let app = app(&rig.net);
    let dragoman = rig.start(&format!("[proxy]\nrequest_head_timeout = '1s'\n{}", rig.inbound("")));
    let mut clients: Vec<_> = [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00"]
        .iter()
        .map(|first| {
            let mut client = rig.net.servers.connect(Rig::app(8080));
            client.send(first).unwrap();
            client
        })
        .collect();
    let records = dragoman.records_where(3, |record| record["cause"] == "request_timeout");
    assert!(records.iter().all(|record| record["direction"] == "inbound"));
    clients.iter_mut().for_each(|client| assert_eq!(client.read_to_reset().unwrap().0, b""));
    assert!(app.seen().is_empty(), "the app was reached");
}

/// It would be a loop.
#[test]
fn a_connection_to_the_inbound_port_itself_is_refused() {
    let rig = Rig::new();
    let dragoman = rig.start(&rig.inbound(""));
    for address in [Rig::app(15006), Rig::app_v6(15006)] {
        let (said, reset) = rig.net.servers.knock(address, b"\x16\x03\x01");
        assert_eq!((said, reset), (Vec::new(), true), "{address}");
    }
    let own = dragoman.records_where(2, |record| record["cause"] == "own_listener");
    assert!(own.iter().all(|record| record["direction"] == "inbound"), "{own:#?}");
}

/// Who has agreed to speak HTTP, or has to, does not get past the header by speaking something else at first.
#[test]
fn what_is_to_be_http_is_never_passed_on_as_mere_bytes() {
    let rig = Rig::new();
    let app = Origin::tcp(&rig.net.app, "[::]:8080".parse().unwrap(), echo);
    let dragoman = rig.start(&rig.inbound("[inbound.app_port.8080]\nprotocol = 'http'"));
    for protocol in [None, Some("http/1.1"), Some("h2")] {
        let mut config = rig.client(Some(&rig.web), &TLS13);
        config.alpn_protocols = protocol.into_iter().map(|name| name.as_bytes().to_vec()).collect();
        let mut client = connect(&rig.net.servers, config, Rig::app(8080));
        client
            .write_all(b"\x00\x01\x02\r\nGET / HTTP/1.1\r\nx-forwarded-client-cert: URI=me\r\n\r\n")
            .unwrap();
        let mut rest = Vec::new();
        let _ = std::io::Read::read_to_end(&mut client, &mut rest);
        assert_eq!(rest, b"", "{protocol:?}");
    }
    let records = dragoman.records_where(3, |record| record["cause"] == "unexpected_protocol");
    assert_eq!(records.len(), 3);
    assert!(app.seen().iter().all(|seen| seen.text().is_empty()), "bytes of it reached the app");
}
