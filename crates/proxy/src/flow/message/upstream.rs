//! The server's side of an exchange: the request that was sent, and the answer that is waited for.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use dragoman_policy::Failure;
use dragoman_telemetry::Cause;
use dragoman_wire::http1::{BadHead, Limits, ResponseHead};
use h2::Reason;
use h2::client::ResponseFuture;
use http::header::{AUTHORIZATION, PROXY_AUTHORIZATION};
use http::{Method, Request, Response, StatusCode};

use super::head::{request_to_http1, response_from_http1};
use super::http1_read::Http1Read;
use super::http1_write::Http1Write;
use super::{Incoming, Outgoing, connection_cause};
use crate::buffer::Buffer;
use crate::flow::exchange::plan::Plan;
use crate::flow::exchange::tries::Failed;
use crate::flow::http1::attempt::{bad_response, is_interim, upstream_closed, upstream_failed};
use crate::flow::http1::connect::Upstream;
use crate::flow::http1::exchange::is_connection_auth;
use crate::flow::http1::respond::asks_for_connection_auth;
use crate::leg::Leg;
use crate::shared::Shared;
use crate::upstream::multiplex::connection::Lease;

/// A request whose head was sent.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) awaited: Awaited,
    pub(crate) outgoing: Outgoing,
    pub(crate) held: Held,
}

/// What is held of the connection until the exchange is over.
#[derive(Debug)]
pub(crate) enum Held {
    Http1(Arc<Leg>, Upstream),
    Http2(Lease),
}

/// An answer that is waited for.
#[derive(Debug)]
pub(crate) enum Awaited {
    Http1(Box<Http1Awaited>),
    Http2(ResponseFuture),
}

/// An interim answer, or the final one.
pub(crate) enum Interim {
    More(Response<()>),
    Final(Result<Response<Incoming>, Failed>),
}

#[derive(Debug)]
pub(crate) struct Http1Awaited {
    leg: Arc<Leg>,
    buf: Buffer,
    head: ResponseHead,
    limits: Limits,
    method: Method,
    /// The connection was one of the pool, and has said nothing yet.
    may_be_stale: bool,
    /// Who is logged in on the connection is a matter of this exchange alone.
    is_bound: bool,
}

impl Held {
    /// The exchange is over, and its answer was read to the end. The connection is kept for another one where it can
    /// carry one: the whole request was sent, and policy pools.
    pub(crate) fn release(
        self,
        shared: &Shared,
        plan: &Plan,
        all_sent: bool,
        answer: Incoming,
        outgoing: Outgoing,
    ) {
        drop(outgoing);
        let (Self::Http1(leg, mut upstream), Incoming::Http1(read)) = (self, answer) else { return };
        let rest = read.into_rest();
        // Nobody else holds it any more.
        let Some(leg) = Arc::into_inner(leg) else { return };
        match &plan.destination.pool {
            Some(params) if all_sent && rest.is_some_and(|rest| rest.is_empty()) => {
                upstream.leg = leg;
                upstream.put(shared, params);
            }
            _ => leg.close(),
        }
    }
}

/// Begins a request on an HTTP/1 connection: its head goes out with the first flush or write. `has_content`: content follows,
/// or trailers.
///
/// # Errors
/// The head is none that an HTTP/1 server may be given.
pub(crate) fn send_http1(
    mut upstream: Upstream,
    request: &Request<()>,
    has_content: bool,
    limits: Limits,
) -> Result<Sent, Failed> {
    let (head, framing) = request_to_http1(request, has_content).map_err(|bad| {
        let cause = match bad {
            BadHead::TooLarge | BadHead::TooManyHeaders => Cause::HeadTooLarge,
            BadHead::Syntax(_) | BadHead::Framing(_) => Cause::BadRequest,
        };
        Failed::here(cause, &*bad.to_string())
    })?;
    let mut leg = upstream.leg.take();
    let buf = std::mem::take(&mut leg.buf);
    let leg = Arc::new(leg);
    let write = Http1Write::new(Arc::clone(&leg), &head, framing);
    let awaited = Http1Awaited {
        leg: Arc::clone(&leg),
        buf,
        head: ResponseHead::default(),
        limits,
        method: request.method().clone(),
        may_be_stale: upstream.reused,
        is_bound: logs_in(request),
    };
    Ok(Sent {
        awaited: Awaited::Http1(Box::new(awaited)),
        outgoing: Outgoing::Http1(write),
        held: Held::Http1(leg, upstream),
    })
}

impl Awaited {
    /// The next answer. Cancelling loses nothing.
    pub(crate) async fn next(&mut self) -> Interim {
        match self {
            Self::Http1(awaited) => match awaited.next().await {
                Ok(next) => next,
                Err(failed) => Interim::Final(Err(failed)),
            },
            Self::Http2(response) => next_http2(response).await,
        }
    }
}

async fn next_http2(response: &mut ResponseFuture) -> Interim {
    poll_fn(|cx| {
        match response.poll_informational(cx) {
            // HTTP/2 has no 101 (RFC 9113 §8.6); an HTTP/1 app would take what follows for another protocol.
            Poll::Ready(Some(Ok(interim))) if interim.status() == StatusCode::SWITCHING_PROTOCOLS => {
                return Poll::Ready(Interim::Final(Err(upgraded())));
            }
            Poll::Ready(Some(Ok(interim))) => return Poll::Ready(Interim::More(interim)),
            // The response would skip an interim answer that comes between the two polls.
            Poll::Pending => return Poll::Pending,
            Poll::Ready(_) => {}
        }
        Pin::new(&mut *response).poll(cx).map(|result| {
            Interim::Final(
                result.map(|response| response.map(Incoming::Http2)).map_err(|error| stream_failed(&error)),
            )
        })
    })
    .await
}

impl Http1Awaited {
    async fn next(&mut self) -> Result<Interim, Failed> {
        loop {
            let parsed = self.head.parse(self.buf.bytes(), &self.limits);
            if let Some(length) = parsed.map_err(|bad| bad_response(&bad))? {
                return self.take(length);
            }
            match self.buf.fill_shared(self.leg.stream()).await {
                Ok(1..) => self.may_be_stale = false,
                Ok(0) => return Err(self.broke(upstream_closed(self.buf.is_empty()))),
                Err(error) => return Err(self.broke(upstream_failed(&error))),
            }
        }
    }

    fn broke(&self, failed: Failed) -> Failed {
        Failed { stale: self.may_be_stale, ..failed }
    }

    /// Takes the head of so many bytes.
    fn take(&mut self, length: usize) -> Result<Interim, Failed> {
        if self.head.status() == 101 {
            return Err(upgraded());
        }
        let response = response_from_http1(&self.head, self.buf.bytes())
            .map_err(|what| Failed::here(Cause::BadResponse, what.0))?;
        self.is_bound |= asks_for_connection_auth(&self.head, self.buf.bytes());
        self.buf.consume(length);
        if is_interim(self.head.status()) {
            return Ok(Interim::More(response));
        }
        let body = self.head.body_for(self.method.as_str());
        let read = Http1Read::new(Arc::clone(&self.leg), std::mem::take(&mut self.buf), body);
        let read = if self.head.keeps_alive() && !self.is_bound { read } else { read.last() };
        Ok(Interim::Final(Ok(response.map(|()| Incoming::Http1(read)))))
    }
}

fn upgraded() -> Failed {
    Failed::here(Cause::BadResponse, "an upgrade that was not asked for")
}

/// Whether the request logs in on its connection. Exchanges of one app have no connection of their own here, so a login in
/// several steps fails; but one in a single step works, and must then serve nobody else (RFC 4559 §6).
fn logs_in(request: &Request<()>) -> bool {
    [AUTHORIZATION, PROXY_AUTHORIZATION]
        .iter()
        .flat_map(|name| request.headers().get_all(name))
        .any(|value| is_connection_auth(value.as_bytes()))
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
        Some(_) => Failed::there(connection_cause(error), detail, Failure::Reset),
        None if error.is_remote() => {
            Failed { reset, ..Failed::there(Cause::UpstreamReset, detail, Failure::Reset) }
        }
        None => Failed::there(Cause::BadResponse, detail, Failure::Reset),
    }
}
