//! A reload under open flows: what is under way is not touched, and what comes next has the new policy.

mod load;
mod state;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dragoman_harness::http2::{Http2Origin, Wire};
use dragoman_harness::net::server;
use dragoman_harness::origin::{Reply, response};
use dragoman_harness::{Dragoman, Net, Origin, Peer, wait};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A server on port 80 that answers when it is told to.
fn patient(net: &Net) -> (Origin, Arc<AtomicBool>) {
    let go = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&go);
    let origin = Origin::http(&net.servers, server(80), move |_, _| {
        wait::until("the server may answer", wait::SOON, || told.load(Ordering::SeqCst));
        Reply::status(200, "ok")
    });
    (origin, go)
}

#[test]
fn l4_an_exchange_that_is_under_way_keeps_its_policy() {
    let net = Net::new();
    let (origin, go) = patient(&net);
    let policy = |timeout: &str, value: &str| {
        format!(
            "[defaults]\ntimeout = '{timeout}'\nresponse_headers = {{ set = {{ x-policy = '{value}' }} }}\n"
        )
    };
    let dragoman = Dragoman::start(&net, &policy("60s", "old"));
    let mut under_way = net.app.connect(server(80));
    under_way.send(GET).unwrap();
    wait::until("the request is at the server", wait::SOON, || {
        origin.seen().first().is_some_and(|seen| seen.text().ends_with("\r\n\r\n"))
    });
    dragoman.reload(&policy("2s", "new"));
    let answer = net.app.connect(server(80)).exchange(GET).unwrap();
    assert_eq!(
        (answer.status(), answer.header("x-dragoman-cause")),
        (504, Some("timeout")),
        "the new policy"
    );
    go.store(true, Ordering::SeqCst);
    let answer = under_way.response("GET").unwrap();
    assert_eq!(
        (answer.status(), answer.header("x-policy")),
        (200, Some("old")),
        "longer than the new policy lets it"
    );
    let answer = under_way.exchange(GET).unwrap();
    assert_eq!((answer.status(), answer.header("x-policy")), (200, Some("new")), "on the same connection");
}

const DENY: &str = "[destination.a]\nhosts = ['a']\ndeny = true\n";

#[test]
fn a_new_deny_rule_holds_for_the_next_exchange_on_an_old_connection() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"));
    let dragoman = Dragoman::start(&net, "[defaults]\nrequest_id = true\n");
    let mut client = net.app.connect(server(80));
    let status = |client: &mut Peer| client.exchange(GET).unwrap().status();
    assert_eq!(status(&mut client), 200);
    dragoman.reload(DENY);
    assert_eq!(status(&mut client), 403);
    assert_eq!(origin.requests().len(), 1);
    dragoman.reload("");
    assert_eq!(status(&mut net.app.connect(server(80))), 200);
    assert_eq!(dragoman.record_of("denied")["destination"], "a");
}

#[test]
fn a_new_deny_rule_holds_for_the_next_stream_on_an_old_connection() {
    let net = Net::new();
    let origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| {
        wire.respond(request.stream, "200", b"ok")
    });
    let dragoman = Dragoman::start(&net, "[defaults]\nrequest_id = true\n");
    let mut client = Wire::client(net.app.connect(server(80)), &[]).unwrap();
    let mut status = |stream| {
        client.get(stream, "/").unwrap();
        client.response(stream).map(|response| response.status())
    };
    assert_eq!(status(1).unwrap(), 200);
    dragoman.reload("[destination.none]\ncidrs = ['0.0.0.0/0']\ndeny = true\n");
    assert_eq!(status(3).unwrap(), 403);
    dragoman.reload("[defaults]\nrequest_id = true\n");
    assert_eq!(status(5).unwrap(), 200);
    assert_eq!(origin.requests().len(), 2);
}

/// An app that connects early and speaks late meets the policy of the time at which it speaks.
#[test]
fn a_flow_that_was_silent_is_decided_by_the_policy_of_now() {
    let net = Net::new();
    let origin = Origin::tcp(&net.servers, server(9000), |mut peer| peer.read_to_end().map(drop));
    let dragoman = Dragoman::start(&net, "");
    let mut silent = net.app.connect(server(9000));
    dragoman.metrics_where("it is open", |metrics| metrics.sum("dragoman_flows_open", &[]) == 1);
    dragoman.reload("[destination.raw]\nports = [9000]\ndeny = true\n");
    silent.send([1, 2, 3, 4]).unwrap();
    assert!(silent.read_to_reset().unwrap().1, "it was refused");
    assert_eq!(dragoman.record_of("denied")["destination"], "raw");
    assert!(origin.seen().iter().all(|seen| seen.bytes.is_empty()));
}

#[test]
fn a_flow_that_is_relayed_as_bytes_outlives_a_rule_that_would_refuse_it() {
    let net = Net::new();
    let _echo = Origin::tcp(&net.servers, server(9000), |mut peer| {
        loop {
            let bytes = peer.read_exact(4)?;
            peer.send(bytes)?;
        }
    });
    let dragoman = Dragoman::start(&net, "");
    let mut client = net.app.connect(server(9000));
    let mut echo = || {
        client.send([1, 2, 3, 4]).unwrap();
        client.read_exact(4)
    };
    assert_eq!(echo().unwrap(), [1, 2, 3, 4]);
    dragoman.reload("[destination.raw]\nports = [9000]\ndeny = true\n");
    assert_eq!(echo().unwrap(), [1, 2, 3, 4]);
    assert!(net.app.knock(server(9000), &[1, 2, 3, 4]).1, "a new one is reset");
}

/// The app has logged in on its connection: another one in its place would be one of nobody.
#[test]
fn a_connection_on_which_the_app_has_logged_in_is_kept() {
    let net = Net::new();
    let origin = Origin::tcp(&net.servers, server(80), |mut peer| {
        let mut known = false;
        while let Some(request) = peer.request()? {
            known |= request.header("authorization").is_some();
            peer.send(response(if known { 200 } else { 401 }, "ok"))?;
        }
        Ok(())
    });
    let dragoman = Dragoman::start(&net, "[defaults]\npool = {}\n");
    let mut client = net.app.connect(server(80));
    let login = "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: NTLM abc\r\n\r\n";
    assert_eq!(client.exchange(login).unwrap().status(), 200);
    dragoman.reload("[defaults]\npool = {}\ntimeout = '9s'\n");
    assert_eq!(client.exchange(GET).unwrap().status(), 200);
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn what_the_access_log_tells_of_is_live() {
    let net = Net::new();
    let _origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"));
    let dragoman = Dragoman::start(&net, "[log]\naccess = 'off'\n");
    let mut client = net.app.connect(server(80));
    for (path, access) in [("/a", "all"), ("/b", "failures"), ("/c", "all"), ("/d", "off")] {
        let answer = client.exchange(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).unwrap();
        assert_eq!(answer.status(), 200);
        dragoman.reload(&format!("[log]\naccess = '{access}'\n"));
    }
    dragoman.reload("[log]\naccess = 'all'\n");
    drop(client);
    let records = dragoman.records_where(3, |_| true);
    let paths: Vec<_> = records.iter().filter_map(|record| record["path"].as_str()).collect();
    assert_eq!((paths, records.len()), (vec!["/b", "/d"], 3), "and the flow itself");
}

#[test]
fn limits_of_the_process_are_live() {
    let net = Net::new();
    let _origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"));
    let dragoman = Dragoman::start(&net, "[proxy]\nmax_flows = 1\n");
    let mut first = net.app.connect(server(80));
    assert_eq!(first.exchange(GET).unwrap().status(), 200);
    // Reset at once, which may show in any step.
    assert!(net.app.try_connect(server(80)).and_then(|mut client| client.exchange(GET)).is_err());
    let metrics = dragoman.reload("[proxy]\nmax_flows = 2\nrequest_head_timeout = '100ms'\n");
    assert_eq!(metrics.sum("dragoman_flows_limit", &[]), 2);
    let mut second = net.app.connect(server(80));
    assert_eq!(second.exchange(GET).unwrap().status(), 200);
    for client in [&mut first, &mut second] {
        client.send("GET / HTTP/1.1\r\n").unwrap();
        assert_eq!(client.response("GET").unwrap().status(), 408);
    }
}
