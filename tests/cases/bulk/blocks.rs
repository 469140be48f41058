//! Bodies that are compared a block at a time and kept nowhere.

use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::TcpStream;

/// A body that no buffer holds.
pub(crate) const BULK: u64 = 1 << 30;

/// What is sent again and again, so that it can be compared a block at a time.
pub(crate) fn block() -> Vec<u8> {
    (0_u32..16 * 1024).flat_map(u32::to_le_bytes).collect()
}

/// A block as a chunk stands on the wire, with an extension.
pub(crate) fn chunk() -> Vec<u8> {
    let block = block();
    [format!("{:x};n=1\r\n", block.len()).as_bytes(), &block, b"\r\n"].concat()
}

pub(crate) const LAST_CHUNK: &[u8] = b"0\r\nX-End: yes\r\n\r\n";

pub(crate) fn blocks_of(total: u64) -> u64 {
    total / u64::try_from(block().len()).expect("a block is small")
}

pub(crate) fn send_chunks(mut to: &TcpStream) -> io::Result<()> {
    let chunk = chunk();
    for _ in 0..blocks_of(BULK) {
        to.write_all(&chunk)?;
    }
    to.write_all(LAST_CHUNK)
}

pub(crate) fn receive_chunks(from: &mut impl Read) -> io::Result<()> {
    let chunk = chunk();
    for _ in 0..blocks_of(BULK) {
        expect(from, &chunk)?;
    }
    expect(from, LAST_CHUNK)
}

/// Fails unless these bytes come next.
pub(crate) fn expect(from: &mut impl Read, expected: &[u8]) -> io::Result<()> {
    let mut got = vec![0; expected.len()];
    from.read_exact(&mut got)?;
    if got == expected { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
}

/// Reads a head. A [`Peer`](dragoman_harness::Peer) would keep every byte of the body that follows.
pub(crate) fn head(from: &mut impl BufRead) -> io::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if from.read_line(&mut head)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(head)
}
