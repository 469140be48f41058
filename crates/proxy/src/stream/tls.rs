//! A connection with TLS on it.
//!
//! Its two directions may be polled by two futures, so what they share is behind a lock that nobody ever waits for.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use dragoman_telemetry::Secured;
use dragoman_tls::failure::{Failure, FailureKind};
use dragoman_tls::session::{RECORD, Read, Session};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// A connection with TLS on it. Dropped, it ends in order: it says so (close_notify) as far as the kernel takes it at once.
#[derive(Debug)]
pub(crate) struct TlsStream {
    tcp: TcpStream,
    state: Mutex<State>,
    /// What is told of it, once it is agreed with a server.
    secured: Option<Arc<Secured>>,
}

#[derive(Debug)]
struct State {
    session: Session,
    /// So many plain bytes were encrypted and not reported as written: some of what they became may still wait. They are what
    /// is offered next.
    in_flight: usize,
    /// We have said that nothing more comes of us, or it is not to be said.
    said_end: bool,
}

impl TlsStream {
    /// A connection that is to speak as `session` does.
    pub(crate) fn new(tcp: TcpStream, session: Session) -> Self {
        Self { tcp, state: Mutex::new(State { session, in_flight: 0, said_end: false }), secured: None }
    }

    pub(super) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// What is told of it; nothing of one that was not agreed with a server.
    pub(crate) fn secured(&self) -> Option<&Arc<Secured>> {
        self.secured.as_ref()
    }

    /// It is agreed with a server.
    pub(crate) fn agreed(&mut self, secured: Secured) {
        self.secured = Some(Arc::new(secured));
    }

    /// Asks the session.
    pub(crate) fn with_session<T>(&self, ask: impl FnOnce(&Session) -> T) -> T {
        ask(&self.lock().session)
    }

    /// Speaks until both sides have agreed. `held`: bytes that were read of the connection already.
    ///
    /// # Errors
    /// A [`dragoman_tls::failure::Failure`], or what broke the connection. What tells the other side why was written, as far
    /// as it takes it.
    pub(crate) async fn handshake(&self, held: &[u8]) -> io::Result<()> {
        if !held.is_empty() {
            self.lock().session.receive(|out| {
                out.extend_from_slice(held);
                Ok(held.len())
            })?;
        }
        let mut broke = None;
        loop {
            let advanced = self.lock().session.advance();
            let sent = poll_fn(|context| self.lock().poll_send(&self.tcp, context)).await;
            broke = broke.or(sent.err());
            match (advanced, broke.take()) {
                (Err(failure), None) => return Err(failure.into()),
                // The connection broke before it ended: that says more than the end.
                (Err(failure), Some(error)) if failure.kind == FailureKind::Closed => return Err(error),
                (Err(failure), Some(_)) => return Err(failure.into()),
                (Ok(()), error) if !self.lock().session.is_handshaking() => return error.map_or(Ok(()), Err),
                // Why may have been said before.
                (Ok(()), error) => broke = error,
            }
            if let Err(error) = poll_fn(|context| self.lock().poll_receive(&self.tcp, context)).await {
                return Err(broke.unwrap_or(error));
            }
        }
    }

    /// See [`super::Stream::poll_discard`].
    pub(super) fn poll_discard(&self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match ready!(self.poll_read(context, RECORD, |_| {})) {
            Err(error) if Failure::of(&error).is_some() => poll_discard(&self.tcp, context),
            read => Poll::Ready(read),
        }
    }

    /// Gives plain bytes to `take`, at most so many; 0 means that the other side has ended. Cancelling loses nothing.
    pub(crate) fn poll_read(
        &self,
        context: &mut Context<'_>,
        most: usize,
        mut take: impl FnMut(&[u8]),
    ) -> Poll<io::Result<usize>> {
        let mut state = self.lock();
        loop {
            let read = state.session.read(most, &mut take);
            // An answer to a new key, or why it ends: whoever writes next would take it along, but may be nobody.
            state.send_now(&self.tcp);
            match read? {
                Read::Some(count) => return Poll::Ready(Ok(count)),
                Read::Ended => return Poll::Ready(Ok(0)),
                Read::Wants => {}
            }
            ready!(state.poll_receive(&self.tcp, context))?;
        }
    }

    /// Writes once of the parts, in their order. What it says was written is with the kernel. Cancelling loses nothing where
    /// the next write offers the same bytes first.
    pub(crate) fn poll_write(
        &self,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let offered = parts.iter().map(|part| part.len()).sum();
        if offered == 0 {
            return Poll::Ready(Ok(0));
        }
        let mut state = self.lock();
        if state.in_flight == 0 {
            state.in_flight = state.encrypt(parts)?;
        }
        ready!(state.poll_send(&self.tcp, context))?;
        let written = state.in_flight.min(offered);
        state.in_flight -= written;
        Poll::Ready(Ok(written))
    }

    /// Says that nothing more comes of us, by TLS and then by TCP.
    pub(super) fn poll_shutdown(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.lock();
        state.say_end();
        ready!(state.poll_send(&self.tcp, context))?;
        match SockRef::from(&self.tcp).shutdown(Shutdown::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            ended => Poll::Ready(ended),
        }
    }

    /// See [`super::Stream::is_still_open`]. What the other side has said that is no content (a ticket to resume by, new
    /// keys) is taken in.
    pub(super) fn is_still_open(&self) -> bool {
        let mut state = self.lock();
        while !dragoman_net::is_still_open(&self.tcp) {
            let received = state.session.receive(|out| dragoman_net::receive(&self.tcp, out));
            if !matches!(received, Ok(1..)) || !state.session.settle() {
                return false;
            }
        }
        state.send_now(&self.tcp);
        state.session.settle()
    }

    /// See [`super::Stream::seems_open`]. What was taken of the kernel and not read shows in the session alone.
    pub(super) fn seems_open(&self) -> bool {
        if !self.lock().session.is_quiet() {
            return self.is_still_open();
        }
        let asked = self.tcp.try_io(Interest::READABLE, || match self.is_still_open() {
            // All was taken in, and is forgotten.
            true => Err(io::ErrorKind::WouldBlock.into()),
            false => Ok(()),
        });
        asked.is_err()
    }

    /// Whether all that was to be said is with the kernel, the end included, which is said now.
    pub(crate) fn end_now(&self) -> bool {
        let mut state = self.lock();
        state.say_end();
        state.send_now(&self.tcp);
        state.session.outgoing().is_empty()
    }

    /// No end is to be said: the connection will be reset.
    pub(super) fn abandon(&self) {
        self.lock().said_end = true;
    }

    /// A panic in one flow ends one flow.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for TlsStream {
    fn drop(&mut self) {
        self.end_now();
    }
}

impl State {
    fn poll_send(&mut self, tcp: &TcpStream, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.session.outgoing().is_empty() {
            ready!(tcp.poll_write_ready(context))?;
            match tcp.try_write(self.session.outgoing()) {
                Ok(count) => self.session.sent(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// As much as the kernel takes at once. Nobody waits for more: a write that does has its own turn.
    fn send_now(&mut self, tcp: &TcpStream) {
        while !self.session.outgoing().is_empty() {
            match tcp.try_write(self.session.outgoing()) {
                Ok(count) => self.session.sent(count),
                // What breaks here shows when it is read or written.
                Err(_) => return,
            }
        }
    }

    /// Takes in what has come; 0 means that the connection below has ended.
    fn poll_receive(&mut self, tcp: &TcpStream, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            ready!(tcp.poll_read_ready(context))?;
            match self.session.receive(|out| receive(tcp, out)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => return Poll::Ready(received),
            }
        }
    }

    fn encrypt(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.said_end {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut filled = parts.iter().filter(|part| !part.is_empty());
        let count = match (filled.next(), filled.next()) {
            (Some(only), None) => self.session.write(only)?,
            // What goes well into one record is not spread over several.
            (Some(first), Some(_)) if first.len() < RECORD => {
                let mut together = Vec::with_capacity(RECORD);
                for part in parts {
                    let room = RECORD - together.len();
                    together.extend_from_slice(&part[..room.min(part.len())]);
                }
                self.session.write(&together)?
            }
            (Some(first), Some(_)) => self.session.write(first)?,
            (None, _) => 0,
        };
        Ok(count)
    }

    fn say_end(&mut self) {
        if !std::mem::replace(&mut self.said_end, true) {
            // One that has failed, or was never made, has no such end.
            let _ = self.session.close();
        }
    }
}

/// Reads bytes as they are, and throws them away.
pub(super) fn poll_discard(tcp: &TcpStream, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
    loop {
        ready!(tcp.poll_read_ready(context))?;
        match receive(tcp, &mut Vec::with_capacity(RECORD)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            received => return Poll::Ready(received),
        }
    }
}

/// Reads what has come. After a read that leaves room in its buffer there is nothing more, as the runtime knows of its own
/// reads: that saves the next wait a system call.
fn receive(tcp: &TcpStream, out: &mut Vec<u8>) -> io::Result<usize> {
    let room = out.capacity() - out.len();
    let mut received = 0;
    let asked = tcp.try_io(Interest::READABLE, || {
        received = dragoman_net::receive(tcp, out)?;
        if 0 < received && received < room { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    match asked {
        Err(error) if received == 0 => Err(error),
        _ => Ok(received),
    }
}
