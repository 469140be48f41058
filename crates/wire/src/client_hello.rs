//! The ClientHello of TLS: which name and which protocols does the client ask for?
//!
//! A hello is a handshake message, and a handshake message may be spread over any number of records
//! (RFC 8446 §5.1): post-quantum key shares make it longer than one segment, resumption tickets longer
//! than one record, and some clients cut it up on purpose. Records are walked first, without copying;
//! bytes are copied only when the message is whole and not contiguous.

use std::borrow::Cow;

/// The facts of a ClientHello that decide where a flow goes. They are claims of the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The server name, in lower case; `None` if absent or not a DNS name.
    pub sni: Option<String>,
    /// The protocols that the client offers, in its order of preference.
    pub alpn: Vec<Vec<u8>>,
    /// Whether the client offers Encrypted ClientHello, in earnest or as GREASE: with it, `sni` may be
    /// the public name of a provider and not the name of the server.
    pub ech: bool,
}

/// What the bytes so far amount to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// More bytes are needed.
    Incomplete,
    /// A whole ClientHello.
    Hello(ClientHello),
    /// It cannot become a ClientHello; the text says why.
    Malformed(&'static str),
}

/// The longest record payload, in bytes: 2^14 and what TLS 1.3 allows for encryption.
pub(crate) const RECORD_MAX: usize = 16384 + 256;
/// The longest ClientHello, in bytes. The largest seen in practice carry a few KiB of key shares.
const HELLO_MAX: usize = 64 * 1024;
/// How many records one hello may be cut into: bounds the walk over their headers.
const RECORDS_MAX: usize = 4096;
/// How many protocols a client may offer.
const ALPN_MAX: usize = 64;

const MESSAGE_HEADER: usize = 4;

/// Reads the ClientHello at the start of `bytes`; what follows it is ignored.
pub fn client_hello(bytes: &[u8]) -> Hello {
    match message(bytes) {
        Ok(None) => Hello::Incomplete,
        Ok(Some(message)) => match parse(&message[MESSAGE_HEADER..]) {
            Some(Ok(hello)) => Hello::Hello(hello),
            Some(Err(why)) => Hello::Malformed(why),
            None => Hello::Malformed("a length in the ClientHello points past its end"),
        },
        Err(why) => Hello::Malformed(why),
    }
}

/// The first handshake message with its header, put together from its records.
fn message(bytes: &[u8]) -> Result<Option<Cow<'_, [u8]>>, &'static str> {
    let mut header = [0; MESSAGE_HEADER];
    let mut have = 0;
    for fragment in records(bytes) {
        let fragment = fragment?;
        for (to, from) in header.iter_mut().skip(have).zip(fragment) {
            *to = *from;
        }
        have += fragment.len();
        if have > 0 && header[0] != 1 {
            return Err("the first handshake message is not a ClientHello");
        }
        if have < MESSAGE_HEADER {
            continue;
        }
        let [_, a, b, c] = header;
        let length = MESSAGE_HEADER + u32::from_be_bytes([0, a, b, c]) as usize;
        if length > HELLO_MAX {
            return Err("the ClientHello is longer than 64 KiB");
        }
        if have < length {
            continue;
        }
        if have == fragment.len() {
            return Ok(Some(Cow::Borrowed(&fragment[..length])));
        }
        return assemble(bytes, length).map(Some);
    }
    Ok(None)
}

/// The first `length` bytes of payload, which are known to be there.
fn assemble(bytes: &[u8], length: usize) -> Result<Cow<'_, [u8]>, &'static str> {
    let mut whole = Vec::with_capacity(length);
    for fragment in records(bytes) {
        let fragment = fragment?;
        whole.extend_from_slice(&fragment[..fragment.len().min(length - whole.len())]);
        if whole.len() == length {
            break;
        }
    }
    Ok(Cow::Owned(whole))
}

fn records(bytes: &[u8]) -> Records<'_> {
    Records { rest: bytes, left: RECORDS_MAX }
}

/// The payloads of handshake records, the last one as far as it has come.
struct Records<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<&'a [u8], &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        match *self.rest {
            [kind, ..] if kind != 22 => return Some(Err("not a handshake record")),
            [_, major, ..] if major != 3 => return Some(Err("not a TLS record version")),
            _ => {}
        }
        let (header, payload) = self.rest.split_first_chunk::<5>()?;
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if length == 0 || length > RECORD_MAX {
            return Some(Err("a record with an impossible length"));
        }
        let Some(left) = self.left.checked_sub(1) else {
            return Some(Err("the ClientHello is cut into too many records"));
        };
        self.left = left;
        let (payload, rest) = payload.split_at(length.min(payload.len()));
        self.rest = rest;
        Some(Ok(payload))
    }
}

/// A cursor whose reads give `None` past the end.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn short(&mut self) -> Option<u16> {
        let (&bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(bytes))
    }

    /// A vector with a length of one byte.
    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = self.byte()?;
        self.take(length.into())
    }

    /// A vector with a length of two bytes.
    fn vector16(&mut self) -> Option<Reader<'a>> {
        let length = self.short()?;
        self.take(length.into()).map(Reader)
    }
}

type Parsed<T> = Option<Result<T, &'static str>>;

/// Reads the body of a ClientHello (RFC 8446 §4.1.2); `None` if a length points past the end.
fn parse(body: &[u8]) -> Parsed<ClientHello> {
    const SERVER_NAME: u16 = 0;
    const ALPN: u16 = 16;
    const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;

    let mut reader = Reader(body);
    let _version_and_random = reader.take(2 + 32)?;
    let _session_id = reader.vector8()?;
    let _cipher_suites = reader.vector16()?;
    let _compression = reader.vector8()?;
    let mut hello = ClientHello::default();
    if reader.0.is_empty() {
        return Some(Ok(hello));
    }
    let mut extensions = reader.vector16()?;
    if !reader.0.is_empty() {
        return Some(Err("bytes after the extensions"));
    }
    let (mut named, mut offered) = (false, false);
    while !extensions.0.is_empty() {
        let kind = extensions.short()?;
        let content = extensions.vector16()?;
        let again = match kind {
            SERVER_NAME => std::mem::replace(&mut named, true),
            ALPN => std::mem::replace(&mut offered, true),
            _ => false,
        };
        if again {
            return Some(Err("an extension that stands twice"));
        }
        match kind {
            SERVER_NAME => match server_name(content)? {
                Ok(sni) => hello.sni = sni,
                Err(why) => return Some(Err(why)),
            },
            ALPN => match protocols(content)? {
                Ok(alpn) => hello.alpn = alpn,
                Err(why) => return Some(Err(why)),
            },
            ENCRYPTED_CLIENT_HELLO => hello.ech = true,
            _ => {}
        }
    }
    Some(Ok(hello))
}

/// The host name of a server_name extension (RFC 6066 §3). Of two, nobody knows which a server would take.
fn server_name(mut content: Reader<'_>) -> Parsed<Option<String>> {
    const HOST_NAME: u8 = 0;
    let mut list = content.vector16()?;
    let mut found = None;
    while !list.0.is_empty() {
        let kind = list.byte()?;
        let name = list.vector16()?.0;
        if kind == HOST_NAME && found.replace(name).is_some() {
            return Some(Err("two server names"));
        }
    }
    Some(Ok(found.and_then(dns_name)))
}

fn protocols(mut content: Reader<'_>) -> Parsed<Vec<Vec<u8>>> {
    let mut list = content.vector16()?;
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        let protocol = list.vector8()?;
        if protocol.is_empty() {
            return Some(Err("an empty ALPN protocol"));
        }
        if protocols.len() == ALPN_MAX {
            return Some(Err("more than 64 ALPN protocols"));
        }
        protocols.push(protocol.to_vec());
    }
    Some(Ok(protocols))
}

/// `name` in lower case and without a root dot, if it is a DNS name as policy may state it. The dot must not be there
/// (RFC 6066 §3), but servers overlook it, and so policy must. An address is no name: its last label would be a number, and no
/// top-level domain is one (RFC 1123 §2.1).
fn dns_name(name: &[u8]) -> Option<String> {
    let name = name.strip_suffix(b".").unwrap_or(name);
    let label = |label: &[u8]| {
        (1..=63).contains(&label.len())
            && label.iter().all(|&b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let last = name.rsplit(|&b| b == b'.').next()?;
    let valid =
        name.len() <= 253 && name.split(|&b| b == b'.').all(label) && !last.iter().all(u8::is_ascii_digit);
    let name = std::str::from_utf8(name).ok()?;
    valid.then(|| name.to_ascii_lowercase())
}
