//! A trace context that is read is written again as one that means the same.
#![no_main]

use dragoman_wire::trace::{
    B3, B3Fields, B3Ids, Sampling, parse_b3_multi, parse_b3_single, parse_traceparent, write_b3_multi,
    write_b3_single, write_traceparent,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(context) = parse_traceparent(bytes) {
        assert!(context.trace_id != 0 && context.span_id != 0);
        assert_eq!(parse_traceparent(&write_traceparent(&context)), Some(context));
        assert_eq!(context.child(7).trace_id, context.trace_id);
    }
    if let Some(b3) = parse_b3_single(bytes) {
        check(b3);
    }
    let mut values = bytes.split(|&byte| byte == b'\n').map(|value| (!value.is_empty()).then_some(value));
    let mut next = || values.next().flatten();
    let fields = B3Fields {
        trace_id: next(),
        span_id: next(),
        parent_span_id: next(),
        sampled: next(),
        flags: next(),
    };
    if let Some(b3) = parse_b3_multi(&fields) {
        check(b3);
    }
});

fn check(b3: B3) {
    let mut single = Vec::new();
    write_b3_single(&b3, &mut single);
    // Without a decision, this form has no place for a parent, nor for a context that says nothing.
    let expected = match b3 {
        B3 { ids: None, sampling: Sampling::Defer } => None,
        B3 { ids, sampling: Sampling::Defer } => {
            Some(B3 { ids: ids.map(|ids| B3Ids { parent_span_id: None, ..ids }), ..b3 })
        }
        _ => Some(b3),
    };
    assert_eq!(parse_b3_single(&single), expected);

    let mut lines = Vec::new();
    write_b3_multi(&b3, &mut lines);
    assert_eq!(parse_b3_multi(&fields_of(&lines)), Some(b3));
}

fn fields_of(lines: &[u8]) -> B3Fields<'_> {
    let mut fields = B3Fields::default();
    for line in lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        let line = line.strip_suffix(b"\r").expect("each line ends in CRLF");
        let colon = line.iter().position(|&byte| byte == b':').expect("a field line");
        let value = Some(&line[colon + 2..]);
        match &line[..colon] {
            b"X-B3-TraceId" => fields.trace_id = value,
            b"X-B3-SpanId" => fields.span_id = value,
            b"X-B3-ParentSpanId" => fields.parent_span_id = value,
            b"X-B3-Sampled" => fields.sampled = value,
            b"X-B3-Flags" => fields.flags = value,
            other => panic!("{}: not a field of B3", other.escape_ascii()),
        }
    }
    fields
}
