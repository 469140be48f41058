//! The ClientHello reader: captured hellos, built ones, hostile ones.

use dragoman_wire::{ClientHello, Hello, client_hello};
use proptest::prelude::*;

const OPENSSL: &[u8] = include_bytes!("data/openssl-3.0-hello.bin");
const CURL: &[u8] = include_bytes!("data/curl-7.88-hello.bin");
const NO_SNI: &[u8] = include_bytes!("data/openssl-3.0-tls12-no-sni-hello.bin");

const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const PADDING: u16 = 21;
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;

fn prefixed16(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("a vector of less than 64 KiB");
    [&length.to_be_bytes(), content].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [kind.to_be_bytes().to_vec(), prefixed16(content)].concat()
}

fn sni(name: &[u8]) -> Vec<u8> {
    extension(SERVER_NAME, &prefixed16(&[vec![0], prefixed16(name)].concat()))
}

fn alpn(protocols: &[&[u8]]) -> Vec<u8> {
    let list: Vec<u8> = protocols.iter().flat_map(|p| [&[p.len() as u8], *p].concat()).collect();
    extension(ALPN, &prefixed16(&list))
}

/// A handshake message with these extensions.
fn message(extensions: &[Vec<u8>]) -> Vec<u8> {
    let body = [
        b"\x03\x03".to_vec(),
        vec![7; 32],
        vec![0],
        prefixed16(b"\x13\x01"),
        vec![1, 0],
        prefixed16(&extensions.concat()),
    ]
    .concat();
    [vec![1, 0], prefixed16(&body)].concat()
}

/// The message in records with at most `size` bytes of payload each.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size).flat_map(|chunk| [b"\x16\x03\x01".to_vec(), prefixed16(chunk)].concat()).collect()
}

fn hello(bytes: &[u8]) -> ClientHello {
    match client_hello(bytes) {
        Hello::Hello(hello) => hello,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn assert_malformed(bytes: &[u8], expected: &str) {
    match client_hello(bytes) {
        Hello::Malformed(why) => assert_eq!(why, expected),
        other => panic!("{other:?}"),
    }
}

#[test]
fn captured_hellos_are_read() {
    let openssl = hello(OPENSSL);
    assert_eq!(openssl.sni.as_deref(), Some("origin.example"));
    assert_eq!(openssl.alpn, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    assert!(!openssl.ech);
    let curl = hello(CURL);
    assert_eq!(curl.sni.as_deref(), Some("example.com"));
    assert_eq!(curl.alpn, [b"h2".to_vec(), b"http/1.1".to_vec()]);
    assert_eq!(hello(NO_SNI), ClientHello::default());
}

#[test]
fn every_prefix_of_a_captured_hello_is_incomplete_and_every_extension_the_same() {
    for whole in [OPENSSL, CURL, NO_SNI] {
        for n in 0..whole.len() {
            assert_eq!(client_hello(&whole[..n]), Hello::Incomplete, "after {n} bytes");
        }
        let more = [whole, b"\x14\x03\x03\x00\x01\x01 and more"].concat();
        assert_eq!(client_hello(&more), client_hello(whole));
    }
}

#[test]
fn s2_any_record_segmentation_gives_the_same_hello() {
    let message = &CURL[5..];
    for size in 1..=message.len() {
        let cut = records(message, size);
        assert_eq!(client_hello(&cut), client_hello(CURL), "records of {size} bytes");
        assert_eq!(client_hello(&cut[..cut.len() - 1]), Hello::Incomplete, "records of {size} bytes");
    }
}

#[test]
fn a_hello_longer_than_a_record_is_read() {
    let long = message(&[extension(PADDING, &[0; 40_000]), sni(b"Long.Example"), alpn(&[b"h2"])]);
    let bytes = records(&long, 16_384);
    assert!(bytes.len() > 2 * 16_384);
    assert_eq!(hello(&bytes).sni.as_deref(), Some("long.example"));
    assert_eq!(client_hello(&bytes[..bytes.len() - 1]), Hello::Incomplete);
}

#[test]
fn a_hello_longer_than_the_limit_is_refused_before_it_is_there() {
    let header = [1, 1, 0, 0];
    assert_malformed(&records(&header, 4), "the ClientHello is longer than 64 KiB");
    let many = records(&[&[1, 0, 0xff, 0][..], &[0; 4100]].concat(), 1);
    assert_malformed(&many, "the ClientHello is cut into too many records");
}

#[test]
fn ech_is_noticed() {
    let bytes = records(&message(&[extension(ENCRYPTED_CLIENT_HELLO, b"\0"), sni(b"public.example")]), 9999);
    let hello = hello(&bytes);
    assert!(hello.ech);
    assert_eq!(hello.sni.as_deref(), Some("public.example"));
}

#[test]
fn a_hello_without_extensions_is_read() {
    let body = [b"\x03\x01".to_vec(), vec![7; 32], vec![0], prefixed16(b"\0\x2f"), vec![1, 0]].concat();
    let message = [vec![1, 0], prefixed16(&body)].concat();
    assert_eq!(hello(&records(&message, 9999)), ClientHello::default());
    // What follows in the same record is another message, not extensions.
    let more = [&message[..], b"\x0b\0\0\x05hello"].concat();
    for size in 1..more.len() {
        assert_eq!(hello(&records(&more, size)), ClientHello::default(), "records of {size} bytes");
    }
}

#[test]
fn a_name_of_another_kind_is_not_the_server_name() {
    let list = [&b"\x01\0\x05other\0\0\x03"[..], b"a.b"].concat();
    let bytes = records(&message(&[extension(SERVER_NAME, &prefixed16(&list))]), 9999);
    assert_eq!(hello(&bytes).sni.as_deref(), Some("a.b"));
}

#[test]
fn only_a_dns_name_is_a_server_name() {
    let read = |name: &[u8]| hello(&records(&message(&[sni(name)]), 9999)).sni;
    assert_eq!(read(b"A-1.b_2.Example").as_deref(), Some("a-1.b_2.example"));
    assert_eq!(read(b"localhost").as_deref(), Some("localhost"));
    // What servers overlook.
    assert_eq!(read(b"a.Test.").as_deref(), Some("a.test"));
    assert_eq!(read(b"-a-.r3---b.test").as_deref(), Some("-a-.r3---b.test"));
    assert_eq!(read(b"xn--bcher-kva.example").as_deref(), Some("xn--bcher-kva.example"));
    let long = [b"a".repeat(63), b"b".repeat(63), b"c".repeat(63), b"d".repeat(61)].join(&b'.');
    assert_eq!(read(&long).map(|name| name.len()), Some(253));
    assert_eq!(read(&[&long[..], b"d"].concat()), None);
    #[rustfmt::skip]
    let refused: [&[u8]; 12] = [
        b"", b".", b"a..", b".a", b"a..b", b"a b", b"a\0.b", b"127.0.0.1", b"::1", b"a/b",
        "b\u{fc}cher.example".as_bytes(), &[b'a'; 64],
    ];
    for name in refused {
        assert_eq!(read(name), None, "{}", name.escape_ascii());
    }
}

#[test]
fn malformed_hellos_say_why() {
    let whole = |extensions: &[Vec<u8>]| records(&message(extensions), 9999);
    assert_malformed(b"GET", "not a handshake record");
    assert_malformed(b"\x16\x04", "not a TLS record version");
    assert_malformed(b"\x16\x03\x01\0\0", "a record with an impossible length");
    assert_malformed(b"\x16\x03\x01\x41\x01", "a record with an impossible length");
    assert_malformed(b"\x16\x03\x01\0\x01\x02", "the first handshake message is not a ClientHello");
    assert_malformed(b"\x16\x03\x01\0\x01\x01\x17", "not a handshake record");
    assert_malformed(&whole(&[sni(b"a.b"), sni(b"c.d")]), "an extension that stands twice");
    let two = [&b"\0\0\x03a.b"[..], b"\0\0\x03c.d"].concat();
    assert_malformed(&whole(&[extension(SERVER_NAME, &prefixed16(&two))]), "two server names");
    assert_malformed(&whole(&[alpn(&[b"h2"]), alpn(&[b"h2"])]), "an extension that stands twice");
    assert_malformed(&whole(&[alpn(&[b"h2", b""])]), "an empty ALPN protocol");
    assert_malformed(&whole(&[alpn(&[b"x".as_slice(); 65])]), "more than 64 ALPN protocols");
    let mut longer = message(&[sni(b"a.b")]);
    longer.push(0);
    longer[3] += 1;
    assert_malformed(&records(&longer, 9999), "bytes after the extensions");
    let past = "a length in the ClientHello points past its end";
    assert_malformed(&whole(&[b"\0\0\0\x09".to_vec()]), past);
    assert_malformed(&whole(&[extension(SERVER_NAME, b"\0\x05\0\0\x09a")]), past);
    assert_malformed(&records(b"\x01\0\0\x02\x03\x03", 9999), past);
}

proptest! {
    #[test]
    fn a_damaged_hello_never_panics_and_never_changes_its_mind(
        at in any::<prop::sample::Index>(), byte: u8, size in 1_usize..600,
    ) {
        let mut message = CURL[5..].to_vec();
        let at = at.index(message.len());
        message[at] = byte;
        let bytes = records(&message, size);
        let mut decided = None;
        for n in 0..=bytes.len() {
            let answer = client_hello(&bytes[..n]);
            match &decided {
                Some(before) => prop_assert_eq!(before, &answer),
                None if answer != Hello::Incomplete => decided = Some(answer),
                None => {}
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(tail in prop::collection::vec(any::<u8>(), 0..300)) {
        let bytes = [b"\x16\x03\x01\x01\0\x01\0\0\xf0".as_slice(), &tail].concat();
        let _ = client_hello(&bytes);
        let _ = client_hello(&tail);
    }
}
