//! Each key of a line is in the table of fields and each field in a line, and the page about them is fresh.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::num::NonZeroU128;
use std::sync::Arc;
use std::time::Duration;

use crate::common::{lines, pages, receiver, telemetry};
use dragoman_telemetry::{
    AccessFormat, AccessMode, Cause, Direction, ExchangeRecord, Field, Handshake, Outcome, Protocol, Secured,
    Shape, TlsVersion, TraceParent, Tracer,
};

/// A flow and an exchange about which there is everything to say.
fn eventful(format: AccessFormat) -> (dragoman_telemetry::Telemetry, crate::common::Sink) {
    let (telemetry, sink) = telemetry(AccessMode::All(1.0), format);
    telemetry.trace_to(Tracer::start(receiver(1)).unwrap());
    let trace_id = NonZeroU128::MAX;
    let endpoint = "10.9.8.7:80".parse().unwrap();
    let secured = Arc::new(Secured {
        version: TlsVersion::V1_3,
        handshake: Handshake::Resumed,
        took: Duration::from_millis(1),
        server_name: "payments.example.com".into(),
    });
    let mut flow = telemetry.flow("10.1.2.3:40312".parse().unwrap());
    flow.original_dst = Some(endpoint);
    flow.direction = Direction::Inbound;
    flow.client("spiffe://shop.test/web");
    flow.endpoint = Some(endpoint);
    flow.host = Some("db.example.com".into());
    flow.sni = Some("db.example.com".into());
    flow.sniffed(Protocol::Http1);
    flow.trace(Some(trace_id));
    flow.secured(Arc::clone(&secured));
    let mut exchange = ExchangeRecord::new(&telemetry);
    exchange.begin(flow.facts(), "GET", b"/v1/charges?card=1", "payments.example.com");
    exchange.trace(TraceParent { trace_id, span_id: None });
    exchange.destination = 1;
    exchange.route = Some("slow-reports".into());
    exchange.request_id.push_str("f3c9");
    exchange.attempt(endpoint);
    exchange.attempt_ended(Outcome::Failure);
    exchange.retried("connect_refused", "nothing_sent");
    exchange.attempt(endpoint);
    exchange.attempt_secured(Arc::clone(&secured));
    exchange.first_byte(Duration::from_micros(11_207));
    exchange.refuse_retry("budget");
    exchange.status = Some(503);
    exchange.grpc_status = Some("unavailable");
    exchange.fail(Cause::UpstreamStatus, "503".to_owned());
    exchange.finish();
    flow.fail(Cause::AppReset, "by the test".to_owned());
    drop(flow);
    (telemetry, sink)
}

#[test]
fn lines_and_the_table_of_fields_have_the_same_keys() {
    let (telemetry, sink) = eventful(AccessFormat::Json);
    let mut kinds = BTreeSet::new();
    for line in lines(&telemetry, &sink) {
        let kind = &*line["kind"];
        kinds.insert(kind.to_owned());
        let expected: BTreeSet<_> = Field::ALL
            .iter()
            .filter(|field| field.kinds().contains(&kind))
            .map(|field| field.key())
            .collect();
        assert_eq!(line.keys().map(String::as_str).collect::<BTreeSet<_>>(), expected, "{kind}");
    }
    assert_eq!(kinds.len(), 2);
}

#[test]
fn the_order_of_a_line_is_that_of_the_table() {
    let (telemetry, sink) = eventful(AccessFormat::Text);
    assert!(telemetry.flush(crate::common::PATIENCE));
    for line in sink.text().lines() {
        let kind = if line.contains(" kind=flow ") { "flow" } else { "exchange" };
        let mut rest = line;
        for field in Field::ALL.iter().filter(|field| field.kinds().contains(&kind)) {
            let (_, after) = rest
                .split_once(&format!("{}=", field.key()))
                .unwrap_or_else(|| panic!("no {} after what precedes it in {line}", field.key()));
            rest = after;
        }
    }
}

#[test]
fn the_page_of_the_access_log_is_fresh() {
    pages::check("access-log.md", &page());
}

const INTRODUCTION: &str = "\
# Access log

<!-- Made from crates/telemetry/src/access/field.rs. Renew with: DRAGOMAN_BLESS=1 cargo test -p dragoman-telemetry -->

One line for each flow (a captured connection) and one for each exchange (an HTTP request and its response), written
when it has ended. It says the same as the metrics: both are made from one record. The line of a flow comes after those
of its exchanges, unless the end of a drain has cut them off together.

| Key of `[log]` | What it does |
|---|---|
| `access` | `\"failures\"`: lines with a `cause`; `\"all\"`; `\"off\"`. |
| `access_sample` | With `\"all\"`, the share of lines without a `cause` that are written, as in `0.1`. Failures always are. |
| `access_format` | `\"json\"`: one object per line. `\"text\"`: `key=value` pairs, a value in quotes where it needs them. |
| `access_file` | A path, or `-` for standard output. |

Nothing waits for the log. Lines go through a queue of 4096 to a thread that writes them; what finds the queue full, or
cannot be written because a disk is full or a reader of a pipe has gone, is lost and counted in
`dragoman_access_log_dropped_total`. Writing is tried again with the next lines. A line that a full disk has cut is
closed, so that it alone is bad.

To rotate, rename the file and send SIGUSR1: the file is opened again by its name, with the rights of the user that the
proxy runs as, so either that user may create files in the directory or logrotate does (`create`). If it cannot be
opened, the process log says so and the renamed file is written on.

Control characters, and marks that change the direction of text, are escaped in both formats. A key without a value is
left out.

| Key | In JSON | Flow | Exchange | Example | Meaning |
|---|---|---|---|---|---|
";

fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    for field in Field::ALL {
        let shape = if field.shape() == Shape::Number { "number" } else { "string" };
        let of = |kind| if field.kinds().contains(&kind) { "yes" } else { "" };
        writeln!(
            page,
            "| `{}` | {shape} | {} | {} | `{}` | {} |",
            field.key(),
            of("flow"),
            of("exchange"),
            field.example(),
            field.about()
        )
        .unwrap();
    }
    page
}
