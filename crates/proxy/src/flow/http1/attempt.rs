//! One try of an exchange on one connection: the request goes out while the answer is waited for.

use std::time::Instant;

use dragoman_policy::Failure;
use dragoman_telemetry::{Cause, ExchangeRecord};
use dragoman_wire::http1::{BadHead, Limits, ResponseHead};

use super::upload::{Step, Upload};
use crate::flow::exchange::plan::{Limit, Plan};
use crate::flow::exchange::tries::{Failed, passed};
use crate::flow::relay::{app_cause, upstream_cause};
use crate::leg::Leg;

/// What one try needs beside its connections.
pub(super) struct Sending<'a> {
    pub(super) plan: &'a Plan,
    pub(super) response: &'a mut ResponseHead,
    pub(super) limits: &'a Limits,
    pub(super) record: &'a mut ExchangeRecord,
    /// The server has said something.
    pub(super) heard: bool,
}

impl Sending<'_> {
    /// Sends the request and waits for the final response head. Interim answers are passed on as they come. Returns the
    /// head's length; it stands at the front of the upstream's buffer.
    pub(super) async fn send(
        &mut self,
        app: &mut Leg,
        upstream: &mut Leg,
        upload: &mut Upload<'_>,
    ) -> Result<usize, Failed> {
        let mut limit = self.plan.try_limit(Instant::now());
        let mut broke = None;
        loop {
            if let Some(length) = self.read_head(app, upstream, upload, limit).await? {
                return Ok(length);
            }
            let (app_stream, app_buf) = app.parts();
            let (upstream_stream, upstream_buf) = upstream.parts();
            let mut app_read = app_stream.split().0;
            let (mut upstream_read, mut upstream_write) = upstream_stream.split();
            // Not biased: a server that never stops talking must not keep the request, or the limit, from its turn.
            tokio::select! {
                read = upstream_buf.fill(&mut upstream_read) => match (read, broke.take()) {
                    // What comes before a byte of the request was written is no answer to it: an idle 408, and the end.
                    (Ok(1..), _) if !upload.wrote() => return Err(upstream_closed(true)),
                    (Ok(1..), error) => (self.heard, broke) = (true, error),
                    (Ok(0), None) => return Err(upstream_closed(upstream_buf.is_empty())),
                    // The write said more than this end does.
                    (Ok(0), Some(error)) | (Err(error), _) => return Err(upstream_failed(&error)),
                },
                step = upload.step(&mut app_read, app_buf, &mut upstream_write) => match step {
                    Step::Wrote(fresh) => self.record.bytes_from_app += fresh as u64,
                    // The time of a try is the server's: it begins anew when the app had to be waited for.
                    Step::Read => limit = self.plan.try_limit(Instant::now()),
                    // As without us: the server learns that its client says no more.
                    Step::AppEnded if upload.is_done() => upload.tell_end(),
                    Step::AppEnded => return Err(Failed::here(Cause::AppClosed, None)),
                    Step::AppSilent => return Err(app_silent()),
                    Step::AppBroke(error) => return Err(app_failed(&error)),
                    Step::UpstreamBroke(error) => broke = Some(error),
                    Step::Bad(bad) => return Err(Failed::here(Cause::BadRequest, bad.0)),
                },
                late = passed(limit) => match late.cause {
                    Cause::TryTimeout if upload.waits_for_app() => limit = self.plan.whole_limit(),
                    _ => return Err(Failed { slow_app: upload.waits_for_app(), ..Failed::late(late) }),
                },
            }
        }
    }

    /// Reads the final head, if it has come. Interim heads before it are passed on.
    async fn read_head(
        &mut self,
        app: &mut Leg,
        upstream: &mut Leg,
        upload: &mut Upload<'_>,
        limit: Option<Limit>,
    ) -> Result<Option<usize>, Failed> {
        loop {
            let bytes = upstream.buf.bytes();
            if bytes.is_empty() {
                return Ok(None);
            }
            let Some(length) = self.response.parse(bytes, self.limits).map_err(|bad| bad_response(&bad))?
            else {
                // The end of a head that is none need not be waited for: HTTP/0.9 has no end but the connection's.
                let other = || Failed::here(Cause::BadResponse, "no status line of HTTP/1");
                return if may_be_head(bytes) { Ok(None) } else { Err(other()) };
            };
            if !is_interim(self.response.status()) {
                return Ok(Some(length));
            }
            tokio::select! {
                written = app.write_all(&bytes[..length]) => written.map_err(|error| app_failed(&error))?,
                late = passed(limit) => {
                    return Err(Failed { torn: true, slow_app: true, ..Failed::here(late.cause, None) });
                }
            }
            if self.response.status() == 100 {
                upload.leave_given();
            }
            self.record.bytes_to_app += length as u64;
            upstream.buf.consume(length);
        }
    }
}

pub(super) fn app_failed(error: &std::io::Error) -> Failed {
    Failed::here(app_cause(error), &*error.to_string())
}

pub(super) fn app_silent() -> Failed {
    Failed::here(Cause::RequestTimeout, "silent inside the request body")
}

pub(in crate::flow) fn upstream_failed(error: &std::io::Error) -> Failed {
    Failed::there(upstream_cause(error), Some(error.to_string()), Failure::Reset)
}

pub(in crate::flow) fn upstream_closed(nothing_came: bool) -> Failed {
    let detail = if nothing_came { "closed before a response" } else { "closed in the response head" };
    Failed::there(Cause::UpstreamClosed, Some(detail.into()), Failure::Reset)
}

pub(in crate::flow) fn bad_response(bad: &BadHead) -> Failed {
    let cause = match bad {
        BadHead::TooLarge | BadHead::TooManyHeaders => Cause::ResponseTooLarge,
        BadHead::Syntax(_) | BadHead::Framing(_) => Cause::BadResponse,
    };
    Failed::here(cause, &*bad.to_string())
}

/// Whether these first bytes may become a head.
fn may_be_head(bytes: &[u8]) -> bool {
    const START: &[u8] = b"HTTP/1.";
    START.starts_with(&bytes[..bytes.len().min(START.len())])
}

/// 101 is final: what follows it is no longer HTTP.
pub(in crate::flow) fn is_interim(status: u16) -> bool {
    matches!(status, 100 | 102..=199)
}
