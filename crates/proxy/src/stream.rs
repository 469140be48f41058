//! A connection, plain or with TLS on it: for the data path the same.

#[cfg(test)]
mod tests;
pub(crate) mod tls;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use dragoman_telemetry::Secured;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, tcp};

pub(crate) use tls::TlsStream;

/// A connection. A write is done when all that it takes on the network is with the kernel; one that was cancelled and is
/// tried again must offer the same bytes first.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

impl From<TcpStream> for Stream {
    fn from(tcp: TcpStream) -> Self {
        Self::Plain(tcp)
    }
}

impl Stream {
    /// The connection below.
    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.tcp(),
        }
    }

    /// What there is of TLS on it.
    pub(crate) fn tls(&self) -> Option<&TlsStream> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => Some(tls),
        }
    }

    /// What is told of TLS on it, if there is any and it was agreed with a server.
    pub(crate) fn secured(&self) -> Option<Arc<Secured>> {
        self.tls()?.secured().cloned()
    }

    /// Both directions, for use at the same time.
    pub(crate) fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        match self {
            Self::Plain(tcp) => {
                let (read, write) = tcp.split();
                (ReadHalf::Plain(read), WriteHalf::Plain(write))
            }
            Self::Tls(tls) => (ReadHalf::Tls(tls), WriteHalf::Tls(tls)),
        }
    }

    /// Writes once of the parts, in their order, beside somebody who reads.
    pub(crate) fn poll_write_shared(
        &self,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(tcp) => loop {
                ready!(tcp.poll_write_ready(context))?;
                match tcp.try_write_vectored(parts) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    written => return Poll::Ready(written),
                }
            },
            Self::Tls(tls) => tls.poll_write(context, parts),
        }
    }

    /// Reads once, and throws it away; 0 means that the other side has ended. Of a session that has failed the bytes are read as
    /// they are: nobody understands them any more.
    pub(crate) fn poll_discard(&self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(tcp) => tls::poll_discard(tcp, context),
            Self::Tls(tls) => tls.poll_discard(context),
        }
    }

    /// Whether an idle connection is still usable: open, and with nothing to read. Asked of the kernel.
    pub(crate) fn is_still_open(&self) -> bool {
        match self {
            Self::Plain(tcp) => dragoman_net::is_still_open(tcp),
            Self::Tls(tls) => tls.is_still_open(),
        }
    }

    /// The same as far as the runtime has heard: the kernel is asked only where something has come.
    pub(crate) fn seems_open(&self) -> bool {
        match self {
            Self::Plain(tcp) => dragoman_net::seems_open(tcp),
            Self::Tls(tls) => tls.seems_open(),
        }
    }

    /// Makes the coming close a reset.
    pub(crate) fn reset_on_close(&self) {
        if let Self::Tls(tls) = self {
            tls.abandon();
        }
        dragoman_net::reset_on_close(self.tcp());
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(context, out),
            Self::Tls(tls) => {
                tls.poll_read(context, out.remaining(), |bytes| out.put_slice(bytes)).map_ok(|_| ())
            }
        }
    }
}

/// As its half to the other side does.
impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.split().1).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.split().1).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.split().1).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.split().1).poll_shutdown(context)
    }
}

/// The direction from the other side.
#[derive(Debug)]
pub(crate) enum ReadHalf<'a> {
    Plain(tcp::ReadHalf<'a>),
    Tls(&'a TlsStream),
}

impl ReadHalf<'_> {
    /// The connection below.
    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(half) => half.as_ref(),
            Self::Tls(tls) => tls.tcp(),
        }
    }

    /// The connection below, where its bytes are those that are read.
    pub(crate) fn plain(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(half) => Some(half.as_ref()),
            Self::Tls(_) => None,
        }
    }
}

/// The direction to the other side.
#[derive(Debug)]
pub(crate) enum WriteHalf<'a> {
    Plain(tcp::WriteHalf<'a>),
    Tls(&'a TlsStream),
}

impl WriteHalf<'_> {
    /// The connection below, where its bytes are those that are written.
    pub(crate) fn plain(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(half) => Some(half.as_ref()),
            Self::Tls(_) => None,
        }
    }
}

impl AsyncWrite for WriteHalf<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(half) => Pin::new(half).poll_write(context, bytes),
            Self::Tls(tls) => tls.poll_write(context, &[IoSlice::new(bytes)]),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(half) => Pin::new(half).poll_write_vectored(context, parts),
            Self::Tls(tls) => tls.poll_write(context, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing that was written waits.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(half) => Pin::new(half).poll_shutdown(context),
            Self::Tls(tls) => tls.poll_shutdown(context),
        }
    }
}
