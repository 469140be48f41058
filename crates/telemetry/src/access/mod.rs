//! The access log: one line per flow and per exchange, written by a thread of its own.
//!
//! A flow must never wait for a disk or for a reader of a pipe. Lines go through a bounded queue to one
//! thread ([`writer`]), which writes as many as are there with one call; a line that finds the queue full is dropped
//! and counted (`dragoman_access_log_dropped_total`), so that the loss is seen.

mod field;
pub(crate) mod line;
mod sink;
mod writer;

pub use field::{Field, Shape};
pub use sink::{LogFile, Sink};

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use crate::cause::Cause;
use writer::{Message, Progress};

/// Lines that may wait for the writer: some 2 MiB when all are full.
const QUEUE_LINES: usize = 4096;

/// Which records get a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AccessMode {
    /// None.
    Off,
    /// Those with a cause.
    Failures,
    /// Those with a cause, and this share of the others: 1 is all, 0.1 every tenth.
    All(f64),
}

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessFormat {
    /// `key=value` pairs, for a person.
    Text,
    /// One JSON object per line.
    Json,
}

/// Where lines go. Dropping it lets the writer thread end once all lines are written.
#[derive(Debug)]
pub struct AccessLog {
    wanted: Wanted,
    format: AccessFormat,
    writer: Option<(SyncSender<Message>, Arc<Progress>)>,
}

impl AccessLog {
    /// A log that writes nothing and has no thread.
    pub fn off() -> AccessLog {
        AccessLog { wanted: Wanted::new(AccessMode::Off), format: AccessFormat::Text, writer: None }
    }

    /// A log that writes to `sink`. Starts the writer thread: a mode of `Off` may change later.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn new(mode: AccessMode, format: AccessFormat, sink: Box<dyn Sink>) -> io::Result<AccessLog> {
        let (sender, receiver) = sync_channel(QUEUE_LINES);
        let progress = Arc::new(Progress::default());
        let shared = progress.clone();
        std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || writer::run(&receiver, sink, &shared))?;
        Ok(AccessLog { wanted: Wanted::new(mode), format, writer: Some((sender, progress)) })
    }

    pub(crate) fn format(&self) -> AccessFormat {
        self.format
    }

    /// From now on the records of this mode get a line.
    pub(crate) fn set_mode(&self, mode: AccessMode) {
        self.wanted.set(mode);
    }

    /// Whether a record that ended with this cause gets a line. Identifiers are spread evenly, so that which ones are
    /// below a threshold is as good as chance, and is the same for whoever asks twice.
    pub(crate) fn wants(&self, id: u64, cause: Option<Cause>) -> bool {
        let share = self.wanted.share();
        match cause {
            Some(_) => share >= 0.0,
            // Of 2⁶⁴, rounded to what a float holds: 1 lets all pass.
            None => (id as f64) < share * 2_f64.powi(64) || share >= 1.0,
        }
    }

    /// Hands a whole line, with its line feed, to the writer. Never waits.
    pub(crate) fn submit(&self, line: String) {
        let Some((sender, progress)) = &self.writer else { return };
        // Counted before it is sent: a flush must not take another thread's line for this one.
        progress.submitted.fetch_add(1, Ordering::Relaxed);
        if sender.try_send(Message::Line(line)).is_err() {
            progress.lost(1);
        }
    }

    /// Has the sink opened again, after the lines that are being written and before the next ones.
    pub(crate) fn reopen(&self) {
        let Some((sender, progress)) = &self.writer else { return };
        progress.reopen.store(true, Ordering::Release);
        // Where the queue is full the writer is at work, and will see the flag without being woken.
        let _ = sender.try_send(Message::Wake);
    }

    /// Lines that were lost so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.writer.as_ref().map_or(0, |(_, progress)| progress.dropped.load(Ordering::Relaxed))
    }

    /// Lines that wait for the writer.
    pub(crate) fn waiting(&self) -> u64 {
        self.writer.as_ref().map_or(0, |(_, progress)| progress.waiting())
    }

    /// Waits until each line submitted before this call is written or lost. Returns whether that is so.
    pub(crate) fn flush(&self, timeout: Duration) -> bool {
        self.writer.as_ref().is_none_or(|(_, progress)| progress.wait(timeout))
    }
}

/// The mode, which a reload may change while records are written: the share of those that ended well, as the bits of a
/// float; below zero, none at all gets a line.
#[derive(Debug)]
struct Wanted(AtomicU64);

impl Wanted {
    fn new(mode: AccessMode) -> Wanted {
        let wanted = Wanted(AtomicU64::default());
        wanted.set(mode);
        wanted
    }

    fn set(&self, mode: AccessMode) {
        let share = match mode {
            AccessMode::Off => -1.0,
            AccessMode::Failures => 0.0,
            AccessMode::All(share) => share,
        };
        self.0.store(f64::to_bits(share), Ordering::Relaxed);
    }

    fn share(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}
