//! The content of one direction of an exchange, under the flow control of both sides.
//!
//! A chunk is read, written as the receiver takes it, and only then given back to the sender's window: beside the
//! windows that were granted, one chunk per direction is all that is held.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use http::HeaderMap;

use crate::flow::message::{Broke, Incoming, Outgoing};

/// Which side ended a direction before its end, and how.
#[derive(Debug)]
pub(super) enum Broken {
    Sender(Broke),
    Receiver(Broke),
    /// The sender has said nothing for too long.
    Silent,
}

/// Passes the head, if it is not written, and content on to its end. Returns the trailers, before they are sent: what they
/// say may be of interest. `reads`: it is the sender that is waited for, not the receiver.
pub(super) async fn pipe(
    from: &mut Incoming,
    to: &mut Outgoing,
    moved: &mut u64,
    reads: &AtomicBool,
) -> Result<Option<HeaderMap>, Broken> {
    to.flush().await.map_err(Broken::Receiver)?;
    loop {
        reads.store(true, Relaxed);
        let data = tokio::select! {
            biased;
            data = from.data() => data,
            broke = to.broken() => return Err(Broken::Receiver(broke)),
        };
        let Some(chunk) = data else {
            reads.store(false, Relaxed);
            return from.trailers().await.map_err(Broken::Sender);
        };
        let mut chunk = chunk.map_err(Broken::Sender)?;
        let length = chunk.len();
        reads.store(false, Relaxed);
        to.write(&mut chunk, false).await.map_err(Broken::Receiver)?;
        *moved += length as u64;
        from.release(length).map_err(Broken::Sender)?;
    }
}
