//! The access log: one line per flow and per exchange, written by a thread of its own.
//!
//! A flow must never wait for a disk or for a reader of a pipe. Lines go through a bounded queue to one
//! thread, which writes as many as are there with one call; a line that finds the queue full is dropped and
//! counted (`dragoman_access_log_dropped_total`), so that the loss is seen.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::cause::Cause;

/// Lines that may wait for the writer: some 2 MiB when all are full.
const QUEUE_LINES: usize = 4096;
/// A batch is written when it has this many bytes, or when no line is waiting.
const BATCH_BYTES: usize = 64 * 1024;

/// Which records get a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessMode {
    /// None.
    Off,
    /// Those with a cause.
    Failures,
    /// All.
    All,
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
    mode: AccessMode,
    format: AccessFormat,
    writer: Option<(SyncSender<String>, Arc<Progress>)>,
}

impl AccessLog {
    /// A log that writes nothing and has no thread.
    pub fn off() -> AccessLog {
        AccessLog { mode: AccessMode::Off, format: AccessFormat::Text, writer: None }
    }

    /// A log that writes to `sink`. Starts the writer thread, unless the mode is `Off`.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn new(mode: AccessMode, format: AccessFormat, sink: Box<dyn Write + Send>) -> io::Result<AccessLog> {
        if mode == AccessMode::Off {
            return Ok(AccessLog::off());
        }
        let (sender, receiver) = sync_channel(QUEUE_LINES);
        let progress = Arc::new(Progress::default());
        let shared = progress.clone();
        std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write_lines(&receiver, sink, &shared))?;
        Ok(AccessLog { mode, format, writer: Some((sender, progress)) })
    }

    pub(crate) fn format(&self) -> AccessFormat {
        self.format
    }

    /// Whether a record that ended with this cause gets a line.
    pub(crate) fn wants(&self, cause: Option<Cause>) -> bool {
        match self.mode {
            AccessMode::Off => false,
            AccessMode::Failures => cause.is_some(),
            AccessMode::All => true,
        }
    }

    /// Hands a whole line, with its line feed, to the writer. Never waits.
    pub(crate) fn submit(&self, line: String) {
        let Some((sender, progress)) = &self.writer else { return };
        // Counted before it is sent: a flush must not take another thread's line for this one.
        progress.submitted.fetch_add(1, Ordering::Relaxed);
        if sender.try_send(line).is_err() {
            progress.lost(1);
        }
    }

    /// Lines that were lost so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.writer.as_ref().map_or(0, |(_, progress)| progress.dropped.load(Ordering::Relaxed))
    }

    /// Waits until each line submitted before this call is written or lost. Returns whether that is so.
    pub(crate) fn flush(&self, timeout: Duration) -> bool {
        self.writer.as_ref().is_none_or(|(_, progress)| progress.wait(timeout))
    }
}

/// How far the writer is.
#[derive(Debug, Default)]
struct Progress {
    submitted: AtomicU64,
    dropped: AtomicU64,
    /// Lines that were written or lost.
    settled: Mutex<u64>,
    changed: Condvar,
}

impl Progress {
    fn settle(&self, lines: u64) {
        *self.settled.lock().unwrap_or_else(PoisonError::into_inner) += lines;
        self.changed.notify_all();
    }

    fn lost(&self, lines: u64) {
        self.dropped.fetch_add(lines, Ordering::Relaxed);
        self.settle(lines);
    }

    fn wait(&self, timeout: Duration) -> bool {
        let target = self.submitted.load(Ordering::Relaxed);
        let settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        let result = self.changed.wait_timeout_while(settled, timeout, |settled| *settled < target);
        !result.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

/// The writer thread: ends when every sender is gone.
fn write_lines(lines: &Receiver<String>, mut sink: Box<dyn Write + Send>, progress: &Progress) {
    let mut batch = String::new();
    let mut broken = false;
    while let Ok(line) = lines.recv() {
        batch.clear();
        batch.push_str(&line);
        let mut count = 1;
        while batch.len() < BATCH_BYTES
            && let Ok(line) = lines.try_recv()
        {
            batch.push_str(&line);
            count += 1;
        }
        match sink.write_all(batch.as_bytes()).and_then(|()| sink.flush()) {
            Ok(()) => {
                broken = false;
                progress.settle(count);
            }
            Err(error) => {
                if !broken {
                    tracing::warn!(%error, "cannot write the access log; its lines are dropped and counted");
                }
                broken = true;
                progress.lost(count);
            }
        }
    }
}
