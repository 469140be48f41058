//! The wire format of Protocol Buffers, as far as OTLP needs it: varints, fixed numbers, bytes, messages.
//!
//! By hand, since it is these few lines against a code generator and its runtime; and protobuf rather than
//! OTLP's JSON, because it is the encoding that every receiver takes. Source: "Encoding", protobuf.dev.

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH: u32 = 2;
const FIXED32: u32 = 5;

/// Appends an unsigned, boolean or enumerated field.
pub(super) fn number(out: &mut Vec<u8>, field: u32, value: u64) {
    tag(out, field, VARINT);
    push_varint(out, value);
}

/// Appends a field of eight bytes.
pub(super) fn fixed64(out: &mut Vec<u8>, field: u32, value: u64) {
    tag(out, field, FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a field of four bytes.
pub(super) fn fixed32(out: &mut Vec<u8>, field: u32, value: u32) {
    tag(out, field, FIXED32);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends bytes or text.
pub(super) fn bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    length(out, field, value.len());
    out.extend_from_slice(value);
}

/// Appends a message inside this one; `write` appends its fields.
pub(super) fn message(out: &mut Vec<u8>, field: u32, write: impl FnOnce(&mut Vec<u8>)) {
    tag(out, field, LENGTH);
    let start = out.len();
    // Room for a length below 128, as most are.
    out.push(0);
    write(out);
    match out.len() - start - 1 {
        length @ 0..0x80 => out[start] = length as u8,
        length => {
            let (bytes, count) = varint(length as u64);
            out.splice(start..=start, bytes[..count].iter().copied());
        }
    }
}

/// Appends what stands before a field of `length` bytes that follow.
pub(super) fn length(out: &mut Vec<u8>, field: u32, length: usize) {
    tag(out, field, LENGTH);
    push_varint(out, length as u64);
}

/// One field of a message that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Takes the first field off a message: its number and value. `None` at the end, and where it is malformed or
/// of a kind that no answer of OTLP has.
pub(super) fn next<'a>(message: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
    let tag = take_varint(message)?;
    let value = match tag & 7 {
        0 => Value::Number(take_varint(message)?),
        2 => {
            let length = usize::try_from(take_varint(message)?).ok()?;
            let (value, rest) = message.split_at_checked(length)?;
            *message = rest;
            Value::Bytes(value)
        }
        _ => return None,
    };
    Some((tag >> 3, value))
}

fn tag(out: &mut Vec<u8>, field: u32, kind: u32) {
    push_varint(out, u64::from(field << 3 | kind));
}

fn push_varint(out: &mut Vec<u8>, value: u64) {
    let (bytes, count) = varint(value);
    out.extend_from_slice(&bytes[..count]);
}

/// Seven bits at a time, the lowest first, and how many bytes that takes.
fn varint(mut value: u64) -> ([u8; 10], usize) {
    let (mut bytes, mut count) = ([0; 10], 1);
    while value >= 0x80 {
        bytes[count - 1] = value as u8 | 0x80;
        value >>= 7;
        count += 1;
    }
    bytes[count - 1] = value as u8;
    (bytes, count)
}

fn take_varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out);
        out
    }

    #[test]
    fn fields_are_written_as_the_format_says() {
        assert_eq!(written(|out| number(out, 1, 150)), [0x08, 0x96, 0x01]);
        assert_eq!(written(|out| number(out, 16, 0)), [0x80, 0x01, 0x00]);
        assert_eq!(written(|out| number(out, 1, u64::MAX)), [&[0x08][..], &[0xff; 9], &[0x01]].concat());
        assert_eq!(written(|out| bytes(out, 2, b"testing")), b"\x12\x07testing");
        assert_eq!(written(|out| fixed64(out, 1, 1)), [0x09, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(written(|out| fixed32(out, 1, 0x0102)), [0x0d, 2, 1, 0, 0]);
        assert_eq!(written(|out| message(out, 3, |out| number(out, 1, 150))), [0x1a, 3, 0x08, 0x96, 0x01]);
    }

    #[test]
    fn a_message_may_be_of_any_length() {
        for length in [0, 1, 124, 125, 126, 127, 128, 16_380, 16_384, 70_000] {
            let inner = vec![7; length];
            let out = written(|out| message(out, 1, |out| bytes(out, 2, &inner)));
            let mut rest = &*out;
            let Some((1, Value::Bytes(mut message))) = next(&mut rest) else { panic!("{length}") };
            assert!(rest.is_empty());
            assert_eq!(next(&mut message), Some((2, Value::Bytes(&inner))));
        }
    }

    #[test]
    fn what_is_malformed_is_the_end() {
        for bytes in [
            &b"\x80"[..],
            b"\x0a\x05ab",
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            b"\x09",
            &[0xff; 12],
        ] {
            let mut message = bytes;
            assert_eq!(next(&mut message), None, "{bytes:x?}");
        }
    }
}
