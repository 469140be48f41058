//! An HTTP/1 message on its way out, framed as it goes.

use std::fmt::Write;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;

use super::Broke;
use super::head::write_trailers;
use crate::leg::Leg;

/// How the end of a message is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is no content; what is written all the same is left out.
    None,
    /// The length stands in the head, or the connection ends with the message.
    Plain,
    Chunked,
}

/// A message on a connection that is read at the same time.
#[derive(Debug)]
pub(crate) struct Http1Write {
    leg: Arc<Leg>,
    framing: Framing,
    /// Head and framing that go out before the content at hand.
    before: BytesMut,
    /// What is still to be written of the chunk whose size was stated.
    left: usize,
    /// Framing that goes out after it.
    after: &'static [u8],
    /// The end of the message is written, or stands in `before` or `after`.
    ended: bool,
}

impl Http1Write {
    /// A message that begins with `head`, which is not written yet.
    pub(super) fn new(leg: Arc<Leg>, head: &[u8], framing: Framing) -> Self {
        Self { leg, framing, before: head.into(), left: 0, after: b"", ended: false }
    }

    /// Writes the head, if that has not happened. Cancelling loses nothing.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        self.write_out(&mut Bytes::new()).await
    }

    pub(super) async fn write(&mut self, chunk: &mut Bytes, last: bool) -> io::Result<()> {
        if self.framing == Framing::None {
            chunk.clear();
        }
        if self.framing == Framing::Chunked && self.left == 0 && !chunk.is_empty() {
            self.end_chunk().await?;
            self.left = chunk.len();
            // Writing to memory cannot fail.
            let _ = write!(self.before, "{:x}\r\n", self.left);
            self.after = if last { b"\r\n0\r\n\r\n" } else { b"\r\n" };
            self.ended = last;
        }
        self.write_out(chunk).await
    }

    pub(super) async fn finish(&mut self, trailers: Option<&HeaderMap>) -> io::Result<()> {
        self.end_chunk().await?;
        let ended = std::mem::replace(&mut self.ended, true);
        if self.framing == Framing::Chunked && !ended {
            self.before.extend_from_slice(b"0\r\n");
            // Trailers have no place in another framing, and may be left out (RFC 9110 §6.5.1).
            if let Some(trailers) = trailers {
                write_trailers(&mut self.before, trailers);
            }
            self.before.extend_from_slice(b"\r\n");
        }
        self.flush().await
    }

    pub(super) async fn broken(&self) -> Broke {
        self.leg.broken().await.into()
    }

    /// Writes what a write that was cancelled has left.
    async fn end_chunk(&mut self) -> io::Result<()> {
        if self.after.is_empty() { Ok(()) } else { self.flush().await }
    }

    /// Writes `before`, all of `chunk`, and `after`.
    async fn write_out(&mut self, chunk: &mut Bytes) -> io::Result<()> {
        loop {
            let after = if self.left <= chunk.len() { self.after } else { b"" };
            if self.before.is_empty() && chunk.is_empty() && after.is_empty() {
                return Ok(());
            }
            let stream = self.leg.stream();
            let parts = [IoSlice::new(&self.before), IoSlice::new(chunk), IoSlice::new(after)];
            let mut count = poll_fn(|context| stream.poll_write_shared(context, &parts)).await?;
            let content = chunk.len();
            for part in [&mut self.before as &mut dyn Buf, chunk, &mut self.after] {
                let of_it = count.min(part.remaining());
                part.advance(of_it);
                count -= of_it;
            }
            self.left = self.left.saturating_sub(content - chunk.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dragoman_wire::http1::{Body, BodyReader, Part};
    use socket2::SockRef;
    use std::future::ready;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::yield_now;

    const HEAD: &[u8] = b"HEAD";

    /// A connection that takes little at once, and its other end.
    async fn narrow() -> (Arc<Leg>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        SockRef::from(&listener).set_recv_buffer_size(4096).unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        SockRef::from(&stream).set_send_buffer_size(4096).unwrap();
        (Arc::new(Leg::new(stream)), listener.accept().await.unwrap().0)
    }

    /// Begins `$act` again and again, and drops it each time that it must wait.
    macro_rules! cancelling {
        ($act:expr, $cancelled:ident) => {
            loop {
                tokio::select! {
                    biased;
                    done = $act => break done.unwrap(),
                    () = ready(()) => $cancelled += 1,
                }
                yield_now().await;
            }
        };
    }

    #[tokio::test]
    async fn a_write_that_is_cancelled_wherever_it_waits_loses_and_doubles_nothing() {
        let content: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
        for (framing, body) in
            [(Framing::Chunked, Body::Chunked), (Framing::Plain, Body::Length(content.len() as u64))]
        {
            for last_with_content in [true, false] {
                let (leg, mut reader) = narrow().await;
                let read = tokio::spawn(async move {
                    let mut all = Vec::new();
                    let _ = reader.read_to_end(&mut all).await;
                    all
                });
                let mut write = Http1Write::new(Arc::clone(&leg), HEAD, framing);
                let whole = Bytes::from(content.clone());
                let (mut at, mut cancelled) = (0, 0);
                for size in [1, 70_000, 3, 100_000, 29_996, 100_000] {
                    let mut chunk = whole.slice(at..at + size);
                    at += size;
                    let last = last_with_content && at == content.len();
                    // As an upload does: a chunk that is written out is not written again.
                    cancelling!(
                        async { if chunk.is_empty() { Ok(()) } else { write.write(&mut chunk, last).await } },
                        cancelled
                    );
                }
                cancelling!(write.finish(None), cancelled);
                assert!(cancelled > 10, "only {cancelled} waits");
                drop(write);
                Arc::into_inner(leg).unwrap().close();
                let all = read.await.unwrap();
                assert!(all.starts_with(HEAD));
                let mut decoded = Vec::new();
                let mut reader = BodyReader::new(body);
                let taken = reader.decode(&all[HEAD.len()..], |part| match part {
                    Part::Data(bytes) => decoded.extend_from_slice(bytes),
                    Part::Trailer(_) => unreachable!("there are none"),
                });
                assert_eq!(taken.unwrap(), all.len() - HEAD.len(), "{framing:?}");
                assert!(reader.is_done() && decoded == content, "{framing:?}");
            }
        }
    }

    #[tokio::test]
    async fn content_that_has_no_place_is_left_out() {
        let (leg, mut reader) = narrow().await;
        let mut write = Http1Write::new(Arc::clone(&leg), HEAD, Framing::None);
        write.write(&mut Bytes::from_static(b"content"), true).await.unwrap();
        write.finish(None).await.unwrap();
        drop(write);
        Arc::into_inner(leg).unwrap().close();
        let mut all = Vec::new();
        reader.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, HEAD);
    }
}
