//! What policy does to an HTTP/1 exchange beside retrying it: headers of responses, breakers of routes, room for
//! replay, and the patience with an app that does not go on with its body.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dragoman_harness::net::server;
use dragoman_harness::origin::{Reply, response};
use dragoman_harness::{Dragoman, Net, Origin, Peer, wait};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// The lines of a head whose names are not among `names`.
fn without(head: &str, names: &[&str]) -> String {
    let named = |line: &&str| {
        let name = line.split(':').next().unwrap_or_default();
        !names.iter().any(|other| name.eq_ignore_ascii_case(other))
    };
    head.split_inclusive("\r\n").filter(named).collect()
}

fn milliseconds(text: &str) -> f64 {
    let (_, decimals) = text.split_once('.').unwrap_or_else(|| panic!("{text}"));
    assert_eq!(decimals.len(), 3, "{text}");
    text.parse().unwrap()
}

#[test]
fn h1_policy_changes_the_headers_of_responses_and_nothing_else() {
    const OWN: &str = "HTTP/1.1 200 Fine\r\nSERVER: nginx\r\nX-b: 1\r\nx-A:2\r\nX-B:  3 \r\nServer-Timing: db;dur=5\r\n\
                       X-Frame-Options: ALLOW\r\nx-frame-options: SAME\r\nX-Response-Time: 9\r\nContent-Length: 2\r\n\r\n";
    let net = Net::new();
    let _origin = Origin::http(&net.servers, server(80), |request, _| {
        wait::pause(Duration::from_millis(30));
        Reply::Send([OWN, if request.word(0) == "HEAD" { "" } else { "ok" }].concat().into_bytes())
    });
    let configuration = "[destination.changed]\nhosts = ['a']\nresponse_time = true\nserver_timing = true\npool = {}\n\
        response_headers = { set = { x-frame-options = 'DENY' }, remove = ['server'] }\n\
        [destination.other]\nhosts = ['other']\n\
        [destination.other.route.timed]\npath = '/timed'\nresponse_time = true\n";
    let _dragoman = Dragoman::start(&net, configuration);
    let mut client = net.app.connect(server(80));
    for method in ["GET", "HEAD", "GET"] {
        let request = format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
        client.send(request).unwrap();
        let answer = client.response(method).unwrap();
        let added = ["server", "x-frame-options", "x-response-time", "server-timing"];
        assert_eq!(without(&answer.head, &added), without(OWN, &added));
        assert_eq!(answer.text(), if method == "GET" { "ok" } else { "" });
        let lines: Vec<&str> =
            answer.head.lines().filter(|line| !without(line, &added).contains(line)).collect();
        let [own, set, time, timing] = lines[..] else { panic!("{lines:#?}") };
        assert_eq!((own, set), ("Server-Timing: db;dur=5", "x-frame-options: DENY"));
        let time = milliseconds(time.strip_prefix("x-response-time: ").unwrap());
        assert!((30.0..30_000.0).contains(&time), "{time}");
        let (dragoman, upstream) = timing
            .strip_prefix("server-timing: dragoman;dur=")
            .unwrap()
            .split_once(", upstream;dur=")
            .unwrap();
        let (dragoman, upstream) = (milliseconds(dragoman), milliseconds(upstream));
        assert!(upstream >= 30.0 && (dragoman + upstream - time).abs() < 0.01, "{timing}, {time}");
    }
    let plain = client.exchange("GET / HTTP/1.1\r\nHost: other\r\n\r\n").unwrap();
    assert_eq!(plain.head, OWN);
    let timed = client.exchange("GET /timed HTTP/1.1\r\nHost: other\r\n\r\n").unwrap();
    assert_ne!(timed.header("x-response-time"), Some("9"));
    assert_eq!(without(&timed.head, &["x-response-time"]), without(OWN, &["x-response-time"]));
}

#[test]
fn only_the_final_response_of_a_server_is_changed() {
    let net = Net::new();
    let _origin = Origin::http(&net.servers, server(80), |_, _| {
        Reply::Send(
            b"HTTP/1.1 103 Early Hints\r\nServer: s\r\n\r\nHTTP/1.1 204 No Content\r\nServer: s\r\n\r\n"
                .into(),
        )
    });
    let configuration = "[defaults]\nresponse_headers = { set = { x-seen = 'yes' }, remove = ['server'] }\nconnect_timeout = '1s'\n";
    let _dragoman = Dragoman::start(&net, configuration);
    let mut client = net.app.connect(server(80));
    client.send(GET).unwrap();
    assert_eq!(client.response("GET").unwrap().head, "HTTP/1.1 103 Early Hints\r\nServer: s\r\n\r\n");
    assert_eq!(client.response("GET").unwrap().head, "HTTP/1.1 204 No Content\r\nx-seen: yes\r\n\r\n");
    let own = net.app.connect(server(81)).exchange(GET).unwrap();
    assert_eq!((own.status(), own.header("x-seen")), (503, None));
}

#[test]
fn a_route_has_a_breaker_of_its_own() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |request, _| match request.word(1) {
        "/bad" => Reply::status(500, "bad"),
        "/busy" => Reply::status(429, "busy"),
        _ => Reply::status(200, "good"),
    });
    let configuration = "[destination.d]\nports = [80]\nbreaker = { failures = 3 }\n\
        [destination.d.route.bad]\npath = '/bad'\nbreaker = { failures = 2 }\n\
        [destination.d.route.busy]\npath = '/busy'\nbreaker = { failures = 1, statuses = [429] }\n\
        [destination.d.route.same]\npath = '/same'\ntimeout = '9s'\n";
    let dragoman = Dragoman::start(&net, configuration);
    let mut client = net.app.connect(server(80));
    let mut get = |path: &str| {
        let answer = client.exchange(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).unwrap();
        (answer.status(), answer.header("x-dragoman-cause").map(str::to_owned))
    };
    let refused = || (503, Some("breaker_open".to_owned()));
    assert_eq!([get("/bad"), get("/bad"), get("/bad")], [(500, None), (500, None), refused()]);
    assert_eq!([get("/busy"), get("/busy")], [(429, None), refused()]);
    assert_eq!([get("/good"), get("/same")], [(200, None), (200, None)]);
    assert_eq!(origin.requests().len(), 5);
    let open = dragoman.metrics().sum("dragoman_breakers", &[("destination", "d"), ("state", "open")]);
    assert_eq!(open, 2);
}

#[test]
fn h9_all_exchanges_together_keep_no_more_than_they_may() {
    let net = Net::new();
    let held = Arc::new(AtomicBool::new(true));
    let origin = Origin::http(&net.servers, server(80), {
        let held = Arc::clone(&held);
        move |request, _| {
            if request.word(1) == "/held" {
                wait::until("it may go on", wait::SOON, || !held.load(Ordering::SeqCst));
            }
            Reply::status(503, "busy")
        }
    });
    let configuration = "[proxy]\nreplay_bytes = '1KiB'\n[defaults]\n\
        retry = { attempts = 2, methods = ['PUT'], base = '1ms', budget = { min_per_second = 1000 } }\n";
    let dragoman = Dragoman::start(&net, configuration);
    let put = |path: &str, length: usize| {
        let head = format!("PUT {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        head + &"x".repeat(length)
    };
    let attempts = |path: &str| origin.requests().iter().filter(|request| request.word(1) == path).count();
    let refusals = |m: &dragoman_harness::metrics::Metrics| {
        m.sum("dragoman_retry_refusals_total", &[("reason", "body_not_replayable")])
    };
    for _ in 0..5 {
        let before = attempts("/alone");
        net.app.connect(server(80)).exchange(put("/alone", 1000)).unwrap();
        assert_eq!(attempts("/alone") - before, 2, "what one exchange gave back is there for the next");
    }
    net.app.connect(server(80)).exchange(put("/large", 1025)).unwrap();
    assert_eq!((attempts("/large"), refusals(&dragoman.metrics())), (1, 1));

    let connections = origin.seen().len();
    let mut holder = net.app.connect(server(80));
    holder.send(put("/held", 1000)).unwrap();
    let seen = origin.connection(connections);
    wait::until("the body is at the server", wait::SOON, || seen.bytes.len() > 1000);
    net.app.connect(server(80)).exchange(put("/beside", 100)).unwrap();
    assert_eq!((attempts("/beside"), refusals(&dragoman.metrics())), (1, 2));
    held.store(false, Ordering::SeqCst);
    assert_eq!(holder.response("PUT").unwrap().status(), 503);
    assert_eq!(attempts("/held"), 2);
    net.app.connect(server(80)).exchange(put("/after", 1000)).unwrap();
    assert_eq!(attempts("/after"), 2);
}

const PATIENCE: &str =
    "[proxy]\nrequest_body_timeout = '2s'\n[defaults]\nretry = {}\nbreaker = { failures = 1 }\n";

/// A server that reads the whole request.
fn storing(net: &Net) -> Origin {
    Origin::http(&net.servers, server(80), |request, _| Reply::status(200, &request.body.len().to_string()))
}

#[test]
fn cause_request_timeout_is_408_for_an_app_that_is_silent_in_its_body() {
    let net = Net::new();
    let origin = storing(&net);
    let dragoman = Dragoman::start(&net, PATIENCE);
    for part in [
        "Content-Length: 10\r\n\r\n",
        "Content-Length: 10\r\n\r\nhalf",
        "Transfer-Encoding: chunked\r\n\r\n4\r\nha",
    ] {
        let mut client = net.app.connect(server(80));
        client.send(format!("PUT / HTTP/1.1\r\nHost: a\r\n{part}")).unwrap();
        let answer = client.response("PUT").unwrap();
        assert_eq!(
            (answer.status(), answer.header("x-dragoman-cause")),
            (408, Some("request_timeout")),
            "{part:?}"
        );
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(client.read_to_end().unwrap(), b"");
    }
    assert_eq!(origin.requests().len(), 0, "half a request is not one");
    let metrics = dragoman.settle();
    assert_eq!(metrics.sum("dragoman_exchanges_total", &[("code", "408"), ("cause", "request_timeout")]), 3);
    assert_eq!(
        metrics.sum("dragoman_attempts_total", &[]),
        3,
        "the breaker did not open, and nothing was repeated"
    );
    assert_eq!(net.app.connect(server(80)).exchange(GET).unwrap().status(), 200);
}

#[test]
fn a_slow_body_that_goes_on_is_waited_for() {
    let net = Net::new();
    let _origin = storing(&net);
    let _dragoman = Dragoman::start(&net, PATIENCE);
    let mut client = net.app.connect(server(80));
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n").unwrap();
    client.send_slowly(&[b'x'; 20], Duration::from_secs(3)).unwrap();
    assert_eq!(client.response("PUT").unwrap().text(), "20");
    // Between two requests there is no body to be silent in.
    wait::pause(Duration::from_millis(2500));
    assert_eq!(client.exchange(GET).unwrap().status(), 200);
}

#[test]
fn an_app_that_waits_for_leave_or_for_the_server_is_not_silent() {
    const LENGTH: usize = 32 << 20;
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(80), |mut peer: Peer| {
        peer.read_until(b"\r\n\r\n")?;
        wait::pause(Duration::from_millis(2500));
        peer.send("HTTP/1.1 100 Continue\r\n\r\n")?;
        // Its windows are full for a while: the app cannot go on, and is not to blame.
        wait::pause(Duration::from_millis(2500));
        peer.read_exact(LENGTH)?;
        peer.send(response(200, "stored"))
    });
    let _dragoman = Dragoman::start(&net, PATIENCE);
    let mut client = net.app.connect(server(80));
    let head =
        format!("PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {LENGTH}\r\n\r\n");
    client.send(head).unwrap();
    assert_eq!(client.response("PUT").unwrap().status(), 100);
    client.send(vec![b'x'; LENGTH]).unwrap();
    assert_eq!(client.response("PUT").unwrap().text(), "stored");
}

#[test]
fn an_app_that_is_silent_after_the_response_began_is_reset() {
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(80), |mut peer: Peer| {
        peer.read_until(b"\r\n\r\n")?;
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")?;
        peer.read_to_end().map(drop)
    });
    let dragoman = Dragoman::start(&net, PATIENCE);
    let mut client = net.app.connect(server(80));
    let began = Instant::now();
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf").unwrap();
    let (bytes, reset) = client.read_to_reset().unwrap();
    assert!(bytes.ends_with(b"half") && reset && began.elapsed() >= Duration::from_secs(2));
    let record = dragoman.record_of("request_timeout");
    assert_eq!((&record["status"], &record["who"]), (&200.into(), &"app".into()), "{record}");
}
