//! The early dial: a connection to where the flow is most likely going, made while the app is still silent.
//!
//! It is what makes server-first protocols cost nothing, and it is bounded by four rules (DESIGN, "sniff by
//! racing"): it goes only where policy by address allows and the breaker lets it; where a name could still change the
//! answer the app's first bytes are given a moment, and a longer one where a name could still deny; what was learnt
//! about an address only ever delays it; and a connection that the flow has no use for is closed and counted.

use std::future::{Future, pending};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use dragoman_config::{ByAddress, Destination, Protocol};
use dragoman_net::OrigDst;
use dragoman_telemetry::EarlyDial;
use dragoman_tls::client::Alpn;
use tokio::time::{Instant, sleep_until};

use crate::leg::Leg;
use crate::shared::Shared;
use crate::upstream::dial::DialFailed;
use crate::upstream::learnt::First;
use crate::upstream::link::{Asked, Link};
use crate::upstream::pool::SecureKey;
use crate::upstream::state::{Endpoint, Pass};

/// How long the app's first bytes are waited for where a name could still change where the flow goes.
const NAME_WAIT: Duration = Duration::from_millis(20);

/// The same where the app is expected to speak first.
const APP_FIRST_WAIT: Duration = Duration::from_millis(50);

/// How long the app's first bytes are waited for where a name could still deny the flow. An app that is silent for so
/// long waits for the server, and then no name will ever be known: without a dial it would wait for ever
/// (docs/adr/0007).
pub(crate) const DENY_WAIT: Duration = Duration::from_secs(1);

/// The most bytes that are held of a server that speaks unasked; then it is read no further.
const HELD_MAX: usize = 64 * 1024;

/// When to dial before the protocol is known, if at all. Pure: all that it decides on is given.
pub(crate) fn plan(by_address: &ByAddress, learnt: Option<First>) -> Option<Duration> {
    let destination = &by_address.destination;
    if destination.deny {
        return None;
    }
    if by_address.name_may_deny {
        return Some(DENY_WAIT);
    }
    Some(match (destination.protocol, learnt) {
        (Protocol::Opaque, _) | (_, Some(First::Server)) => Duration::ZERO,
        (Protocol::Http, _) | (_, Some(First::App)) => APP_FIRST_WAIT,
        // A bound on connections is a bound on HTTP; an early dial is not under it.
        (Protocol::Auto, None) if has_bounded_pool(destination) => APP_FIRST_WAIT,
        // What the app says first may change whom the server is asked to be, or what it is asked to speak.
        (Protocol::Auto, None) if by_address.name_may_decide || destination.tls.is_some() => NAME_WAIT,
        (Protocol::Auto, None) => Duration::ZERO,
    })
}

fn has_bounded_pool(destination: &Destination) -> bool {
    destination.pool.is_some_and(|pool| pool.max_size.is_some())
}

type Dial = Pin<Box<dyn Future<Output = Result<Leg, DialFailed>> + Send>>;

/// The early dial of one flow, as far as it has come. One that is over takes no room: the flow may wait for long after it.
#[derive(Default)]
pub(crate) struct Early(Option<Box<Course>>);

enum State {
    Never,
    Planned(Instant),
    /// The breaker did not allow it.
    Refused,
    Dialling(Dial),
    Connected(Leg),
    /// The server ended its side, or the connection, before the app had said anything.
    Ended(Leg, Option<io::Error>),
    Failed(DialFailed),
}

/// What the early dial has to say.
#[derive(Debug)]
pub(crate) enum News {
    /// There is no connection, and there will be none.
    Failed,
    /// The server spoke: see [`Early::held`].
    Spoke,
    /// The server ended its side, or the connection.
    Ended,
}

/// What became of the early dial.
pub(crate) enum Taken {
    /// A connection that is open, as far as anybody knows.
    Open(Leg),
    /// One that the server has ended, with what it said before; by a reset, if there is an error.
    Ended(Leg, Option<io::Error>),
    Failed(DialFailed),
}

impl Early {
    /// The early dial of a flow to `original`, planned or not. `learnt`: the name of that address.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        by_address: &ByAddress,
        original: OrigDst,
        learnt: Option<&str>,
    ) -> Self {
        Self(Some(Box::new(Course::new(shared, by_address, original, learnt))))
    }

    /// Goes on with the dial, and reads what the server says. Cancelling loses nothing.
    pub(crate) async fn news(&mut self) -> News {
        match &mut self.0 {
            Some(course) => course.news().await,
            None => pending().await,
        }
    }

    /// What the server said so far, unasked.
    pub(crate) fn held(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |course| course.held())
    }

    /// Where it goes, or would go, until it is over.
    pub(crate) fn endpoint(&self) -> Option<SocketAddr> {
        self.0.as_ref().map(|course| course.endpoint.address)
    }

    /// Where it goes, if there is one.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.0.as_ref().and_then(|course| course.address())
    }

    /// The connection as it is wanted: a dial that is under way is waited for. `None` where there is none; one to another
    /// address, or for another server, is closed.
    pub(crate) async fn take(&mut self, wanted: &Link) -> Option<Taken> {
        let taken = self.0.as_mut()?.take(wanted).await;
        self.0 = None;
        taken
    }

    /// Ends an early dial that nobody needs.
    pub(crate) fn discard(&mut self) {
        self.0 = None;
    }
}

/// An early dial that is not over.
struct Course {
    shared: Arc<Shared>,
    destination: Arc<Destination>,
    endpoint: Arc<Endpoint>,
    asked: Asked,
    /// What makes it differ from other connections to the endpoint, once it is dialled.
    secure: Option<Arc<SecureKey>>,
    limit: Duration,
    state: State,
    /// The breaker's leave for the dial alone: while the app is silent it must not hold a probe's place, and whoever takes
    /// the connection later asks anew.
    pass: Option<Pass>,
}

impl Course {
    fn new(shared: &Arc<Shared>, by_address: &ByAddress, original: OrigDst, learnt: Option<&str>) -> Self {
        let destination = &by_address.destination;
        let planned = plan(by_address, shared.learnt.get(original.0));
        Self {
            shared: Arc::clone(shared),
            destination: Arc::clone(destination),
            asked: Asked::of(destination, "", learnt),
            secure: None,
            endpoint: shared.next_endpoint(destination, original),
            limit: destination.connect_timeout,
            state: planned.map_or(State::Never, |wait| State::Planned(Instant::now() + wait)),
            pass: None,
        }
    }

    async fn news(&mut self) -> News {
        loop {
            match &mut self.state {
                State::Never | State::Refused | State::Failed(_) | State::Ended(..) => pending().await,
                State::Planned(at) => {
                    sleep_until(*at).await;
                    if !self.start() {
                        return News::Failed;
                    }
                }
                State::Dialling(dial) => {
                    let dialled = dial.await;
                    if self.dialled(dialled).is_err() {
                        return News::Failed;
                    }
                }
                State::Connected(leg) if leg.buf.len() >= HELD_MAX => pending().await,
                State::Connected(leg) => {
                    let error = match leg.fill().await {
                        Ok(1..) => return News::Spoke,
                        Ok(0) => None,
                        Err(error) => Some(error),
                    };
                    if let State::Connected(leg) = std::mem::replace(&mut self.state, State::Never) {
                        self.state = State::Ended(leg, error);
                    }
                    return News::Ended;
                }
            }
        }
    }

    fn held(&self) -> &[u8] {
        match &self.state {
            State::Connected(leg) | State::Ended(leg, _) => leg.buf.bytes(),
            _ => &[],
        }
    }

    fn address(&self) -> Option<SocketAddr> {
        (!matches!(self.state, State::Never | State::Planned(_) | State::Refused))
            .then_some(self.endpoint.address)
    }

    fn serves(&self, wanted: &Link) -> bool {
        let alike = match (&self.secure, &wanted.key.secure) {
            (None, None) => true,
            (Some(secure), Some(wanted)) => secure.serves(wanted),
            _ => false,
        };
        alike && wanted.endpoint() == self.endpoint.address
    }

    async fn take(&mut self, wanted: &Link) -> Option<Taken> {
        if !self.serves(wanted) {
            self.discard();
            return None;
        }
        if let State::Dialling(dial) = &mut self.state {
            let dialled = dial.await;
            // What came of it is in the state.
            let _ = self.dialled(dialled);
        }
        let (taken, told) = match std::mem::replace(&mut self.state, State::Never) {
            State::Never | State::Planned(_) | State::Refused | State::Dialling(_) => return None,
            State::Connected(leg) => (Taken::Open(leg), EarlyDial::Used),
            State::Ended(leg, error) => (Taken::Ended(leg, error), EarlyDial::Used),
            State::Failed(failed) => (Taken::Failed(failed), EarlyDial::Failed),
        };
        self.count(told);
        Some(taken)
    }

    fn discard(&mut self) {
        self.pass = None;
        match std::mem::replace(&mut self.state, State::Never) {
            State::Never | State::Planned(_) | State::Refused => {}
            State::Failed(_) => self.count(EarlyDial::Failed),
            State::Dialling(_) => self.count(EarlyDial::Unused),
            // Nothing was sent: an orderly end, not a reset.
            State::Connected(leg) | State::Ended(leg, _) => {
                leg.close();
                self.count(EarlyDial::Unused);
            }
        }
    }

    /// Begins the dial, if the breaker allows it.
    fn start(&mut self) -> bool {
        match self.endpoint.admit(std::time::Instant::now()) {
            Ok(pass) => self.pass = Some(pass),
            Err(_) => {
                self.count(EarlyDial::Refused);
                self.state = State::Refused;
                return false;
            }
        }
        let (shared, limit) = (Arc::clone(&self.shared), self.limit);
        let address = self.endpoint.address;
        match Link::new(&shared, &self.destination, address, Alpn::None, &self.asked) {
            Ok(link) => {
                self.secure.clone_from(&link.key.secure);
                self.state = State::Dialling(Box::pin(async move { link.dial(&shared, limit).await }));
                true
            }
            Err(failed) => self.dialled(Err(failed)).is_ok(),
        }
    }

    /// The dial is over. Its failure is reported by whoever takes it.
    fn dialled(&mut self, dialled: Result<Leg, DialFailed>) -> Result<(), ()> {
        self.pass = None;
        let failed = dialled.is_err();
        self.state = dialled.map_or_else(State::Failed, State::Connected);
        if failed { Err(()) } else { Ok(()) }
    }

    fn count(&self, result: EarlyDial) {
        self.shared.telemetry.process().early_dial(result);
    }
}

impl Drop for Course {
    fn drop(&mut self) {
        self.discard();
    }
}
