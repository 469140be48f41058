//! The opaque relay: bytes both ways until both sides have ended.
//!
//! Each direction ends by itself, so a half-close stays a half-close for as long as the other direction lives. A
//! reset on one leg becomes a reset on the other, after the bytes that came before it.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::time::Duration;

use dragoman_net::Pipe;
use dragoman_telemetry::{Cause, FlowRecord, Who};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::timeout;

use crate::buffer::Buffer;
use crate::leg::{Leg, broken};

/// How long the last words of a broken leg may take to reach the other side.
const LAST_WORDS: Duration = Duration::from_secs(30);

/// What comes in one go and is worth a pipe, in bytes.
const FLOOD: usize = 32 * 1024;

/// Relays until both directions have ended, and ends both legs as they ended: where one was reset or lost, the other is
/// reset, and the record says why. Bytes are counted while they move, so that a flow that is cut short has them too.
#[expect(
    clippy::manual_async_fn,
    reason = "an `async fn` keeps its arguments twice, for as long as the relay waits"
)]
pub(crate) fn relay<'a>(
    mut app: Leg,
    mut upstream: Leg,
    record: &'a mut FlowRecord,
) -> impl Future<Output = ()> + use<'a> {
    async move {
        let Err(torn) = exchange_bytes(&mut app, &mut upstream, record).await else {
            app.close();
            return upstream.close();
        };
        let (broken, other, cause) = match torn.side {
            Side::App => (app, upstream, app_cause(&torn.error)),
            Side::Upstream => (upstream, app, upstream_cause(&torn.error)),
        };
        drop(broken);
        // Boxed, as all that comes at the end alone.
        Box::pin(other.reset()).await;
        record.fail(cause, torn.error.to_string());
    }
}

/// What an error on the app's connection means.
pub(crate) fn app_cause(error: &io::Error) -> Cause {
    if dragoman_net::is_timeout(error) { Cause::AppLost } else { Cause::AppReset }
}

/// What an error on the upstream connection means.
pub(crate) fn upstream_cause(error: &io::Error) -> Cause {
    if dragoman_net::is_timeout(error) { Cause::UpstreamLost } else { Cause::UpstreamReset }
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

async fn exchange_bytes(app: &mut Leg, upstream: &mut Leg, record: &mut FlowRecord) -> Result<(), Torn> {
    let Err(torn) = pump_both(app, upstream, record).await else { return Ok(()) };
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

/// Both directions until both senders have ended, or a leg broke.
async fn pump_both(app: &mut Leg, upstream: &mut Leg, record: &mut FlowRecord) -> Result<(), Torn> {
    let (app_stream, app_buf) = app.parts();
    let (upstream_stream, upstream_buf) = upstream.parts();
    let (app_read, app_write) = app_stream.split();
    let (upstream_read, upstream_write) = upstream_stream.split();
    let mut up = pin!(pump(app_read, app_buf, upstream_write, &mut record.bytes_from_app));
    let mut down = pin!(pump(upstream_read, upstream_buf, app_write, &mut record.bytes_to_app));
    // Boxed, what comes when one sender has ended: most relays wait before that.
    tokio::select! {
        ended = &mut up => {
            let half = ended.map_err(|stopped| stopped.of(Side::App))?;
            record.closed_by = Some(Who::App);
            Box::pin(pump_last(down, Side::Upstream, half)).await
        }
        ended = &mut down => {
            let half = ended.map_err(|stopped| stopped.of(Side::Upstream))?;
            record.closed_by = Some(Who::Upstream);
            Box::pin(pump_last(up, Side::App, half)).await
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
        error = broken(ended.as_ref()) => Err(Torn { side: sender.other(), error, writing: false }),
    }
}

#[derive(Debug)]
enum Stopped {
    Read(io::Error),
    Write(io::Error),
}

impl Stopped {
    fn of(self, sender: Side) -> Torn {
        match self {
            Self::Read(error) => Torn { side: sender, error, writing: false },
            Self::Write(error) => Torn { side: sender.other(), error, writing: true },
        }
    }
}

/// One direction: writes what waits, then reads, until the sender ends; then passes that end on. Bytes are copied, which
/// is quickest for the little that most flows say at a time; a flood goes by the kernel alone.
#[expect(clippy::manual_async_fn, reason = "as for the relay")]
fn pump<'a>(
    mut from: ReadHalf<'a>,
    buf: &'a mut Buffer,
    mut to: WriteHalf<'a>,
    moved: &'a mut u64,
) -> impl Future<Output = Result<ReadHalf<'a>, Stopped>> + use<'a> {
    async move {
        let mut flood = false;
        loop {
            while !buf.is_empty() {
                let count = to.write(buf.bytes()).await.map_err(Stopped::Write)?;
                buf.consume(count);
                *moved += count as u64;
            }
            // Boxed, as most flows have none.
            if flood && let Burst::Ended = Box::pin(bursts(from.as_ref(), to.as_ref(), moved)).await? {
                break;
            }
            if buf.fill(&mut from).await.map_err(Stopped::Read)? == 0 {
                break;
            }
            flood = buf.is_flooded();
        }
        // The receiver may have ended the connection altogether: then there is nobody left to tell.
        let _ = to.shutdown().await;
        Ok(from)
    }
}

/// What came at once.
enum Burst {
    Flood,
    Trickle,
    /// The last of it: the sender has ended.
    Ended,
}

/// Moves bytes by the kernel for as long as they come in floods. Never ends with [`Burst::Flood`].
async fn bursts(from: &TcpStream, to: &TcpStream, moved: &mut u64) -> Result<Burst, Stopped> {
    loop {
        match burst(from, to, moved).await? {
            Burst::Flood => {}
            last => return Ok(last),
        }
    }
}

/// Waits until something has come, and moves all of it by the kernel. A pipe is held only for as long as that takes; where
/// there is none, bytes are copied.
async fn burst(from: &TcpStream, to: &TcpStream, moved: &mut u64) -> Result<Burst, Stopped> {
    poll_fn(|context| from.poll_read_ready(context)).await.map_err(Stopped::Read)?;
    let Ok(mut pipe) = Pipe::take() else { return Ok(Burst::Trickle) };
    let mut came = 0;
    let burst = loop {
        match pipe.fill(from) {
            Ok(0) => break Ok(Burst::Ended),
            Ok(count) => came += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                break Ok(if came >= FLOOD { Burst::Flood } else { Burst::Trickle });
            }
            Err(error) => break Err(Stopped::Read(error)),
        }
        while !pipe.is_empty() {
            // This is also where other flows get their turn.
            poll_fn(|context| to.poll_write_ready(context)).await.map_err(Stopped::Write)?;
            match pipe.drain(to) {
                Ok(count) => *moved += count as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(Stopped::Write(error)),
            }
        }
    };
    pipe.give_back();
    burst
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pair;

    use dragoman_telemetry::{AccessLog, Telemetry};
    use socket2::SockRef;
    use tokio::io::AsyncReadExt;

    /// Two legs and their far ends.
    async fn legs() -> (Leg, TcpStream, Leg, TcpStream) {
        let ((near_app, far_app), (near_server, far_server)) = (pair().await, pair().await);
        (Leg::new(near_app), far_app, Leg::new(near_server), far_server)
    }

    fn record() -> FlowRecord {
        Telemetry::new(vec!["default".into()], AccessLog::off()).flow(([127, 0, 0, 1], 1).into())
    }

    /// A stopped reader looks to the kernel like one that is gone: the user timeout counts for a closed window too.
    fn give_up_soon(leg: &Leg) {
        SockRef::from(leg.stream()).set_tcp_user_timeout(Some(Duration::from_millis(50))).unwrap();
    }

    async fn flood(mut stream: TcpStream) -> TcpStream {
        while stream.write_all(&[0; 65536]).await.is_ok() {}
        stream
    }

    #[tokio::test]
    async fn cause_upstream_lost() {
        let (app, app_end, upstream, _stopped) = legs().await;
        give_up_soon(&upstream);
        let mut record = record();
        let ((), mut app_end) = tokio::join!(relay(app, upstream, &mut record), flood(app_end));
        assert_eq!(record.cause, Some(Cause::UpstreamLost));
        assert!(app_end.read_u8().await.is_err(), "the app was reset");
        assert!(record.bytes_from_app > 0 && record.bytes_to_app == 0);
    }

    #[tokio::test]
    async fn cause_app_lost() {
        let (app, _stopped, upstream, server_end) = legs().await;
        give_up_soon(&app);
        let mut record = record();
        tokio::join!(relay(app, upstream, &mut record), flood(server_end));
        assert_eq!(record.cause, Some(Cause::AppLost));
        assert!(record.bytes_to_app > 0);
    }

    /// Writes until the other side takes no more. Unlike a write that fails, this leaves the socket's error for the read.
    async fn fill(stream: &TcpStream) {
        let mut quiet = 0;
        while quiet < 20 {
            match stream.try_write(&[0; 65536]) {
                Ok(_) => quiet = 0,
                Err(_) => quiet += 1,
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    #[tokio::test]
    async fn s4_a_reset_met_by_a_write_is_a_reset_for_the_other_side() {
        for side in [Side::App, Side::Upstream] {
            let (app, app_end, upstream, server_end) = legs().await;
            let (mut broken_end, mut other_end) = match side {
                Side::App => (app_end, server_end),
                Side::Upstream => (server_end, app_end),
            };
            let mut record = record();
            let ends = async {
                broken_end.write_all(b"half an order").await.unwrap();
                // The relay waits to write to the side that does not read, which then resets.
                fill(&other_end).await;
                dragoman_net::reset_on_close(&broken_end);
                drop(broken_end);
                let mut got = Vec::new();
                let end = other_end.read_to_end(&mut got).await;
                (got, end)
            };
            let ((), (got, end)) = tokio::join!(relay(app, upstream, &mut record), ends);
            assert!(record.cause.is_some());
            assert_eq!(got, b"half an order", "{side:?}");
            assert!(
                end.is_err_and(|error| dragoman_net::is_reset(&error)),
                "{side:?}: a torn stream looks whole"
            );
        }
    }
}
