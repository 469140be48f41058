//! The opaque relay: bytes both ways until both sides have ended.
//!
//! Each direction ends by itself, so a half-close stays a half-close for as long as the other direction lives. A
//! reset on one leg becomes a reset on the other, after the bytes that came before it.

use std::future::pending;
use std::io;
use std::time::Duration;

use dragoman_telemetry::Cause;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::timeout;

use crate::buffer::Buffer;
use crate::leg::{Leg, broken};

/// How long the last words of a broken leg may take to reach the other side.
const LAST_WORDS: Duration = Duration::from_secs(30);

/// Bytes relayed, counted while they move, so that a flow that is cut short has them too.
#[derive(Debug)]
pub(crate) struct Moved<'a> {
    pub(crate) from_app: &'a mut u64,
    pub(crate) to_app: &'a mut u64,
}

/// Why a relay ended before both sides had said their last word.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) cause: Cause,
    pub(crate) detail: String,
}

/// Relays until both directions have ended, and ends both legs as they ended.
///
/// # Errors
/// [`Broken`] when a leg was reset or lost; the other one has been reset then.
pub(crate) async fn relay(mut app: Leg, mut upstream: Leg, moved: Moved<'_>) -> Result<(), Broken> {
    match exchange_bytes(&mut app, &mut upstream, moved).await {
        Ok(()) => {
            app.close();
            upstream.close();
            Ok(())
        }
        Err(Torn { side: Side::App, error, .. }) => {
            drop(app);
            upstream.reset().await;
            Err(Broken { cause: app_cause(&error), detail: error.to_string() })
        }
        Err(Torn { side: Side::Upstream, error, .. }) => {
            drop(upstream);
            app.reset().await;
            Err(Broken { cause: upstream_cause(&error), detail: error.to_string() })
        }
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

#[derive(Debug)]
struct Torn {
    side: Side,
    error: io::Error,
    /// It was a write that found it.
    writing: bool,
}

async fn exchange_bytes(app: &mut Leg, upstream: &mut Leg, moved: Moved<'_>) -> Result<(), Torn> {
    let Moved { from_app, to_app } = moved;
    let torn = match pump_both(app, upstream, from_app, to_app).await {
        Ok(()) => return Ok(()),
        Err(torn) => torn,
    };
    // A write found the leg broken: what it said before that may still wait to be read. No end is passed on after it, since
    // the kernel tells of a reset once, and what reads like an orderly end now is none.
    if torn.writing {
        let (from, to, moved) = match torn.side {
            Side::App => (app, upstream, from_app),
            Side::Upstream => (upstream, app, to_app),
        };
        let _ = timeout(LAST_WORDS, deliver(from, to, moved)).await;
    }
    Err(torn)
}

/// Both directions until both senders have ended, or a leg broke.
async fn pump_both(
    app: &mut Leg,
    upstream: &mut Leg,
    from_app: &mut u64,
    to_app: &mut u64,
) -> Result<(), Torn> {
    let (app_stream, app_buf) = app.parts();
    let (upstream_stream, upstream_buf) = upstream.parts();
    let (app_read, app_write) = app_stream.split();
    let (upstream_read, upstream_write) = upstream_stream.split();
    let up = pump(app_read, app_buf, upstream_write, from_app);
    let down = pump(upstream_read, upstream_buf, app_write, to_app);
    tokio::pin!(up, down);
    // The read half of a sender that has ended, kept to notice its reset while the other side is silent.
    let (mut app_ended, mut upstream_ended) = (None, None);
    while app_ended.is_none() || upstream_ended.is_none() {
        tokio::select! {
            result = &mut up, if app_ended.is_none() => match result {
                Ok(half) => app_ended = Some(half),
                Err(stopped) => return Err(stopped.of(Side::App, Side::Upstream)),
            },
            result = &mut down, if upstream_ended.is_none() => match result {
                Ok(half) => upstream_ended = Some(half),
                Err(stopped) => return Err(stopped.of(Side::Upstream, Side::App)),
            },
            error = broken_half(app_ended.as_ref()) => return Err(Torn { side: Side::App, error, writing: false }),
            error = broken_half(upstream_ended.as_ref()) => {
                return Err(Torn { side: Side::Upstream, error, writing: false });
            }
        }
    }
    Ok(())
}

#[derive(Debug)]
enum Stopped {
    Read(io::Error),
    Write(io::Error),
}

impl Stopped {
    fn of(self, sender: Side, receiver: Side) -> Torn {
        match self {
            Self::Read(error) => Torn { side: sender, error, writing: false },
            Self::Write(error) => Torn { side: receiver, error, writing: true },
        }
    }
}

/// One direction: writes what waits, then reads, until the sender ends; then passes that end on.
async fn pump<'a>(
    mut from: ReadHalf<'a>,
    buf: &mut Buffer,
    mut to: WriteHalf<'_>,
    moved: &mut u64,
) -> Result<ReadHalf<'a>, Stopped> {
    loop {
        while !buf.is_empty() {
            let count = to.write(buf.bytes()).await.map_err(Stopped::Write)?;
            buf.consume(count);
            *moved += count as u64;
        }
        if buf.fill(&mut from).await.map_err(Stopped::Read)? == 0 {
            break;
        }
    }
    // The receiver may have ended the connection altogether: then there is nobody left to tell.
    let _ = to.shutdown().await;
    Ok(from)
}

async fn broken_half(half: Option<&ReadHalf<'_>>) -> io::Error {
    match half {
        Some(half) => broken(half.as_ref()).await,
        None => pending().await,
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

#[cfg(test)]
mod tests {
    use super::*;

    use socket2::SockRef;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    /// Two legs and their far ends.
    async fn legs() -> (Leg, TcpStream, Leg, TcpStream) {
        let ((near_app, far_app), (near_server, far_server)) = (pair().await, pair().await);
        (Leg::new(near_app), far_app, Leg::new(near_server), far_server)
    }

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, accepted) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (client.unwrap(), accepted.unwrap().0)
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
        let (mut from_app, mut to_app) = (0, 0);
        let moved = Moved { from_app: &mut from_app, to_app: &mut to_app };
        let (result, mut app_end) = tokio::join!(relay(app, upstream, moved), flood(app_end));
        assert_eq!(result.unwrap_err().cause, Cause::UpstreamLost);
        assert!(app_end.read_u8().await.is_err(), "the app was reset");
        assert!(from_app > 0 && to_app == 0);
    }

    #[tokio::test]
    async fn cause_app_lost() {
        let (app, _stopped, upstream, server_end) = legs().await;
        give_up_soon(&app);
        let (mut from_app, mut to_app) = (0, 0);
        let moved = Moved { from_app: &mut from_app, to_app: &mut to_app };
        let (result, _) = tokio::join!(relay(app, upstream, moved), flood(server_end));
        assert_eq!(result.unwrap_err().cause, Cause::AppLost);
        assert!(to_app > 0);
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
            let (mut from_app, mut to_app) = (0, 0);
            let moved = Moved { from_app: &mut from_app, to_app: &mut to_app };
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
            let (result, (got, end)) = tokio::join!(relay(app, upstream, moved), ends);
            assert!(result.is_err());
            assert_eq!(got, b"half an order", "{side:?}");
            assert!(
                end.is_err_and(|error| dragoman_net::is_reset(&error)),
                "{side:?}: a torn stream looks whole"
            );
        }
    }
}
