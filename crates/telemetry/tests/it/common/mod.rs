//! What the tests of this crate share: a sink that can be read, and strict readers of both outputs.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dragoman_telemetry::{AccessFormat, AccessLog, AccessMode, Receiver, Telemetry};

pub(crate) mod exposition;
pub(crate) mod json;
pub(crate) mod pages;

/// Longer than any flush of a test can take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A sink whose bytes the test reads.
#[derive(Clone, Default)]
pub(crate) struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).expect("the log is UTF-8")
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl dragoman_telemetry::Sink for Sink {}

/// Telemetry with the destinations `default` and `payments`, and what it wrote.
pub(crate) fn telemetry(mode: AccessMode, format: AccessFormat) -> (Telemetry, Sink) {
    let sink = Sink::default();
    let access = AccessLog::new(mode, format, Box::new(sink.clone())).unwrap();
    (Telemetry::new(vec!["default".into(), "payments".into()], access), sink)
}

/// A receiver of traces on a port of loopback.
pub(crate) fn receiver(port: u16) -> Receiver {
    let (host, path) = ("127.0.0.1".into(), "/v1/traces".into());
    let headers = vec![("x-key".into(), "k".into())];
    Receiver { host, port, path, headers, service_name: "shop".into(), mark: None }
}

/// The lines so far, each read as a JSON object.
pub(crate) fn lines(telemetry: &Telemetry, sink: &Sink) -> Vec<BTreeMap<String, String>> {
    assert!(telemetry.flush(PATIENCE), "the writer is stuck");
    let text = sink.text();
    assert!(text.is_empty() || text.ends_with('\n'), "a line is cut: {text:?}");
    text.lines().map(|line| json::object(line).unwrap_or_else(|error| panic!("{error} in {line}"))).collect()
}

/// The value of a series, written as in the text format with its labels sorted by name; 0 if it is absent.
pub(crate) fn metric(telemetry: &Telemetry, series: &str) -> f64 {
    exposition::parse(&telemetry.render()).unwrap().get(series).copied().unwrap_or(0.0)
}
