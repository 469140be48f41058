//! The writer of the access log: no flow waits for it, and what is lost is counted.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use crate::common::{Sink, metric};
use dragoman_telemetry::{AccessFormat, AccessLog, AccessMode, Telemetry};

fn with(sink: Box<dyn Write + Send>) -> Telemetry {
    Telemetry::new(vec![], AccessLog::new(AccessMode::All, AccessFormat::Text, sink).unwrap())
}

fn flows(telemetry: &Telemetry, count: usize) {
    (0..count).for_each(|_| drop(telemetry.flow("10.0.0.7:1".parse().unwrap())));
}

/// A sink that says when a write begins and ends it only when it is told to.
struct Gate {
    inner: Sink,
    entered: Sender<()>,
    go_on: Receiver<()>,
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.entered.send(()).unwrap();
        // An error means that the test has opened the gate for good.
        let _ = self.go_on.recv();
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stuck_reader_loses_lines_and_stops_no_flow() {
    let (entered, has_entered) = channel();
    let (open, go_on) = channel();
    let inner = Sink::default();
    let telemetry = with(Box::new(Gate { inner: inner.clone(), entered, go_on }));
    flows(&telemetry, 1);
    has_entered.recv().unwrap();

    flows(&telemetry, 10_000);
    let lost = metric(&telemetry, "dragoman_access_log_dropped_total");
    assert!(lost > 0.0 && lost < 10_000.0, "{lost} lost");
    assert!(!telemetry.flush(Duration::ZERO), "nothing is written yet");

    drop(open);
    assert!(telemetry.flush(crate::common::PATIENCE));
    let written = inner.text().lines().count();
    assert_eq!(written as f64 + lost, 10_001.0);
    assert_eq!(metric(&telemetry, "dragoman_access_log_dropped_total"), lost);
}

/// A sink that fails as often as it is told and then works.
struct Broken {
    inner: Sink,
    failures: usize,
}

impl Write for Broken {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.failures == 0 {
            return self.inner.write(bytes);
        }
        self.failures -= 1;
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_cannot_be_written_is_counted_and_the_rest_is_written() {
    let inner = Sink::default();
    let telemetry = with(Box::new(Broken { inner: inner.clone(), failures: 2 }));
    for _ in 0..3 {
        flows(&telemetry, 1);
        assert!(telemetry.flush(crate::common::PATIENCE));
    }
    assert_eq!(metric(&telemetry, "dragoman_access_log_dropped_total"), 2.0);
    assert_eq!(inner.text().lines().count(), 1);
}

#[test]
fn a_file_gets_whole_lines_in_few_writes() {
    /// Counts writes that are not whole lines.
    struct Whole(Sink);
    impl Write for Whole {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            assert_eq!(bytes.last(), Some(&b'\n'));
            self.0.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let inner = Sink::default();
    let telemetry = with(Box::new(Whole(inner.clone())));
    flows(&telemetry, 1000);
    assert!(telemetry.flush(crate::common::PATIENCE), "the writer died");
    assert_eq!(inner.text().lines().count(), 1000);
}
