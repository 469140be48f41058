//! When files that were changed are taken, and what is said of it.
//!
//! Nobody tells when a file is complete. A pair is written one file after the other, a bundle line by line, and each state
//! between may well parse: a chain without its second half, a bundle with half of its roots. So what is new is used
//! when two looks have found it the same, and then only if all of it is right. What is wrong is said once, and tried again
//! at each look: a certificate that is not valid yet will be.

use std::time::SystemTime;

use crate::files::Digest;
use crate::validity::{Validity, seconds};

/// Follows one set of files from look to look.
#[derive(Debug)]
pub struct Watch {
    in_force: Digest,
    last: Digest,
    refused: Option<Digest>,
}

/// What a look at the files asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing: they say what is in force.
    Same,
    /// To say that they are again what is in force, after something that was refused.
    Back,
    /// To look again in a moment, since they have just changed.
    Again,
    /// To try what they say, and to call [`Watch::accepted`] or [`Watch::refused`].
    Try,
}

impl Watch {
    /// Files of which this is in force.
    pub fn new(in_force: Digest) -> Self {
        Self { in_force, last: in_force, refused: None }
    }

    /// What to do about what the files say now.
    pub fn look(&mut self, now: Digest) -> Look {
        let settled = std::mem::replace(&mut self.last, now) == now;
        match (now == self.in_force, settled) {
            (true, true) if self.refused.take().is_some() => Look::Back,
            (true, true) => Look::Same,
            (true, false) if self.refused.is_none() => Look::Same,
            (_, false) => Look::Again,
            (false, true) => Look::Try,
        }
    }

    /// What the last look found is in force from now on.
    pub fn accepted(&mut self) {
        self.in_force = self.last;
        self.refused = None;
    }

    /// What the last look found cannot be used. Whether that is news.
    pub fn refused(&mut self) -> bool {
        self.refused.replace(self.last) != Some(self.last)
    }

    /// Whether the files say something that cannot be used.
    pub fn is_refused(&self) -> bool {
        self.refused.is_some()
    }
}

/// How much of an identity's life is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Age {
    /// More than a third.
    #[default]
    Young,
    /// A third or less: whatever renews it should have done so.
    Due,
    /// Nothing.
    Expired,
}

impl Age {
    /// That at `now`.
    pub fn at(validity: Validity, now: SystemTime) -> Self {
        match seconds(now) {
            now if now > validity.not_after => Self::Expired,
            now if now >= validity.renewal() => Self::Due,
            _ => Self::Young,
        }
    }
}

#[cfg(test)]
mod tests;
