//! The opaque relay: bytes both ways until both sides have ended.
//!
//! Each direction ends by itself, so a half-close stays a half-close for as long as the other direction lives. A
//! reset on one leg becomes a reset on the other, after the bytes that came before it.

use std::io;

use dragoman_telemetry::Cause;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::buffer::Buffer;
use crate::leg::Leg;

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
        Err(Torn { side: Side::App, error }) => {
            drop(app);
            upstream.reset().await;
            Err(Broken { cause: app_cause(&error), detail: error.to_string() })
        }
        Err(Torn { side: Side::Upstream, error }) => {
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
}

async fn exchange_bytes(app: &mut Leg, upstream: &mut Leg, moved: Moved<'_>) -> Result<(), Torn> {
    let (app_stream, app_buf) = app.parts();
    let (upstream_stream, upstream_buf) = upstream.parts();
    let (app_read, app_write) = app_stream.split();
    let (upstream_read, upstream_write) = upstream_stream.split();
    let up = pump(app_read, app_buf, upstream_write, moved.from_app);
    let down = pump(upstream_read, upstream_buf, app_write, moved.to_app);
    tokio::pin!(up, down);
    let (mut up_done, mut down_done) = (false, false);
    while !(up_done && down_done) {
        tokio::select! {
            result = &mut up, if !up_done => match result {
                Ok(()) => up_done = true,
                Err(Stopped::Read(error)) => return Err(Torn { side: Side::App, error }),
                Err(Stopped::Write(error)) => {
                    // The upstream is gone for writing; what it said before may still wait to be read.
                    if !down_done { let _ = down.await; }
                    return Err(Torn { side: Side::Upstream, error });
                }
            },
            result = &mut down, if !down_done => match result {
                Ok(()) => down_done = true,
                Err(Stopped::Read(error)) => return Err(Torn { side: Side::Upstream, error }),
                Err(Stopped::Write(error)) => {
                    if !up_done { let _ = up.await; }
                    return Err(Torn { side: Side::App, error });
                }
            },
        }
    }
    Ok(())
}

#[derive(Debug)]
enum Stopped {
    Read(io::Error),
    Write(io::Error),
}

/// One direction: writes what waits, then reads, until the sender ends; then passes that end on.
async fn pump(
    mut from: ReadHalf<'_>,
    buf: &mut Buffer,
    mut to: WriteHalf<'_>,
    moved: &mut u64,
) -> Result<(), Stopped> {
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
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

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
}
