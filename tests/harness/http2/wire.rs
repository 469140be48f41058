//! One end of an HTTP/2 connection that does what a script says, frame by frame, right or wrong.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::frame::{Frame, MAX_PAYLOAD, PREFACE, WINDOW, flag, kind};
use super::hpack::{self, Decoder, Field};
use crate::peer::Peer;

/// What arrived.
#[expect(missing_docs, reason = "the fields are those of the frames")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A field section: HEADERS with its CONTINUATIONs.
    Fields { stream: u32, fields: Vec<Field>, end: bool },
    /// DATA without its padding.
    Data { stream: u32, bytes: Vec<u8>, end: bool },
    /// RST_STREAM.
    Reset { stream: u32, code: u32 },
    /// GOAWAY.
    GoAway { last: u32, code: u32 },
    /// WINDOW_UPDATE.
    Window { stream: u32, increment: u32 },
    /// SETTINGS.
    Settings(Vec<(u16, u32)>),
    /// An acknowledgement of SETTINGS.
    SettingsAck,
    /// PING.
    Ping([u8; 8]),
    /// An answer to PING.
    Pong([u8; 8]),
    /// Every other frame.
    Other(Frame),
}

impl Event {
    fn of_stream(&self, wanted: u32) -> bool {
        matches!(self, Event::Fields { stream, .. } | Event::Data { stream, .. } | Event::Reset { stream, .. }
            if *stream == wanted)
    }
}

/// How a stream's receiving direction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// END_STREAM.
    Whole,
    /// RST_STREAM with this code.
    Reset(u32),
    /// GOAWAY with a last stream below this one, and this code.
    GoneAway(u32),
}

/// All that came on one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Heads with a status of 1xx.
    pub interim: Vec<Vec<Field>>,
    /// The final head; empty if there was none.
    pub fields: Vec<Field>,
    /// The whole body.
    pub body: Vec<u8>,
    /// The fields after the body.
    pub trailers: Vec<Field>,
    /// How it ended.
    pub end: End,
}

impl Response {
    /// The status; 0 if there was no head.
    pub fn status(&self) -> u16 {
        self.field(":status").and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// The first field of that name in the head.
    pub fn field(&self, name: &str) -> Option<&str> {
        value(&self.fields, name)
    }

    /// The first field of that name after the body.
    pub fn trailer(&self, name: &str) -> Option<&str> {
        value(&self.trailers, name)
    }
}

/// The first value of that name.
pub fn value<'f>(fields: &'f [Field], name: &str) -> Option<&'f str> {
    fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// A connection.
pub struct Wire {
    pub(super) peer: Peer,
    pub(super) decoder: Decoder,
    unread: VecDeque<Event>,
    // A field section whose end has not come yet, and whether its stream ends with it.
    pub(super) block: Vec<u8>,
    pub(super) ends_stream: bool,
    pub(super) connection_window: i64,
    pub(super) initial_window: i64,
    pub(super) stream_windows: BTreeMap<u32, i64>,
    sent: Arc<AtomicUsize>,
    /// A frame whose payload has not come yet, and its length.
    pub(super) headed: Option<(usize, Frame)>,
    /// Gives each window back as DATA arrives. On from the start; off, this side is a reader that stalls.
    pub credits: bool,
    /// Acknowledges SETTINGS and PING. On from the start.
    pub acknowledges: bool,
}

impl Wire {
    /// A client: says the preface and these settings, and waits for nothing.
    ///
    /// # Errors
    /// Those of `send(2)`.
    pub fn client(peer: Peer, settings: &[(u16, u32)]) -> io::Result<Wire> {
        let mut wire = Wire::begun(peer);
        wire.raw(&[PREFACE, &Frame::settings(settings).bytes()].concat())?;
        Ok(wire)
    }

    /// A server: says its settings at once, as gRPC servers do, then takes the client's preface.
    ///
    /// # Errors
    /// Those of `send(2)` and `recv(2)`; `InvalidData` where the client says something else.
    pub fn server(peer: Peer, settings: &[(u16, u32)]) -> io::Result<Wire> {
        let mut wire = Wire::begun(peer);
        wire.send(&Frame::settings(settings))?;
        match wire.peer.read_exact(PREFACE.len())? == PREFACE {
            true => Ok(wire),
            false => Err(ErrorKind::InvalidData.into()),
        }
    }

    /// A client whose script has said the preface and the settings itself.
    pub fn begun(peer: Peer) -> Wire {
        Wire {
            peer,
            decoder: Decoder::default(),
            unread: VecDeque::new(),
            block: Vec::new(),
            ends_stream: false,
            connection_window: signed(WINDOW),
            initial_window: signed(WINDOW),
            stream_windows: BTreeMap::new(),
            sent: Arc::default(),
            headed: None,
            credits: true,
            acknowledges: true,
        }
    }

    /// The TCP connection below.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Leaves the TCP connection to the script.
    pub fn into_peer(self) -> Peer {
        self.peer
    }

    /// Bytes of DATA that this side has sent so far, for another thread to look at.
    pub fn sent(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.sent)
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// Those of `send(2)`.
    pub fn send(&mut self, frame: &Frame) -> io::Result<()> {
        self.raw(&frame.bytes())
    }

    /// Sends bytes that need not be a frame.
    ///
    /// # Errors
    /// Those of `send(2)`.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.peer.send(bytes)
    }

    /// Sends a field section; what does not fit into one frame goes into CONTINUATIONs.
    ///
    /// # Errors
    /// Those of `send(2)`.
    pub fn fields(&mut self, stream: u32, fields: &[(&str, &str)], end: bool) -> io::Result<()> {
        let block = hpack::encode(fields);
        let chunks: Vec<&[u8]> = block.chunks(MAX_PAYLOAD).collect();
        let mut bytes = Vec::with_capacity(block.len() + 9 * chunks.len());
        for (n, chunk) in chunks.iter().enumerate() {
            let kind = if n == 0 { kind::HEADERS } else { kind::CONTINUATION };
            let last = if n + 1 == chunks.len() { flag::END_HEADERS } else { 0 };
            let end = if n == 0 && end { flag::END_STREAM } else { 0 };
            bytes.extend(Frame::new(kind, last | end, stream, *chunk).bytes());
        }
        self.raw(&bytes)
    }

    /// Sends a whole request without a body.
    ///
    /// # Errors
    /// Those of `send(2)`.
    pub fn get(&mut self, stream: u32, path: &str) -> io::Result<()> {
        self.fields(stream, &request("GET", path), true)
    }

    /// Sends a whole request with a body.
    ///
    /// # Errors
    /// As [`Wire::data`].
    pub fn post(&mut self, stream: u32, path: &str, body: &[u8]) -> io::Result<()> {
        self.fields(stream, &request("POST", path), false)?;
        self.data(stream, body, true)
    }

    /// Sends a whole response.
    ///
    /// # Errors
    /// As [`Wire::data`].
    pub fn respond(&mut self, stream: u32, status: &str, body: &[u8]) -> io::Result<()> {
        self.fields(stream, &[(":status", status)], body.is_empty())?;
        if body.is_empty() { Ok(()) } else { self.data(stream, body, true) }
    }

    /// Sends a body within the windows that the other side gives, and reads while it waits for them.
    ///
    /// # Errors
    /// Those of `send(2)` and `recv(2)`; `ConnectionAborted` where the other side resets the stream.
    pub fn data(&mut self, stream: u32, body: &[u8], end: bool) -> io::Result<()> {
        let mut rest = body;
        loop {
            let room = self.room(stream).min(MAX_PAYLOAD);
            let (now, later) = rest.split_at(rest.len().min(room));
            if !now.is_empty() || rest.is_empty() {
                let last = later.is_empty() && end;
                self.send(&Frame::new(kind::DATA, if last { flag::END_STREAM } else { 0 }, stream, now))?;
                self.sent.fetch_add(now.len(), Ordering::Relaxed);
                self.connection_window -= signed(now.len());
                *self.stream_window(stream) -= signed(now.len());
                rest = later;
            }
            if rest.is_empty() {
                return Ok(());
            }
            if now.is_empty() {
                self.wait_for_window(stream)?;
            }
        }
    }

    /// How many bytes of DATA the other side would take on a stream now.
    pub fn room(&mut self, stream: u32) -> usize {
        let room = (*self.stream_window(stream)).min(self.connection_window).max(0);
        usize::try_from(room).expect("not below zero")
    }

    pub(super) fn stream_window(&mut self, stream: u32) -> &mut i64 {
        self.stream_windows.entry(stream).or_insert(self.initial_window)
    }

    fn wait_for_window(&mut self, stream: u32) -> io::Result<()> {
        let event = self.read()?;
        let broken = matches!(event, Event::Reset { stream: reset, .. } if reset == stream);
        self.unread.push_back(event);
        if broken { Err(ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }

    /// Takes what came first and was not taken yet, or waits for it. After a timeout of the socket it may be
    /// called again.
    ///
    /// # Errors
    /// Those of `recv(2)`; `UnexpectedEof` at the end; `InvalidData` for a broken frame.
    pub fn event(&mut self) -> io::Result<Event> {
        match self.unread.pop_front() {
            Some(event) => Ok(event),
            None => self.read(),
        }
    }

    /// Takes the first event that `look` finds something in; what it passes over stays to be taken.
    ///
    /// # Errors
    /// As [`Wire::event`].
    pub fn take<T>(&mut self, mut look: impl FnMut(&Event) -> Option<T>) -> io::Result<T> {
        for at in 0..self.unread.len() {
            if let Some(found) = look(&self.unread[at]) {
                self.unread.remove(at);
                return Ok(found);
            }
        }
        loop {
            let event = self.read()?;
            match look(&event) {
                Some(found) => return Ok(found),
                None => self.unread.push_back(event),
            }
        }
    }

    /// Takes all that comes on a stream until it ends.
    ///
    /// # Errors
    /// As [`Wire::event`].
    pub fn response(&mut self, stream: u32) -> io::Result<Response> {
        let mut response = Response {
            interim: Vec::new(),
            fields: Vec::new(),
            body: Vec::new(),
            trailers: Vec::new(),
            end: End::Whole,
        };
        loop {
            let event = self.take(|event| {
                let gone = matches!(event, Event::GoAway { last, .. } if *last < stream);
                (gone || event.of_stream(stream)).then(|| event.clone())
            })?;
            match event {
                Event::Fields { fields, end, .. } => {
                    if value(&fields, ":status").is_some_and(|status| status.starts_with('1')) {
                        response.interim.push(fields);
                    } else if response.fields.is_empty() {
                        response.fields = fields;
                    } else {
                        response.trailers = fields;
                    }
                    if end {
                        return Ok(response);
                    }
                }
                Event::Data { bytes, end, .. } => {
                    response.body.extend(bytes);
                    if end {
                        return Ok(response);
                    }
                }
                Event::Reset { code, .. } => return Ok(Response { end: End::Reset(code), ..response }),
                Event::GoAway { code, .. } => return Ok(Response { end: End::GoneAway(code), ..response }),
                _ => unreachable!("not taken above"),
            }
        }
    }

    /// Reads until the other side ends the connection, and returns the code of its last GOAWAY. A reset is
    /// an end too.
    ///
    /// # Errors
    /// Those of `recv(2)` but `ConnectionReset`; `InvalidData` for a broken frame.
    pub fn ended_with(&mut self) -> io::Result<Option<u32>> {
        let mut last = None;
        loop {
            match self.event() {
                Ok(Event::GoAway { code, .. }) => last = Some(code),
                Ok(_) => {}
                Err(e) => match e.kind() {
                    ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                        return Ok(last);
                    }
                    _ => return Err(e),
                },
            }
        }
    }

    /// Waits until a PING of this side is answered: what was sent before it has been read.
    ///
    /// # Errors
    /// As [`Wire::event`].
    pub fn round_trip(&mut self) -> io::Result<()> {
        const MARK: [u8; 8] = *b"are you?";
        self.send(&Frame::ping(MARK))?;
        self.take(|event| (*event == Event::Pong(MARK)).then_some(()))
    }
}

/// The pseudo-fields of a request.
pub fn request<'r>(method: &'r str, path: &'r str) -> [(&'r str, &'r str); 4] {
    [(":method", method), (":scheme", "http"), (":authority", "a.test"), (":path", path)]
}

pub(super) fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).expect("a window is below 2 GiB")
}
