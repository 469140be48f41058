//! Retry, breaker and metrics by the status of a call, wherever it stands: a call that failed is a 200.

use dragoman_harness::http2::{End, Http2Origin};
use dragoman_harness::net::server;
use dragoman_harness::{Dragoman, Net};

use crate::{MESSAGE, answer, call, fail, status};

const RETRYING: &str = "[defaults]\npool = {}\nretry = { grpc_statuses = ['unavailable'], base = '1ms' }\n";

#[test]
fn h14_unavailable_in_a_head_alone_is_repeated_where_policy_lists_it() {
    let net = Net::new();
    let origin = Http2Origin::start(&net.servers, server(80), |wire, request, n| match n {
        0 | 1 => fail(wire, request.stream, "14", &[("grpc-message", "not yet")]),
        _ => answer(wire, request.stream, "0"),
    });
    let dragoman = Dragoman::start(&net, RETRYING);
    let response = call(&net, &[("x-own", "kept")]);
    assert_eq!((status(&response), &response.body[..]), (Some("0"), MESSAGE));
    let requests = origin.requests();
    let attempts: Vec<_> = requests.iter().map(|r| r.field("grpc-previous-rpc-attempts")).collect();
    assert_eq!(attempts, [None, Some("1"), Some("2")]);
    assert!(requests.iter().all(|r| r.body == MESSAGE && r.field("x-own") == Some("kept")), "{requests:#?}");
    let metrics = dragoman.settle();
    assert_eq!(metrics.sum("dragoman_attempts_total", &[]), 3);
    assert_eq!(metrics.sum("dragoman_retries_total", &[]), 2);
}

#[test]
fn h14_a_client_that_retries_itself_is_counted_on() {
    let net = Net::new();
    let origin = Http2Origin::start(&net.servers, server(80), |wire, request, n| match n {
        0 => fail(wire, request.stream, "14", &[]),
        _ => answer(wire, request.stream, "0"),
    });
    let _dragoman = Dragoman::start(&net, RETRYING);
    assert_eq!(status(&call(&net, &[("grpc-previous-rpc-attempts", "4")])), Some("0"));
    let attempts: Vec<_> =
        origin.requests().iter().map(|r| r.field("grpc-previous-rpc-attempts").map(str::to_owned)).collect();
    assert_eq!(attempts, [Some("4".to_owned()), Some("5".to_owned())]);
}

#[test]
fn h8_a_call_is_not_repeated_where_policy_does_not_list_its_status() {
    let net = Net::new();
    let origin = Http2Origin::start(&net.servers, server(80), |wire, request, _| {
        fail(wire, request.stream, request.field("x-want").unwrap(), &[("grpc-message", "as it is")])
    });
    let listed = Dragoman::start(&net, RETRYING);
    for code in ["8", "10", "13", "2", "99", "nonsense"] {
        let response = call(&net, &[("x-want", code)]);
        let said = (response.field("grpc-status"), response.field("grpc-message"), response.end);
        assert_eq!(said, (Some(code), Some("as it is"), End::Whole));
    }
    assert_eq!(origin.requests().len(), 6);
    drop(listed);
    let _unlisted = Dragoman::start(&net, "[defaults]\nretry = {}\n");
    assert_eq!(status(&call(&net, &[("x-want", "14")])), Some("14"));
    assert_eq!(origin.requests().len(), 7, "no status is listed by default");
}

#[test]
fn h8_nothing_is_repeated_after_a_head_without_a_status() {
    let net = Net::new();
    let origin =
        Http2Origin::start(&net.servers, server(80), |wire, request, _| answer(wire, request.stream, "14"));
    let dragoman = Dragoman::start(&net, RETRYING);
    let response = call(&net, &[]);
    assert_eq!((response.trailer("grpc-status"), &response.body[..]), (Some("14"), MESSAGE));
    assert_eq!(origin.requests().len(), 1, "the server began to answer");
    assert_eq!(dragoman.settle().sum("dragoman_retries_total", &[]), 0);
}

#[test]
fn h14_failures_in_trailers_and_in_heads_open_the_breaker() {
    for in_trailers in [true, false] {
        let net = Net::new();
        let origin =
            Http2Origin::start(&net.servers, server(80), move |wire, request, _| match in_trailers {
                true => answer(wire, request.stream, "14"),
                false => fail(wire, request.stream, "14", &[]),
            });
        let dragoman = Dragoman::start(&net, "[defaults]\nbreaker = { failures = 5, open = '1h' }\n");
        for n in 0..5 {
            assert_eq!(status(&call(&net, &[])), Some("14"), "call {n}");
            dragoman.settle();
        }
        let refused = call(&net, &[]);
        assert_eq!(refused.field("x-dragoman-cause"), Some("breaker_open"), "{refused:?}");
        assert_eq!(origin.requests().len(), 5);
        assert_eq!(dragoman.settle().sum("dragoman_breakers", &[("state", "open")]), 1);
    }
}

#[test]
fn h11_statuses_that_tell_of_the_caller_leave_the_breaker_closed() {
    let net = Net::new();
    let origin = Http2Origin::start(&net.servers, server(80), |wire, request, n| {
        answer(wire, request.stream, ["1", "3", "5", "6", "7", "9", "10", "11", "16"][n % 9])
    });
    let dragoman = Dragoman::start(&net, "[defaults]\nbreaker = { failures = 5, open = '1h' }\n");
    for _ in 0..27 {
        assert!(status(&call(&net, &[])).is_some());
    }
    assert_eq!(origin.requests().len(), 27);
    assert_eq!(dragoman.settle().sum("dragoman_breakers", &[("state", "open")]), 0);
}

#[test]
fn what_the_proxy_refuses_itself_is_a_status_that_a_library_understands() {
    // Either form will do: libraries make UNAVAILABLE of a 503 too.
    let net = Net::new();
    let dragoman = Dragoman::start(&net, RETRYING);
    let refused = call(&net, &[]);
    assert_eq!(refused.field("x-dragoman-cause"), Some("connect_refused"), "{refused:?}");
    assert!(status(&refused) == Some("14") || refused.status() == 503, "{refused:?}");
    assert_eq!(refused.end, End::Whole);
    dragoman.settle();
}

#[test]
fn h14_each_call_is_counted_once_by_its_status() {
    let net = Net::new();
    let _origin = Http2Origin::start(&net.servers, server(80), |wire, request, n| match n {
        0 => answer(wire, request.stream, "0"),
        1 => answer(wire, request.stream, "5"),
        2 => fail(wire, request.stream, "5", &[]),
        3 => fail(wire, request.stream, "99", &[]),
        _ => wire.respond(request.stream, "404", b"no gRPC at all"),
    });
    let dragoman = Dragoman::start(&net, "[destination.shop]\nhosts = ['a.test']\nrequest_id = true\n");
    for _ in 0..5 {
        call(&net, &[]);
    }
    let metrics = dragoman.settle();
    for (status, count) in [("ok", 1), ("not_found", 2), ("unknown", 1)] {
        let labels = [("destination", "shop"), ("grpc_status", status)];
        assert_eq!(metrics.sum("dragoman_grpc_responses_total", &labels), count, "{status}");
    }
    assert_eq!(metrics.sum("dragoman_exchanges_total", &[]), 5);
}
