//! The request body on its way upstream, kept while it fits so that it can be sent again.

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::HeaderMap;

use super::pipe::{Broken, finish, write};
use crate::flow::exchange::replay::Replay;

/// A request body.
#[derive(Debug)]
pub(super) struct Upload {
    body: RecvStream,
    kept: Vec<Bytes>,
    room: Replay,
    /// `kept` holds the whole body so far.
    whole: bool,
    /// How many of `kept` this attempt has taken.
    next: usize,
    /// What is left of the chunk that is being written.
    hand: Bytes,
    /// Bytes read from the app and not given back to its window.
    unreleased: usize,
    /// The app has said all.
    ended: bool,
    trailers: Option<HeaderMap>,
    /// This attempt has sent it all.
    done: bool,
    /// Bytes of the body that came from the app.
    pub(super) bytes: u64,
}

impl Upload {
    /// A body of which as much is kept as `room` allows.
    pub(super) fn new(body: RecvStream, room: Replay) -> Self {
        Self {
            ended: body.is_end_stream(),
            body,
            kept: Vec::new(),
            room,
            whole: true,
            next: 0,
            hand: Bytes::new(),
            unreleased: 0,
            trailers: None,
            done: false,
            bytes: 0,
        }
    }

    /// Whether there is no body, and nothing after it.
    pub(super) fn is_empty(&self) -> bool {
        self.ended && self.kept.is_empty() && self.trailers.is_none() && self.whole
    }

    /// Whether everything that was sent can be sent again.
    pub(super) fn is_replayable(&self) -> bool {
        self.whole
    }

    /// Whether it is the app that the request waits for.
    pub(super) fn waits_for_app(&self) -> bool {
        !self.ended && self.next == self.kept.len() && self.hand.is_empty()
    }

    /// Begins again from the first byte, for another attempt.
    pub(super) fn rewind(&mut self) {
        self.release();
        (self.next, self.hand, self.done) = (0, Bytes::new(), false);
    }

    /// Sends the body, from where this attempt stands to its end. Cancelling loses nothing.
    pub(super) async fn send(&mut self, to: &mut SendStream<Bytes>) -> Result<(), Broken> {
        self.done |= self.is_empty();
        while !self.done {
            if !self.hand.is_empty() {
                let last = self.ended && self.next == self.kept.len() && self.trailers.is_none();
                write(to, &mut self.hand, last).await.map_err(Broken::Receiver)?;
                self.release();
                self.done = last;
            } else if let Some(chunk) = self.kept.get(self.next) {
                self.hand = chunk.clone();
                self.next += 1;
            } else if self.ended {
                finish(to, self.trailers.clone()).map_err(Broken::Receiver)?;
                self.done = true;
            } else {
                self.read().await?;
            }
        }
        Ok(())
    }

    /// Reads once from the app: a chunk, or the trailers and the end.
    async fn read(&mut self) -> Result<(), Broken> {
        let Some(chunk) = self.body.data().await else {
            self.trailers = self.body.trailers().await.map_err(Broken::Sender)?;
            self.ended = true;
            return Ok(());
        };
        let chunk = chunk.map_err(Broken::Sender)?;
        self.bytes += chunk.len() as u64;
        self.unreleased += chunk.len();
        self.ended = self.body.is_end_stream();
        if self.whole && self.room.take(chunk.len()) {
            self.kept.push(chunk.clone());
            self.next += 1;
        } else {
            self.whole = false;
            (self.kept, self.next) = (Vec::new(), 0);
            self.room.end();
        }
        self.hand = chunk;
        Ok(())
    }

    fn release(&mut self) {
        // An app that is gone shows when it is read.
        let _ = self.body.flow_control().release_capacity(std::mem::take(&mut self.unreleased));
    }
}
