//! A chunked body ends at the same byte at every split, and where a much plainer reader sees its end.
#![no_main]

use dragoman_fuzz::{body_in_pieces, plain_chunked_end};
use dragoman_wire::http1::Body;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match body_in_pieces(Body::Chunked, bytes) {
        Ok((length, true)) => {
            assert_eq!(plain_chunked_end(bytes), Some(length));
            assert_eq!(
                body_in_pieces(Body::Chunked, &bytes[..length]),
                Ok((length, true)),
                "by its own bytes"
            );
            assert_eq!(
                body_in_pieces(Body::Chunked, &bytes[..length - 1]),
                Ok((length - 1, false)),
                "one short"
            );
        }
        Ok((length, false)) => {
            assert_eq!(length, bytes.len(), "until the end everything belongs to the body");
            assert_eq!(plain_chunked_end(bytes), None);
        }
        Err(_) => {}
    }
});
