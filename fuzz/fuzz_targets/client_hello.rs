//! A ClientHello means the same in records of any size, and what it names is a name.
#![no_main]

use dragoman_fuzz::final_answer;
use dragoman_wire::{ClientHello, Hello, client_hello};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let decided = final_answer(bytes, |bytes| match client_hello(bytes) {
        Hello::Incomplete => None,
        decided => Some(decided),
    });
    let Some(Hello::Hello(hello)) = decided else { return };
    check(&hello);
    let payload = payload(bytes);
    let length = 4 + u32::from_be_bytes([0, payload[1], payload[2], payload[3]]) as usize;
    for size in [16, 100, 16_384] {
        let cut: Vec<u8> = payload[..length].chunks(size).flat_map(record).collect();
        assert_eq!(client_hello(&cut), Hello::Hello(hello.clone()), "in records of {size} bytes");
        assert_eq!(client_hello(&cut[..cut.len() - 1]), Hello::Incomplete, "one byte short");
    }
});

fn check(hello: &ClientHello) {
    if let Some(name) = &hello.sni {
        assert!(!name.is_empty() && name.len() <= 253);
        assert!(
            name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b)),
            "{name}"
        );
        assert!(name.parse::<std::net::IpAddr>().is_err(), "{name} is an address");
    }
    assert!(hello.alpn.len() <= 64 && hello.alpn.iter().all(|protocol| !protocol.is_empty()));
}

fn record(payload: &[u8]) -> Vec<u8> {
    let [high, low] = (payload.len() as u16).to_be_bytes();
    [&[22, 3, 1, high, low], payload].concat()
}

/// The payloads of the handshake records at the start of `bytes`, one after the other.
fn payload(mut bytes: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    while let [22, 3, _, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        all.extend_from_slice(&rest[..length]);
        bytes = &rest[length..];
    }
    all
}
