//! One upstream HTTP/2 connection, and the room on it.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dragoman_config::PoolParams;
use dragoman_telemetry::Secured;
use h2::Ping;
use h2::client::{Builder, Connection, SendRequest};
use tokio::sync::{Notify, SetOnce};
use tokio::time::timeout;

use super::lock;
use crate::flow::exchange::tries::Failed;
use crate::flow::http2::io::Io;
use crate::flow::http2::wire::{Wire, drive};

/// Streams on one connection at most, whatever the server allows.
const STREAMS: usize = 1000;

/// How long a server may take to answer the first PING; one that does not has room for one stream until then.
const SETTLE: Duration = Duration::from_secs(5);

/// What one side may send on a stream before the other has taken it, in bytes.
pub(crate) const STREAM_WINDOW: u32 = 64 * 1024;

/// The same on all streams of a connection: no limit of its own. With one, the streams of an app that does not read would
/// use it up, and those of others that share the connection would wait for it.
pub(crate) const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// A new connection, and the news that the server's settings are known.
pub(crate) struct Connected {
    send: SendRequest<Bytes>,
    connection: Connection<Io, Bytes>,
    wire: Wire,
    /// Of a connection with TLS.
    secured: Option<Arc<Secured>>,
    settled: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Makes a connection an HTTP/2 connection.
///
/// # Errors
/// What the handshake says: only our half of it is waited for.
pub(crate) async fn handshake(
    (io, wire): (Io, Wire),
    secured: Option<Arc<Secured>>,
    max_head_bytes: usize,
) -> Result<Connected, h2::Error> {
    // What it says goes out with what the connection says first.
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
    Ok(Connected { send, connection, wire, secured, settled })
}

/// What h2 itself refuses: wider than the limit of policy, which then answers with its cause.
pub(crate) fn head_limit(max_head_bytes: usize) -> u32 {
    u32::try_from(max_head_bytes.saturating_mul(2)).unwrap_or(u32::MAX)
}

/// A connection that exchanges share. It ends when nobody may send on it any more.
#[derive(Debug)]
pub(super) struct Member {
    send: SendRequest<Bytes>,
    secured: Option<Arc<Secured>>,
    pub(super) made: Instant,
    /// When it is too old for further streams.
    until: Option<Instant>,
    /// How long it is kept without a stream.
    idle: Duration,
    streams: AtomicUsize,
    /// It carried an exchange.
    is_used: AtomicBool,
    closed: AtomicBool,
    /// What it broke by. Known before it is closed.
    broke: OnceLock<Failed>,
    /// The server has said how many streams it takes.
    settled: SetOnce<()>,
    /// When the last stream ended.
    idle_since: Mutex<Instant>,
    /// Tells that there may be room, or that there may be another connection.
    changed: Arc<Notify>,
}

/// Room for one stream on a connection.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) send: SendRequest<Bytes>,
    member: Arc<Member>,
    /// The connection was there before it was asked for, or carried other exchanges.
    pub(crate) reused: bool,
}

impl Lease {
    /// The connection takes no further stream.
    pub(crate) fn retire(&self) {
        self.member.close();
    }

    /// What is told of TLS on the connection, if there is any.
    pub(crate) fn secured(&self) -> Option<Arc<Secured>> {
        self.member.secured.clone()
    }

    /// Whether the server takes extended CONNECT (RFC 8441). Returns when its settings are known.
    pub(crate) async fn takes_extended_connect(&self) -> bool {
        self.member.settled.wait().await;
        self.send.is_extended_connect_protocol_enabled()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        *lock(&self.member.idle_since) = Instant::now();
        self.member.streams.fetch_sub(1, Ordering::AcqRel);
        self.member.changed.notify_one();
    }
}

impl Member {
    /// Runs the connection.
    pub(super) fn start(connected: Connected, params: &PoolParams, changed: &Arc<Notify>) -> Arc<Self> {
        let Connected { send, connection, wire, secured, settled } = connected;
        let now = Instant::now();
        let member = Arc::new(Self {
            send,
            secured,
            made: now,
            until: params.max_age.map(|age| now + age),
            idle: params.idle,
            streams: AtomicUsize::new(0),
            is_used: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            broke: OnceLock::new(),
            settled: SetOnce::new(),
            idle_since: Mutex::new(now),
            changed: Arc::clone(changed),
        });
        tokio::spawn(run(connection, wire, Arc::downgrade(&member)));
        tokio::spawn({
            let member = Arc::downgrade(&member);
            async move {
                let _ = timeout(SETTLE, settled).await;
                if let Some(member) = member.upgrade() {
                    let _ = member.settled.set(());
                }
            }
        });
        member
    }

    /// Returns when the server has said how many streams it takes, or has taken too long to.
    pub(super) async fn settle(&self) {
        self.settled.wait().await;
    }

    pub(super) fn has_room(&self) -> bool {
        let streams = self.streams();
        if !self.settled.initialized() {
            return streams == 0;
        }
        streams < self.send.current_max_send_streams().min(STREAMS)
    }

    /// Takes room for an exchange that asked for it at that time.
    pub(super) fn lease(self: &Arc<Self>, asked: Instant) -> Lease {
        self.streams.fetch_add(1, Ordering::AcqRel);
        let reused = self.is_used.swap(true, Ordering::AcqRel) || self.made < asked;
        Lease { send: self.send.clone(), member: Arc::clone(self), reused }
    }

    pub(super) fn streams(&self) -> usize {
        self.streams.load(Ordering::Acquire)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.streams() == 0
    }

    /// Since when, if it is idle.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        self.is_idle().then(|| *lock(&self.idle_since))
    }

    /// Whether it takes no further stream.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        let idle = || now.saturating_duration_since(*lock(&self.idle_since));
        self.closed.load(Ordering::Acquire)
            || self.until.is_some_and(|until| now >= until)
            || self.is_idle() && idle() >= self.idle
    }

    /// What it broke by, as it is told to an exchange that found no stream on it any more.
    pub(super) fn broke(&self) -> Option<&Failed> {
        self.broke.get()
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    /// Takes no further stream where the server has said GOAWAY. While there is room this is not asked: whoever takes it
    /// finds out.
    fn heed_goaway(&self) {
        if self.closed.load(Ordering::Acquire) || self.has_room() {
            return;
        }
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(Err(_)) = self.send.clone().poll_ready(&mut context) {
            self.close();
        }
    }
}

/// Its end shows on each stream, and to whoever would open one. That it goes away has to show to those too that wait until
/// one of its streams ends, which may take hours.
async fn run(mut connection: Connection<Io, Bytes>, wire: Wire, member: Weak<Member>) {
    let is_busy = || member.upgrade().is_some_and(|member| member.streams() > 1);
    let ended = pin!(poll_fn(|cx| {
        let ended = Pin::new(&mut connection).poll(cx);
        if ended.is_pending()
            && let Some(member) = member.upgrade()
        {
            member.heed_goaway();
        }
        ended
    }));
    let ended = drive(&wire, is_busy, ended).await;
    if let Err(error) = &ended {
        tracing::debug!(%error, "an upstream HTTP/2 connection ended");
    }
    if let Some(member) = member.upgrade() {
        if let Err(error) = &ended {
            let _ = member.broke.set(Failed::no_connection(error));
        }
        member.close();
    }
}
