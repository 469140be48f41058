//! A response head that is accepted is forwarded as it came, and a second reader agrees on what it says.
#![no_main]

use dragoman_fuzz::{body_in_pieces, final_answer, reassembled};
use dragoman_wire::http1::{Body, Known, Limits, ResponseHead};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits::default();
    let mut head = ResponseHead::default();
    let answer = final_answer(bytes, |bytes| head.parse(bytes, &limits).transpose());
    let Some(Ok(length)) = answer else { return };
    assert_eq!(reassembled(bytes, head.start_line(), head.fields()), &bytes[..length]);
    assert!((100..=999).contains(&head.status()));
    httparse_agrees(&head, bytes, &bytes[..length]);
    copy_says_the_same(&head, bytes);
    assert_eq!(head.body_for("HEAD"), Body::None);
    let _ = body_in_pieces(head.body_for("GET"), &bytes[length..]);
});

fn httparse_agrees(head: &ResponseHead, bytes: &[u8], whole: &[u8]) {
    let mut table = [httparse::EMPTY_HEADER; 256];
    let mut other = httparse::Response::new(&mut table);
    assert_eq!(other.parse(whole), Ok(httparse::Status::Complete(whole.len())));
    assert_eq!(other.code, Some(head.status()));
    let ours = head.fields().iter().map(|field| (field.name.of(bytes), field.value.of(bytes)));
    assert!(ours.eq(other.headers.iter().map(|header| (header.name.as_bytes(), header.value))));
}

fn copy_says_the_same(head: &ResponseHead, bytes: &[u8]) {
    let mut copy = Vec::new();
    head.copy_without(&mut copy, bytes, |field| field.known == Known::Connection);
    copy.extend_from_slice(b"\r\n");
    let mut again = ResponseHead::default();
    assert_eq!(again.parse(&copy, &Limits::default()), Ok(Some(copy.len())));
    assert_eq!((again.status(), again.body_for("GET")), (head.status(), head.body_for("GET")));
    assert!(again.find(Known::Connection).is_none());
}
