//! A request head that is accepted is forwarded as it came, and a second reader agrees on what it says.
#![no_main]

use dragoman_fuzz::{body_in_pieces, final_answer, reassembled};
use dragoman_wire::http1::{Known, Limits, RequestHead};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits::default();
    let mut head = RequestHead::default();
    let answer = final_answer(bytes, |bytes| head.parse(bytes, &limits).transpose());
    let Some(Ok(length)) = answer else { return };
    assert_eq!(reassembled(bytes, head.start_line(), head.fields()), &bytes[head.start()..length]);
    httparse_agrees(&head, bytes, &bytes[..length]);
    check_target(&head, bytes);
    copy_says_the_same(&head, bytes);
    // What comes next is cut off by the framing that this head states.
    let _ = body_in_pieces(head.body(), &bytes[length..]);
});

fn check_target(head: &RequestHead, bytes: &[u8]) {
    assert!(!head.method(bytes).is_empty() && !head.target(bytes).is_empty());
    assert!(!head.path(bytes).contains(['?', '#']) && !head.query(bytes).contains(&b'#'));
    assert_eq!(head.path(bytes).is_empty(), head.is_connect());
    if let Some(authority) = head.authority(bytes) {
        assert!(!authority.contains(['/', '@', '?', '#', ' ', '\\']), "{authority}");
        assert!(authority.starts_with(head.host(bytes).unwrap_or_default()));
    }
}

fn httparse_agrees(head: &RequestHead, bytes: &[u8], whole: &[u8]) {
    // It wants a target in UTF-8; a proxy forwards what it got.
    if std::str::from_utf8(head.target(bytes)).is_err() {
        return;
    }
    let mut table = [httparse::EMPTY_HEADER; 256];
    let mut other = httparse::Request::new(&mut table);
    assert_eq!(other.parse(whole), Ok(httparse::Status::Complete(whole.len())));
    assert_eq!(other.method, Some(head.method(bytes)));
    assert_eq!(other.path.map(str::as_bytes), Some(head.target(bytes)));
    let ours = head.fields().iter().map(|field| (field.name.of(bytes), field.value.of(bytes)));
    assert!(ours.eq(other.headers.iter().map(|header| (header.name.as_bytes(), header.value))));
}

fn copy_says_the_same(head: &RequestHead, bytes: &[u8]) {
    let mut copy = Vec::new();
    head.copy_without(&mut copy, bytes, |_| false);
    copy.extend_from_slice(b"\r\n");
    let mut again = RequestHead::default();
    assert_eq!(again.parse(&copy, &Limits::default()), Ok(Some(copy.len())));
    assert_eq!((again.body(), again.connection()), (head.body(), head.connection()));
    assert_eq!((again.target(&copy), again.host(&copy)), (head.target(bytes), head.host(bytes)));
    assert_eq!(again.expect_continue(), head.expect_continue());

    let mut stripped = Vec::new();
    head.copy_without(&mut stripped, bytes, |field| field.known == Known::Connection);
    stripped.extend_from_slice(b"\r\n");
    assert_eq!(again.parse(&stripped, &Limits::default()), Ok(Some(stripped.len())));
    assert!(again.find(Known::Connection).is_none() && again.body() == head.body());
}
