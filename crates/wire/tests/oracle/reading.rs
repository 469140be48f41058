//! What a reader made of the bytes of one connection, in terms that two readers share.

use dragoman_wire::http1::{BadBody, Body, BodyReader, Field, Limits, RequestHead, ResponseHead};

/// The messages of one direction of a connection, and how it ended.
#[derive(Debug, PartialEq)]
pub(crate) struct Reading {
    pub(crate) messages: Vec<Message>,
    pub(crate) end: End,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Message {
    pub(crate) head: Head,
    /// As far as it was read, without chunk framing and trailers; escaped, to be read in a failure.
    pub(crate) body: String,
    /// Whether the end of the body was seen. Only the last message may lack it.
    pub(crate) whole: bool,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Head {
    /// What a route is chosen by (method, authority, path and query), or the status.
    pub(crate) start: String,
    /// Names in lower case, sorted by them; equal names keep their order. Values are escaped.
    pub(crate) fields: Vec<(String, String)>,
}

#[derive(Debug, PartialEq)]
pub(crate) enum End {
    /// Between two messages.
    Clean,
    /// A message said that it is the last; what follows it is not read.
    Last,
    /// The bytes ended inside a head.
    CutInHead,
    /// The bytes ended inside a body.
    CutInBody,
    /// A tunnel begins.
    Tunnel,
    /// The reader gave up; the text says why.
    Refused(String),
}

impl Head {
    pub(crate) fn new<'a>(start: String, fields: impl Iterator<Item = (String, &'a [u8])>) -> Self {
        let mut fields: Vec<_> = fields.map(|(name, value)| (name, escaped(value))).collect();
        fields.sort_by(|(a, _), (b, _)| a.cmp(b));
        // Both readers make sure that lengths which are stated twice agree; hyper's server keeps only the first.
        fields.dedup_by(|a, b| a.0 == b.0 && a.0 == "content-length");
        Self { start, fields }
    }
}

/// One text of what a route is chosen by, for both readers.
pub(crate) fn request_facts(method: &str, authority: &str, path: &str, query: &str) -> String {
    format!("{method} {authority} {path} ?{query}")
}

pub(crate) fn escaped(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// What dragoman reads from a client.
pub(crate) fn requests(bytes: &[u8]) -> Reading {
    let mut reading = Reading { messages: Vec::new(), end: End::Clean };
    let mut head = RequestHead::default();
    let mut rest = bytes;
    loop {
        let length = match head.parse(rest, &Limits::default()) {
            Ok(Some(length)) => length,
            Ok(None) => return reading.ended(unfinished(rest)),
            Err(why) => return reading.ended(End::Refused(why.to_string())),
        };
        let start = request_facts(
            head.method(rest),
            head.authority(rest).unwrap_or_default(),
            head.path(rest),
            &escaped(head.query(rest)),
        );
        let (message, taken) = message(start, rest, head.fields(), head.body(), length);
        match reading.take(message, taken) {
            Some(taken) => rest = &rest[taken..],
            None => return reading,
        }
        if head.is_connect() {
            return reading.ended(End::Tunnel);
        }
        if !head.keeps_alive() {
            return reading.ended(End::Last);
        }
    }
}

/// What dragoman reads from a server that answers one request of that method.
pub(crate) fn responses(bytes: &[u8], method: &str) -> Reading {
    let mut reading = Reading { messages: Vec::new(), end: End::Clean };
    let mut head = ResponseHead::default();
    let mut rest = bytes;
    loop {
        let length = match head.parse(rest, &Limits::default()) {
            Ok(Some(length)) => length,
            Ok(None) => return reading.ended(End::CutInHead),
            Err(why) => return reading.ended(End::Refused(why.to_string())),
        };
        if matches!(head.status(), 100 | 102..=199) {
            rest = &rest[length..];
            continue;
        }
        let start = head.status().to_string();
        let (message, taken) = message(start, rest, head.fields(), head.body_for(method), length);
        if reading.take(message, taken).is_none() {
            return reading;
        }
        let tunnel = head.status() == 101 || (method == "CONNECT" && head.status() / 100 == 2);
        return if tunnel { reading.ended(End::Tunnel) } else { reading };
    }
}

impl Reading {
    fn ended(self, end: End) -> Self {
        Self { end, ..self }
    }

    /// How many bytes the message has, if it is whole.
    fn take(&mut self, message: Message, taken: Result<usize, BadBody>) -> Option<usize> {
        let whole = message.whole;
        self.messages.push(message);
        match taken {
            Ok(taken) if whole => return Some(taken),
            Ok(_) => self.end = End::CutInBody,
            Err(why) => self.end = End::Refused(why.to_string()),
        }
        None
    }
}

/// The message whose head is the first `length` of `bytes`, and the length of all that was taken.
fn message(
    start: String,
    bytes: &[u8],
    fields: &[Field],
    body: Body,
    length: usize,
) -> (Message, Result<usize, BadBody>) {
    let name = |field: &Field| String::from_utf8_lossy(field.name.of(bytes)).to_ascii_lowercase();
    let head = Head::new(start, fields.iter().map(|field| (name(field), field.value.of(bytes))));
    let mut reader = BodyReader::new(body);
    let taken = reader.advance(&bytes[length..]);
    let raw = taken.map_or(&[][..], |taken| &bytes[length..length + taken]);
    let content = if body == Body::Chunked { chunk_data(raw) } else { raw.to_vec() };
    let message =
        Message { head, body: escaped(&content), whole: taken.is_ok() && reader.may_end_at_close() };
    (message, taken.map(|taken| length + taken))
}

/// The data of chunks that a strict reader has accepted.
fn chunk_data(mut raw: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    while let Some(end) = raw.windows(2).position(|pair| pair == b"\r\n") {
        let digits = raw[..end].split(|&byte| byte == b';').next().unwrap_or_default();
        let size = std::str::from_utf8(digits)
            .ok()
            .and_then(|digits| usize::from_str_radix(digits.trim_end(), 16).ok());
        let Some(size) = size.filter(|&size| size > 0) else { break };
        raw = &raw[end + 2..];
        data.extend_from_slice(&raw[..size.min(raw.len())]);
        raw = raw.get(size.saturating_add(2)..).unwrap_or_default();
    }
    data
}

/// Empty lines may stand before a request that never comes.
fn unfinished(rest: &[u8]) -> End {
    if rest.chunks(2).all(|line| line == b"\r\n") { End::Clean } else { End::CutInHead }
}
