//! What the records cost on the data path: `cargo bench -p dragoman-telemetry`, read by a person.
//!
//! Each figure is the time of one whole exchange, or one whole flow, in its record: identifiers, clocks, counters,
//! histograms and (where it says so) the line of the access log. The writer of the log is a thread of its own and is
//! not in it. The promise is less than a microsecond for an exchange without a line.

use std::hint::black_box;
use std::net::SocketAddr;
#[cfg(feature = "otlp")]
use std::num::NonZeroU128;
use std::time::{Duration, Instant};

use dragoman_telemetry::{
    AccessFormat, AccessLog, AccessMode, ExchangeRecord, Outcome, Protocol, Telemetry, Way,
};
#[cfg(feature = "otlp")]
use dragoman_telemetry::{Receiver, TraceParent, Tracer};

const ROUNDS: u32 = 1_000_000;

fn main() {
    let quiet = Telemetry::new(vec!["default".into(), "payments".into()], AccessLog::off());
    report("exchange", 1, || exchanges(&quiet));
    report("exchange, 2 threads", 2, || exchanges(&quiet));
    report("flow", 1, || flows(&quiet));
    let recorded = Telemetry::new(vec![], AccessLog::off());
    recorded.record(1 << 20, 2);
    report("exchange with its story", 1, || exchanges(&recorded));
    report("exchange with its story, 2 threads", 2, || exchanges(&recorded));
    report("flow with its story", 1, || flows(&recorded));
    let access = AccessLog::new(AccessMode::All(1.0), AccessFormat::Json, Box::new(std::io::sink()));
    let logged = Telemetry::new(vec![], access.expect("the writer starts"));
    report("exchange with its line", 1, || exchanges(&logged));
    #[cfg(feature = "otlp")]
    report("exchange with its spans", 1, || recorded_exchanges(&traced()));
}

/// Prints the time of one round of `work`, done by so many threads at once.
fn report(what: &str, threads: u32, work: impl Fn() + Sync) {
    work();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(&work);
        }
    });
    println!("{what}: {} ns", (start.elapsed() / ROUNDS).as_nanos());
}

fn exchanges(telemetry: &Telemetry) {
    let flow = telemetry.flow(SocketAddr::from(([10, 0, 0, 7], 40_000)));
    let endpoint = SocketAddr::from(([10, 0, 0, 9], 80));
    let mut record = ExchangeRecord::new(telemetry);
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        record.begin(flow.facts(), "GET", black_box(b"/v1/things?id=7"), "things.example");
        record.attempt(endpoint);
        record.attempt_connected(Way::Pool, begun);
        record.attempt_answered(200);
        record.first_byte(black_box(Duration::from_micros(700)));
        record.attempt_ended(Outcome::Success);
        record.status = Some(200);
        record.bytes_to_app = 1234;
        record.finish();
    }
}

/// Telemetry with a receiver of traces that nobody is at: most spans find the queue full, at the same cost.
#[cfg(feature = "otlp")]
fn traced() -> Telemetry {
    let telemetry = Telemetry::new(vec![], AccessLog::off());
    let (host, path) = ("127.0.0.1".into(), "/v1/traces".into());
    let receiver =
        Receiver { host, port: 1, path, headers: vec![], service_name: "bench".into(), mark: None };
    telemetry.trace_to(Tracer::start(receiver).expect("the exporter starts"));
    telemetry
}

#[cfg(feature = "otlp")]
fn recorded_exchanges(telemetry: &Telemetry) {
    let flow = telemetry.flow(SocketAddr::from(([10, 0, 0, 7], 40_000)));
    let endpoint = SocketAddr::from(([10, 0, 0, 9], 80));
    let mut record = ExchangeRecord::new(telemetry);
    for id in 1..=ROUNDS {
        record.begin(flow.facts(), "GET", black_box(b"/v1/things?id=7"), "things.example");
        let trace_id = NonZeroU128::new(id.into()).expect("it begins at 1");
        record.trace(TraceParent { trace_id, span_id: Some(7) });
        record.attempt(endpoint);
        record.attempt_answered(200);
        record.attempt_ended(Outcome::Success);
        record.status = Some(200);
        record.finish();
    }
}

fn flows(telemetry: &Telemetry) {
    for _ in 0..ROUNDS {
        let mut record = telemetry.flow(black_box(SocketAddr::from(([10, 0, 0, 7], 40_000))));
        record.protocol = Protocol::Opaque;
    }
}
