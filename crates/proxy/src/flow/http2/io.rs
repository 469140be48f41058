//! A leg as the byte stream of an HTTP/2 connection.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Handle;

use super::wire::Wire;
use crate::buffer::Buffer;
use crate::leg::Leg;

/// What is read of an app that goes on after our GOAWAY, in bytes: it may not have read that yet, or be of ill will.
const LINGER: usize = 64 * 1024;

/// The connection of a leg, which first gives what was read from it already. As a leg it is reset when it is dropped before
/// either side has ended it.
#[derive(Debug)]
pub(crate) struct Io {
    wire: Wire,
    held: Buffer,
    /// We have said that we end.
    shut_down: bool,
    /// The other side has.
    ended: bool,
}

impl Io {
    /// With it comes the way to what is written on it, which is for whoever drives the connection. `None` for a leg that has
    /// been closed.
    pub(crate) fn new(leg: Leg) -> Option<(Self, Wire)> {
        let (stream, held) = leg.into_parts()?;
        let wire = Wire::new(stream);
        Some((Self { wire: wire.clone(), held, shut_down: false, ended: false }, wire))
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.held.is_empty() {
            let count = this.held.len().min(out.remaining());
            out.put_slice(&this.held.bytes()[..count]);
            this.held.consume(count);
            this.held.release();
            return Poll::Ready(Ok(()));
        }
        let before = out.filled().len();
        let read = this.wire.with(|stream| stream.poll_read(cx, out));
        this.ended |= matches!(read, Poll::Ready(Ok(()))) && out.filled().len() == before;
        read
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

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.wire.poll_write_out(cx))?;
        self.shut_down = true;
        self.wire.with(|stream| stream.poll_shutdown(cx))
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        let Some(stream) = self.wire.take() else { return };
        let leg = Leg::new(stream);
        match (self.shut_down, self.ended) {
            (_, true) => leg.close(),
            // Our last words (GOAWAY and why) would be lost if the other side still sends.
            (true, false) if Handle::try_current().is_ok() => {
                tokio::spawn(leg.close_lingering(LINGER));
            }
            (_, false) => drop(leg),
        }
    }
}
