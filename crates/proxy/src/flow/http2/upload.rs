//! The request body on its way upstream, kept while it fits so that it can be sent again.

use std::sync::Arc;

use bytes::Bytes;
use dragoman_config::Policy;
use http::{HeaderMap, HeaderName};

use super::pipe::Broken;
use crate::flow::exchange::replay::Replay;
use crate::flow::exchange::silence::Silence;
use crate::flow::message::{Broke, Incoming, Outgoing};

/// What a piece that is kept costs at least, in bytes, however small it is: an app that sends one byte at a time must not make
/// the room for all exchanges into many times as much memory.
const PIECE: usize = 64;

/// A request body.
#[derive(Debug)]
pub(super) struct Upload {
    body: Incoming,
    kept: Vec<Bytes>,
    room: Replay,
    /// `kept` holds the whole body so far.
    whole: bool,
    /// How many of `kept` this attempt has taken.
    next: usize,
    /// What is left of the chunk that is being written.
    hand: Bytes,
    /// There was nothing from the start: the head says so to the server, in each attempt.
    empty: bool,
    /// Bytes read from the app and not given back to its window.
    unreleased: usize,
    /// The app has said all.
    ended: bool,
    trailers: Option<HeaderMap>,
    /// What policy says of the head.
    policy: Option<Arc<Policy>>,
    silence: Silence,
    /// The app waits for leave to send its body (Expect: 100-continue).
    expects_leave: bool,
    /// This attempt has sent it all.
    done: bool,
    /// Bytes of the body that came from the app.
    pub(super) bytes: u64,
}

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Something came from the app, and is still to be written.
    Read,
    /// All of the body was written.
    Done,
}

impl Upload {
    /// A body of which as much is kept as `room` allows. `expects_leave`: it is the server's turn first.
    pub(super) fn new(body: Incoming, room: Replay, silence: Silence, expects_leave: bool) -> Self {
        Self {
            silence,
            expects_leave,
            empty: body.is_ended(),
            ended: body.is_ended(),
            body,
            kept: Vec::new(),
            room,
            whole: true,
            next: 0,
            hand: Bytes::new(),
            unreleased: 0,
            trailers: None,
            policy: None,
            done: false,
            bytes: 0,
        }
    }

    /// The same where what this policy sets or removes in the head does not pass by the trailers either: some readers merge
    /// these into it.
    pub(super) fn under(self, policy: Arc<Policy>) -> Self {
        Self { policy: Some(policy), ..self }
    }

    /// Whether there is no body, and nothing after it.
    pub(super) fn is_empty(&self) -> bool {
        self.empty
    }

    /// Whether the app has said all that was read of it, and there is no more.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// The exchange ends without the rest: whether the app has said all of it.
    pub(super) fn discard(&mut self) -> bool {
        self.ended || self.body.discard()
    }

    /// Whether everything that was sent can be sent again.
    pub(super) fn is_replayable(&self) -> bool {
        self.whole
    }

    /// Whether it is the app that the request waits for.
    pub(super) fn waits_for_app(&self) -> bool {
        !self.ended && self.next == self.kept.len() && self.hand.is_empty() && !self.expects_leave
    }

    /// The server has given leave, or its answer without waiting for the body.
    pub(super) fn leave_given(&mut self) {
        self.expects_leave = false;
    }

    /// What is left of the body.
    pub(super) fn into_rest(self) -> Incoming {
        self.body
    }

    /// Whether this attempt has sent it all.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// Begins again from the first byte, for another attempt.
    pub(super) fn rewind(&mut self) {
        self.release();
        self.silence.end();
        (self.next, self.hand, self.done) = (0, Bytes::new(), false);
    }

    /// Sends the body, from where this attempt stands to its end. Cancelling loses nothing.
    pub(super) async fn send(&mut self, to: &mut Outgoing) -> Result<(), Broken> {
        while self.step(to).await? == Step::Read {}
        Ok(())
    }

    /// The same, until the app has spoken.
    pub(super) async fn step(&mut self, to: &mut Outgoing) -> Result<Step, Broken> {
        to.flush().await.map_err(Broken::Receiver)?;
        self.done |= self.empty;
        while !self.done {
            if !self.hand.is_empty() {
                let last = self.ended && self.next == self.kept.len() && self.trailers.is_none();
                to.write(&mut self.hand, last).await.map_err(Broken::Receiver)?;
                self.release();
                self.done = last;
            } else if let Some(chunk) = self.kept.get(self.next) {
                self.hand = chunk.clone();
                self.next += 1;
            } else if self.ended {
                to.finish(self.trailers.clone()).await.map_err(Broken::Receiver)?;
                self.done = true;
            } else {
                self.read().await?;
                return Ok(Step::Read);
            }
        }
        Ok(Step::Done)
    }

    /// Reads once from the app: a chunk, or the trailers and the end.
    async fn read(&mut self) -> Result<(), Broken> {
        let read = tokio::select! {
            biased;
            read = next(&mut self.body) => read,
            () = self.silence.too_long(), if !self.expects_leave => return Err(Broken::Silent),
        };
        self.silence.end();
        self.expects_leave = false;
        let chunk = match read.map_err(Broken::Sender)? {
            Part::Chunk(chunk) => chunk,
            Part::End(mut trailers) => {
                if let (Some(policy), Some(trailers)) = (&self.policy, &mut trailers) {
                    let governed = |name: &&HeaderName| policy.headers.governs(name.as_str().as_bytes());
                    for name in trailers.keys().filter(governed).cloned().collect::<Vec<_>>() {
                        trailers.remove(name);
                    }
                }
                (self.trailers, self.ended) = (trailers, true);
                return Ok(());
            }
        };
        self.bytes += chunk.len() as u64;
        self.unreleased += chunk.len();
        self.ended = self.body.is_ended();
        if self.whole && self.room.take(chunk.len().max(PIECE)) {
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
        let _ = self.body.release(std::mem::take(&mut self.unreleased));
    }
}

enum Part {
    Chunk(Bytes),
    End(Option<HeaderMap>),
}

/// The next part of a body. Cancelling loses nothing.
async fn next(body: &mut Incoming) -> Result<Part, Broke> {
    match body.data().await {
        Some(chunk) => chunk.map(Part::Chunk),
        None => body.trailers().await.map(Part::End),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Buffer;
    use crate::flow::exchange::replay::ReplaySpace;
    use crate::flow::message::Http1Read;
    use crate::leg::Leg;
    use crate::testing::pair;
    use dragoman_config::HeaderRules;
    use dragoman_wire::http1::Body;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    #[tokio::test]
    async fn single_bytes_take_the_room_that_they_need() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut app = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let leg = Arc::new(Leg::new(listener.accept().await.unwrap().0));
        let body = Http1Read::new(leg, Buffer::default(), Body::Length(100));
        let room = ReplaySpace::new(10 * PIECE).begin(usize::MAX);
        let mut upload = Upload::new(Incoming::Http1(body), room, Silence::new(None), false);
        for n in 1..=11 {
            app.write_all(b"x").await.unwrap();
            upload.read().await.unwrap();
            assert_eq!((upload.bytes, upload.is_replayable()), (n, n <= 10));
        }
        assert!(upload.kept.is_empty(), "what cannot be repeated is not kept");
    }

    #[tokio::test]
    async fn a_trailer_is_no_way_past_what_policy_says_of_the_head() {
        let (app, server) = pair().await;
        let mut buf = Buffer::default();
        let body = b"0\r\nX-Client: me\r\nx-sum: 7\r\nX_Client: me\r\n\r\n";
        buf.append(|bytes| bytes.extend_from_slice(body));
        let body = Incoming::Http1(Http1Read::new(Arc::new(Leg::new(server)), buf, Body::Chunked));
        let headers = HeaderRules {
            set: vec![("x-client".into(), "web".into())],
            remove: vec!["x_client".into()],
            ..HeaderRules::default()
        };
        let room = ReplaySpace::new(0).begin(0);
        let upload = Upload::new(body, room, Silence::new(None), false);
        let mut upload = upload.under(Arc::new(Policy { headers, ..Policy::default() }));
        upload.read().await.unwrap();
        let names: Vec<_> =
            upload.trailers.iter().flat_map(HeaderMap::keys).map(HeaderName::as_str).collect();
        assert_eq!(names, ["x-sum"]);
        drop(app);
    }
}
