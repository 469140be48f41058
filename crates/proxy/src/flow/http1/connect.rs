//! A connection for an attempt: the flow's own, one of the pool, the early dial, or a new one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use dragoman_net::{DialError, is_still_open};
use dragoman_wire::http1::BodyReader;
use tokio::time::timeout;

use super::attempt::app_failed;
use super::exchange::Shape;
use super::upload::Upload;
use super::{Connection, Kept};
use crate::flow::early::{Early, Taken};
use crate::flow::exchange::plan::Plan;
use crate::flow::exchange::tries::{Failed, dial_failed, dial_limit};
use crate::leg::Leg;
use crate::shared::Shared;
use crate::upstream::dial::{DialFailed, dial};
use crate::upstream::pool::PoolKey;

/// A connection that an attempt goes out on.
pub(super) struct Upstream {
    pub(super) leg: Leg,
    pub(super) endpoint: SocketAddr,
    /// It came out of the pool.
    pub(super) reused: bool,
}

impl Connection<'_> {
    /// A connection to `endpoint`. `fresh`: not one of the pool.
    pub(super) async fn connect(
        &mut self,
        plan: &Plan,
        endpoint: SocketAddr,
        fresh: bool,
    ) -> Result<Upstream, Failed> {
        if let Some(leg) = self.take_kept(plan, endpoint) {
            return Ok(Upstream { leg, endpoint, reused: false });
        }
        let pooled = plan.destination.pool.is_some() && !fresh;
        if pooled && let Some(leg) = self.take_pooled(plan, endpoint) {
            self.early.discard();
            return Ok(Upstream { leg, endpoint, reused: true });
        }
        tokio::select! {
            reached = reach(self.shared, &mut self.early, plan, endpoint) => reached,
            // Nobody waits for an answer any more.
            error = self.app.broken() => Err(app_failed(&error)),
        }
    }

    /// The connection that lives with this flow, if it is the right one and still open.
    fn take_kept(&mut self, plan: &Plan, endpoint: SocketAddr) -> Option<Leg> {
        let kept = self.kept.take()?;
        let right = kept.endpoint == endpoint && kept.destination == plan.destination.index;
        if right && is_still_open(kept.leg.stream()) {
            return Some(kept.leg);
        }
        kept.leg.close();
        None
    }

    fn take_pooled(&self, plan: &Plan, endpoint: SocketAddr) -> Option<Leg> {
        let stream = self.shared.pool.take(&key(plan, endpoint), plan.is_repeatable(), Instant::now())?;
        self.shared.telemetry.destination(plan.destination.index).connection_reused();
        Some(Leg::new(stream))
    }

    /// Ends an exchange on its upstream connection, whose response is read up to the end of `upstream`'s buffer. The
    /// connection is kept for the next exchange (in the pool, or for this flow alone) if both messages were whole and
    /// both sides keep it alive; else it is closed.
    pub(super) fn release(
        &mut self,
        plan: &Plan,
        shape: &Shape,
        upstream: Upstream,
        upload: &Upload<'_>,
        response_is_whole: bool,
    ) {
        let request_is_whole = upload.is_done() && !upload.app_has_ended();
        let alive = self.scratch.response.keeps_alive() && shape.upstream_keeps_alive;
        if !(request_is_whole && response_is_whole && alive && upstream.leg.buf.is_empty()) {
            return upstream.leg.close();
        }
        let (endpoint, destination) = (upstream.endpoint, plan.destination.index);
        match &plan.destination.pool {
            Some(params) if !self.pinned => {
                if let Some(stream) = upstream.leg.into_stream() {
                    self.shared.pool.put(&key(plan, endpoint), stream, params, Instant::now());
                }
            }
            _ => self.kept = Some(Kept { leg: upstream.leg, endpoint, destination }),
        }
    }

    /// Ends an exchange whose response, with a head of `length` bytes, is not passed on. The connection is kept if all
    /// of that response has come already.
    pub(super) fn recycle(
        &mut self,
        plan: &Plan,
        shape: &Shape,
        mut upstream: Upstream,
        length: usize,
        upload: &Upload<'_>,
    ) {
        let buf = &mut upstream.leg.buf;
        buf.consume(length);
        let mut reader = BodyReader::new(self.scratch.response.body_for(upload.method()));
        let body = reader.advance(buf.bytes()).unwrap_or_default();
        buf.consume(body);
        self.release(plan, shape, upstream, upload, reader.is_done());
    }
}

/// The early dial, or a new one.
async fn reach(
    shared: &Arc<Shared>,
    early: &mut Early,
    plan: &Plan,
    endpoint: SocketAddr,
) -> Result<Upstream, Failed> {
    let new = |leg| Upstream { leg, endpoint, reused: false };
    let (limit, whole) = dial_limit(plan);
    match timeout(limit, early.take(endpoint)).await {
        Ok(Some(Taken::Open(leg))) if leg.buf.is_empty() && is_still_open(leg.stream()) => {
            return Ok(new(leg));
        }
        // What a server says unasked (an idle 408) is not the answer to this request.
        Ok(Some(Taken::Open(leg) | Taken::Ended(leg, _))) => leg.close(),
        Ok(Some(Taken::Failed(failed))) => return Err(Failed::not_connected(failed)),
        Ok(None) => {}
        Err(_) => {
            early.discard();
            return Err(dial_failed(DialFailed::new(endpoint, &DialError::Timeout(limit)), whole));
        }
    }
    let (limit, whole) = dial_limit(plan);
    let dialled = dial(shared, plan.destination.index, endpoint, limit).await;
    dialled.map(new).map_err(|failed| dial_failed(failed, whole))
}

fn key(plan: &Plan, endpoint: SocketAddr) -> PoolKey {
    PoolKey { endpoint, destination: plan.destination.index }
}
