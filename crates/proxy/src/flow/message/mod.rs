//! The two ends of an exchange whose messages are taken apart: head, content, trailers.
//!
//! HTTP/1 to HTTP/1 is relayed as it came, framing and all (`http1`). Everything else is an exchange of messages (`http2`):
//! each of its two ends speaks HTTP/2, or HTTP/1 where policy names the version that the endpoint speaks. What an exchange
//! does is the same for all of them; this module is where the versions differ.

mod head;
mod http1_read;
mod http1_write;
#[cfg(test)]
mod properties;
mod respond;
mod upstream;

use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::Bytes;
use dragoman_telemetry::Cause;
use dragoman_tls::failure::FailureKind;
use h2::{Reason, RecvStream, SendStream};
use http::HeaderMap;

use crate::flow::http2::late::is_late;
use crate::upstream::tls::tls_cause;
pub(crate) use head::{NO_CONNECT, request_from_http1};
pub(crate) use http1_read::Http1Read;
use http1_write::Http1Write;
pub(crate) use respond::{Http1App, Responder};
pub(crate) use upstream::{Awaited, Held, Interim, Sent, send_http1};

/// The content of a message on its way in.
#[derive(Debug)]
pub(crate) enum Incoming {
    Http1(Http1Read),
    Http2(RecvStream),
}

impl Incoming {
    /// The next piece; `None` at the end of the content. Cancelling loses nothing.
    pub(crate) async fn data(&mut self) -> Option<Result<Bytes, Broke>> {
        match self {
            Self::Http1(read) => read.data().await,
            Self::Http2(stream) => Some(stream.data().await?.map_err(Broke::from)),
        }
    }

    /// The fields after the content. To be asked for once that has ended.
    pub(crate) async fn trailers(&mut self) -> Result<Option<HeaderMap>, Broke> {
        match self {
            Self::Http1(read) => read.trailers(),
            Self::Http2(stream) => Ok(stream.trailers().await?),
        }
    }

    /// Whether there is nothing more to come, trailers included.
    pub(crate) fn is_ended(&self) -> bool {
        match self {
            Self::Http1(read) => read.is_ended(),
            Self::Http2(stream) => stream.is_end_stream(),
        }
    }

    /// Throws away what has come, where that is at hand. Whether it is all of the content.
    pub(crate) fn discard(&mut self) -> bool {
        match self {
            Self::Http1(read) => read.discard(),
            Self::Http2(stream) => stream.is_end_stream(),
        }
    }

    /// Lets the sender send so many bytes more. HTTP/1 has no window but the kernel's.
    pub(crate) fn release(&mut self, bytes: usize) -> Result<(), Broke> {
        match self {
            Self::Http1(_) => Ok(()),
            Self::Http2(stream) => Ok(stream.flow_control().release_capacity(bytes)?),
        }
    }
}

/// The content of a message on its way out.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Http1(Http1Write),
    Http2(SendStream<Bytes>),
}

impl Outgoing {
    /// Writes what stands before the content: the head of HTTP/1, which may be long in being read. Cancelling loses nothing.
    pub(crate) async fn flush(&mut self) -> Result<(), Broke> {
        match self {
            Self::Http1(write) => Ok(write.flush().await?),
            Self::Http2(_) => Ok(()),
        }
    }

    /// Writes `chunk`, in pieces as the receiver takes them; what is written is gone from it, so that a cancelled write can
    /// go on. `last`: the message ends with it, and has no trailers.
    pub(crate) async fn write(&mut self, chunk: &mut Bytes, last: bool) -> Result<(), Broke> {
        match self {
            Self::Http1(write) => write.write(chunk, last).await?,
            Self::Http2(stream) => write_http2(stream, chunk, last).await?,
        }
        Ok(())
    }

    /// Ends the message, with trailers if there are any.
    pub(crate) async fn finish(&mut self, trailers: Option<HeaderMap>) -> Result<(), Broke> {
        match (self, trailers) {
            (Self::Http1(write), trailers) => write.finish(trailers.as_ref()).await?,
            (Self::Http2(stream), Some(trailers)) => stream.send_trailers(trailers)?,
            (Self::Http2(stream), None) => stream.send_data(Bytes::new(), true)?,
        }
        Ok(())
    }

    /// Returns when the receiver wants no more.
    pub(crate) async fn broken(&mut self) -> Broke {
        match self {
            Self::Http1(write) => write.broken().await,
            Self::Http2(stream) => Broke::reset(poll_fn(|cx| stream.poll_reset(cx)).await),
        }
    }

    /// Ends the message before its end. An HTTP/1 connection that is dropped so is reset.
    pub(crate) fn reset(&mut self, reason: Reason) {
        if let Self::Http2(stream) = self {
            stream.send_reset(reason);
        }
    }
}

async fn write_http2(to: &mut SendStream<Bytes>, chunk: &mut Bytes, last: bool) -> Result<(), Broke> {
    while !chunk.is_empty() {
        to.reserve_capacity(chunk.len());
        // Capacity that is left from before is not announced again.
        while to.capacity() == 0 {
            match poll_fn(|cx| to.poll_capacity(cx)).await {
                Some(granted) => granted.map(drop)?,
                None => return Err(poll_fn(|cx| Poll::Ready(ended(to, cx))).await),
            }
        }
        let piece = chunk.split_to(chunk.len().min(to.capacity()));
        to.send_data(piece, last && chunk.is_empty())?;
    }
    Ok(())
}

/// How a stream ended that takes nothing any more.
fn ended(stream: &mut SendStream<Bytes>, cx: &mut Context<'_>) -> Broke {
    match stream.poll_reset(cx) {
        Poll::Ready(how) => Broke::reset(how),
        Poll::Pending => h2::Error::from(Reason::STREAM_CLOSED).into(),
    }
}

/// How one side of an exchange ended before its message did.
#[derive(Debug)]
pub(crate) struct Broke {
    how: How,
    detail: String,
    /// The code by which it reset its stream.
    pub(crate) code: Option<Reason>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Reset,
    /// The kernel has given the connection up.
    Lost,
    Closed,
    /// An app took too long for a field section.
    Late,
    /// TLS with it has failed.
    Tls(FailureKind),
    /// What came is not HTTP.
    Malformed,
}

impl Broke {
    /// What h2's `poll_reset` says: the code of a reset, or how the connection ended.
    fn reset(read: Result<Reason, h2::Error>) -> Self {
        match read {
            Ok(code) => Self { how: How::Reset, detail: code.description().into(), code: Some(code) },
            Err(error) => error.into(),
        }
    }

    fn closed(detail: &str) -> Self {
        Self { how: How::Closed, detail: detail.into(), code: None }
    }

    fn malformed(detail: &str) -> Self {
        Self { how: How::Malformed, detail: detail.into(), code: None }
    }

    /// What it means where the app is the one that broke.
    pub(crate) fn app_cause(&self) -> Cause {
        match self.how {
            How::Reset | How::Tls(_) => Cause::AppReset,
            How::Lost => Cause::AppLost,
            How::Closed => Cause::AppClosed,
            How::Late => Cause::RequestTimeout,
            How::Malformed => Cause::BadRequest,
        }
    }

    /// The same of the server.
    pub(crate) fn upstream_cause(&self) -> Cause {
        self.how.upstream_cause()
    }
}

impl How {
    /// How an HTTP/2 connection ended. The library tells an orderly end, too, as an error.
    fn of_connection(error: &h2::Error) -> Self {
        let of_tls = error.get_io().and_then(FailureKind::of);
        match error.get_io() {
            Some(error) if dragoman_net::is_timeout(error) => Self::Lost,
            Some(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Self::Reset,
            Some(error) if is_late(error) => Self::Late,
            _ => of_tls.map_or(Self::Closed, Self::Tls),
        }
    }

    fn upstream_cause(self) -> Cause {
        match self {
            Self::Reset => Cause::UpstreamReset,
            Self::Lost => Cause::UpstreamLost,
            Self::Tls(kind) => tls_cause(kind),
            // No server is timed so.
            Self::Closed | Self::Late => Cause::UpstreamClosed,
            Self::Malformed => Cause::BadResponse,
        }
    }
}

/// What the end of an HTTP/2 connection to a server means.
pub(crate) fn connection_cause(error: &h2::Error) -> Cause {
    How::of_connection(error).upstream_cause()
}

impl fmt::Display for Broke {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl From<h2::Error> for Broke {
    fn from(error: h2::Error) -> Self {
        let is_reset = error.is_reset();
        Self {
            how: if is_reset { How::Reset } else { How::of_connection(&error) },
            detail: error.to_string(),
            code: error.reason().filter(|_| is_reset),
        }
    }
}

impl From<std::io::Error> for Broke {
    fn from(error: std::io::Error) -> Self {
        let how = match FailureKind::of(&error) {
            Some(kind) => How::Tls(kind),
            None if dragoman_net::is_timeout(&error) => How::Lost,
            None => How::Reset,
        };
        Self { how, detail: error.to_string(), code: None }
    }
}
