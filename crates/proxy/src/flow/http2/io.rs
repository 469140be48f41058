//! A leg as the byte stream of an HTTP/2 connection.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::runtime::Handle;

use super::late::Late;
use crate::buffer::Buffer;
use crate::leg::Leg;

/// What is read of an app that goes on after our GOAWAY, in bytes: it may not have read that yet, or be of ill will.
const LINGER: usize = 64 * 1024;

/// The connection of a leg, which first gives what was read from it already. As a leg it is reset when it is dropped before
/// either side has ended it.
#[derive(Debug)]
pub(crate) struct Io {
    /// `None` once it is dropped.
    stream: Option<TcpStream>,
    held: Buffer,
    /// We have said that we end.
    shut_down: bool,
    /// The other side has.
    ended: bool,
    /// Watches field sections; of an app alone.
    late: Option<Late>,
}

impl Io {
    /// `None` for a leg that has been closed.
    pub(crate) fn new(leg: Leg) -> Option<Self> {
        let (stream, held) = leg.into_parts()?;
        Some(Self { stream: Some(stream), held, shut_down: false, ended: false, late: None })
    }

    /// The same of an app, which may take so long for a field section.
    pub(super) fn of_app(leg: Leg, limit: Duration) -> Option<Self> {
        let mut io = Self::new(leg)?;
        io.late = Some(Late::new(limit));
        Some(io)
    }
}

impl Io {
    fn stream(&mut self) -> Pin<&mut TcpStream> {
        Pin::new(self.stream.as_mut().expect("only the drop takes it"))
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
            let read = this.stream().poll_read(cx, out);
            this.ended |= matches!(read, Poll::Ready(Ok(()))) && out.filled().len() == before;
            read
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
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shut_down = true;
        self.stream().poll_shutdown(cx)
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        let Some(stream) = self.stream.take() else { return };
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
