//! The early dial: a connection to where the flow is most likely going, made while the app is still silent.
//!
//! It is what makes server-first protocols cost nothing, and it is bounded by four rules (DESIGN, "sniff by
//! racing"): it goes only where policy by address allows and the breaker is closed; where a name could still
//! change the answer the app's first bytes are given a moment; where a name could still deny, there is none; and
//! what was learnt about an address only ever delays it.

use std::future::{Future, pending};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use dragoman_config::{ByAddress, Protocol};
use dragoman_net::OrigDst;
use dragoman_telemetry::EarlyDial;
use tokio::time::{Instant, sleep_until};

use crate::leg::Leg;
use crate::shared::Shared;
use crate::upstream::dial::{DialFailed, dial};
use crate::upstream::learnt::First;

/// How long the app's first bytes are waited for where a name could still change where the flow goes.
const NAME_WAIT: Duration = Duration::from_millis(20);

/// The same where the app is expected to speak first.
const APP_FIRST_WAIT: Duration = Duration::from_millis(50);

/// When to dial before the protocol is known, if at all. Pure: all that it decides on is given.
pub(crate) fn plan(
    by_address: &ByAddress<'_>,
    learnt: Option<First>,
    breaker_closed: bool,
) -> Option<Duration> {
    let destination = by_address.destination;
    if destination.deny || by_address.name_may_deny || !breaker_closed {
        return None;
    }
    Some(match (destination.protocol, learnt) {
        (Protocol::Opaque, _) | (_, Some(First::Server)) => Duration::ZERO,
        (Protocol::Http, _) | (_, Some(First::App)) => APP_FIRST_WAIT,
        (Protocol::Auto, None) if by_address.name_may_decide => NAME_WAIT,
        (Protocol::Auto, None) => Duration::ZERO,
    })
}

type Dial = Pin<Box<dyn Future<Output = Result<Leg, DialFailed>> + Send>>;

/// The early dial of one flow, as far as it has come.
pub(crate) struct Early {
    shared: Arc<Shared>,
    destination: usize,
    address: SocketAddr,
    limit: Duration,
    state: State,
}

enum State {
    Never,
    Planned(Instant),
    Dialling(Dial),
    Connected(Leg),
    Failed(DialFailed),
}

/// What the early dial has to say.
#[derive(Debug)]
pub(crate) enum News {
    /// It failed; the stage that takes it learns why.
    Failed,
    /// The server spoke: see [`Early::held`].
    Spoke,
    /// The server ended its side, or the connection, without waiting for the app.
    Ended,
}

impl Early {
    /// The early dial of a flow to `original`, planned or not.
    pub(crate) fn new(shared: &Arc<Shared>, by_address: &ByAddress<'_>, original: OrigDst) -> Self {
        let destination = by_address.destination;
        let endpoint = shared.pick(destination, original, None);
        let learnt = shared.learnt.get(original.0);
        let state = match plan(by_address, learnt, endpoint.is_closed(std::time::Instant::now())) {
            Some(wait) => State::Planned(Instant::now() + wait),
            None => {
                shared.telemetry.process().early_dial(EarlyDial::Refused);
                State::Never
            }
        };
        Self {
            shared: Arc::clone(shared),
            destination: destination.index,
            address: endpoint.address,
            limit: destination.connect_timeout,
            state,
        }
    }

    /// Goes on with the dial, and reads what the server says. Cancelling loses nothing.
    pub(crate) async fn news(&mut self) -> News {
        loop {
            match &mut self.state {
                State::Never | State::Failed(_) => pending().await,
                State::Planned(at) => {
                    sleep_until(*at).await;
                    self.start();
                }
                State::Dialling(dial) => match dial.await {
                    Ok(leg) => self.state = State::Connected(leg),
                    Err(failed) => {
                        self.shared.telemetry.process().early_dial(EarlyDial::Failed);
                        self.state = State::Failed(failed);
                        return News::Failed;
                    }
                },
                State::Connected(leg) => {
                    return match leg.fill().await {
                        Ok(1..) => News::Spoke,
                        // An error is found again by whoever relays.
                        Ok(0) | Err(_) => News::Ended,
                    };
                }
            }
        }
    }

    /// What the server said so far, unasked.
    pub(crate) fn held(&self) -> &[u8] {
        match &self.state {
            State::Connected(leg) => leg.buf.bytes(),
            _ => &[],
        }
    }

    /// Where it goes, if there is one.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        matches!(self.state, State::Dialling(_) | State::Connected(_) | State::Failed(_))
            .then_some(self.address)
    }

    /// The connection to `address`: a dial that is under way is waited for. `None` where there is none; one to another
    /// address is closed.
    pub(crate) async fn take(&mut self, address: SocketAddr) -> Option<Result<Leg, DialFailed>> {
        if address != self.address {
            self.discard();
            return None;
        }
        let result = match std::mem::replace(&mut self.state, State::Never) {
            State::Never | State::Planned(_) => return None,
            State::Failed(failed) => return Some(Err(failed)),
            State::Dialling(dial) => dial.await,
            State::Connected(leg) => Ok(leg),
        };
        let told = if result.is_ok() { EarlyDial::Used } else { EarlyDial::Failed };
        self.shared.telemetry.process().early_dial(told);
        Some(result)
    }

    /// Ends an early dial that nobody needs.
    pub(crate) fn discard(&mut self) {
        match std::mem::replace(&mut self.state, State::Never) {
            State::Never | State::Planned(_) | State::Failed(_) => return,
            // Nothing was sent: an orderly end, not a reset.
            State::Connected(leg) => leg.close(),
            State::Dialling(_) => {}
        }
        self.shared.telemetry.process().early_dial(EarlyDial::Unused);
    }

    fn start(&mut self) {
        let (shared, destination, address, limit) =
            (Arc::clone(&self.shared), self.destination, self.address, self.limit);
        self.state =
            State::Dialling(Box::pin(async move { dial(&shared, destination, address, limit).await }));
    }
}

impl Drop for Early {
    fn drop(&mut self) {
        self.discard();
    }
}
