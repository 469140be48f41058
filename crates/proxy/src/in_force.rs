//! The policy in force, which a reload replaces as a whole.
//!
//! Nobody keeps it: a flow or an exchange looks at it where it decides, without a lock, and goes on with the destination
//! that it found. So what is decided next is decided by the new policy, what is under way keeps its own, and a flow
//! that waits for hours does not keep a whole configuration in memory.
//!
//! Whatever is kept for a destination is kept under its [`Version`], in tables that are cleared after a replacement. An
//! exchange that is under way by the old policy must not fill them again. Each table is therefore asked for with its
//! lock held whether the version is still in force: before the clearing the clearing will find it, and after it the
//! replacement is seen.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};
use dragoman_config::{Config, Version};

use crate::tls::Store;

/// The policy in force; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct InForce(Arc<Slot>);

#[derive(Debug)]
struct Slot {
    config: ArcSwap<Config>,
    tls: Arc<Store>,
    /// Held while one configuration follows another.
    replacing: Mutex<()>,
}

impl InForce {
    pub(crate) fn new(config: Arc<Config>, tls: Arc<Store>) -> Self {
        Self(Arc::new(Slot { config: ArcSwap::new(config), tls, replacing: Mutex::default() }))
    }

    /// The policy of this moment. Not to be held for longer than a decision takes.
    pub(crate) fn now(&self) -> Guard<Arc<Config>> {
        self.0.config.load()
    }

    /// Whether a destination is still as it was when `version` was taken of it.
    pub(crate) fn has(&self, version: Version) -> bool {
        self.now().at(version).is_some()
    }

    /// Whether what was connected for a destination may be used on: it is as it was, and so is the material of its TLS, of
    /// which this is the generation.
    pub(crate) fn allows(&self, version: Version, material: Option<u64>) -> bool {
        self.has(version) && material.is_none_or(|generation| self.0.tls.is_current(version, generation))
    }

    /// Puts `next` in force. `announce` is called with it before anybody else can see it.
    pub(crate) fn replace(&self, next: Config, announce: impl FnOnce(&Config)) -> Arc<Config> {
        let _one_at_a_time = self.0.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let next = Arc::new(next.adopt(&self.now()));
        announce(&next);
        self.0.config.store(Arc::clone(&next));
        next
    }
}

#[cfg(test)]
mod tests;
