//! What an exchange works with beside the bytes of its messages.
//!
//! It is larger than all else that a connection holds, and most connections wait most of the time. So a connection has it
//! for an exchange alone; between two of them it lies on a stack that all flows share. Last in, first out: what is taken is
//! what is still in the processor's cache.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, TryLockError};

use dragoman_telemetry::{ExchangeRecord, Telemetry};
use dragoman_wire::http1::{RequestHead, ResponseHead};

use crate::shared::Shared;

/// The most that lie on the stack: what is beyond them was needed for a moment only.
const SPARE: usize = 64;

/// The largest buffer that is kept, in bytes: what lies on the stack costs what small heads did.
const SMALL: usize = 4096;

/// The storage of a connection during its exchanges; between them it has none.
#[derive(Default)]
pub(super) struct Scratch(Option<Box<Storage>>);

/// Storage that exchanges use again, one after the other.
pub(super) struct Storage {
    pub(super) request: RequestHead,
    pub(super) response: ResponseHead,
    pub(super) outgoing: Vec<u8>,
    pub(super) incoming: Vec<u8>,
    pub(super) record: ExchangeRecord,
}

/// Storage that no exchange uses.
#[derive(Default)]
pub(crate) struct Spare(Mutex<Stack>);

/// In boxes: a connection takes the box, and nothing is copied.
type Stack = Vec<Box<Storage>>;

impl Scratch {
    /// To be called before an exchange. It keeps what it has.
    pub(super) fn take(&mut self, shared: &Shared) {
        self.0.get_or_insert_with(|| {
            let spare = shared.scratch.lock().and_then(|mut spare| spare.pop());
            spare.unwrap_or_else(|| Box::new(Storage::new(&shared.telemetry)))
        });
    }

    /// To be called when an exchange is over and none has begun.
    pub(super) fn give_back(&mut self, shared: &Shared) {
        if let Some(storage) = self.0.take().filter(|storage| storage.is_small())
            && let Some(mut spare) = shared.scratch.lock()
            && spare.len() < SPARE
        {
            spare.push(storage);
        }
    }
}

impl Deref for Scratch {
    type Target = Storage;

    fn deref(&self) -> &Storage {
        self.0.as_ref().expect("taken before each exchange")
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut Storage {
        self.0.as_mut().expect("taken before each exchange")
    }
}

impl Storage {
    fn new(telemetry: &Telemetry) -> Self {
        Self {
            request: RequestHead::default(),
            response: ResponseHead::default(),
            outgoing: Vec::new(),
            incoming: Vec::new(),
            record: ExchangeRecord::new(telemetry),
        }
    }

    fn is_small(&self) -> bool {
        self.outgoing.capacity().max(self.incoming.capacity()) <= SMALL
    }
}

impl Spare {
    /// Never waits: where another thread is at it, storage of one's own is cheaper.
    fn lock(&self) -> Option<MutexGuard<'_, Stack>> {
        match self.0.try_lock() {
            Ok(spare) => Some(spare),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dragoman_config::Config;
    use dragoman_telemetry::AccessLog;
    use std::sync::Arc;

    fn shared() -> Shared {
        let telemetry = Telemetry::new(vec!["default".into()], AccessLog::off());
        Shared::new(Arc::new(Config::empty()), telemetry, vec![])
    }

    fn spare(shared: &Shared) -> usize {
        shared.scratch.lock().unwrap().len()
    }

    #[test]
    fn what_a_connection_gave_back_the_next_one_uses() {
        let shared = shared();
        let (mut first, mut second) = (Scratch::default(), Scratch::default());
        first.take(&shared);
        first.outgoing = Vec::with_capacity(500);
        first.give_back(&shared);
        assert!(first.0.is_none() && spare(&shared) == 1);
        second.take(&shared);
        assert!(second.outgoing.capacity() >= 500 && spare(&shared) == 0);
        second.take(&shared);
        assert!(second.outgoing.capacity() >= 500, "what it has it keeps");
    }

    #[test]
    fn storage_for_a_large_head_is_not_kept() {
        let shared = shared();
        let mut scratch = Scratch::default();
        scratch.take(&shared);
        scratch.incoming = vec![0; 30_000];
        scratch.give_back(&shared);
        assert_eq!(spare(&shared), 0);
    }

    #[test]
    fn a_crowd_leaves_no_more_than_the_bound() {
        let shared = shared();
        let mut crowd: Vec<_> = (0..SPARE + 10).map(|_| Scratch::default()).collect();
        crowd.iter_mut().for_each(|scratch| scratch.take(&shared));
        crowd.iter_mut().for_each(|scratch| scratch.give_back(&shared));
        assert_eq!(spare(&shared), SPARE);
    }

    #[test]
    fn nobody_waits_for_the_stack() {
        let shared = shared();
        let held = shared.scratch.lock();
        let mut scratch = Scratch::default();
        scratch.take(&shared);
        scratch.outgoing.push(1);
        scratch.give_back(&shared);
        assert!(scratch.0.is_none());
        drop(held);
        assert_eq!(spare(&shared), 0);
    }
}
