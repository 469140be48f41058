//! The trace that a request belongs to, seen from dragoman's span: W3C is continued or begun, B3 is continued.

use dragoman_policy::Random;
use dragoman_wire::http1::Known;
use dragoman_wire::trace::{
    B3Fields, TraceContext, parse_b3_multi, parse_b3_single, parse_traceparent, write_b3_multi,
    write_b3_single, write_traceparent,
};

use crate::shared::with_random;

/// The trace that a request belongs to, seen from dragoman's span.
pub(crate) enum Trace {
    W3c(TraceContext),
    B3Single(Vec<u8>),
    B3Multi(Vec<u8>),
    /// The app began a trace that cannot be read, or none: a new one begins.
    New(TraceContext),
}

impl Trace {
    /// The trace of a request whose fields `value` finds.
    pub(crate) fn read<'a>(value: impl Fn(Known) -> Option<&'a [u8]>) -> Self {
        let span_id = with_random(Random::next_u64).max(1);
        if let Some(context) = value(Known::Traceparent).and_then(parse_traceparent) {
            return Self::W3c(context.child(span_id));
        }
        if let Some(b3) = value(Known::B3).and_then(parse_b3_single) {
            let mut line = Vec::new();
            write_b3_single(&b3.child(span_id), &mut line);
            return Self::B3Single(line);
        }
        let fields = B3Fields {
            trace_id: value(Known::XB3TraceId),
            span_id: value(Known::XB3SpanId),
            parent_span_id: value(Known::XB3ParentSpanId),
            sampled: value(Known::XB3Sampled),
            flags: value(Known::XB3Flags),
        };
        if let Some(b3) = parse_b3_multi(&fields) {
            let mut lines = Vec::new();
            write_b3_multi(&b3.child(span_id), &mut lines);
            return Self::B3Multi(lines);
        }
        let trace_id =
            with_random(|random| u128::from(random.next_u64()) << 64 | u128::from(random.next_u64()));
        // A trace that is not sampled would stop every server behind us from recording its own part.
        Self::New(TraceContext { trace_id: trace_id.max(1), span_id, sampled: true, random: true })
    }

    /// Whether a field of the request gives way to those of [`Self::write`].
    pub(crate) fn replaces(&self, known: Known) -> bool {
        match self {
            Self::W3c(_) => known == Known::Traceparent,
            Self::B3Single(_) => known == Known::B3,
            Self::B3Multi(_) => matches!(
                known,
                Known::XB3TraceId
                    | Known::XB3SpanId
                    | Known::XB3ParentSpanId
                    | Known::XB3Sampled
                    | Known::XB3Flags
            ),
            // A tracestate belongs to the traceparent that could not be read.
            Self::New(_) => matches!(known, Known::Traceparent | Known::Tracestate),
        }
    }

    /// Gives each field, name and value, to `add`.
    pub(crate) fn write(&self, mut add: impl FnMut(&str, &[u8])) {
        match self {
            Self::W3c(context) | Self::New(context) => add("traceparent", &write_traceparent(context)),
            Self::B3Single(value) => add("b3", value),
            Self::B3Multi(lines) => {
                for line in lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
                    let colon = line.iter().position(|&byte| byte == b':').unwrap_or(line.len());
                    let (name, value) = line.split_at(colon);
                    add(std::str::from_utf8(name).unwrap_or_default(), value[1..].trim_ascii());
                }
            }
        }
    }
}

/// A random identifier for `x-request-id`, in the form of a version 4 UUID (RFC 9562).
pub(crate) fn request_id() -> [u8; 36] {
    let (high, low) = with_random(|random| (random.next_u64(), random.next_u64()));
    let high = high & !0xf000 | 0x4000;
    let low = low & !(0b11 << 62) | 0b10 << 62;
    let mut nibbles = (0..16).map(|n| high >> (60 - 4 * n)).chain((0..16).map(|n| low >> (60 - 4 * n)));
    std::array::from_fn(|index| match index {
        8 | 13 | 18 | 23 => b'-',
        _ => b"0123456789abcdef"[(nibbles.next().unwrap_or_default() & 0xf) as usize],
    })
}
