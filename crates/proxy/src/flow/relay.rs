//! The opaque relay: bytes both ways until both sides have ended.
//!
//! Each direction ends by itself, so a half-close stays a half-close for as long as the other direction lives. A
//! reset on one leg becomes a reset on the other, after the bytes that came before it. A flow that is silent for a while
//! sleeps: its two connections, and who to wake, are all that is kept of it.

mod pump;
mod silence;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use dragoman_net::{Asleep, Sleepers};
use dragoman_telemetry::{Cause, FlowRecord, Who};
use dragoman_tls::failure::FailureKind;
use dragoman_tls::session::Session;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::leg::{Leg, broken};
use crate::stream::{ReadHalf, Stream};
use crate::upstream::tls::tls_cause;
use pump::{Stopped, pump};
use silence::{Listener, Patience};

/// How long the last words of a broken leg may take to reach the other side.
const LAST_WORDS: Duration = Duration::from_secs(30);

/// Relays until both directions have ended, and ends both legs as they ended: where one was reset or lost, the other is
/// reset, and the record says why. Bytes are counted while they move, so that a flow that is cut short has them too.
pub(crate) fn relay<'a>(
    sleepers: &'a Sleepers,
    app: Leg,
    upstream: Leg,
    record: &'a mut FlowRecord,
) -> Relay<'a> {
    relay_with(sleepers, app, upstream, record, Patience::NEW)
}

fn relay_with<'a>(
    sleepers: &'a Sleepers,
    app: Leg,
    upstream: Leg,
    record: &'a mut FlowRecord,
    patience: Patience,
) -> Relay<'a> {
    Relay { sleepers, state: State::Awake(Box::pin(relay_awake(sleepers, app, upstream, record, patience))) }
}

/// A flow that is relayed as bytes, to its end. Not an `async fn`, which would be twice the size.
#[must_use = "nothing is relayed unless it is awaited"]
pub(crate) struct Relay<'a> {
    sleepers: &'a Sleepers,
    state: State<'a>,
}

enum State<'a> {
    /// Boxed, so that it goes when the flow sleeps. It ends with `None`, or with a flow that may sleep.
    Awake(Pin<Box<dyn Future<Output = Option<Sleeping<'a>>> + Send + 'a>>),
    Asleep(Sleeping<'a>),
    Over,
}

impl Future for Relay<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.state {
                State::Awake(awake) => {
                    let slept = ready!(awake.as_mut().poll(context));
                    self.state = slept.map_or(State::Over, State::Asleep);
                }
                State::Asleep(sleeping) => {
                    let woken = ready!(Pin::new(&mut sleeping.pair).poll(context));
                    self.wake(woken);
                }
                State::Over => return Poll::Ready(()),
            }
        }
    }
}

impl Relay<'_> {
    fn wake(&mut self, woken: io::Result<[TcpStream; 2]>) {
        let State::Asleep(Sleeping { record, patience, .. }) =
            std::mem::replace(&mut self.state, State::Over)
        else {
            return;
        };
        match woken {
            Ok([app, upstream]) => {
                *self = relay_with(self.sleepers, Leg::new(app), Leg::new(upstream), record, patience);
            }
            Err(error) => not_watched(record, &error),
        }
    }
}

/// What a relay takes while it is awake, in bytes.
#[cfg(test)]
pub(super) fn size_awake(sleepers: &Sleepers, app: Leg, upstream: Leg, record: &mut FlowRecord) -> usize {
    size_of_val(&relay_awake(sleepers, app, upstream, record, Patience::NEW))
}

/// A flow in which nobody speaks.
struct Sleeping<'a> {
    pair: Asleep<'a>,
    record: &'a mut FlowRecord,
    patience: Patience,
}

/// Relays until the end, then gives `None`, or until the flow may sleep.
#[expect(
    clippy::manual_async_fn,
    reason = "an `async fn` keeps its arguments twice, for as long as the relay waits"
)]
fn relay_awake<'a>(
    sleepers: &'a Sleepers,
    mut app: Leg,
    mut upstream: Leg,
    record: &'a mut FlowRecord,
    mut patience: Patience,
) -> impl Future<Output = Option<Sleeping<'a>>> + use<'a> {
    async move {
        let listeners = <[Listener; 2]>::default();
        // What there is of TLS cannot be laid down.
        let may_sleep = app.stream().tls().or(upstream.stream().tls()).is_none();
        let ended = tokio::select! {
            biased;
            ended = exchange_bytes(&mut app, &mut upstream, record, &listeners) => Some(ended),
            () = patience.until_silence(listeners.each_ref()), if may_sleep => None,
        };
        match ended {
            None => return lay_down(sleepers, app, upstream, record, patience),
            Some(Ok(())) => {
                app.close();
                upstream.close();
            }
            // Boxed, as all that comes at the end alone.
            Some(Err(torn)) => Box::pin(end_torn(app, upstream, record, torn)).await,
        }
        None
    }
}

fn lay_down<'a>(
    sleepers: &'a Sleepers,
    app: Leg,
    upstream: Leg,
    record: &'a mut FlowRecord,
    patience: Patience,
) -> Option<Sleeping<'a>> {
    let (Stream::Plain(app), Stream::Plain(upstream)) = (app.into_stream()?, upstream.into_stream()?) else {
        return None;
    };
    let pair = [app, upstream];
    match sleepers.lay_down(pair) {
        Ok(pair) => Some(Sleeping { pair, record, patience }),
        Err(error) => {
            not_watched(record, &error);
            None
        }
    }
}

/// The kernel has no room to watch the flow's connections with; they were reset.
fn not_watched(record: &mut FlowRecord, error: &io::Error) {
    record.fail(Cause::DescriptorsExhausted, format!("the connections cannot be watched: {error}"));
}

async fn end_torn(app: Leg, upstream: Leg, record: &mut FlowRecord, torn: Torn) {
    let (broken, other, cause) = match torn.side {
        Side::App => (app, upstream, app_cause(&torn.error)),
        Side::Upstream => (upstream, app, upstream_cause(&torn.error)),
    };
    // The app has ended and was owed nothing that it knows of: no failure of a server that says no end of its own then, as
    // some do each time. An app that still reads is reset all the same, and takes nothing for all.
    let over = cause == Cause::TlsTruncated
        && broken.stream().tls().is_some_and(|tls| tls.with_session(Session::is_unanswered));
    drop(broken);
    other.reset().await;
    match over {
        true => record.closed_by(Who::App),
        false => record.fail(cause, torn.error.to_string()),
    }
}

/// What an error on the app's connection means.
pub(crate) fn app_cause(error: &io::Error) -> Cause {
    match FailureKind::of(error) {
        // Apps of our own speak none to us: it is a client of the app's.
        Some(_) => Cause::ClientTlsFailed,
        None if dragoman_net::is_timeout(error) => Cause::AppLost,
        None => Cause::AppReset,
    }
}

/// What an error on the upstream connection means.
pub(crate) fn upstream_cause(error: &io::Error) -> Cause {
    match FailureKind::of(error) {
        Some(kind) => tls_cause(kind),
        None if dragoman_net::is_timeout(error) => Cause::UpstreamLost,
        None => Cause::UpstreamReset,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    App,
    Upstream,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::App => Self::Upstream,
            Self::Upstream => Self::App,
        }
    }
}

#[derive(Debug)]
struct Torn {
    side: Side,
    error: io::Error,
    /// It was a write that found it.
    writing: bool,
}

async fn exchange_bytes(
    app: &mut Leg,
    upstream: &mut Leg,
    record: &mut FlowRecord,
    listeners: &[Listener; 2],
) -> Result<(), Torn> {
    let torn = match pump_both(app, upstream, record, listeners).await {
        Ok(first) => {
            record.closed_by(first);
            return Ok(());
        }
        Err(torn) => torn,
    };
    // A write found the leg broken: what it said before that may still wait to be read. No end is passed on after it, since
    // the kernel tells of a reset once, and what reads like an orderly end now is none.
    if torn.writing {
        let (from, to, moved) = match torn.side {
            Side::App => (app, upstream, &mut record.bytes_from_app),
            Side::Upstream => (upstream, app, &mut record.bytes_to_app),
        };
        let _ = Box::pin(timeout(LAST_WORDS, deliver(from, to, moved))).await;
    }
    Err(torn)
}

/// Both directions until both senders have ended, or a leg broke. Returns who ended first.
async fn pump_both(
    app: &mut Leg,
    upstream: &mut Leg,
    record: &mut FlowRecord,
    listeners: &[Listener; 2],
) -> Result<Who, Torn> {
    let (app_stream, app_buf) = app.parts();
    let (upstream_stream, upstream_buf) = upstream.parts();
    let (app_read, app_write) = app_stream.split();
    let (upstream_read, upstream_write) = upstream_stream.split();
    let mut up = pin!(pump(app_read, app_buf, upstream_write, &mut record.bytes_from_app, &listeners[0]));
    let mut down =
        pin!(pump(upstream_read, upstream_buf, app_write, &mut record.bytes_to_app, &listeners[1]));
    // Boxed, what comes when one sender has ended: most relays wait before that.
    tokio::select! {
        ended = &mut up => {
            let half = ended.map_err(|stopped| stopped.of(Side::App))?;
            Box::pin(pump_last(down, Side::Upstream, half)).await.map(|()| Who::App)
        }
        ended = &mut down => {
            let half = ended.map_err(|stopped| stopped.of(Side::Upstream))?;
            Box::pin(pump_last(up, Side::App, half)).await.map(|()| Who::Upstream)
        }
    }
}

/// The direction from `sender`, whose receiver has ended its own. `ended` is the read half of that one, kept to notice its
/// reset while `sender` is silent.
async fn pump_last<'a>(
    last: impl Future<Output = Result<ReadHalf<'a>, Stopped>>,
    sender: Side,
    ended: ReadHalf<'a>,
) -> Result<(), Torn> {
    tokio::select! {
        result = last => result.map(drop).map_err(|stopped| stopped.of(sender)),
        error = broken(ended.tcp()) => Err(Torn { side: sender.other(), error, writing: false }),
    }
}

impl Stopped {
    fn of(self, sender: Side) -> Torn {
        match self {
            Self::Read(error) => Torn { side: sender, error, writing: false },
            Self::Write(error) => Torn { side: sender.other(), error, writing: true },
        }
    }
}

/// The last words of a leg that is broken, and no end after them.
async fn deliver(from: &mut Leg, to: &mut Leg, moved: &mut u64) {
    loop {
        if to.write_all(from.buf.bytes()).await.is_err() {
            return;
        }
        *moved += from.buf.len() as u64;
        from.buf.consume(from.buf.len());
        if !matches!(from.fill().await, Ok(1..)) {
            return;
        }
    }
}
