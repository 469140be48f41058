//! TLS towards servers where all is well: whom a server is asked to be, what is offered to speak, which connections are
//! shared and which sessions resumed. What is refused, and how that is told, is in `tls`.

use std::net::Ipv4Addr;

use dragoman_harness::http2::Http2Origin;
use dragoman_harness::net::server;
use dragoman_harness::origin::Reply;
use dragoman_harness::pki::{Pki, Spec};
use dragoman_harness::tls::{Front, Setting, behind};
use dragoman_harness::{Dragoman, Net, Origin, process, wait};
use serde_json::Value;

/// A server with TLS on port 443 before one that answers each request with its path, and who has signed its certificate.
struct Ground {
    net: Net,
    pki: Pki,
}

impl Ground {
    fn new() -> Ground {
        Ground { net: Net::new(), pki: Pki::new() }
    }

    fn serve(&self, certificate: &Spec) -> (Front, Origin) {
        let origin =
            Origin::http(&self.net.servers, behind(8000), |request, _| Reply::status(200, request.word(1)));
        let mut setting = Setting::of(&self.pki.issue(certificate));
        setting.alpn = vec!["h2", "http/1.1"];
        (Front::start(&self.net.servers, server(443), behind(8000), setting), origin)
    }

    /// dragoman with these keys of `tls`, and others of the destination.
    fn dragoman(&self, tls: &str, others: &str) -> Dragoman<'_> {
        let text = format!(
            "[destination.shop]\ncidrs = [\"198.18.0.2/32\"]\n{others}\ntls = {{ roots = [\"{}\"], {tls} }}\n",
            self.pki.roots().display()
        );
        Dragoman::start(&self.net, &text)
    }

    /// One request on a connection of its own.
    fn get(&self, host: &str) -> (u16, Option<String>) {
        let request = format!("GET /x HTTP/1.1\r\nhost: {host}\r\n\r\n");
        let answer = self.net.app.connect(server(80)).exchange(request).unwrap();
        (answer.status(), answer.header("x-dragoman-cause").map(str::to_owned))
    }
}

/// The names that were asked for. A connection that is made before the app has said a name is asked for by its address.
fn names(front: &Front) -> Vec<String> {
    front.handshakes().into_iter().filter_map(|handshake| handshake.server_name).collect()
}

#[test]
fn a_server_is_asked_for_what_the_app_calls_it() {
    let ground = Ground::new();
    let (front, origin) = ground.serve(&Spec::dns("a.test").and_dns("b.test"));
    let dragoman = ground.dragoman("port = 443", "pool = {}");
    // One connection of the app, and one for each name: none is used for the other.
    let mut app = ground.net.app.connect(server(80));
    for (host, path) in [("a.test", "/1"), ("b.test:80", "/2"), ("A.TEST", "/3"), ("b.test.", "/4")] {
        let answer = app.exchange(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n")).unwrap();
        assert_eq!((answer.status(), answer.text().as_str()), (200, path), "{}", dragoman.log());
    }
    assert_eq!(names(&front), ["a.test", "b.test"]);
    // It was not encrypted twice, and not changed.
    assert_eq!(origin.requests()[1].header("host"), Some("b.test:80"));
    let records = dragoman.records_where(4, |record| record["kind"] == "exchange");
    assert!(records.iter().all(|record| record["endpoint"] == "198.18.0.2:443"), "{records:#?}");
}

/// TLS of the app's own is not encrypted again; what only begins like it is not therefore let out in plain text.
#[test]
fn what_begins_like_tls_and_is_none_does_not_go_out_in_plain_text() {
    let ground = Ground::new();
    let server = Origin::tcp(&ground.net.servers, server(80), |mut peer| peer.read_to_end().map(drop));
    let dragoman = ground.dragoman("", "");
    // The record of a ClientHello whose length points past its end.
    let hello = b"\x16\x03\x01\x00\x0c\x01\x00\x00\x08card=411";
    let (said, reset) = ground.net.app.knock(dragoman_harness::net::server(80), hello);
    assert_eq!((said, reset), (Vec::new(), true));
    dragoman.record_of("unexpected_protocol");
    let seen = server.seen();
    assert!(!seen.iter().any(|seen| seen.text().contains("card")), "{seen:?}");
}

#[test]
fn without_a_name_a_server_is_asked_for_its_address() {
    let ground = Ground::new();
    let (front, _origin) = ground.serve(&Spec::ip(Ipv4Addr::new(198, 18, 0, 2).into()));
    let _dragoman = ground.dragoman("port = 443", "");
    let answer = ground.net.app.connect(server(80)).exchange("GET / HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(names(&front), Vec::<String>::new());
}

#[test]
fn cause_tls_wrong_name_of_a_host_that_is_none() {
    let ground = Ground::new();
    let (_front, origin) = ground.serve(&Spec::dns("a.test"));
    let dragoman = ground.dragoman("port = 443", "breaker = { failures = 1 }");
    assert_eq!(ground.get("a..test"), (503, Some("tls_wrong_name".to_owned())));
    let record = dragoman.record_of("tls_wrong_name");
    let detail = record["detail"].as_str().unwrap();
    assert!(detail.contains("`a..test` cannot be the name of a server"), "{detail}");
    assert_eq!(origin.seen().len(), 0);
    // What the app calls its server is not the server's fault.
    assert_eq!(ground.get("a.test"), (200, None));
}

#[test]
fn sessions_are_resumed_by_connections_that_carry_one_request() {
    const REQUESTS: u64 = 100;
    let ground = Ground::new();
    let (front, _origin) = ground.serve(&Spec::dns("a.test"));
    let dragoman = ground.dragoman("port = 443, server_name = \"a.test\"", "");
    for _ in 0..REQUESTS {
        assert_eq!(ground.get("whatever.test"), (200, None), "{}", dragoman.log());
    }
    let metrics = dragoman.settle();
    let of =
        |result| metrics.sum("dragoman_tls_handshakes_total", &[("destination", "shop"), ("result", result)]);
    println!("{} full, {} resumed", of("full"), of("resumed"));
    assert_eq!(of("failed"), 0);
    assert!(of("resumed") * 100 > (of("full") + of("resumed")) * 95, "{} full", of("full"));
    let resumed = front.handshakes().iter().filter(|handshake| handshake.resumed).count() as u64;
    assert_eq!(resumed, of("resumed"), "both sides count alike");
}

/// What a line of the log or an attempt of a story says of TLS.
fn told(of: &Value) -> [&str; 3] {
    ["tls", "tls_handshake", "server_name"].map(|key| of[key].as_str().unwrap_or_default())
}

#[test]
fn the_log_and_the_story_tell_of_tls() {
    for (http2, others) in [(false, ""), (false, "pool = {}"), (true, ""), (true, "pool = {}")] {
        let ground = Ground::new();
        let (_front, _origin) = ground.serve(&Spec::dns("a.test"));
        let mut setting = Setting::of(&ground.pki.issue(&Spec::dns("a.test")));
        setting.alpn = vec!["h2"];
        let _front2 = Front::start(&ground.net.servers, server(8443), behind(8001), setting);
        let _origin2 = Http2Origin::start(&ground.net.servers, behind(8001), |wire, request, _| {
            wire.fields(request.stream, &[(":status", "200")], false)?;
            wire.data(request.stream, b"/x", true)
        });
        let port = if http2 { 8443 } else { 443 };
        let dragoman = ground.dragoman(&format!("port = {port}, server_name = \"a.test\""), others);
        for _ in 0..5 {
            if http2 {
                let mut curl = ground.net.app.bounded("curl");
                let url = "http://198.18.0.2/x";
                assert_eq!(process::succeed(curl.args(["-sS", "--http2-prior-knowledge", url])), "/x");
            } else {
                assert_eq!(ground.get("a.test"), (200, None));
            }
        }
        let records = dragoman.records_where(5, |record| record["kind"] == "exchange");
        for record in &records {
            let [version, handshake, name] = told(record);
            assert_eq!((version, name), ("1.3", "a.test"), "{record}");
            assert!(["full", "resumed"].contains(&handshake), "{record}");
        }
        let mut control = ground.net.app.connect("127.0.0.1:15000".parse().unwrap());
        let page = control.exchange("GET /flows HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap().text();
        let page: Value = serde_json::from_str(&page).unwrap();
        let stories = page["stories"].as_array().unwrap();
        for record in &records {
            let story = stories.iter().find(|story| story["id"] == record["id"]).expect("each has a story");
            assert_eq!(told(&story["attempts"][0]), told(record), "{story}");
            assert!(story["attempts"][0]["tls_us"].is_u64(), "{story}");
        }
    }
}

#[test]
fn tls_of_the_apps_own_passes_untouched() {
    let ground = Ground::new();
    let (front, _origin) = ground.serve(&Spec::dns("a.test"));
    // Nobody listens where TLS of ours would go.
    let dragoman = ground.dragoman("port = 8443", "");
    let mut curl = ground.net.app.bounded("curl");
    curl.args(["-sS", "--http1.1", "--resolve", "a.test:443:198.18.0.2", "--cacert"]).arg(ground.pki.roots());
    assert_eq!(process::succeed(curl.arg("https://a.test/own")), "/own");
    assert_eq!(names(&front), ["a.test"]);
    let records = dragoman.records_where(1, |record| record["protocol"] == "tls");
    assert_eq!(records[0]["endpoint"], "198.18.0.2:443", "{records:#?}");
    assert_eq!(told(&records[0]), [""; 3], "it is not ours");
    assert_eq!(dragoman.settle().sum("dragoman_tls_handshakes_total", &[]), 0);
}

#[test]
fn a_server_that_speaks_first_is_heard() {
    let ground = Ground::new();
    let _origin = Origin::tcp(&ground.net.servers, behind(8000), |mut peer| {
        peer.send(b"220 who is it?\r\n")?;
        let line = peer.read_until(b"\n")?;
        peer.send(line)
    });
    let setting = Setting::of(&ground.pki.issue(&Spec::dns("a.test")));
    let front = Front::start(&ground.net.servers, server(443), behind(8000), setting);
    let dragoman = ground.dragoman("port = 443, server_name = \"a.test\"", "");
    let mut app = ground.net.app.connect(server(2525));
    assert_eq!(app.read_until(b"\n").unwrap(), b"220 who is it?\r\n", "{}", dragoman.log());
    app.send(b"me\r\n").unwrap();
    assert_eq!(app.read_to_end().unwrap(), b"me\r\n");
    assert_eq!(names(&front), ["a.test"]);
    assert_eq!(front.handshakes()[0].alpn, None);
    drop(app);
    let records = dragoman.records_where(1, |record| record["kind"] == "flow");
    assert_eq!(told(&records[0]), ["1.3", "full", "a.test"], "{records:#?}");
}

#[test]
fn connections_made_ahead_of_need_are_as_secure() {
    let ground = Ground::new();
    let (front, _origin) = ground.serve(&Spec::dns("a.test"));
    let dragoman = ground.dragoman("port = 443", "pool = { min_warm = 3 }");
    assert_eq!(ground.get("a.test"), (200, None));
    wait::until("three connections wait", wait::SOON, || names(&front).len() >= 3);
    let made = front.handshakes().into_iter().filter(|handshake| handshake.server_name.is_some());
    assert!(made.into_iter().all(|handshake| handshake.alpn.as_deref() == Some("http/1.1")));
    // They are used.
    dragoman.metrics_where("as many idle ones", |metrics| {
        metrics.sum("dragoman_pool_connections", &[("destination", "shop"), ("state", "idle")]) >= 3
    });
    for _ in 0..3 {
        assert_eq!(ground.get("a.test"), (200, None));
    }
    assert!(dragoman.settle().sum("dragoman_upstream_connections_total", &[("how", "reused")]) >= 3);
}

#[test]
fn a_server_that_is_not_verified_is_counted_and_warned_of() {
    let ground = Ground::new();
    let (_front, _origin) = ground.serve(&Spec::dns("other.test").expired());
    let text = "[destination.shop]\ncidrs = [\"198.18.0.2/32\"]\ntls = { port = 443, danger_accept_any_certificate = true }\n";
    let dragoman = Dragoman::start(&ground.net, text);
    assert!(dragoman.log().contains("verifies nothing"), "{}", dragoman.log());
    assert_eq!(ground.get("a.test"), (200, None));
    assert!(dragoman.settle().sum("dragoman_tls_unverified_total", &[("destination", "shop")]) >= 1);
}
