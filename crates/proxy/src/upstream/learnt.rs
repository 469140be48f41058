//! What was seen at an address the last time: which side spoke first, and whether its server takes extended CONNECT.
//!
//! Only hints. The first may hold an early dial back for a moment (see `flow::early`); it never suppresses the dial and
//! never replaces sniffing. The second is what an app is told before its server has been met (docs/adr/0009).

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::bounded::Bounded;

const ADDRESSES: usize = 4096;

/// Who spoke first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum First {
    App,
    Server,
}

#[derive(Debug)]
pub(crate) struct Learnt {
    first: Mutex<Bounded<SocketAddr, First>>,
    /// Servers that take it, and those that did.
    extended_connect: Mutex<Bounded<SocketAddr, bool>>,
}

impl Learnt {
    pub(crate) fn new() -> Self {
        Self {
            first: Mutex::new(Bounded::new(ADDRESSES)),
            extended_connect: Mutex::new(Bounded::new(ADDRESSES)),
        }
    }

    pub(crate) fn get(&self, address: SocketAddr) -> Option<First> {
        lock(&self.first).get(&address)
    }

    pub(crate) fn note(&self, address: SocketAddr, first: First) {
        lock(&self.first).insert(address, first);
    }

    /// Whether the server is known to take extended CONNECT (RFC 8441).
    pub(crate) fn takes_extended_connect(&self, address: SocketAddr) -> bool {
        lock(&self.extended_connect).get(&address) == Some(true)
    }

    /// The server has said whether it takes extended CONNECT.
    pub(crate) fn note_extended_connect(&self, address: SocketAddr, takes: bool) {
        let mut known = lock(&self.extended_connect);
        // Most servers never have: they need no place.
        if takes || known.get(&address).is_some() {
            known.insert(address, takes);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
