//! The head of a request on its way out, on a connection of the version that the endpoint speaks.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dragoman_config::{PoolParams, UpstreamProtocol};
use dragoman_policy::Failure;
use dragoman_telemetry::{Cause, Way};
use dragoman_tls::client::Alpn;
use dragoman_wire::http1::Limits;
use h2::ext::Protocol;
use http::Method;

use super::connect::connect;
use super::exchange::{Exchange, app_broke};
use crate::flow::exchange::tries::{Failed, passed};
use crate::flow::http1::connect::obtain;
use crate::flow::message::{Awaited, Held, NO_CONNECT, Outgoing, Sent, connection_cause, send_http1};
use crate::upstream::multiplex::connection::Lease;
use crate::upstream::multiplex::warm::keep_warm;
use crate::upstream::state::Endpoint;

/// Where the flow owns its connections they are kept as long as the flow, and are as many as it needs.
const WITH_THE_FLOW: PoolParams =
    PoolParams { max_idle: usize::MAX, idle: Duration::MAX, max_age: None, max_size: None, min_warm: 0 };

impl Exchange {
    /// Sends the head to the endpoint. `has_content`: content follows, or trailers.
    pub(super) async fn send_head(
        &mut self,
        endpoint: &Arc<Endpoint>,
        has_content: bool,
        fresh: bool,
    ) -> Result<Sent, Failed> {
        self.wrote = false;
        // gRPC is HTTP/2: in another version its status would be lost.
        if self.plan.destination.upstream_protocol == UpstreamProtocol::Http1 && !self.is_grpc {
            self.send_by_http1(endpoint, has_content, fresh).await
        } else {
            self.send_by_http2(endpoint, has_content, fresh).await
        }
    }

    async fn send_by_http1(
        &mut self,
        endpoint: &Arc<Endpoint>,
        has_content: bool,
        fresh: bool,
    ) -> Result<Sent, Failed> {
        if self.head.method() == Method::CONNECT {
            return Err(Failed::here(Cause::NotTranslated, NO_CONNECT.0));
        }
        let Self { context, plan, early, respond, .. } = self;
        let wanted = plan.wanted(fresh, !has_content);
        let link = plan.link(&context.shared, endpoint.address, Alpn::Http1)?;
        let upstream = tokio::select! {
            obtained = obtain(&context.shared, early, plan, endpoint, &link, wanted) => obtained?,
            broke = respond.gone() => return Err(app_broke(&broke)),
        };
        self.record.attempt_connected(upstream.way(), upstream.since());
        if let Some(secured) = upstream.leg.stream().secured() {
            self.record.attempt_secured(secured);
        }
        let config = self.context.shared.config.now();
        let limits = Limits { head_bytes: config.proxy.max_head_bytes, headers: config.proxy.max_headers };
        self.wrote = true;
        send_http1(upstream, &self.head, has_content, limits)
    }

    async fn send_by_http2(
        &mut self,
        endpoint: &Arc<Endpoint>,
        has_content: bool,
        fresh: bool,
    ) -> Result<Sent, Failed> {
        let mut lease = self.lease(endpoint, fresh).await?;
        let own = self.plan.destination.pool.is_none();
        let way = match lease.reused {
            true if own => Way::Flow,
            true => Way::Pool,
            false => Way::New,
        };
        self.record.attempt_connected(way, Instant::now());
        if let Some(secured) = lease.secured() {
            self.record.attempt_secured(secured);
        }
        let stale = |failed: Failed| Failed { stale: lease.reused, ..failed };
        if let Err(error) = poll_fn(|cx| lease.send.poll_ready(cx)).await {
            lease.retire();
            return Err(stale(lost(&error, Failure::Reset)));
        }
        let extended = self.head.extensions().get::<Protocol>().is_some();
        if extended && !lease.takes_extended_connect().await {
            self.context.note_extended_connect(endpoint.address, false);
            return Err(Failed::here(Cause::BadResponse, "the server does not take extended CONNECT"));
        }
        let (response, stream) = match lease.send.send_request(self.head.clone(), !has_content) {
            Ok(sent) => sent,
            Err(error) => return Err(stale(lost(&error, Failure::Reset))),
        };
        self.wrote = true;
        Ok(Sent {
            awaited: Awaited::Http2(response),
            outgoing: Outgoing::Http2(stream),
            held: Held::Http2(lease),
        })
    }

    /// A stream on a connection to the endpoint.
    async fn lease(&mut self, endpoint: &Arc<Endpoint>, fresh: bool) -> Result<Lease, Failed> {
        let Self { context, plan, early, respond, .. } = self;
        let shared = &context.shared;
        let link = plan.link(shared, endpoint.address, Alpn::Http2)?;
        let key = link.key.clone();
        let (multiplexers, params) = match &plan.destination.pool {
            Some(params) => (&shared.multiplexers, params),
            None => (&context.own, &WITH_THE_FLOW),
        };
        let limit = plan.destination.connect_timeout;
        let early = std::mem::take(early);
        let connect = || connect(Arc::clone(shared), link, limit, Some(early));
        let lease = tokio::select! {
            lease = multiplexers.lease(&key, params, limit, fresh, connect) => lease?,
            // Nobody waits for an answer any more.
            broke = respond.gone() => return Err(app_broke(&broke)),
            late = passed(plan.whole_limit()) => {
                let detail = format!("{}: no connection", key.endpoint);
                // How little time was left is not the endpoint's fault.
                return Err(Failed { slow_app: true, ..Failed::here(late.cause, &*detail) });
            }
        };
        if lease.reused {
            shared.telemetry.destination(plan.destination.index).connection_reused();
        }
        keep_warm(shared, &plan.destination, endpoint, &key);
        Ok(lease)
    }
}

/// What a failure of a request that was sent on `held` means for the connection, and the connection for the failure.
pub(super) fn after_failure(held: &Held, failed: Failed) -> Failed {
    let Held::Http2(lease) = held else { return failed };
    // Not a stream that was reset, nor what is no HTTP.
    let gone = failed.failure == Some(Failure::Reset)
        && failed.reset.is_none()
        && failed.cause != Cause::BadResponse;
    if gone || failed.failure == Some(Failure::Refused) {
        // A connection that is going away, or is gone; one that refused a single stream is no great loss.
        lease.retire();
    }
    Failed { stale: gone && lease.reused, ..failed }
}

/// Whether the server, which has answered, takes extended CONNECT (RFC 8441). `None` where it speaks HTTP/1.
pub(super) fn takes_extended_connect(held: &Held) -> Option<bool> {
    match held {
        Held::Http1(..) => None,
        Held::Http2(lease) => Some(lease.send.is_extended_connect_protocol_enabled()),
    }
}

/// A connection that ended before the request was on it.
fn lost(error: &h2::Error, failure: Failure) -> Failed {
    Failed::there(connection_cause(error), Some(error.to_string()), failure)
}
