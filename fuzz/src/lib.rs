//! What the fuzz targets share: the invariants that hold for every reader of `dragoman-wire`.
//!
//! A fuzzer that only looks for panics finds little in Rust without unsafe code. So each target states
//! what its reader promises: that an answer is final, that segmentation does not matter, that what was
//! accepted is what will be forwarded, and that readers which follow each other agree.

use std::collections::BTreeSet;
use std::fmt::Debug;

use dragoman_wire::http1::{BadBody, Body, BodyReader, Field, Span};

/// The answer to `bytes`, after a look at what `read` says to shorter beginnings of them: once it is
/// `Some`, it is the same for all that is longer.
///
/// # Panics
/// If the answer changes.
pub fn final_answer<T: PartialEq + Debug>(
    bytes: &[u8],
    mut read: impl FnMut(&[u8]) -> Option<T>,
) -> Option<T> {
    let mut before = None;
    for length in telling_lengths(bytes) {
        let answer = read(&bytes[..length]);
        if before.is_some() {
            assert_eq!(answer, before, "the answer changed at {length} bytes");
        }
        before = answer;
    }
    before
}

/// The lengths at which something may change: all would be quadratic, and keep the fuzzer from its work.
fn telling_lengths(bytes: &[u8]) -> BTreeSet<usize> {
    const EACH_OF_THE_FIRST: usize = 24;
    const LINES: usize = 12;
    const STEPS: usize = 12;
    let ends = (0..bytes.len()).filter(|&at| bytes[at] == b'\n').take(LINES);
    (0..EACH_OF_THE_FIRST)
        .chain(ends.flat_map(|at| [at, at + 1, at + 2]))
        .chain((0..STEPS).map(|step| bytes.len() * step / STEPS))
        .chain([bytes.len().saturating_sub(1)])
        .filter(|&length| length < bytes.len())
        .chain([bytes.len()])
        .collect()
}

/// The head put together from its parts: what follows the empty lines before it must be exactly that.
pub fn reassembled(bytes: &[u8], start_line: Span, fields: &[Field]) -> Vec<u8> {
    let mut head = start_line.of(bytes).to_vec();
    for field in fields {
        let (name, value, line) = (field.name.of(bytes), field.value.of(bytes), field.line.of(bytes));
        assert!(line.starts_with(name) && line[name.len()] == b':', "the name is not in its line");
        assert!(line.ends_with(b"\r\n") && !name.is_empty());
        assert!(!value.iter().any(|byte| b"\r\n\0".contains(byte)), "a value that another reader could cut");
        head.extend_from_slice(line);
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// How many of `bytes` belong to the body, and whether it is whole: the same in pieces of any size.
///
/// # Panics
/// If segmentation matters, or the reader takes more than it was given.
pub fn body_in_pieces(body: Body, bytes: &[u8]) -> Result<(usize, bool), BadBody> {
    let whole = advance(body, [bytes]);
    for size in [1, 2, 3, 7, 64] {
        assert_eq!(advance(body, bytes.chunks(size)), whole, "in pieces of {size}");
    }
    for at in telling_lengths(bytes) {
        assert_eq!(advance(body, [&bytes[..at], &bytes[at..]]), whole, "split at {at}");
    }
    whole
}

fn advance<'a>(body: Body, pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<(usize, bool), BadBody> {
    let mut reader = BodyReader::new(body);
    let mut total = 0;
    for piece in pieces {
        let taken = reader.advance(piece)?;
        assert!(taken <= piece.len(), "more was taken than given");
        total += taken;
        if taken < piece.len() {
            assert!(reader.is_done(), "bytes are left over only when the body ends");
            break;
        }
    }
    Ok((total, reader.is_done()))
}

/// Where the chunked body at the start of `bytes` ends: a reader of its own, as plain as RFC 9112 §7.1.3
/// describes it, which believes what it is told. `None` if it does not end.
pub fn plain_chunked_end(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    loop {
        let line = take_line(&mut rest)?;
        let padded = line.split(|&byte| byte == b';').next()?;
        let digits = std::str::from_utf8(padded).ok()?.trim_end_matches([' ', '\t']);
        let size = u64::from_str_radix(digits, 16).ok()?;
        if size == 0 {
            break;
        }
        rest = rest.get(usize::try_from(size).ok()?..)?.strip_prefix(b"\r\n")?;
    }
    while !take_line(&mut rest)?.is_empty() {}
    Some(bytes.len() - rest.len())
}

fn take_line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let line = &rest[..end];
    *rest = &rest[end + 2..];
    Some(line)
}
