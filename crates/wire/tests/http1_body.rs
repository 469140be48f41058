//! The body reader, at every split.

use dragoman_wire::http1::{BadBody, Body, BodyReader, Part};
use proptest::prelude::*;

/// What the reader makes of `bytes` in pieces: how many belong to the body, and whether it is done.
fn read(body: Body, pieces: &[&[u8]]) -> Result<(usize, bool), BadBody> {
    let mut reader = BodyReader::new(body);
    let mut total = 0;
    for piece in pieces {
        let taken = reader.advance(piece)?;
        total += taken;
        if taken < piece.len() {
            assert!(reader.is_done(), "bytes are left over only when the body ends");
            break;
        }
    }
    Ok((total, reader.is_done()))
}

fn in_pieces_of(size: usize, bytes: &[u8]) -> Vec<&[u8]> {
    bytes.chunks(size).collect()
}

/// A body, and what follows it on the connection.
#[rustfmt::skip]
const VALID: &[(&str, &str)] = &[
    ("0\r\n\r\n", ""),
    ("0\r\n\r\n", "GET / HTTP/1.1\r\n"),
    ("5\r\nhello\r\n0\r\n\r\n", "x"),
    ("05\r\nhello\r\n000\r\n\r\n", "0\r\n\r\n"),
    ("a\r\n0\r\n\r\n67890\r\n1\r\n\n\r\n0\r\n\r\n", "\r\n"),
    ("A;name=value\r\n0123456789\r\n0;last=\"a b\"\r\n\r\n", "HTTP/1.1 200 OK\r\n"),
    ("1;\r\nx\r\n0;a;b=c\r\n\r\n", "x"),
    ("0000000000000001\r\nx\r\n0000000000000000\r\n\r\n", "x"),
    ("5 \r\nhello\r\n0  \t\r\n\r\n", "x"),
    ("5 ; a\r\nhello\r\n0\t;b\r\n\r\n", "x"),
    ("0\r\nDigest: a\r\nX:\r\ngrpc-status: 0 \r\n\r\n", "x"),
    ("1\r\nx\r\n0\r\nContent-Lengths: 5\r\nX-Host: h\r\n\r\n", "x"),
];

#[rustfmt::skip]
const INVALID: &[(&str, &str)] = &[
    ("\r\n", "a chunk size that is not hexadecimal"),
    ("g\r\n", "a chunk size that is not hexadecimal"),
    ("0x5\r\nhello\r\n", "a chunk size that is not hexadecimal"),
    ("+5\r\nhello\r\n", "a chunk size that is not hexadecimal"),
    ("-1\r\n", "a chunk size that is not hexadecimal"),
    (" 5\r\nhello\r\n", "a chunk size that is not hexadecimal"),
    ("\t5\r\nhello\r\n", "a chunk size that is not hexadecimal"),
    (" \r\n", "a chunk size that is not hexadecimal"),
    ("1 0\r\nhello\r\n", "white space within a chunk size"),
    ("5 \nhello\r\n", "white space within a chunk size"),
    ("5 a\r\nhello\r\n", "white space within a chunk size"),
    ("5 \rhello\r\n", "a bare CR in a chunked body"),
    ("5_0\r\n", "a chunk size that is not hexadecimal"),
    (";a\r\n", "a chunk size that is not hexadecimal"),
    ("5\nhello\r\n", "a chunk size that is not hexadecimal"),
    ("\n5\r\n", "a chunk size that is not hexadecimal"),
    ("5\u{e9}\r\n", "a chunk size that is not hexadecimal"),
    ("00000000000000005\r\nhello\r\n", "a chunk size of more than 16 digits"),
    ("10000000000000000\r\n", "a chunk size of more than 16 digits"),
    ("8000000000000000\r\n", "a chunk size beyond 63 bits"),
    ("ffffffffffffffff\r\n", "a chunk size beyond 63 bits"),
    ("5\rhello\r\n", "a bare CR in a chunked body"),
    ("5\r\r\nhello\r\n", "a bare CR in a chunked body"),
    ("5;a\nhello\r\n", "a control byte in a chunk extension"),
    ("5;a\rb\r\nhello\r\n", "a bare CR in a chunked body"),
    ("5;a\0\r\nhello\r\n", "a control byte in a chunk extension"),
    ("5\r\nhello!\r\n", "a chunk that is longer than its size"),
    ("5\r\nhello\n0\r\n\r\n", "a chunk that is longer than its size"),
    ("5\r\nhello0\r\n\r\n", "a chunk that is longer than its size"),
    ("5\r\nhello\r0\r\n\r\n", "a chunk that is longer than its size"),
    ("5\r\nhello\r\n\r\n0\r\n\r\n", "a chunk size that is not hexadecimal"),
    ("5\r\nhell\r\n0\r\n\r\n", "a chunk that is longer than its size"),
    ("0\r\n\n", "a trailer name that is not a token"),
    ("0\r\n\r\r\n", "a bare CR in a chunked body"),
    ("0\r\n a: b\r\n\r\n", "a trailer name that is not a token"),
    ("0\r\na: b\r\n c\r\n\r\n", "a trailer name that is not a token"),
    ("0\r\na : b\r\n\r\n", "a trailer name that is not a token"),
    ("0\r\n: b\r\n\r\n", "a trailer name that is not a token"),
    ("0\r\na\r\n\r\n", "a trailer name that is not a token"),
    ("0\r\na: b\n\r\n", "a control byte in a trailer value"),
    ("0\r\na: b\rc\r\n\r\n", "a bare CR in a chunked body"),
    ("0\r\na: \0\r\n\r\n", "a control byte in a trailer value"),
    ("0\r\nContent-Length: 5\r\n\r\n", "a trailer that would change the framing or the host"),
    ("0\r\nx: y\r\ntransfer-ENCODING: chunked\r\n\r\n", "a trailer that would change the framing or the host"),
    ("0\r\nhost: evil\r\n\r\n", "a trailer that would change the framing or the host"),
];

#[test]
fn valid_chunks_end_where_they_end_at_every_split() {
    for &(body, rest) in VALID {
        let bytes = [body.as_bytes(), rest.as_bytes()].concat();
        for size in 1..=bytes.len() {
            let result = read(Body::Chunked, &in_pieces_of(size, &bytes));
            assert_eq!(result, Ok((body.len(), true)), "{body:?} in pieces of {size}");
        }
        for at in 0..=bytes.len() {
            let result = read(Body::Chunked, &[&bytes[..at], &bytes[at..]]);
            assert_eq!(result, Ok((body.len(), true)), "{body:?} split at {at}");
        }
        for cut in 0..body.len() {
            let result = read(Body::Chunked, &[&body.as_bytes()[..cut]]);
            assert_eq!(result, Ok((cut, false)), "{body:?} cut at {cut}");
        }
    }
}

#[test]
fn invalid_chunks_are_refused_for_the_same_reason_at_every_split() {
    for &(body, why) in INVALID {
        let bytes = body.as_bytes();
        let expected = Err(BadBody(why));
        for size in 1..=bytes.len() {
            assert_eq!(read(Body::Chunked, &in_pieces_of(size, bytes)), expected, "{body:?} by {size}");
        }
        for at in 0..=bytes.len() {
            assert_eq!(read(Body::Chunked, &[&bytes[..at], &bytes[at..]]), expected, "{body:?} at {at}");
        }
    }
}

#[test]
fn the_lines_around_chunks_are_bounded() {
    let chunk = |extension: usize| format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(extension));
    let read_text = |text: &str| read(Body::Chunked, &[text.as_bytes()]);
    let longest = chunk(4096 - 2);
    assert_eq!(read_text(&longest), Ok((longest.len(), true)));
    assert_eq!(read_text(&chunk(4096 - 1)), Err(BadBody("a chunk extension of more than 4 KiB")));
    let spaced = |count: usize| format!("1{}\r\nx\r\n0\r\n\r\n", " ".repeat(count));
    assert_eq!(read_text(&spaced(4095)), Ok((spaced(4095).len(), true)));
    assert_eq!(read_text(&spaced(4096)), Err(BadBody("a chunk extension of more than 4 KiB")));
    let many = format!("{}0\r\n\r\n", format!("1;{}\r\nx\r\n", "a".repeat(4000)).repeat(3));
    assert_eq!(read_text(&many), Ok((many.len(), true)), "the limit is for one line");

    let trailers = |count: usize| format!("0\r\n{}\r\n", "a: b\r\n".repeat(count));
    assert_eq!(read_text(&trailers(64)), Ok((trailers(64).len(), true)));
    assert_eq!(read_text(&trailers(65)), Err(BadBody("more than 64 trailer fields")));
    let long = |length: usize| format!("0\r\na:{}\r\n\r\n", "b".repeat(length));
    assert_eq!(read_text(&long(8 * 1024 - 2)), Ok((long(8 * 1024 - 2).len(), true)));
    assert_eq!(read_text(&long(8 * 1024 - 1)), Err(BadBody("more than 8 KiB of trailers")));
    let name = format!("0\r\n{}: b\r\n\r\n", "a".repeat(9000));
    assert_eq!(read_text(&name), Err(BadBody("more than 8 KiB of trailers")));
}

#[test]
fn the_largest_chunk_is_counted_not_stored() {
    let mut reader = BodyReader::new(Body::Chunked);
    assert_eq!(reader.advance(b"7fffffffffffffff\r\n"), Ok(18));
    let mebibyte = vec![b'\r'; 1 << 20];
    for _ in 0..1024 {
        assert_eq!(reader.advance(&mebibyte), Ok(mebibyte.len()));
    }
    assert!(!reader.is_done() && !reader.may_end_at_close());
    assert!(size_of::<BodyReader>() <= 48, "{}", size_of::<BodyReader>());
}

#[test]
fn a_length_is_counted_down() {
    let mut reader = BodyReader::new(Body::Length(5));
    assert_eq!(reader.advance(b""), Ok(0));
    assert_eq!(reader.advance(b"hel"), Ok(3));
    assert!(!reader.is_done() && !reader.may_end_at_close());
    assert_eq!(reader.advance(b"loGET"), Ok(2));
    assert!(reader.is_done() && reader.may_end_at_close());
    assert_eq!(reader.advance(b"GET"), Ok(0));
    assert_eq!(read(Body::Length(u64::MAX), &[b"x"]), Ok((1, false)));
}

#[test]
fn no_body_takes_nothing_and_until_close_takes_all() {
    for body in [Body::None, Body::Length(0)] {
        assert!(BodyReader::new(body).is_done());
        assert_eq!(read(body, &[b"GET"]), Ok((0, true)));
    }
    let mut reader = BodyReader::new(Body::UntilClose);
    assert_eq!(reader.advance(b"anything"), Ok(8));
    assert!(!reader.is_done() && reader.may_end_at_close());
}

proptest! {
    #[test]
    fn whatever_is_chunked_is_read_back(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..6),
        rest: Vec<u8>,
        size in 1_usize..400,
    ) {
        let mut bytes = Vec::new();
        for chunk in &chunks {
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        let length = bytes.len();
        bytes.extend_from_slice(&rest);
        prop_assert_eq!(read(Body::Chunked, &in_pieces_of(size, &bytes)), Ok((length, true)));
    }

    #[test]
    fn any_split_of_anything_gives_the_same(
        at in 0..VALID.len(), cut in any::<prop::sample::Index>(), odd in "[ -~\r\n\t\u{0}]{0,6}",
        splits in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let (body, rest) = VALID[at];
        let mut bytes = [body.as_bytes(), rest.as_bytes()].concat();
        let cut = cut.index(bytes.len());
        bytes.splice(cut..cut, odd.into_bytes());
        let whole = read(Body::Chunked, &[&bytes]);
        let mut splits: Vec<usize> = splits.iter().map(|split| split.index(bytes.len() + 1)).collect();
        splits.extend([0, bytes.len()]);
        splits.sort_unstable();
        let pieces: Vec<&[u8]> = splits.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        prop_assert_eq!(read(Body::Chunked, &pieces), whole);
        prop_assert_eq!(read(Body::Chunked, &in_pieces_of(1, &bytes)), whole);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>, more: Vec<u8>) {
        let mut reader = BodyReader::new(Body::Chunked);
        let _ = reader.advance(&bytes);
        let _ = reader.advance(&more);
    }
}

/// What the framing holds, in pieces of that size: content, and the lines of the trailers.
fn decode(body: Body, size: usize, bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut data, mut trailers) = (Vec::new(), Vec::new());
    let mut reader = BodyReader::new(body);
    for piece in in_pieces_of(size, bytes) {
        reader
            .decode(piece, |part| match part {
                Part::Data(bytes) => data.extend_from_slice(bytes),
                Part::Trailer(bytes) => trailers.extend_from_slice(bytes),
            })
            .unwrap();
    }
    (data, trailers)
}

#[test]
fn content_and_trailers_come_out_of_the_framing_at_every_split() {
    for (body, bytes, data, trailers) in [
        (Body::Length(5), "hellox", "hello", ""),
        (Body::UntilClose, "hello", "hello", ""),
        (Body::None, "hello", "", ""),
        (Body::Chunked, "0\r\n\r\nx", "", ""),
        (Body::Chunked, "1  \r\nx\r\n0 ; a\r\n\r\n", "x", ""),
        (Body::Chunked, "A;n=v\r\n0\r\n\r\n67890\r\n1\r\n\n\r\n0\r\n\r\nHTTP", "0\r\n\r\n67890\n", ""),
        (
            Body::Chunked,
            "1\r\nx\r\n0;last\r\nDigest: a\r\nX:\r\ngrpc-status: 0 \r\n\r\nGET /",
            "x",
            "Digest: a\r\nX:\r\ngrpc-status: 0 \r\n",
        ),
    ] {
        for size in 1..=bytes.len() {
            let decoded = decode(body, size, bytes.as_bytes());
            assert_eq!(decoded, (data.into(), trailers.into()), "{bytes:?} in pieces of {size}");
        }
    }
}
