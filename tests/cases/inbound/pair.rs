//! Both ends of the pattern: two apps that speak plain text, each with its dragoman, and nothing but TLS between them.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;

use dragoman_harness::dragoman::init_in;
use dragoman_harness::http2::{Http2Origin, Wire};
use dragoman_harness::net::server;
use dragoman_harness::origin::{Reply, echo};
use dragoman_harness::pki::{Issued, Spec};
use dragoman_harness::process::Process;
use dragoman_harness::scratch::Scratch;
use dragoman_harness::{Dragoman, Origin, process, wait};
use nix::sys::signal::Signal;

use crate::{PAY, Rig, WEB};

/// What no one between the two may read.
const SECRET: &str = "4242424242424242";

/// Starts the dragoman of the client's side, in S, with this identity.
fn client_side<'r>(rig: &'r Rig, identity: &Issued) -> Dragoman<'r> {
    let configuration = format!(
        "[identity]\ncertificate = '{}'\nkey = '{}'\n\
         [destination.pay]\ncidrs = ['198.18.0.1/32', 'fd98::1/128']\n\
         tls = {{ roots = ['{}'], spiffe = ['{PAY}'] }}\n",
        identity.certificate.display(),
        identity.key.display(),
        rig.pki.roots().display(),
    );
    let dragoman = Dragoman::start_in(&rig.net.servers, &configuration);
    process::succeed(&mut init_in(&rig.net.servers, &["install"]));
    dragoman
}

/// Every packet between the two, from now on.
struct Tap {
    tcpdump: Process,
    file: PathBuf,
    _scratch: Scratch,
}

impl Tap {
    fn new(rig: &Rig) -> Tap {
        let scratch = Scratch::new("tap");
        let (file, log) = (scratch.path().join("all.pcap"), scratch.path().join("tcpdump.log"));
        let mut tcpdump = rig.net.app.command("tcpdump");
        tcpdump
            .args(["-i", "eth0", "--immediate-mode", "-U", "-n", "-s", "0", "-Z", "root", "-w"])
            .arg(&file);
        let mut tcpdump = Process::start("tcpdump", &mut tcpdump, &log, None);
        let says_so = || std::fs::read_to_string(&log).is_ok_and(|said| said.contains("listening on"));
        tcpdump.wait_ready(wait::SOON, says_so);
        Tap { tcpdump, file, _scratch: scratch }
    }

    /// All of them so far, and how many of TCP had content. A packet of our own comes behind them: tcpdump may be late.
    fn packets(mut self, rig: &Rig) -> (Vec<u8>, usize) {
        const END: &[u8] = b"this is the end";
        rig.net
            .app
            .enter(|| UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.send_to(END, server(9))))
            .expect("a packet can be sent");
        wait::until("tcpdump has written all", wait::SOON, || {
            std::fs::read(&self.file).is_ok_and(|seen| contains(&seen, END))
        });
        self.tcpdump.signal(Signal::SIGINT);
        self.tcpdump.wait(wait::SOON);
        (std::fs::read(&self.file).expect("tcpdump has written it"), count_packets(&self.file))
    }
}

/// How many packets with content tcpdump has seen.
fn count_packets(file: &Path) -> usize {
    let mut tcpdump = Command::new("tcpdump");
    tcpdump.args(["-n", "-r"]).arg(file).arg("tcp[tcpflags] & tcp-push != 0");
    process::succeed(&mut tcpdump).lines().count()
}

fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|window| window == part)
}

#[test]
fn two_plain_apps_and_nothing_but_tls_between_them() {
    let rig = Rig::new();
    let web_app = Origin::http(&rig.net.app, "[::]:8080".parse().unwrap(), |_, _| {
        Reply::status(200, &format!("card {SECRET}"))
    });
    let grpc_app = Http2Origin::start(&rig.net.app, "[::]:8082".parse().unwrap(), |wire, request, _| {
        wire.respond(request.stream, "200", SECRET.as_bytes())
    });
    let _echo = Origin::tcp(&rig.net.app, "[::]:7000".parse().unwrap(), echo);
    let _greets = Origin::tcp(&rig.net.app, "[::]:7001".parse().unwrap(), |mut peer| {
        peer.send(format!("220 {SECRET}\r\n"))?;
        peer.read_to_end().map(drop)
    });
    let inbound = rig.start(&rig.inbound(&format!("allow = ['{WEB}']")));
    let outbound = client_side(&rig, &rig.web);
    let tap = Tap::new(&rig);

    for app in [Rig::app(8080), Rig::app_v6(8080)] {
        let request = format!("GET /{SECRET} HTTP/1.1\r\nHost: pay\r\n\r\n");
        assert_eq!(rig.net.servers.connect(app).exchange(request).unwrap().text(), format!("card {SECRET}"));
    }
    let mut wire = Wire::client(rig.net.servers.connect(Rig::app(8082)), &[]).unwrap();
    wire.get(1, &format!("/{SECRET}")).unwrap();
    assert_eq!(wire.response(1).unwrap().status(), 200);
    let mut client = rig.net.servers.connect(Rig::app(7000));
    let pairs = format!("\x00\x01{SECRET}");
    client.send(&pairs).unwrap();
    assert_eq!(client.read_exact(18).unwrap(), pairs.as_bytes());
    let mut greeted = rig.net.servers.connect(Rig::app(7001));
    assert_eq!(greeted.read_exact(22).unwrap(), format!("220 {SECRET}\r\n").into_bytes());
    drop((wire, client, greeted));
    outbound.settle();
    inbound.settle();

    let told = |value: Option<&str>| value.is_some_and(|value| value.contains(&format!("URI={WEB}")));
    assert!(web_app.requests().iter().all(|request| told(request.header("x-forwarded-client-cert"))));
    assert!(told(grpc_app.requests()[0].field("x-forwarded-client-cert")));
    let (seen, count) = tap.packets(&rig);
    assert!(count > 20, "tcpdump has seen {count} packets, less than the connections need");
    for plain in [SECRET, "GET /", "HTTP/1.1", "PRI * HTTP", "Host: pay", "220 "] {
        assert!(!contains(&seen, plain.as_bytes()), "`{plain}` went over the wire");
    }
    assert!(contains(&seen, b"\x16\x03\x01") && contains(&seen, b"\x17\x03\x03"), "there is no TLS either");
    // Of those that were used: where an app takes long to speak the other proxy may have made a connection more.
    let flows = inbound.records_where(5, |record| record["kind"] == "flow" && record["client"] == WEB);
    assert!(flows.iter().all(|flow| flow["cause"].is_null()), "{flows:#?}");
}

#[test]
fn a_third_without_the_right_identity_is_refused_with_a_cause_on_both_sides() {
    let rig = Rig::new();
    let app = Origin::http(&rig.net.app, "[::]:8080".parse().unwrap(), |_, _| Reply::status(200, "never"));
    let inbound = rig.start(&rig.inbound(&format!("allow = ['{WEB}']")));
    let other = rig.pki.issue(&Spec::uri("spiffe://shop.test/other"));
    let outbound = client_side(&rig, &other);
    let request = "GET / HTTP/1.1\r\nHost: pay\r\n\r\n";
    let answer = rig.net.servers.connect(Rig::app(8080)).exchange(request).unwrap();
    assert_eq!(
        (answer.status(), answer.header("x-dragoman-cause")),
        (503, Some("tls_client_certificate_refused"))
    );
    let refused = inbound.record_of("client_not_allowed");
    assert_eq!(refused["detail"], format!("the client is spiffe://shop.test/other, and allowed is `{WEB}`"));
    outbound.record_of("tls_client_certificate_refused");
    assert!(app.seen().is_empty(), "the app was reached");
}

/// The other way round: who dials is not to be led to somebody else.
#[test]
fn a_server_without_the_right_identity_gets_nothing() {
    let rig = Rig::new();
    let app = Origin::http(&rig.net.app, "[::]:8080".parse().unwrap(), |_, _| Reply::status(200, "never"));
    let impostor = Rig { pay: rig.pki.issue(&Spec::uri("spiffe://shop.test/other")), ..rig };
    let inbound = impostor.start(&impostor.inbound(""));
    let outbound = client_side(&impostor, &impostor.web);
    let request = "GET / HTTP/1.1\r\nHost: pay\r\n\r\n";
    let answer = impostor.net.servers.connect(Rig::app(8080)).exchange(request).unwrap();
    assert_eq!((answer.status(), answer.header("x-dragoman-cause")), (503, Some("tls_wrong_identity")));
    outbound.record_of("tls_wrong_identity");
    inbound.record_of("client_tls_failed");
    assert!(app.seen().is_empty(), "the app was reached");
}
