//! Real servers, whose clients know nothing of TLS.

use std::process::Output;

use dragoman_harness::net::server;
use dragoman_harness::pki::{Issued, Pki, Spec};
use dragoman_harness::{Dragoman, Net, process, servers};

use crate::matrix::{NAME, PATIENT, quoted};

/// A server's certificate, a client's, and who has signed each.
struct Ground {
    net: Net,
    pki: Pki,
    clients: Pki,
    server: Issued,
    client: Issued,
}

impl Ground {
    fn new() -> Ground {
        let (pki, clients) = (Pki::new(), Pki::new());
        let server = pki.intermediate().issue(&Spec::dns(NAME));
        let client = clients.issue(&Spec::uri("spiffe://shop.test/app"));
        Ground { net: Net::new(), pki, clients, server, client }
    }

    /// dragoman with TLS to port 443 for whatever the app does, and these further keys of `tls`.
    fn dragoman(&self, more: &str) -> Dragoman<'_> {
        let roots = quoted(self.pki.roots());
        let tls = format!("tls = {{ port = 443, server_name = {NAME:?}, roots = [{roots}]{more} }}\n");
        Dragoman::start(
            &self.net,
            &format!("[destination.shop]\ncidrs = [\"198.18.0.2/32\"]\n{PATIENT}{tls}"),
        )
    }

    /// The key of `tls` by which the client shows its certificate.
    fn identity(&self) -> String {
        let (certificate, key) = (quoted(&self.client.certificate), quoted(&self.client.key));
        format!(", identity = {{ certificate = {certificate}, key = {key} }}")
    }

    /// What curl gets from the app's side, in plain HTTP.
    fn curl(&self, more: &[&str]) -> String {
        let mut curl = self.net.app.bounded("curl");
        curl.args(["-sS", "--resolve", "shop.test:80:198.18.0.2"]).args(more).arg("http://shop.test/");
        process::succeed(&mut curl)
    }

    fn redis(&self, arguments: &[&str]) -> Output {
        let mut redis = self.net.app.bounded("redis-cli");
        process::output(redis.args(["-h", "198.18.0.2", "-p", "6379"]).args(arguments))
    }
}

const HTTP2: &[&str] = &["--http2-prior-knowledge"];

#[test]
fn t1_nginx_that_demands_a_certificate_gets_it() {
    let ground = Ground::new();
    let _nginx = servers::nginx_with_tls(&ground.net.servers, &ground.server, Some(&ground.clients));
    let _dragoman = ground.dragoman(&ground.identity());
    let expected = |protocol| format!("client: {}; over: {protocol}", ground.client.serial);
    assert_eq!(ground.curl(&[]), expected("HTTP/1.1"));
    assert_eq!(ground.curl(HTTP2), expected("HTTP/2.0"));
}

#[test]
fn nginx_that_demands_a_certificate_says_so_in_its_own_words() {
    let ground = Ground::new();
    let _nginx = servers::nginx_with_tls(&ground.net.servers, &ground.server, Some(&ground.clients));
    let dragoman = ground.dragoman("");
    for way in [&[][..], HTTP2] {
        assert!(ground.curl(way).contains("No required SSL certificate was sent"));
    }
    assert!(
        dragoman.records_where(2, |record| record["kind"] == "exchange").iter().all(|r| r["status"] == 400)
    );
}

#[test]
fn openssl_that_speaks_only_what_is_odd() {
    let odd: &[&[&str]] = &[
        &["-tls1_2", "-no_ticket", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"],
        &["-tls1_3", "-num_tickets", "0", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"],
        // No key share for this one is in the first ClientHello: the server asks for another.
        &["-tls1_3", "-groups", "P-384"],
        &["-tls1_3", "-max_send_frag", "512"],
    ];
    for arguments in odd {
        let ground = Ground::new();
        let arguments = [arguments, &["-rev", "-quiet"][..]].concat();
        let clients = Some(&ground.clients);
        let _server = servers::s_server(&ground.net.servers, &ground.server, clients, &arguments);
        let dragoman = ground.dragoman(&ground.identity());
        let mut peer = ground.net.app.connect(server(9));
        for word in ["desserts\n", "stressed\n"] {
            peer.send(word).unwrap();
            let backwards: String = word.trim_end().chars().rev().chain("\n".chars()).collect();
            let answer =
                peer.read_until(b"\n").unwrap_or_else(|e| panic!("{arguments:?}: {e}\n{}", dragoman.log()));
            assert_eq!(answer, backwards.as_bytes(), "{arguments:?}");
        }
    }
}

#[test]
fn openssl_that_refuses_the_client() {
    for version in ["-tls1_2", "-tls1_3"] {
        let ground = Ground::new();
        let arguments = [version, "-rev", "-quiet"];
        let clients = Some(&ground.pki);
        let server_ = servers::s_server(&ground.net.servers, &ground.server, clients, &arguments);
        let dragoman = ground.dragoman(&ground.identity());
        assert_eq!(ground.net.app.knock(server(9), b"desserts\n"), (Vec::new(), true), "{version}");
        let record = dragoman.record_of("tls_client_certificate_refused");
        assert!(record["detail"].as_str().is_some_and(|text| !text.is_empty()), "{record}");
        assert!(!server_.log().contains("desserts"), "{}", server_.log());
    }
}

#[test]
fn cause_tls_version_of_a_server_from_long_ago() {
    for version in ["-tls1", "-tls1_1"] {
        let ground = Ground::new();
        let arguments = [version, "-cipher", "DEFAULT@SECLEVEL=0", "-www", "-quiet"];
        let _server = servers::s_server(&ground.net.servers, &ground.server, None, &arguments);
        let dragoman = ground.dragoman("");
        let answer =
            ground.net.app.connect(server(80)).exchange("GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n").unwrap();
        assert_eq!(
            (answer.status(), answer.header("x-dragoman-cause")),
            (503, Some("tls_version")),
            "{version}"
        );
        dragoman.record_of("tls_version");
    }
}

#[test]
fn a_java_server_that_demands_a_certificate_gets_it() {
    let ground = Ground::new();
    let Some(_java) = servers::java_with_tls(&ground.net.servers, &ground.server, &ground.clients) else {
        println!("java is not installed here: its server is not tested");
        return;
    };
    let dragoman = ground.dragoman(&ground.identity());
    assert_eq!(ground.curl(&[]), format!("client: {}; over: HTTP/1.1", ground.client.serial));
    drop(dragoman);
    ground.net.app.succeed("nft delete table inet dragoman");
    let dragoman = ground.dragoman("");
    let answer =
        ground.net.app.connect(server(80)).exchange("GET / HTTP/1.1\r\nhost: shop.test\r\n\r\n").unwrap();
    // This server says no alert when it has refused a client: it ends the connection as it comes.
    let cause = answer.header("x-dragoman-cause").unwrap_or_default();
    assert!(["tls_truncated", "upstream_reset"].contains(&cause), "{cause}\n{}", dragoman.log());
    assert_eq!(answer.status(), 502);
}

#[test]
fn redis_with_and_without_stunnel_before_it() {
    for behind_stunnel in [false, true] {
        let ground = Ground::new();
        let (namespace, clients) = (&ground.net.servers, Some(&ground.clients));
        let _running = if behind_stunnel {
            let redis = servers::redis(namespace);
            [servers::stunnel(namespace, &ground.server, clients, redis.port()), redis].into_iter().collect()
        } else {
            vec![servers::redis_with_tls(namespace, &ground.server, clients)]
        };
        let dragoman = ground.dragoman(&ground.identity());
        let value = "v".repeat(100_000);
        let told = |arguments: &[&str]| process::text(&ground.redis(arguments)).trim().to_owned();
        assert_eq!(told(&["set", "k", &value]), "OK", "{}", dragoman.log());
        assert_eq!(told(&["get", "k"]), value);
        assert_eq!(told(&["-r", "200", "incr", "n"]).lines().last(), Some("200"));
        let metrics = dragoman.settle();
        assert_eq!(
            metrics.sum("dragoman_flows_total", &[("destination", "shop"), ("cause", "-")]),
            3,
            "{:#?}",
            dragoman.records()
        );
        drop(dragoman);
        ground.net.app.succeed("nft delete table inet dragoman");
        let dragoman = ground.dragoman("");
        assert!(!told(&["get", "k"]).contains("vvv"));
        dragoman.record_of("tls_client_certificate_refused");
    }
}
