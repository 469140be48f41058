//! The end of a pod, and of the proxy's container alone: one deadline, until which nothing that is at work is cut, and no
//! way round a proxy that is gone.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use dragoman_harness::http2::{Http2Origin, Wire};
use dragoman_harness::net::{server, server_in_both_families};
use dragoman_harness::origin::{Reply, echo};
use dragoman_harness::servers::{Server, redis};
use dragoman_harness::{Dragoman, Net, Origin, Peer, process, wait};
use nix::sys::signal::Signal;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const PING: &str = "PING\r\n";
const PONG: &[u8] = b"+PONG\r\n";

fn web(net: &Net) -> Origin {
    Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"))
}

fn get(net: &Net, at: SocketAddr) -> io::Result<u16> {
    net.app.try_connect(at)?.exchange(GET).map(|answer| answer.status())
}

fn begin_drain(dragoman: &Dragoman<'_>) {
    dragoman.signal(Signal::SIGTERM);
    wait::until("/ready says that it drains", wait::SOON, || {
        dragoman.admin("/ready").is_some_and(|answer| answer.status() == 503)
    });
}

/// `dragoman drain` over TCP, which the configuration has to allow.
fn drain(net: &Net, option: &str) -> String {
    let mut command = net.app.bounded(dragoman_harness::binaries::dragoman());
    process::succeed(command.args(["drain", "--control", "127.0.0.1:15000", option]))
}

#[test]
fn l3_an_app_that_listens_is_served_however_long_it_pauses() {
    for own in ["0.0.0.0:8080", "[::1]:8080"] {
        let net = Net::new();
        let _origin = web(&net);
        let quick = "[proxy]\ndrain = '60s'\ndrain_quiet = '100ms'\ndrain_while_listening = true\n";
        let mut dragoman = Dragoman::start(&net, quick);
        let listens: TcpListener = net.app.listen(own.parse().unwrap());
        begin_drain(&dragoman);
        for _ in 0..3 {
            wait::pause(Duration::from_millis(700));
            assert_eq!(get(&net, server(80)).unwrap(), 200, "{own}: the app is there");
        }
        drop(listens);
        assert_eq!(dragoman.wait(wait::SOON).code(), Some(0), "{own}: nothing but our own listeners is left");
        assert!(!dragoman.log().contains("cannot see who listens"), "{}", dragoman.log());
    }
}

#[test]
fn l3_an_app_that_says_that_it_is_done_is_not_looked_for() {
    let net = Net::new();
    let mut dragoman = Dragoman::start(
        &net,
        "[proxy]\ndrain = '60s'\ndrain_while_listening = true\n[control]\nquit_on_tcp = true\n",
    );
    let _listens = net.app.listen("0.0.0.0:8080".parse().unwrap());
    begin_drain(&dragoman);
    assert_eq!(drain(&net, "--quit"), "ending\n");
    assert_eq!(dragoman.wait(wait::SOON).code(), Some(0));
}

#[test]
fn l3_the_deadline_holds_for_an_app_that_never_goes() {
    let net = Net::new();
    let mut dragoman = Dragoman::start(&net, "[proxy]\ndrain = '1s'\ndrain_while_listening = true\n");
    let _listens = net.app.listen("0.0.0.0:8080".parse().unwrap());
    dragoman.signal(Signal::SIGTERM);
    assert_eq!(dragoman.wait(wait::SOON).code(), Some(0));
}

#[test]
fn l3_the_deadline_counts_from_the_announcement_which_cuts_nothing() {
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(7000), echo);
    let mut dragoman = Dragoman::start(&net, "[proxy]\ndrain = '1s'\n[control]\nchanges_on_tcp = true\n");
    let mut flow = net.app.connect(server(7000));
    let works = |flow: &mut Peer| {
        flow.send(b"\x01\x02").unwrap();
        assert_eq!(flow.read_exact(2).unwrap(), b"\x01\x02");
    };
    works(&mut flow);
    drain(&net, "--announce");
    wait::pause(Duration::from_millis(1100));
    drain(&net, "--announce");
    assert_eq!(dragoman.admin("/ready").unwrap().status(), 200, "no drain has begun");
    works(&mut flow);
    // As a native sidecar, whose turn comes when the pod's time is nearly over.
    dragoman.signal(Signal::SIGTERM);
    assert_eq!(dragoman.wait(wait::SOON).code(), Some(0));
    assert!(dragoman.log().contains("deadline=0ns"), "{}", dragoman.log());
    assert_eq!(flow.read_to_reset().unwrap(), (Vec::new(), true));
    dragoman.record_of("drain_deadline");
}

#[test]
fn l3_a_native_sidecar_ends_when_what_is_at_work_has_ended() {
    let net = Net::new();
    let _origins = (Origin::tcp(&net.servers, server(7000), echo), web(&net));
    let native = "[proxy]\ndrain = '60s'\ndrain_quiet = '0s'\n";
    let mut dragoman = Dragoman::start(&net, native);
    let mut kept = net.app.connect(server(80));
    kept.exchange(GET).unwrap();
    dragoman.signal(Signal::SIGTERM);
    assert_eq!(dragoman.wait(wait::SOON).code(), Some(0), "an idle connection is no work");
    assert_eq!(kept.read_to_reset().unwrap(), (Vec::new(), false), "it was closed in order");

    let mut dragoman = Dragoman::start_uncaptured(&net, native);
    let mut flow = net.app.connect(server(7000));
    flow.send(b"\x01\x02").unwrap();
    flow.read_exact(2).unwrap();
    begin_drain(&dragoman);
    wait::pause(Duration::from_millis(500));
    flow.send(b"\x03\x04").unwrap();
    assert_eq!(flow.read_exact(2).unwrap(), b"\x03\x04", "it is at work");
    drop(flow);
    assert_eq!(dragoman.wait(wait::SOON).code(), Some(0));
}

/// One of each kind of work, half done; and the servers, which do the other half when they may.
struct AtWork {
    may_finish: Arc<AtomicBool>,
    download: Peer,
    stream: Wire,
    upgraded: Peer,
    session: Peer,
    _servers: (Origin, Http2Origin, Server),
}

impl AtWork {
    fn servers(net: &Net, may_finish: &Arc<AtomicBool>) -> (Origin, Http2Origin) {
        let (may, may_too) = (Arc::clone(may_finish), Arc::clone(may_finish));
        let until = |may: &AtomicBool| {
            wait::until("it may finish", wait::SOON * 2, || may.load(Ordering::Acquire));
        };
        let web = Origin::tcp(&net.servers, server(80), move |mut peer| {
            let request = peer.request()?.ok_or(ErrorKind::UnexpectedEof)?;
            if request.header("upgrade").is_some() {
                peer.send("HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")?;
                return echo(peer);
            }
            peer.send("HTTP/1.1 200 X\r\ncontent-length: 8\r\n\r\nhalf")?;
            until(&may);
            peer.send("done")
        });
        let http2 = Http2Origin::start(&net.servers, server(81), move |wire, request, _| {
            wire.fields(request.stream, &[(":status", "200")], false)?;
            wire.data(request.stream, b"half", false)?;
            until(&may_too);
            wire.data(request.stream, b"done", true)
        });
        (web, http2)
    }

    fn start(net: &Net) -> impl FnOnce() -> AtWork + '_ {
        let may_finish = Arc::new(AtomicBool::new(false));
        let (web, http2) = AtWork::servers(net, &may_finish);
        let redis = redis(&net.servers);
        move || {
            let mut download = net.app.connect(server(80));
            download.send(GET).unwrap();
            download.read_until(b"half").unwrap();
            let mut stream = Wire::client(net.app.connect(server(81)), &[]).unwrap();
            stream.get(1, "/").unwrap();
            let mut upgraded = net.app.connect(server(80));
            let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
            upgraded.send(upgrade).unwrap();
            upgraded.read_until(b"\r\n\r\n").unwrap();
            let mut session = net.app.connect(SocketAddr::new(server(0).ip(), 6379));
            session.send(PING).unwrap();
            assert_eq!(session.read_exact(PONG.len()).unwrap(), PONG);
            wait::until("the stream is open", wait::SOON, || !http2.requests().is_empty());
            AtWork { may_finish, download, stream, upgraded, session, _servers: (web, http2, redis) }
        }
    }

    fn finish(mut self) {
        self.session.send(PING).unwrap();
        assert_eq!(self.session.read_exact(PONG.len()).unwrap(), PONG, "an idle session of a database");
        self.upgraded.send("ok").unwrap();
        assert_eq!(self.upgraded.read_exact(2).unwrap(), b"ok", "a WebSocket");
        self.may_finish.store(true, Ordering::Release);
        assert_eq!(self.download.read_exact(4).unwrap(), b"done", "a download");
        let response = self.stream.response(1).unwrap();
        assert_eq!(response.body, b"halfdone", "a stream of HTTP/2");
    }
}

#[test]
fn l3_nothing_that_is_at_work_is_cut_before_the_deadline() {
    let net = Net::new();
    let begin = AtWork::start(&net);
    let mut dragoman = Dragoman::start(&net, "[proxy]\ndrain = '60s'\ndrain_quiet = '0s'\n");
    let work = begin();
    begin_drain(&dragoman);
    wait::pause(Duration::from_secs(1));
    work.finish();
    assert_eq!(dragoman.wait(wait::SOON).code(), Some(0));
    assert!(dragoman.records().iter().all(|record| record["cause"].is_null()), "{:#?}", dragoman.records());
}

#[test]
fn l3_what_the_deadline_cuts_says_so() {
    let net = Net::new();
    let begin = AtWork::start(&net);
    let mut dragoman = Dragoman::start(&net, "[proxy]\ndrain = '500ms'\n");
    let work = begin();
    dragoman.signal(Signal::SIGTERM);
    assert_eq!(dragoman.wait(wait::SOON).code(), Some(0));
    for (peer, what) in [(work.download, "download"), (work.upgraded, "WebSocket"), (work.session, "session")]
    {
        let mut peer = peer;
        assert!(peer.read_to_reset().unwrap().1, "{what} ended as if it were whole");
    }
    let cut = dragoman.records_where(4, |record| record["cause"] == "drain_deadline");
    let others: Vec<_> = dragoman
        .records()
        .into_iter()
        .filter(|record| !record["cause"].is_null() && record["cause"] != "drain_deadline")
        .collect();
    assert!(others.is_empty(), "{cut:#?} but {others:#?}");
    work.may_finish.store(true, Ordering::Release);
}

/// Counts what leaves A for the servers and does not come from the proxy's group.
const WATCH: &str = "nft add table inet watch && \
    nft 'add chain inet watch out { type filter hook output priority 300 ; }' && \
    nft add rule inet watch out ip daddr 198.18.0.0/15 tcp flags '&' '(syn|ack)' == syn meta skgid != 1337 counter && \
    nft add rule inet watch out ip6 daddr fd00::/8 tcp flags '&' '(syn|ack)' == syn meta skgid != 1337 counter";

/// What WATCH has counted, in either family.
fn got_round(net: &Net) -> Vec<u64> {
    let rules = net.app.succeed("nft list table inet watch");
    let counts = rules.split("counter packets ").skip(1);
    counts.map(|rest| rest.split(' ').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn l1_a_proxy_that_is_killed_resets_what_is_open_and_nothing_gets_round_until_it_is_back() {
    let net = Net::new();
    let both = server_in_both_families(7000);
    let _echoes = both.map(|at| Origin::tcp(&net.servers, at, echo));
    let _webs =
        server_in_both_families(80).map(|at| Origin::http(&net.servers, at, |_, _| Reply::status(200, "ok")));
    net.app.succeed(WATCH);
    let mut dragoman = Dragoman::start(&net, "");
    let mut open: Vec<Peer> = (0..40).map(|n| net.app.connect(both[n % 2])).collect();
    for flow in &mut open {
        flow.send(b"\x01\x02").unwrap();
        flow.read_exact(2).unwrap();
    }
    let (is_over, served) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        for at in server_in_both_families(80) {
            let (net, is_over, served) = (&net, &is_over, &served);
            scope.spawn(move || {
                while !is_over.load(Ordering::Acquire) {
                    match get(net, at) {
                        Ok(status) => {
                            assert_eq!(status, 200);
                            served.store(true, Ordering::Release);
                        }
                        Err(error) => {
                            let kinds = [
                                ErrorKind::ConnectionRefused,
                                ErrorKind::ConnectionReset,
                                ErrorKind::BrokenPipe,
                            ];
                            assert!(kinds.contains(&error.kind()), "neither refused nor reset: {error}");
                        }
                    }
                }
            });
        }
        wait::until("there is load", wait::SOON, || served.swap(false, Ordering::AcqRel));
        dragoman.signal(Signal::SIGKILL);
        dragoman.wait(wait::SOON);
        for flow in &mut open {
            assert_eq!(flow.read_to_reset().unwrap(), (Vec::new(), true), "an open flow is reset");
        }
        for at in (0..100).map(|n| both[n % 2]) {
            let error = net.app.try_connect(at).err().expect("nobody listens");
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{at}");
        }
        served.store(false, Ordering::Release);
        let _next = Dragoman::start_uncaptured(&net, "");
        wait::until("a new process serves", wait::SOON, || served.load(Ordering::Acquire));
        for at in server_in_both_families(80) {
            assert_eq!(get(&net, at).unwrap(), 200);
        }
        is_over.store(true, Ordering::Release);
    });
    assert_eq!(got_round(&net), [0, 0]);
    // The counters do count.
    net.app.succeed("nft flush table inet dragoman");
    let _direct = both.map(|at| net.app.connect(at));
    assert_eq!(got_round(&net), [1, 1]);
}
