//! The end of an exchange on a stream: the server's response, or an answer of our own.

use std::pin::pin;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use dragoman_policy::{GrpcStatus, Verdict};
use dragoman_telemetry::{Cause, Effect, Outcome};
use h2::Reason;
use http::Response;

use super::answer;
use super::exchange::{Answered, Exchange, app_broke, app_silent, grpc_status};
use super::head::apply_changes;
use super::pipe::{Broken, pipe};
use super::upload::Upload;
use crate::flow::exchange::response::{Changes, Spent};
use crate::flow::exchange::tries::{Failed, conclude, passed};
use crate::flow::message::{Incoming, Outgoing, Responder};
use crate::upstream::state::Pass;

impl Exchange {
    /// Passes the response on. The rest of the request goes on meanwhile.
    pub(super) async fn respond(&mut self, answered: Answered, upload: &mut Upload, pass: Option<Pass>) {
        let Answered { response, mut upstream, held, since } = answered;
        upload.leave_given();
        let (mut parts, mut body) = response.into_parts();
        let status = parts.status.as_u16();
        self.record.status = Some(status);
        if status >= 500 {
            self.record.fail(Cause::UpstreamStatus, None);
        }
        let in_head = grpc_status(&parts.headers, self.is_grpc);
        let spent = || Spent { whole: self.plan.started.elapsed(), upstream: since.elapsed() };
        if let Some(changes) = Changes::new(&self.plan.policy.response, spent) {
            apply_changes(&mut parts.headers, &changes);
        }
        if !upload.has_ended() {
            self.respond.last();
        }
        let ended = body.is_ended();
        let mut app = match self.respond.answer(Response::from_parts(parts, ()), ended) {
            Ok(app) => app,
            Err(broke) => return self.end(pass, Err(app_broke(&broke)), in_head),
        };
        let result = match ended {
            true => self.flush(&mut app).await.map(|()| None),
            false => self.forward(&mut body, &mut app, &mut upstream, upload).await,
        };
        drop(app);
        if result.is_ok() {
            self.respond.done();
            held.release(&self.context.shared, &self.plan, upload.is_done(), body, upstream);
        }
        let in_trailers = result.as_ref().ok().copied().flatten();
        self.end(pass, result.map(drop), in_head.or(in_trailers));
    }

    /// Writes a head that is all of an answer.
    async fn flush(&mut self, app: &mut Outgoing) -> Result<(), Failed> {
        tokio::select! {
            flushed = app.flush() => flushed.map_err(|broke| app_broke(&broke)),
            late = passed(self.plan.whole_limit()) => {
                Err(Failed { slow_app: true, ..Failed::here(late.cause, "in the response head") })
            }
        }
    }

    /// Moves the response down and the rest of the request up, until the response has ended. What broke one side is passed
    /// on to the other with its code. Returns the status of a gRPC call, if the trailers state it.
    async fn forward(
        &mut self,
        body: &mut Incoming,
        app: &mut Outgoing,
        upstream: &mut Outgoing,
        upload: &mut Upload,
    ) -> Result<Option<GrpcStatus>, Failed> {
        let until = self.plan.whole_limit();
        let is_grpc = self.is_grpc;
        // Shared by futures of one task: it orders nothing.
        let reads = AtomicBool::new(false);
        let (result, code) = {
            let mut down = pin!(async {
                let trailers = pipe(body, app, &mut self.record.bytes_to_app, &reads).await?;
                let status = trailers.as_ref().and_then(|fields| grpc_status(fields, is_grpc));
                app.finish(trailers).await.map_err(Broken::Receiver)?;
                Ok(status)
            });
            let mut up = pin!(upload.send(upstream));
            let mut sent = false;
            loop {
                tokio::select! {
                    result = &mut down => break match result {
                        Ok(status) => (Ok(status), None),
                        Err(broken) => told_by(broken),
                    },
                    result = &mut up, if !sent => {
                        sent = true;
                        match result {
                            Err(Broken::Sender(broke)) => break told_by(Broken::Receiver(broke)),
                            Err(Broken::Silent) => break told_by(Broken::Silent),
                            Ok(()) | Err(Broken::Receiver(_)) => {}
                        }
                    }
                    late = passed(until) => {
                        let failed = Failed::here(late.cause, "in the response body");
                        break (Err(Failed { slow_app: !reads.load(Relaxed), ..failed }), None);
                    }
                }
            }
        };
        if let Err(failed) = &result {
            upstream.reset(code.unwrap_or(Reason::CANCEL));
            if let (Outcome::Failure, Outgoing::Http2(_)) = (failed.cause.outcome(), &*app) {
                // The bytes before it come first.
                self.context.written().await;
            }
            app.reset(code.unwrap_or(Reason::INTERNAL_ERROR));
        }
        result
    }

    /// Tells record, breaker and metrics how the exchange ended.
    fn end(&mut self, pass: Option<Pass>, result: Result<(), Failed>, grpc: Option<GrpcStatus>) {
        self.record.grpc_status = grpc.map(GrpcStatus::as_str);
        if let Some(status) = grpc.filter(|status| self.counts_against(*status)) {
            self.record.fail(Cause::UpstreamStatus, Some(format!("grpc-status {}", status.as_str())));
            self.record.attempt_failed(Cause::UpstreamStatus);
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
    pub(super) async fn give_up(&mut self, upload: &mut Upload, failed: Failed) {
        let Failed { cause, detail, retry_after, reset, torn, .. } = failed;
        self.record.fail(cause, detail.clone());
        if let (Some(code), Responder::Http2(_)) = (reset, &self.respond) {
            // The server's own word, or as near to it as this connection comes.
            return self.respond.reset(code);
        }
        if torn || !matches!(cause.on_exchange(), Some(Effect::Status(_))) {
            return self.respond.reset(Reason::CANCEL);
        }
        if !upload.discard() {
            self.respond.last();
        }
        if self.is_grpc {
            self.record.grpc_status =
                GrpcStatus::from_number(answer::code(cause).into()).map(GrpcStatus::as_str);
            let response = answer::grpc(cause, detail.as_deref());
            self.record.status = Some(response.status().as_u16());
            return self.answer(response, Bytes::new()).await;
        }
        let (response, body) = answer::plain(cause, detail.as_deref(), retry_after);
        self.record.status = Some(response.status().as_u16());
        let body = if self.is_head() { Bytes::new() } else { body };
        self.answer(response, body).await;
    }

    /// Gives an answer of our own. An app that is gone has no use for one.
    async fn answer(&mut self, response: Response<()>, mut body: Bytes) {
        let ended = body.is_empty();
        let Ok(mut app) = self.respond.answer(response, ended) else { return };
        self.record.bytes_to_app += body.len() as u64;
        let written = if ended { app.flush().await } else { app.write(&mut body, true).await };
        if written.is_ok() {
            self.respond.done();
        }
    }
}

/// What a broken direction means, and the code to pass on.
fn told_by(broken: Broken) -> (Result<Option<GrpcStatus>, Failed>, Option<Reason>) {
    match broken {
        Broken::Sender(broke) => (Err(Failed::here(broke.upstream_cause(), &*broke.to_string())), broke.code),
        Broken::Receiver(broke) => (Err(app_broke(&broke)), broke.code),
        Broken::Silent => (Err(app_silent()), Some(Reason::CANCEL)),
    }
}
