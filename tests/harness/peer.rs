//! One scripted end of a connection. Every byte that arrives is kept, so that a case can compare what was
//! received with what was sent, byte by byte.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::SockRef;

use crate::wait;

/// How long a peer waits for the other side before a case counts as stuck.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes that more than one thread looks at.
#[derive(Clone, Debug, Default)]
pub struct Bytes(Arc<Mutex<Vec<u8>>>);

impl Bytes {
    /// What has arrived so far.
    pub fn so_far(&self) -> Vec<u8> {
        self.lock().clone()
    }

    /// How many bytes have arrived so far.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether nothing has arrived.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn extend(&self, bytes: &[u8]) {
        self.lock().extend_from_slice(bytes);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An HTTP/1 message as it stood on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Start line and header fields, with the empty line.
    pub head: String,
    /// The body as sent: chunk sizes, extensions and trailers included.
    pub body: Vec<u8>,
}

impl Message {
    /// The three words of the start line that matter: the second one of a response is its status.
    pub fn word(&self, n: usize) -> &str {
        self.head.lines().next().and_then(|line| line.split(' ').nth(n)).unwrap_or_default()
    }

    /// A response's status code; 0 where there is none.
    pub fn status(&self) -> u16 {
        self.word(1).parse().unwrap_or(0)
    }

    /// The first field of that name, in any case, without the white space around it.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn content_length(&self) -> Option<usize> {
        self.header("content-length").and_then(|value| value.parse().ok())
    }

    fn chunked(&self) -> bool {
        self.header("transfer-encoding").is_some_and(|value| value.to_ascii_lowercase().ends_with("chunked"))
    }
}

/// A TCP connection with a memory.
pub struct Peer {
    stream: TcpStream,
    received: Bytes,
    taken: usize,
}

impl Peer {
    /// Takes a connection over; reads and writes give up after 30 s.
    pub fn new(stream: TcpStream) -> Peer {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout above zero is valid");
        Peer::of_server(stream, Bytes::default())
    }

    /// Takes a connection over at a server: reads wait for as long as the case does, which on a busy machine lets many seconds
    /// pass between two requests, and a server that gave up would end a flow that the case holds open.
    pub(crate) fn of_server(stream: TcpStream, received: Bytes) -> Peer {
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout above zero is valid");
        stream.set_nodelay(true).expect("TCP has no-delay");
        Peer { stream, received, taken: 0 }
    }

    /// Where the other side is.
    pub fn peer(&self) -> SocketAddr {
        self.stream.peer_addr().expect("a connected socket has a peer")
    }

    /// This side's address.
    pub fn local(&self) -> SocketAddr {
        self.stream.local_addr().expect("a connected socket has an address")
    }

    /// The socket itself, for what is not offered here.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// All that has arrived since the beginning, whether a script has looked at it or not.
    pub fn received(&self) -> Bytes {
        self.received.clone()
    }

    /// Sends all of it.
    ///
    /// # Errors
    /// Those of `send(2)`; `WouldBlock` when the other side has not read for 30 s.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Sends byte by byte, evenly over `total`.
    ///
    /// # Errors
    /// As [`Peer::send`].
    pub fn send_slowly(&mut self, bytes: &[u8], total: Duration) -> io::Result<()> {
        let step = total / u32::try_from(bytes.len()).expect("a script is short");
        for byte in bytes {
            self.send([*byte])?;
            wait::pause(step);
        }
        Ok(())
    }

    /// Ends the sending direction alone.
    ///
    /// # Errors
    /// Those of `shutdown(2)`.
    pub fn finish_sending(&self) -> io::Result<()> {
        self.stream.shutdown(Shutdown::Write)
    }

    /// Ends the connection with a reset at once. Bytes that are not acknowledged are lost.
    ///
    /// # Errors
    /// Those of `setsockopt(2)`.
    pub fn reset(self) -> io::Result<()> {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))
    }

    /// Ends the connection with a reset when the other side's kernel has acknowledged every byte. For a
    /// thread of the socket's own namespace, as the script of an [`Origin`](crate::Origin) is.
    ///
    /// # Errors
    /// Those of `setsockopt(2)`.
    pub fn reset_when_acknowledged(self) -> io::Result<()> {
        self.wait_acknowledged();
        self.reset()
    }

    /// Waits until the other side's kernel has acknowledged every byte: whoever looks there finds them. For a thread of the
    /// socket's own namespace.
    pub fn wait_acknowledged(&self) {
        let what = "the other side acknowledges every byte";
        wait::until(what, PATIENCE, || unacknowledged(self.local(), self.peer()) == Some(0));
    }

    /// Waits for one more read, which may bring nothing.
    ///
    /// # Errors
    /// Those of `recv(2)`; `UnexpectedEof` at the end.
    pub fn more(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                self.received.lock().extend_from_slice(&buffer[..n]);
                Ok(())
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Takes exactly `n` bytes.
    ///
    /// # Errors
    /// As [`Peer::more`].
    pub fn read_exact(&mut self, n: usize) -> io::Result<Vec<u8>> {
        while self.waiting() < n {
            self.more()?;
        }
        Ok(self.take(n))
    }

    /// Takes up to and with the first `end`.
    ///
    /// # Errors
    /// As [`Peer::more`].
    pub fn read_until(&mut self, end: &[u8]) -> io::Result<Vec<u8>> {
        let mut searched = 0;
        loop {
            let found = {
                let all = self.received.lock();
                let rest = &all[self.taken..];
                let from = searched.min(rest.len());
                let at = rest[from..].windows(end.len()).position(|window| window == end).map(|at| at + from);
                searched = rest.len().saturating_sub(end.len() - 1);
                at
            };
            match found {
                Some(at) => return Ok(self.take(at + end.len())),
                None => self.more()?,
            }
        }
    }

    /// Takes everything until the other side ends its direction.
    ///
    /// # Errors
    /// Those of `recv(2)`: `ConnectionReset` is how a relayed reset shows.
    pub fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        loop {
            match self.more() {
                Ok(()) => {}
                Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(self.take(self.waiting())),
                Err(e) => return Err(e),
            }
        }
    }

    /// Takes everything until the end and says whether that was a reset.
    ///
    /// # Errors
    /// Those of `recv(2)` but `ConnectionReset`.
    pub fn read_to_reset(&mut self) -> io::Result<(Vec<u8>, bool)> {
        match self.read_to_end() {
            Ok(bytes) => Ok((bytes, false)),
            Err(e) if e.kind() == ErrorKind::ConnectionReset => Ok((self.take(self.waiting()), true)),
            Err(e) => Err(e),
        }
    }

    /// Takes one HTTP/1 request. `None` if the other side ended before its first byte.
    ///
    /// # Errors
    /// As [`Peer::more`].
    pub fn request(&mut self) -> io::Result<Option<Message>> {
        if self.waiting() == 0 {
            match self.more() {
                Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(None),
                result => result?,
            }
        }
        let mut message = self.head()?;
        message.body = match (message.chunked(), message.content_length()) {
            (true, _) => self.chunks()?,
            (false, length) => self.read_exact(length.unwrap_or(0))?,
        };
        Ok(Some(message))
    }

    /// Takes one HTTP/1 response to a request with `method`; an interim one (1xx) counts as one.
    ///
    /// # Errors
    /// As [`Peer::more`].
    pub fn response(&mut self, method: &str) -> io::Result<Message> {
        let mut message = self.head()?;
        let bodiless = matches!(message.status(), 100..=199 | 204 | 304)
            || method == "HEAD"
            || (method == "CONNECT" && matches!(message.status(), 200..=299));
        message.body = match message.content_length() {
            _ if bodiless => Vec::new(),
            _ if message.chunked() => self.chunks()?,
            Some(length) => self.read_exact(length)?,
            None => self.read_to_end()?,
        };
        Ok(message)
    }

    /// Sends a request and takes its final response.
    ///
    /// # Errors
    /// As [`Peer::send`] and [`Peer::more`].
    pub fn exchange(&mut self, request: impl AsRef<[u8]>) -> io::Result<Message> {
        let request = request.as_ref();
        self.send(request)?;
        let method = String::from_utf8_lossy(request.split(|b| *b == b' ').next().unwrap_or_default());
        loop {
            let response = self.response(&method)?;
            if !matches!(response.status(), 102..=199 | 100) {
                return Ok(response);
            }
        }
    }

    fn head(&mut self) -> io::Result<Message> {
        let head = self.read_until(b"\r\n\r\n")?;
        Ok(Message { head: String::from_utf8_lossy(&head).into_owned(), body: Vec::new() })
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.read_until(b"\r\n")?;
            let digits: String =
                line.iter().map(|b| char::from(*b)).take_while(char::is_ascii_hexdigit).collect();
            let size = usize::from_str_radix(&digits, 16).map_err(|_| ErrorKind::InvalidData)?;
            body.extend_from_slice(&line);
            if size == 0 {
                break;
            }
            body.extend_from_slice(&self.read_exact(size + 2)?);
        }
        loop {
            let line = self.read_until(b"\r\n")?;
            body.extend_from_slice(&line);
            if line == b"\r\n" {
                return Ok(body);
            }
        }
    }

    fn waiting(&self) -> usize {
        self.received.len() - self.taken
    }

    fn take(&mut self, n: usize) -> Vec<u8> {
        let all = self.received.lock();
        let taken = all[self.taken..self.taken + n].to_vec();
        drop(all);
        self.taken += n;
        taken
    }
}

/// Bytes written to a connection of this thread's namespace that are not acknowledged yet, from the
/// kernel's table (`tx_queue`); `None` where it has no such connection.
fn unacknowledged(local: SocketAddr, peer: SocketAddr) -> Option<u64> {
    let file = if local.is_ipv4() { "/proc/thread-self/net/tcp" } else { "/proc/thread-self/net/tcp6" };
    let table = fs::read_to_string(file).unwrap_or_else(|e| panic!("{file}: {e}"));
    let (local, peer) = (format!(":{:04X}", local.port()), format!(":{:04X}", peer.port()));
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let queue =
            (fields.get(1)?.ends_with(&local) && fields.get(2)?.ends_with(&peer)).then_some(fields[4])?;
        u64::from_str_radix(queue.split(':').next()?, 16).ok()
    })
}
