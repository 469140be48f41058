//! One exchange: read the request head, decide, try, perhaps try again, and answer.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dragoman_config::{Destination, Name, Policy, Request};
use dragoman_policy::{Attempt, Decision, Failure, Proof, parse_retry_after};
use dragoman_telemetry::{Cause, Outcome};
use dragoman_wire::http1::{BadHead, Body, Known};
use tokio::io::Interest;
use tokio::time::{sleep, timeout_at};

use super::attempt::{Failed, Limit, send};
use super::connect::Upstream;
use super::request::{HopByHop, write_head};
use super::respond::Answer;
use super::upload::Upload;
use super::{Connection, End, Scratch};
use crate::flow::relay::app_cause;
use crate::shared::with_random;
use crate::upstream::state::{Endpoint, Pass, verdict};

/// What is decided about a request once its head is known; carried out by everything below.
pub(super) struct Plan {
    pub(super) destination: Arc<Destination>,
    pub(super) policy: Arc<Policy>,
    started: Instant,
    body: Body,
    method_length: usize,
    /// The app takes another exchange after this one.
    pub(super) app_keeps_alive: bool,
    /// The upstream connection may carry another exchange after this one.
    pub(super) upstream_keeps_alive: bool,
    pub(super) is_connect: bool,
    pub(super) has_idempotency_key: bool,
    /// The method has the same effect twice as once, by policy or by its definition where policy says nothing.
    pub(super) is_idempotent: bool,
}

/// How a try ended.
enum Tried {
    /// A final response head of so many bytes stands in the connection's buffer.
    Answered(Upstream, usize),
    Failed(Failed),
}

impl Plan {
    pub(super) fn method<'a>(&self, outgoing: &'a [u8]) -> &'a str {
        std::str::from_utf8(&outgoing[..self.method_length]).unwrap_or_default()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.policy.timeout.map(|timeout| self.started + timeout)
    }

    /// When the whole exchange must be over.
    pub(super) fn whole_limit(&self) -> Option<Limit> {
        self.deadline().map(|at| Limit { at: at.into(), cause: Cause::Timeout })
    }

    /// When an attempt that begins now must have its response head.
    fn limit(&self, now: Instant) -> Option<Limit> {
        let whole = self.whole_limit();
        let one =
            self.policy.try_timeout.map(|time| Limit { at: (now + time).into(), cause: Cause::TryTimeout });
        match (whole, one) {
            (Some(whole), Some(one)) => Some(if one.at < whole.at { one } else { whole }),
            (whole, one) => whole.or(one),
        }
    }
}

impl Connection<'_> {
    /// Serves one exchange. `Ok` means that the app may send another request.
    pub(super) async fn exchange(&mut self) -> Result<(), End> {
        let length = self.read_head().await?;
        let mut outgoing = std::mem::take(&mut self.scratch.outgoing);
        outgoing.clear();
        let plan = self.plan(&mut outgoing);
        self.app.buf.consume(length);
        self.scratch.record.bytes_from_app += length as u64;
        let result = self.carry_out(&plan, &outgoing).await;
        self.scratch.outgoing = outgoing;
        self.scratch.record.finish();
        result
    }

    /// Reads until the head is whole; what is wrong with it is answered here.
    async fn read_head(&mut self) -> Result<usize, End> {
        let mut until = None;
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
                tokio::time::Instant::now() + self.shared.config.proxy.request_head_timeout
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
    async fn refuse_head(&mut self, cause: Cause, detail: Option<String>) -> End {
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

    /// Decides what is to be done with the request at the front of the app's buffer, and writes its head.
    fn plan(&mut self, outgoing: &mut Vec<u8>) -> Plan {
        let (head, bytes) = (&self.scratch.request, self.app.buf.bytes());
        let record = &mut self.scratch.record;
        let host = head.host(bytes).unwrap_or_default();
        let method = head.method(bytes);
        record.begin(self.flow.facts(), method, head.target(bytes), host);
        let destination = match &self.target {
            Some((known, destination)) if known == host => Arc::clone(destination),
            _ => {
                let name = if host.is_empty() { Name::None } else { Name::Host(host) };
                let destination = Arc::clone(self.shared.config.lookup(self.original.0, name));
                self.target = Some((host.to_owned(), Arc::clone(&destination)));
                destination
            }
        };
        self.flow.destination = destination.index;
        record.destination = destination.index;
        let header = |name: &str| head.find_name(bytes, name.as_bytes()).map(|field| field.value.of(bytes));
        let request = Request { method, path: head.path(bytes), header: &header };
        let route = destination.route(&request);
        record.route = route.map(|route| Arc::clone(&route.name));
        let policy = Arc::clone(route.map_or(&destination.policy, |route| &route.policy));
        let retry = policy.retry.as_ref();
        let hop = HopByHop { strip_close: destination.pool.is_some(), strip_h2c: !destination.observe_only };
        let id = write_head(outgoing, head, bytes, &policy.headers, hop);
        if let Some(id) = id {
            record.request_id.push_str(&String::from_utf8_lossy(&outgoing[id]));
        }
        let key = retry.and_then(|retry| retry.idempotency_header.as_deref());
        Plan {
            started: Instant::now(),
            body: head.body(),
            method_length: method.len(),
            app_keeps_alive: head.keeps_alive(),
            upstream_keeps_alive: head.keeps_alive() || hop.strip_close && head.connection().close,
            is_connect: head.is_connect(),
            has_idempotency_key: key.is_some_and(|key| header(key).is_some()),
            is_idempotent: match retry {
                Some(retry) => retry.methods.contains(method),
                None => matches!(method, "GET" | "HEAD" | "OPTIONS"),
            },
            destination,
            policy,
        }
    }

    /// Tries until there is an answer, or no further try is allowed.
    async fn carry_out(&mut self, plan: &Plan, outgoing: &[u8]) -> Result<(), End> {
        let replay = plan.policy.retry.as_ref().map_or(0, |retry| retry.replay_bytes);
        let mut upload = match Upload::new(outgoing, plan.body, replay, &self.app.buf) {
            Ok(upload) => upload,
            Err(bad) => return self.give_up(plan, None, Failed::here(Cause::BadRequest, bad.0)).await,
        };
        if plan.destination.deny {
            return self.give_up(plan, Some(&mut upload), Failed::here(Cause::Denied, None)).await;
        }
        let mut fresh = false;
        loop {
            let (endpoint, pass) = match self.admit(plan) {
                Ok(admitted) => admitted,
                Err(failed) => return self.give_up(plan, Some(&mut upload), failed).await,
            };
            let tried = self.attempt(plan, &endpoint, &mut upload, fresh).await;
            let pass = self.judge(plan, pass, &tried);
            let Some(wait) = self.decide(plan, &endpoint, &upload, &tried, fresh) else {
                return match tried {
                    Tried::Answered(upstream, length) => {
                        self.respond(plan, upstream, length, &mut upload, pass).await
                    }
                    Tried::Failed(failed) => self.give_up(plan, Some(&mut upload), failed).await,
                };
            };
            // Once is enough: the next try is on a new connection, and so is every one after it.
            fresh |= matches!(&tried, Tried::Failed(failed) if failed.stale);
            if let Tried::Answered(upstream, length) = tried {
                self.recycle(plan, upstream, length, plan.method(outgoing));
            }
            upload.rewind();
            if let Err(failed) = self.back_off(wait).await {
                return self.give_up(plan, Some(&mut upload), failed).await;
            }
        }
    }

    /// The endpoint of the next try, and its breaker's leave.
    fn admit(&mut self, plan: &Plan) -> Result<(Arc<Endpoint>, Pass), Failed> {
        let endpoint = self.shared.pick(&plan.destination, self.original, self.early.address());
        let now = Instant::now();
        let pass = endpoint.admit(now).map_err(|retry_in| Failed {
            retry_after: Some(retry_in),
            ..Failed::here(Cause::BreakerOpen, &*endpoint.address.to_string())
        })?;
        let record = &mut self.scratch.record;
        record.attempt(endpoint.address);
        if let (1, Some(retry)) = (record.attempts(), &plan.policy.retry) {
            endpoint.deposit(retry, now);
        }
        Ok((endpoint, pass))
    }

    /// Makes one try, on a connection that is at hand or a new one.
    async fn attempt(
        &mut self,
        plan: &Plan,
        endpoint: &Endpoint,
        upload: &mut Upload<'_>,
        fresh: bool,
    ) -> Tried {
        let mut upstream = match self.connect(plan, endpoint.address, fresh).await {
            Ok(upstream) => upstream,
            Err(failed) => return Tried::Failed(failed),
        };
        let limit = plan.limit(Instant::now());
        let Scratch { response, record, .. } = &mut self.scratch;
        match send(&mut self.app, &mut upstream.leg, upload, response, &self.limits, limit, record).await {
            Ok(length) => Tried::Answered(upstream, length),
            Err(failed) => {
                let stale =
                    upstream.reused && failed.failure == Some(Failure::Reset) && upstream.leg.buf.is_empty();
                Tried::Failed(Failed { stale, ..failed })
            }
        }
    }

    /// Tells breaker and metrics how the try went. Where that is not known before the response has ended, the pass
    /// is given back.
    fn judge(&mut self, plan: &Plan, pass: Pass, tried: &Tried) -> Option<Pass> {
        let outcome = match tried {
            // Our own pooled connection went stale: the endpoint did nothing wrong.
            Tried::Failed(failed) if failed.stale => Outcome::Local,
            Tried::Failed(failed) => failed.cause.outcome(),
            Tried::Answered(..) => match self.scratch.response.status() {
                status if counts_as_failure(plan, status) => Outcome::Failure,
                429 | 503 => Outcome::Overload,
                _ => return Some(pass),
            },
        };
        self.scratch.record.attempt_ended(outcome);
        pass.report(verdict(outcome));
        None
    }

    /// Whether to try again, and after which wait.
    fn decide(
        &mut self,
        plan: &Plan,
        endpoint: &Endpoint,
        upload: &Upload<'_>,
        tried: &Tried,
        after_stale: bool,
    ) -> Option<Duration> {
        let (failure, word) = match tried {
            Tried::Failed(failed) => (failed.failure?, failed.cause.as_str()),
            Tried::Answered(..) => (Failure::Status(self.scratch.response.status()), "status"),
        };
        if matches!(tried, Tried::Failed(failed) if failed.stale)
            && plan.is_idempotent
            && upload.is_replayable()
        {
            // Not a retry of policy: the pool is ours, and without it this connection would have been a new one.
            self.scratch.record.retried("stale_connection", Proof::Idempotent.as_str());
            return Some(Duration::ZERO);
        }
        let retry = plan.policy.retry.as_ref()?;
        if let Failure::Status(status) = failure
            && !retry.statuses.contains(status)
            && !retry.unprocessed_statuses.contains(status)
        {
            return None;
        }
        let now = Instant::now();
        if self.shared.pick(&plan.destination, self.original, None).is_open(now) {
            self.scratch.record.refuse_retry("breaker_open");
            return None;
        }
        let attempt = Attempt {
            made: self.scratch.record.attempts() - u32::from(after_stale),
            failure,
            wrote: upload.wrote(),
            method: plan.method(upload.head()),
            has_idempotency_key: plan.has_idempotency_key,
            replayable: upload.is_replayable(),
            retry_after: self.retry_after(tried),
            pushback: None,
            remaining: plan.deadline().map(|deadline| deadline.saturating_duration_since(now)),
        };
        match with_random(|random| endpoint.decide(retry, &attempt, now, random)) {
            Decision::Retry { wait, proof } => {
                self.scratch.record.retried(word, proof.as_str());
                Some(wait)
            }
            Decision::Stop(refusal) => {
                self.scratch.record.refuse_retry(refusal.as_str());
                None
            }
        }
    }

    fn retry_after(&self, tried: &Tried) -> Option<Duration> {
        let Tried::Answered(upstream, _) = tried else { return None };
        let value = self.scratch.response.find(Known::RetryAfter)?.value.of(upstream.leg.buf.bytes());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        parse_retry_after(std::str::from_utf8(value).ok()?, now.as_secs())
    }

    /// Waits before the next try, unless the app goes away meanwhile.
    async fn back_off(&mut self, wait: Duration) -> Result<(), Failed> {
        tokio::select! {
            () = sleep(wait) => Ok(()),
            _ = self.app.stream().ready(Interest::ERROR) => Err(Failed::here(Cause::AppReset, None)),
        }
    }
}

fn counts_as_failure(plan: &Plan, status: u16) -> bool {
    plan.destination.breaker.as_ref().is_some_and(|breaker| breaker.statuses.contains(status))
}
