//! Sections and records of a message.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::name::{Name, Pointers};
use super::{ADDRESSES_MAX, ALIASES_MAX, Address, Question, Rcode};

/// The bytes of a header.
pub(super) const HEADER: usize = 12;

const RESPONSE: u16 = 1 << 15;
const TRUNCATED: u16 = 1 << 9;

const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;
const INTERNET: u16 = 1;

/// What stands before all sections.
pub(super) struct Header {
    pub(super) id: u16,
    pub(super) flags: u16,
    pub(super) questions: u16,
    pub(super) answers: u16,
    pub(super) authorities: u16,
    pub(super) additionals: u16,
}

impl Header {
    pub(super) fn of(message: &[u8]) -> Option<Header> {
        let header = message.first_chunk::<HEADER>()?;
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        Some(Header {
            id: word(0),
            flags: word(2),
            questions: word(4),
            answers: word(6),
            authorities: word(8),
            additionals: word(10),
        })
    }

    pub(super) fn is_response(&self) -> bool {
        self.flags & RESPONSE != 0
    }

    pub(super) fn is_truncated(&self) -> bool {
        self.flags & TRUNCATED != 0
    }

    pub(super) fn opcode(&self) -> u16 {
        self.flags >> 11 & 0b1111
    }

    pub(super) fn rcode(&self) -> Rcode {
        Rcode((self.flags & 0b1111) as u8)
    }
}

/// A record, as far as anybody looks at it.
pub(super) struct Record<'a> {
    pub(super) owner: Name,
    pub(super) kind: u16,
    pub(super) class: u16,
    pub(super) ttl: u32,
    data: &'a [u8],
    /// Where the data begins.
    data_at: usize,
}

/// Reads one thing after the other; `None` is a message that is cut off or broken.
pub(super) struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn after_header(message: &'a [u8]) -> Self {
        Self { message, at: HEADER }
    }

    /// How far it has come.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn question(&mut self) -> Option<Question> {
        let (name, end) = Name::read(self.message, self.at, Pointers::Refused)?;
        self.at = end;
        Some(Question { name, kind: self.word()?, class: self.word()? })
    }

    pub(super) fn record(&mut self) -> Option<Record<'a>> {
        let (owner, end) = Name::read(self.message, self.at, Pointers::Followed)?;
        self.at = end;
        let (kind, class) = (self.word()?, self.word()?);
        let ttl = u32::from(self.word()?) << 16 | u32::from(self.word()?);
        let length = usize::from(self.word()?);
        let data_at = self.at;
        let data = self.message.get(data_at..data_at + length)?;
        self.at += length;
        Some(Record { owner, kind, class, ttl, data, data_at })
    }

    /// The addresses of `asked` in the next `count` records. What comes after a record that is broken or cut off teaches
    /// nothing.
    pub(super) fn addresses(&mut self, asked: &Name, count: u16) -> Vec<Address> {
        let (mut aliases, mut found) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let Some(record) = self.record() else { break };
            if record.class != INTERNET {
                continue;
            }
            match record.kind {
                CNAME if aliases.len() < ALIASES_MAX => match self.alias(&record) {
                    Some(alias) => aliases.push((record.owner, alias, usable_seconds(record.ttl))),
                    None => break,
                },
                A | AAAA if found.len() < ADDRESSES_MAX => match address(record.kind, record.data) {
                    Some(ip) => found.push((record.owner, ip, usable_seconds(record.ttl))),
                    None => break,
                },
                _ => {}
            }
        }
        let names = chain(asked, &aliases);
        let of_asked = |(owner, ip, own): (Name, IpAddr, u32)| {
            let (_, ttl) = names.iter().find(|(name, _)| **name == owner)?;
            Some(Address { ip, ttl_seconds: own.min(*ttl) })
        };
        found.into_iter().filter_map(of_asked).collect()
    }

    /// The name that the data of a CNAME is, and nothing else.
    fn alias(&self, record: &Record<'_>) -> Option<Name> {
        let (name, end) = Name::read(self.message, record.data_at, Pointers::Followed)?;
        (end == record.data_at + record.data.len()).then_some(name)
    }

    fn word(&mut self) -> Option<u16> {
        let word = self.message.get(self.at..)?.first_chunk()?;
        self.at += word.len();
        Some(u16::from_be_bytes(*word))
    }
}

/// `asked` and the names that it is an alias of, each with the least time of the aliases on the way. A circle ends where
/// it began.
fn chain<'a>(asked: &'a Name, aliases: &'a [(Name, Name, u32)]) -> Vec<(&'a Name, u32)> {
    let mut names = vec![(asked, u32::MAX)];
    while let Some(&(last, ttl)) = names.last()
        && let Some((_, next, own)) = aliases.iter().find(|(owner, _, _)| owner == last)
        && names.iter().all(|(name, _)| *name != next)
    {
        names.push((next, ttl.min(*own)));
    }
    names
}

fn address(kind: u16, data: &[u8]) -> Option<IpAddr> {
    if kind == A {
        <[u8; 4]>::try_from(data).ok().map(|octets| Ipv4Addr::from(octets).into())
    } else {
        <[u8; 16]>::try_from(data).ok().map(|octets| Ipv6Addr::from(octets).into())
    }
}

/// A time with the first bit set is none (RFC 2181 §8).
fn usable_seconds(ttl: u32) -> u32 {
    if ttl > i32::MAX as u32 { 0 } else { ttl }
}
