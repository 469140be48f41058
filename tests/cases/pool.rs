//! Upstream connections that outlive the flow they were made for: shared only where policy says so, and never
//! at the cost of a request.

use std::time::Duration;

use dragoman_harness::net::server;
use dragoman_harness::origin::{Reply, response};
use dragoman_harness::{Dragoman, Net, Origin, wait};

#[test]
fn h7_a_pooled_connection_that_the_server_closed_costs_no_request() {
    let net = Net::new();
    // The server keeps a connection for one request and closes it without a word.
    let origin =
        Origin::http(&net.servers, server(80), |_, _| Reply::SendAndClose(response(200, "ok").into_bytes()));
    let dragoman = Dragoman::start(&net, "[defaults]\npool = {}\n");
    let mut client = net.app.connect(server(80));
    for n in 0..20 {
        let method = if n % 2 == 0 { "GET" } else { "POST" };
        let answer = client
            .exchange(format!("{method} /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"))
            .unwrap();
        assert_eq!(answer.status(), 200, "{n}: {}", answer.head);
        wait::pause(Duration::from_millis(5));
    }
    assert_eq!(origin.requests().len(), 20, "each arrived once");
    assert_eq!(dragoman.metrics().sum("dragoman_exchanges_total", &[("code", "200")]), 20);
}

#[test]
fn pooled_connections_are_shared_between_flows_only_where_policy_says_so() {
    let net = Net::new();
    let shared = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"));
    let own = Origin::http(&net.servers, server(81), |_, _| Reply::status(200, "ok"));
    let dragoman = Dragoman::start(&net, "[destination.pooled]\nports = [80]\npool = {}\n");
    for port in [80, 81] {
        for _ in 0..5 {
            net.app.connect(server(port)).exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            dragoman.settle();
        }
    }
    assert_eq!((shared.seen().len(), own.seen().len()), (1, 5));
    let reused = [("destination", "pooled"), ("how", "reused")];
    assert_eq!(dragoman.metrics().sum("dragoman_upstream_connections_total", &reused), 4);
}
