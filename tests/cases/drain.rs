//! Start and end around the app: refused before, served until the app is gone, refused after.

use std::io::ErrorKind;
use std::thread;
use std::time::{Duration, Instant};

use dragoman_harness::dragoman::init;
use dragoman_harness::http2::{Http2Origin, Wire};
use dragoman_harness::net::server;
use dragoman_harness::origin::{Reply, echo};
use dragoman_harness::{Dragoman, Net, Origin, Peer, process, wait};
use nix::sys::signal::Signal;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn opaque(net: &Net) -> Peer {
    let mut client = net.app.connect(server(7000));
    client.send(b"\x01\x02").unwrap();
    client.read_exact(2).unwrap();
    client
}

fn web(net: &Net) -> Origin {
    Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"))
}

/// A new connection of the app's, and one exchange on it.
fn get(net: &Net) -> Option<u16> {
    net.app.try_connect(server(80)).ok()?.exchange(GET).ok().map(|answer| answer.status())
}

fn begin_drain(dragoman: &Dragoman<'_>) {
    dragoman.signal(Signal::SIGTERM);
    wait::until("/ready says that it drains", wait::SOON, || {
        dragoman.admin("/ready").is_some_and(|answer| answer.status() == 503)
    });
}

#[test]
fn l1_before_the_proxy_starts_every_connect_is_refused_and_none_gets_round() {
    let net = Net::new();
    let origin = web(&net);
    process::succeed(&mut init(&net, &["install"]));
    let refused = net.app.enter(|| {
        let connect = || std::net::TcpStream::connect_timeout(&server(80), wait::SOON);
        (0..1000).filter(|_| connect().is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused)).count()
    });
    assert_eq!(refused, 1000);
    let mut excluded = net.app.bounded("setpriv");
    excluded.args(["--regid=1337", "--clear-groups", "curl", "-sS", "-o/dev/null", "-w%{http_code}"]);
    assert_eq!(
        process::succeed(excluded.arg("http://198.18.0.2/")),
        "200",
        "the proxy's group is not captured"
    );
    let _dragoman = Dragoman::start_uncaptured(&net, "");
    assert_eq!(get(&net), Some(200));
    assert_eq!(origin.seen().len(), 2, "of the captured, only what came after the start reached the server");
}

#[test]
fn l1_after_the_end_a_connect_is_refused_and_does_not_get_round() {
    let net = Net::new();
    let origin = web(&net);
    let mut dragoman = Dragoman::start(&net, "");
    assert_eq!(get(&net), Some(200));
    dragoman.signal(Signal::SIGTERM);
    assert_eq!(dragoman.wait(wait::SOON).code(), Some(0));
    let error = net.app.try_connect(server(80)).err().expect("nobody listens there");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn l2_sigterm_with_nothing_open_exits_0_soon() {
    let net = Net::new();
    let mut dragoman = Dragoman::start(&net, "");
    let begun = Instant::now();
    dragoman.signal(Signal::SIGTERM);
    assert_eq!(dragoman.wait(wait::SOON).code(), Some(0));
    assert!(begun.elapsed() >= Duration::from_secs(1), "it waited for {:?} alone", begun.elapsed());
}

#[test]
fn l2_an_idle_kept_alive_connection_does_not_hold_the_end_up() {
    let net = Net::new();
    let _origin = web(&net);
    let mut dragoman = Dragoman::start(&net, "[proxy]\ndrain = '60s'\n[defaults]\npool = {}\n");
    let mut client = net.app.connect(server(80));
    client.exchange(GET).unwrap();
    dragoman.signal(Signal::SIGTERM);
    assert_eq!(dragoman.wait(wait::SOON).code(), Some(0), "an idle connection is no work");
    assert_eq!(client.read_to_reset().unwrap(), (Vec::new(), false), "it was closed in order");
    assert!(dragoman.records().iter().all(|record| record["cause"].is_null()), "{:#?}", dragoman.records());
}

#[test]
fn l3_old_and_new_flows_work_until_the_last_has_ended() {
    let net = Net::new();
    let _origins = (Origin::tcp(&net.servers, server(7000), echo), web(&net));
    let mut dragoman = Dragoman::start(&net, "[proxy]\ndrain = '60s'\n");
    let mut old = opaque(&net);
    let mut kept = net.app.connect(server(80));
    kept.exchange(GET).unwrap();
    begin_drain(&dragoman);
    for _ in 0..20 {
        wait::pause(Duration::from_millis(100));
        assert_eq!(get(&net), Some(200), "a new flow is served");
        let answer = kept.exchange(GET).unwrap();
        assert_eq!((answer.status(), answer.header("connection")), (200, None), "no game is played");
        old.send("ok").unwrap();
        assert_eq!(old.read_exact(2).unwrap(), b"ok", "an old flow goes on");
    }
    drop((old, kept));
    assert_eq!(dragoman.wait(wait::SOON).code(), Some(0));
    assert!(dragoman.records().iter().all(|record| record["cause"].is_null()), "{:#?}", dragoman.records());
}

#[test]
fn l3_an_app_that_keeps_dialling_holds_the_drain_open() {
    let net = Net::new();
    let _origin = web(&net);
    let mut dragoman = Dragoman::start(&net, "[proxy]\ndrain = '60s'\ndrain_quiet = '3s'\n");
    begin_drain(&dragoman);
    let end = Instant::now() + Duration::from_secs(6);
    while Instant::now() < end {
        assert_eq!(get(&net), Some(200));
        wait::pause(Duration::from_millis(300));
    }
    assert_eq!(dragoman.wait(wait::SOON).code(), Some(0));
}

#[test]
fn l3_the_quiet_time_of_a_drain_can_be_set() {
    let net = Net::new();
    let _origin = web(&net);
    let mut dragoman = Dragoman::start(&net, "[proxy]\ndrain = '60s'\ndrain_quiet = '8s'\n");
    begin_drain(&dragoman);
    wait::pause(Duration::from_secs(2));
    assert_eq!(get(&net), Some(200), "an app that pauses in its own end is still served");
    assert_eq!(dragoman.wait(wait::SOON).code(), Some(0));
}

#[test]
fn l3_the_deadline_ends_a_drain_that_never_gets_quiet() {
    let net = Net::new();
    let _origins = (Origin::tcp(&net.servers, server(7000), echo), web(&net));
    let mut dragoman = Dragoman::start(&net, "[proxy]\ndrain = '2s'\n");
    let mut at_work = opaque(&net);
    let mut idle = net.app.connect(server(80));
    idle.exchange(GET).unwrap();
    dragoman.signal(Signal::SIGTERM);
    thread::scope(|scope| {
        // It does not get quiet by itself.
        scope.spawn(|| while get(&net).is_some() {});
        assert_eq!(dragoman.wait(wait::SOON).code(), Some(0));
    });
    assert_eq!(at_work.read_to_reset().unwrap(), (Vec::new(), true), "it was at work");
    assert_eq!(idle.read_to_reset().unwrap(), (Vec::new(), false), "it was not");
    let cut = dragoman.record_of("drain_deadline");
    assert_eq!((&cut["kind"], &cut["who"]), (&"flow".into(), &"dragoman".into()), "{cut}");
}

#[test]
fn l3_a_second_signal_ends_it_at_once() {
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(7000), echo);
    let mut dragoman = Dragoman::start(&net, "[proxy]\ndrain = '60s'\n");
    let mut client = opaque(&net);
    begin_drain(&dragoman);
    dragoman.signal(Signal::SIGTERM);
    assert_eq!(dragoman.wait(wait::SOON).code(), Some(0));
    assert_eq!(client.read_to_reset().unwrap(), (Vec::new(), true));
}

#[test]
fn l3_an_idle_http2_connection_serves_during_a_drain_and_does_not_hold_it_up() {
    let net = Net::new();
    let _origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| {
        wire.respond(request.stream, "200", b"ok")
    });
    let mut dragoman =
        Dragoman::start(&net, "[proxy]\ndrain = '60s'\ndrain_quiet = '5s'\n[defaults]\npool = {}\n");
    let mut client = Wire::client(net.app.connect(server(80)), &[]).unwrap();
    client.get(1, "/").unwrap();
    assert_eq!(client.response(1).unwrap().status(), 200);
    begin_drain(&dragoman);
    client.get(3, "/").unwrap();
    assert_eq!(client.response(3).unwrap().status(), 200, "no GOAWAY while the drain goes on");
    assert_eq!(dragoman.wait(wait::SOON).code(), Some(0));
    assert_eq!(client.ended_with().unwrap(), Some(0), "it was closed in order");
}
