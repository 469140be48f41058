//! The PostgreSQL start-up reader.

use dragoman_wire::{Startup, startup};
use proptest::prelude::*;

/// As psql 15 sends it with sslmode=disable.
const PSQL: &[u8] = b"\0\0\x006\0\x03\0\0user\0app\0database\0shop\0application_name\0psql\0\0";

fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    let length = 8 + body.len() as u32;
    [&length.to_be_bytes(), &code.to_be_bytes(), body].concat()
}

fn malformed(bytes: &[u8]) -> &'static str {
    match startup(bytes) {
        Startup::Malformed(why) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_captured_start_up_is_read_at_any_split() {
    for n in 0..PSQL.len() {
        assert_eq!(startup(&PSQL[..n]), Startup::Incomplete, "after {n} bytes");
    }
    let text = |text: &str| Some(text.to_owned());
    let expected =
        Startup::Startup { user: text("app"), database: text("shop"), application_name: text("psql") };
    assert_eq!(startup(PSQL), expected);
    assert_eq!(startup(&[PSQL, b"Q\0\0\0\x05"].concat()), expected);
}

#[test]
fn requests_before_a_session_are_told_apart() {
    assert_eq!(startup(b"\0\0\0\x08\x04\xd2\x16\x2f"), Startup::SslRequest);
    assert_eq!(startup(b"\0\0\0\x08\x04\xd2\x16\x30"), Startup::GssEncRequest);
    let cancel = packet(80_877_102, b"\0\0\x12\x34\xde\xad\xbe\xef");
    assert_eq!(startup(&cancel), Startup::Cancel { pid: 0x1234 });
    assert_eq!(startup(&cancel[..15]), Startup::Incomplete);
    let long_key = packet(80_877_102, &[&b"\0\0\x12\x34"[..], &[7; 256]].concat());
    assert_eq!(startup(&long_key), Startup::Cancel { pid: 0x1234 });
}

#[test]
fn absent_repeated_and_odd_parameters() {
    let read = |body: &[u8]| startup(&packet(196_610, body));
    assert_eq!(read(b"\0"), Startup::Startup { user: None, database: None, application_name: None });
    let user =
        |name: &str| Startup::Startup { user: Some(name.to_owned()), database: None, application_name: None };
    assert_eq!(read(b"user\0a\0user\0b\0\0"), user("b"), "the server takes the last one");
    assert_eq!(read(b"user\0\xff\0_pq_.x\0y\0\0"), user("\u{fffd}"));
    assert_eq!(read(b"user\0\0\0"), user(""));
}

#[test]
fn malformed_packets_say_why() {
    assert_eq!(malformed(b"\0\0\0\x07"), "a start-up message with an impossible length");
    assert_eq!(malformed(b"\0\0\x27\x11"), "a start-up message with an impossible length");
    assert_eq!(malformed(b"\xff\xff\xff\xff"), "a start-up message with an impossible length");
    assert_eq!(malformed(&packet(2 << 16, b"\0")), "a start-up message of a protocol other than 3");
    assert_eq!(malformed(&packet(80_877_103, b"x")), "an encryption request with a body");
    assert_eq!(malformed(&packet(80_877_102, b"x")), "a cancel request with an impossible length");
    let body = |body: &[u8]| malformed(&packet(196_608, body));
    assert_eq!(body(b""), "start-up parameters without their terminator");
    assert_eq!(body(b"user"), "start-up parameters without their terminator");
    assert_eq!(body(b"user\0"), "a start-up parameter without a value");
    assert_eq!(body(b"user\0a"), "a start-up parameter without a value");
    assert_eq!(body(b"user\0a\0\0x\0"), "bytes after the terminator of the start-up parameters");
}

proptest! {
    #[test]
    fn never_panics_and_never_changes_its_mind(length in 0_u8..60, code in 0_usize..5, tail: Vec<u8>) {
        let code = [196_608_u32, 80_877_102, 80_877_103, 80_877_104, 131_072][code];
        let bytes = [&[0, 0, 0, length][..], &code.to_be_bytes(), &tail].concat();
        let mut decided = None;
        for n in 0..=bytes.len() {
            let answer = startup(&bytes[..n]);
            match &decided {
                Some(before) => prop_assert_eq!(before, &answer),
                None if answer != Startup::Incomplete => decided = Some(answer),
                None => {}
            }
        }
    }
}
