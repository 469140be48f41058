//! Ports whose clients may do without TLS, and ports that are left alone.

use std::io::Write;

use dragoman_harness::origin::{Reply, echo};
use dragoman_harness::{Origin, process};
use rustls::version::TLS13;

use crate::{Rig, VERSIONS, WEB, connect, read};

#[test]
fn a_permissive_port_takes_both_and_believes_neither() {
    let rig = Rig::new();
    let app = Origin::http(&rig.net.app, "[::]:8080".parse().unwrap(), |_, _| Reply::status(200, "hello"));
    let lines = format!("allow = ['{WEB}']\n[inbound.app_port.8080]\nmode = 'permissive'");
    let dragoman = rig.start(&rig.inbound(&lines));
    let spoofed = "x-forwarded-client-cert: URI=spiffe://shop.test/admin";
    let plain = format!("GET /plain HTTP/1.1\r\nHost: pay.test\r\n{spoofed}\r\n\r\n");
    assert_eq!(rig.net.servers.connect(Rig::app(8080)).exchange(plain).unwrap().text(), "hello");
    process::succeed(rig.curl(&rig.web).args(["-H", spoofed, "https://pay.test:8080/tls"]));
    let requests = app.requests();
    let told = |path: &str| {
        let request = requests.iter().find(|request| request.word(1) == path).expect("it was answered");
        request.header("x-forwarded-client-cert").map(str::to_owned)
    };
    assert_eq!(told("/plain"), None);
    assert!(told("/tls").is_some_and(|value| value.contains(WEB) && !value.contains("admin")));
    dragoman.settle();
    let flows = dragoman.records_where(2, |record| record["kind"] == "flow");
    assert!(flows.iter().all(|flow| flow["direction"] == "inbound" && flow["cause"].is_null()), "{flows:#?}");
    assert_eq!(flows.iter().filter(|flow| flow["client"] == WEB).count(), 1);
}

/// What the app speaks says nothing of whether its clients come with TLS.
#[test]
fn a_permissive_port_whose_protocol_is_stated_takes_both_too() {
    let rig = Rig::new();
    let _http = Origin::http(&rig.net.app, "[::]:8080".parse().unwrap(), |_, _| Reply::status(200, "hello"));
    let _bytes = Origin::tcp(&rig.net.app, "[::]:7000".parse().unwrap(), echo);
    let lines = "mode = 'permissive'\n[inbound.app_port.8080]\nprotocol = 'http'\n[inbound.app_port.7000]\nprotocol = 'opaque'";
    let _dragoman = rig.start(&rig.inbound(lines));
    let get = "GET / HTTP/1.1\r\nHost: pay.test\r\n\r\n";
    assert_eq!(rig.net.servers.connect(Rig::app(8080)).exchange(get).unwrap().text(), "hello");
    assert_eq!(process::succeed(rig.curl(&rig.web).arg("https://pay.test:8080/")), "hello");
    let mut plain = rig.net.servers.connect(Rig::app(7000));
    plain.send(b"ping").unwrap();
    assert_eq!(plain.read_exact(4).unwrap(), b"ping");
    let mut client = connect(&rig.net.servers, rig.client(Some(&rig.web), VERSIONS[1]), Rig::app(7000));
    client.write_all(b"ping").unwrap();
    assert_eq!(read(&mut client, 4), b"ping");
}

/// A client of TLS is not greeted in plain, however soon the app would speak.
#[test]
fn an_app_that_speaks_first_is_heard_on_a_permissive_port_too() {
    let rig = Rig::new();
    let _app = Origin::tcp(&rig.net.app, "[::]:2525".parse().unwrap(), |mut peer| {
        peer.send(b"220 hello\r\n")?;
        peer.read_until(b"\r\n")?;
        peer.send(b"221 bye\r\n")
    });
    let _dragoman = rig.start(&rig.inbound("mode = 'permissive'"));
    let mut plain = rig.net.servers.connect(Rig::app(2525));
    assert_eq!(plain.read_exact(11).unwrap(), b"220 hello\r\n");
    plain.send(b"QUIT\r\n").unwrap();
    assert_eq!(plain.read_exact(9).unwrap(), b"221 bye\r\n");
    for version in VERSIONS {
        let mut client = connect(&rig.net.servers, rig.client(Some(&rig.web), version), Rig::app(2525));
        assert_eq!(read(&mut client, 11), b"220 hello\r\n");
        client.write_all(b"QUIT\r\n").unwrap();
        assert_eq!(read(&mut client, 9), b"221 bye\r\n");
    }
}

/// A permissive port lets no client by that shows a certificate which does not do.
#[test]
fn on_a_permissive_port_tls_is_held_to_the_rules() {
    let rig = Rig::new();
    let app = Origin::tcp(&rig.net.app, "[::]:8080".parse().unwrap(), echo);
    let dragoman = rig.start(&rig.inbound("mode = 'permissive'\nallow = ['dns:other.test']"));
    let said = crate::told(connect(&rig.net.servers, rig.client(Some(&rig.web), &TLS13), Rig::app(8080)));
    assert!(said.contains("alert"), "{said}");
    dragoman.record_of("client_not_allowed");
    assert!(app.seen().is_empty(), "the app was reached");
}

/// Kubelet speaks no TLS of ours: its ports are exempt.
#[test]
fn a_port_of_health_probes_is_left_alone() {
    let rig = Rig::new();
    let app = Origin::http(&rig.net.app, "[::]:8081".parse().unwrap(), |_, _| Reply::status(200, "alive"));
    let dragoman = rig.start_with(&rig.inbound(""), &["--exclude-inbound-port", "8081"]);
    let probe = "GET /live HTTP/1.1\r\nHost: pay.test\r\n\r\n";
    assert_eq!(rig.net.servers.connect(Rig::app(8081)).exchange(probe).unwrap().text(), "alive");
    assert_eq!(rig.net.servers.knock(Rig::app(8080), probe.as_bytes()), (Vec::new(), true));
    // The app to itself, as ever.
    assert_eq!(rig.net.app.connect(Rig::app(8081)).exchange(probe).unwrap().text(), "alive");
    assert_eq!(app.requests().len(), 2);
    assert_eq!(dragoman.settle().sum("dragoman_flows_total", &[]), 1);
}
