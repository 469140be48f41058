//! Traces: the spans of exchanges, of their attempts and of opaque flows, on their way to an OTLP receiver.
//!
//! A span is encoded where it ends, into the bytes that OTLP puts on the wire, and waits as bytes in a bounded
//! queue ([`queue`]); a thread of its own sends it (`export`). So the data path pays for a span once, what waits
//! has a known size, and a receiver that is slow or gone costs spans, which are counted, and never time.
//!
//! What is not recorded costs nothing: a record has no trace until [`ExchangeRecord::trace`] gives it one.
//!
//! [`ExchangeRecord::trace`]: crate::ExchangeRecord::trace

#[cfg(feature = "otlp")]
mod export;
#[cfg(feature = "otlp")]
mod post;
mod protobuf;
mod queue;
pub(crate) mod span;

use std::num::NonZeroU128;
use std::sync::Arc;
use std::time::Duration;

use crate::labels::DropReason;
use crate::metrics::{Metric, Page};

#[cfg(feature = "otlp")]
pub use export::Receiver;
use queue::Queue;
pub(crate) use queue::Spans;

/// The trace that an exchange belongs to, as its caller told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace.
    pub trace_id: NonZeroU128,
    /// The caller's span, if the caller has begun the trace; never zero.
    pub span_id: Option<u64>,
}

/// Where spans go: the queue in front of the thread that exports them. When it is dropped the thread ends,
/// after what is in the queue.
#[derive(Debug)]
pub struct Tracer(Arc<Queue>);

impl Tracer {
    /// Starts the thread that sends spans to `receiver`.
    ///
    /// # Errors
    /// The thread cannot be started.
    #[cfg(feature = "otlp")]
    pub fn start(receiver: Receiver) -> std::io::Result<Tracer> {
        let queue = Arc::new(Queue::default());
        export::start(Arc::clone(&queue), receiver)?;
        Ok(Tracer(queue))
    }

    /// Hands over spans that end together. Never waits; without room they are dropped and counted.
    pub(crate) fn submit(&self, spans: Spans) {
        self.0.push(spans);
    }

    /// Has everything sent now that waits to be sent, until the next [`Self::flush`] is over.
    pub(crate) fn hurry(&self) {
        self.0.hurry();
    }

    /// Has everything sent that was handed over before this call, now. Returns whether that was done within
    /// `timeout`; what cannot be sent at the first try is dropped and counted.
    pub(crate) fn flush(&self, timeout: Duration) -> bool {
        self.0.flush(timeout)
    }

    pub(crate) fn write(&self, page: &mut Page) {
        let counts = self.0.counts();
        page.sample(Metric::SpansExported, &[], counts.exported);
        for reason in DropReason::ALL {
            page.sample(Metric::SpansDropped, &[reason.as_str()], counts.dropped[*reason as usize]);
        }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.0.close();
    }
}
