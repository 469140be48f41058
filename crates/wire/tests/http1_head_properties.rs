//! The head readers on generated input, with httparse as the second opinion.

use dragoman_wire::http1::{Field, Limits, RequestHead, ResponseHead, Span};
use proptest::prelude::*;

/// Heads that are mostly right, with one odd byte sequence put in somewhere.
fn near_heads() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        "(GET|POST|CONNECT|x!) (/[a-z/?#%]{0,8}|\\*|http://[a-z.]{1,8}(/[a-z]*)?|a:1) HTTP/1\\.[01]",
        "[A-Z ]{1,6}[ \t]/[ \t]HTTP/[0-9]\\.[0-9]",
        "HTTP/1\\.[01] [0-9]{3}( [a-z ]{0,8})?",
    ];
    let field = prop_oneof![
        "[A-Za-z-]{1,10}:[ \t]{0,2}[ -~]{0,12}",
        "Content-Length: [0-9]{1,3}(, ?[0-9]{1,3})?",
        Just("Transfer-Encoding: chunked".to_owned()),
        Just("Host: a.test".to_owned()),
    ];
    let odd = prop_oneof![
        8 => Just(Vec::new()),
        1 => prop::collection::vec(any::<u8>(), 1..3),
        1 => prop::sample::select(vec![b"\n".to_vec(), b"\r".to_vec(), b"\r\n".to_vec(), b"\r\n ".to_vec()]),
    ];
    (line, prop::collection::vec(field, 0..5), any::<prop::sample::Index>(), odd).prop_map(
        |(line, fields, at, odd)| {
            let mut head = format!("{line}\r\nHost: h\r\n").into_bytes();
            for field in fields {
                head.extend_from_slice(field.as_bytes());
                head.extend_from_slice(b"\r\n");
            }
            head.extend_from_slice(b"\r\n");
            let at = at.index(head.len());
            head.splice(at..at, odd);
            head
        },
    )
}

/// The start line and all field lines, which must be the head again.
fn lines(bytes: &[u8], start: Span, fields: &[Field]) -> Vec<u8> {
    let mut all = start.of(bytes).to_vec();
    for field in fields {
        all.extend_from_slice(field.line.of(bytes));
    }
    all.extend_from_slice(b"\r\n");
    all
}

fn httparse_takes_request(bytes: &[u8]) -> bool {
    let mut table = [httparse::EMPTY_HEADER; 64];
    let result = httparse::Request::new(&mut table).parse(bytes);
    result == Ok(httparse::Status::Complete(bytes.len()))
}

fn httparse_takes_response(bytes: &[u8]) -> bool {
    let mut table = [httparse::EMPTY_HEADER; 64];
    let result = httparse::Response::new(&mut table).parse(bytes);
    result == Ok(httparse::Status::Complete(bytes.len()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn what_is_accepted_is_whole_and_httparse_takes_it_too(bytes in near_heads()) {
        let limits = Limits::default();
        let mut request = RequestHead::default();
        if let Ok(Some(length)) = request.parse(&bytes, &limits) {
            let head = &bytes[..length];
            prop_assert_eq!(lines(&bytes, request.start_line(), request.fields()), &head[request.start()..]);
            // httparse wants a target in UTF-8; a proxy forwards what it got.
            let utf8 = std::str::from_utf8(request.target(&bytes)).is_ok();
            prop_assert!(httparse_takes_request(head) || !utf8);
        }
        let mut response = ResponseHead::default();
        if let Ok(Some(length)) = response.parse(&bytes, &limits) {
            prop_assert_eq!(lines(&bytes, response.start_line(), response.fields()), &bytes[..length]);
            prop_assert!(httparse_takes_response(&bytes[..length]));
        }
    }

    #[test]
    fn the_answer_does_not_depend_on_the_segmentation(bytes in near_heads()) {
        let limits = Limits::default();
        let (mut request, mut response) = (RequestHead::default(), ResponseHead::default());
        let whole = request.parse(&bytes, &limits).transpose();
        let grown = (0..=bytes.len()).find_map(|n| request.parse(&bytes[..n], &limits).transpose());
        prop_assert_eq!(grown, whole);
        let whole = response.parse(&bytes, &limits).transpose();
        let grown = (0..=bytes.len()).find_map(|n| response.parse(&bytes[..n], &limits).transpose());
        prop_assert_eq!(grown, whole);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>, text in "[ -~\r\n\t]{0,200}") {
        for bytes in [bytes.as_slice(), text.as_bytes()] {
            let _ = RequestHead::default().parse(bytes, &Limits::default());
            let _ = ResponseHead::default().parse(bytes, &Limits::default());
        }
    }
}
