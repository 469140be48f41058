//! The end of an exchange on a stream: the server's response, or an answer of our own.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use dragoman_policy::{GrpcStatus, Verdict};
use dragoman_telemetry::{Cause, Effect, Outcome};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Response};
use tokio::time::sleep;

use super::answer;
use super::exchange::{Answered, Exchange};
use super::head::apply_changes;
use super::pipe::{Broken, finish, pipe};
use super::upload::Upload;
use crate::flow::exchange::response::{Changes, Spent};
use crate::flow::exchange::tries::{Failed, conclude, passed};
use crate::upstream::state::Pass;

/// How long the bytes before a reset are given to be written.
const WRITTEN: Duration = Duration::from_millis(10);

impl Exchange {
    /// Passes the response on. The rest of the request goes on meanwhile.
    pub(super) async fn respond(&mut self, answered: Answered, upload: &mut Upload, pass: Option<Pass>) {
        let Answered { response, mut upstream, lease, since } = answered;
        let (mut parts, mut body) = response.into_parts();
        let status = parts.status.as_u16();
        self.record.status = Some(status);
        if status >= 500 {
            self.record.fail(Cause::UpstreamStatus, None);
        }
        let in_head = self.grpc_status(&parts.headers);
        let spent = || Spent { whole: self.plan.started.elapsed(), upstream: since.elapsed() };
        if let Some(changes) = Changes::new(&self.plan.policy.response, spent) {
            apply_changes(&mut parts.headers, &changes);
        }
        let ended = body.is_end_stream();
        let mut app = match self.respond.send_response(Response::from_parts(parts, ()), ended) {
            Ok(app) => app,
            Err(error) => {
                return self.end(pass, Err(Failed::here(Cause::AppReset, &*error.to_string())), in_head);
            }
        };
        let result =
            if ended { Ok(None) } else { self.forward(&mut body, &mut app, &mut upstream, upload).await };
        let result = result.and_then(|trailers| {
            let status = trailers.as_ref().and_then(|trailers| self.grpc_status(trailers));
            if !ended {
                finish(&mut app, trailers)
                    .map_err(|error| Failed::here(Cause::AppReset, &*error.to_string()))?;
            }
            Ok(status)
        });
        drop(lease);
        let in_trailers = result.as_ref().ok().copied().flatten();
        self.end(pass, result.map(drop), in_head.or(in_trailers));
    }

    /// Moves the response body down and the rest of the request up, until the response has ended. What broke one side
    /// is passed on to the other with its code.
    async fn forward(
        &mut self,
        body: &mut RecvStream,
        app: &mut SendStream<Bytes>,
        upstream: &mut SendStream<Bytes>,
        upload: &mut Upload,
    ) -> Result<Option<HeaderMap>, Failed> {
        let until = self.plan.whole_limit();
        let (result, code) = {
            let mut down = pin!(pipe(body, app, &mut self.record.bytes_to_app));
            let mut up = pin!(upload.send(upstream));
            let mut sent = false;
            loop {
                tokio::select! {
                    result = &mut down => break match result {
                        Ok(trailers) => (Ok(trailers), None),
                        Err(broken) => told_by(broken),
                    },
                    result = &mut up, if !sent => {
                        sent = true;
                        if let Err(Broken::Sender(error)) = result {
                            break told_by(Broken::Receiver(error));
                        }
                    }
                    late = passed(until) => {
                        break (Err(Failed::here(late.cause, "in the response body")), None);
                    }
                }
            }
        };
        if let Err(failed) = &result {
            upstream.send_reset(code.unwrap_or(Reason::CANCEL));
            if failed.cause.outcome() == Outcome::Failure {
                // The bytes before it come first. h2 throws away what it has not written when a stream is reset, and does
                // not tell when it has.
                sleep(WRITTEN).await;
            }
            app.send_reset(code.unwrap_or(Reason::INTERNAL_ERROR));
        }
        result
    }

    /// Tells record, breaker and metrics how the exchange ended.
    fn end(&mut self, pass: Option<Pass>, result: Result<(), Failed>, grpc: Option<GrpcStatus>) {
        self.record.grpc_status = grpc.map(GrpcStatus::as_str);
        if let Some(status) = grpc.filter(|status| self.counts_against(*status)) {
            self.record.fail(Cause::UpstreamStatus, Some(format!("grpc-status {}", status.as_str())));
            self.record.attempt_ended(Outcome::Failure);
            if let Some(pass) = pass {
                pass.report(Verdict::Failure);
            }
            return;
        }
        conclude(pass, result.as_ref().err(), &mut self.record);
        if let Err(failed) = result {
            self.record.cause = None;
            self.record.fail(failed.cause, failed.detail);
        }
    }

    /// Ends an exchange that no server answered.
    pub(super) async fn give_up(&mut self, failed: Failed) {
        let Failed { cause, detail, retry_after, reset, .. } = failed;
        self.record.fail(cause, detail.clone());
        if let Some(code) = reset {
            // The server's own word, or as near to it as this connection comes.
            return self.respond.send_reset(code);
        }
        if !matches!(cause.on_exchange(), Some(Effect::Status(_))) {
            return self.respond.send_reset(Reason::CANCEL);
        }
        if self.is_grpc {
            self.record.grpc_status =
                GrpcStatus::from_number(answer::code(cause).into()).map(GrpcStatus::as_str);
            let response = answer::grpc(cause, detail.as_deref());
            self.record.status = Some(response.status().as_u16());
            let _ = self.respond.send_response(response, true);
            return;
        }
        let (response, mut body) = answer::plain(cause, detail.as_deref(), retry_after);
        self.record.status = Some(response.status().as_u16());
        let to_head = self.is_head();
        // An app that is gone has no use for an answer.
        if let Ok(mut app) = self.respond.send_response(response, to_head)
            && !to_head
        {
            self.record.bytes_to_app += body.len() as u64;
            let _ = super::pipe::write(&mut app, &mut body, true).await;
        }
    }
}

/// What a broken direction means, and the code to pass on.
fn told_by(broken: Broken) -> (Result<Option<HeaderMap>, Failed>, Option<Reason>) {
    match broken {
        Broken::Sender(error) => {
            let cause = if error.is_reset() { Cause::UpstreamReset } else { Cause::UpstreamClosed };
            (Err(Failed::here(cause, &*error.to_string())), error.reason().filter(|_| error.is_reset()))
        }
        Broken::Receiver(error) => (Err(Failed::here(Cause::AppReset, &*error.to_string())), error.reason()),
    }
}
