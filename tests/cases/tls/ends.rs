//! How connections end: only TLS's own end tells that all was said, and a network may cut them anywhere.

use std::thread;

use dragoman_harness::http2::{End, Http2Origin, Wire, code, request};
use dragoman_harness::net::server;
use dragoman_harness::origin::Reply;
use dragoman_harness::pki::{Pki, Spec};
use dragoman_harness::tls::{At, Fault, Front, GARBAGE, Setting, behind};
use dragoman_harness::{Dragoman, Net, Origin, Peer, wait};

use crate::matrix::{NAME, PATIENT, quoted};

const GET: &str = "GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n";

/// What is not good about a good server.
type Change = fn(Setting) -> Setting;

/// A front on each of these ports, with its setting, and dragoman before all of them.
struct Case<'n> {
    dragoman: Dragoman<'n>,
    fronts: Vec<Front>,
    // Its files are the configuration's.
    _pki: Pki,
}

impl<'n> Case<'n> {
    fn new(net: &'n Net, alpn: &[&'static str], settings: &[(u16, Change)]) -> Case<'n> {
        let pki = Pki::new();
        let issued = pki.issue(&Spec::dns(NAME));
        let good = || Setting { alpn: alpn.to_vec(), ..Setting::of(&issued) };
        let start = |&(port, setting): &(u16, Change)| {
            Front::start(&net.servers, server(port), behind(8000), setting(good()))
        };
        let fronts = settings.iter().map(start).collect();
        let roots = quoted(pki.roots());
        let tls = format!("tls = {{ server_name = {NAME:?}, roots = [{roots}] }}\n");
        let dragoman =
            Dragoman::start(net, &format!("[destination.shop]\ncidrs = [\"198.18.0.2/32\"]\n{PATIENT}{tls}"));
        Case { dragoman, fronts, _pki: pki }
    }

    /// The one exchange or flow on the way to a port has ended so.
    fn noted(&self, kind: &str, port: u16, cause: Option<&str>) {
        let original = server(port).to_string();
        let of = |record: &serde_json::Value| record["kind"] == kind && record["original_dst"] == original;
        let record = self.dragoman.records_where(1, of).remove(0);
        assert_eq!(record["cause"].as_str(), cause, "{record}");
    }
}

fn unchanged(setting: Setting) -> Setting {
    setting
}

fn without_a_word(setting: Setting) -> Setting {
    Setting { notifies: false, ..setting }
}

#[test]
fn cause_tls_truncated_of_an_answer_that_lasts_until_the_end() {
    let net = Net::new();
    let answer = "HTTP/1.1 200 OK\r\nserver: s\r\n\r\nall";
    let _origin =
        Origin::http(&net.servers, behind(8000), |_, _| Reply::SendAndClose(answer.as_bytes().to_vec()));
    let case = Case::new(&net, &["http/1.1"], &[(80, unchanged), (81, without_a_word)]);
    assert_eq!(net.app.knock(server(80), GET.as_bytes()), (answer.as_bytes().to_vec(), false));
    assert_eq!(net.app.knock(server(81), GET.as_bytes()), (answer.as_bytes().to_vec(), true));
    case.noted("exchange", 80, None);
    case.noted("exchange", 81, Some("tls_truncated"));
}

#[test]
fn an_answer_that_tells_its_length_is_whole_without_tls_own_end() {
    let net = Net::new();
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nall";
    let _origin =
        Origin::http(&net.servers, behind(8000), |_, _| Reply::SendAndClose(answer.as_bytes().to_vec()));
    let case = Case::new(&net, &["http/1.1"], &[(80, without_a_word)]);
    for _ in 0..3 {
        let told = net.app.connect(server(80)).exchange(GET).unwrap();
        assert_eq!((told.status(), told.text().as_str()), (200, "all"));
    }
    for record in case.dragoman.records_where(3, |record| record["kind"] == "exchange") {
        assert!(record["cause"].is_null(), "{record}");
    }
    assert_eq!(case.fronts[0].handshakes().len(), 3);
}

#[test]
fn cause_tls_truncated_before_an_answer() {
    let net = Net::new();
    let _origin = Origin::http(&net.servers, behind(8000), |_, _| Reply::status(200, "never"));
    let case = Case::new(
        &net,
        &["http/1.1"],
        &[
            (80, |setting: Setting| setting.with_fault(At::Answer(0), Fault::Close)),
            (81, |setting: Setting| setting.with_fault(At::Answer(9), Fault::Close)),
        ],
    );
    for port in [80, 81] {
        let told = net.app.connect(server(port)).exchange(GET).unwrap();
        assert_eq!((told.status(), told.header("x-dragoman-cause")), (502, Some("tls_truncated")));
        case.noted("exchange", port, Some("tls_truncated"));
    }
}

#[test]
fn cause_tls_truncated_within_a_stream() {
    let net = Net::new();
    let _origin = Http2Origin::start(&net.servers, behind(8000), |wire, request, _| {
        wire.fields(request.stream, &[(":status", "200")], false)?;
        wire.data(request.stream, b"half", false)?;
        wire.peer().finish_sending()
    });
    let case = Case::new(&net, &["h2"], &[(80, without_a_word)]);
    let mut client = Wire::client(net.app.connect(server(80)), &[]).unwrap();
    client.fields(1, &request("GET", "/"), true).unwrap();
    let told = client.response(1).unwrap();
    assert_eq!((told.status(), &told.body[..]), (200, &b"half"[..]));
    assert!(matches!(told.end, End::Reset(code) if code != code::NO_ERROR), "{told:?}");
    case.noted("exchange", 80, Some("tls_truncated"));
}

#[test]
fn cause_tls_truncated_of_opaque_bytes() {
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, behind(8000), |mut peer| {
        peer.read_until(b"\n")?;
        peer.send("half")
    });
    let case = Case::new(&net, &[], &[(9, unchanged), (10, without_a_word)]);
    assert_eq!(net.app.knock(server(9), b"words\n"), (b"half".to_vec(), false));
    assert_eq!(net.app.knock(server(10), b"words\n"), (b"half".to_vec(), true));
    case.noted("flow", 9, None);
    case.noted("flow", 10, Some("tls_truncated"));
}

#[test]
fn a_server_that_answers_the_end_of_an_app_with_its_own_has_done_no_wrong() {
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, behind(8000), |mut peer| {
        peer.read_until(b"\n")?;
        peer.send("answer\n")?;
        peer.read_to_end().map(drop)
    });
    let case = Case::new(&net, &[], &[(9, without_a_word)]);
    let mut app = net.app.connect(server(9));
    app.send("words\n").unwrap();
    assert_eq!(app.read_until(b"\n").unwrap(), b"answer\n");
    drop(app);
    case.noted("flow", 9, None);
}

#[test]
fn a_half_closed_app_gets_the_whole_answer_and_its_end() {
    let net = Net::new();
    let body = "b".repeat(300_000);
    let answer = body.clone();
    let origin = Origin::tcp(&net.servers, behind(8000), move |mut peer: Peer| {
        let question = peer.read_to_end()?;
        peer.send(question)?;
        peer.send(&answer)
    });
    let case = Case::new(&net, &[], &[(9, unchanged), (10, |setting| Setting { segment: 100, ..setting })]);
    for (n, port) in [9, 10].into_iter().enumerate() {
        let mut app = net.app.connect(server(port));
        app.send("question").unwrap();
        app.finish_sending().unwrap();
        let told = app.read_to_end().unwrap();
        assert!(told == format!("question{body}").as_bytes(), "{} bytes", told.len());
        case.noted("flow", port, None);
        assert_eq!(origin.connection(n).text(), "question");
        // TLS's own end, and no bare one, is how the app's was passed on.
        wait::until("the front has heard the app's end", wait::SOON, || {
            case.fronts[n].seen()[0].notified == Some(true)
        });
    }
}

/// A handshake has about 2300 bytes from the server, a third of them the certificate.
#[test]
fn a_connection_that_is_cut_anywhere_fails_with_a_cause_and_passes_nothing_on() {
    let net = Net::new();
    let pki = Pki::new();
    let issued = pki.issue(&Spec::dns(NAME));
    let origin = Origin::http(&net.servers, behind(8000), |_, _| Reply::status(200, "never"));
    let faults = [Fault::Close, Fault::Reset, Fault::Garbage];
    let cuts: Vec<(u16, usize, Fault)> = (0..30)
        .flat_map(|n| faults.map(|fault| (n * 71, fault)))
        .zip(1000..)
        .map(|((at, fault), port)| (port, at, fault))
        .collect();
    let fronts: Vec<Front> = cuts
        .iter()
        .map(|(port, at, fault)| {
            let setting = Setting::of(&issued).with_fault(At::Byte(*at), *fault);
            Front::start(&net.servers, server(*port), behind(8000), setting)
        })
        .collect();
    let tls = format!("tls = {{ roots = [{}] }}\n", quoted(pki.roots()));
    let dragoman = Dragoman::start(&net, &format!("[destination.shop]\nhosts = [{NAME:?}]\n{PATIENT}{tls}"));
    thread::scope(|scope| {
        for (port, at, fault) in &cuts {
            let net = &net;
            scope.spawn(move || {
                let told = net.app.connect(server(*port)).exchange(GET).unwrap();
                let cause = told.header("x-dragoman-cause").unwrap_or_default().to_owned();
                let possible: &[&str] = match fault {
                    Fault::Close => &["tls_closed", "tls_truncated"],
                    // The kernel tells of a reset once: where a write has met it, the read finds an end.
                    Fault::Reset => &["tls_closed", "upstream_reset", "tls_truncated"],
                    _ => &["tls_failed", "tls_version"],
                };
                assert!(possible.contains(&cause.as_str()), "{fault:?} at {at}: {cause}: {}", told.text());
            });
        }
    });
    let metrics = dragoman.settle();
    let count = u64::try_from(cuts.len()).unwrap();
    assert_eq!(metrics.sum("dragoman_exchanges_total", &[("destination", "shop")]), count);
    assert_eq!(metrics.sum("dragoman_exchanges_total", &[("destination", "shop"), ("cause", "-")]), 0);
    for seen in fronts.iter().flat_map(Front::seen) {
        assert!(!String::from_utf8_lossy(&seen.wire.so_far()).contains("HTTP/1.1"), "in the clear");
    }
    // A server is asked only by clients that it has agreed with.
    assert!(origin.requests().iter().all(|asked| asked.header("host") == Some(NAME)));
    assert!(!dragoman.log().contains(std::str::from_utf8(&GARBAGE[..8]).unwrap()), "{}", dragoman.log());
}
