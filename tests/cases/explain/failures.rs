//! A case for each way in which an exchange or a flow fails: what is told of it, but for times and ids.

use dragoman_harness::http2::{Wire, request};
use dragoman_harness::net::server;
use dragoman_harness::origin::Reply;
use dragoman_harness::{Dragoman, Net, Origin, Peer};

use crate::{ask, golden, mask, stdout, stories};

const GET: &str = "GET /v1/things?token=secret HTTP/1.1\r\nHost: a.test\r\nx-request-id: r1\r\n\r\n";
const POST: &str =
    "POST /v1/things HTTP/1.1\r\nHost: a.test\r\nx-request-id: r1\r\nContent-Length: 2\r\n\r\nhi";

/// Tells what became of the one flow or exchange that failed, and compares that.
fn tells(net: &Net, name: &str, cause: &str) {
    let failed = stories(net, 1, &["--cause", cause]);
    let id = failed.last().expect("at least one")["id"].as_str().expect("a text");
    // Whether the early dial was there before the app spoke is chance.
    let text = stdout(&ask(net, &["explain", id])).replace("the early connection", "a new connection");
    assert!(text.contains(cause) && !text.contains("secret"), "{text}");
    golden(name, &mask(&text));
}

/// One exchange of an app that speaks HTTP/1.
fn exchanges(net: &Net, request: &str) -> u16 {
    net.app.connect(server(80)).exchange(request).unwrap().status()
}

/// A server that reads a request, says this, and resets the connection once that has arrived.
fn resetting(net: &Net, says: &'static str) -> Origin {
    Origin::tcp(&net.servers, server(80), move |mut peer: Peer| {
        peer.request()?;
        peer.send(says)?;
        peer.reset_when_acknowledged()
    })
}

/// Declared as HTTP: an early dial that fails then says nothing, however late the app speaks.
const RETRY: &str = "[defaults]\nprotocol = 'http'\nretry = { attempts = 2, base = '1ms' }\n";

#[test]
fn l7_connection_refused() {
    let net = Net::new();
    let _dragoman = Dragoman::start(&net, RETRY);
    assert_eq!(exchanges(&net, GET), 503);
    tells(&net, "connect_refused", "connect_refused");
}

#[test]
fn l7_connection_timed_out() {
    let net = Net::new();
    net.servers.succeed(
        "nft add table inet t && nft 'add chain inet t c { type filter hook input priority 0 ; }' && \
         nft add rule inet t c tcp dport 80 drop",
    );
    let _dragoman = Dragoman::start(
        &net,
        "[defaults]\nconnect_timeout = '300ms'\nprotocol = 'http'\nrequest_id = true\n",
    );
    assert_eq!(exchanges(&net, GET), 503);
    tells(&net, "connect_timeout", "connect_timeout");
}

#[test]
fn l7_reset_inside_the_body() {
    let net = Net::new();
    let _origin = resetting(&net, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    let _dragoman = Dragoman::start(&net, RETRY);
    let mut client = net.app.connect(server(80));
    client.send(GET).unwrap();
    assert!(client.read_to_reset().unwrap().1, "the app must notice");
    tells(&net, "reset_in_body", "upstream_reset");
}

#[test]
fn l7_a_post_that_may_have_been_processed() {
    let net = Net::new();
    let _origin = resetting(&net, "");
    let _dragoman = Dragoman::start(&net, RETRY);
    assert_eq!(exchanges(&net, POST), 502);
    tells(&net, "post_not_safe", "upstream_reset");
}

#[test]
fn l7_breaker_open() {
    let net = Net::new();
    let _origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(500, "no"));
    let _dragoman = Dragoman::start(&net, "[defaults]\nbreaker = { failures = 1, open = '1h' }\n");
    assert_eq!((exchanges(&net, GET), exchanges(&net, GET)), (500, 503));
    tells(&net, "breaker_open", "breaker_open");
    tells(&net, "upstream_status", "upstream_status");
}

#[test]
fn l7_budget_spent() {
    let net = Net::new();
    let _origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(503, "busy"));
    let budget = "budget = { ratio = 0.001, min_per_second = 0 }";
    let _dragoman = Dragoman::start(&net, &format!("[defaults]\nretry = {{ base = '1ms', {budget} }}\n"));
    assert_eq!(exchanges(&net, GET), 503);
    tells(&net, "budget_spent", "upstream_status");
}

#[test]
fn l7_head_too_large_and_bad_framing() {
    let net = Net::new();
    let _origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"));
    let _dragoman =
        Dragoman::start(&net, "[proxy]\nmax_head_bytes = '1KiB'\n[defaults]\nrequest_id = true\n");
    let long = format!("GET / HTTP/1.1\r\nHost: a.test\r\nx-secret: {}\r\n\r\n", "s".repeat(2000));
    assert_eq!(exchanges(&net, &long), 431);
    let both =
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(exchanges(&net, both), 400);
    tells(&net, "head_too_large", "head_too_large");
    tells(&net, "bad_request", "bad_request");
}

#[test]
fn l7_denied_and_why_by_this_destination_and_route() {
    let net = Net::new();
    let _origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(500, "no"));
    let policy = "[destination.forbidden]\nhosts = ['*.forbidden.test']\ndeny = true\n\
                  [destination.elsewhere]\nhosts = ['*.forbidden.test']\ncidrs = ['10.0.0.0/8']\n\
                  [destination.shop]\nhosts = ['a.test']\nrequest_id = true\n\
                  [destination.shop.route.writes]\npath = '/v1/*'\nmethods = ['POST']\ntimeout = '9s'\n\
                  [destination.shop.route.gold]\npath = '/v1/things'\nmatch_headers = { x-tenant = 'gold' }\ntimeout = '9s'\n\
                  [destination.shop.route.all]\npath = '/v1/*'\ntimeout = '5s'\n";
    let _dragoman = Dragoman::start(&net, policy);
    assert_eq!(
        exchanges(&net, "GET / HTTP/1.1\r\nHost: www.forbidden.test\r\nx-request-id: r1\r\n\r\n"),
        403
    );
    assert_eq!(exchanges(&net, GET), 500);
    tells(&net, "denied", "denied");
    tells(&net, "route", "upstream_status");
    let imagined =
        ["explain", "http://a.test/v1/things", "--address", "198.18.0.2", "--header", "x-tenant: gold"];
    golden("imagined", &stdout(&ask(&net, &imagined)));
}

#[test]
fn l7_requests_that_take_too_long() {
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(80), |mut peer: Peer| peer.read_to_end().map(drop));
    let policy = "[proxy]\nrequest_head_timeout = '300ms'\n[defaults]\ntry_timeout = '200ms'\n\
                  retry = { attempts = 2, base = '1ms' }\n";
    let _dragoman = Dragoman::start(&net, policy);
    let mut client = net.app.connect(server(80));
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n").unwrap();
    assert_eq!(client.response("GET").unwrap().status(), 408);
    assert_eq!(exchanges(&net, GET), 504);
    tells(&net, "request_timeout", "request_timeout");
    tells(&net, "try_timeout", "try_timeout");
}

#[test]
fn l7_an_answer_that_is_none() {
    let net = Net::new();
    let _origin = resetting(&net, "SSH-2.0-OpenSSH_9.2\r\n");
    let _dragoman = Dragoman::start(&net, RETRY);
    assert_eq!(exchanges(&net, GET), 502);
    tells(&net, "bad_response", "bad_response");
}

#[test]
fn l7_opaque_flows() {
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(81), |mut peer: Peer| {
        peer.send("hello")?;
        peer.read_exact(3)?;
        peer.reset_when_acknowledged()
    });
    let _dragoman = Dragoman::start(&net, "[defaults]\nretry = { attempts = 2, base = '1ms' }\n");
    // Silent: an app that speaks late, and one that speaks in time, are not told the same.
    assert!(net.app.knock(server(80), b"").1, "a reset");
    tells(&net, "opaque_refused", "connect_refused");
    let mut client = net.app.connect(server(81));
    client.read_exact(5).unwrap();
    client.send("bye").unwrap();
    assert!(client.read_to_reset().unwrap().1, "the app must notice");
    tells(&net, "opaque_reset", "upstream_reset");
}

#[test]
fn l7_http2_refused_and_not_repeated() {
    let net = Net::new();
    let _dragoman = Dragoman::start(&net, RETRY);
    let mut client = Wire::client(net.app.connect(server(80)), &[]).unwrap();
    client.fields(1, &request("GET", "/v1/things"), true).unwrap();
    assert_eq!(client.response(1).unwrap().status(), 503);
    tells(&net, "http2_refused", "connect_refused");
    let _origin = Origin::tcp(&net.servers, server(80), |mut peer: Peer| {
        peer.read_until(b"hi")?;
        peer.reset()
    });
    client.fields(3, &request("POST", "/v1/things"), false).unwrap();
    client.data(3, b"hi", true).unwrap();
    assert_eq!(client.response(3).unwrap().status(), 502);
    let failed = stories(&net, 2, &["--cause", "any"]);
    let text = stdout(&ask(&net, &["explain", failed[1]["id"].as_str().unwrap()]));
    assert!(
        text.contains("not repeated: not_safe")
            && text.contains("spoke     http2")
            && text.contains("POST a.test/v1/things"),
        "{text}"
    );
}

#[test]
fn l7_translation_to_http2_refused() {
    let net = Net::new();
    let _dragoman = Dragoman::start(&net, &format!("{RETRY}upstream_protocol = 'http2'\n"));
    assert_eq!(exchanges(&net, GET), 503);
    tells(&net, "translation_refused", "connect_refused");
}
