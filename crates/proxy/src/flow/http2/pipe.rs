//! The bytes of one direction of a stream, under the flow control of both sides.
//!
//! A chunk is read, written as the receiver's window allows, and only then given back to the sender's window: beside the
//! windows that were granted, one chunk per stream and direction is all that is held.

use std::future::poll_fn;

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http::HeaderMap;

/// Which side ended a direction before its end, and how.
#[derive(Debug)]
pub(super) enum Broken {
    Sender(h2::Error),
    Receiver(h2::Error),
}

/// Writes `chunk`, in pieces as the window opens; what is written is gone from it, so that a cancelled write can go on.
/// `last`: the stream ends with it.
pub(super) async fn write(
    to: &mut SendStream<Bytes>,
    chunk: &mut Bytes,
    last: bool,
) -> Result<(), h2::Error> {
    while !chunk.is_empty() {
        to.reserve_capacity(chunk.len());
        // Capacity that is left from before is not announced again.
        while to.capacity() == 0 {
            match poll_fn(|cx| to.poll_capacity(cx)).await {
                Some(granted) => granted.map(drop)?,
                None => return Err(Reason::STREAM_CLOSED.into()),
            }
        }
        let piece = chunk.split_to(chunk.len().min(to.capacity()));
        to.send_data(piece, last && chunk.is_empty())?;
    }
    Ok(())
}

/// Ends the stream, with trailers if there are any.
pub(super) fn finish(to: &mut SendStream<Bytes>, trailers: Option<HeaderMap>) -> Result<(), h2::Error> {
    match trailers {
        Some(trailers) => to.send_trailers(trailers),
        None => to.send_data(Bytes::new(), true),
    }
}

/// Passes a body on to its end. Returns its trailers, before they are sent: what they say may be of interest.
pub(super) async fn pipe(
    from: &mut RecvStream,
    to: &mut SendStream<Bytes>,
    moved: &mut u64,
) -> Result<Option<HeaderMap>, Broken> {
    loop {
        let data = tokio::select! {
            biased;
            data = from.data() => data,
            reset = poll_fn(|cx| to.poll_reset(cx)) => {
                return Err(Broken::Receiver(reset.map_or_else(|error| error, h2::Error::from)));
            }
        };
        let Some(chunk) = data else {
            return from.trailers().await.map_err(Broken::Sender);
        };
        let mut chunk = chunk.map_err(Broken::Sender)?;
        let length = chunk.len();
        write(to, &mut chunk, false).await.map_err(Broken::Receiver)?;
        *moved += length as u64;
        from.flow_control().release_capacity(length).map_err(Broken::Sender)?;
    }
}
