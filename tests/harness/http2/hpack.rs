//! HPACK (RFC 7541): a whole decoder, and an encoder that never compresses, so that a script's bytes are
//! the same in every run.

use std::collections::VecDeque;
use std::sync::OnceLock;

/// A name and a value. Each byte is the character of that number, so that none is lost.
pub type Field = (String, String);

/// Each setting's initial value for the table that the other side fills, in bytes.
const TABLE_BYTES: usize = 4096;

/// Writes the fields as literals that enter no table, in the order given.
pub fn encode(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        string(&mut block, name);
        string(&mut block, value);
    }
    block
}

fn string(block: &mut Vec<u8>, text: &str) {
    let bytes: Vec<u8> = text.chars().map(|c| u8::try_from(c).expect("a field is bytes")).collect();
    integer(block, 7, bytes.len());
    block.extend(bytes);
}

/// Writes an integer with a prefix of `bits`; the bits above it are 0.
fn integer(block: &mut Vec<u8>, bits: u32, mut value: usize) {
    let full = (1 << bits) - 1;
    if value < full {
        return block.push(byte(value));
    }
    block.push(byte(full));
    value -= full;
    while value >= 128 {
        block.push(byte(value % 128) | 128);
        value /= 128;
    }
    block.push(byte(value));
}

fn byte(value: usize) -> u8 {
    u8::try_from(value).expect("the caller keeps it below 256")
}

/// Reads header blocks of one direction of a connection, in their order.
#[derive(Debug, Default)]
pub struct Decoder {
    dynamic: VecDeque<Field>,
}

impl Decoder {
    /// The fields of one block; `None` where the block is no HPACK.
    pub fn decode(&mut self, block: &[u8]) -> Option<Vec<Field>> {
        let mut input = Input(block);
        let mut fields = Vec::new();
        while let Some(&first) = input.0.first() {
            if first & 0x80 != 0 {
                let index = input.integer(7)?;
                fields.push(self.entry(index)?);
            } else if first & 0xe0 == 0x20 {
                // A smaller table only drops entries earlier; keeping them is harmless.
                input.integer(5)?;
            } else {
                let kept = first & 0x40 != 0;
                let index = input.integer(if kept { 6 } else { 4 })?;
                let name = if index == 0 { input.string()? } else { self.entry(index)?.0 };
                let field = (name, input.string()?);
                if kept {
                    self.keep(field.clone());
                }
                fields.push(field);
            }
        }
        Some(fields)
    }

    fn entry(&self, index: usize) -> Option<Field> {
        let index = index.checked_sub(1)?;
        match STATIC.get(index) {
            Some((name, value)) => Some(((*name).to_owned(), (*value).to_owned())),
            None => self.dynamic.get(index - STATIC.len()).cloned(),
        }
    }

    fn keep(&mut self, field: Field) {
        self.dynamic.push_front(field);
        let size = |(name, value): &Field| name.chars().count() + value.chars().count() + 32;
        while self.dynamic.iter().map(size).sum::<usize>() > TABLE_BYTES {
            self.dynamic.pop_back();
        }
    }
}

struct Input<'b>(&'b [u8]);

impl Input<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn integer(&mut self, bits: u32) -> Option<usize> {
        let full = (1 << bits) - 1;
        let mut value = usize::from(self.byte()?) & full;
        if value < full {
            return Some(value);
        }
        for shift in (0..28).step_by(7) {
            let next = self.byte()?;
            value += usize::from(next & 127) << shift;
            if next & 128 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn string(&mut self) -> Option<String> {
        let compressed = self.0.first()? & 128 != 0;
        let length = self.integer(7)?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        let bytes = if compressed { decompress(bytes)? } else { bytes.to_vec() };
        Some(bytes.into_iter().map(char::from).collect())
    }
}

fn decompress(bytes: &[u8]) -> Option<Vec<u8>> {
    // Of each length: the first code of that length and the symbols that have one, in the codes' order.
    static CODES: OnceLock<Vec<(u32, Vec<usize>)>> = OnceLock::new();
    let codes = CODES.get_or_init(|| {
        let mut code = 0;
        let of_length = |length| {
            let symbols: Vec<_> = (0..LENGTHS.len()).filter(|s| LENGTHS[*s] == length).collect();
            let first = code;
            code = (code + u32::try_from(symbols.len()).expect("257 at most")) << 1;
            (first, symbols)
        };
        (0..=30).map(of_length).collect()
    });
    let mut out = Vec::new();
    let (mut code, mut length) = (0, 0);
    for bit in bytes.iter().flat_map(|byte| (0..8).rev().map(move |n| byte >> n & 1)) {
        code = code << 1 | u32::from(bit);
        length += 1;
        let (first, symbols) = codes.get(length)?;
        if let Some(&symbol) = code.checked_sub(*first).and_then(|n| symbols.get(n as usize)) {
            out.push(u8::try_from(symbol).ok()?);
            (code, length) = (0, 0);
        }
    }
    // What is left over are the first bits of the code that ends a string: all ones, less than a byte.
    (length < 8 && code + 1 == 1 << length).then_some(out)
}

/// The lengths in bits of the 257 codes of RFC 7541, Appendix B. The code is canonical, so that the lengths
/// say it all.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// RFC 7541, Appendix A.
#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""),
    ("cache-control", ""), ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""),
    ("content-length", ""), ("content-location", ""), ("content-range", ""), ("content-type", ""),
    ("cookie", ""), ("date", ""), ("etag", ""), ("expect", ""), ("expires", ""), ("from", ""), ("host", ""),
    ("if-match", ""), ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""),
    ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""), ("max-forwards", ""),
    ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""), ("referer", ""), ("refresh", ""),
    ("retry-after", ""), ("server", ""), ("set-cookie", ""), ("strict-transport-security", ""),
    ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""), ("www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn the_requests_of_rfc_7541_c_4_are_read() {
        let mut decoder = Decoder::default();
        let read = |hex: &str, decoder: &mut Decoder| -> Vec<String> {
            let fields = decoder.decode(&bytes(hex)).unwrap();
            fields.into_iter().map(|(name, value)| format!("{name}: {value}")).collect()
        };
        let mut expected = vec![":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"];
        assert_eq!(read("828684418cf1e3c2e5f23a6ba0ab90f4ff", &mut decoder), expected);
        expected.push("cache-control: no-cache");
        assert_eq!(read("828684be5886a8eb10649cbf", &mut decoder), expected);
        let third = read("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf", &mut decoder);
        assert_eq!(third[4], "custom-key: custom-value");
    }

    #[test]
    fn what_is_written_is_read_and_what_is_cut_is_not() {
        let long = "v".repeat(70_000);
        let fields = [("a", "b"), ("x-latin", "\u{e9}\u{ff}\u{80}"), ("empty", ""), ("long", long.as_str())];
        let block = encode(&fields);
        let read = Decoder::default().decode(&block).unwrap();
        assert!(read.iter().map(|(name, value)| (name.as_str(), value.as_str())).eq(fields));
        assert_eq!(Decoder::default().decode(&block[..block.len() - 1]), None);
        assert_eq!(Decoder::default().decode(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]), None);
        assert_eq!(Decoder::default().decode(&[0xbe]), None, "no entry has that index");
    }
}
