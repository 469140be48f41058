//! The bytes of nf_tables messages: a batch of netlink messages with nested attributes.
//!
//! Layout from linux/netlink.h and linux/netfilter/nfnetlink.h. Headers are in host byte order, attribute
//! values in network byte order unless the kernel takes them as raw register contents.

use nix::libc;

use super::layout::Family;
use crate::error::Part;

/// Bytes before the attributes: `struct nlmsghdr` and `struct nfgenmsg`.
const HEADER_LEN: usize = 20;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;

/// Messages that the kernel carries out together or not at all.
pub(super) struct Batch {
    bytes: Vec<u8>,
    parts: Vec<Part>,
}

impl Batch {
    pub(super) fn new() -> Batch {
        let mut batch = Batch { bytes: Vec::new(), parts: vec![Part::Transaction] };
        batch.bytes = message(NFNL_MSG_BATCH_BEGIN, 0, 0, 0, NFNL_SUBSYS_NFTABLES, |_| {});
        batch
    }

    /// Appends a message of which the kernel must confirm that it was carried out; `part` names it in an error.
    pub(super) fn push(
        &mut self,
        kind: libc::c_int,
        flags: libc::c_int,
        family: Family,
        part: Part,
        fill: impl FnOnce(&mut Attributes),
    ) {
        let sequence = self.parts.len() as u32;
        let flags = flags as u16 | libc::NLM_F_ACK as u16;
        self.bytes.extend(message(table_message(kind), flags, sequence, protocol(family), 0, fill));
        self.parts.push(part);
    }

    /// The bytes to send, all at once.
    pub(super) fn finish(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        let sequence = self.parts.len() as u32;
        bytes.extend(message(NFNL_MSG_BATCH_END, 0, sequence, 0, NFNL_SUBSYS_NFTABLES, |_| {}));
        bytes
    }

    /// What the message with this sequence number was about.
    pub(super) fn part(&self, sequence: u32) -> Option<&Part> {
        self.parts.get(sequence as usize)
    }

    /// How many messages the kernel confirms.
    pub(super) fn confirmations(&self) -> usize {
        self.parts.len() - 1
    }
}

/// A question outside of a batch.
pub(super) fn request(kind: libc::c_int, family: Family, fill: impl FnOnce(&mut Attributes)) -> Vec<u8> {
    message(table_message(kind), 0, 1, protocol(family), 0, fill)
}

/// A list of attributes (`struct nlattr`), each padded to four bytes.
#[derive(Default)]
pub(crate) struct Attributes(Vec<u8>);

impl Attributes {
    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) {
        let len = u16::try_from(value.len() + 4).expect("an attribute is shorter than 64 KiB");
        self.0.extend(len.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    pub(super) fn text(&mut self, kind: u16, value: &str) {
        self.bytes(kind, &[value.as_bytes(), b"\0"].concat());
    }

    pub(super) fn append(&mut self, mut other: Attributes) {
        self.0.append(&mut other.0);
    }

    pub(super) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes)) {
        let mut inner = Attributes::default();
        fill(&mut inner);
        self.bytes(kind | libc::NLA_F_NESTED as u16, &inner.0);
    }
}

/// One answer of the kernel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A message was carried out (0) or refused (an errno, positive), by its sequence number.
    Status { sequence: u32, errno: i32 },
    /// Anything else, such as the object that was asked for.
    Object,
}

/// The answers in a datagram from the kernel. The kernel quotes a refused message in full; a buffer too short for
/// the quotation loses nothing that matters.
pub(crate) fn answers(mut datagram: &[u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while let Some((header, _)) = datagram.split_first_chunk::<16>() {
        let word = |at: usize| [header[at], header[at + 1], header[at + 2], header[at + 3]];
        let kind = i32::from(u16::from_ne_bytes([header[4], header[5]]));
        answers.push(match datagram.get(16..20) {
            Some(&[a, b, c, d]) if kind == libc::NLMSG_ERROR => Answer::Status {
                sequence: u32::from_ne_bytes(word(8)),
                errno: i32::from_ne_bytes([a, b, c, d]).saturating_neg(),
            },
            _ => Answer::Object,
        });
        let len = (u32::from_ne_bytes(word(0)) as usize).max(16).next_multiple_of(4);
        datagram = datagram.get(len..).unwrap_or_default();
    }
    answers
}

fn message(
    kind: u16,
    flags: u16,
    sequence: u32,
    family: u8,
    resource: u16,
    fill: impl FnOnce(&mut Attributes),
) -> Vec<u8> {
    let mut attributes = Attributes::default();
    fill(&mut attributes);
    let len = (HEADER_LEN + attributes.0.len()) as u32;
    let mut bytes = Vec::with_capacity(len as usize);
    bytes.extend(len.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((flags | libc::NLM_F_REQUEST as u16).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    // The port that answers go to: the kernel fills it in.
    bytes.extend(0_u32.to_ne_bytes());
    // struct nfgenmsg: family, version, resource.
    bytes.extend([family, 0]);
    bytes.extend(resource.to_be_bytes());
    bytes.extend(attributes.0);
    bytes
}

fn table_message(kind: libc::c_int) -> u16 {
    NFNL_SUBSYS_NFTABLES << 8 | kind as u16
}

/// NFPROTO_INET, NFPROTO_IPV4 and NFPROTO_IPV6.
fn protocol(family: Family) -> u8 {
    match family {
        Family::Inet => 1,
        Family::Ip => 2,
        Family::Ip6 => 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_nested() {
        let mut attributes = Attributes::default();
        attributes.nest(4, |inner| {
            inner.text(1, "ab");
            inner.bytes(2, &[9]);
        });
        let length = |n: u16| n.to_ne_bytes();
        let expected = [
            &length(20)[..],
            &length(4 | 0x8000),
            &length(7),
            &length(1),
            b"ab\0\0",
            &length(5),
            &length(2),
            &[9, 0, 0, 0],
        ]
        .concat();
        assert_eq!(attributes.0, expected);
    }

    #[test]
    fn a_batch_begins_and_ends_and_numbers_its_messages() {
        let mut batch = Batch::new();
        batch.push(libc::NFT_MSG_NEWTABLE, 0, Family::Inet, Part::Table(Family::Inet), |a| a.text(1, "t"));
        let bytes = batch.finish();
        let mut rest = &bytes[..];
        let mut seen = Vec::new();
        while !rest.is_empty() {
            let len = u32::from_ne_bytes(rest[..4].try_into().unwrap()) as usize;
            let kind = u16::from_ne_bytes(rest[4..6].try_into().unwrap());
            seen.push((kind, u32::from_ne_bytes(rest[8..12].try_into().unwrap()), rest[16]));
            rest = &rest[len..];
        }
        assert_eq!(seen, [(16, 0, 0), (0x0a00, 1, 1), (17, 2, 0)]);
        assert_eq!(batch.part(1), Some(&Part::Table(Family::Inet)));
        assert_eq!(batch.part(2), None);
        assert_eq!(batch.confirmations(), 1);
    }

    fn status(sequence: u32, errno: i32, claimed_len: u32) -> Vec<u8> {
        let mut bytes = claimed_len.to_ne_bytes().to_vec();
        bytes.extend((libc::NLMSG_ERROR as u16).to_ne_bytes());
        bytes.extend([0; 2]);
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend((-errno).to_ne_bytes());
        bytes
    }

    #[test]
    fn answers_are_read_from_any_bytes() {
        let two = [status(3, 0, 20), status(4, libc::ENOENT, 20)].concat();
        let expected =
            [Answer::Status { sequence: 3, errno: 0 }, Answer::Status { sequence: 4, errno: libc::ENOENT }];
        assert_eq!(answers(&two), expected);
        // A quotation longer than the buffer, an impossible length, a cut header: no panic, no endless loop.
        assert_eq!(answers(&status(1, 1, 90_000)), [Answer::Status { sequence: 1, errno: 1 }]);
        assert_eq!(answers(&status(1, i32::MIN + 1, 0)).len(), 1);
        for cut in 0..two.len() {
            assert!(answers(&two[..cut]).len() <= 2);
        }
    }
}
