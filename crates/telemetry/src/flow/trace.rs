//! The span of a flow that carries no exchanges: bytes one way and the other, and how it ended.

use std::num::NonZeroU128;
use std::time::Instant;

use super::FlowRecord;
use crate::text;
use crate::trace::Spans;
use crate::trace::span::{Moment, Span};

impl FlowRecord {
    /// The span of a flow that ends now.
    pub(super) fn spans(&self, trace_id: NonZeroU128) -> Spans {
        let mut spans = Spans { bytes: Vec::with_capacity(512), count: 1 };
        let begun = Moment::of(self.start);
        let span = Span {
            trace_id,
            span_id: self.id,
            parent: None,
            name: &format!("{} flow", self.protocol),
            start: begun.at(self.start),
            end: begun.at(Instant::now()),
            error: self.cause.map(|_| text::shortened(self.detail().unwrap_or_default())),
        };
        span.write(&mut spans.bytes, |attributes| {
            attributes.text("network.transport", "tcp");
            let sni = text::printable(self.sni.as_deref().unwrap_or_default().as_bytes());
            if let Some(address) = self.original_dst {
                let ip = address.ip().to_string();
                attributes.text("server.address", if sni.is_empty() { &ip } else { &sni });
                attributes.count("server.port", address.port().into());
            }
            attributes.endpoint(self.endpoint);
            attributes.text("dragoman.destination", self.telemetry.destination(self.destination).name());
            attributes.text("dragoman.protocol", self.protocol.as_str());
            attributes.count("dragoman.attempts", self.connect_attempts.into());
            attributes.count("dragoman.bytes_from_app", self.bytes_from_app);
            attributes.count("dragoman.bytes_to_app", self.bytes_to_app);
            attributes.cause(self.cause);
        });
        spans
    }
}
