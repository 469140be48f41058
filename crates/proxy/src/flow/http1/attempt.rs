//! One try of an exchange on one connection: the request goes out while the answer is waited for.

use dragoman_policy::Failure;
use dragoman_telemetry::{Cause, ExchangeRecord};
use dragoman_wire::http1::{BadHead, Limits, ResponseHead};

use super::upload::{Step, Upload};
use crate::flow::exchange::plan::Limit;
use crate::flow::exchange::tries::{Failed, passed};
use crate::flow::relay::{app_cause, upstream_cause};
use crate::leg::Leg;

/// Sends the request and waits for the final response head. Interim answers are passed on as they come. Returns the head's
/// length; it stands at the front of the upstream's buffer.
pub(super) async fn send(
    app: &mut Leg,
    upstream: &mut Leg,
    upload: &mut Upload<'_>,
    response: &mut ResponseHead,
    limits: &Limits,
    until: Option<Limit>,
    record: &mut ExchangeRecord,
) -> Result<usize, Failed> {
    let mut broke = None;
    loop {
        while let Some(length) =
            response.parse(upstream.buf.bytes(), limits).map_err(|bad| bad_response(&bad))?
        {
            if !is_interim(response.status()) {
                return Ok(length);
            }
            tokio::select! {
                written = app.write_all(&upstream.buf.bytes()[..length]) => {
                    written.map_err(|error| app_failed(&error))?;
                }
                limit = passed(until) => return Err(Failed::late(limit)),
            }
            record.bytes_to_app += length as u64;
            upstream.buf.consume(length);
        }
        let (app_stream, app_buf) = app.parts();
        let (upstream_stream, upstream_buf) = upstream.parts();
        let mut app_read = app_stream.split().0;
        let (mut upstream_read, mut upstream_write) = upstream_stream.split();
        // Not biased: a server that never stops talking must not keep the request, or the limit, from its turn.
        tokio::select! {
            read = upstream_buf.fill(&mut upstream_read) => match (read, broke.take()) {
                (Ok(1..), _) => {}
                (Ok(0), None) => return Err(upstream_closed(upstream_buf.is_empty())),
                // The write said more than this end does.
                (Ok(0), Some(error)) | (Err(error), _) => return Err(upstream_failed(&error)),
            },
            step = upload.step(&mut app_read, app_buf, &mut upstream_write) => match step {
                Step::Wrote(fresh) => record.bytes_from_app += fresh as u64,
                Step::Read => {}
                // As without us: the server learns that its client says no more.
                Step::AppEnded if upload.is_done() => shut_down(upstream).await,
                Step::AppEnded => return Err(Failed::here(Cause::AppClosed, None)),
                Step::AppBroke(error) => return Err(app_failed(&error)),
                Step::UpstreamBroke(error) => broke = Some(error),
                Step::Bad(bad) => {
                    return Err(Failed::here(Cause::BadRequest, bad.0));
                }
            },
            limit = passed(until) => return Err(Failed::late(limit)),
        }
    }
}

/// Passes on that the app has ended its side. An upstream that is gone shows when it is read.
pub(super) async fn shut_down(upstream: &mut Leg) {
    let _ = upstream.shut_down().await;
}

pub(super) fn app_failed(error: &std::io::Error) -> Failed {
    Failed::here(app_cause(error), &*error.to_string())
}

pub(super) fn upstream_failed(error: &std::io::Error) -> Failed {
    Failed::there(upstream_cause(error), Some(error.to_string()), Failure::Reset)
}

fn upstream_closed(nothing_came: bool) -> Failed {
    let detail = if nothing_came { "closed before a response" } else { "closed in the response head" };
    Failed::there(Cause::UpstreamClosed, Some(detail.into()), Failure::Reset)
}

fn bad_response(bad: &BadHead) -> Failed {
    let cause = match bad {
        BadHead::TooLarge | BadHead::TooManyHeaders => Cause::ResponseTooLarge,
        BadHead::Syntax(_) | BadHead::Framing(_) => Cause::BadResponse,
    };
    Failed::here(cause, &*bad.to_string())
}

/// 101 is final: what follows it is no longer HTTP.
fn is_interim(status: u16) -> bool {
    matches!(status, 100 | 102..=199)
}
