//! One exchange: read the request head, decide, try, perhaps try again, and answer.

use std::sync::Arc;
use std::time::Duration;

use dragoman_config::{Destination, Request, UpstreamProtocol};
use dragoman_policy::Failure;
use dragoman_telemetry::{Cause, Direction};
use dragoman_wire::http1::{BadHead, Body, Known, Version};
use tokio::time::{sleep, timeout_at};

use super::attempt::{Sending, app_failed};
use super::connect::Upstream;
use super::request::{HopByHop, write_head};
use super::respond::Answer;
use super::scratch::Storage;
use super::upload::Upload;
use super::{Connection, End};
use crate::drain::Stage;
use crate::flow::exchange::plan::Plan;
use crate::flow::exchange::silence::Silence;
use crate::flow::exchange::trace::{Trace, span_digits};
use crate::flow::exchange::tries::{Failed, Try, admit, decide, judge, retry_after};
use crate::flow::relay::app_cause;
use crate::upstream::state::Endpoint;

/// What a request head says about its connection and its bytes.
pub(super) struct Shape {
    body: Body,
    /// The app takes another exchange after this one.
    pub(super) app_keeps_alive: bool,
    /// The upstream connection may carry another exchange after this one.
    pub(super) upstream_keeps_alive: bool,
    pub(super) is_connect: bool,
    /// An upgrade goes out with it.
    pub(super) upgrades: bool,
    /// The app waits for leave to send its body.
    expects_leave: bool,
    /// The app speaks HTTP/1.0.
    pub(super) is_http10: bool,
    /// Where the span of the attempt stands in the head that goes out, if policy lets it say.
    span: Option<usize>,
}

impl Connection<'_> {
    /// Serves one exchange. `Ok` means that the app may send another request.
    pub(super) async fn exchange(&mut self) -> Result<(), End> {
        self.scratch.take(self.shared);
        let length = self.read_head().await?;
        let destination = self.destination();
        if destination.upstream_protocol == UpstreamProtocol::Http2 {
            return Box::pin(self.translate(length)).await;
        }
        let mut outgoing = std::mem::take(&mut self.scratch.outgoing);
        outgoing.clear();
        let (plan, shape) = self.plan(destination, &mut outgoing);
        self.app.buf.consume(length);
        self.scratch.record.bytes_from_app += length as u64;
        let result = self.carry_out(&plan, &shape, &mut outgoing).await;
        self.scratch.outgoing = outgoing;
        self.scratch.record.finish();
        result
    }

    /// Reads until the head is whole; what is wrong with it is answered here.
    async fn read_head(&mut self) -> Result<usize, End> {
        let began = self.began.take();
        let mut until = began.map(|began| began + self.shared.config.now().proxy.request_head_timeout);
        loop {
            match self.scratch.request.parse(self.app.buf.bytes(), &self.limits) {
                Ok(Some(length)) => return Ok(length),
                Ok(None) => {}
                Err(bad) => {
                    let cause = match bad {
                        BadHead::TooLarge | BadHead::TooManyHeaders => Cause::HeadTooLarge,
                        BadHead::Syntax(_) | BadHead::Framing(_) => Cause::BadRequest,
                    };
                    return Err(self.refuse_head(cause, Some(bad.to_string())).await);
                }
            }
            let until = *until.get_or_insert_with(|| {
                tokio::time::Instant::now() + self.shared.config.now().proxy.request_head_timeout
            });
            match timeout_at(until, self.app.fill()).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0)) if self.app.buf.bytes().iter().all(|byte| b"\r\n".contains(byte)) => {
                    return Err(End::Close);
                }
                Ok(Ok(0)) => return Err(self.lost_in_head(Cause::AppClosed, None)),
                Ok(Err(error)) => return Err(self.lost_in_head(app_cause(&error), Some(error.to_string()))),
                Err(_) => return Err(self.refuse_head(Cause::RequestTimeout, None).await),
            }
        }
    }

    /// Answers a request whose head could not be read, of which nothing went upstream.
    pub(super) async fn refuse_head(&mut self, cause: Cause, detail: Option<String>) -> End {
        self.scratch.record.begin(self.flow.facts(), "", b"", "");
        self.scratch.record.destination = self.flow.destination;
        self.scratch.record.fail(cause, detail.clone());
        self.answer(cause, detail.as_deref(), None, Answer::LAST).await;
        self.scratch.record.finish();
        End::Linger
    }

    fn lost_in_head(&mut self, cause: Cause, detail: Option<String>) -> End {
        self.flow.fail(cause, detail);
        if cause == Cause::AppClosed { End::Close } else { End::Reset }
    }

    /// The destination of the request at the front of the app's buffer.
    fn destination(&mut self) -> Arc<Destination> {
        let host = self.scratch.request.host(self.app.buf.bytes()).unwrap_or_default();
        let destination = self.lookup.find(&self.shared.config.now(), self.original, host);
        self.flow.destination = destination.index;
        destination
    }

    /// Decides what is to be done with the request at the front of the app's buffer, and writes its head.
    fn plan(&mut self, destination: Arc<Destination>, outgoing: &mut Vec<u8>) -> (Plan, Shape) {
        let Storage { request: head, record, .. } = &mut *self.scratch;
        let bytes = self.app.buf.bytes();
        let host = head.host(bytes).unwrap_or_default();
        let method = head.method(bytes);
        record.begin(self.flow.facts(), method, head.target(bytes), host);
        let header = |name: &str| head.find_name(bytes, name.as_bytes()).map(|field| field.value.of(bytes));
        let request =
            Request { method, path: head.path(bytes), host, query: head.query(bytes), header: &header };
        let plan = Plan::new(destination, self.original, &request, self.flow.host.as_deref(), record);
        let strip_close = plan.destination.pool.is_some();
        let hop = HopByHop { strip_close, strip_h2c: !plan.destination.observe_only };
        let rules = &plan.policy.headers;
        let value = |known| head.find(known).map(|field| field.value.of(bytes));
        let trace = Trace::join(self.shared, rules, value, record);
        let written = write_head(outgoing, head, bytes, rules, hop, trace.as_ref());
        if let Some(id) = written.request_id {
            // Nearly always it is, and then nothing is copied twice.
            match std::str::from_utf8(&outgoing[id.clone()]) {
                Ok(text) => record.request_id.push_str(text),
                Err(_) => record.request_id.push_str(&String::from_utf8_lossy(&outgoing[id])),
            }
        }
        let shape = Shape {
            body: head.body(),
            // Another process accepts by now: the app's next connection finds it.
            app_keeps_alive: head.keeps_alive() && !self.shared.drain.has_reached(Stage::HandedOver),
            upstream_keeps_alive: head.keeps_alive() || strip_close && head.connection().close,
            is_connect: head.is_connect(),
            expects_leave: head.expect_continue(),
            is_http10: head.version() == Version::Http10,
            upgrades: head.connection().upgrade && has_upgrade(outgoing),
            span: written.span,
        };
        self.pinned |= head.fields().iter().any(|field| {
            matches!(field.known, Known::Authorization | Known::ProxyAuthorization)
                && is_connection_auth(field.value.of(bytes))
        });
        (plan, shape)
    }

    /// Tries until there is an answer, or no further try is allowed.
    async fn carry_out(&mut self, plan: &Plan, shape: &Shape, outgoing: &mut [u8]) -> Result<(), End> {
        let replay = plan.policy.retry.as_ref().map_or(0, |retry| retry.replay_bytes);
        let room = self.shared.replay.begin(replay);
        let silence = Silence::new(self.shared.config.now().proxy.request_body_timeout);
        let mut upload =
            match Upload::new(outgoing, &plan.policy.headers, shape.body, room, silence, &self.app.buf) {
                Ok(upload) => upload,
                Err(bad) => {
                    return self.give_up(plan, shape, None, Failed::here(Cause::BadRequest, bad.0)).await;
                }
            };
        if shape.expects_leave && !upload.is_done_reading() {
            upload.expect_leave();
        }
        if shape.is_connect && self.flow.direction == Direction::Inbound {
            // Many an app answers it like any request, and reads the next one out of the tunnel: with whatever it says of
            // the client in it.
            let why = "CONNECT: what a tunnel says of its client would reach the app";
            return self
                .give_up(plan, shape, Some(&mut upload), Failed::here(Cause::NotTranslated, why))
                .await;
        }
        if let Some(cause) = plan.refused() {
            let refused = Failed::here(cause, None);
            return self.give_up(plan, shape, Some(&mut upload), refused).await;
        }
        let (mut fresh, mut failed_on) = (false, None);
        loop {
            let record = &mut self.scratch.record;
            let (endpoint, pass) = match admit(self.shared, plan, &self.early, failed_on, record) {
                Ok(admitted) => admitted,
                Err(failed) => return self.give_up(plan, shape, Some(&mut upload), failed).await,
            };
            if let (Some(at), Some(span)) = (shape.span, record.attempt_span()) {
                upload.write_over(at, &span_digits(span));
            }
            let tried = self.attempt(plan, &endpoint, &mut upload, fresh).await;
            let status = self.scratch.response.status();
            let result = tried.as_ref().map(|_| status);
            let pass = judge(plan, pass, result, &mut self.scratch.record);
            let Some(wait) = self.decide(plan, &endpoint, &upload, tried.as_ref(), fresh) else {
                return match tried {
                    Ok((upstream, length)) => {
                        self.respond(plan, shape, upstream, length, &mut upload, pass).await
                    }
                    Err(failed) => self.give_up(plan, shape, Some(&mut upload), failed).await,
                };
            };
            match tried {
                Ok((upstream, length)) => self.recycle(plan, shape, upstream, length, &upload),
                // Once is enough: the next try is on a new connection, and so is every one after it.
                Err(failed) => fresh |= failed.stale,
            }
            failed_on = Some(endpoint.address);
            upload.rewind();
            if let Err(failed) = self.back_off(wait).await {
                return self.give_up(plan, shape, Some(&mut upload), failed).await;
            }
        }
    }

    /// Makes one try, on a connection that is at hand or a new one. The final response head, of so many bytes, then
    /// stands in the connection's buffer.
    async fn attempt(
        &mut self,
        plan: &Plan,
        endpoint: &Arc<Endpoint>,
        upload: &mut Upload<'_>,
        fresh: bool,
    ) -> Result<(Upstream, usize), Failed> {
        let wanted = plan.wanted(fresh, upload.is_done_reading());
        let mut upstream = self.connect(plan, endpoint, wanted).await?;
        if let Some(limit) = plan.whole_limit().filter(|limit| limit.at <= tokio::time::Instant::now()) {
            return Err(Failed::late(limit));
        }
        let Storage { response, record, .. } = &mut *self.scratch;
        record.attempt_connected(upstream.way(), upstream.since());
        if let Some(secured) = upstream.leg.stream().secured() {
            record.attempt_secured(secured);
        }
        let mut sending = Sending { plan, response, limits: &self.limits, record, heard: false };
        match sending.send(&mut self.app, &mut upstream.leg, upload).await {
            Ok(length) => {
                self.scratch.record.first_byte(upstream.held_for());
                Ok((upstream, length))
            }
            Err(failed) => {
                let stale = upstream.reused && failed.failure == Some(Failure::Reset) && !sending.heard;
                self.keep_unread(plan, upstream, upload, &failed);
                Err(Failed { stale, ..failed })
            }
        }
    }

    /// Whether to try again, and after which wait.
    fn decide(
        &mut self,
        plan: &Plan,
        endpoint: &Endpoint,
        upload: &Upload<'_>,
        tried: Result<&(Upstream, usize), &Failed>,
        after_stale: bool,
    ) -> Option<Duration> {
        let response = &self.scratch.response;
        let (failure, word, stale, wait) = match tried {
            Err(failed) => (failed.failure?, failed.cause.as_str(), failed.stale, None),
            Ok((upstream, _)) => {
                let field = response.find(Known::RetryAfter);
                let wait = field.and_then(|field| retry_after(field.value.of(upstream.leg.buf.bytes())));
                (Failure::Status(response.status()), "status", false, wait)
            }
        };
        let tried = Try {
            failure,
            word,
            method: upload.method(),
            wrote: upload.wrote(),
            replayable: upload.is_replayable(),
            stale,
            retry_after: wait,
            pushback: None,
            deadline: None,
        };
        decide(self.shared, plan, endpoint, &tried, u32::from(after_stale), &mut self.scratch.record)
    }

    /// Waits before the next try, unless the app goes away meanwhile.
    async fn back_off(&mut self, wait: Duration) -> Result<(), Failed> {
        tokio::select! {
            () = sleep(wait) => Ok(()),
            error = self.app.broken() => Err(app_failed(&error)),
        }
    }
}

/// Whether the head that goes out still asks for an upgrade.
fn has_upgrade(outgoing: &[u8]) -> bool {
    let name = b"upgrade:";
    outgoing
        .split(|&byte| byte == b'\n')
        .any(|line| line.len() > name.len() && line[..name.len()].eq_ignore_ascii_case(name))
}

/// Whether these credentials, or this challenge, belong to the connection rather than to the request: who is logged
/// in on it then is its other users' identity too (RFC 4559 §6, MS-NTHT).
pub(in crate::flow) fn is_connection_auth(value: &[u8]) -> bool {
    let scheme = value.split(|&byte| byte == b' ' || byte == b',').next().unwrap_or_default();
    scheme.eq_ignore_ascii_case(b"negotiate") || scheme.eq_ignore_ascii_case(b"ntlm")
}
