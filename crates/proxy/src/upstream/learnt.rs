//! Which side spoke first at an address the last time.
//!
//! Only a hint: it may hold an early dial back for a moment (see `flow::early`), it never suppresses the dial and
//! never replaces sniffing.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use crate::bounded::Bounded;

const ADDRESSES: usize = 4096;

/// Who spoke first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum First {
    App,
    Server,
}

#[derive(Debug)]
pub(crate) struct Learnt(Mutex<Bounded<SocketAddr, First>>);

impl Learnt {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Bounded::new(ADDRESSES)))
    }

    pub(crate) fn get(&self, address: SocketAddr) -> Option<First> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&address)
    }

    pub(crate) fn note(&self, address: SocketAddr, first: First) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(address, first);
    }
}
