//! One span as OTLP has it (opentelemetry-proto, `trace.proto`), and the request that carries many.
//!
//! Names of attributes are those of the OpenTelemetry semantic conventions where there is one; what is
//! dragoman's own is below `dragoman.`.

use std::net::SocketAddr;
use std::num::NonZeroU128;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::protobuf::{bytes, fixed32, fixed64, length, message, number};
use crate::Cause;

/// The field of `ScopeSpans` that a span is.
const SPANS: u32 = 2;
/// `Span.kind`: a request to another service.
const CLIENT: u64 = 3;
/// `Status.code`.
const ERROR: u64 = 2;
/// `Span.flags`: the trace is sampled; it is known whether the parent is of another process; and it is.
const SAMPLED: u32 = 1;
const KNOWN: u32 = 1 << 8;
const REMOTE: u32 = 1 << 9;

/// What a span is apart from its attributes.
pub(crate) struct Span<'a> {
    pub(crate) trace_id: NonZeroU128,
    pub(crate) span_id: u64,
    pub(crate) parent: Option<Parent>,
    pub(crate) name: &'a str,
    /// Nanoseconds since 1970.
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Whether it failed, and what is known about that.
    pub(crate) error: Option<&'a str>,
}

/// The span that this one is a part of.
#[derive(Clone, Copy)]
pub(crate) struct Parent {
    pub(crate) span_id: u64,
    /// It is the caller's, not one of ours.
    pub(crate) remote: bool,
}

impl Span<'_> {
    /// Appends the span, with the attributes that `describe` gives.
    pub(crate) fn write(&self, out: &mut Vec<u8>, describe: impl FnOnce(&mut Attributes<'_>)) {
        message(out, SPANS, |out| {
            bytes(out, 1, &self.trace_id.get().to_be_bytes());
            bytes(out, 2, &self.span_id.to_be_bytes());
            if let Some(parent) = self.parent {
                bytes(out, 4, &parent.span_id.to_be_bytes());
            }
            bytes(out, 5, self.name.as_bytes());
            number(out, 6, CLIENT);
            fixed64(out, 7, self.start);
            fixed64(out, 8, self.end);
            describe(&mut Attributes { out, field: 9 });
            if let Some(text) = self.error {
                message(out, 15, |out| {
                    if !text.is_empty() {
                        bytes(out, 2, text.as_bytes());
                    }
                    number(out, 3, ERROR);
                });
            }
            let remote = self.parent.map_or(0, |parent| if parent.remote { KNOWN | REMOTE } else { KNOWN });
            fixed32(out, 16, SAMPLED | remote);
        });
    }
}

/// The attributes of a span or a resource, appended as they are named. One without a value is left out.
pub(crate) struct Attributes<'a> {
    out: &'a mut Vec<u8>,
    field: u32,
}

impl Attributes<'_> {
    pub(crate) fn text(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            self.pair(key, |out| bytes(out, 1, value.as_bytes()));
        }
    }

    pub(crate) fn flag(&mut self, key: &str, value: bool) {
        self.pair(key, |out| number(out, 2, value.into()));
    }

    pub(crate) fn count(&mut self, key: &str, value: u64) {
        self.pair(key, |out| number(out, 3, value));
    }

    /// What was connected to.
    pub(crate) fn endpoint(&mut self, address: Option<SocketAddr>) {
        if let Some(address) = address {
            self.text("network.peer.address", &address.ip().to_string());
            self.count("network.peer.port", address.port().into());
        }
    }

    /// Why it failed, and who made it fail.
    pub(crate) fn cause(&mut self, cause: Option<Cause>) {
        if let Some(cause) = cause {
            self.text("error.type", cause.as_str());
            self.text("dragoman.who", cause.who().as_str());
        }
    }

    fn pair(&mut self, key: &str, value: impl FnOnce(&mut Vec<u8>)) {
        message(self.out, self.field, |out| {
            bytes(out, 1, key.as_bytes());
            message(out, 2, value);
        });
    }
}

/// The `ExportTraceServiceRequest` for spans of one process. `resource` is what [`resource`] made.
pub(crate) fn request(resource: &[u8], spans: &[u8]) -> Vec<u8> {
    let mut scope = Vec::new();
    message(&mut scope, 1, |out| {
        bytes(out, 1, b"dragoman");
        bytes(out, 2, env!("CARGO_PKG_VERSION").as_bytes());
    });
    let mut before = resource.to_vec();
    length(&mut before, 2, scope.len() + spans.len());
    before.extend_from_slice(&scope);
    let mut out = Vec::with_capacity(before.len() + spans.len() + 16);
    length(&mut out, 1, before.len() + spans.len());
    out.extend_from_slice(&before);
    out.extend_from_slice(spans);
    out
}

/// The `resource` field of `ResourceSpans`: who made the spans.
pub(crate) fn resource(describe: impl FnOnce(&mut Attributes<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    message(&mut out, 1, |out| describe(&mut Attributes { out, field: 1 }));
    out
}

/// A moment on both clocks: spans have times of day, and durations that no change of the clock distorts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    instant: Instant,
    /// Since 1970.
    time: Duration,
}

impl Moment {
    /// The moment that `instant` was, on the clock as it is now.
    pub(crate) fn of(instant: Instant) -> Moment {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Moment { instant, time: now.saturating_sub(instant.elapsed()) }
    }

    /// When `instant`, not before this moment, was: nanoseconds since 1970.
    pub(crate) fn at(self, instant: Instant) -> u64 {
        let time = self.time + instant.saturating_duration_since(self.instant);
        u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The bytes were checked with the official messages (`opentelemetry.proto` of Python).
    #[test]
    fn a_request_has_the_bytes_that_the_protocol_asks_for() {
        let span = Span {
            trace_id: NonZeroU128::new(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736).unwrap(),
            span_id: 0xdd,
            parent: Some(Parent { span_id: 0x00f0_67aa_0ba9_02b7, remote: true }),
            name: "GET",
            start: 1_000_000_000,
            end: 1_000_000_001,
            error: Some("why"),
        };
        let mut spans = Vec::new();
        span.write(&mut spans, |attributes| {
            attributes.text("a", "b");
            attributes.text("left out", "");
            attributes.count("n", 300);
            attributes.flag("f", true);
        });
        let about = resource(|attributes| attributes.text("service.name", "shop"));
        let request = request(&about, &spans);
        let expected = [
            // Resource: service.name.
            "0a9d01",
            "0a180a160a0c736572766963652e6e616d6512060a0473686f70",
            // Scope: name and version.
            "128001",
            "0a110a08647261676f6d616e1205",
            &hex(env!("CARGO_PKG_VERSION").as_bytes()),
            // The span: ids, name, kind, times.
            "126b",
            "0a104bf92f3577b34da6a3ce929d0e0e4736",
            "120800000000000000dd",
            "220800f067aa0ba902b7",
            "2a03474554",
            "3003",
            "3900ca9a3b00000000",
            "4101ca9a3b00000000",
            // Its attributes, status and flags.
            "4a080a016112030a0162",
            "4a080a016e120318ac02",
            "4a070a016612021001",
            "7a0712037768791802",
            "850101030000",
        ];
        assert_eq!(hex(&request), expected.concat());
    }

    #[test]
    fn a_span_lasts_as_long_as_the_steady_clock_says() {
        let begun = Instant::now();
        let moment = Moment::of(begun);
        let later = begun + Duration::from_nanos(1_234_567_890);
        assert_eq!(moment.at(later) - moment.at(begun), 1_234_567_890);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        assert!(now.abs_diff(moment.at(begun).into()) < 60_000_000_000);
    }
}
