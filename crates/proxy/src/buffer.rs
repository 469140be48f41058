//! Bytes on their way from one socket to another.
//!
//! A buffer takes memory only while bytes stand in it: a leg that waits holds none. It starts at 16 KiB, which
//! holds nearly every head and small answer, and grows to 64 KiB while a sender fills it at every read.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::tcp;

use crate::stream::{ReadHalf, Stream, TlsStream, WriteHalf};

const SMALL: usize = 16 * 1024;
const LARGE: usize = 64 * 1024;

/// Bytes that were read and not yet written on, in order.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    data: Vec<u8>,
    start: usize,
    /// The last read filled all the room there was: the sender has more.
    full: bool,
    /// Nothing was read yet, and what there is has likely come by now: the first read asks the kernel rather than the
    /// runtime, which has to be told by the kernel first.
    eager: bool,
}

impl Buffer {
    /// For a connection that was just accepted: most apps speak at once.
    pub(crate) fn eager() -> Self {
        Self { eager: true, ..Self::default() }
    }

    /// The bytes that wait.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.data[self.start..]
    }

    pub(crate) fn len(&self) -> usize {
        self.data.len() - self.start
    }

    /// The last read filled a large buffer: the sender has much more to say.
    pub(crate) fn is_flooded(&self) -> bool {
        self.full && self.data.capacity() >= LARGE
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets the first `count` bytes, which were written on.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.data.len());
        if self.start == self.data.len() {
            self.data.clear();
            self.start = 0;
        }
    }

    /// Appends what `more` does, which has come by another way.
    pub(crate) fn append(&mut self, more: impl FnOnce(&mut Vec<u8>)) {
        more(&mut self.data);
    }

    /// Reads once and appends; 0 means that the sender has ended. Memory is taken when something is there to read,
    /// and given back when an empty buffer has to wait. Cancelling loses nothing.
    ///
    /// Not an `async fn`: nearly everything that waits is in here, and this future is a fifth of the size.
    pub(crate) fn fill(&mut self, source: &mut ReadHalf<'_>) -> impl Future<Output = io::Result<usize>> {
        poll_fn(|context| self.poll_fill(source, context))
    }

    /// What [`Buffer::fill`] awaits.
    pub(crate) fn poll_fill(
        &mut self,
        source: &mut ReadHalf<'_>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match source {
            ReadHalf::Plain(source) => self.poll_fill_plain(source, context),
            ReadHalf::Tls(source) => self.poll_fill_tls(source, context),
        }
    }

    fn poll_fill_plain(
        &mut self,
        source: &mut tcp::ReadHalf<'_>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if std::mem::take(&mut self.eager) {
            self.make_room();
            match dragoman_net::receive(source.as_ref(), &mut self.data) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => {
                    self.full = self.data.len() == self.data.capacity();
                    return Poll::Ready(read);
                }
            }
        }
        loop {
            let ready = source.as_ref().poll_read_ready(context);
            if ready.is_pending() {
                self.release();
            }
            ready!(ready)?;
            self.make_room();
            // Where the socket was empty after all, the memory is given back before the wait.
            if let Poll::Ready(read) = pin!(source.read_buf(&mut self.data)).poll(context) {
                self.full = self.data.len() == self.data.capacity();
                return Poll::Ready(read);
            }
        }
    }

    /// Out of TLS the bytes come as many as they are there.
    fn poll_fill_tls(&mut self, source: &TlsStream, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let most = if self.full { LARGE } else { SMALL };
        let read = source.poll_read(context, most, |bytes| {
            self.make_room();
            self.data.extend_from_slice(bytes);
        });
        match &read {
            Poll::Pending => self.release(),
            Poll::Ready(read) => self.full = read.as_ref().is_ok_and(|&count| count == most),
        }
        read
    }

    /// The same from a connection that somebody else writes to. It costs one more system call now and then, which finds
    /// the socket empty.
    ///
    /// Not by `readable()`: its future is four times the size of this one, and every flow that waits has one or two.
    pub(crate) fn fill_shared(&mut self, source: &Stream) -> impl Future<Output = io::Result<usize>> {
        poll_fn(|context| {
            let source = match source {
                Stream::Plain(source) => source,
                Stream::Tls(source) => return self.poll_fill_tls(source, context),
            };
            loop {
                let ready = source.poll_read_ready(context);
                if ready.is_pending() {
                    self.release();
                }
                ready!(ready)?;
                self.make_room();
                match source.try_read_buf(&mut self.data) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    read => {
                        self.full = self.data.len() == self.data.capacity();
                        return Poll::Ready(read);
                    }
                }
            }
        })
    }

    /// Gives the memory back if nothing waits.
    pub(crate) fn release(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }

    fn make_room(&mut self) {
        if self.start > 0 && self.data.capacity() - self.data.len() < SMALL / 4 {
            self.data.drain(..self.start);
            self.start = 0;
        }
        if self.data.len() == self.data.capacity() || self.data.is_empty() {
            let step = if self.full { LARGE } else { SMALL };
            self.data.reserve_exact(step);
        }
    }
}

/// Writes once of the parts, in their order; some may be empty. A single one goes by the call that does not have to gather:
/// it is what nearly every message is, and cheaper.
pub(crate) fn write_parts<const N: usize>(
    to: &mut WriteHalf<'_>,
    parts: [&[u8]; N],
) -> impl Future<Output = io::Result<usize>> {
    poll_fn(move |context| {
        let mut filled = parts.iter().filter(|part| !part.is_empty());
        match (filled.next(), filled.next()) {
            (Some(only), None) => Pin::new(&mut *to).poll_write(context, only),
            _ => Pin::new(&mut *to).poll_write_vectored(context, &parts.map(IoSlice::new)),
        }
    })
}

/// The same of what the connection ends with. Its end must follow at once.
pub(crate) fn write_last_parts<const N: usize>(
    to: &WriteHalf<'_>,
    parts: [&[u8]; N],
) -> impl Future<Output = io::Result<usize>> {
    poll_fn(move |context| {
        let to = match to {
            WriteHalf::Plain(to) => to.as_ref(),
            WriteHalf::Tls(to) => return to.poll_write(context, &parts.map(IoSlice::new)),
        };
        loop {
            ready!(to.poll_write_ready(context))?;
            match dragoman_net::send_last(to, &parts.map(IoSlice::new)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pair;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpStream;

    #[tokio::test]
    async fn keeps_order_through_partial_consumption() {
        let (mut reader, mut writer) = pair().await;
        let sent: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
        let copy = sent.clone();
        let write = tokio::spawn(async move { writer.write_all(&copy).await });
        let mut buffer = Buffer::default();
        let mut got = Vec::new();
        while buffer.fill(&mut ReadHalf::Plain(reader.split().0)).await.unwrap() > 0 {
            let some = buffer.len().div_ceil(2);
            got.extend_from_slice(&buffer.bytes()[..some]);
            buffer.consume(some);
        }
        got.extend_from_slice(buffer.bytes());
        write.await.unwrap().unwrap();
        assert!(got == sent);
    }

    #[tokio::test]
    async fn holds_no_memory_while_it_waits() {
        let (mut reader, mut writer) = pair().await;
        let mut buffer = Buffer::default();
        let mut half = ReadHalf::Plain(reader.split().0);
        tokio::select! {
            biased;
            _ = buffer.fill(&mut half) => unreachable!("nothing was sent"),
            () = std::future::ready(()) => {}
        }
        assert_eq!(buffer.data.capacity(), 0);
        writer.write_all(b"x").await.unwrap();
        buffer.fill(&mut half).await.unwrap();
        assert!(buffer.data.capacity() > 0);
        buffer.consume(1);
        buffer.release();
        assert_eq!(buffer.data.capacity(), 0);
    }

    #[tokio::test]
    async fn parts_go_out_in_order_whichever_are_empty() {
        let (mut reader, mut writer) = pair().await;
        for parts in
            [["a", "", ""], ["", "b", ""], ["", "", "c"], ["a", "", "c"], ["", "b", "c"], ["a", "b", "c"]]
        {
            let whole = parts.concat();
            let parts = parts.map(str::as_bytes);
            assert_eq!(
                write_parts(&mut WriteHalf::Plain(writer.split().1), parts).await.unwrap(),
                whole.len()
            );
            let mut got = vec![0; whole.len()];
            reader.read_exact(&mut got).await.unwrap();
            assert_eq!(got, whole.as_bytes());
        }
    }

    #[tokio::test]
    async fn what_came_before_the_accept_is_there_without_a_wait() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        std::io::Write::write_all(&mut client, b"first").unwrap();
        let accepted = listener.accept().unwrap().0;
        accepted.set_nonblocking(true).unwrap();
        let mut stream = TcpStream::from_std(accepted).unwrap();
        let mut buffer = Buffer::eager();
        let read = {
            let mut half = ReadHalf::Plain(stream.split().0);
            let mut context = Context::from_waker(std::task::Waker::noop());
            pin!(buffer.fill(&mut half)).poll(&mut context)
        };
        assert!(matches!(read, Poll::Ready(Ok(5))), "{read:?}");
        assert_eq!(buffer.bytes(), b"first");

        let mut half = ReadHalf::Plain(stream.split().0);
        std::io::Write::write_all(&mut client, b", second").unwrap();
        assert_eq!(buffer.fill(&mut half).await.unwrap(), 8);
        assert_eq!(buffer.bytes(), b"first, second");
        drop(client);
        assert_eq!(buffer.fill(&mut half).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn an_eager_read_of_nothing_waits_without_memory() {
        let (mut reader, mut writer) = pair().await;
        let mut buffer = Buffer::eager();
        let mut half = ReadHalf::Plain(reader.split().0);
        let waits = pin!(buffer.fill(&mut half))
            .poll(&mut Context::from_waker(std::task::Waker::noop()))
            .is_pending();
        assert!(waits && buffer.data.capacity() == 0);
        writer.write_all(b"x").await.unwrap();
        assert_eq!(buffer.fill(&mut half).await.unwrap(), 1);
    }
}
