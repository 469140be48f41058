//! A first flight is judged once, and never differently from the reader that gets it next.
#![no_main]

use dragoman_fuzz::final_answer;
use dragoman_wire::http1::{Limits, RequestHead};
use dragoman_wire::{Client, Hello, Startup, client, client_hello, startup};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let decided = final_answer(bytes, |bytes| match client(bytes) {
        Client::Incomplete(_) => None,
        decided => Some(decided),
    });
    // Whoever would be served as something must be recognised as that: opaque, it passes all policy.
    if let Ok(Some(_)) = RequestHead::default().parse(bytes, &Limits::default()) {
        assert_eq!(decided, Some(Client::Http1));
    }
    if let Hello::Hello(_) = client_hello(bytes) {
        assert_eq!(decided, Some(Client::Tls));
    }
    if !matches!(startup(bytes), Startup::Incomplete | Startup::Malformed(_)) {
        assert_eq!(decided, Some(Client::Postgres));
    }
});
