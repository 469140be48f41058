//! The writer of the access log: no flow waits for it, and what is lost is counted.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use crate::common::{Sink, metric};
use dragoman_telemetry::{AccessFormat, AccessLog, AccessMode, LogFile, Sink as Lines, Telemetry};

fn with(sink: Box<dyn Lines>) -> Telemetry {
    Telemetry::new(vec![], AccessLog::new(AccessMode::All(1.0), AccessFormat::Text, sink).unwrap())
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

impl Lines for Gate {}

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

impl Lines for Broken {}

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
    impl Lines for Whole {}

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

/// A sink with room for so many bytes, until the test makes more.
struct Full {
    inner: Sink,
    room: Receiver<usize>,
    left: usize,
}

impl Lines for Full {}

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left += self.room.try_iter().sum::<usize>();
        let taken = bytes.len().min(self.left);
        if taken == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.left -= taken;
        self.inner.write(&bytes[..taken])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whatever the room, each line is whole, or lost and counted; one that was cut stands alone.
#[test]
fn a_full_disk_cuts_one_line_and_spoils_no_other() {
    let (inner, (more, room)) = (Sink::default(), channel());
    let telemetry = with(Box::new(Full { inner: inner.clone(), room, left: 0 }));
    let settled = |count| {
        flows(&telemetry, count);
        assert!(telemetry.flush(crate::common::PATIENCE));
    };
    settled(1);
    assert_eq!(inner.text(), "");
    more.send(1000).unwrap();
    settled(100);
    let first = inner.text();
    assert_eq!(first.len(), 1000);
    assert!(!first.ends_with('\n'), "the test means to cut a line");

    // Still full, but for the line feed that closes the cut line.
    more.send(1).unwrap();
    settled(1);
    more.send(1 << 20).unwrap();
    settled(3);

    let text = inner.text();
    let whole = text.lines().filter(|line| line.starts_with("ts=") && line.contains(" duration_ms=")).count();
    let cut = text.lines().count() - whole;
    assert_eq!(cut, 1, "{text}");
    assert!(text.ends_with('\n'));
    let lost = metric(&telemetry, "dragoman_access_log_dropped_total");
    assert_eq!(whole as f64 + lost, 105.0);
}

/// Standard output, which a rotation does not replace.
#[test]
fn a_line_that_was_cut_stands_alone_after_a_rotation_too() {
    let (inner, (more, room)) = (Sink::default(), channel());
    let telemetry = with(Box::new(Full { inner: inner.clone(), room, left: 10 }));
    flows(&telemetry, 1);
    assert!(telemetry.flush(crate::common::PATIENCE));
    telemetry.reopen_access_log();
    more.send(1 << 20).unwrap();
    flows(&telemetry, 2);
    assert!(telemetry.flush(crate::common::PATIENCE));
    let text = inner.text();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!((lines.len(), lines[0].len()), (3, 10), "{text}");
    assert!(lines[1..].iter().all(|line| line.starts_with("ts=")), "{text}");
    assert_eq!(metric(&telemetry, "dragoman_access_log_dropped_total"), 1.0);
}

/// A directory that goes away with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("dragoman-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    fn lines(&self, name: &str) -> usize {
        fs::read_to_string(self.0.join(name)).unwrap().lines().count()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_rotated_file_is_left_and_a_new_one_begun() {
    let scratch = Scratch::new("rotated");
    let path = scratch.0.join("access.log");
    let telemetry = with(Box::new(LogFile::open(path.clone()).unwrap()));
    let settled = |count| {
        flows(&telemetry, count);
        assert!(telemetry.flush(crate::common::PATIENCE));
    };
    settled(2);
    fs::rename(&path, scratch.0.join("access.log.1")).unwrap();
    settled(3);
    assert_eq!(scratch.lines("access.log.1"), 5, "until it is told, it writes where it was");
    telemetry.reopen_access_log();
    settled(4);
    assert_eq!((scratch.lines("access.log.1"), scratch.lines("access.log")), (5, 4));

    // The name cannot be opened: the file that was open is written on, and nothing is lost.
    fs::rename(&path, scratch.0.join("access.log.2")).unwrap();
    fs::create_dir(&path).unwrap();
    telemetry.reopen_access_log();
    settled(5);
    assert_eq!(scratch.lines("access.log.2"), 9);
    assert_eq!(metric(&telemetry, "dragoman_access_log_dropped_total"), 0.0);
}

/// The kernel's own full device.
#[test]
fn a_disk_that_is_full_is_counted_and_recovered_from() {
    let scratch = Scratch::new("full");
    let path = scratch.0.join("access.log");
    symlink("/dev/full", &path).unwrap();
    let telemetry = with(Box::new(LogFile::open(path.clone()).unwrap()));
    flows(&telemetry, 7);
    assert!(telemetry.flush(crate::common::PATIENCE));
    assert_eq!(metric(&telemetry, "dragoman_access_log_dropped_total"), 7.0);

    fs::remove_file(&path).unwrap();
    telemetry.reopen_access_log();
    flows(&telemetry, 3);
    assert!(telemetry.flush(crate::common::PATIENCE));
    assert_eq!(scratch.lines("access.log"), 3);
    assert_eq!(metric(&telemetry, "dragoman_access_log_dropped_total"), 7.0);
}
