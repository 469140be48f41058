//! Upstream HTTP/2 connections, each shared by many exchanges.
//!
//! An exchange takes a stream on the first connection that has room for one more, by the server's own limit. When
//! none has, one exchange dials while the others wait for it. A connection leaves the table when it is closed, when
//! the server says GOAWAY, or when it has carried nothing for as long as the pool allows.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{Builder, SendRequest};

use super::pool::PoolKey;
use crate::flow::http2::io::Io;

/// Streams on one connection at most, whatever the server allows.
const STREAMS: usize = 1000;

/// What a server may send on one stream, and on all of a connection, before the app has taken it, in bytes.
pub(crate) const STREAM_WINDOW: u32 = 256 * 1024;
pub(crate) const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// The HTTP/2 connections to all endpoints of a proxy, or of one flow.
#[derive(Debug, Default)]
pub(crate) struct Multiplexers(Mutex<HashMap<PoolKey, Arc<Shelf>>>);

#[derive(Debug, Default)]
struct Shelf {
    members: Mutex<Vec<Arc<Member>>>,
    /// Held by the exchange that dials for all that wait.
    dialling: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Member {
    send: SendRequest<Bytes>,
    streams: AtomicUsize,
    closed: AtomicBool,
    /// When the last stream ended.
    idle_since: Mutex<Instant>,
    idle: Duration,
}

/// Room for one stream on a connection.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) send: SendRequest<Bytes>,
    member: Arc<Member>,
    /// The connection carried other exchanges before.
    pub(crate) reused: bool,
}

impl Lease {
    /// The connection takes no further stream.
    pub(crate) fn retire(&self) {
        self.member.closed.store(true, Ordering::Release);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        *lock(&self.member.idle_since) = Instant::now();
        self.member.streams.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Multiplexers {
    /// Room on a connection for `key`. `dial` makes a new one where there is none, or where a `fresh` one is asked for;
    /// `idle` is how long it is kept without a stream.
    ///
    /// # Errors
    /// Those of `dial`.
    pub(crate) async fn lease<E>(
        &self,
        key: &PoolKey,
        idle: Duration,
        fresh: bool,
        dial: impl Future<Output = Result<SendRequest<Bytes>, E>>,
    ) -> Result<Lease, E> {
        let shelf = Arc::clone(lock(&self.0).entry(key.clone()).or_default());
        if let Some(lease) = shelf.room().filter(|_| !fresh) {
            return Ok(lease);
        }
        let _dialling = shelf.dialling.lock().await;
        if let Some(lease) = shelf.room().filter(|_| !fresh) {
            return Ok(lease);
        }
        let send = dial.await?;
        let member = Arc::new(Member {
            send,
            streams: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            idle_since: Mutex::new(Instant::now()),
            idle,
        });
        lock(&shelf.members).push(Arc::clone(&member));
        // Nobody else can have filled a connection that allows any stream at all; one that allows none is of no use.
        Ok(member.lease(false))
    }

    /// Lets go of connections that are closed or have been idle for too long. Called now and then.
    pub(crate) fn reap(&self, now: Instant) {
        lock(&self.0).retain(|_, shelf| {
            let mut members = lock(&shelf.members);
            members.retain(|member| !member.is_over(now));
            !members.is_empty() || Arc::strong_count(shelf) > 1
        });
    }
}

impl Shelf {
    fn room(&self) -> Option<Lease> {
        let mut members = lock(&self.members);
        members.retain(|member| !member.closed.load(Ordering::Acquire));
        members.iter().find(|member| member.has_room()).map(|member| member.lease(true))
    }
}

impl Member {
    fn has_room(&self) -> bool {
        self.streams.load(Ordering::Acquire) < self.send.current_max_send_streams().min(STREAMS)
    }

    fn lease(self: &Arc<Self>, reused: bool) -> Lease {
        self.streams.fetch_add(1, Ordering::AcqRel);
        Lease { send: self.send.clone(), member: Arc::clone(self), reused }
    }

    fn is_over(&self, now: Instant) -> bool {
        let unused = self.streams.load(Ordering::Acquire) == 0;
        let idle = now.saturating_duration_since(*lock(&self.idle_since));
        self.closed.load(Ordering::Acquire) || unused && idle >= self.idle
    }
}

/// Makes a connection an HTTP/2 connection, which lives as long as somebody may still send on it.
///
/// # Errors
/// What the handshake says: only our half of it is waited for.
pub(crate) async fn handshake(io: Io, max_head_bytes: usize) -> Result<SendRequest<Bytes>, h2::Error> {
    let (send, connection) = Builder::new()
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(head_limit(max_head_bytes))
        .handshake(io)
        .await?;
    // Its end shows on each stream, and on the next attempt to open one.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "an upstream HTTP/2 connection ended");
        }
    });
    Ok(send)
}

/// What h2 itself refuses: wider than the limit of policy, which then answers with its cause.
pub(crate) fn head_limit(max_head_bytes: usize) -> u32 {
    u32::try_from(max_head_bytes.saturating_mul(2)).unwrap_or(u32::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
