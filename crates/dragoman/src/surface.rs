//! The small HTTP server that both admin surfaces stand on.
//!
//! Whoever asks may be hostile or stuck: one request per connection, a bounded number of connections, each with a
//! deadline.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use dragoman_proxy::Handle;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use crate::flows::follow::Stream;

/// Connections that are served at a time on one surface; more wait in the kernel's backlog.
const CONNECTIONS: usize = 64;
/// From accept to the end of the request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// From accept to the end of the response.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);
/// The pause after `accept` failed (out of descriptors, mostly), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub(crate) const TEXT: &str = "text/plain; charset=utf-8";

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// Anybody who reaches the address.
    Tcp,
    /// A process of this machine which may write to the socket, with its user if the kernel knows.
    Unix(Option<u32>),
}

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp => f.write_str("tcp"),
            Self::Unix(Some(user)) => write!(f, "user {user}"),
            Self::Unix(None) => f.write_str("control socket"),
        }
    }
}

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum Page {
    Whole(Full<Bytes>),
    /// It has no end: the deadline of a connection is not for it.
    Stream(Box<Stream>),
}

impl Body for Page {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Page::Whole(whole) => Pin::new(whole).poll_frame(context),
            Page::Stream(stream) => Pin::new(&mut **stream).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Page::Whole(whole) => whole.is_end_stream(),
            Page::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Page::Whole(whole) => whole.size_hint(),
            Page::Stream(stream) => stream.size_hint(),
        }
    }
}

/// What answers requests.
pub(crate) trait Surface: Clone + Send + Sync + 'static {
    /// Answers one.
    fn respond(
        &self,
        asker: Asker,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Page>> + Send;
}

/// Serves these listeners, in tasks of the current runtime, until another process does.
///
/// # Errors
/// When the runtime cannot take a listener.
pub(crate) fn serve(
    surface: &impl Surface,
    tcp: Vec<TcpListener>,
    unix: Option<UnixListener>,
    proxy: &Handle,
) -> io::Result<()> {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    for listener in tcp {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tokio::spawn(accept(listener, permits.clone(), surface.clone(), proxy.clone()));
    }
    if let Some(listener) = unix {
        let listener = tokio::net::UnixListener::from_std(listener)?;
        tokio::spawn(accept(listener, permits, surface.clone(), proxy.clone()));
    }
    Ok(())
}

/// An answer with a body of this kind.
pub(crate) fn response(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Page> {
    let mut response = Response::new(Page::Whole(Full::new(body.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// An answer whose body takes its time: a page of a thousand destinations takes milliseconds, and the kernel as many to
/// list ten thousand sockets. It is made beside the workers, where flows would wait for it; and one at a time, since
/// fifty threads of fifty askers would be in the workers' way all the same.
pub(crate) async fn page(
    kind: &'static str,
    make: impl FnOnce() -> String + Send + 'static,
) -> Response<Page> {
    static TURN: Semaphore = Semaphore::const_new(1);
    let turn = TURN.acquire().await;
    // The turn ends with the work, also where the asker is gone before.
    let made = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        make()
    });
    match made.await {
        Ok(page) => response(StatusCode::OK, kind, page),
        Err(error) => {
            tracing::error!(%error, "cannot make a page");
            response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "see the process log\n")
        }
    }
}

/// The answer to another method than `allowed`.
pub(crate) fn wrong_method(allowed: &'static str) -> Response<Page> {
    let mut refusal = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, format!("only {allowed}\n"));
    refusal.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    refusal
}

/// A listener of either kind.
trait Accept: Send + Sync + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Asker)>> + Send;
}

impl Accept for tokio::net::TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Asker)> {
        Ok((tokio::net::TcpListener::accept(self).await?.0, Asker::Tcp))
    }
}

impl Accept for tokio::net::UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, Asker)> {
        let (stream, _) = tokio::net::UnixListener::accept(self).await?;
        let user = stream.peer_cred().ok().map(|credentials| credentials.uid());
        Ok((stream, Asker::Unix(user)))
    }
}

async fn accept(listener: impl Accept, permits: Arc<Semaphore>, surface: impl Surface, proxy: Handle) {
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = proxy.handed_over() => return,
        };
        match accepted {
            Ok((stream, asker)) => {
                tokio::spawn(answer(stream, asker, surface.clone(), permit));
            }
            Err(error) => {
                tracing::warn!(%error, "an admin listener cannot accept");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    asker: Asker,
    surface: impl Surface,
    _permit: OwnedSemaphorePermit,
) {
    let endless = AtomicBool::new(false);
    let service = service_fn(|request: Request<Incoming>| async {
        let answer = surface.respond(asker, request).await;
        endless.store(matches!(answer.body(), Page::Stream(_)), Ordering::Relaxed);
        Ok::<_, Infallible>(answer)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .half_close(true)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // Whatever goes wrong here goes wrong at the asker's side, who sees it; it must not fill the log.
    let mut connection = pin!(connection);
    if timeout(CONNECTION_TIMEOUT, &mut connection).await.is_err() && endless.load(Ordering::Relaxed) {
        let _ = connection.await;
    }
}
