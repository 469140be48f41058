//! One TLS connection without its socket: bytes of the network in and out, plain bytes in and out.
//!
//! It stands on the interface of rustls that keeps no buffers of its own, so that a connection which waits holds none: what
//! has come is processed where it lies, and what is to go out stands in one buffer until the socket has taken it.

mod error;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic};
use rustls::{CommonState, HandshakeKind, ProtocolVersion, ServerConfig};

use crate::client::ClientSide;
use crate::failure::{Failure, FailureKind};
use crate::tickets::ConnectionTickets;
use error::failure_of;

/// The most that one record holds (RFC 8446 §5.1), in bytes.
pub const RECORD: usize = 16 * 1024;

/// What goes with a record at most: its header, nonce, type and tag.
const OVERHEAD: usize = 64;

/// What is encrypted at once, at most.
const WRITE: usize = 4 * RECORD;

/// What is read at once, of a peer that has little to say and of one that has much.
const SMALL_READ: usize = RECORD + 512;
const LARGE_READ: usize = 4 * SMALL_READ;

/// With less room than that, more is made: a peer that sends single bytes does not have it made for each.
const LEAST_READ: usize = 4 * 1024;

/// The most that may wait for its rest: a message of the handshake, in records of a sensible size. One byte a record is none.
const MOST_UNPROCESSED: usize = 512 * 1024;

/// A TLS connection, of either side.
pub struct Session {
    connection: Connection,
    buffers: Buffers,
    /// The peer has said its last word (close_notify).
    closed: bool,
    /// The network has ended.
    ended: bool,
    /// We have said our last word, and nothing came after it.
    unanswered: bool,
    /// Why nothing more comes of it.
    failed: Option<Failure>,
    /// What is given to resume by, which is weighed here.
    tickets: Option<Arc<ConnectionTickets>>,
    /// What the last step took in that is no content, or all steps of the handshake together, in bytes.
    taken_in: usize,
}

enum Connection {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// Each takes memory only while something stands in it.
#[derive(Default)]
struct Buffers {
    /// What came and is not processed. It stays where it is until rustls lets go of it.
    incoming: Vec<u8>,
    processed: usize,
    /// The last read filled all the room: there is more.
    flood: bool,
    /// What is to go out.
    outgoing: Vec<u8>,
    sent: usize,
    /// What was decrypted and found no room.
    plain: Vec<u8>,
    taken: usize,
}

/// What a read has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// So many plain bytes; never none.
    Some(usize),
    /// More of the network is needed first.
    Wants,
    /// The peer has said that it ends.
    Ended,
}

/// What to do once the connection is ready for it.
enum Wish<'a> {
    Read,
    Write(&'a [u8]),
    Close,
}

enum Step {
    /// There may be more to do at once.
    Again,
    /// The wish is done; for a read: nothing more can be done without the network.
    Done,
    /// The handshake needs the network.
    Blocked,
    /// The peer has said its last word.
    Closed,
}

impl Session {
    /// The client's side, towards a server of that name. Its first message waits to be sent.
    ///
    /// # Errors
    /// The configuration is of no use for that name.
    pub fn client(side: impl Into<ClientSide>, name: ServerName<'static>) -> Result<Self, Failure> {
        let ClientSide { config, tickets } = side.into();
        let connection =
            UnbufferedClientConnection::new(config, name).map_err(|error| failure_of(&error, false))?;
        let mut session = Self { tickets, ..Self::new(Connection::Client(connection)) };
        session.advance()?;
        Ok(session)
    }

    /// The server's side.
    ///
    /// # Errors
    /// The configuration is of no use.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, Failure> {
        let connection =
            UnbufferedServerConnection::new(config).map_err(|error| failure_of(&error, false))?;
        Ok(Self::new(Connection::Server(connection)))
    }

    fn new(connection: Connection) -> Self {
        Self {
            connection,
            buffers: Buffers::default(),
            closed: false,
            ended: false,
            unanswered: false,
            failed: None,
            tickets: None,
            taken_in: 0,
        }
    }

    /// Whether the two sides still have to agree.
    pub fn is_handshaking(&self) -> bool {
        self.state().is_handshaking()
    }

    /// The protocol that both sides agreed to speak.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.state().alpn_protocol()
    }

    /// The version of TLS.
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.state().protocol_version()
    }

    /// Whether it goes on with what an earlier connection agreed, without certificates.
    pub fn is_resumed(&self) -> bool {
        self.state().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The peer's certificate and what it sent with it; that of the earlier connection where this one is resumed.
    pub fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.state().peer_certificates()
    }

    /// Takes bytes of the network: what `read` appends to its vector, into the room that this has. No byte is the
    /// network's end.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn receive(&mut self, read: impl FnOnce(&mut Vec<u8>) -> io::Result<usize>) -> io::Result<usize> {
        let Buffers { incoming, processed, flood, .. } = &mut self.buffers;
        incoming.drain(..std::mem::take(processed));
        if incoming.capacity() - incoming.len() < LEAST_READ {
            incoming.reserve_exact(if *flood { LARGE_READ } else { SMALL_READ });
        }
        let count = read(incoming);
        match count {
            Ok(0) => self.ended = true,
            Ok(_) => {
                *flood = incoming.len() == incoming.capacity();
                self.unanswered = false;
            }
            Err(_) => {}
        }
        self.buffers.release_incoming();
        count
    }

    /// What is to be sent. It is to go out before anything is waited for.
    pub fn outgoing(&self) -> &[u8] {
        &self.buffers.outgoing[self.buffers.sent..]
    }

    /// The network has taken so much of what is to be sent.
    pub fn sent(&mut self, count: usize) {
        let Buffers { outgoing, sent, .. } = &mut self.buffers;
        *sent += count;
        if *sent >= outgoing.len() {
            (*outgoing, *sent) = (Vec::new(), 0);
        }
    }

    /// Does what can be done for the handshake; plain bytes that came with its end are kept.
    ///
    /// # Errors
    /// Why there will be no connection. What tells the peer so is to be sent.
    pub fn advance(&mut self) -> Result<(), Failure> {
        // Its last message may still have to be put into bytes.
        while self.is_handshaking() || self.state().wants_write() {
            match self.step(&Wish::Read, 0, &mut |_| {})? {
                Step::Again => {}
                Step::Done | Step::Blocked | Step::Closed => break,
            }
        }
        Ok(())
    }

    /// Gives plain bytes to `take`, at most so many in all.
    ///
    /// # Errors
    /// Why nothing more comes, after all that came before it.
    pub fn read(&mut self, most: usize, mut take: impl FnMut(&[u8])) -> Result<Read, Failure> {
        let mut count = self.buffers.take_plain(most, &mut take);
        while count < most && !self.closed {
            let mut came = 0;
            let step = self.step(&Wish::Read, most - count, &mut |bytes| {
                came += bytes.len();
                take(bytes);
            });
            count += came;
            match step {
                Ok(Step::Again) => {}
                Ok(Step::Done | Step::Blocked | Step::Closed) => break,
                Err(failure) if count == 0 => return Err(failure),
                Err(_) => break,
            }
        }
        Ok(match count {
            0 if self.closed => Read::Ended,
            0 => Read::Wants,
            count => Read::Some(count),
        })
    }

    /// Takes in what has come and is no content. Whether the peer may say more, and has said nothing that was not read. Of a
    /// record that has not come whole nobody can tell yet whether it is content: it is taken for some.
    pub fn settle(&mut self) -> bool {
        while !self.closed {
            match self.step(&Wish::Read, 0, &mut |_| {}) {
                Ok(Step::Again) => {}
                Ok(Step::Done) => return self.is_quiet(),
                Ok(Step::Blocked | Step::Closed) | Err(_) => return false,
            }
        }
        false
    }

    /// Whether the peer may say more, and nothing has come of it that was not read or taken in.
    pub fn is_quiet(&self) -> bool {
        let nothing_waits = self.buffers.plain.is_empty() && self.buffers.unprocessed() == 0;
        nothing_waits && !self.closed && !self.ended && self.failed.is_none()
    }

    /// Encrypts the first of these bytes; they then wait to be sent. Returns how many.
    ///
    /// # Errors
    /// The connection has failed before.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        let bytes = &bytes[..bytes.len().min(WRITE)];
        self.wish(&Wish::Write(bytes))?;
        Ok(bytes.len())
    }

    /// Says that nothing more comes of us (close_notify), once.
    ///
    /// # Errors
    /// The connection has failed before, or was never made.
    pub fn close(&mut self) -> Result<(), Failure> {
        self.wish(&Wish::Close)?;
        self.unanswered = self.buffers.unprocessed() == 0 && self.buffers.plain.is_empty();
        Ok(())
    }

    /// Whether we have said that nothing more comes of us, and nothing has come since. Many a peer then ends the connection
    /// without a word: it has nobody to say it to.
    pub fn is_unanswered(&self) -> bool {
        self.unanswered
    }

    fn wish(&mut self, wish: &Wish<'_>) -> Result<(), Failure> {
        loop {
            match self.step(wish, 0, &mut |_| {})? {
                Step::Again | Step::Closed => {}
                Step::Done => return Ok(()),
                Step::Blocked => {
                    return Err(Failure::new(FailureKind::Closed, "there is no TLS connection yet"));
                }
            }
        }
    }

    /// What the network's end is, where the peer has not said before that it ends.
    fn cut_off(&self) -> Failure {
        match self.is_handshaking() {
            true => Failure::new(
                FailureKind::Closed,
                "the peer ended the connection in the middle of the TLS handshake",
            ),
            false => Failure::new(
                FailureKind::Truncated,
                "the connection ended without TLS's own end (close_notify)",
            ),
        }
    }

    fn step(&mut self, wish: &Wish<'_>, most: usize, take: &mut dyn FnMut(&[u8])) -> Result<Step, Failure> {
        if let Some(failure) = &self.failed {
            return Err(failure.clone());
        }
        let was_handshaking = self.is_handshaking();
        let Buffers { incoming, processed, .. } = &mut self.buffers;
        let mut waiting = std::mem::take(incoming);
        let come = &mut waiting[*processed..];
        let (outgoing, plain) = (&mut self.buffers.outgoing, &mut self.buffers.plain);
        let mut io = Io { outgoing, plain, most, take, content: 0 };
        let (discard, step) = match &mut self.connection {
            Connection::Client(client) => io.handle(client.process_tls_records(come), wish),
            Connection::Server(server) => io.handle(server.process_tls_records(come), wish),
        };
        let content = io.content;
        self.buffers.incoming = waiting;
        self.buffers.processed += discard;
        self.taken_in = discard.saturating_sub(content) + if was_handshaking { self.taken_in } else { 0 };
        self.weigh_tickets(content > 0);
        self.buffers.release_incoming();
        match step {
            Ok(Step::Closed) => {
                self.closed = true;
                Ok(Step::Closed)
            }
            Ok(Step::Done | Step::Blocked) if self.ended && !self.closed && matches!(wish, Wish::Read) => {
                let cut_off = self.cut_off();
                Err(self.fail(cut_off))
            }
            Ok(Step::Done | Step::Blocked) if self.buffers.unprocessed() > MOST_UNPROCESSED => {
                Err(self.fail(Failure::new(FailureKind::Protocol, "a TLS message that does not end")))
            }
            Ok(step) => Ok(step),
            Err(error) => {
                let failure = failure_of(&error, self.version().is_some());
                self.last_words();
                Err(self.fail(failure))
            }
        }
    }

    /// What holds a ticket was taken in with it, or still stands there: rustls lets go of it when no message has begun in it that
    /// has not ended, and before content. In TLS 1.2 it is a message of the handshake, at whose end the session is given.
    fn weigh_tickets(&self, is_with_content: bool) {
        let Some(tickets) = &self.tickets else { return };
        let left = if is_with_content { 0 } else { self.buffers.unprocessed() };
        tickets.weigh(self.taken_in + left, || {
            let certificates = self.peer_certificates().unwrap_or_default();
            certificates.iter().map(|certificate| certificate.len()).sum()
        });
    }

    fn fail(&mut self, failure: Failure) -> Failure {
        (self.buffers.incoming, self.buffers.processed) = (Vec::new(), 0);
        self.failed.insert(failure).clone()
    }

    /// The alert that tells the peer what is wrong.
    fn last_words(&mut self) {
        while self.state().wants_write() {
            let mut io = Io {
                outgoing: &mut self.buffers.outgoing,
                plain: &mut self.buffers.plain,
                most: 0,
                take: &mut |_| {},
                content: 0,
            };
            // Nothing of what came is looked at while something waits to be said.
            let (_, step) = match &mut self.connection {
                Connection::Client(client) => io.handle(client.process_tls_records(&mut []), &Wish::Read),
                Connection::Server(server) => io.handle(server.process_tls_records(&mut []), &Wish::Read),
            };
            if !matches!(step, Ok(Step::Again)) {
                return;
            }
        }
    }

    fn state(&self) -> &CommonState {
        match &self.connection {
            Connection::Client(client) => client,
            Connection::Server(server) => server,
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("is_handshaking", &self.is_handshaking())
            .field("unprocessed", &self.buffers.unprocessed())
            .field("outgoing", &self.outgoing().len())
            .field("closed", &self.closed)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

impl Buffers {
    fn unprocessed(&self) -> usize {
        self.incoming.len() - self.processed
    }

    fn release_incoming(&mut self) {
        if self.unprocessed() == 0 {
            (self.incoming, self.processed) = (Vec::new(), 0);
        }
    }

    fn take_plain(&mut self, most: usize, take: &mut impl FnMut(&[u8])) -> usize {
        let count = most.min(self.plain.len() - self.taken);
        if count > 0 {
            take(&self.plain[self.taken..self.taken + count]);
            self.taken += count;
            if self.taken == self.plain.len() {
                (self.plain, self.taken) = (Vec::new(), 0);
            }
        }
        count
    }
}

/// Where one step puts what it makes.
struct Io<'a> {
    outgoing: &'a mut Vec<u8>,
    plain: &'a mut Vec<u8>,
    most: usize,
    take: &'a mut dyn FnMut(&[u8]),
    /// How much of what came was content, in bytes.
    content: usize,
}

impl Io<'_> {
    /// One state of the connection. Returns how much of what came is done with.
    fn handle<Data>(
        &mut self,
        status: UnbufferedStatus<'_, '_, Data>,
        wish: &Wish<'_>,
    ) -> (usize, Result<Step, rustls::Error>) {
        let mut discard = status.discard;
        let step = match status.state {
            Err(error) => Err(error),
            Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
                match traffic.next_record() {
                    None => break Ok(Step::Again),
                    Some(Err(error)) => break Err(error),
                    Some(Ok(record)) => {
                        discard += record.discard;
                        self.content += record.payload.len();
                        self.give(record.payload);
                    }
                }
            },
            Ok(ConnectionState::EncodeTlsData(mut message)) => {
                append(self.outgoing, 0, |room| message.encode(room).map_err(|error| too_small(&error)))
                    .map(|()| Step::Again)
            }
            // It stands in the one buffer that all goes out of, in its order.
            Ok(ConnectionState::TransmitTlsData(sent)) => {
                sent.done();
                Ok(Step::Again)
            }
            Ok(ConnectionState::PeerClosed) => Ok(Step::Closed),
            Ok(ConnectionState::Closed) => Ok(Step::Done),
            Ok(ConnectionState::BlockedHandshake) => Ok(Step::Blocked),
            Ok(ConnectionState::WriteTraffic(traffic)) => self.write(traffic, wish).map(|()| Step::Done),
            // Never offered and never taken.
            Ok(_) => Err(rustls::Error::General("0-RTT data".into())),
        };
        (discard, step)
    }

    fn give(&mut self, bytes: &[u8]) {
        let (now, later) = bytes.split_at(if self.plain.is_empty() { self.most.min(bytes.len()) } else { 0 });
        if !now.is_empty() {
            (self.take)(now);
            self.most -= now.len();
        }
        self.plain.extend_from_slice(later);
    }

    fn write<Data>(
        &mut self,
        mut traffic: WriteTraffic<'_, Data>,
        wish: &Wish<'_>,
    ) -> Result<(), rustls::Error> {
        match wish {
            Wish::Read => Ok(()),
            Wish::Write(bytes) => {
                let room = bytes.len() + (bytes.len() / RECORD + 1) * OVERHEAD;
                append(self.outgoing, room, |room| {
                    traffic.encrypt(bytes, room).map_err(|error| refused(&error))
                })
            }
            Wish::Close => append(self.outgoing, OVERHEAD, |room| {
                traffic.queue_close_notify(room).map_err(|error| refused(&error))
            }),
        }
    }
}

/// The room that is needed, or why none would do.
type Refused = Result<usize, rustls::Error>;

fn too_small(error: &EncodeError) -> Refused {
    match error {
        EncodeError::InsufficientSize(size) => Ok(size.required_size),
        EncodeError::AlreadyEncoded => Err(rustls::Error::General(error.to_string())),
    }
}

fn refused(error: &EncryptError) -> Refused {
    match error {
        EncryptError::InsufficientSize(size) => Ok(size.required_size),
        EncryptError::EncryptExhausted => Err(rustls::Error::EncryptError),
    }
}

/// Appends what `write` writes into the room that it is given, which is at first so large.
fn append(
    out: &mut Vec<u8>,
    mut room: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Refused>,
) -> Result<(), rustls::Error> {
    let end = out.len();
    loop {
        out.resize(end + room, 0);
        match write(&mut out[end..]) {
            Ok(count) => {
                out.truncate(end + count);
                return Ok(());
            }
            Err(Ok(needed)) if needed > room => room = needed,
            Err(other) => {
                out.truncate(end);
                return Err(other.err().unwrap_or(rustls::Error::EncryptError));
            }
        }
    }
}
