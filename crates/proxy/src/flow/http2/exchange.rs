//! One exchange on a stream: plan, try, perhaps try again, and answer.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dragoman_config::Request as Facts;
use dragoman_policy::{Failure, GrpcStatus, Verdict, parse_pushback};
use dragoman_telemetry::{Cause, ExchangeRecord, Outcome};
use h2::client::ResponseFuture;
use h2::ext::Protocol;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::RETRY_AFTER;
use http::{HeaderMap, Request, Response};
use tokio::time::sleep;

use super::Context;
use super::head::{
    apply, grpc_deadline, host, is_grpc, is_too_large, name_authority, previous_attempts, repeat_grpc,
    request_id_of,
};
use super::io::Io;
use super::pipe::Broken;
use super::upload::Upload;
use crate::flow::early::{Early, Taken};
use crate::flow::exchange::plan::Plan;
use crate::flow::exchange::tries::{
    Failed, Try, admit, decide, dial_failed, dial_limit, judge, passed, retry_after,
};
use crate::upstream::dial::dial;
use crate::upstream::multiplex::{Lease, handshake};
use crate::upstream::pool::PoolKey;
use crate::upstream::state::{Endpoint, Pass};

/// Interim answers that are passed on before a final one. They are queued whatever the app reads.
const INTERIMS: u32 = 100;

/// How long a connection without a stream is kept where the flow owns it: as long as the flow.
const WITH_THE_FLOW: Duration = Duration::from_secs(u64::MAX / 4);

/// An exchange in progress.
pub(super) struct Exchange {
    pub(super) context: Arc<Context>,
    pub(super) plan: Plan,
    pub(super) record: ExchangeRecord,
    pub(super) respond: SendResponse<Bytes>,
    pub(super) is_grpc: bool,
    /// The head as policy made it.
    head: Request<()>,
    /// What the app's own library tried before.
    previous_attempts: u32,
    /// The last attempt sent it.
    wrote: bool,
    early: Early,
}

/// A response whose head has come, and what it still needs.
pub(super) struct Answered {
    pub(super) response: Response<RecvStream>,
    pub(super) upstream: SendStream<Bytes>,
    pub(super) lease: Lease,
    /// When the attempt was on its connection.
    pub(super) since: Instant,
}

/// Serves one exchange.
pub(super) async fn serve(context: Arc<Context>, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
    let (head, body) = {
        let (parts, body) = request.into_parts();
        (Request::from_parts(parts, ()), body)
    };
    let mut exchange = Exchange::new(context, head, respond);
    let replay = exchange.plan.policy.retry.as_ref().map_or(0, |retry| retry.replay_bytes);
    let mut upload = Upload::new(body, exchange.context.shared.replay.begin(replay));
    exchange.carry_out(&mut upload).await;
    exchange.record.bytes_from_app += upload.bytes;
    exchange.record.finish();
}

impl Exchange {
    fn new(context: Arc<Context>, mut head: Request<()>, respond: SendResponse<Bytes>) -> Self {
        name_authority(&mut head);
        let shared = &context.shared;
        let mut record = ExchangeRecord::new(&shared.telemetry);
        let host = host(&head);
        let target = head.uri().path_and_query().map_or("", |target| target.as_str());
        record.begin(context.facts, head.method().as_str(), target.as_bytes(), host);
        let name =
            if host.is_empty() { dragoman_config::Name::None } else { dragoman_config::Name::Host(host) };
        let destination = Arc::clone(shared.config.lookup(context.original.0, name));
        let headers = head.headers();
        let header = |name: &str| headers.get(name).map(http::HeaderValue::as_bytes);
        let facts = Facts {
            method: head.method().as_str(),
            path: head.uri().path(),
            host,
            query: head.uri().query().unwrap_or_default().as_bytes(),
            header: &header,
        };
        let plan = Plan::new(destination, context.original, &facts, &mut record);
        apply(head.headers_mut(), &plan.policy.headers);
        record.request_id.push_str(request_id_of(head.headers()));
        let early = context.early.lock().unwrap_or_else(PoisonError::into_inner).take();
        let early = early.unwrap_or_else(|| Early::never(shared, &plan.destination, context.original));
        let is_grpc = is_grpc(head.headers());
        let previous_attempts = previous_attempts(head.headers());
        Self { plan, record, respond, is_grpc, head, previous_attempts, wrote: false, early, context }
    }

    /// Tries until there is an answer, or no further try is allowed.
    async fn carry_out(&mut self, upload: &mut Upload) {
        if is_too_large(self.head.headers(), &self.context.shared.config.proxy) {
            return self.give_up(Failed::here(Cause::HeadTooLarge, None)).await;
        }
        if self.plan.destination.deny {
            return self.give_up(Failed::here(Cause::Denied, None)).await;
        }
        let (mut fresh, mut failed_on) = (false, None);
        loop {
            let shared = Arc::clone(&self.context.shared);
            let (endpoint, pass) = match admit(&shared, &self.plan, &self.early, failed_on, &mut self.record)
            {
                Ok(admitted) => admitted,
                Err(failed) => return self.give_up(failed).await,
            };
            let tried = self.attempt(&endpoint, upload, fresh).await;
            let pass = self.judge(pass, &tried);
            let Some(wait) = self.decide(&endpoint, upload, &tried, fresh) else {
                return match tried {
                    Ok(answered) => self.respond(answered, upload, pass).await,
                    Err(failed) => self.give_up(failed).await,
                };
            };
            // The stream of an answer that is not passed on is reset when it is dropped.
            fresh |= tried.is_err_and(|failed| failed.stale);
            failed_on = Some(endpoint.address);
            upload.rewind();
            if let Err(failed) = self.back_off(wait).await {
                return self.give_up(failed).await;
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
        endpoint: &Endpoint,
        upload: &mut Upload,
        fresh: bool,
    ) -> Result<Answered, Failed> {
        self.wrote = false;
        let mut lease = self.lease(endpoint.address, fresh).await?;
        let stale = |failed: Failed| Failed { stale: lease.reused, ..failed };
        if let Err(error) = poll_fn(|cx| lease.send.poll_ready(cx)).await {
            lease.retire();
            return Err(stale(lost(&error, Failure::Reset)));
        }
        let extended = self.head.extensions().get::<Protocol>().is_some();
        if extended && !takes_extended_connect(&lease).await {
            return Err(Failed::here(Cause::BadResponse, "the server does not take extended CONNECT"));
        }
        let (response, mut upstream) = match lease.send.send_request(self.head.clone(), upload.is_empty()) {
            Ok(sent) => sent,
            Err(error) => return Err(stale(lost(&error, Failure::Reset))),
        };
        self.wrote = true;
        let since = Instant::now();
        let answered = self.wait(response, &mut upstream, upload).await;
        if lease.send.is_extended_connect_protocol_enabled() {
            self.context.extended_connect.notify_one();
        }
        match answered {
            Ok(response) if is_too_large(response.headers(), &self.context.shared.config.proxy) => {
                Err(Failed::here(Cause::ResponseTooLarge, None))
            }
            Ok(response) => Ok(Answered { response, upstream, lease, since }),
            Err(failed) => {
                let closed = failed.cause == Cause::UpstreamClosed;
                if closed || failed.failure == Some(Failure::Refused) {
                    // A connection that is going away, or is gone; one that refused a single stream is no great loss.
                    lease.retire();
                }
                Err(Failed { stale: closed && lease.reused, ..failed })
            }
        }
    }

    /// Sends the body and waits for the final response head. Interim answers are passed on as they come.
    async fn wait(
        &mut self,
        mut response: ResponseFuture,
        upstream: &mut SendStream<Bytes>,
        upload: &mut Upload,
    ) -> Result<Response<RecvStream>, Failed> {
        let limit = self.plan.try_limit(Instant::now());
        let mut broke = None;
        let respond = &mut self.respond;
        let result = {
            let mut sending = std::pin::pin!(upload.send(upstream));
            let (mut sent, mut interims) = (false, 0);
            loop {
                tokio::select! {
                    head = next_head(&mut response) => match head {
                        Head::Interim(_) if interims == INTERIMS => {
                            break Err(Failed::here(Cause::BadResponse, "interim answers without end"));
                        }
                        Head::Interim(interim) => {
                            interims += 1;
                            // An app that is gone shows in `poll_reset`.
                            let _ = respond.send_informational(interim);
                        }
                        Head::Final(Ok(response)) => break Ok(response),
                        Head::Final(Err(error)) => break Err(stream_failed(&error)),
                    },
                    result = &mut sending, if !sent => {
                        sent = true;
                        match result {
                            Ok(()) => {}
                            Err(Broken::Sender(error)) => {
                                broke = error.reason();
                                break Err(app_broke(&error));
                            }
                            // Its answer may still come, and else the error does.
                            Err(Broken::Receiver(_)) => {}
                        }
                    }
                    reset = poll_fn(|cx| respond.poll_reset(cx)) => {
                        broke = reset.as_ref().ok().copied();
                        break Err(Failed::here(Cause::AppReset, broke.as_ref().map(h2::Reason::description)));
                    }
                    late = passed(limit) => break Err(Failed::late(late)),
                }
            }
        };
        if let (Err(_), Some(reason)) = (&result, broke) {
            upstream.send_reset(reason);
        }
        result.map_err(|failed| match failed.cause {
            Cause::TryTimeout | Cause::Timeout => Failed { slow_app: upload.waits_for_app(), ..failed },
            _ => failed,
        })
    }

    /// Room on a connection to `address`: one that stands, the early dial, or a new one.
    async fn lease(&mut self, address: SocketAddr, fresh: bool) -> Result<Lease, Failed> {
        let Self { context, plan, early, .. } = self;
        let key = PoolKey { endpoint: address, destination: plan.destination.index };
        let (multiplexers, idle) = match &plan.destination.pool {
            Some(params) => (&context.shared.multiplexers, params.idle),
            None => (&context.own, WITH_THE_FLOW),
        };
        let shared = &context.shared;
        let (limit, whole) = dial_limit(plan);
        let index = plan.destination.index;
        let connect = async {
            let taken = tokio::time::timeout(limit, early.take(address)).await.ok().flatten();
            let leg = match taken {
                Some(Taken::Open(leg)) => leg,
                Some(Taken::Failed(failed)) => return Err(Failed::not_connected(failed)),
                Some(Taken::Ended(leg, _)) => {
                    leg.close();
                    dial(shared, index, address, limit).await.map_err(|failed| dial_failed(failed, whole))?
                }
                None => {
                    dial(shared, index, address, limit).await.map_err(|failed| dial_failed(failed, whole))?
                }
            };
            let io = Io::new(leg).ok_or_else(|| Failed::here(Cause::ConnectFailed, None))?;
            let head_bytes = shared.config.proxy.max_head_bytes;
            handshake(io, head_bytes).await.map_err(|error| lost(&error, Failure::Connect))
        };
        let lease = multiplexers.lease(&key, idle, fresh, connect).await?;
        if lease.reused {
            shared.telemetry.destination(index).connection_reused();
        }
        Ok(lease)
    }

    fn judge(&mut self, pass: Pass, tried: &Result<Answered, Failed>) -> Option<Pass> {
        let grpc = tried.as_ref().ok().and_then(|answered| self.grpc_status(answered.response.headers()));
        if grpc.is_some_and(|status| self.counts_against(status)) {
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
                let failure = match self.grpc_status(headers) {
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
            _ = poll_fn(|cx| self.respond.poll_reset(cx)) => Err(Failed::here(Cause::AppReset, None)),
        }
    }

    pub(super) fn is_head(&self) -> bool {
        self.head.method() == http::Method::HEAD
    }

    /// The status of a gRPC call, if these fields state it.
    pub(super) fn grpc_status(&self, fields: &HeaderMap) -> Option<GrpcStatus> {
        let value = fields.get("grpc-status").filter(|_| self.is_grpc)?;
        Some(GrpcStatus::parse(value.to_str().ok()?))
    }

    /// Whether a gRPC status counts against the endpoint.
    pub(super) fn counts_against(&self, status: GrpcStatus) -> bool {
        let breaker = self.plan.destination.breaker.as_ref();
        breaker.is_some_and(|breaker| breaker.grpc_statuses.contains(status))
    }
}

enum Head {
    Interim(Response<()>),
    Final(Result<Response<RecvStream>, h2::Error>),
}

/// The next response head, interim or final.
async fn next_head(response: &mut ResponseFuture) -> Head {
    poll_fn(|cx| {
        if let Poll::Ready(Some(Ok(interim))) = response.poll_informational(cx) {
            return Poll::Ready(Head::Interim(interim));
        }
        std::pin::Pin::new(&mut *response).poll(cx).map(Head::Final)
    })
    .await
}

/// Whether the server takes extended CONNECT. Its SETTINGS may still be on their way, and h2 does not tell when they come.
async fn takes_extended_connect(lease: &Lease) -> bool {
    const STEP: Duration = Duration::from_millis(5);
    for _ in 0..100 {
        if lease.send.is_extended_connect_protocol_enabled() {
            return true;
        }
        sleep(STEP).await;
    }
    false
}

/// A connection that ended before the request was on it.
fn lost(error: &h2::Error, failure: Failure) -> Failed {
    Failed::there(Cause::UpstreamClosed, Some(error.to_string()), failure)
}

/// A stream that ended before its response head.
fn stream_failed(error: &h2::Error) -> Failed {
    let detail = Some(error.to_string());
    let reset = error.reason().filter(|_| error.is_reset() && error.is_remote());
    // The protocol says so: a refused stream, and a stream above the last one of a GOAWAY, were not processed
    // (RFC 9113 §8.7).
    if error.is_remote() && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM)) {
        return Failed { reset, ..Failed::there(Cause::UpstreamReset, detail, Failure::Refused) };
    }
    match error.get_io() {
        Some(_) => Failed::there(Cause::UpstreamClosed, detail, Failure::Reset),
        None if error.is_remote() => {
            Failed { reset, ..Failed::there(Cause::UpstreamReset, detail, Failure::Reset) }
        }
        None => Failed::there(Cause::BadResponse, detail, Failure::Reset),
    }
}

fn app_broke(error: &h2::Error) -> Failed {
    Failed::here(Cause::AppReset, &*error.to_string())
}
