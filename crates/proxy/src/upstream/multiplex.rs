//! Upstream HTTP/2 connections, each shared by many exchanges.
//!
//! An exchange takes a stream on the first connection that has room for one more, by the server's own limit. When
//! none has, one exchange dials while the others wait for it. A connection leaves the table when it is closed, when
//! the server says GOAWAY, or when it has carried nothing for as long as the pool allows.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::Ping;
use h2::client::{Builder, SendRequest};
use tokio::time::timeout;

use super::pool::PoolKey;
use crate::flow::exchange::tries::Failed;
use crate::flow::http2::io::Io;

/// Streams on one connection at most, whatever the server allows.
const STREAMS: usize = 1000;

/// How long a server may take to answer the first PING; one that does not has room for one stream until then.
const SETTLE: Duration = Duration::from_secs(5);

/// What one side may send on a stream before the other has taken it, in bytes.
pub(crate) const STREAM_WINDOW: u32 = 64 * 1024;

/// The same on all streams of a connection: no limit of its own. With one, the streams of an app that does not read would
/// use it up, and those of others that share the connection would wait for it.
pub(crate) const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// The HTTP/2 connections to all endpoints of a proxy, or of one flow.
#[derive(Debug, Default)]
pub(crate) struct Multiplexers(Mutex<HashMap<PoolKey, Arc<Shelf>>>);

#[derive(Debug, Default)]
struct Shelf {
    members: Mutex<Vec<Arc<Member>>>,
    /// Held by the exchange that dials for all that wait, and until the server's settings are known.
    dialling: Arc<tokio::sync::Mutex<()>>,
    /// How the last dial failed, and when: the exchanges that waited for it fail with it.
    failed: Mutex<Option<(Instant, Failed)>>,
}

#[derive(Debug)]
struct Member {
    send: SendRequest<Bytes>,
    streams: AtomicUsize,
    closed: AtomicBool,
    /// The server has said how many streams it takes.
    settled: AtomicBool,
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
    /// Those of `dial`, be it this one or the one that was waited for.
    pub(crate) async fn lease(
        &self,
        key: &PoolKey,
        idle: Duration,
        fresh: bool,
        dial: impl Future<Output = Result<Connected, Failed>>,
    ) -> Result<Lease, Failed> {
        let shelf = Arc::clone(lock(&self.0).entry(key.clone()).or_default());
        if let Some(lease) = shelf.room().filter(|_| !fresh) {
            return Ok(lease);
        }
        let since = Instant::now();
        let dialling = Arc::clone(&shelf.dialling).lock_owned().await;
        if let Some(lease) = shelf.room().filter(|_| !fresh) {
            return Ok(lease);
        }
        if let Some((_, failed)) = lock(&shelf.failed).as_ref().filter(|(at, _)| *at >= since) {
            return Err(failed.clone());
        }
        let Connected { send, settled } = match dial.await {
            Ok(connected) => connected,
            Err(failed) => {
                *lock(&shelf.failed) = Some((Instant::now(), failed.clone()));
                return Err(failed);
            }
        };
        let member = Arc::new(Member {
            send,
            streams: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            settled: AtomicBool::new(false),
            idle_since: Mutex::new(Instant::now()),
            idle,
        });
        lock(&shelf.members).push(Arc::clone(&member));
        let lease = member.lease(false);
        // Whoever waits gets the room that the server really has.
        tokio::spawn(async move {
            let _ = timeout(SETTLE, settled).await;
            member.settled.store(true, Ordering::Release);
            drop(dialling);
        });
        Ok(lease)
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
        self.settled.load(Ordering::Acquire)
            && self.streams.load(Ordering::Acquire) < self.send.current_max_send_streams().min(STREAMS)
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

/// A new connection, and the news that the server's settings are known.
pub(crate) struct Connected {
    send: SendRequest<Bytes>,
    settled: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Makes a connection an HTTP/2 connection, which lives as long as somebody may still send on it.
///
/// # Errors
/// What the handshake says: only our half of it is waited for.
pub(crate) async fn handshake(io: Io, max_head_bytes: usize) -> Result<Connected, h2::Error> {
    let (send, mut connection) = Builder::new()
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(head_limit(max_head_bytes))
        .handshake(io)
        .await?;
    // A server's SETTINGS are its first frame, so they have come when a PING is answered.
    let ping = connection.ping_pong();
    let settled = Box::pin(async move {
        if let Some(mut ping) = ping {
            let _ = ping.ping(Ping::opaque()).await;
        }
    });
    // Its end shows on each stream, and on the next attempt to open one.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "an upstream HTTP/2 connection ended");
        }
    });
    Ok(Connected { send, settled })
}

/// What h2 itself refuses: wider than the limit of policy, which then answers with its cause.
pub(crate) fn head_limit(max_head_bytes: usize) -> u32 {
    u32::try_from(max_head_bytes.saturating_mul(2)).unwrap_or(u32::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
