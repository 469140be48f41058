//! A thousand flows of all kinds, and fifty reloads under two hundred requests per second.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use dragoman_harness::http2::{Http2Origin, Wire, request};
use dragoman_harness::net::server;
use dragoman_harness::origin::Reply;
use dragoman_harness::{Dragoman, Net, Origin, Peer, wait};

const WORKERS: usize = 10;
const HTTP1: usize = 40;
const HTTP2: usize = 30;
const OPAQUE: usize = 30;
const FLOWS: usize = WORKERS * (HTTP1 + HTTP2 + OPAQUE);
const RELOADS: usize = 50;
/// Between two requests of one worker: together, two hundred in a second.
const PACE: Duration = Duration::from_millis(50);
/// Those of HTTP/1: one that no reload changes, one that each changes, and one of these that has no pool.
const HOSTS: [&str; 3] = ["stays", "changes", "own"];

fn policy(round: usize) -> String {
    let changes = format!("headers = {{ set = {{ x-round = '{round}' }} }}\n");
    format!(
        "[destination.stays]\nhosts = ['stays']\npool = {{}}\nheaders = {{ set = {{ x-round = 'none' }} }}\n\
         [destination.changes]\nhosts = ['changes']\npool = {{}}\n{changes}\
         [destination.own]\nhosts = ['own']\n{changes}\
         [destination.streams]\nports = [81]\npool = {{}}\n{changes}\
         [destination.raw]\nports = [9000]\nconnect_timeout = '{}s'\n",
        round + 5
    )
}

/// A connection of the app that is never made anew.
enum Flow {
    Http1(Peer, &'static str),
    Http2(Wire, u32),
    Opaque(Peer),
}

impl Flow {
    fn open(net: &Net, n: usize) -> io::Result<Flow> {
        Ok(match n {
            0..HTTP1 => Flow::Http1(net.app.try_connect(server(80))?, HOSTS[n % HOSTS.len()]),
            _ if n < HTTP1 + HTTP2 => Flow::Http2(Wire::client(net.app.try_connect(server(81))?, &[])?, 1),
            _ => Flow::Opaque(net.app.try_connect(server(9000))?),
        })
    }

    /// One request and its answer. Returns the round of the policy that it met, as the server saw it.
    fn ask(&mut self) -> io::Result<String> {
        let failed = |what: String| Err(io::Error::other(what));
        match self {
            Flow::Http1(peer, host) => {
                let answer = peer.exchange(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))?;
                if answer.status() == 200 { Ok(answer.text()) } else { failed(answer.head) }
            }
            Flow::Http2(wire, stream) => {
                wire.fields(*stream, &request("GET", "/"), true)?;
                let answer = wire.response(*stream)?;
                *stream += 2;
                let text = String::from_utf8_lossy(&answer.body).into_owned();
                if answer.status() == 200 { Ok(text) } else { failed(format!("{}", answer.status())) }
            }
            Flow::Opaque(peer) => {
                peer.send([1, 2, 3, 4])?;
                let echoed = peer.read_exact(4)?;
                if echoed == [1, 2, 3, 4] { Ok(String::new()) } else { failed(format!("{echoed:?}")) }
            }
        }
    }

    /// Whether the round that it met is one that a flow of its kind meets after the last reload.
    fn meets_the_last_policy(&mut self) -> bool {
        let met = self.ask().unwrap();
        match self {
            Flow::Http1(_, "stays") => met == "none",
            Flow::Opaque(_) => met.is_empty(),
            _ => met == RELOADS.to_string(),
        }
    }
}

/// This process holds both ends, and those of the servers.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}

#[test]
fn l4_fifty_reloads_under_load_fail_no_request_and_drop_no_flow() {
    raise_descriptor_limit();
    let net = Net::new();
    let _http1 = Origin::http(&net.servers, server(80), |request, _| {
        Reply::status(200, request.header("x-round").unwrap_or_default())
    });
    let _http2 = Http2Origin::start(&net.servers, server(81), |wire, request, _| {
        wire.respond(request.stream, "200", request.field("x-round").unwrap_or_default().as_bytes())
    });
    let _echo = Origin::tcp(&net.servers, server(9000), |mut peer| {
        loop {
            let bytes = peer.read_exact(4)?;
            peer.send(bytes)?;
        }
    });
    let dragoman = Dragoman::start(&net, &policy(0));
    let (ready, over, asked) = (AtomicUsize::new(0), AtomicBool::new(false), AtomicUsize::new(0));
    let work = || {
        let mut flows: Vec<_> = (0..FLOWS / WORKERS).map(|n| Flow::open(&net, n).unwrap()).collect();
        flows.iter_mut().for_each(|flow| drop(flow.ask().unwrap()));
        ready.fetch_add(1, Ordering::SeqCst);
        for turn in 0.. {
            if over.load(Ordering::SeqCst) {
                break;
            }
            let flow = turn % flows.len();
            flows[flow].ask().unwrap();
            asked.fetch_add(1, Ordering::SeqCst);
            wait::pause(PACE);
        }
        // Each of them is still the one that was opened at the start, and meets the last policy.
        assert!(flows.iter_mut().all(Flow::meets_the_last_policy));
        flows
    };
    let flows: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
        wait::until("all flows are open", 3 * wait::SOON, || {
            workers.iter().any(ScopedJoinHandle::is_finished) || ready.load(Ordering::SeqCst) == WORKERS
        });
        for round in 1..=RELOADS {
            let before = asked.load(Ordering::SeqCst);
            dragoman.reload(&policy(round));
            wait::until("requests go on", wait::SOON, || {
                asked.load(Ordering::SeqCst) >= before + 20
                    || workers.iter().any(ScopedJoinHandle::is_finished)
            });
        }
        over.store(true, Ordering::SeqCst);
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let metrics = dragoman.metrics();
    println!("{} requests during {RELOADS} reloads", asked.load(Ordering::SeqCst));
    assert_eq!(metrics.sum("dragoman_flows_open", &[]), FLOWS as u64, "no flow has ended");
    assert_eq!(metrics.sum("dragoman_flows_total", &[]), 0);
    drop(flows);
    let metrics = dragoman.settle();
    let well = metrics.sum("dragoman_flows_total", &[("cause", "-")]);
    assert_eq!((well, metrics.sum("dragoman_flows_total", &[])), (FLOWS as u64, FLOWS as u64));
    let well = metrics.sum("dragoman_exchanges_total", &[("code", "200"), ("cause", "-")]);
    assert_eq!(well, metrics.sum("dragoman_exchanges_total", &[]));
    assert_eq!(metrics.sum("dragoman_config_reloads_total", &[("result", "applied")]), RELOADS as u64);
}
