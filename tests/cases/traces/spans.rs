//! What the spans say: who called whom, when, and how it went.

use std::time::Duration;

use dragoman_harness::http2::{Http2Origin, Wire, request};
use dragoman_harness::net::server;
use dragoman_harness::origin::Reply;
use dragoman_harness::{Dragoman, Net, Origin, wait};

use crate::receiver::{PORT, Receiver, exporting, roots};
use crate::{CALLER, TRACE, get, now, traceparent};

const CLIENT: u64 = 3;
const ERROR: u64 = 2;

#[test]
fn an_exchange_is_a_span_and_each_attempt_one_below_it() {
    let net = Net::new();
    let receiver = Receiver::start(&net);
    let origin = Origin::http(&net.servers, server(8080), |_, n| match n {
        0 => Reply::status(503, "busy"),
        1 => Reply::reset(),
        _ => Reply::status(200, "fine"),
    });
    let policy = "[defaults]\ntrace = true\nretry = { base = '1ms', attempts = 4 }\n\
        [destination.shop]\nhosts = ['shop.test']\npool = {}\n[destination.shop.route.items]\npath = '/items/{id}'\n";
    let dragoman = Dragoman::start(&net, &exporting("0", policy));
    let before = now();
    let mut app = net.app.connect(server(8080));
    let fields = format!("traceparent: 00-{TRACE}-{CALLER}-01\r\n");
    assert_eq!(app.exchange(get("/items/7?card=4111222233334444", &fields)).unwrap().status(), 200);
    let spans = receiver.wait(4);
    let after = now();

    let [exchange] = roots(&spans)[..] else { panic!("{spans:#?}") };
    assert_eq!((exchange.text("name"), exchange.number("kind")), ("GET items", CLIENT));
    assert_eq!((exchange.text("trace_id"), exchange.text("parent")), (TRACE, CALLER));
    assert!(before <= exchange.number("start") && exchange.number("end") <= after, "{exchange:#?}");
    assert_eq!(exchange.number("flags"), 0x301, "sampled; and the parent is of another process");
    for (key, value) in [
        ("http.request.method", "GET"),
        ("url.full", "http://shop.test:8080/items/7"),
        ("server.address", "shop.test"),
        ("dragoman.destination", "shop"),
        ("dragoman.route", "items"),
        ("network.peer.address", "198.18.0.2"),
    ] {
        assert_eq!(exchange.attribute(key), value, "{key}");
    }
    for (key, value) in [
        ("server.port", 8080),
        ("http.response.status_code", 200),
        ("dragoman.attempts", 3),
        ("network.peer.port", 8080),
    ] {
        assert_eq!(exchange.attribute(key), value, "{key}");
    }
    assert_eq!((exchange.number("status"), exchange.attribute("error.type").is_null()), (0, true));
    assert_eq!(
        (exchange.resource("service.name").as_str(), exchange.text("scope")),
        (Some("shop"), "dragoman")
    );
    assert_eq!(exchange.resource("process.pid"), dragoman.pid());
    assert_eq!(exchange.key(), "k", "the header of the configuration");

    let attempts = exchange.children(&spans);
    assert_eq!(attempts.len(), 3);
    for (attempt, request) in attempts.iter().zip(origin.requests()) {
        assert_eq!(attempt.text("trace_id"), TRACE);
        assert!(attempt.lies_within(exchange), "{attempt:#?} {exchange:#?}");
        let seen = (TRACE.to_owned(), attempt.text("span_id").to_owned(), "01".to_owned());
        assert_eq!(traceparent(&request), seen, "the server is called by the attempt");
    }
    assert!(attempts.windows(2).all(|pair| pair[0].number("end") <= pair[1].number("start")));
    let of = |key: &str| attempts.iter().map(|it| it.attribute(key).clone()).collect::<Vec<_>>();
    assert_eq!(of("http.response.status_code"), [503.into(), serde_json::Value::Null, 200.into()]);
    assert_eq!(of("http.request.resend_count"), [serde_json::Value::Null, 1.into(), 2.into()]);
    assert_eq!(of("error.type"), ["503".into(), "upstream_reset".into(), serde_json::Value::Null]);
    assert_eq!(
        of("dragoman.outcome"),
        ["failure", "local", "success"],
        "a pooled connection that broke says nothing"
    );
    let reasons = of("dragoman.retry.reason");
    assert_eq!(reasons, ["status".into(), "stale_connection".into(), serde_json::Value::Null]);
    assert_eq!(
        of("dragoman.retry.proof"),
        ["idempotent".into(), "idempotent".into(), serde_json::Value::Null]
    );
    assert_eq!(of("dragoman.connection.reused"), [false, true, false]);
    let records = dragoman.records_where(1, |record| record["kind"] == "exchange");
    assert_eq!(records[0]["id"], exchange.text("span_id"));
    assert_eq!(records[0]["trace_id"], TRACE);
    assert!(!format!("{spans:?}").contains("4111222233334444"), "the query may hold a secret");
    drop(app);
    let metrics = dragoman.settle();
    assert_eq!(metrics.sum("dragoman_flows_total", &[]), 1, "the export itself was not captured");
    assert_eq!(metrics.sum("dragoman_spans_exported_total", &[]), 4);
}

#[test]
fn what_fails_says_why_by_the_word_of_the_log() {
    let net = Net::new();
    let receiver = Receiver::start(&net);
    let _origin = Origin::http(&net.servers, server(80), |request, _| match request.word(1) {
        "/missing" => Reply::status(404, ""),
        "/broken" => Reply::status(500, ""),
        _ => Reply::Stall(Duration::from_secs(30)),
    });
    let _dragoman =
        Dragoman::start(&net, &exporting("1", "[defaults]\ntimeout = '2s'\nconnect_timeout = '1s'\n"));
    for path in ["/missing", "/broken", "/slow"] {
        net.app.connect(server(80)).exchange(get(path, "")).unwrap();
    }
    assert_eq!(net.app.connect(server(81)).exchange(get("/refused", "")).unwrap().status(), 503);
    let request = "BREW /pot HTTP/1.1\r\nHost: shop.test\r\n\r\n";
    net.app.connect(server(81)).exchange(request).unwrap();
    let spans = receiver.wait(10);
    let roots = roots(&spans);
    for (path, cause, who, status) in [
        ("/missing", "404", None, 404),
        ("/broken", "upstream_status", Some("upstream"), 500),
        ("/slow", "timeout", Some("upstream"), 504),
        ("/refused", "connect_refused", Some("upstream"), 503),
    ] {
        let span =
            roots.iter().find(|it| it.attribute("url.full").as_str().unwrap().ends_with(path)).unwrap();
        assert_eq!((span.attribute("error.type"), span.number("status")), (&cause.into(), ERROR), "{path}");
        assert_eq!(span.attribute("dragoman.who").as_str(), who, "{path}");
        assert_eq!(span.attribute("http.response.status_code"), status, "{path}");
        let [attempt] = span.children(&spans)[..] else { panic!("{path}") };
        assert_eq!(attempt.number("status"), ERROR, "{path}");
    }
    let brew = roots.iter().find(|it| it.attribute("http.request.method_original") == "BREW").unwrap();
    assert_eq!((brew.text("name"), brew.attribute("http.request.method").as_str()), ("HTTP", Some("_OTHER")));
}

#[test]
fn a_call_over_http2_has_the_same_spans_and_its_grpc_status() {
    let net = Net::new();
    let receiver = Receiver::start(&net);
    let origin = Http2Origin::start(&net.servers, server(80), |wire, request, n| {
        let status = if n == 0 { "14" } else { "5" };
        let head = [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", status)];
        wire.fields(request.stream, &head, true)
    });
    let policy = "[defaults]\ntrace = true\npool = {}\nbreaker = {}\nretry = { grpc_statuses = ['unavailable'], base = '1ms' }\n";
    let _dragoman = Dragoman::start(&net, &exporting("0", policy));
    let mut client = Wire::client(net.app.connect(server(80)), &[]).unwrap();
    let b3 = format!("{TRACE}-{CALLER}-d");
    let base = [("te", "trailers"), ("content-type", "application/grpc"), ("b3", &*b3)];
    client.fields(1, &[&request("POST", "/a.B/C")[..], &base].concat(), true).unwrap();
    assert_eq!(client.response(1).unwrap().field("grpc-status"), Some("5"));
    let spans = receiver.wait(3);
    let [call] = roots(&spans)[..] else { panic!("{spans:#?}") };
    assert_eq!((call.text("trace_id"), call.text("parent"), call.text("name")), (TRACE, CALLER, "POST"));
    let grpc = [call.attribute("rpc.system.name"), call.attribute("rpc.response.status_code")];
    assert_eq!(grpc, ["grpc", "NOT_FOUND"]);
    assert_eq!(call.number("status"), ERROR);
    let attempts = call.children(&spans);
    let of = |key: &str| attempts.iter().map(|it| it.attribute(key).clone()).collect::<Vec<_>>();
    assert_eq!(of("error.type"), ["upstream_status".into(), serde_json::Value::Null]);
    assert_eq!(of("dragoman.connection.reused"), [false, true]);
    for (attempt, request) in attempts.iter().zip(origin.requests()) {
        let expected = format!("{TRACE}-{}-d-{}", attempt.text("span_id"), call.text("span_id"));
        assert_eq!(request.field("b3"), Some(&*expected), "the flag to debug is kept");
    }
}

#[test]
fn an_exchange_that_is_translated_is_called_by_its_attempt_too() {
    for upstream in ["http1", "http2"] {
        let net = Net::new();
        let receiver = Receiver::start(&net);
        let policy = format!(
            "[defaults]\ntrace = true\nretry = {{ base = '1ms' }}\nupstream_protocol = '{upstream}'\n"
        );
        let _dragoman = Dragoman::start(&net, &exporting("0", &policy));
        let context = format!("00-{TRACE}-{CALLER}-01");
        let seen: Vec<_> = if upstream == "http1" {
            let origin = Origin::http(&net.servers, server(80), |_, n| {
                Reply::status(if n == 0 { 503 } else { 200 }, "")
            });
            let mut client = Wire::client(net.app.connect(server(80)), &[]).unwrap();
            let more = [("traceparent", &*context)];
            client.fields(1, &[&request("GET", "/")[..], &more].concat(), true).unwrap();
            assert_eq!(client.response(1).unwrap().status(), 200);
            origin.requests().iter().map(|request| traceparent(request).1).collect()
        } else {
            let origin = Http2Origin::start(&net.servers, server(80), |wire, request, n| {
                wire.respond(request.stream, if n == 0 { "503" } else { "200" }, b"")
            });
            let mut client = net.app.connect(server(80));
            let answer = client.exchange(get("/", &format!("traceparent: {context}\r\n"))).unwrap();
            assert_eq!(answer.status(), 200);
            let span = |value: &str| value.split('-').nth(2).unwrap().to_owned();
            origin.requests().iter().map(|request| span(request.field("traceparent").unwrap())).collect()
        };
        let spans = receiver.wait(3);
        let [exchange] = roots(&spans)[..] else { panic!("{spans:#?}") };
        assert_eq!((exchange.text("trace_id"), exchange.text("parent")), (TRACE, CALLER), "to {upstream}");
        let attempts: Vec<_> =
            exchange.children(&spans).iter().map(|it| it.text("span_id").to_owned()).collect();
        assert_eq!(attempts, seen, "to {upstream}");
    }
}

#[test]
fn a_flow_that_is_not_http_is_one_span() {
    let net = Net::new();
    let receiver = Receiver::start(&net);
    let _origin = Origin::tcp(&net.servers, server(25), |mut peer| {
        peer.send("220 mail.test ESMTP\r\n")?;
        peer.read_until(b"\r\n")?;
        peer.send("221 bye\r\n")
    });
    let dragoman = Dragoman::start(&net, &exporting("1", ""));
    let mut app = net.app.connect(server(25));
    app.read_until(b"\r\n").unwrap();
    app.send("QUIT\r\n").unwrap();
    assert_eq!(app.read_to_end().unwrap(), b"221 bye\r\n");
    drop(app);
    let refused = net.app.connect(server(26));
    drop(refused);
    dragoman.settle();
    let spans = receiver.wait(2);
    let span = spans.iter().find(|it| it.text("name") == "smtp flow").unwrap_or_else(|| panic!("{spans:#?}"));
    assert_eq!((span.text("parent"), span.number("flags"), span.number("status")), ("", 1, 0));
    assert_eq!(
        (span.attribute("dragoman.bytes_from_app"), span.attribute("dragoman.bytes_to_app")),
        (&6.into(), &30.into())
    );
    assert_eq!(
        (span.attribute("server.address").as_str(), span.attribute("server.port")),
        (Some("198.18.0.2"), &25.into())
    );
    let failed = spans.iter().find(|it| it.attribute("server.port") == 26).unwrap();
    assert_eq!(
        (failed.attribute("error.type").as_str(), failed.number("status")),
        (Some("connect_refused"), ERROR)
    );
    assert_ne!(failed.text("trace_id"), span.text("trace_id"));
}

#[test]
fn spans_that_wait_are_sent_before_the_process_ends() {
    let net = Net::new();
    let receiver = Receiver::start(&net);
    let _origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"));
    let mut dragoman = Dragoman::start(&net, &exporting("1", ""));
    assert_eq!(net.app.connect(server(80)).exchange(get("/", "")).unwrap().status(), 200);
    dragoman.settle();
    dragoman.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(dragoman.wait(wait::SOON).success());
    assert_eq!(receiver.spans().len(), 2, "both are there when it has ended: {}", dragoman.log());
    assert!(net.servers.listens(PORT));
}
