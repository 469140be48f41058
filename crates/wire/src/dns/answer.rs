//! Answers of our own.

use super::reader::HEADER;
use super::{OPT, PLAIN_MAX, Query, Rcode};

const RESPONSE: u8 = 0b1000_0000;
/// The bits of the first byte of flags that an answer repeats: opcode, and that recursion was desired.
const REPEATED: u8 = 0b0111_1001;
const TRUNCATED: u8 = 0b0000_0010;
/// In the second byte of flags: we do what was desired.
const RECURSION_AVAILABLE: u8 = 0b1000_0000;
/// In the second byte: the asker wants no checking of signatures, which an answer repeats.
const CHECKING_DISABLED: u8 = 0b0001_0000;

/// What we take over UDP, said to an asker who speaks EDNS: what passes every network in one piece.
const OUR_PAYLOAD: u16 = 1232;
/// The option that explains an error (RFC 8914 §2), and its code for a network error.
const EXTENDED_ERROR: u16 = 15;
const NETWORK_ERROR: u16 = 23;
/// The code for what a server does not do.
const NOT_SUPPORTED: u16 = 21;
/// The longest explanation, in bytes: with the longest question, the answer still fits wherever one fits.
const REASON_MAX: usize = PLAIN_MAX - HEADER - 255 - 4 - 11 - 6;

/// A message that is being made.
pub(super) struct Made {
    bytes: Vec<u8>,
    /// The flags of the asker's OPT record, which then gets one too.
    edns_flags: Option<u16>,
    rcode: Rcode,
}

impl Made {
    /// An answer to `query` without records.
    pub(super) fn of(query: &Query, rcode: Rcode, truncated: bool) -> Made {
        let mut bytes = header(&query.head, rcode);
        bytes[2] |= if truncated { TRUNCATED } else { 0 };
        // One question, and it.
        bytes[5] = 1;
        bytes.extend_from_slice(&query.head[HEADER..]);
        Made { bytes, edns_flags: query.edns.map(|edns| edns.flags), rcode }
    }

    /// An answer to what has a header and no question that could be read.
    pub(super) fn without_question(asked: &[u8], rcode: Rcode) -> Vec<u8> {
        header(asked, rcode)
    }

    /// The message, with this explanation where there is a place for one.
    pub(super) fn with_reason(self, reason: &str) -> Vec<u8> {
        let code = if self.rcode == Rcode::SERVER_FAILURE { NETWORK_ERROR } else { NOT_SUPPORTED };
        let mut end = reason.len().min(REASON_MAX);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let text = &reason.as_bytes()[..end];
        let length = 2 + text.len() as u16;
        let option = [&EXTENDED_ERROR.to_be_bytes()[..], &length.to_be_bytes(), &code.to_be_bytes(), text];
        self.with_opt(&option.concat())
    }

    /// The message.
    pub(super) fn finish(self) -> Vec<u8> {
        self.with_opt(&[])
    }

    fn with_opt(self, options: &[u8]) -> Vec<u8> {
        let Made { mut bytes, edns_flags: Some(flags), .. } = self else { return self.bytes };
        // Of the flags, DO is repeated; the others mean nothing.
        let flags = flags & 0x8000;
        bytes[11] = 1;
        bytes.push(0);
        for word in [OPT, OUR_PAYLOAD, 0, flags, options.len() as u16] {
            bytes.extend_from_slice(&word.to_be_bytes());
        }
        bytes.extend_from_slice(options);
        bytes
    }
}

/// A header with the identifier of what was asked and without anything after it.
fn header(asked: &[u8], rcode: Rcode) -> Vec<u8> {
    let mut header = vec![0; HEADER];
    header[..2].copy_from_slice(&asked[..2]);
    header[2] = RESPONSE | asked[2] & REPEATED;
    header[3] = RECURSION_AVAILABLE | asked[3] & CHECKING_DISABLED | rcode.0 & 0b1111;
    header
}
