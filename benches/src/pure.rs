//! Functions that touch no socket.

use std::hint::black_box;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use dragoman_config::{Config, Name, Request};
use dragoman_policy::{
    Admission, Attempt, Breaker, BreakerParams, Budget, BudgetParams, Decision, Failure, RetryParams,
    SplitMix64, Verdict, decide,
};
use dragoman_telemetry::{AccessLog, ExchangeRecord, Outcome, Telemetry, Way};
use dragoman_wire::http1::{BodyReader, Limits, RequestHead, ResponseHead};
use dragoman_wire::{Client, Hello, Server, client, client_hello, server};

use crate::Round;
use crate::data::{self, GREETINGS, REQUEST, RESPONSE};

pub(crate) fn sniff_http1() -> Round {
    Box::new(|| assert!(matches!(client(black_box(REQUEST)), Client::Http1)))
}

pub(crate) fn sniff_client_hello() -> Round {
    let bytes = data::client_hello();
    Box::new(move || {
        assert!(matches!(client(black_box(&bytes)), Client::Tls));
        let Hello::Hello(hello) = client_hello(black_box(&bytes)) else { panic!("it is whole") };
        assert_eq!(hello.sni.as_deref(), Some("payments.internal.example"));
    })
}

pub(crate) fn sniff_server() -> Round {
    Box::new(|| {
        for greeting in GREETINGS {
            assert!(!matches!(server(black_box(greeting)), Server::Incomplete | Server::Other));
        }
    })
}

pub(crate) fn request_head() -> Round {
    let (mut head, mut out) = (RequestHead::default(), Vec::with_capacity(4096));
    Box::new(move || {
        let length = head.parse(black_box(REQUEST), &Limits::default());
        assert_eq!(length, Ok(Some(REQUEST.len())));
        out.clear();
        head.copy_without(&mut out, REQUEST, |field| field.name.of(REQUEST) == b"traceparent");
        assert!(!black_box(&out).is_empty());
    })
}

pub(crate) fn response_head() -> Round {
    let (mut head, mut out) = (ResponseHead::default(), Vec::with_capacity(4096));
    Box::new(move || {
        let length = head.parse(black_box(RESPONSE), &Limits::default());
        assert_eq!(length, Ok(Some(RESPONSE.len())));
        out.clear();
        head.copy_without(&mut out, RESPONSE, |field| field.name.of(RESPONSE) == b"X-Frame-Options");
        assert!(!black_box(&out).is_empty());
    })
}

pub(crate) fn chunked_body() -> Round {
    let bytes = data::chunked_body();
    let mut head = RequestHead::default();
    let request = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    head.parse(request, &Limits::default()).expect("a request").expect("a whole one");
    let body = head.body();
    Box::new(move || {
        let mut reader = BodyReader::new(body);
        assert_eq!(reader.advance(black_box(&bytes)), Ok(bytes.len()));
        assert!(reader.is_done());
    })
}

/// A configuration from a text without a mistake.
pub(crate) fn config(text: &str) -> Config {
    Config::parse("benches.toml", text, &|_| None).unwrap_or_else(|errors| panic!("{errors}"))
}

/// One name among so many, and one that only a wildcard matches.
pub(crate) fn destination_of(count: usize) -> Round {
    let mut text = String::from("[destination.zone]\nhosts = [\"*.zone.example\"]\n");
    for n in 0..count {
        text += &format!("[destination.service-{n}]\nhosts = [\"service-{n}.example\"]\n");
    }
    let config = config(&text);
    let (address, name) = (SocketAddr::from(([10, 0, 0, 9], 80)), format!("service-{}.example", count / 2));
    Box::new(move || {
        let found = config.lookup(black_box(address), Name::Host(black_box(&name)));
        assert_eq!(found.name.len(), name.len() - ".example".len());
        let wild = config.lookup(black_box(address), Name::Host(black_box("a.b.zone.example:80")));
        assert_eq!(&*wild.name, "zone");
    })
}

/// One path among so many, and one that only a prefix matches.
pub(crate) fn route_of(count: usize) -> Round {
    let mut text =
        String::from("[destination.web]\nports = [80]\n[destination.web.route.rest]\npath = \"/rest/*\"\n");
    for n in 0..count {
        text +=
            &format!("[destination.web.route.r-{n}]\npath = \"/v1/thing-{n}/{{id}}\"\nmethods = [\"GET\"]\n");
    }
    let config = config(&text);
    let destination = config.lookup(SocketAddr::from(([10, 0, 0, 9], 80)), Name::None).clone();
    let path = format!("/v1/thing-{}/4711", count / 2);
    Box::new(move || {
        for path in [path.as_str(), "/rest/a/b/c"] {
            let request =
                Request { method: "GET", path: black_box(path), host: "a", query: b"", header: &|_| None };
            assert!(destination.route(&request).is_some());
        }
    })
}

pub(crate) fn decision_after_success() -> Round {
    let (mut breaker, mut budget) =
        (Breaker::new(BreakerParams::default()), Budget::new(BudgetParams::default()));
    let mut now = Instant::now();
    Box::new(move || {
        now += Duration::from_micros(50);
        let (Admission::Admitted(ticket), _) = breaker.admit(now) else { panic!("it is closed") };
        budget.deposit(now);
        breaker.record(ticket, black_box(Verdict::Success), now);
    })
}

/// Every second attempt fails, so that the breaker stays closed: its share of failures is above what would open it.
pub(crate) fn decision_after_failure() -> Round {
    let mut breaker = Breaker::new(BreakerParams { failure_percent: 90, ..BreakerParams::default() });
    let (params, mut budget) =
        (RetryParams::default(), Budget::new(BudgetParams { ratio: 2.0, ..BudgetParams::default() }));
    let (mut random, mut now) = (SplitMix64(7), Instant::now());
    Box::new(move || {
        now += Duration::from_micros(50);
        budget.deposit(now);
        for verdict in [Verdict::Failure, Verdict::Success] {
            let (Admission::Admitted(ticket), _) = breaker.admit(now) else { panic!("it is closed") };
            breaker.record(ticket, black_box(verdict), now);
        }
        let attempt = Attempt {
            made: 1,
            failure: Failure::Status(503),
            wrote: true,
            method: black_box("GET"),
            has_idempotency_key: false,
            replayable: true,
            retry_after: None,
            pushback: None,
            remaining: Some(Duration::from_secs(5)),
        };
        let decision = decide(&params, &attempt, &mut budget, now, &mut random);
        assert!(matches!(decision, Decision::Retry { .. }));
    })
}

/// `memory`: of the flight recorder, in bytes.
pub(crate) fn record_of_an_exchange(memory: usize) -> Round {
    let telemetry = Telemetry::new(vec!["default".into()], AccessLog::off());
    telemetry.record(memory, 2);
    let flow = telemetry.flow(SocketAddr::from(([10, 0, 0, 7], 40_000)));
    let mut record = ExchangeRecord::new(&telemetry);
    let begun = Instant::now();
    Box::new(move || {
        record.begin(flow.facts(), "GET", black_box(b"/v1/things?id=7"), "things.example");
        record.attempt(SocketAddr::from(([10, 0, 0, 9], 80)));
        record.attempt_connected(Way::Pool, begun);
        record.attempt_answered(200);
        record.first_byte(black_box(Duration::from_micros(700)));
        record.attempt_ended(Outcome::Success);
        record.status = Some(200);
        record.bytes_to_app = 1234;
        record.finish();
    })
}
