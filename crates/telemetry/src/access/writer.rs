//! The thread that writes.
//!
//! It counts by lines and writes by bytes: a disk that is full, or a pipe whose reader is gone, may take a part of a
//! batch. Lines that went out whole are written, the others are lost, and a line that was cut is closed with a line feed
//! before the next one, so that one bad line is all that a reader meets. It never gives up: the next batch tries again.

use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::sink::Sink;

/// A batch is written when it has this many bytes, or when no line is waiting.
const BATCH_BYTES: usize = 64 * 1024;

/// What the writer is sent.
#[derive(Debug)]
pub(super) enum Message {
    /// A whole line, with its line feed.
    Line(String),
    /// Nothing to write, but something to do.
    Wake,
}

/// How far the writer is.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) submitted: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) reopen: AtomicBool,
    /// Lines that were written or lost.
    settled: Mutex<u64>,
    changed: Condvar,
}

impl Progress {
    fn settle(&self, lines: u64) {
        *self.settled.lock().unwrap_or_else(PoisonError::into_inner) += lines;
        self.changed.notify_all();
    }

    pub(super) fn lost(&self, lines: u64) {
        self.dropped.fetch_add(lines, Ordering::Relaxed);
        self.settle(lines);
    }

    pub(super) fn waiting(&self) -> u64 {
        let settled = *self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        self.submitted.load(Ordering::Relaxed).saturating_sub(settled)
    }

    pub(super) fn wait(&self, timeout: Duration) -> bool {
        let target = self.submitted.load(Ordering::Relaxed);
        let settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        let result = self.changed.wait_timeout_while(settled, timeout, |settled| *settled < target);
        !result.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

/// Writes until every sender is gone.
pub(super) fn run(messages: &Receiver<Message>, sink: Box<dyn Sink>, progress: &Progress) {
    let mut writer = Writer { sink, torn: false, lost: 0 };
    let mut batch = String::new();
    while let Ok(first) = messages.recv() {
        batch.clear();
        let (mut next, mut lines) = (Some(first), 0);
        while let Some(message) = next {
            if let Message::Line(line) = message {
                batch.push_str(&line);
                lines += 1;
            }
            next = if batch.len() < BATCH_BYTES { messages.try_recv().ok() } else { None };
        }
        if progress.reopen.swap(false, Ordering::AcqRel) {
            writer.reopen();
        }
        let written = writer.write(&batch);
        progress.settle(written);
        if written < lines {
            progress.lost(lines - written);
        }
    }
}

struct Writer {
    sink: Box<dyn Sink>,
    /// What was written last ends inside a line.
    torn: bool,
    /// Lines lost since it last worked.
    lost: u64,
}

impl Writer {
    fn reopen(&mut self) {
        // A line that was cut is closed all the same: what is open now may well be what was open before.
        if let Err(error) = self.sink.reopen() {
            tracing::warn!(%error, "cannot reopen the access log; the file that was open is written on");
        }
    }

    /// Writes as much as goes, and returns how many lines of it went out whole.
    fn write(&mut self, batch: &str) -> u64 {
        if batch.is_empty() {
            return 0;
        }
        let (written, result) = self.write_bytes(batch.as_bytes());
        let lines = |text: &[u8]| text.iter().filter(|byte| **byte == b'\n').count() as u64;
        let whole = lines(&batch.as_bytes()[..written]);
        match result {
            Ok(()) if self.lost > 0 => {
                tracing::info!(lost = self.lost, "the access log is written again");
                self.lost = 0;
            }
            Ok(()) => {}
            Err(error) => {
                if self.lost == 0 {
                    tracing::warn!(%error, "cannot write the access log; its lines are dropped and counted");
                }
                self.lost += lines(&batch.as_bytes()[written..]);
            }
        }
        whole
    }

    /// How many of the bytes were taken, and why not all.
    fn write_bytes(&mut self, bytes: &[u8]) -> (usize, io::Result<()>) {
        let mut written = 0;
        while self.torn || written < bytes.len() {
            let rest = if self.torn { b"\n" } else { &bytes[written..] };
            match self.sink.write(rest) {
                Ok(0) => return (written, Err(ErrorKind::WriteZero.into())),
                Ok(_) if self.torn => self.torn = false,
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.torn |= written > 0 && bytes[written - 1] != b'\n';
                    return (written, Err(error));
                }
            }
        }
        (written, Ok(()))
    }
}
