//! One exchange on a stream: plan, try, perhaps try again, and answer.

use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use dragoman_config::Request as Facts;
use dragoman_policy::{Failure, GrpcStatus, Verdict, parse_pushback};
use dragoman_telemetry::{Cause, ExchangeRecord, Outcome};
use http::header::RETRY_AFTER;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use tokio::time::sleep;

use super::Context;
use super::head::{
    apply, apply_trace, expects_leave, grpc_deadline, host, is_grpc, is_too_large, name_authority,
    previous_attempts, repeat_grpc, request_id_of, trace_field,
};
use super::pipe::Broken;
use super::send::{after_failure, takes_extended_connect};
use super::upload::{Step, Upload};
use crate::flow::early::Early;
use crate::flow::exchange::plan::Plan;
use crate::flow::exchange::silence::Silence;
use crate::flow::exchange::trace::Trace;
use crate::flow::exchange::tries::{Failed, Try, admit, decide, judge, passed, retry_after};
use crate::flow::message::{Awaited, Broke, Held, Incoming, Interim, Outgoing, Responder, Sent};
use crate::upstream::state::{Endpoint, Pass};

/// Interim answers that are passed on before a final one. They are queued whatever the app reads.
const INTERIMS: u32 = 100;

/// An exchange in progress.
pub(super) struct Exchange {
    pub(super) context: Arc<Context>,
    pub(super) plan: Plan,
    pub(super) record: ExchangeRecord,
    pub(super) respond: Responder,
    pub(super) is_grpc: bool,
    /// The head as policy made it.
    pub(super) head: Request<()>,
    /// What the app's own library tried before.
    previous_attempts: u32,
    /// The context that goes upstream, if policy lets one.
    trace: Option<Trace>,
    /// The last attempt sent it.
    pub(super) wrote: bool,
    pub(super) early: Early,
}

/// A response whose head has come, and what it still needs.
pub(super) struct Answered {
    pub(super) response: Response<Incoming>,
    pub(super) upstream: Outgoing,
    pub(super) held: Held,
    /// When the attempt was on its connection.
    pub(super) since: Instant,
}

/// Serves one exchange of an HTTP/2 app, as a future for a task of its own. It is put together where it stays: it is of
/// several KiB, and each move would copy them.
pub(super) fn serve_stream(
    context: Arc<Context>,
    head: Request<()>,
    body: Incoming,
    respond: Responder,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move { drop(serve(context, head, body, respond).await) })
}

/// Serves one exchange. Returns what is left of the request, and the way back to the app.
pub(crate) async fn serve(
    context: Arc<Context>,
    head: Request<()>,
    body: Incoming,
    respond: Responder,
) -> (Incoming, Responder) {
    let mut exchange = Exchange::new(context, head, respond);
    let replay = exchange.plan.policy.retry.as_ref().map_or(0, |retry| retry.replay_bytes);
    let room = exchange.context.shared.replay.begin(replay);
    let upload = Upload::new(body, room, exchange.silence(), expects_leave(exchange.head.headers()));
    let mut upload = upload.under(Arc::clone(&exchange.plan.policy));
    exchange.carry_out(&mut upload).await;
    exchange.record.bytes_from_app += upload.bytes;
    exchange.record.finish();
    (upload.into_rest(), exchange.respond)
}

impl Exchange {
    fn new(context: Arc<Context>, mut head: Request<()>, respond: Responder) -> Self {
        name_authority(&mut head);
        let shared = &context.shared;
        let mut record = ExchangeRecord::new(&shared.telemetry);
        let host = host(&head);
        let target = head.uri().path_and_query().map_or("", |target| target.as_str());
        record.begin(context.facts, head.method().as_str(), target.as_bytes(), host);
        let name =
            if host.is_empty() { dragoman_config::Name::None } else { dragoman_config::Name::Host(host) };
        let destination = match &context.fixed {
            Some(destination) => Arc::clone(destination),
            None => Arc::clone(shared.config.now().lookup(context.original.0, name)),
        };
        let headers = head.headers();
        let header = |name: &str| headers.get(name).map(http::HeaderValue::as_bytes);
        let facts = Facts {
            method: head.method().as_str(),
            path: head.uri().path(),
            host,
            query: head.uri().query().unwrap_or_default().as_bytes(),
            header: &header,
        };
        let learnt = context.learnt.as_deref();
        let plan = Plan::new(destination, context.original, &facts, learnt, &mut record);
        let rules = &plan.policy.headers;
        let trace = Trace::join(shared, rules, |known| trace_field(head.headers(), known), &mut record);
        apply(head.headers_mut(), rules, trace.as_ref());
        record.request_id.push_str(request_id_of(head.headers()));
        let early = context.early.lock().unwrap_or_else(PoisonError::into_inner).take();
        let early = early.unwrap_or_default();
        let is_grpc = is_grpc(head.headers());
        let previous_attempts = previous_attempts(head.headers());
        Self { plan, record, respond, is_grpc, head, previous_attempts, trace, wrote: false, early, context }
    }

    /// Tries until there is an answer, or no further try is allowed.
    async fn carry_out(&mut self, upload: &mut Upload) {
        if is_too_large(self.head.headers(), &self.context.shared.config.now().proxy) {
            return self.give_up(upload, Failed::here(Cause::HeadTooLarge, None)).await;
        }
        if self.head.uri().authority().is_none() {
            // No version of HTTP sends it on without one.
            return self
                .give_up(upload, Failed::here(Cause::BadRequest, "a request that names no host"))
                .await;
        }
        if let Some(cause) = self.plan.refused() {
            return self.give_up(upload, Failed::here(cause, None)).await;
        }
        let (mut fresh, mut failed_on) = (false, None);
        loop {
            let shared = Arc::clone(&self.context.shared);
            let (endpoint, pass) = match admit(&shared, &self.plan, &self.early, failed_on, &mut self.record)
            {
                Ok(admitted) => admitted,
                Err(failed) => return self.give_up(upload, failed).await,
            };
            if let (Some(trace), Some(span)) = (&self.trace, self.record.attempt_span()) {
                apply_trace(self.head.headers_mut(), &trace.sibling(span));
            }
            let tried = self.attempt(&endpoint, upload, fresh).await;
            let pass = self.judge(pass, &tried);
            let Some(wait) = self.decide(&endpoint, upload, &tried, fresh) else {
                return match tried {
                    Ok(answered) => self.respond(answered, upload, pass).await,
                    Err(failed) => self.give_up(upload, failed).await,
                };
            };
            // An answer that is not passed on ends when it is dropped: its stream, or its connection, is reset.
            fresh |= tried.is_err_and(|failed| failed.stale);
            failed_on = Some(endpoint.address);
            upload.rewind();
            if let Err(failed) = self.back_off(wait).await {
                return self.give_up(upload, failed).await;
            }
            if self.is_grpc {
                let attempts = self.previous_attempts.saturating_add(self.record.attempts());
                repeat_grpc(self.head.headers_mut(), attempts, self.plan.started, Instant::now());
            }
        }
    }

    /// Makes one try.
    async fn attempt(
        &mut self,
        endpoint: &Arc<Endpoint>,
        upload: &mut Upload,
        fresh: bool,
    ) -> Result<Answered, Failed> {
        let Sent { mut awaited, outgoing: mut upstream, held } =
            self.send_head(endpoint, !upload.is_empty(), fresh).await?;
        let since = Instant::now();
        let answered = self.wait(&mut awaited, &mut upstream, upload).await;
        if let (Ok(_), Some(takes)) = (&answered, takes_extended_connect(&held)) {
            self.context.note_extended_connect(endpoint.address, takes);
        }
        match answered {
            Ok(response) if is_too_large(response.headers(), &self.context.shared.config.now().proxy) => {
                Err(Failed::here(Cause::ResponseTooLarge, None))
            }
            Ok(response) => {
                self.record.first_byte(since.elapsed());
                Ok(Answered { response, upstream, held, since })
            }
            Err(failed) => Err(after_failure(&held, failed)),
        }
    }

    /// Sends the content and waits for the final response head. Interim answers are passed on as they come.
    async fn wait(
        &mut self,
        awaited: &mut Awaited,
        upstream: &mut Outgoing,
        upload: &mut Upload,
    ) -> Result<Response<Incoming>, Failed> {
        let mut limit = self.plan.try_limit(Instant::now());
        let (mut sent, mut interims) = (false, 0);
        loop {
            tokio::select! {
                next = awaited.next() => match next {
                    Interim::More(_) if interims == INTERIMS => {
                        return Err(Failed::here(Cause::BadResponse, "interim answers without end"));
                    }
                    Interim::More(interim) => {
                        interims += 1;
                        if interim.status() == StatusCode::CONTINUE {
                            upload.leave_given();
                        }
                        tokio::select! {
                            () = self.respond.inform(interim) => {}
                            late = passed(limit) => {
                                return Err(Failed { torn: true, slow_app: true, ..Failed::late(late) });
                            }
                        }
                    }
                    Interim::Final(response) => return response,
                },
                step = upload.step(upstream), if !sent => {
                    sent = !matches!(step, Ok(Step::Read));
                    match step {
                        // The time of a try is the server's: it begins anew when the app had to be waited for.
                        Ok(Step::Read) => limit = self.plan.try_limit(Instant::now()),
                        Ok(Step::Done) => {}
                        Err(Broken::Sender(broke)) => return Err(app_left(upstream, &broke)),
                        Err(Broken::Silent) => return Err(app_silent()),
                        // Its answer may still come, and else the error does.
                        Err(Broken::Receiver(_)) => {}
                    }
                }
                broke = self.respond.gone() => return Err(app_left(upstream, &broke)),
                late = passed(limit) => match late.cause {
                    Cause::TryTimeout if upload.waits_for_app() => limit = self.plan.whole_limit(),
                    _ => return Err(Failed { slow_app: upload.waits_for_app(), ..Failed::late(late) }),
                },
            }
        }
    }

    fn judge(&mut self, pass: Pass, tried: &Result<Answered, Failed>) -> Option<Pass> {
        let grpc =
            tried.as_ref().ok().and_then(|answered| grpc_status(answered.response.headers(), self.is_grpc));
        if grpc.is_some_and(|status| self.counts_against(status)) {
            self.record.attempt_failed(Cause::UpstreamStatus);
            self.record.attempt_ended(Outcome::Failure);
            pass.report(Verdict::Failure);
            return None;
        }
        let result = tried.as_ref().map(|answered| answered.response.status().as_u16());
        judge(&self.plan, pass, result, &mut self.record)
    }

    /// Whether to try again, and after which wait.
    fn decide(
        &mut self,
        endpoint: &Endpoint,
        upload: &Upload,
        tried: &Result<Answered, Failed>,
        after_stale: bool,
    ) -> Option<Duration> {
        let (failure, word, stale, retry_after, pushback) = match tried {
            Err(failed) => (failed.failure?, failed.cause.as_str(), failed.stale, None, None),
            Ok(answered) => {
                let headers = answered.response.headers();
                let field = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
                let wait = headers.get(RETRY_AFTER).and_then(|value| retry_after(value.as_bytes()));
                let failure = match grpc_status(headers, self.is_grpc) {
                    Some(status) => Failure::Grpc(status),
                    None => Failure::Status(answered.response.status().as_u16()),
                };
                (failure, "status", false, wait, field("grpc-retry-pushback-ms").map(parse_pushback))
            }
        };
        let deadline = self.is_grpc.then(|| grpc_deadline(self.head.headers(), self.plan.started)).flatten();
        let tried = Try {
            failure,
            word,
            method: self.head.method().as_str(),
            wrote: self.wrote,
            replayable: upload.is_replayable(),
            stale,
            retry_after,
            pushback,
            deadline,
        };
        let shared = &self.context.shared;
        decide(shared, &self.plan, endpoint, &tried, u32::from(after_stale), &mut self.record)
    }

    /// Waits before the next try, unless the app goes away meanwhile.
    async fn back_off(&mut self, wait: Duration) -> Result<(), Failed> {
        tokio::select! {
            () = sleep(wait) => Ok(()),
            broke = self.respond.gone() => Err(app_broke(&broke)),
        }
    }

    /// The app's silence in the body; a tunnel is not one.
    fn silence(&self) -> Silence {
        let limit = self.context.shared.config.now().proxy.request_body_timeout;
        Silence::new(limit.filter(|_| self.head.method() != Method::CONNECT))
    }

    pub(super) fn is_head(&self) -> bool {
        self.head.method() == Method::HEAD
    }

    /// Whether a gRPC status counts against the endpoint.
    pub(super) fn counts_against(&self, status: GrpcStatus) -> bool {
        let breaker = self.plan.destination.breaker.as_ref();
        breaker.is_some_and(|breaker| breaker.grpc_statuses.contains(status))
    }
}

/// The status of a gRPC call, if that is what it is and these fields state it.
pub(super) fn grpc_status(fields: &HeaderMap, is_grpc: bool) -> Option<GrpcStatus> {
    let value = fields.get("grpc-status").filter(|_| is_grpc)?;
    Some(GrpcStatus::parse(value.to_str().ok()?))
}

/// The app is gone, or what it says is no HTTP.
pub(super) fn app_broke(broke: &Broke) -> Failed {
    Failed::here(broke.app_cause(), &*broke.to_string())
}

/// The same while its request is under way: the server is told so, by the app's own code.
fn app_left(upstream: &mut Outgoing, broke: &Broke) -> Failed {
    if let Some(code) = broke.code {
        upstream.reset(code);
    }
    app_broke(broke)
}

pub(super) fn app_silent() -> Failed {
    Failed::here(Cause::RequestTimeout, "silent inside the request body")
}
