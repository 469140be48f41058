//! The request on its way upstream: the head that policy made, then the body as it comes.
//!
//! Everything that was sent is kept while it fits, so that the same bytes can be sent again. Past the limit the
//! body streams and the exchange can no longer be repeated.

use std::io::{self, IoSlice};

use dragoman_wire::http1::{BadBody, Body, BodyReader};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::buffer::Buffer;
use crate::leg::broken;

/// A request on its way.
#[derive(Debug)]
pub(super) struct Upload<'a> {
    head: &'a [u8],
    /// Bytes of head, then of `replay`, that this attempt has written.
    sent: usize,
    reader: BodyReader,
    /// Bytes at the front of the app's buffer that belong to the body and are not yet written.
    ready: usize,
    replay: Vec<u8>,
    replay_limit: usize,
    /// `replay` holds the whole body so far.
    whole: bool,
    /// The upstream takes no more; its answer may still come.
    broken: bool,
    app_ended: bool,
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
    /// The app's connection broke.
    AppBroke(io::Error),
    /// The upstream takes no more.
    UpstreamBroke(io::Error),
    /// The body broke the rules of its framing.
    Bad(BadBody),
}

impl<'a> Upload<'a> {
    /// A request whose head is `head` and of whose body at most `replay_limit` bytes are kept. `app` holds what
    /// came of the body already.
    ///
    /// # Errors
    /// The body is malformed: nothing of the request should be sent.
    pub(super) fn new(
        head: &'a [u8],
        body: Body,
        replay_limit: usize,
        app: &Buffer,
    ) -> Result<Self, BadBody> {
        let mut upload = Self {
            head,
            sent: 0,
            reader: BodyReader::new(body),
            ready: 0,
            replay: Vec::new(),
            replay_limit,
            whole: true,
            broken: false,
            app_ended: false,
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

    /// The server has given leave.
    pub(super) fn leave_given(&mut self) {
        self.expects_leave = false;
    }

    /// Begins again from the first byte, for another attempt.
    pub(super) fn rewind(&mut self) {
        self.sent = 0;
        self.broken = false;
    }

    /// The method: what stands before the first space.
    pub(super) fn method(&self) -> &'a str {
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
        let done = self.is_done();
        // A broken upload is not read on: its answer decides. Pipelined requests wait in the socket.
        if self.app_ended || self.broken || done && !buf.is_empty() {
            return Step::AppBroke(broken(from.as_ref()).await);
        }
        match buf.fill(from).await {
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
            IoSlice::new(self.head.get(self.sent..).unwrap_or_default()),
            IoSlice::new(&self.replay[replay_from..]),
            IoSlice::new(&buf.bytes()[..self.ready]),
        ];
        match to.write_vectored(&parts).await {
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
            self.keep(&buf.bytes()[..fresh]);
            buf.consume(fresh);
            self.ready -= fresh;
        }
        fresh
    }

    /// Keeps body bytes that were just written.
    fn keep(&mut self, bytes: &[u8]) {
        if self.whole && self.replay.len() + bytes.len() <= self.replay_limit {
            self.replay.extend_from_slice(bytes);
            self.sent += bytes.len();
        } else {
            self.whole = false;
            // Forgotten bytes count as sent: only the head is left to count in `sent`.
            self.sent = self.head.len();
            self.replay = Vec::new();
        }
    }
}
