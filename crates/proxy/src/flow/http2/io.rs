//! A leg as the byte stream of an HTTP/2 connection.
//!
//! h2 gives a connection up at the first write that fails. But a side that closes while we still send resets the connection
//! behind its last words (GOAWAY and the last stream that it looked at, or an early response), and the write may well find
//! the reset before anybody has read them. So the error of such a write is kept until all that came was read
//! ([`Wire::read_to_the_end`]).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use dragoman_tls::failure::FailureKind;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Handle;

use super::late::Late;
use super::wire::{Ended, Wire};
use crate::buffer::Buffer;
use crate::drain::{Drain, Stage};
use crate::leg::Leg;

/// What is read of an app that goes on after our GOAWAY, in bytes: it may not have read that yet, or be of ill will.
const LINGER: usize = 64 * 1024;

/// The connection of a leg, which first gives what was read from it already. As a leg it is reset when it is dropped before
/// either side has ended it.
#[derive(Debug)]
pub(crate) struct Io {
    wire: Wire,
    held: Buffer,
    /// Watches field sections; of an app alone.
    late: Option<Late>,
}

impl Io {
    /// With it comes the way to what is written on it, which is for whoever drives the connection. `None` for a leg that has
    /// been closed.
    pub(crate) fn new(leg: Leg) -> Option<(Self, Wire)> {
        let (stream, held) = leg.into_parts()?;
        let wire = Wire::new(stream);
        Some((Self { wire: wire.clone(), held, late: None }, wire))
    }

    /// The same of an app, which may take so long for a field section.
    pub(super) fn of_app(leg: Leg, limit: Duration) -> Option<(Self, Wire)> {
        let (mut io, wire) = Self::new(leg)?;
        io.late = Some(Late::new(limit));
        Some((io, wire))
    }

    fn read(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        let read = self.wire.poll(|stream| stream.poll_read(cx, out));
        let ended = matches!(read, Poll::Ready(Ok(()))) && out.filled().len() == before;
        if ended {
            self.wire.note_end(Ended::Theirs);
        }
        // What TLS says of the end says more than how a write has met it.
        let told = matches!(&read, Poll::Ready(Err(error)) if FailureKind::of(error).is_some());
        if (ended || matches!(read, Poll::Ready(Err(_))))
            && let Some(refused) = self.wire.read_to_the_end()
            && !told
        {
            return Poll::Ready(Err(refused));
        }
        read
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = out.filled().len();
        let read = if this.held.is_empty() {
            this.read(cx, out)
        } else {
            let count = this.held.len().min(out.remaining());
            out.put_slice(&this.held.bytes()[..count]);
            this.held.consume(count);
            this.held.release();
            Poll::Ready(Ok(()))
        };
        let Some(late) = &mut this.late else { return read };
        late.take(&out.filled()[before..]);
        if read.is_pending() { late.poll(cx).map(Err) } else { read }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.wire.poll_write(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.wire.poll_write(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What was written goes out when the connection waits: see [`super::wire::drive`].
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.wire.failure().map_or(Ok(()), Err))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.wire.poll_write_out(cx))?;
        self.wire.note_end(Ended::Ours);
        self.wire.poll(|stream| stream.poll_shutdown(cx))
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        let Some((stream, ended)) = self.wire.take() else { return };
        let leg = Leg::new(stream);
        match ended {
            Ended::Theirs => leg.close(),
            // Our last words (GOAWAY and why) would be lost if the other side still sends.
            Ended::Ours if Handle::try_current().is_ok() => {
                tokio::spawn(leg.close_lingering(LINGER));
            }
            Ended::Ours | Ended::Neither => drop(leg),
        }
    }
}

/// Ends the connection of an app as [`Io`] does that is dropped, and returns when it has ended. A drain does so only when the app has all
/// that was said to it: what it says meanwhile (a window that it gives back) would reset a connection that is closed, and the
/// rest of our words with it. What an app that has all of it does to its side is waited for, but holds no drain up.
pub(super) async fn close(wire: &Wire, drain: &Drain) {
    let Some((stream, ended)) = wire.take() else { return };
    let leg = Leg::new(stream);
    match ended {
        Ended::Theirs => leg.close(),
        Ended::Ours => {
            let (draining, over) = (drain.reached(Stage::Draining), drain.reached_while_idle(Stage::Over));
            leg.close_delivered(LINGER, draining, over).await;
        }
        Ended::Neither => drop(leg),
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Future, poll_fn};
    use std::io::{ErrorKind, Read, Write};
    use std::net::{self, Shutdown};
    use std::os::fd::AsFd;
    use std::pin::pin;
    use std::time::{Duration, Instant};

    use bytes::Bytes;
    use h2::client::{Connection, SendRequest};
    use http::Request;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::flow::http2::wire::drive;
    use crate::testing::pair;

    const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

    /// A connection that was not reset yet, as both ends have it, and ours once more to look at.
    struct Ends {
        io: Io,
        wire: Wire,
        theirs: net::TcpStream,
        ours: net::TcpStream,
    }

    impl Ends {
        async fn new() -> Self {
            let (ours, theirs) = pair().await;
            let looked_at = ours.as_fd().try_clone_to_owned().unwrap().into();
            let (io, wire) = Io::new(Leg::new(ours)).unwrap();
            let theirs = theirs.into_std().unwrap();
            theirs.set_nonblocking(false).unwrap();
            Self { io, wire, theirs, ours: looked_at }
        }
    }

    /// As whoever drives the connection.
    async fn write_out(wire: &Wire) {
        poll_fn(|cx| wire.poll_write_out(cx)).await.unwrap();
    }

    /// The other side says its last words and closes with bytes of ours unread. Returns when the reset has come, of which
    /// the runtime of this very thread cannot know yet.
    fn reset_after(mut theirs: net::TcpStream, words: &[u8], ours: &net::TcpStream) {
        let until = Instant::now() + Duration::from_secs(30);
        theirs.write_all(words).unwrap();
        theirs.peek(&mut [0]).expect("something of ours is unread");
        drop(theirs);
        while ours.peer_addr().is_ok() {
            assert!(Instant::now() < until, "there was no reset");
            std::thread::yield_now();
        }
    }

    #[tokio::test]
    async fn a_write_that_finds_a_reset_leaves_what_came_before_it_to_be_read() {
        for (half_closed, kind) in [(false, ErrorKind::ConnectionReset), (true, ErrorKind::BrokenPipe)] {
            for vectored in [false, true] {
                let Ends { mut io, wire, theirs, ours } = Ends::new().await;
                io.write_all(b"unread").await.unwrap();
                write_out(&wire).await;
                (&theirs).write_all(b"last ").unwrap();
                if half_closed {
                    theirs.shutdown(Shutdown::Write).unwrap();
                }
                reset_after(theirs, if half_closed { b"" } else { b"words" }, &ours);
                for _ in 0..3 {
                    let parts = [IoSlice::new(b"for "), IoSlice::new(b"nobody")];
                    let written = match vectored {
                        true => poll_fn(|cx| Pin::new(&mut io).poll_write_vectored(cx, &parts)).await,
                        false => poll_fn(|cx| Pin::new(&mut io).poll_write(cx, b"for nobody")).await,
                    };
                    assert_eq!(written.unwrap(), 10);
                    write_out(&wire).await;
                }
                let mut read = Vec::new();
                let error = io.read_to_end(&mut read).await.unwrap_err();
                assert_eq!(read, if half_closed { &b"last "[..] } else { b"last words" });
                assert_eq!(error.kind(), kind, "what the write found");
            }
        }
    }

    type Client = (SendRequest<Bytes>, Connection<Io, Bytes>, Wire);

    /// A client whose next write meets the reset behind `words`, which it has not read.
    async fn met_by_a_reset(words: &[u8]) -> Client {
        let Ends { io, wire, theirs, ours } = Ends::new().await;
        let (send, mut connection) = h2::client::handshake(io).await.unwrap();
        let waits = poll_fn(|cx| Poll::Ready(Pin::new(&mut connection).poll(cx).is_pending())).await;
        assert!(waits, "the server has said nothing");
        write_out(&wire).await;
        reset_after(theirs, &[SETTINGS, words].concat(), &ours);
        (send, connection, wire)
    }

    #[tokio::test]
    async fn a_goaway_before_a_reset_still_proves_that_a_stream_was_not_looked_at() {
        let go_away = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let (mut send, connection, wire) = met_by_a_reset(go_away).await;
        let (response, _) = send.send_request(Request::new(()), true).unwrap();
        let ended = drive(&wire, || false, pin!(connection)).await.unwrap_err();
        assert_eq!(ended.get_io().map(io::Error::kind), Some(ErrorKind::ConnectionReset));
        let error = response.await.unwrap_err();
        assert!(error.is_go_away() && error.is_remote(), "{error:?}");
    }

    /// It has all that it was told, and may leave the connection as it is for as long as it likes.
    #[tokio::test]
    async fn an_app_that_does_not_end_its_side_holds_no_drain_up() {
        for (before, after) in [(Stage::Draining, Stage::Draining), (Stage::Serving, Stage::HandedOver)] {
            let Ends { mut io, wire, mut theirs, .. } = Ends::new().await;
            io.write_all(b"last words").await.unwrap();
            io.shutdown().await.unwrap();
            let drain = Drain::default();
            drain.advance(before);
            let mut end = pin!(close(&wire, &drain));
            let waits = poll_fn(|cx| Poll::Ready(end.as_mut().poll(cx).is_pending())).await;
            assert!(waits, "the app has not ended");
            drain.advance(after);
            let is_idle = poll_fn(|_| if drain.idle() > 0 { Poll::Ready(()) } else { Poll::Pending });
            tokio::select! {
                biased;
                () = &mut end => panic!("it was at work up to its end, from {before:?}"),
                () = is_idle => {}
            }
            drain.advance(Stage::Over);
            end.await;
            let mut read = Vec::new();
            theirs.read_to_end(&mut read).unwrap();
            assert_eq!(read, b"last words");
        }
    }

    #[tokio::test]
    async fn a_response_before_a_reset_is_whole() {
        let head = b"\0\0\x01\x01\x04\0\0\0\x01\x88";
        let body = b"\0\0\x03\0\x01\0\0\0\x01all";
        let Ends { io, wire, theirs, ours } = Ends::new().await;
        let (mut send, mut connection) = h2::client::handshake(io).await.unwrap();
        let (response, mut upload) = send.send_request(Request::new(()), false).unwrap();
        let waits = poll_fn(|cx| Poll::Ready(Pin::new(&mut connection).poll(cx).is_pending())).await;
        assert!(waits, "the server has said nothing");
        write_out(&wire).await;
        reset_after(theirs, &[SETTINGS, head, body].concat(), &ours);
        upload.send_data(Bytes::from_static(b"nobody wants this"), true).unwrap();
        drive(&wire, || false, pin!(connection)).await.unwrap_err();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        let mut body = response.into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), &b"all"[..]);
        assert!(body.data().await.is_none());
    }
}
