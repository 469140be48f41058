//! Trace context: vectors of the specifications and hostile ones.

use dragoman_wire::trace::{
    B3, B3Fields, B3Ids, Sampling, TraceContext, parse_b3_multi, parse_b3_single, parse_traceparent,
    write_b3_multi, write_b3_single, write_traceparent,
};
use proptest::prelude::*;

const TRACE: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
const SPAN: u64 = 0x00f0_67aa_0ba9_02b7;

#[test]
fn a_traceparent_is_read_and_written() {
    let text = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let context = TraceContext { trace_id: TRACE, span_id: SPAN, sampled: true, random: false };
    assert_eq!(parse_traceparent(text), Some(context));
    assert_eq!(&write_traceparent(&context), text);
    let child = context.child(0xab);
    assert_eq!(&write_traceparent(&child), b"00-4bf92f3577b34da6a3ce929d0e0e4736-00000000000000ab-01");
}

#[test]
fn known_flags_are_kept_and_reserved_ones_cleared() {
    let rewritten = |flags: &str| {
        let text = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
        let context = parse_traceparent(text.as_bytes()).expect("a valid traceparent");
        String::from_utf8(write_traceparent(&context)[53..].to_vec()).expect("hexadecimal digits")
    };
    assert_eq!(rewritten("00"), "00");
    assert_eq!(rewritten("03"), "03");
    assert_eq!(rewritten("02"), "02");
    assert_eq!(rewritten("ff"), "03");
    assert_eq!(rewritten("fc"), "00");
}

#[test]
fn a_later_version_is_read_by_its_known_part() {
    let later = |tail: &str| {
        parse_traceparent(format!("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01{tail}").as_bytes())
    };
    assert!(later("").is_some());
    assert!(later("-what-the-future-brings").is_some());
    assert!(later(".x").is_none());
    assert!(later("0").is_none());
}

#[test]
fn an_invalid_traceparent_is_none() {
    let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let invalid = [
        String::new(),
        good[..54].to_owned(),
        format!("{good}-"),
        format!("{good} "),
        format!(" {good}"),
        good.replacen("00-", "ff-", 1),
        good.replacen("00-", "0X-", 1),
        good.to_ascii_uppercase(),
        good.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
        good.replace("00f067aa0ba902b7", &"0".repeat(16)),
        good.replace('-', "_"),
        good.replace("-01", "-0g"),
        good.replace("-01", "-+1"),
    ];
    for text in invalid {
        assert_eq!(parse_traceparent(text.as_bytes()), None, "{text:?}");
    }
}

fn single(text: &str) -> Option<B3> {
    parse_b3_single(text.as_bytes())
}

fn ids(parent_span_id: Option<u64>) -> Option<B3Ids> {
    Some(B3Ids { trace_id: TRACE, wide: true, span_id: SPAN, parent_span_id })
}

#[test]
fn a_single_b3_is_read_and_written() {
    let wide = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";
    let vectors = [
        ("0".to_owned(), B3 { ids: None, sampling: Sampling::Deny }),
        ("d".to_owned(), B3 { ids: None, sampling: Sampling::Debug }),
        (wide.to_owned(), B3 { ids: ids(None), sampling: Sampling::Defer }),
        (format!("{wide}-1"), B3 { ids: ids(None), sampling: Sampling::Accept }),
        (
            format!("{wide}-d-05e3ac9a4f6e3b90"),
            B3 { ids: ids(Some(0x05e3_ac9a_4f6e_3b90)), sampling: Sampling::Debug },
        ),
    ];
    for (text, expected) in vectors {
        assert_eq!(single(&text), Some(expected), "{text}");
        let mut written = Vec::new();
        write_b3_single(&expected, &mut written);
        assert_eq!(written, text.as_bytes());
    }
    let narrow = single("a3ce929d0e0e4736-00f067aa0ba902b7-0").expect("a 64-bit trace id");
    assert_eq!(narrow.ids.map(|ids| (ids.trace_id, ids.wide)), Some((0xa3ce_929d_0e0e_4736, false)));
    let mut written = Vec::new();
    write_b3_single(&narrow.child(0xab), &mut written);
    assert_eq!(written, b"a3ce929d0e0e4736-00000000000000ab-0-00f067aa0ba902b7");
}

#[test]
fn an_invalid_single_b3_is_none() {
    let wide = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";
    let invalid = [
        String::new(),
        "2".to_owned(),
        "true".to_owned(),
        wide[..32].to_owned(),
        wide[1..].to_owned(),
        wide.to_ascii_uppercase(),
        format!("{wide}-"),
        format!("{wide}-2"),
        format!("{wide}-1-"),
        format!("{wide}-1-05e3ac9a4f6e3b90-"),
        format!("{wide}-1-0000000000000000"),
        format!("{wide}-1-5e3ac9a4f6e3b90"),
        "0".repeat(32) + &wide[32..],
        wide[..33].to_owned() + "0000000000000000",
    ];
    for text in invalid {
        assert_eq!(single(&text), None, "{text:?}");
    }
}

#[test]
fn b3_in_fields_is_read_and_written() {
    let fields = B3Fields {
        trace_id: Some(b"4bf92f3577b34da6a3ce929d0e0e4736"),
        span_id: Some(b"00f067aa0ba902b7"),
        sampled: Some(b"1"),
        ..B3Fields::default()
    };
    let b3 = parse_b3_multi(&fields).expect("valid fields");
    assert_eq!(b3, B3 { ids: ids(None), sampling: Sampling::Accept });
    let mut written = Vec::new();
    write_b3_multi(&b3.child(0xab), &mut written);
    let expected = "X-B3-TraceId: 4bf92f3577b34da6a3ce929d0e0e4736\r\nX-B3-SpanId: 00000000000000ab\r\n\
                    X-B3-ParentSpanId: 00f067aa0ba902b7\r\nX-B3-Sampled: 1\r\n";
    assert_eq!(String::from_utf8_lossy(&written), expected);

    let sampling = |sampled: Option<&[u8]>, flags: Option<&[u8]>| {
        parse_b3_multi(&B3Fields { sampled, flags, ..fields }).map(|b3| b3.sampling)
    };
    assert_eq!(sampling(Some(b"false"), None), Some(Sampling::Deny));
    assert_eq!(sampling(Some(b"true"), None), Some(Sampling::Accept));
    assert_eq!(sampling(None, Some(b"1")), Some(Sampling::Debug));
    assert_eq!(sampling(None, Some(b"0")), Some(Sampling::Defer));
    assert_eq!(sampling(Some(b"yes"), None), None);
}

#[test]
fn incomplete_b3_fields_are_none_but_a_decision_alone_is_not() {
    assert_eq!(parse_b3_multi(&B3Fields::default()), None);
    let only_trace = B3Fields { trace_id: Some(b"a3ce929d0e0e4736"), ..B3Fields::default() };
    assert_eq!(parse_b3_multi(&only_trace), None);
    let denied = B3Fields { sampled: Some(b"0"), ..B3Fields::default() };
    assert_eq!(parse_b3_multi(&denied), Some(B3 { ids: None, sampling: Sampling::Deny }));
}

proptest! {
    #[test]
    fn what_is_written_is_read(trace_id in 1_u128.., span_id in 1_u64.., parent in 1_u64.., sampled: bool) {
        let context = TraceContext { trace_id, span_id, sampled, random: !sampled };
        prop_assert_eq!(parse_traceparent(&write_traceparent(&context)), Some(context));
        let ids = Some(B3Ids { trace_id, wide: true, span_id, parent_span_id: Some(parent) });
        let b3 = B3 { ids, sampling: if sampled { Sampling::Accept } else { Sampling::Deny } };
        let mut written = Vec::new();
        write_b3_single(&b3, &mut written);
        prop_assert_eq!(parse_b3_single(&written), Some(b3));
    }

    #[test]
    fn arbitrary_text_never_panics(text in "[0-9a-f-]{0,80}", bytes: Vec<u8>) {
        for value in [text.as_bytes(), &bytes] {
            let _ = parse_traceparent(value);
            let _ = parse_b3_single(value);
        }
    }
}
