//! A thousand flows of all kinds, and fifty reloads under two hundred requests per second.

use std::io;

use dragoman_harness::http2::Http2Origin;
use dragoman_harness::load::{self, Flow, raise_descriptor_limit};
use dragoman_harness::net::server;
use dragoman_harness::origin::Reply;
use dragoman_harness::{Dragoman, Net, Origin};

const WORKERS: usize = 10;
const HTTP1: usize = 40;
const HTTP2: usize = 30;
const OPAQUE: usize = 30;
const FLOWS: usize = WORKERS * (HTTP1 + HTTP2 + OPAQUE);
const RELOADS: usize = 50;
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

/// The n-th flow of a worker.
fn open(net: &Net, n: usize) -> io::Result<Flow> {
    match n {
        0..HTTP1 => Flow::http1(net.app.try_connect(server(80))?, HOSTS[n % HOSTS.len()]),
        _ if n < HTTP1 + HTTP2 => Flow::http2(net.app.try_connect(server(81))?),
        _ => Flow::opaque(net.app.try_connect(server(9000))?),
    }
}

/// Whether the round of the policy that it meets, as the server sees it, is one that a flow of its kind meets after the last
/// reload.
fn meets_the_last_policy(flow: &mut Flow) -> bool {
    let met = flow.ask().unwrap();
    match flow {
        Flow::Http1(_, "stays") => met == "none",
        Flow::Opaque(_) => met.is_empty(),
        _ => met == RELOADS.to_string(),
    }
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
    let begin = || load::opened(FLOWS / WORKERS, |n| open(&net, n));
    let ask = |flows: &mut Vec<Flow>, turn: usize| {
        let flow = turn % flows.len();
        flows[flow].ask().unwrap();
    };
    let (mut flows, asked) = load::under(WORKERS, begin, ask, |load| {
        for round in 1..=RELOADS {
            let before = load.turns();
            dragoman.reload(&policy(round));
            load.reaches(before + 20);
        }
        load.turns()
    });
    // Each of them is still the one that was opened at the start, and meets the last policy.
    load::each(&mut flows, |flows| assert!(flows.iter_mut().all(meets_the_last_policy)));
    let metrics = dragoman.metrics();
    println!("{asked} requests during {RELOADS} reloads");
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
