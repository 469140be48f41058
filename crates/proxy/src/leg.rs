//! One of the two connections of a flow, with the bytes that were read from it and not yet written on.
//!
//! A leg that is dropped without being closed is reset: after a bug, a cancelled flow or a deadline the other
//! side must not take a torn message for a whole one. Every orderly end says so with [`Leg::close`]. The leg of an app is
//! reset by the kernel too, where this process is killed.

use std::future::{Future, poll_fn};
use std::io;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout, timeout_at};

use crate::buffer::Buffer;
use crate::stream::Stream;

/// How long a reset waits for the bytes before it to be acknowledged.
const DELIVERY: Duration = Duration::from_secs(30);

/// A connection that is closed while its sender may still send is read and thrown away for a while: a close with unread bytes
/// is a reset, which destroys our last words on their way (RFC 9112 §9.6). The wait ends when for so long nothing more of
/// them was acknowledged, or all of it.
const LINGER_STEP: Duration = Duration::from_secs(2);

/// The end of that wait, whatever happens.
const LINGER: Duration = Duration::from_secs(30);

/// Acknowledges at once what was read of a message, before more of it is waited for. A sender that writes its message in parts,
/// with Nagle's algorithm (RFC 9293 §3.7.4), holds the next part back until then; and on a connection that carries one
/// exchange after the other the kernel takes its time (40 ms), in the hope of an answer to send it with.
pub(crate) fn acknowledge(stream: &TcpStream) {
    // Where it cannot be said, it is as it was.
    let _ = stream.set_quickack(true);
}

/// One of the two connections of a flow.
#[derive(Debug)]
pub(crate) struct Leg {
    stream: Option<Stream>,
    pub(crate) buf: Buffer,
}

impl Leg {
    pub(crate) fn new(stream: impl Into<Stream>) -> Self {
        Self { stream: Some(stream.into()), buf: Buffer::default() }
    }

    /// The leg of an app, which was just accepted.
    pub(crate) fn accepted(stream: TcpStream) -> Self {
        Self { stream: Some(stream.into()), buf: Buffer::eager() }
    }

    pub(crate) fn stream(&self) -> &Stream {
        self.stream.as_ref().expect("only the consuming methods take the stream")
    }

    /// The connection and the buffer, for use at the same time.
    pub(crate) fn parts(&mut self) -> (&mut Stream, &mut Buffer) {
        (self.stream.as_mut().expect("only the consuming methods take the stream"), &mut self.buf)
    }

    /// Reads once into the buffer; 0 means that this side has ended.
    pub(crate) fn fill(&mut self) -> impl Future<Output = io::Result<usize>> {
        poll_fn(|context| {
            let (stream, buf) = self.parts();
            buf.poll_fill(&mut stream.split().0, context)
        })
    }

    /// Returns when the connection is broken: a reset, or given up by the kernel. Its end alone is not waited for.
    pub(crate) async fn broken(&self) -> io::Error {
        broken(self.stream().tcp()).await
    }

    /// Writes all of `bytes`. Not for what may be cancelled and continued.
    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.parts().0.write_all(bytes).await
    }

    /// Says that nothing more comes from us; the other direction stays open.
    pub(crate) async fn shut_down(&mut self) -> io::Result<()> {
        self.parts().0.shutdown().await
    }

    /// The orderly end.
    pub(crate) fn close(mut self) {
        match self.take_to_close() {
            // A socket that is full does not take TLS's end at once.
            Some(Stream::Tls(tls)) if !tls.end_now() && Handle::try_current().is_ok() => {
                tokio::spawn(async move {
                    let mut stream = Stream::Tls(tls);
                    let _ = timeout(LINGER, stream.shutdown()).await;
                });
            }
            _ => {}
        }
    }

    /// The orderly end while the other side may still be sending: says that we end, then reads and throws away until
    /// it has ended too, is stuck, or has sent `most` bytes more.
    pub(crate) async fn close_lingering(mut self, most: usize) {
        self.linger(most).await;
        self.close();
    }

    /// The same, but that once `draining` is ready all which was said is waited for, however long it takes, and then nothing
    /// more once `hurried` is, which is polled from then on.
    pub(crate) async fn close_delivered(
        mut self,
        most: usize,
        draining: impl Future<Output = ()>,
        hurried: impl Future<Output = ()>,
    ) {
        tokio::select! {
            biased;
            () = draining => {}
            () = self.linger(most) => return self.close(),
        }
        dragoman_net::delivered(self.stream().tcp()).await;
        tokio::select! {
            () = self.linger(most) => {}
            () = hurried => dragoman_net::delivered(self.stream().tcp()).await,
        }
        self.close();
    }

    async fn linger(&mut self, most: usize) {
        let end = async {
            // With TLS it takes room that a side which reads nothing does not make.
            if self.shut_down().await.is_ok() {
                self.drain(most).await;
            }
        };
        let _ = timeout(LINGER, end).await;
    }

    async fn drain(&mut self, most: usize) {
        let mut read = 0;
        let mut until = Instant::now() + LINGER_STEP;
        let mut undelivered = dragoman_net::undelivered_bytes(self.stream().tcp());
        loop {
            match timeout_at(until, poll_fn(|context| self.parts().0.poll_discard(context))).await {
                Ok(Ok(count @ 1..)) if Instant::now() < until => {
                    read += count;
                    if read >= most {
                        return;
                    }
                }
                Ok(Ok(0) | Err(_)) => return,
                _ => {
                    let left = dragoman_net::undelivered_bytes(self.stream().tcp());
                    if left == 0 || left >= undelivered {
                        return;
                    }
                    undelivered = left;
                    until += LINGER_STEP;
                }
            }
        }
    }

    /// A reset, once the bytes before it were delivered.
    pub(crate) async fn reset(mut self) {
        if let Some(stream) = self.stream.take() {
            stream.reset_on_close();
            dragoman_net::reset_after_delivery(stream.tcp(), DELIVERY).await;
        }
    }

    /// The same connection as another leg; this one is of no use any more.
    pub(crate) fn take(&mut self) -> Self {
        Self { stream: self.stream.take(), buf: std::mem::take(&mut self.buf) }
    }

    /// The bare connection, and what was read from it. An app's ends by a reset still, until it is a leg again that is closed.
    pub(crate) fn into_parts(mut self) -> Option<(Stream, Buffer)> {
        Some((self.stream.take()?, std::mem::take(&mut self.buf)))
    }

    /// The bare connection, to be kept for another flow or laid down to sleep. An app's ends by a reset still.
    pub(crate) fn into_stream(mut self) -> Option<Stream> {
        self.stream.take()
    }

    /// The connection, which ends in order where it is dropped.
    fn take_to_close(&mut self) -> Option<Stream> {
        let stream = self.stream.take()?;
        dragoman_net::close_in_order(stream.tcp());
        Some(stream)
    }
}

impl Drop for Leg {
    fn drop(&mut self) {
        if let Some(stream) = &self.stream {
            stream.reset_on_close();
        }
    }
}

/// The same for a part of a leg: a half that has ended, or that is not to be read for now, is watched by this.
pub(crate) async fn broken(stream: &TcpStream) -> io::Error {
    match stream.ready(Interest::ERROR).await {
        Ok(_) => stream.take_error().ok().flatten().unwrap_or(io::ErrorKind::ConnectionReset.into()),
        Err(error) => error,
    }
}
