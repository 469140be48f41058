//! DNS messages (RFC 1035, EDNS of RFC 6891): as much as a forwarder needs that passes them on as they are.
//!
//! What an app asks is read to recognise the answer to it and to make one where no resolver gives any; what a resolver
//! answers is read for the addresses that it gives to the name that was asked. Records that have no part in that are
//! skipped unread. Each function does work in proportion to the message, and a message is at most 64 KiB.

mod answer;
mod name;
mod reader;

use answer::Made;
pub use name::Name;
use reader::{HEADER, Reader};

/// The port of DNS servers.
pub const PORT: u16 = 53;
/// The most bytes of a message: its length is 16 bits wide over TCP.
pub const MESSAGE_MAX: usize = 65_535;
/// The most bytes of an answer over UDP to whoever does not say that it takes more.
const PLAIN_MAX: usize = 512;
/// The most addresses that are read of one answer.
pub const ADDRESSES_MAX: usize = 256;
/// The longest chain of aliases (CNAME) that is followed.
pub const ALIASES_MAX: usize = 16;

const OPT: u16 = 41;
const IXFR: u16 = 251;
const AXFR: u16 = 252;

/// What came from an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A query to pass on.
    Query(Query),
    /// A query that cannot be passed on, and what to answer.
    Refused(Vec<u8>),
    /// No query; to answer it could make two programs answer each other for ever.
    Noise,
}

/// A query of an app, apart from the bytes that are passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Header and question as they were sent.
    head: Box<[u8]>,
    question: Question,
    edns: Option<Edns>,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Question {
    name: Name,
    kind: u16,
    class: u16,
}

/// What the asker says about itself in an OPT record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Edns {
    /// The most bytes of an answer over UDP.
    size: u16,
    /// The flags, of which the first is DO: it wants to see signatures.
    flags: u16,
}

/// The result of a query (RFC 1035 §4.1.1, RFC 2136), without its extension by EDNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rcode(pub u8);

impl Rcode {
    /// Answered.
    pub const NO_ERROR: Rcode = Rcode(0);
    /// The resolver could not read the query.
    pub const FORMAT_ERROR: Rcode = Rcode(1);
    /// The resolver could not find an answer.
    pub const SERVER_FAILURE: Rcode = Rcode(2);
    /// There is no such name.
    pub const NO_SUCH_NAME: Rcode = Rcode(3);
    /// The resolver does not do what was asked.
    pub const NOT_IMPLEMENTED: Rcode = Rcode(4);
    /// The resolver does not do it for this asker.
    pub const REFUSED: Rcode = Rcode(5);
}

/// What a resolver answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its result.
    pub rcode: Rcode,
    /// Whether parts were left out, and the asker should come by TCP.
    pub truncated: bool,
    /// The addresses of the name that was asked, by way of its aliases, in the order of the message.
    pub addresses: Vec<Address>,
}

/// An address that an answer gives to the name that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: std::net::IpAddr,
    /// For how many seconds that may be kept: the least of the record's and its aliases'.
    pub ttl_seconds: u32,
}

/// Reads what an app sent: all of a datagram, or of a message over TCP without its length.
pub fn asked(bytes: &[u8]) -> Asked {
    let Some(header) = reader::Header::of(bytes).filter(|header| !header.is_response()) else {
        return Asked::Noise;
    };
    let mut reader = Reader::after_header(bytes);
    let question = if header.questions == 1 { reader.question() } else { None };
    let Some(question) = question else {
        return Asked::Refused(Made::without_question(bytes, Rcode::FORMAT_ERROR));
    };
    let head = bytes[..reader.at()].into();
    let edns = edns(&mut reader, &header);
    let query = Query { head, question, edns };
    if matches!(query.question.kind, AXFR | IXFR) {
        // Their answer is a series of messages, and for a server that has the zone.
        return Asked::Refused(query.failure(Rcode::NOT_IMPLEMENTED, "zone transfers are not forwarded"));
    }
    Asked::Query(query)
}

/// The OPT record, which stands in the last section. What cannot be read has none: whoever answers will say so.
fn edns(reader: &mut Reader<'_>, header: &reader::Header) -> Option<Edns> {
    for _ in 0..u32::from(header.answers) + u32::from(header.authorities) {
        reader.record()?;
    }
    for _ in 0..header.additionals {
        let record = reader.record()?;
        if record.kind == OPT && record.owner.is_root() {
            return Some(Edns { size: record.class, flags: record.ttl as u16 });
        }
    }
    None
}

impl Query {
    /// The identifier by which the app knows the answer.
    pub fn id(&self) -> u16 {
        u16::from_be_bytes([self.head[0], self.head[1]])
    }

    /// The name that is asked for, in lower case without a final dot; `None` if it is no name of a host.
    pub fn host(&self) -> Option<String> {
        self.question.name.host()
    }

    /// The most bytes that the app takes in one datagram.
    pub fn payload_max(&self) -> usize {
        self.edns.map_or(PLAIN_MAX, |edns| usize::from(edns.size).max(PLAIN_MAX))
    }

    /// Reads what came back for this query, which was sent with `id`. `None` if that is no answer to it: something
    /// forged, late or broken, beside which the right one may still come.
    pub fn answer(&self, id: u16, bytes: &[u8]) -> Option<Answer> {
        let header = reader::Header::of(bytes)?;
        let is_reply = header.is_response() && header.id == id && header.opcode() == self.header().opcode();
        let mut reader = Reader::after_header(bytes);
        let rcode = header.rcode();
        match header.questions {
            1 if reader.question()? == self.question => {}
            // A server that could not read the question need not repeat it; nothing is claimed about the name then.
            0 if !matches!(rcode, Rcode::NO_ERROR | Rcode::NO_SUCH_NAME) => {}
            _ => return None,
        }
        let truncated = header.is_truncated();
        let addresses = reader.addresses(&self.question.name, header.answers);
        is_reply.then_some(Answer { rcode, truncated, addresses })
    }

    /// An answer of our own that says that there is none, with a reason that goes to whoever speaks EDNS (RFC 8914).
    pub fn failure(&self, rcode: Rcode, reason: &str) -> Vec<u8> {
        Made::of(self, rcode, false).with_reason(reason)
    }

    /// An answer of our own that says that the whole one must be asked for over TCP.
    pub fn truncated(&self) -> Vec<u8> {
        Made::of(self, Rcode::NO_ERROR, true).finish()
    }

    fn header(&self) -> reader::Header {
        reader::Header::of(&self.head).expect("a query has a header")
    }
}

/// Puts another identifier into a message.
///
/// # Panics
/// If the message has no header.
pub fn set_id(message: &mut [u8], id: u16) {
    assert!(message.len() >= HEADER, "a message has a header");
    message[..2].copy_from_slice(&id.to_be_bytes());
}
