//! Trace context: W3C `traceparent` and B3, read and written.
//!
//! A proxy continues the trace that the application began and says who called whom: same trace id and
//! flags, a new span id. What it cannot read it does not touch.

/// A W3C trace context (Trace Context Level 2, §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// Never zero.
    pub trace_id: u128,
    /// The caller's span, never zero.
    pub span_id: u64,
    /// Whether the caller may have recorded the trace.
    pub sampled: bool,
    /// Whether the trace id is known to be random. The other flags are reserved: they are written as zero.
    pub random: bool,
}

impl TraceContext {
    /// The same trace, seen from another span.
    #[must_use]
    pub fn child(self, span_id: u64) -> Self {
        Self { span_id, ..self }
    }
}

const SAMPLED: u8 = 1;
const RANDOM: u8 = 2;
/// The length of a traceparent of version 00, in bytes.
const TRACEPARENT: usize = 55;

/// Reads a traceparent field. `None` if it is invalid: then a new trace begins. Of a version that is
/// not known yet the part that version 00 has is read.
pub fn parse_traceparent(value: &[u8]) -> Option<TraceContext> {
    let (head, tail) = value.split_first_chunk::<TRACEPARENT>()?;
    if [head[2], head[35], head[52]] != *b"---" {
        return None;
    }
    let version = u8::try_from(hex(&head[..2])?).ok()?;
    match (version, tail) {
        (0xff, _) => return None,
        (0, tail) if !tail.is_empty() => return None,
        (_, [other, ..]) if *other != b'-' => return None,
        _ => {}
    }
    let trace_id = hex(&head[3..35])?;
    let span_id = u64::try_from(hex(&head[36..52])?).ok()?;
    let flags = u8::try_from(hex(&head[53..])?).ok()?;
    let valid = trace_id != 0 && span_id != 0;
    valid.then_some(TraceContext {
        trace_id,
        span_id,
        sampled: flags & SAMPLED != 0,
        random: flags & RANDOM != 0,
    })
}

/// Writes a traceparent field of version 00.
pub fn write_traceparent(context: &TraceContext) -> [u8; TRACEPARENT] {
    let mut text = [b'-'; TRACEPARENT];
    write_hex(&mut text[..2], 0);
    write_hex(&mut text[3..35], context.trace_id);
    write_hex(&mut text[36..52], context.span_id.into());
    let flags = (u8::from(context.sampled) * SAMPLED) | (u8::from(context.random) * RANDOM);
    write_hex(&mut text[53..], flags.into());
    text
}

/// The B3 propagation of Zipkin (openzipkin/b3-propagation).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct B3 {
    /// The identifiers; `None` if the caller only passes a sampling decision.
    pub ids: Option<B3Ids>,
    /// The sampling decision.
    pub sampling: Sampling,
}

/// Which span of which trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct B3Ids {
    /// Never zero.
    pub trace_id: u128,
    /// Whether the trace id is written with 32 digits; it keeps the width it came in.
    pub wide: bool,
    /// Never zero.
    pub span_id: u64,
    /// The span that called this one.
    pub parent_span_id: Option<u64>,
}

/// The sampling decision of B3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampling {
    /// Left to the receiver.
    Defer,
    /// Do not record.
    Deny,
    /// Record.
    Accept,
    /// Record, whatever any sampler says.
    Debug,
}

impl B3 {
    /// The same trace, seen from another span whose parent is the caller's.
    #[must_use]
    pub fn child(self, span_id: u64) -> Self {
        let ids = self.ids.map(|ids| B3Ids { span_id, parent_span_id: Some(ids.span_id), ..ids });
        Self { ids, ..self }
    }
}

/// The values of the `x-b3-…` fields, each absent or as it came.
#[derive(Clone, Copy, Debug, Default)]
#[expect(missing_docs, reason = "each is the field of that name")]
pub struct B3Fields<'a> {
    pub trace_id: Option<&'a [u8]>,
    pub span_id: Option<&'a [u8]>,
    pub parent_span_id: Option<&'a [u8]>,
    pub sampled: Option<&'a [u8]>,
    pub flags: Option<&'a [u8]>,
}

/// Reads a single `b3` field: `trace-span[-sampling[-parent]]`, or a sampling decision alone.
pub fn parse_b3_single(value: &[u8]) -> Option<B3> {
    if let Some(sampling) = sampling_of(value) {
        return Some(B3 { ids: None, sampling });
    }
    let mut parts = value.split(|&b| b == b'-');
    let (trace_id, wide) = trace_id(parts.next()?)?;
    let span_id = span_id(parts.next()?)?;
    let sampling = parts.next().map_or(Some(Sampling::Defer), sampling_of)?;
    let parent_span_id = match parts.next() {
        Some(parent) => Some(self::span_id(parent)?),
        None => None,
    };
    let ids = B3Ids { trace_id, wide, span_id, parent_span_id };
    parts.next().is_none().then_some(B3 { ids: Some(ids), sampling })
}

/// Reads the fields of the form with one field each. `None` if there are none, or one is invalid.
pub fn parse_b3_multi(fields: &B3Fields<'_>) -> Option<B3> {
    // Tracers older than the specification wrote words.
    let sampling = match (fields.flags, fields.sampled) {
        (Some(b"1"), _) => Sampling::Debug,
        (_, Some(b"1" | b"true")) => Sampling::Accept,
        (_, Some(b"0" | b"false")) => Sampling::Deny,
        (_, Some(_)) => return None,
        (_, None) => Sampling::Defer,
    };
    let ids = match (fields.trace_id, fields.span_id) {
        (Some(trace), Some(span)) => {
            let (trace_id, wide) = trace_id(trace)?;
            let parent_span_id = match fields.parent_span_id {
                Some(parent) => Some(span_id(parent)?),
                None => None,
            };
            Some(B3Ids { trace_id, wide, span_id: span_id(span)?, parent_span_id })
        }
        (None, None) if sampling != Sampling::Defer => None,
        _ => return None,
    };
    Some(B3 { ids, sampling })
}

/// Appends the value of a single `b3` field; nothing if there is nothing to say.
pub fn write_b3_single(b3: &B3, out: &mut Vec<u8>) {
    let sampling: &[u8] = match b3.sampling {
        Sampling::Defer => b"",
        Sampling::Deny => b"0",
        Sampling::Accept => b"1",
        Sampling::Debug => b"d",
    };
    let Some(ids) = b3.ids else { return out.extend_from_slice(sampling) };
    push_trace_id(out, &ids);
    out.push(b'-');
    push_span_id(out, ids.span_id);
    // A parent without a decision before it has no place in this form.
    if !sampling.is_empty() {
        out.push(b'-');
        out.extend_from_slice(sampling);
        if let Some(parent) = ids.parent_span_id {
            out.push(b'-');
            push_span_id(out, parent);
        }
    }
}

/// Appends field lines, each with its CRLF.
pub fn write_b3_multi(b3: &B3, out: &mut Vec<u8>) {
    if let Some(ids) = b3.ids {
        out.extend_from_slice(b"X-B3-TraceId: ");
        push_trace_id(out, &ids);
        out.extend_from_slice(b"\r\nX-B3-SpanId: ");
        push_span_id(out, ids.span_id);
        if let Some(parent) = ids.parent_span_id {
            out.extend_from_slice(b"\r\nX-B3-ParentSpanId: ");
            push_span_id(out, parent);
        }
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(match b3.sampling {
        Sampling::Defer => b"",
        Sampling::Deny => b"X-B3-Sampled: 0\r\n",
        Sampling::Accept => b"X-B3-Sampled: 1\r\n",
        Sampling::Debug => b"X-B3-Flags: 1\r\n",
    });
}

fn sampling_of(text: &[u8]) -> Option<Sampling> {
    match text {
        b"0" => Some(Sampling::Deny),
        b"1" => Some(Sampling::Accept),
        b"d" => Some(Sampling::Debug),
        _ => None,
    }
}

/// A trace id of 16 or 32 digits, and whether it has 32.
fn trace_id(text: &[u8]) -> Option<(u128, bool)> {
    let id = matches!(text.len(), 16 | 32).then(|| hex(text)).flatten()?;
    (id != 0).then_some((id, text.len() == 32))
}

fn span_id(text: &[u8]) -> Option<u64> {
    let id = (text.len() == 16).then(|| hex(text)).flatten()?;
    u64::try_from(id).ok().filter(|&id| id != 0)
}

fn push_trace_id(out: &mut Vec<u8>, ids: &B3Ids) {
    push_hex(out, ids.trace_id, if ids.wide { 32 } else { 16 });
}

fn push_span_id(out: &mut Vec<u8>, id: u64) {
    push_hex(out, id.into(), 16);
}

fn push_hex(out: &mut Vec<u8>, value: u128, digits: usize) {
    let start = out.len();
    out.resize(start + digits, b'0');
    write_hex(&mut out[start..], value);
}

/// Up to 32 lower-case digits: both formats forbid capitals.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |value, &digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(digit))
    })
}

/// Fills `digits` with the low digits of `value`.
fn write_hex(digits: &mut [u8], mut value: u128) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 0xf) as usize];
        value >>= 4;
    }
}
