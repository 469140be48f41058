//! What is remembered of the attempts of an exchange, or of a flow, while it is under way.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::encode::Encoder;
use crate::cause::Cause;
use crate::labels::{BreakerState, Outcome, Way};
use crate::secured::Secured;

/// The most attempts that are told of; the last one is always among them.
const MOST: usize = 16;

/// The attempts so far. The one that is under way, or was last, is apart: nearly always it is the only one.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    /// Attempts begun.
    made: u16,
    last: Step,
    earlier: Vec<(SocketAddr, Step)>,
}

/// One attempt. Times are in microseconds since the start of what it belongs to; an hour and more is a little over one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Step {
    pub(super) started: u32,
    /// When it was on its connection, and how it came by that.
    pub(super) connected: Option<(Way, u32)>,
    /// Of a connection with TLS.
    pub(super) secured: Option<Arc<Secured>>,
    pub(super) first_byte: Option<u32>,
    /// `None` where it ended with what it belongs to.
    pub(super) ended: Option<u32>,
    pub(super) outcome: Option<Outcome>,
    pub(super) status: u16,
    pub(super) cause: Option<Cause>,
    /// What the breaker was when the attempt was admitted; `None` where there is none.
    pub(super) breaker: Option<BreakerState>,
    /// What was found when it was decided whether to repeat it: the breaker, and the retries that the budget had left.
    pub(super) found: Option<(Option<BreakerState>, Option<u64>)>,
    /// Why it was repeated: the reason and the proof that this was safe.
    pub(super) retried: Option<(&'static str, &'static str)>,
    /// How long was waited before the next one.
    pub(super) wait: u32,
    /// Why it was not repeated.
    pub(super) refused: Option<&'static str>,
}

impl Steps {
    /// Forgets everything; keeps the storage.
    pub(crate) fn clear(&mut self) {
        self.made = 0;
        self.earlier.clear();
    }

    /// Another attempt begins; `before` is where the one before it went.
    pub(crate) fn begin(&mut self, since_start: impl FnOnce() -> Duration, before: Option<SocketAddr>) {
        let mut started = 0;
        if self.made > 0 {
            started = micros(since_start());
            if let (Some(endpoint), true) = (before, self.earlier.len() < MOST - 1) {
                self.earlier.push((endpoint, std::mem::take(&mut self.last)));
            }
        }
        self.made = self.made.saturating_add(1);
        self.last = Step { started, ..Step::default() };
    }

    /// The attempt that is under way, or was last.
    pub(crate) fn last(&mut self) -> Option<&mut Step> {
        (self.made > 0).then_some(&mut self.last)
    }

    /// Adds all of them, the last one of which went to `endpoint`.
    pub(super) fn encode(&self, endpoint: Option<SocketAddr>, out: &mut Encoder<'_>) {
        let last = endpoint.filter(|_| self.made > 0).map(|endpoint| (endpoint, &self.last));
        out.byte((self.earlier.len() + usize::from(last.is_some())) as u8);
        for (endpoint, step) in self.earlier.iter().map(|(endpoint, step)| (*endpoint, step)).chain(last) {
            out.address(Some(endpoint));
            step.encode(out);
        }
    }
}

/// Something about an attempt that only its story tells.
#[derive(Clone, Copy, Debug)]
pub enum Note {
    /// What the breaker was when the attempt was admitted; `None` where there is none.
    Admitted(Option<BreakerState>),
    /// What was found when it was decided whether to repeat it: the breaker, and the retries that the budget had left.
    Found(Option<BreakerState>, Option<u64>),
    /// How long is waited before the next one.
    Waits(Duration),
    /// Why it was not repeated, a word of a closed set. For what counts as a refusal there are methods of their own.
    NotRetried(&'static str),
}

impl Note {
    pub(crate) fn write(self, step: &mut Step) {
        match self {
            Note::Admitted(breaker) => step.breaker = breaker,
            Note::Found(breaker, left) => step.found = Some((breaker, left)),
            Note::Waits(wait) => step.waits(wait),
            Note::NotRetried(reason) => step.refused = Some(reason),
        }
    }
}

impl Step {
    /// It is on its connection.
    pub(crate) fn connected(&mut self, way: Way, since_start: Duration) {
        self.connected = Some((way, micros(since_start)));
    }

    /// Its connection has TLS.
    pub(crate) fn secured(&mut self, secured: Arc<Secured>) {
        self.secured = Some(secured);
    }

    /// The response head is here, so long after the connection was.
    pub(crate) fn first_byte(&mut self, after: Duration) {
        let connected = self.connected.map_or(self.started, |(_, connected)| connected);
        self.first_byte = Some(connected.saturating_add(micros(after)));
    }

    /// It has ended, and not with what it belongs to.
    pub(crate) fn ended(&mut self, since_start: Duration) {
        self.ended = Some(micros(since_start));
    }

    /// It is over, and this is what it says about its endpoint.
    pub(crate) fn outcome(&mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }

    /// It was answered.
    pub(crate) fn answered(&mut self, status: u16) {
        self.status = status;
    }

    /// It failed.
    pub(crate) fn failed(&mut self, cause: Cause) {
        self.cause = Some(cause);
    }

    /// It is repeated.
    pub(crate) fn retried(&mut self, reason: &'static str, proof: &'static str) {
        self.retried = Some((reason, proof));
    }

    /// It is repeated after this wait.
    pub(crate) fn waits(&mut self, wait: Duration) {
        self.wait = micros(wait);
    }

    fn encode(&self, out: &mut Encoder<'_>) {
        let (way, connected) =
            self.connected.map_or((0, 0), |(way, connected)| (way as u8 + 1, connected.saturating_add(1)));
        let some = |time: Option<u32>| time.map_or(0, |time| time.saturating_add(1));
        let (after, left) = self.found.unwrap_or_default();
        let mut fixed = [0; 34];
        fixed[0..4].copy_from_slice(&self.started.to_le_bytes());
        fixed[4..8].copy_from_slice(&connected.to_le_bytes());
        fixed[8..12].copy_from_slice(&some(self.first_byte).to_le_bytes());
        fixed[12..16].copy_from_slice(&some(self.ended).to_le_bytes());
        fixed[16..20].copy_from_slice(&self.wait.to_le_bytes());
        fixed[20..28].copy_from_slice(&left.map_or(0, |left| left.saturating_add(1)).to_le_bytes());
        fixed[28..30].copy_from_slice(&self.status.to_le_bytes());
        fixed[30] = way | (self.breaker.map_or(0, |state| state as u8 + 1) << 4);
        fixed[31] = self.outcome.map_or(0, |outcome| outcome as u8 + 1);
        fixed[32] = self.cause.map_or(0, |cause| cause as u8 + 1);
        fixed[33] = after.map_or(0, |state| state as u8 + 1) | u8::from(self.retried.is_some()) << 4;
        fixed[33] |= u8::from(self.secured.is_some()) << 5;
        out.bytes(&fixed);
        if let Some(secured) = &self.secured {
            out.byte(secured.version as u8 + 1);
            out.byte(secured.handshake as u8 + 1);
            out.bytes(&micros(secured.took).to_le_bytes());
            out.text(&secured.server_name);
        }
        let (reason, proof) = self.retried.unwrap_or((self.refused.unwrap_or_default(), ""));
        out.text(reason);
        if self.retried.is_some() {
            out.text(proof);
        }
    }
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}
