//! A connection for an attempt: the flow's own, one of the pool, the early dial, or a new one.

use std::future::ready;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use dragoman_config::PoolParams;
use dragoman_net::DialError;
use dragoman_telemetry::Cause;
use dragoman_wire::http1::BodyReader;
use tokio::time::timeout;

use super::exchange::Shape;
use super::upload::Upload;
use super::{Connection, Kept};
use crate::flow::early::Taken;
use crate::flow::exchange::plan::Plan;
use crate::flow::exchange::response::Spent;
use crate::flow::exchange::tries::{Failed, dial_failed, dial_limit};
use crate::leg::Leg;
use crate::upstream::dial::{DialFailed, dial};
use crate::upstream::pool::warm::keep_warm;
use crate::upstream::pool::{Place, PoolKey, Pooled};
use crate::upstream::state::Endpoint;

/// A connection that an attempt goes out on.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) leg: Leg,
    pub(super) endpoint: SocketAddr,
    /// It came out of the pool.
    pub(super) reused: bool,
    /// Since when this attempt has it.
    since: Instant,
    /// When it was connected.
    made: Instant,
    /// Its leave to be in use, where it is the pool's. Declared, and so dropped, after the connection.
    place: Option<Place>,
}

impl Upstream {
    fn new(leg: Leg, endpoint: SocketAddr, place: Option<Place>) -> Self {
        let now = Instant::now();
        Self { leg, endpoint, reused: false, since: now, made: now, place }
    }

    /// The connection for bytes both ways, with its place for as long as that lasts.
    pub(super) fn into_tunnel(self) -> (Leg, Option<Place>) {
        (self.leg, self.place)
    }

    /// Where the time went since the exchange started, if its response head is here.
    pub(super) fn spent(&self, started: Instant) -> Spent {
        Spent { whole: started.elapsed(), upstream: self.since.elapsed() }
    }
}

impl Connection<'_> {
    /// A connection to the endpoint. `fresh`: not one of the pool.
    pub(super) async fn connect(
        &mut self,
        plan: &Plan,
        endpoint: &Arc<Endpoint>,
        fresh: bool,
    ) -> Result<Upstream, Failed> {
        let address = endpoint.address;
        if let Some(kept) = self.take_kept(plan, address) {
            return Ok(kept);
        }
        let Some(params) = &plan.destination.pool else { return self.make(plan, address, None).await };
        let place = self.wait_for_place(plan, params, address).await?;
        let pooled = if fresh { None } else { self.take_pooled(plan, address) };
        let upstream = match pooled {
            Some(Pooled { stream, made }) => {
                self.early.discard();
                let leg = Leg::new(stream);
                Ok(Upstream { made, reused: true, ..Upstream::new(leg, address, Some(place)) })
            }
            None => {
                self.shared.pool.make_room(&key(plan, address));
                self.make(plan, address, Some(place)).await
            }
        };
        keep_warm(self.shared, &plan.destination, endpoint);
        upstream
    }

    /// Waits until the exchange may have one of the pool's connections in use.
    async fn wait_for_place(
        &mut self,
        plan: &Plan,
        params: &PoolParams,
        address: SocketAddr,
    ) -> Result<Place, Failed> {
        let key = key(plan, address);
        let mut place = pin!(self.shared.pool.place(&key, params, Instant::now()));
        tokio::select! {
            biased;
            place = &mut place => return Ok(place),
            () = ready(()) => {}
        }
        // A flow that waits must not have a connection beyond those that it waits for.
        self.early.discard();
        let (limit, whole) = dial_limit(plan);
        timeout(limit, place).await.map_err(|_| {
            let cause = if whole { Cause::Timeout } else { Cause::PoolFull };
            let size = params.max_size.unwrap_or_default();
            Failed::here(cause, &*format!("{address}: all {size} connections were in use for {limit:?}"))
        })
    }

    /// A new connection: the early dial's, or one dialled now.
    async fn make(
        &mut self,
        plan: &Plan,
        address: SocketAddr,
        place: Option<Place>,
    ) -> Result<Upstream, Failed> {
        let (limit, whole) = dial_limit(plan);
        match timeout(limit, self.early.take(address)).await {
            Ok(Some(Taken::Open(leg))) if leg.buf.is_empty() => {
                return Ok(Upstream::new(leg, address, place));
            }
            // What a server says unasked (an idle 408) is not the answer to this request.
            Ok(Some(Taken::Open(leg) | Taken::Ended(leg, _))) => leg.close(),
            Ok(Some(Taken::Failed(failed))) => return Err(Failed::not_connected(failed)),
            Ok(None) => {}
            Err(_) => {
                self.early.discard();
                let error = DialError::Timeout(limit);
                return Err(dial_failed(DialFailed::new(address, &error), whole));
            }
        }
        let (limit, whole) = dial_limit(plan);
        match dial(self.shared, plan.destination.index, address, limit).await {
            Ok(leg) => Ok(Upstream::new(leg, address, place)),
            Err(failed) => Err(dial_failed(failed, whole)),
        }
    }

    /// The connection that lives with this flow, if it is the right one and still open.
    fn take_kept(&mut self, plan: &Plan, address: SocketAddr) -> Option<Upstream> {
        let Kept { upstream, destination } = self.kept.take()?;
        let right = upstream.endpoint == address && destination == plan.destination.index;
        if right && dragoman_net::is_still_open(upstream.leg.stream()) {
            return Some(Upstream { since: Instant::now(), reused: false, ..upstream });
        }
        upstream.leg.close();
        None
    }

    fn take_pooled(&self, plan: &Plan, address: SocketAddr) -> Option<Pooled> {
        let pooled = self.shared.pool.take(&key(plan, address), plan.is_repeatable(), Instant::now())?;
        self.shared.telemetry.destination(plan.destination.index).connection_reused();
        Some(pooled)
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
        match &plan.destination.pool {
            Some(params) if !self.pinned => {
                let Upstream { leg, endpoint, made, place, .. } = upstream;
                if let Some(stream) = leg.into_stream() {
                    let connection = Pooled { stream, made };
                    self.shared.pool.put(&key(plan, endpoint), connection, params, Instant::now());
                }
                drop(place);
            }
            _ => self.kept = Some(Kept { upstream, destination: plan.destination.index }),
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

fn key(plan: &Plan, endpoint: SocketAddr) -> PoolKey {
    PoolKey { endpoint, destination: plan.destination.index }
}
