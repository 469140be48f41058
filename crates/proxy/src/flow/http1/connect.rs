//! A connection for an attempt: the flow's own, one of the pool, the early dial, or a new one.

use std::future::ready;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dragoman_config::PoolParams;
use dragoman_net::DialError;
use dragoman_telemetry::{Cause, Way};
use dragoman_tls::client::Alpn;
use dragoman_wire::http1::BodyReader;
use tokio::time::timeout;

use super::Connection;
use super::attempt::app_failed;
use super::exchange::Shape;
use super::upload::Upload;
use crate::flow::early::{Early, Taken};
use crate::flow::exchange::plan::Plan;
use crate::flow::exchange::response::Spent;
use crate::flow::exchange::tries::{Failed, dial_failed, dial_limit};
use crate::leg::Leg;
use crate::shared::Shared;
use crate::upstream::dial::DialFailed;
use crate::upstream::link::Link;
use crate::upstream::pool::warm::keep_warm;
use crate::upstream::pool::{Place, PoolKey, Pooled, Wanted};
use crate::upstream::state::Endpoint;

/// A connection that an attempt goes out on.
#[derive(Debug)]
pub(in crate::flow) struct Upstream {
    pub(in crate::flow) leg: Leg,
    pub(super) key: PoolKey,
    /// It came out of the pool.
    pub(in crate::flow) reused: bool,
    /// It was made before the app had said anything.
    early: bool,
    /// It has a response that was not understood, and is passed on as it came.
    pub(super) unread: bool,
    /// Since when this attempt has it.
    since: Instant,
    /// When it was connected.
    made: Instant,
    /// Its leave to be in use, where it is the pool's. Declared, and so dropped, after the connection.
    place: Option<Place>,
}

impl Upstream {
    fn new(leg: Leg, key: PoolKey, place: Option<Place>) -> Self {
        let now = Instant::now();
        Self { leg, key, reused: false, early: false, unread: false, since: now, made: now, place }
    }

    /// Gives the connection, which is quiet, to the pool.
    pub(in crate::flow) fn put(self, shared: &Shared, params: &PoolParams) {
        let Self { leg, key, made, place, .. } = self;
        if let Some(stream) = leg.into_stream() {
            shared.pool.put(&key, Pooled { stream, made }, params, Instant::now());
        }
        drop(place);
    }

    /// The connection for bytes both ways, with its place for as long as that lasts.
    pub(super) fn into_tunnel(self) -> (Leg, Option<Place>) {
        (self.leg, self.place)
    }

    /// How this attempt came by it.
    pub(crate) fn way(&self) -> Way {
        match () {
            () if self.reused => Way::Pool,
            () if self.since > self.made => Way::Flow,
            () if self.early => Way::Early,
            () => Way::New,
        }
    }

    /// Since when this attempt has it.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    /// How long this attempt has had it.
    pub(super) fn held_for(&self) -> Duration {
        self.since.elapsed()
    }

    /// Where the time went since the exchange started, if its response head is here.
    pub(super) fn spent(&self, started: Instant) -> Spent {
        let now = Instant::now();
        Spent { whole: now - started, upstream: now - self.since }
    }
}

impl Connection<'_> {
    /// A connection to the endpoint, of the pool if there is one as it is wanted.
    pub(super) async fn connect(
        &mut self,
        plan: &Plan,
        endpoint: &Arc<Endpoint>,
        wanted: Wanted,
    ) -> Result<Upstream, Failed> {
        let link = plan.link(self.shared, endpoint.address, Alpn::Http1)?;
        if let Some(kept) = self.take_kept(&link.key) {
            return Ok(kept);
        }
        tokio::select! {
            biased;
            obtained = obtain(self.shared, &mut self.early, plan, endpoint, &link, wanted) => obtained,
            // Nobody waits for an answer any more.
            error = self.app.broken() => Err(app_failed(&error)),
        }
    }

    /// The connection that lives with this flow, if it is the right one and still open.
    fn take_kept(&mut self, wanted: &PoolKey) -> Option<Upstream> {
        let upstream = *self.kept.take()?;
        // Where the app has logged in on it, another one would not do, whatever a reload has changed.
        let right = upstream.key == *wanted || self.pinned && upstream.key.is_alike(wanted);
        if right && upstream.leg.stream().is_still_open() {
            return Some(Upstream { since: Instant::now(), reused: false, ..upstream });
        }
        upstream.leg.close();
        None
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
        // Bytes beyond the response answer nothing that was asked. Where the app would have met them without us, it could have
        // taken them for the answer to its next request: they are dropped, and its own connection goes on.
        if !(request_is_whole && response_is_whole && alive && upstream.leg.buf.is_empty()) {
            return upstream.leg.close();
        }
        match &plan.destination.pool {
            Some(params) if !self.pinned => upstream.put(self.shared, params),
            _ => self.kept = Some(Box::new(upstream)),
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

/// A connection of the pool, where there is one as it is wanted; else a new one.
pub(in crate::flow) async fn obtain(
    shared: &Arc<Shared>,
    early: &mut Early,
    plan: &Plan,
    endpoint: &Arc<Endpoint>,
    link: &Link,
    wanted: Wanted,
) -> Result<Upstream, Failed> {
    let Some(params) = &plan.destination.pool else { return reach(shared, early, plan, link, None).await };
    let key = &link.key;
    let place = wait_for_place(shared, early, plan, key, params).await?;
    let upstream = match shared.pool.take(key, wanted, Instant::now()) {
        Some(Pooled { stream, made }) => {
            early.discard();
            shared.telemetry.destination(key.destination.index).connection_reused();
            Ok(Upstream { made, reused: true, ..Upstream::new(Leg::new(stream), key.clone(), Some(place)) })
        }
        None => {
            shared.pool.make_room(key);
            reach(shared, early, plan, link, Some(place)).await
        }
    };
    keep_warm(shared, &plan.destination, endpoint, key);
    upstream
}

/// Waits until the exchange may have one of the pool's connections in use.
async fn wait_for_place(
    shared: &Shared,
    early: &mut Early,
    plan: &Plan,
    key: &PoolKey,
    params: &PoolParams,
) -> Result<Place, Failed> {
    let mut place = pin!(shared.pool.place(key, params, Instant::now()));
    tokio::select! {
        biased;
        place = &mut place => return Ok(place),
        () = ready(()) => {}
    }
    // A flow that waits must not have a connection beyond those that it waits for.
    early.discard();
    let (limit, whole) = dial_limit(plan);
    timeout(limit, place).await.map_err(|_| {
        let failed = Failed::pool_full(key.endpoint, params, limit);
        if whole { Failed { cause: Cause::Timeout, ..failed } } else { failed }
    })
}

/// The early dial, or a new one.
async fn reach(
    shared: &Shared,
    early: &mut Early,
    plan: &Plan,
    link: &Link,
    place: Option<Place>,
) -> Result<Upstream, Failed> {
    let (limit, whole) = dial_limit(plan);
    match timeout(limit, early.take(link)).await {
        Ok(Some(Taken::Open(leg))) if leg.buf.is_empty() && leg.stream().is_still_open() => {
            return Ok(Upstream { early: true, ..Upstream::new(leg, link.key.clone(), place) });
        }
        // What a server says unasked (an idle 408) is not the answer to this request.
        Ok(Some(Taken::Open(leg) | Taken::Ended(leg, _))) => leg.close(),
        Ok(Some(Taken::Failed(failed))) => return Err(Failed::not_connected(failed)),
        Ok(None) => {}
        Err(_) => {
            early.discard();
            return Err(dial_failed(DialFailed::new(link.endpoint(), &DialError::Timeout(limit)), whole));
        }
    }
    let (limit, whole) = dial_limit(plan);
    match link.dial(shared, limit).await {
        Ok(leg) => Ok(Upstream::new(leg, link.key.clone(), place)),
        Err(failed) => Err(dial_failed(failed, whole)),
    }
}
