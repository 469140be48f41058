//! When an opaque flow is silent for so long that it may sleep.
//!
//! To sleep and to wake costs a few system calls and allocations. So a flow is looked at after a short while, then after
//! twice that, and so on, whether it slept meanwhile or not: one that speaks now and then is soon left alone, and one that
//! is silent for hours sleeps for nearly all of them.

use std::future::pending;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::time::sleep;

/// After how long a new flow is looked at, in milliseconds.
const FIRST: u16 = 25;

/// The longest time between two looks, in milliseconds.
const LONGEST: u16 = 25_600;

const WAITS: u8 = 0;
/// It has waited since the last look.
const SILENT: u8 = 1;
const HEARS: u8 = 2;
const ENDED: u8 = 3;

/// Hears what one direction of a flow is doing. Atomic only because a flow may go from thread to thread.
#[derive(Debug, Default)]
pub(super) struct Listener(AtomicU8);

impl Listener {
    /// The direction waits for its sender, and holds nothing.
    pub(super) fn waits(&self) {
        self.set(WAITS);
    }

    /// Something has come.
    pub(super) fn hears(&self) {
        self.set(HEARS);
    }

    /// The sender has ended.
    pub(super) fn ended(&self) {
        self.set(ENDED);
    }

    fn set(&self, state: u8) {
        self.0.store(state, Ordering::Relaxed);
    }

    /// Whether the direction was silent since the last look.
    fn look(&self) -> bool {
        let before = self.0.compare_exchange(WAITS, SILENT, Ordering::Relaxed, Ordering::Relaxed);
        before == Err(SILENT)
    }

    fn has_ended(&self) -> bool {
        self.0.load(Ordering::Relaxed) == ENDED
    }
}

/// How long a flow is given between two looks, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience(u16);

impl Patience {
    pub(super) const NEW: Self = Self(FIRST);

    /// Sleeps whenever nothing has come since the last time it had its turn.
    #[cfg(test)]
    pub(super) const NONE: Self = Self(0);

    /// Returns when neither direction has heard anything between two looks. Never where one has ended: a half-closed flow
    /// stays awake.
    pub(super) async fn until_silence(&mut self, listeners: [&Listener; 2]) {
        loop {
            sleep(Duration::from_millis(self.0.into())).await;
            self.0 = LONGEST.min(self.0.saturating_mul(2));
            // Both are looked at, always.
            let silent = listeners.map(Listener::look);
            if silent == [true, true] {
                return;
            }
            if listeners.iter().any(|listener| listener.has_ended()) {
                pending::<()>().await;
            }
        }
    }
}
