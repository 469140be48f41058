//! ClientHellos made by hand: what no library would send, and what some do.

const SERVER_NAME: u16 = 0;
const PADDING: u16 = 21;
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;

pub(crate) fn prefixed16(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("a vector of less than 64 KiB");
    [&length.to_be_bytes(), content].concat()
}

pub(crate) fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &prefixed16(content)].concat()
}

/// A server_name extension with these entries, each a type and a name.
pub(crate) fn names(entries: &[(u8, &[u8])]) -> Vec<u8> {
    let list: Vec<u8> =
        entries.iter().flat_map(|(kind, name)| [vec![*kind], prefixed16(name)].concat()).collect();
    extension(SERVER_NAME, &prefixed16(&list))
}

pub(crate) fn sni(name: &[u8]) -> Vec<u8> {
    names(&[(0, name)])
}

pub(crate) fn padding(length: usize) -> Vec<u8> {
    extension(PADDING, &vec![0; length])
}

/// The extension of a hello whose own name is encrypted, with nothing that anybody could decrypt.
pub(crate) fn ech() -> Vec<u8> {
    let outer = [&[0, 0, 1, 0, 1, 7][..], &prefixed16(&[8; 32]), &prefixed16(&[9; 144])].concat();
    extension(ENCRYPTED_CLIENT_HELLO, &outer)
}

/// An extension that says nothing, to see who stumbles (RFC 8701).
pub(crate) fn grease(number: u16) -> Vec<u8> {
    extension(0x0a0a + number * 0x1010, &[0])
}

/// The handshake message with these extensions.
pub(crate) fn message(extensions: &[Vec<u8>]) -> Vec<u8> {
    let body = [
        &b"\x03\x03"[..],
        &[7; 32],
        &[32],
        &[6; 32],
        &prefixed16(b"\x2a\x2a\x13\x01"),
        &[1, 0],
        &prefixed16(&extensions.concat()),
    ]
    .concat();
    let length = u32::try_from(body.len()).expect("less than 16 MiB").to_be_bytes();
    [&[1], &length[1..], &body].concat()
}

/// A message in records of at most `size` bytes.
pub(crate) fn records(message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size).flat_map(|chunk| [&b"\x16\x03\x01"[..], &prefixed16(chunk)].concat()).collect()
}

/// A hello in as few records as it takes.
pub(crate) fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
    records(&message(extensions), 16_384)
}
