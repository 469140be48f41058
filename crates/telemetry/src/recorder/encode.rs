//! Records as bytes: as short as they can be made at little cost, since one is written for each exchange.
//!
//! Only this process reads them, so that their form may change at will. Numbers are little-endian; a text is its length in
//! one byte and its bytes; a word of a closed set is its place in the set.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Writes a record.
pub(super) struct Encoder<'a>(pub(super) &'a mut Vec<u8>);

impl Encoder<'_> {
    pub(super) fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Printable text; what is beyond 255 bytes is cut off.
    pub(super) fn text(&mut self, text: &str) {
        let length = text.len().min(255);
        self.0.push(length as u8);
        self.0.extend_from_slice(&text.as_bytes()[..length]);
    }

    pub(super) fn address(&mut self, address: Option<SocketAddr>) {
        match address {
            None => self.0.push(0),
            Some(SocketAddr::V4(address)) => {
                let ([a, b, c, d], [high, low]) = (address.ip().octets(), address.port().to_be_bytes());
                self.0.extend_from_slice(&[4, a, b, c, d, high, low]);
            }
            Some(SocketAddr::V6(address)) => {
                self.0.push(6);
                self.0.extend_from_slice(&address.ip().octets());
                self.0.extend_from_slice(&address.port().to_be_bytes());
            }
        }
    }
}

/// Reads what [`Encoder`] wrote; `None` where it ends too early, which it does not.
pub(super) struct Decoder<'a>(pub(super) &'a [u8]);

impl Decoder<'_> {
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn text(&mut self) -> Option<String> {
        let length = self.byte()?;
        let (text, rest) = self.0.split_at_checked(length.into())?;
        self.0 = rest;
        // It may have been cut inside of a character.
        Some(String::from_utf8_lossy(text).into_owned())
    }

    pub(super) fn address(&mut self) -> Option<Option<SocketAddr>> {
        let ip = match self.byte()? {
            0 => return Some(None),
            4 => IpAddr::V4(Ipv4Addr::from(self.array::<4>()?)),
            _ => IpAddr::V6(Ipv6Addr::from(self.array::<16>()?)),
        };
        Some(Some(SocketAddr::new(ip, u16::from_be_bytes(self.array()?))))
    }
}
