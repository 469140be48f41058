//! Who decides what is recorded, and in which words the trace goes on.

use std::collections::HashSet;

use dragoman_harness::net::server;
use dragoman_harness::origin::Reply;
use dragoman_harness::{Dragoman, Message, Net, Origin};

use crate::receiver::{Receiver, Span, exporting, roots};
use crate::{CALLER, TRACE, get, traceparent};

/// Sends a request with each of these fields, then one that is recorded, and returns what the server saw and the spans of
/// the exchanges before the last one: the queue keeps the order.
fn exchanges(sample: &str, policy: &str, fields: &[String]) -> (Vec<Message>, Vec<Span>) {
    let net = Net::new();
    let receiver = Receiver::start(&net);
    let origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"));
    let dragoman = Dragoman::start(&net, &exporting(sample, policy));
    let mut app = net.app.connect(server(80));
    for fields in fields {
        assert_eq!(app.exchange(get("/", fields)).unwrap().status(), 200);
    }
    let last = format!("traceparent: 00-{}-{CALLER}-01\r\n", "f".repeat(32));
    app.exchange(get("/last", &last)).unwrap();
    drop(app);
    dragoman.settle();
    let is_last = |span: &&Span| span.text("trace_id") == "f".repeat(32);
    let spans = dragoman_harness::wait::until_some("the last span", dragoman_harness::wait::SOON, || {
        Some(receiver.spans()).filter(|spans| spans.iter().filter(is_last).count() == 2)
    });
    let mut requests = origin.requests();
    requests.pop();
    (requests, spans.into_iter().filter(|span| !is_last(&span)).collect())
}

#[test]
fn what_the_caller_decided_is_honoured_in_every_form() {
    let b3 = |sampled: &str| format!("X-B3-TraceId: {TRACE}\r\nX-B3-SpanId: {CALLER}\r\n{sampled}");
    let yes = [
        format!("traceparent: 00-{TRACE}-{CALLER}-01\r\n"),
        format!("b3: {TRACE}-{CALLER}-1\r\n"),
        format!("b3: {TRACE}-{CALLER}-d\r\n"),
        b3("X-B3-Sampled: 1\r\n"),
        b3("X-B3-Flags: 1\r\n"),
    ];
    let no = [
        format!("traceparent: 00-{TRACE}-{CALLER}-00\r\n"),
        format!("b3: {TRACE}-{CALLER}-0\r\n"),
        "b3: 0\r\n".into(),
        b3("X-B3-Sampled: 0\r\n"),
    ];
    let (requests, spans) = exchanges("0", "[defaults]\ntrace = true\n", &yes);
    let exchanges_of = roots(&spans);
    assert_eq!((exchanges_of.len(), spans.len()), (yes.len(), 2 * yes.len()), "none is left to chance");
    for (exchange, request) in exchanges_of.iter().zip(&requests) {
        assert_eq!((exchange.text("trace_id"), exchange.text("parent")), (TRACE, CALLER));
        let [attempt] = exchange.children(&spans)[..] else { panic!("{exchange:#?}") };
        assert!(request.head.contains(attempt.text("span_id")), "{}", request.head);
        assert!(!request.head.contains(CALLER), "{}", request.head);
    }
    let parents = requests.iter().filter(|request| request.header("x-b3-parentspanid").is_some()).count();
    assert_eq!(parents, 2, "in the form in which it came");

    let (requests, spans) = self::exchanges("1", "[defaults]\ntrace = true\n", &no);
    assert!(spans.is_empty(), "{spans:#?}");
    assert_eq!(traceparent(&requests[0]).2, "00");
    assert!(requests[1].header("b3").unwrap().contains("-0-"), "{}", requests[1].head);
    assert_eq!(requests[2].header("b3"), Some("0"));
    assert_eq!(requests[3].header("x-b3-sampled"), Some("0"));
}

#[test]
fn where_nobody_has_decided_a_share_is_recorded_and_the_server_is_told() {
    let policy = "[defaults]\ntrace = true\n";
    let (requests, spans) = exchanges("0.25", policy, &vec![String::new(); 400]);
    let (sampled, others): (Vec<_>, Vec<_>) =
        requests.iter().map(traceparent).partition(|(_, _, flags)| flags == "03");
    assert!(others.iter().all(|(_, _, flags)| flags == "02"), "random, and not sampled");
    assert!((50..150).contains(&sampled.len()), "{} of 400", sampled.len());
    let told: HashSet<_> = sampled.iter().map(|(trace, span, _)| (trace.as_str(), span.as_str())).collect();
    let roots = roots(&spans);
    let made: HashSet<_> =
        roots.iter().map(|root| (root.text("trace_id"), root.children(&spans)[0].text("span_id"))).collect();
    assert_eq!(made, told);
    assert!(roots.iter().all(|root| root.text("parent").is_empty()));
    assert_eq!(
        told.len(),
        requests.iter().map(traceparent).filter(|it| it.2 == "03").count(),
        "each its own"
    );
}

#[test]
fn a_trace_is_begun_in_the_form_that_policy_names() {
    let b3 = "propagation = 'b3'\n[defaults]\ntrace = true\n";
    let (requests, spans) =
        exchanges("1", b3, &[String::new(), format!("b3: {TRACE}-{CALLER}\r\n"), "b3: 1\r\n".into()]);
    let roots = roots(&spans);
    assert_eq!((roots.len(), roots[1].text("trace_id"), roots[1].text("parent")), (3, TRACE, CALLER));
    for (root, request) in roots.iter().zip(&requests) {
        let [attempt] = root.children(&spans)[..] else { panic!("{root:#?}") };
        let ids = [root.text("trace_id"), attempt.text("span_id"), "1", root.text("span_id")].join("-");
        assert_eq!(request.header("b3"), Some(&*ids), "left to us, and so decided by us");
        assert!(request.header("traceparent").is_none());
    }
    let (requests, spans) =
        exchanges("1", "propagation = 'b3multi'\n[defaults]\ntrace = true\n", &[String::new()]);
    let of =
        |name: &str| requests[0].header(name).unwrap_or_else(|| panic!("{}", requests[0].head)).to_owned();
    let root = self::roots(&spans)[0];
    assert_eq!((of("x-b3-traceid").as_str(), of("x-b3-sampled").as_str()), (root.text("trace_id"), "1"));
    assert_eq!(
        (of("x-b3-spanid").as_str(), of("x-b3-parentspanid").as_str()),
        (root.children(&spans)[0].text("span_id"), root.text("span_id"))
    );
}

#[test]
fn h13_where_policy_lets_no_header_change_spans_are_recorded_all_the_same() {
    let fields = format!("traceparent: 00-{TRACE}-{CALLER}-01\r\ntracestate: a=b\r\n");
    let (requests, spans) = exchanges("1", "", &[fields.clone(), String::new()]);
    assert_eq!(requests[0].head, get("/", &fields));
    assert_eq!(requests[1].head, get("/", ""));
    let roots = roots(&spans);
    assert_eq!((roots[0].text("trace_id"), roots[0].text("parent")), (TRACE, CALLER));
    assert_eq!((spans.len(), roots[1].text("parent")), (4, ""));
}

#[test]
fn without_a_receiver_a_trace_is_begun_as_sampled() {
    let net = Net::new();
    let origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"));
    let policy = "[trace]\nsample = 0\npropagation = 'b3'\n[defaults]\ntrace = true\n";
    let dragoman = Dragoman::start(&net, policy);
    net.app.connect(server(80)).exchange(get("/", "")).unwrap();
    let b3 = origin.requests()[0].header("b3").unwrap().to_owned();
    assert!(b3.len() == 51 && b3.ends_with("-1"), "{b3}");
    assert_eq!(dragoman.metrics().sum("dragoman_spans_exported_total", &[]), 0);
}

#[test]
fn a_reload_changes_the_share_and_the_form_on_a_connection_that_stands() {
    let net = Net::new();
    let receiver = Receiver::start(&net);
    let origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"));
    let policy = |propagation: &str| format!("propagation = '{propagation}'\n[defaults]\ntrace = true\n");
    let dragoman = Dragoman::start(&net, &exporting("0", &policy("w3c")));
    let mut app = net.app.connect(server(80));
    app.exchange(get("/before", "")).unwrap();
    dragoman.reload(&exporting("1", &policy("b3")));
    app.exchange(get("/after", "")).unwrap();
    let spans = receiver.wait(2);
    assert_eq!((spans.len(), spans[0].attribute("url.full").as_str()), (2, Some("http://shop.test/after")));
    let [before, after] = &origin.requests()[..] else { panic!("two requests") };
    assert_eq!(traceparent(before).2, "02");
    assert!(after.header("b3").is_some() && after.header("traceparent").is_none(), "{}", after.head);
}
