//! A server that speaks first is judged once, and an HTTP/1 response is never taken for anything else.
#![no_main]

use dragoman_fuzz::final_answer;
use dragoman_wire::http1::{Limits, ResponseHead};
use dragoman_wire::{Server, server};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let decided = final_answer(bytes, |bytes| match server(bytes) {
        Server::Incomplete => None,
        decided => Some(decided),
    });
    if let Ok(Some(_)) = ResponseHead::default().parse(bytes, &Limits::default()) {
        assert_eq!(decided, Some(Server::Http1));
    }
});
