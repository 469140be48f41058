//! What an HTTP/2 connection writes, gathered until it has nothing more to say for now.
//!
//! h2 writes each frame with content by a call of its own, and a connection is woken anew for each of its streams that has
//! something to say. With many streams at once that is a system call for each of them, and a segment, where a single one
//! would do for all. So what h2 writes is kept until it has been polled to its end ([`drive`]), and a connection with more
//! than one stream lets the others have their say before it is polled.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;
use tokio::task::yield_now;

use crate::stream::Stream;

/// The most that is gathered, in bytes. What is larger goes straight to the socket, after what was gathered before it.
const GATHERED: usize = 16 * 1024;

/// The socket of an HTTP/2 connection, shared by h2 and by whoever drives it.
#[derive(Clone, Debug)]
pub(crate) struct Wire(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// `None` once it was taken.
    stream: Option<Stream>,
    /// What was gathered; no memory while there is nothing.
    out: Vec<u8>,
    /// So much of it is written.
    written: usize,
    /// Why it could not be written, until h2 has been told.
    failed: Option<io::Error>,
    /// A write found that the other side takes nothing any more. What is written later goes nowhere.
    refused: Option<io::Error>,
    /// The other side has said all, or there is no more to come of it.
    ended: bool,
    orderly: Ended,
    /// h2 may have something to write.
    has_streams: bool,
}

/// Which side was the last to end its direction in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Neither,
    /// We have said that we end.
    Ours,
    /// The other side has, whatever we have said.
    Theirs,
}

impl Wire {
    pub(super) fn new(stream: impl Into<Stream>) -> Self {
        let state = State {
            stream: Some(stream.into()),
            out: Vec::new(),
            written: 0,
            failed: None,
            refused: None,
            ended: false,
            orderly: Ended::Neither,
            has_streams: true,
        };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Takes the socket, for good, and tells how it may end.
    pub(super) fn take(&self) -> Option<(Stream, Ended)> {
        let mut state = self.lock();
        let ended = state.orderly;
        state.stream.take().map(|stream| (stream, ended))
    }

    /// One side has ended in order.
    pub(super) fn note_end(&self, of: Ended) {
        let mut state = self.lock();
        if state.orderly != Ended::Theirs {
            state.orderly = of;
        }
    }

    /// h2 has streams, or none any more. Until that is said, it may.
    pub(super) fn note_streams(&self, there_are: bool) {
        self.lock().has_streams = there_are;
    }

    /// Whether all streams have ended, and the other side's kernel has all of them.
    pub(super) fn is_delivered(&self) -> bool {
        let state = self.lock();
        let delivered = |stream: &Stream| dragoman_net::undelivered_bytes(stream.tcp()) == 0;
        !state.has_streams && state.out.is_empty() && state.stream.as_ref().is_none_or(delivered)
    }

    /// Polls the socket itself.
    pub(super) fn poll<T>(
        &self,
        ask: impl FnOnce(Pin<&mut Stream>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match &mut self.lock().stream {
            Some(stream) => ask(Pin::new(stream)),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Takes the parts, or as much of them as the socket does where they are too large to be gathered.
    pub(super) fn poll_write(&self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut state = self.lock();
        if let Some(error) = state.failed.take() {
            return Poll::Ready(Err(error));
        }
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if state.refused.is_some() {
            return Poll::Ready(Ok(length));
        }
        if state.out.len() + length <= GATHERED {
            parts.iter().for_each(|part| state.out.extend_from_slice(part));
            return Poll::Ready(Ok(length));
        }
        match ready!(state.poll_write_through(cx, parts)) {
            Ok(count) => Poll::Ready(Ok(count)),
            Err(error) => Poll::Ready(state.broke(error).map(|()| length)),
        }
    }

    /// The other side has said all, or that there is no more to come: the error of a write, if one met that before.
    pub(super) fn read_to_the_end(&self) -> Option<io::Error> {
        let mut state = self.lock();
        state.ended = true;
        state.refused.take()
    }

    /// Writes what was gathered.
    pub(super) fn poll_write_out(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        match state.failed.take() {
            Some(error) => Poll::Ready(Err(error)),
            None => state.poll_write_out(cx),
        }
    }

    /// Why what was gathered before could not be written.
    pub(super) fn failure(&self) -> Option<io::Error> {
        self.lock().failed.take()
    }

    /// The same for whoever drives the connection: h2 is woken to be told of a failure.
    fn write_out(&self, cx: &mut Context<'_>) {
        let mut state = self.lock();
        if let Poll::Ready(Err(error)) = state.poll_write_out(cx) {
            state.failed = Some(error);
            cx.waker().wake_by_ref();
        }
    }

    /// A panic in one flow ends one flow.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream: Some(stream), out, written, .. } = self else { return Poll::Ready(Ok(())) };
        while *written < out.len() {
            match ready!(Pin::new(&mut *stream).poll_write(cx, &out[*written..])) {
                Ok(count) => *written += count,
                Err(error) => return Poll::Ready(self.broke(error)),
            }
        }
        self.forget();
        Poll::Ready(Ok(()))
    }

    /// Writes what was gathered and the parts after it, once. What is left of the gathered comes first next time.
    fn poll_write_through(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            let Self { stream: Some(stream), out, written, .. } = self else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            let before = out.len() - *written;
            let mut all = vec![IoSlice::new(&out[*written..])];
            all.extend_from_slice(parts);
            match ready!(Pin::new(stream).poll_write_vectored(cx, &all)) {
                Ok(count) if count < before => *written += count,
                Ok(count) => {
                    self.forget();
                    if count > before {
                        return Poll::Ready(Ok(count - before));
                    }
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// A write has failed. A reset, of which the end can be read behind what came before, is none yet: nobody waits for ever.
    fn broke(&mut self, error: io::Error) -> io::Result<()> {
        self.forget();
        if self.ended || !dragoman_net::is_reset(&error) {
            return Err(error);
        }
        self.refused = Some(error);
        Ok(())
    }

    fn forget(&mut self) {
        (self.out, self.written) = (Vec::new(), 0);
    }
}

/// Polls `connection`, which speaks by `wire`, to its end. What it writes goes out each time that it waits. `is_busy`: it has
/// more than one stream, and what wakes it is likely followed by more.
pub(crate) async fn drive<F: Future>(
    wire: &Wire,
    is_busy: impl Fn() -> bool,
    mut connection: Pin<&mut F>,
) -> F::Output {
    loop {
        let polled = poll_fn(|cx| {
            let polled = connection.as_mut().poll(cx);
            wire.write_out(cx);
            Poll::Ready(polled)
        });
        if let Poll::Ready(output) = polled.await {
            return output;
        }
        woken().await;
        if is_busy() {
            yield_now().await;
        }
    }
}

/// Returns when the task is woken, whatever for.
async fn woken() {
    let mut waits = true;
    poll_fn(|_| if std::mem::take(&mut waits) { Poll::Pending } else { Poll::Ready(()) }).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pair;
    use std::future::pending;
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::Notify;

    fn write(wire: &Wire, cx: &mut Context<'_>, parts: &[&[u8]]) -> Poll<io::Result<usize>> {
        let parts: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        wire.poll_write(cx, &parts)
    }

    #[tokio::test]
    async fn what_is_written_goes_out_when_the_connection_waits() {
        let (near, mut far) = pair().await;
        let wire = Wire::new(near);
        let connection = pin!(poll_fn(|cx| {
            for text in ["one", ", ", "two"] {
                assert!(write(&wire, cx, &[text.as_bytes()]).is_ready());
            }
            Poll::<()>::Pending
        }));
        let mut got = [0; 8];
        tokio::select! {
            () = drive(&wire, || false, connection) => unreachable!(),
            read = far.read_exact(&mut got) => drop(read.unwrap()),
        }
        assert_eq!(&got, b"one, two");
        assert_eq!(wire.lock().out.capacity(), 0, "memory is held while nothing waits to be written");
    }

    #[tokio::test]
    async fn order_is_kept_whatever_the_sizes_and_however_slowly_it_is_read() {
        let (near, mut far) = pair().await;
        socket2::SockRef::from(&near).set_send_buffer_size(8 * 1024).unwrap();
        let wire = Wire::new(near);
        let all: Vec<u8> = (0..2_000_000_u32).map(|n| (n % 251) as u8).collect();
        let mut at = 0;
        let mut turn = 0;
        let connection = pin!(poll_fn(|cx| {
            while at < all.len() {
                // Small ones, ones that fill what is gathered, and ones that are larger than it.
                let length = [9, 1000, GATHERED - 9, 100_000][turn % 4].min(all.len() - at);
                let (one, other) = all[at..at + length].split_at(length.min(9));
                at += ready!(write(&wire, cx, &[one, other])).unwrap();
                turn += 1;
            }
            wire.poll_write_out(cx).map(Result::unwrap)
        }));
        let read = async {
            let mut got = vec![0; all.len()];
            for piece in got.chunks_mut(30_000) {
                far.read_exact(piece).await.unwrap();
            }
            got
        };
        let ((), got) = tokio::join!(drive(&wire, || false, connection), read);
        assert!(got == all);
    }

    #[tokio::test]
    async fn a_failure_to_write_is_told_to_the_connection() {
        let (near, far) = pair().await;
        dragoman_net::reset_on_close(&far);
        drop(far);
        near.ready(tokio::io::Interest::ERROR).await.unwrap();
        let wire = Wire::new(near);
        assert!(wire.read_to_the_end().is_none());
        let mut wrote = false;
        let connection = pin!(poll_fn(|cx| {
            if !std::mem::replace(&mut wrote, true) {
                assert!(matches!(write(&wire, cx, &[b"x"]), Poll::Ready(Ok(1))));
                return Poll::Pending;
            }
            Poll::Ready(wire.failure())
        }));
        let told = drive(&wire, || false, connection).await;
        assert!(told.is_some_and(|error| dragoman_net::is_reset(&error)));
    }

    #[tokio::test]
    async fn a_busy_connection_hears_all_that_are_ready_before_it_speaks() {
        let (near, _far) = pair().await;
        let (wire, news) = (Wire::new(near), Notify::new());
        let (said, polls) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let connection = pin!(async {
            loop {
                news.notified().await;
                polls.fetch_add(1, Ordering::Relaxed);
                if said.load(Ordering::Relaxed) == 10 {
                    return;
                }
            }
        });
        let streams = async {
            for _ in 0..10 {
                said.fetch_add(1, Ordering::Relaxed);
                news.notify_one();
            }
            pending::<()>().await;
        };
        tokio::select! {
            biased;
            () = drive(&wire, || true, connection) => {}
            () = streams => {}
        }
        assert_eq!(polls.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_socket_that_was_taken_takes_nothing() {
        let (near, mut far) = pair().await;
        let wire = Wire::new(near);
        far.write_all(b"x").await.unwrap();
        drop(wire.take());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(matches!(wire.poll_write_out(&mut cx), Poll::Ready(Ok(()))));
        assert!(matches!(write(&wire, &mut cx, &[&[0; GATHERED + 1]]), Poll::Ready(Err(_))));
    }
}
