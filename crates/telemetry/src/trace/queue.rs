//! Spans that wait to be sent: a bounded queue that takes them without waiting and gives them out in batches.
//!
//! A vector behind a lock that is held for one push. The thread that sends is woken when a batch begins and
//! when one is full, not for each span.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::labels::DropReason;

/// Spans that may wait: some 2 MiB when all are there.
const MOST_WAITING: u64 = 4096;
/// A batch is sent when it has this many spans.
const BATCH: u64 = 512;
/// Or when its first span has waited so long.
const PERIOD: Duration = Duration::from_secs(5);

/// Spans that ended together, as they stand in a `ScopeSpans` message.
#[derive(Debug, Default)]
pub(crate) struct Spans {
    pub(crate) bytes: Vec<u8>,
    pub(crate) count: u64,
}

/// What became of all spans so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) exported: u64,
    /// By [`DropReason`].
    pub(crate) dropped: [u64; DropReason::ALL.len()],
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Told to the sender: there is work, or haste.
    work: Condvar,
    /// Told to who flushes: a batch is settled.
    settled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Spans>,
    /// Spans in `waiting`.
    count: u64,
    /// Spans that were given out and are not settled.
    on_the_way: u64,
    counts: Counts,
    /// Somebody waits for the queue to be empty.
    hurry: bool,
    closed: bool,
}

impl Queue {
    /// Takes spans, or drops and counts them.
    pub(super) fn push(&self, spans: Spans) {
        let mut state = self.lock();
        if state.count + spans.count > MOST_WAITING {
            state.counts.dropped[DropReason::QueueFull as usize] += spans.count;
            return;
        }
        let before = state.count;
        state.count += spans.count;
        state.waiting.push_back(spans);
        if before == 0 || before < BATCH && state.count >= BATCH {
            self.work.notify_one();
        }
    }

    /// Waits for a batch. `None` when the queue is closed and empty.
    pub(super) fn next_batch(&self) -> Option<Spans> {
        let wait = |state| self.work.wait_while(state, |state: &mut State| state.count == 0 && !state.closed);
        let state = wait(self.lock()).unwrap_or_else(PoisonError::into_inner);
        let is_early = |state: &mut State| state.count < BATCH && !state.hurry && !state.closed;
        let waited = self.work.wait_timeout_while(state, PERIOD, is_early);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let mut batch = state.waiting.pop_front()?;
        while batch.count < BATCH
            && let Some(spans) = state.waiting.pop_front()
        {
            batch.bytes.extend_from_slice(&spans.bytes);
            batch.count += spans.count;
        }
        state.count -= batch.count;
        state.on_the_way = batch.count;
        Some(batch)
    }

    /// The batch that was given out last is done with: `dropped` of its spans were not exported.
    pub(super) fn settle(&self, dropped: u64, reason: DropReason) {
        let mut state = self.lock();
        let sent = std::mem::take(&mut state.on_the_way);
        let dropped = dropped.min(sent);
        state.counts.exported += sent - dropped;
        state.counts.dropped[reason as usize] += dropped;
        self.settled.notify_all();
    }

    /// Lets `time` pass before another try. `false`: there is no time for one, somebody waits for the end.
    pub(super) fn back_off(&self, time: Duration) -> bool {
        let calm = |state: &mut State| !state.hurry && !state.closed;
        let waited = self.work.wait_timeout_while(self.lock(), time, calm);
        calm(&mut waited.unwrap_or_else(PoisonError::into_inner).0)
    }

    pub(super) fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Waits for nothing any more: neither for a batch to be full nor before another try.
    pub(super) fn hurry(&self) {
        self.lock().hurry = true;
        self.work.notify_all();
    }

    /// Hurries until there is nothing left, or `timeout` has passed. Returns whether there is nothing left.
    pub(super) fn flush(&self, timeout: Duration) -> bool {
        self.hurry();
        let is_busy = |state: &mut State| state.count + state.on_the_way > 0;
        let waited = self.settled.wait_timeout_while(self.lock(), timeout, is_busy);
        let (mut state, result) = waited.unwrap_or_else(PoisonError::into_inner);
        state.hurry = false;
        !result.timed_out()
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.work.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn spans(count: u64) -> Spans {
        Spans { bytes: vec![1; usize::try_from(count).unwrap()], count }
    }

    #[test]
    fn what_finds_no_room_is_dropped_whole_and_counted() {
        let queue = Queue::default();
        for _ in 0..MOST_WAITING / 2 {
            queue.push(spans(2));
        }
        queue.push(spans(3));
        assert_eq!(queue.counts(), Counts { exported: 0, dropped: [3, 0, 0] });
        assert_eq!(queue.next_batch().map(|batch| batch.count), Some(BATCH));
        queue.push(spans(3));
        assert_eq!(queue.counts().dropped, [3, 0, 0]);
    }

    #[test]
    fn each_span_is_exported_or_dropped() {
        let queue = Queue::default();
        queue.push(spans(BATCH));
        queue.push(spans(BATCH));
        queue.next_batch().unwrap();
        queue.settle(0, DropReason::Rejected);
        queue.next_batch().unwrap();
        queue.settle(u64::MAX, DropReason::Rejected);
        queue.close();
        assert!(queue.next_batch().is_none());
        assert_eq!(queue.counts(), Counts { exported: BATCH, dropped: [0, BATCH, 0] });
    }

    #[test]
    fn a_flush_ends_the_wait_for_more_and_for_another_try() {
        let queue = Arc::new(Queue::default());
        queue.push(spans(1));
        let sender = std::thread::spawn({
            let queue = Arc::clone(&queue);
            move || {
                while queue.next_batch().is_some() {
                    assert!(!queue.back_off(Duration::from_secs(3600)), "the flush was not noticed");
                    queue.settle(1, DropReason::Unavailable);
                }
            }
        });
        assert!(queue.flush(Duration::from_secs(20)));
        assert_eq!(queue.counts().dropped, [0, 0, 1]);
        queue.close();
        sender.join().unwrap();
    }

    #[test]
    fn a_flush_without_a_sender_ends_too() {
        let queue = Queue::default();
        assert!(queue.flush(Duration::ZERO), "there is nothing to send");
        queue.push(spans(1));
        assert!(!queue.flush(Duration::from_millis(1)));
    }
}
