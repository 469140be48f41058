//! The trace that an exchange belongs to: continued in the form in which the app sent it, or begun.
//!
//! Two things are decided here, apart from each other. Policy (`trace = true`) lets fields of the request change; a
//! tracer (`[trace] endpoint`) has spans recorded. Whoever looks at the trace later sees the app call the exchange, the
//! exchange its attempts, and the attempt the server: so what goes upstream is the context of an attempt.

use std::num::NonZeroU128;

use dragoman_config::{HeaderRules, Propagation};
use dragoman_policy::Random;
use dragoman_telemetry::{ExchangeRecord, TraceParent};
use dragoman_wire::http1::Known;
use dragoman_wire::trace::{
    B3, B3Fields, B3Ids, Sampling, TraceContext, parse_b3_multi, parse_b3_single, parse_traceparent,
    write_b3_multi, write_b3_single, write_traceparent,
};

use crate::shared::{Shared, with_random};

/// A trace, seen from one of its spans.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trace {
    form: Propagation,
    /// `None` where a caller only decides whether to record.
    trace_id: Option<NonZeroU128>,
    /// Whether B3 writes the trace id with 32 digits.
    wide: bool,
    /// Whether the trace id is known to be random.
    random: bool,
    sampling: Sampling,
    span: Option<u64>,
    /// The span that called `span`.
    caller: Option<u64>,
    /// The app sent none, or none that can be read.
    is_new: bool,
}

impl Trace {
    /// The trace of an exchange whose request has the fields that `value` finds. It is recorded if there is a tracer, and
    /// it is sampled. Returns what goes upstream of it, if policy lets anything.
    pub(crate) fn join<'a>(
        shared: &Shared,
        rules: &HeaderRules,
        value: impl Fn(Known) -> Option<&'a [u8]>,
        record: &mut ExchangeRecord,
    ) -> Option<Self> {
        let recorded = shared.telemetry.traces();
        if !recorded && !rules.trace {
            return None;
        }
        let config = shared.config.now();
        let mut trace = Self::continued(value).unwrap_or_else(|| Self::begun(config.trace.propagation));
        if recorded {
            if let Some(parent) = trace.decide(config.trace.sample) {
                record.trace(parent);
            }
        } else if trace.is_new {
            // A trace that is not sampled would stop every server behind us from recording its own part.
            trace.sampling = Sampling::Accept;
        }
        if let Some(span) = record.span() {
            trace = trace.child(span);
        }
        rules.trace.then(|| trace.child(span_id()))
    }

    /// The same trace, seen from `span`, which the present one calls.
    #[must_use]
    pub(crate) fn child(self, span: u64) -> Self {
        Self { span: Some(span), caller: self.span, ..self }
    }

    /// The same trace, seen from another span with the same caller.
    #[must_use]
    pub(crate) fn sibling(self, span: u64) -> Self {
        Self { span: Some(span), ..self }
    }

    /// Whether a field of the request gives way to those of [`Self::write`].
    pub(crate) fn replaces(&self, known: Known) -> bool {
        match (self.form, known) {
            // A tracestate belongs to the traceparent that could not be read.
            (_, Known::Traceparent | Known::Tracestate) if self.is_new => true,
            (Propagation::W3c, known) => known == Known::Traceparent,
            (Propagation::B3, known) => known == Known::B3,
            (Propagation::B3Multi, known) => matches!(
                known,
                Known::XB3TraceId
                    | Known::XB3SpanId
                    | Known::XB3ParentSpanId
                    | Known::XB3Sampled
                    | Known::XB3Flags
            ),
        }
    }

    /// Gives each field, name and value, to `add`.
    pub(crate) fn write(&self, mut add: impl FnMut(&str, &[u8])) {
        let mut text = Vec::new();
        match self.form {
            Propagation::W3c => {
                if let Some(context) = self.w3c() {
                    add("traceparent", &write_traceparent(&context));
                }
            }
            Propagation::B3 => {
                write_b3_single(&self.b3(), &mut text);
                add("b3", &text);
            }
            Propagation::B3Multi => {
                write_b3_multi(&self.b3(), &mut text);
                for line in text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
                    let colon = line.iter().position(|&byte| byte == b':').unwrap_or(line.len());
                    let (name, value) = line.split_at(colon);
                    add(std::str::from_utf8(name).unwrap_or_default(), value[1..].trim_ascii());
                }
            }
        }
    }

    /// Where the present span stands in fields that [`Self::write`] gave: its digits are our own and random, so nothing
    /// else in them is the same.
    pub(crate) fn find_span(&self, fields: &[u8]) -> Option<usize> {
        let digits = span_digits(self.span?);
        fields.windows(digits.len()).position(|window| window == digits)
    }

    /// The trace that the app sent, seen from the app's span.
    fn continued<'a>(value: impl Fn(Known) -> Option<&'a [u8]>) -> Option<Self> {
        if let Some(context) = value(Known::Traceparent).and_then(parse_traceparent) {
            return Some(Self {
                form: Propagation::W3c,
                trace_id: NonZeroU128::new(context.trace_id),
                wide: true,
                random: context.random,
                sampling: if context.sampled { Sampling::Accept } else { Sampling::Deny },
                span: Some(context.span_id),
                caller: None,
                is_new: false,
            });
        }
        if let Some(b3) = value(Known::B3).and_then(parse_b3_single) {
            return Some(Self::of_b3(Propagation::B3, &b3));
        }
        let fields = B3Fields {
            trace_id: value(Known::XB3TraceId),
            span_id: value(Known::XB3SpanId),
            parent_span_id: value(Known::XB3ParentSpanId),
            sampled: value(Known::XB3Sampled),
            flags: value(Known::XB3Flags),
        };
        parse_b3_multi(&fields).map(|b3| Self::of_b3(Propagation::B3Multi, &b3))
    }

    fn of_b3(form: Propagation, b3: &B3) -> Self {
        Self {
            form,
            trace_id: b3.ids.and_then(|ids| NonZeroU128::new(ids.trace_id)),
            wide: b3.ids.is_none_or(|ids| ids.wide),
            random: false,
            sampling: b3.sampling,
            span: b3.ids.map(|ids| ids.span_id),
            caller: b3.ids.and_then(|ids| ids.parent_span_id),
            is_new: false,
        }
    }

    /// A new trace, which has no span and about which nobody has decided.
    fn begun(form: Propagation) -> Self {
        Self {
            form,
            trace_id: Some(trace_id()),
            wide: true,
            random: true,
            sampling: Sampling::Defer,
            span: None,
            caller: None,
            is_new: true,
        }
    }

    /// Decides whether the trace is recorded, where no caller has; what its spans are part of, if it is.
    fn decide(&mut self, share: f64) -> Option<TraceParent> {
        if self.sampling == Sampling::Deny {
            return None;
        }
        let trace_id = *self.trace_id.get_or_insert_with(trace_id);
        if self.sampling == Sampling::Defer {
            self.sampling = if is_sampled(trace_id, share) { Sampling::Accept } else { Sampling::Deny };
        }
        (self.sampling != Sampling::Deny).then_some(TraceParent { trace_id, span_id: self.span })
    }

    fn w3c(&self) -> Option<TraceContext> {
        let sampled = matches!(self.sampling, Sampling::Accept | Sampling::Debug);
        let (trace_id, span_id) = (self.trace_id?.get(), self.span?);
        Some(TraceContext { trace_id, span_id, sampled, random: self.random })
    }

    fn b3(&self) -> B3 {
        let ids = self.trace_id.zip(self.span).map(|(trace_id, span_id)| B3Ids {
            trace_id: trace_id.get(),
            wide: self.wide,
            span_id,
            parent_span_id: self.caller,
        });
        B3 { ids, sampling: self.sampling }
    }
}

/// The trace of a flow without exchanges, if it is one of those that are recorded.
pub(crate) fn sample_flow(shared: &Shared) -> Option<NonZeroU128> {
    let trace_id = shared.telemetry.traces().then(trace_id)?;
    is_sampled(trace_id, shared.config.now().trace.sample).then_some(trace_id)
}

/// How a span id is written, in every form.
pub(crate) fn span_digits(span: u64) -> [u8; 16] {
    std::array::from_fn(|index| b"0123456789abcdef"[(span >> (60 - 4 * index) & 0xf) as usize])
}

/// Whether a trace belongs to the share that is recorded, from 0 to 1. As the OpenTelemetry specification has it
/// ("TraceState: Probability Sampling"): by the last 56 bits of the trace id, so that others with the same share decide
/// the same.
fn is_sampled(trace_id: NonZeroU128, share: f64) -> bool {
    const VALUES: u64 = 1 << 56;
    let randomness = trace_id.get() as u64 & (VALUES - 1);
    let threshold = ((1.0 - share) * VALUES as f64) as u64;
    randomness >= threshold
}

fn trace_id() -> NonZeroU128 {
    let (high, low) = with_random(|random| (random.next_u64(), random.next_u64()));
    NonZeroU128::new(u128::from(high) << 64 | u128::from(low)).unwrap_or(NonZeroU128::MIN)
}

fn span_id() -> u64 {
    with_random(Random::next_u64).max(1)
}

/// A random identifier for `x-request-id`, in the form of a version 4 UUID (RFC 9562).
pub(crate) fn request_id() -> [u8; 36] {
    let (high, low) = with_random(|random| (random.next_u64(), random.next_u64()));
    let high = high & !0xf000 | 0x4000;
    let low = low & !(0b11 << 62) | 0b10 << 62;
    let (high, low) = (span_digits(high), span_digits(low));
    let mut text = [b'-'; 36];
    text[..8].copy_from_slice(&high[..8]);
    text[9..13].copy_from_slice(&high[8..12]);
    text[14..18].copy_from_slice(&high[12..]);
    text[19..23].copy_from_slice(&low[..4]);
    text[24..].copy_from_slice(&low[4..]);
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What goes upstream without a tracer.
    pub(crate) fn unrecorded<'a>(value: impl Fn(Known) -> Option<&'a [u8]>) -> Trace {
        let begun = || Trace { sampling: Sampling::Accept, ..Trace::begun(Propagation::W3c) };
        Trace::continued(value).unwrap_or_else(begun).child(span_id())
    }

    fn b3(text: &'static str) -> Trace {
        Trace::continued(|known| (known == Known::B3).then_some(text.as_bytes())).unwrap()
    }

    fn written(trace: &Trace) -> String {
        let mut text = String::new();
        trace.write(|name, value| text += &format!("{name}: {}\n", String::from_utf8_lossy(value)));
        text
    }

    #[test]
    fn a_share_is_of_the_trace_ids() {
        let id = |low: u64| NonZeroU128::new(1 << 64 | u128::from(low)).unwrap();
        let top = 1 << 56;
        for (low, share, sampled) in [
            (0, 1.0, true),
            (top - 1, 0.0, false),
            (top / 4 * 3 - 1, 0.25, false),
            (top / 4 * 3, 0.25, true),
            (top, 0.99, false),
        ] {
            assert_eq!(is_sampled(id(low), share), sampled, "{low:x} {share}");
        }
        let sampled = (0..100_000).filter(|_| is_sampled(trace_id(), 0.01)).count();
        assert!((700..1300).contains(&sampled), "{sampled}");
    }

    #[test]
    fn what_a_caller_decided_is_not_decided_again() {
        const IDS: &str = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";
        for (sampling, recorded, after) in
            [("-0", false, "-0"), ("-1", true, "-1"), ("-d", true, "-d"), ("", false, "-0")]
        {
            let mut trace = b3(String::leak(format!("{IDS}{sampling}")));
            assert_eq!(trace.decide(0.0).is_some(), recorded, "{sampling}");
            assert_eq!(written(&trace), format!("b3: {IDS}{after}\n"));
        }
        assert_eq!(b3("0").decide(1.0), None);
        assert_eq!(b3("1").decide(0.0).map(|parent| parent.span_id), Some(None), "it begins here");
    }

    #[test]
    fn each_span_names_the_one_that_calls_it() {
        let trace = b3("00000000000000aa-00000000000000bb-1-00000000000000cc");
        let attempt = trace.child(0xdd).child(0xee).sibling(0xff);
        let text = written(&attempt);
        assert_eq!(text, "b3: 00000000000000aa-00000000000000ff-1-00000000000000dd\n");
        assert_eq!(attempt.find_span(text.as_bytes()), text.find("00000000000000ff"));
        assert_eq!(span_digits(0x1234_5678_9abc_def0), *b"123456789abcdef0");
    }

    #[test]
    fn a_trace_is_begun_in_the_form_of_policy() {
        for (form, names) in [
            (Propagation::W3c, &["traceparent"][..]),
            (Propagation::B3, &["b3"]),
            (Propagation::B3Multi, &["X-B3-TraceId", "X-B3-SpanId", "X-B3-Sampled"]),
        ] {
            let mut trace = Trace::begun(form);
            assert!(trace.decide(1.0).is_some_and(|parent| parent.span_id.is_none()));
            let text = written(&trace.child(7));
            let found: Vec<_> = text.lines().map(|line| line.split(':').next().unwrap()).collect();
            assert_eq!(found, names);
            assert!(trace.replaces(Known::Tracestate) && text.contains("0000000000000007"), "{text}");
        }
    }
}
