//! The response on its way to the app, while the rest of the request may still go the other way.

use std::io;

use dragoman_telemetry::{Cause, ExchangeRecord};
use dragoman_wire::http1::{BadBody, Body, BodyReader};

use super::attempt::{app_failed, app_silent, upstream_failed};
use super::upload::{Step, Upload};
use crate::buffer::{Buffer, write_last_parts, write_parts};
use crate::flow::exchange::plan::Limit;
use crate::flow::exchange::tries::{Failed, passed};
use crate::leg::{Leg, acknowledge};
use crate::stream::{ReadHalf, WriteHalf};

/// A response on its way. Its head stands rewritten in `head`, or as it came at the front of the upstream's
/// buffer, where `ready` counts it in.
#[derive(Debug)]
pub(super) struct Download<'a> {
    head: &'a [u8],
    reader: BodyReader,
    ready: usize,
    /// The upstream has ended: what is ready is the last.
    ended: bool,
    /// The app's connection ends as soon as all is written.
    closes: bool,
    /// The server knows that its first part was read.
    acknowledged: bool,
}

enum Progress {
    Wrote(usize),
    Read,
    Ended,
    AppBroke(io::Error),
    UpstreamBroke(io::Error),
    Torn,
    Bad(BadBody),
}

impl<'a> Download<'a> {
    /// A response whose head of `length` bytes stands at the front of `upstream` and is forwarded as `rewritten`, or
    /// as it is where that is `None`.
    ///
    /// # Errors
    /// The body is malformed.
    pub(super) fn new(
        upstream: &mut Buffer,
        length: usize,
        rewritten: Option<&'a [u8]>,
        body: Body,
    ) -> Result<Self, BadBody> {
        let mut reader = BodyReader::new(body);
        let rest = reader.advance(&upstream.bytes()[length..])?;
        let (head, ready) = match rewritten {
            Some(head) => {
                upstream.consume(length);
                (head, rest)
            }
            None => (&[][..], length + rest),
        };
        Ok(Self { head, reader, ready, ended: false, closes: false, acknowledged: false })
    }

    /// The app's connection is to end as soon as all is written.
    pub(super) fn close_after(&mut self) {
        self.closes = true;
    }

    /// Whether everything was written to the app.
    pub(super) fn is_done(&self) -> bool {
        (self.reader.is_done() || self.ended) && self.ready == 0 && self.head.is_empty()
    }

    /// Whether it is the app that the response waits for.
    fn waits_for_app(&self) -> bool {
        !self.head.is_empty() || self.ready > 0
    }

    /// Whether the end was told by framing, so that the connection can carry another exchange.
    pub(super) fn ended_by_framing(&self) -> bool {
        self.reader.is_done()
    }

    async fn step(&mut self, from: &mut ReadHalf<'_>, buf: &mut Buffer, to: &mut WriteHalf<'_>) -> Progress {
        if !self.head.is_empty() || self.ready > 0 {
            let parts = [self.head, &buf.bytes()[..self.ready]];
            let written = match self.closes && self.reader.is_done() {
                true => write_last_parts(to, parts).await,
                false => write_parts(to, parts).await,
            };
            return match written {
                Ok(count) => {
                    self.book(count, buf);
                    Progress::Wrote(count)
                }
                Err(error) => Progress::AppBroke(error),
            };
        }
        if !self.acknowledged {
            self.acknowledged = true;
            acknowledge(from.tcp());
        }
        match buf.fill(from).await {
            Ok(0) if self.reader.may_end_at_close() => Progress::Ended,
            Ok(0) => Progress::Torn,
            Ok(_) => match self.reader.advance(buf.bytes()) {
                Ok(count) => {
                    self.ready = count;
                    Progress::Read
                }
                Err(bad) => Progress::Bad(bad),
            },
            Err(error) => Progress::UpstreamBroke(error),
        }
    }

    fn book(&mut self, count: usize, buf: &mut Buffer) {
        let of_head = count.min(self.head.len());
        self.head = &self.head[of_head..];
        buf.consume(count - of_head);
        self.ready -= count - of_head;
    }
}

/// Forwards the response to its end. The rest of the request goes on meanwhile.
///
/// # Errors
/// The head may have been forwarded: whatever is wrong now can only be told by how the connection ends.
pub(super) async fn forward(
    app: &mut Leg,
    upstream: &mut Leg,
    upload: &mut Upload<'_>,
    download: &mut Download<'_>,
    until: Option<Limit>,
    record: &mut ExchangeRecord,
) -> Result<(), Failed> {
    let mut broke = None;
    while !download.is_done() {
        let (app_stream, app_buf) = app.parts();
        let (upstream_stream, upstream_buf) = upstream.parts();
        let (mut app_read, mut app_write) = app_stream.split();
        let (mut upstream_read, mut upstream_write) = upstream_stream.split();
        // Not biased, as in `send`: neither direction may starve the other.
        tokio::select! {
            progress = download.step(&mut upstream_read, upstream_buf, &mut app_write) => match progress {
                Progress::Wrote(count) => record.bytes_to_app += count as u64,
                Progress::Read => {}
                // A body that only the connection's end can end is whole only after an orderly end.
                Progress::Ended => match broke.take() {
                    Some(error) => return Err(upstream_failed(&error)),
                    None => download.ended = true,
                },
                Progress::AppBroke(error) => return Err(app_failed(&error)),
                Progress::UpstreamBroke(error) => return Err(upstream_failed(&error)),
                Progress::Torn => return Err(Failed::here(Cause::UpstreamClosed, "closed in the response body")),
                Progress::Bad(bad) => return Err(Failed::here(Cause::BadResponse, bad.0)),
            },
            step = upload.step(&mut app_read, app_buf, &mut upstream_write) => match step {
                Step::Wrote(fresh) => record.bytes_from_app += fresh as u64,
                Step::Read => {}
                // The answer is here: an upload that breaks now just ends.
                Step::UpstreamBroke(error) => broke = Some(error),
                Step::AppEnded => upload.tell_end(),
                Step::AppSilent => return Err(app_silent()),
                Step::AppBroke(error) => return Err(app_failed(&error)),
                Step::Bad(bad) => return Err(Failed::here(Cause::BadRequest, bad.0)),
            },
            limit = passed(until) => {
                let failed = Failed::here(limit.cause, "in the response body");
                return Err(Failed { slow_app: download.waits_for_app(), ..failed });
            }
        }
    }
    Ok(())
}

/// Lets the rest of a request go up after its answer was complete, as long as the server takes it.
pub(super) async fn finish_upload(
    app: &mut Leg,
    upstream: &mut Leg,
    upload: &mut Upload<'_>,
    until: Option<Limit>,
    record: &mut ExchangeRecord,
) {
    while !upload.is_done() && !upload.is_broken() && !upload.app_has_ended() {
        let (app_stream, app_buf) = app.parts();
        let (upstream_stream, upstream_buf) = upstream.parts();
        let (mut app_read, _) = app_stream.split();
        let (mut upstream_read, mut upstream_write) = upstream_stream.split();
        tokio::select! {
            step = upload.step(&mut app_read, app_buf, &mut upstream_write) => match step {
                Step::Wrote(fresh) => record.bytes_from_app += fresh as u64,
                Step::Read => {}
                Step::AppEnded | Step::AppSilent | Step::AppBroke(_) | Step::UpstreamBroke(_) | Step::Bad(_) => return,
            },
            // The server has nothing more to say: bytes or an end mean that it wants no more either.
            _ = upstream_buf.fill(&mut upstream_read), if upstream_buf.is_empty() => return,
            _ = passed(until) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use dragoman_telemetry::{AccessLog, Telemetry};
    use socket2::SockRef;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::yield_now;

    use super::*;
    use crate::flow::exchange::replay::ReplaySpace;
    use crate::flow::exchange::silence::Silence;
    use crate::stream::Stream;
    use crate::testing::{TLS_VERSIONS, Tls, pair};

    #[tokio::test]
    async fn a_server_that_writes_in_parts_is_not_kept_waiting_for_an_acknowledgement() {
        for (part, rest) in [("HTTP/1.1 200 OK\r\n\r\nbo", "dy"), ("HTTP/1.1 200 OK\r\n\r\n", "body")] {
            let ((mut upstream, mut server), (mut app, _client)) = (pair().await, pair().await);
            // As the kernel does by itself after some exchanges.
            upstream.set_quickack(false).unwrap();
            let (mut read, mut write) =
                (ReadHalf::Plain(upstream.split().0), WriteHalf::Plain(app.split().1));
            let mut buf = Buffer::default();
            server.write_all(part.as_bytes()).await.unwrap();
            while buf.len() < part.len() {
                buf.fill(&mut read).await.unwrap();
            }
            let mut download = Download::new(&mut buf, 19, None, Body::Length(4)).unwrap();
            assert!(matches!(download.step(&mut read, &mut buf, &mut write).await, Progress::Wrote(_)));
            assert!(!read.tcp().quickack().unwrap(), "nothing was waited for");
            let (step, ()) = tokio::join!(download.step(&mut read, &mut buf, &mut write), async {
                server.write_all(rest.as_bytes()).await.unwrap();
            });
            assert!(matches!(step, Progress::Read));
            assert!(read.tcp().quickack().unwrap());
        }
    }

    /// A connection with TLS on it that takes nothing more, and its other end, which reads nothing.
    async fn full() -> (Leg, Stream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        SockRef::from(&listener).set_recv_buffer_size(4096).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        SockRef::from(&client).set_send_buffer_size(4096).unwrap();
        let server = listener.accept().await.unwrap().0;
        let (mut client, server) = Tls::new(TLS_VERSIONS[1]).on((client, server)).await;
        // What is on its way between the two kernels makes room for a while.
        let patience = std::time::Duration::from_millis(300);
        let write = async |client: &mut Stream| write_parts(&mut client.split().1, [&[7; 1000]]).await;
        while let Ok(written) = tokio::time::timeout(patience, write(&mut client)).await {
            written.unwrap();
        }
        (Leg::new(client), server)
    }

    #[tokio::test]
    async fn a_server_that_takes_no_more_is_heard_though_the_app_has_ended() {
        let ((mut upstream, mut server), (app, mut client)) = (full().await, pair().await);
        let mut app = Leg::new(app);
        let space = ReplaySpace::new(0);
        let silence = Silence::new(None);
        let mut upload = Upload::new(&mut [], Body::None, space.begin(0), silence, &app.buf).unwrap();
        server.write_all(b"HTTP/1.1 413 \r\n\r\n").await.unwrap();
        while upstream.buf.len() < 17 {
            upstream.fill().await.unwrap();
        }
        let mut download = Download::new(&mut upstream.buf, 17, None, Body::Length(4)).unwrap();
        let mut record = ExchangeRecord::new(&Telemetry::new(vec!["default".into()], AccessLog::off()));
        let answer = async {
            client.shutdown().await.unwrap();
            // What comes of the head tells that it is under way.
            client.read_exact(&mut [0; 17]).await.unwrap();
            for _ in 0..100 {
                yield_now().await;
            }
            server.write_all(b"body").await.unwrap();
            client.read_exact(&mut [0; 4]).await.unwrap();
        };
        let forwarded = forward(&mut app, &mut upstream, &mut upload, &mut download, None, &mut record);
        let both = async { tokio::join!(forwarded, answer) };
        let (forwarded, ()) = tokio::time::timeout(std::time::Duration::from_secs(60), both)
            .await
            .expect("nobody waits for the server to read");
        forwarded.unwrap();
        assert!(upload.app_has_ended());
    }
}
