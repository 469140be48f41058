//! A thousand flows of all kinds, and fifty identities one after the other.

use std::io;
use std::time::{Duration, Instant};

use dragoman_harness::dragoman::Record;
use dragoman_harness::http2::Http2Origin;
use dragoman_harness::load::{self, Flow, raise_descriptor_limit};
use dragoman_harness::net::server;
use dragoman_harness::origin::{Reply, echo};
use dragoman_harness::pki::{Issued, Pki, Spec};
use dragoman_harness::scratch::Scratch;
use dragoman_harness::tls::{Front, Setting, behind};
use dragoman_harness::volume::Volume;
use dragoman_harness::{Dragoman, Net, Origin, wait};
use nix::sys::signal::Signal;
use rustls::pki_types::CertificateDer;

const WORKERS: usize = 10;
const HTTP1: usize = 40;
const HTTP2: usize = 30;
const OPAQUE: usize = 30;
const FLOWS: usize = WORKERS * (HTTP1 + HTTP2 + OPAQUE);
const ROTATIONS: usize = 50;
/// Each n-th is found by the proxy itself; the others are told by SIGHUP, for the sake of the time.
const UNTOLD: usize = 5;

/// The n-th flow of a worker.
fn open(net: &Net, n: usize) -> io::Result<Flow> {
    match n {
        0..HTTP1 => Flow::http1(net.app.try_connect(server(80))?, "shop.test"),
        _ if n < HTTP1 + HTTP2 => Flow::http2(net.app.try_connect(server(81))?),
        _ => Flow::opaque(net.app.try_connect(server(9000))?),
    }
}

/// Servers of all kinds on the ports that the policy leads to, each behind TLS that wants a certificate.
struct Servers {
    raw: Front,
    http: [Front; 2],
    _origins: (Origin, Http2Origin, Origin),
}

impl Servers {
    fn start(net: &Net, pki: &Pki) -> Servers {
        let setting = Setting::of(&pki.issue(&Spec::dns("shop.test"))).for_clients_of(pki);
        let front = |port, inner, alpn| {
            let mut setting = setting.clone();
            setting.alpn = alpn;
            Front::start(&net.servers, server(port), behind(inner), setting)
        };
        let http1 = Origin::http(&net.servers, behind(8080), |_, _| Reply::status(200, "ok"));
        let http2 = Http2Origin::start(&net.servers, behind(8081), |wire, request, _| {
            wire.respond(request.stream, "200", b"ok")
        });
        let raw = Origin::tcp(&net.servers, behind(8090), echo);
        Servers {
            raw: front(9000, 8090, vec![]),
            http: [front(443, 8080, vec!["http/1.1"]), front(444, 8081, vec!["h2"])],
            _origins: (http1, http2, raw),
        }
    }

    fn policy(pki: &Pki, volume: &Volume) -> String {
        let (folder, roots) = (volume.path().display(), pki.roots().display());
        let tls = format!("server_name = 'shop.test', roots = ['{roots}']");
        // A thousand handshakes at once, by programs without optimisation, take a busy machine its time.
        format!(
            "[defaults]\nconnect_timeout = '2m'\n[identity]\ncertificate = '{folder}/tls.crt'\nkey = '{folder}/tls.key'\n\
             [destination.http1]\nports = [80]\npool = {{}}\ntls = {{ port = 443, {tls} }}\n\
             [destination.http2]\nports = [81]\npool = {{}}\ntls = {{ port = 444, {tls} }}\n\
             [destination.raw]\nports = [9000]\ntls = {{ {tls} }}\n"
        )
    }

    /// Opens flows until one comes with this identity, and says how long that took.
    fn meet(&self, net: &Net, identity: &Issued) -> Duration {
        let begun = Instant::now();
        wait::until("a flow with the new identity", 3 * wait::SOON, || {
            let before = self.raw.seen().len();
            let mut flow = open(net, HTTP1 + HTTP2).unwrap();
            flow.ask().unwrap();
            let shaken = self.raw.handshake(before).unwrap();
            shaken.client.is_some_and(|client| client == identity.chain[0])
        });
        begun.elapsed()
    }
}

#[test]
fn t1_a_thousand_flows_live_through_fifty_rotations() {
    raise_descriptor_limit();
    let (net, pki, scratch) = (Net::new(), Pki::new(), Scratch::new("rotation"));
    let servers = Servers::start(&net, &pki);
    let volume = Volume::new(scratch.path().join("secret"));
    let client = || pki.issue(&Spec::uri("spiffe://shop.test/ns/web/sa/web"));
    let mut last = client();
    volume.put(&last);
    let dragoman = Dragoman::start(&net, &Servers::policy(&pki, &volume));
    let begin = || load::opened(FLOWS / WORKERS, |n| open(&net, n));
    let ask = |flows: &mut Vec<Flow>, turn: usize| {
        let flow = turn % flows.len();
        if let Err(error) = flows[flow].ask() {
            let failed = |record: &Record| record["cause"].as_str().is_some_and(|cause| cause != "-");
            panic!("{error}: {:#?}", dragoman.records().into_iter().filter(failed).collect::<Vec<_>>());
        }
    };
    let (mut told, mut untold) = (Duration::ZERO, Duration::ZERO);
    let (mut flows, asked) = load::under(WORKERS, begin, ask, |load| {
        for round in 1..=ROTATIONS {
            let before = load.turns();
            last = client();
            volume.put(&last);
            let longest = if round % UNTOLD == 0 {
                &mut untold
            } else {
                dragoman.signal(Signal::SIGHUP);
                &mut told
            };
            *longest = servers.meet(&net, &last).max(*longest);
            load.reaches(before + 20);
        }
        load.turns()
    });
    // Each of them is still the one that was opened at the start.
    load::each(&mut flows, |flows| flows.iter_mut().for_each(|flow| drop(flow.ask().unwrap())));
    for front in &servers.http {
        // What its flows asked last went out by the last identity, though they are as old as the others.
        let shaken = front.handshakes();
        let by_last = |client: &CertificateDer<'_>| *client == last.chain[0];
        assert!(shaken.iter().any(|handshake| handshake.client.as_ref().is_some_and(by_last)));
    }
    println!(
        "{asked} requests during {ROTATIONS} rotations; new flows had the new identity after {untold:?}, {told:?} if told"
    );
    wait::until("only those flows are open", wait::SOON, || {
        dragoman.metrics().sum("dragoman_flows_open", &[]) == FLOWS as u64
    });
    drop(flows);
    let metrics = dragoman.settle();
    let well = metrics.sum("dragoman_flows_total", &[("cause", "-")]);
    assert_eq!(well, metrics.sum("dragoman_flows_total", &[]), "no flow has ended but well");
    let well = metrics.sum("dragoman_exchanges_total", &[("code", "200"), ("cause", "-")]);
    assert_eq!(well, metrics.sum("dragoman_exchanges_total", &[]));
    let applied = metrics.sum("dragoman_tls_reloads_total", &[("result", "applied")]);
    assert_eq!(applied, 3 * ROTATIONS as u64, "by each destination");
}
