//! The request on its way upstream: the head that policy made, then the body as it comes.
//!
//! Everything that was sent is kept while there is room ([`Replay`]), so that the same bytes can be sent again. Without
//! room the body streams and the exchange can no longer be repeated.

use std::io;

use dragoman_wire::http1::{BadBody, Body, BodyReader};
use tokio::io::AsyncWriteExt;

use crate::buffer::{Buffer, write_parts};
use crate::flow::exchange::replay::Replay;
use crate::flow::exchange::silence::Silence;
use crate::leg::broken;
use crate::stream::{ReadHalf, WriteHalf};

/// A request on its way.
#[derive(Debug)]
pub(super) struct Upload<'a> {
    head: &'a mut [u8],
    /// Bytes of head, then of `replay`, that this attempt has written.
    sent: usize,
    reader: BodyReader,
    /// Bytes at the front of the app's buffer that belong to the body and are not yet written.
    ready: usize,
    replay: Vec<u8>,
    room: Replay,
    /// `replay` holds the whole body so far, and goes on to.
    whole: bool,
    silence: Silence,
    /// The upstream takes no more; its answer may still come.
    broken: bool,
    app_ended: bool,
    /// The upstream is being told so.
    telling_end: bool,
    /// The app waits for leave to send its body (Expect: 100-continue).
    expects_leave: bool,
}

/// What one step did.
#[derive(Debug)]
pub(super) enum Step {
    /// Bytes were written upstream; so many of them were new from the app.
    Wrote(usize),
    /// Bytes were read from the app.
    Read,
    /// The app has ended its side. Without the whole body that is the end of the exchange.
    AppEnded,
    /// The app has been silent inside the body for too long.
    AppSilent,
    /// The app's connection broke.
    AppBroke(io::Error),
    /// The upstream takes no more.
    UpstreamBroke(io::Error),
    /// The body broke the rules of its framing.
    Bad(BadBody),
}

impl<'a> Upload<'a> {
    /// A request whose head is `head` and of whose body as much is kept as `room` allows. `app` holds what came of the
    /// body already.
    ///
    /// # Errors
    /// The body is malformed: nothing of the request should be sent.
    pub(super) fn new(
        head: &'a mut [u8],
        body: Body,
        room: Replay,
        silence: Silence,
        app: &Buffer,
    ) -> Result<Self, BadBody> {
        let mut upload = Self {
            head,
            sent: 0,
            reader: BodyReader::new(body),
            ready: 0,
            replay: Vec::new(),
            room,
            whole: true,
            silence,
            broken: false,
            app_ended: false,
            telling_end: false,
            expects_leave: false,
        };
        upload.advance(app)?;
        Ok(upload)
    }

    /// Whether the app has said all of it.
    pub(super) fn is_done_reading(&self) -> bool {
        self.reader.is_done()
    }

    /// The app waits for leave before it sends its body: it is the server's turn.
    pub(super) fn expect_leave(&mut self) {
        self.expects_leave = true;
    }

    /// The server has given leave, or its answer without waiting for the body.
    pub(super) fn leave_given(&mut self) {
        self.expects_leave = false;
    }

    /// Has the next steps tell the upstream that the app has ended its side. One that reads nothing is not waited for: its
    /// answer may come all the same.
    pub(super) fn tell_end(&mut self) {
        self.telling_end = true;
    }

    /// Begins again from the first byte, for another attempt.
    pub(super) fn rewind(&mut self) {
        self.telling_end = false;
        self.sent = 0;
        self.broken = false;
        self.silence.end();
    }

    /// Writes `bytes` over those of the head at `at`, for the attempt that begins.
    pub(super) fn write_over(&mut self, at: usize, bytes: &[u8]) {
        self.head[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// There is no further attempt: what was kept for one is given back.
    pub(super) fn stop_keeping(&mut self) {
        self.whole = false;
        self.forget_sent();
    }

    /// The method: what stands before the first space.
    pub(super) fn method(&self) -> &str {
        let method = self.head.split(|&byte| byte == b' ').next().unwrap_or_default();
        std::str::from_utf8(method).unwrap_or_default()
    }

    /// Throws away what is left of the body. `false` where not all of it has come yet.
    pub(super) fn discard(&mut self, app: &mut Buffer) -> bool {
        app.consume(std::mem::take(&mut self.ready));
        self.reader.is_done()
    }

    /// Whether everything that was sent can be sent again.
    pub(super) fn is_replayable(&self) -> bool {
        self.whole
    }

    /// Whether any byte was written in this attempt.
    pub(super) fn wrote(&self) -> bool {
        self.sent > 0
    }

    /// Whether all that policy made of the head was written.
    pub(super) fn head_is_sent(&self) -> bool {
        self.sent >= self.head.len()
    }

    /// Whether the whole request was written.
    pub(super) fn is_done(&self) -> bool {
        self.reader.is_done() && !self.has_pending()
    }

    /// Whether it is the app that the request waits for.
    pub(super) fn waits_for_app(&self) -> bool {
        !self.reader.is_done() && !self.has_pending() && !self.broken && !self.expects_leave
    }

    /// Whether the upstream refused to take more.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Whether the app has ended its side.
    pub(super) fn app_has_ended(&self) -> bool {
        self.app_ended
    }

    /// One write, or one read where nothing waits to be written. When the request is done it watches the app, to
    /// learn that it went away. Cancelling loses nothing.
    pub(super) async fn step(
        &mut self,
        from: &mut ReadHalf<'_>,
        buf: &mut Buffer,
        to: &mut WriteHalf<'_>,
    ) -> Step {
        if self.has_pending() && !self.broken {
            return self.write(buf, to).await;
        }
        if self.telling_end {
            tokio::select! {
                biased;
                // An upstream that is gone shows when it is read.
                _ = to.shutdown() => self.telling_end = false,
                error = broken(from.tcp()) => return Step::AppBroke(error),
            }
        }
        let done = self.is_done();
        // A broken upload is not read on: its answer decides. Pipelined requests wait in the socket.
        if self.app_ended || self.broken || done && !buf.is_empty() {
            return Step::AppBroke(broken(from.tcp()).await);
        }
        let read = tokio::select! {
            biased;
            read = buf.fill(from) => read,
            () = self.silence.too_long(), if !done && !self.expects_leave => return Step::AppSilent,
        };
        self.silence.end();
        match read {
            Ok(0) => {
                self.app_ended = true;
                Step::AppEnded
            }
            Ok(_) if done => Step::Read,
            Ok(_) => {
                self.expects_leave = false;
                self.advance(buf).map_or_else(Step::Bad, |()| Step::Read)
            }
            Err(error) => Step::AppBroke(error),
        }
    }

    fn has_pending(&self) -> bool {
        self.sent < self.head.len() + self.replay.len() || self.ready > 0
    }

    fn advance(&mut self, buf: &Buffer) -> Result<(), BadBody> {
        self.ready += self.reader.advance(&buf.bytes()[self.ready..])?;
        Ok(())
    }

    async fn write(&mut self, buf: &mut Buffer, to: &mut WriteHalf<'_>) -> Step {
        let replay_from = self.sent.saturating_sub(self.head.len());
        let parts = [
            self.head.get(self.sent..).unwrap_or_default(),
            &self.replay[replay_from..],
            &buf.bytes()[..self.ready],
        ];
        match write_parts(to, parts).await {
            Ok(count) => Step::Wrote(self.wrote_count(count, buf)),
            Err(error) => {
                self.broken = true;
                Step::UpstreamBroke(error)
            }
        }
    }

    /// Books a write of `count` bytes; returns how many of them were the app's, for the first time.
    fn wrote_count(&mut self, count: usize, buf: &mut Buffer) -> usize {
        let again = count.min(self.head.len() + self.replay.len() - self.sent);
        self.sent += again;
        let fresh = count - again;
        if fresh > 0 {
            self.whole = self.whole && self.room.take(fresh);
            if self.whole {
                self.replay.extend_from_slice(&buf.bytes()[..fresh]);
                self.sent += fresh;
            }
            buf.consume(fresh);
            self.ready -= fresh;
        }
        self.forget_sent();
        fresh
    }

    /// Gives back what was kept and was sent, if it is of no use any more.
    fn forget_sent(&mut self) {
        if !self.whole && self.sent == self.head.len() + self.replay.len() {
            // Forgotten bytes do not count: only the head is left in `sent`.
            self.sent = self.head.len();
            self.replay = Vec::new();
            self.room.end();
        }
    }
}
