//! What the flight recorder keeps, and how much.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dragoman_telemetry::{
    AccessLog, BreakerState, Cause, ExchangeRecord, FirstBytes, Handshake, Note, Outcome, Protocol, Secured,
    Speaker, Story, Telemetry, TlsVersion, Way, Who,
};
use proptest::prelude::*;

fn recording(memory: usize) -> Telemetry {
    let telemetry = Telemetry::new(vec!["default".into(), "pay".into()], AccessLog::off());
    telemetry.record(memory, 1);
    telemetry
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 80))
}

fn secured(version: TlsVersion, handshake: Handshake) -> Arc<Secured> {
    let took = Duration::from_micros(1500);
    Arc::new(Secured { version, handshake, took, server_name: "pay.test".into() })
}

fn exchange(telemetry: &Telemetry, path: &str, cause: Option<Cause>) {
    let flow = telemetry.flow(address(1));
    let mut record = ExchangeRecord::new(telemetry);
    record.begin(flow.facts(), "GET", path.as_bytes(), "pay.test");
    record.attempt(address(2));
    record.cause = cause;
    record.finish();
}

#[test]
fn an_exchange_is_told_as_it_was() {
    let telemetry = recording(1 << 20);
    let mut flow = telemetry.flow(address(1));
    flow.original_dst = Some("[fd98::2]:80".parse().unwrap());
    flow.first_bytes = FirstBytes::new(Speaker::App, b"GET /?token=secret", false);
    flow.sniffed(Protocol::Http1);
    let mut record = ExchangeRecord::new(&telemetry);
    record.begin(flow.facts(), "GET", b"/v1?token=secret", "user:secret@pay.test");
    (record.destination, record.generation, record.route) = (1, 7, Some("r".into()));
    record.request_id.push_str("id\u{1b}\u{e9}");
    record.attempt(address(2));
    record.note(Note::Admitted(Some(BreakerState::HalfOpen)));
    record.attempt_failed(Cause::ConnectRefused);
    record.attempt_ended(Outcome::Failure);
    record.note(Note::Found(Some(BreakerState::Open), Some(9)));
    record.retried("connect_refused", "nothing_sent");
    record.note(Note::Waits(Duration::from_millis(5)));
    record.attempt(address(3));
    record.attempt_connected(Way::Pool, Instant::now());
    record.attempt_secured(secured(TlsVersion::V1_3, Handshake::Resumed));
    record.attempt_answered(503);
    record.first_byte(Duration::from_micros(700));
    record.attempt_ended(Outcome::Failure);
    record.refuse_retry("budget_spent");
    (record.status, record.bytes_from_app, record.bytes_to_app) = (Some(503), 11, 22);
    record.fail(Cause::UpstreamStatus, "de\u{7f}tail".to_owned());
    record.finish();

    let stories = telemetry.stories();
    let [story] = &stories[..] else { panic!("{stories:#?}") };
    assert_eq!(
        (&*story.kind, &*story.destination, story.generation, &*story.route),
        ("exchange", "pay", 7, "r")
    );
    assert_eq!((&*story.method, &*story.host, &*story.path), ("GET", "pay.test", "/v1"));
    assert_eq!(
        (&*story.original_dst, &*story.sniffed.bytes, &*story.sniffed.by),
        ("[fd98::2]:80", "GET ", "app")
    );
    assert_eq!((&*story.request_id, story.status), ("id\\x1b\\xc3\\xa9", Some(503)));
    assert_eq!((&*story.cause, &*story.who, &*story.detail), ("upstream_status", "upstream", "de\u{7f}tail"));
    assert!(!format!("{story:?}").contains("secret"), "{story:#?}");
    let [first, last] = &story.attempts[..] else { panic!("{story:#?}") };
    assert_eq!(
        (&*first.endpoint, &*first.cause, &*first.proof),
        ("10.0.0.2:80", "connect_refused", "nothing_sent")
    );
    assert_eq!((&*first.breaker, &*first.breaker_after, first.budget_left), ("half_open", "open", Some(9)));
    assert_eq!((first.wait_us, first.connected_us, &*first.connection), (Some(5000), None, ""));
    assert_eq!((&*last.endpoint, last.status, &*last.connection), ("10.0.0.3:80", Some(503), "pool"));
    assert_eq!((&*first.tls, &*first.tls_handshake, first.tls_us, &*first.server_name), ("", "", None, ""));
    assert_eq!(
        (&*last.tls, &*last.tls_handshake, last.tls_us, &*last.server_name),
        ("1.3", "resumed", Some(1500), "pay.test")
    );
    assert_eq!((&*last.not_retried, &*last.retried, last.wait_us), ("budget_spent", "", None));
    let (connected, first_byte) = (last.connected_us.unwrap(), last.first_byte_us.unwrap());
    assert_eq!(first_byte - connected, 700);
    assert!(first.ended_us.unwrap() <= last.started_us && last.started_us <= connected);
}

#[test]
fn a_flow_is_told_with_its_connects() {
    let telemetry = recording(1 << 20);
    let mut flow = telemetry.flow(address(1));
    flow.host = Some("db.test".into());
    flow.first_bytes = FirstBytes::new(Speaker::Upstream, b"220 mail.example.com", true);
    flow.sniffed(Protocol::Smtp);
    flow.attempt(address(2));
    flow.attempt_ended(Err(Cause::ConnectRefused));
    flow.retried("connect_refused", "nothing_sent", Duration::ZERO);
    flow.attempt(address(3));
    flow.attempt_ended(Ok(Way::Early));
    flow.secured(secured(TlsVersion::V1_2, Handshake::Full));
    flow.closed_by(Who::App);
    drop(flow);
    let story = telemetry.stories().remove(0);
    assert_eq!((&*story.kind, &*story.host, &*story.closed_by), ("flow", "db.test", "app"));
    assert_eq!((&*story.sniffed.protocol, &*story.sniffed.bytes), ("smtp", "220 mail.example"));
    let tls = story.attempts.iter().map(|it| (&*it.tls, &*it.tls_handshake)).collect::<Vec<_>>();
    assert_eq!(tls, [("", ""), ("1.2", "full")]);
    let ways: Vec<_> =
        story.attempts.iter().map(|it| (&*it.endpoint, &*it.connection, &*it.outcome)).collect();
    assert_eq!(ways, [("10.0.0.2:80", "", "failure"), ("10.0.0.3:80", "early", "success")]);
}

#[test]
fn of_very_many_attempts_the_first_ones_and_the_last_are_told() {
    let telemetry = recording(1 << 20);
    let flow = telemetry.flow(address(1));
    let mut record = ExchangeRecord::new(&telemetry);
    record.begin(flow.facts(), "GET", b"/", "a");
    for n in 0..100 {
        record.attempt(address(n));
        record.attempt_ended(Outcome::Failure);
    }
    record.finish();
    let story = telemetry.stories().remove(0);
    assert_eq!((story.attempts_made, story.attempts.len()), (100, 16));
    assert_eq!(
        (&*story.attempts[0].endpoint, &*story.attempts[15].endpoint),
        ("10.0.0.0:80", "10.0.0.99:80")
    );
}

#[test]
fn text_of_an_app_is_kept_to_its_first_word() {
    let told = |by, bytes: &[u8], known| {
        let telemetry = recording(1 << 16);
        let mut flow = telemetry.flow(address(1));
        flow.first_bytes = FirstBytes::new(by, bytes, known);
        drop(flow);
        telemetry.stories().remove(0).sniffed.bytes
    };
    for (bytes, known, shown) in [
        (&b"AUTH hunter2\r\n"[..], false, "AUTH "),
        (b"*2\r\n$4\r\nAUTH\r\n", false, "*2\\r"),
        (b"PRI * HTTP/2.0\r\n\r\nSM", true, "PRI * HTTP/2.0\\r\\n"),
        (b"\x16\x03\x01\x02\0", false, "\\x16\\x03\\x01\\x02\\x00"),
        (b"", false, ""),
    ] {
        assert_eq!(told(Speaker::App, bytes, known), shown);
    }
}

#[test]
fn without_memory_there_is_no_recorder() {
    let telemetry = recording(0);
    exchange(&telemetry, "/", None);
    assert!(telemetry.stories().is_empty() && telemetry.recorded().is_none() && telemetry.follow().is_none());
}

#[test]
fn a_failure_outlives_what_ended_well() {
    let telemetry = recording(1 << 16);
    exchange(&telemetry, "/fails", Some(Cause::Timeout));
    for _ in 0..10_000 {
        exchange(&telemetry, "/", None);
    }
    let failed: Vec<_> = telemetry.stories().into_iter().filter(|story| !story.cause.is_empty()).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].path, "/fails");
}

#[test]
fn threads_tell_side_by_side_and_a_follower_counts_all() {
    const EACH: u64 = 5000;
    let telemetry = Telemetry::new(vec![], AccessLog::off());
    telemetry.record(1 << 18, 4);
    let mut follower = telemetry.follow().unwrap();
    let (mut seen, mut lost) = (0, 0);
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..4).map(|_| scope.spawn(|| (0..EACH).for_each(|_| exchange(&telemetry, "/", None)))).collect();
        while threads.iter().any(|thread| !thread.is_finished()) {
            let (stories, missed) = telemetry.followed(&mut follower);
            seen += stories.len() as u64;
            lost += missed;
        }
    });
    loop {
        let (stories, missed) = telemetry.followed(&mut follower);
        seen += stories.len() as u64;
        lost += missed;
        if stories.is_empty() && missed == 0 {
            break;
        }
    }
    // An exchange and its flow each.
    assert_eq!(seen + lost, 4 * EACH * 2, "{lost} lost");
    let held = telemetry.recorded().unwrap();
    assert!(held.used <= 1 << 18, "{held:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    /// Whatever is told: no more bytes than allowed, and the last one is there.
    #[test]
    fn the_bound_is_kept_and_the_newest_never_lost(
        memory in (1_usize << 16)..(1 << 18),
        told in prop::collection::vec((".{0,400}", any::<bool>(), 1_usize..40), 1..200),
    ) {
        let telemetry = recording(memory);
        for (path, fails, times) in told {
            for _ in 0..times {
                exchange(&telemetry, &format!("/{path}"), fails.then_some(Cause::Timeout));
            }
            let held = telemetry.recorded().unwrap();
            prop_assert!(held.used <= memory, "{held:?}");
        }
        exchange(&telemetry, "/newest", None);
        let stories: Vec<Story> = telemetry.stories();
        prop_assert_eq!(stories.len() as u64, telemetry.recorded().unwrap().stories);
        prop_assert!(stories.iter().rev().take(2).any(|story| story.path == "/newest"));
    }
}
