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
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dragoman_proxy::Handle;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

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

/// What answers requests.
pub(crate) trait Surface: Clone + Send + Sync + 'static {
    /// Answers one.
    fn respond(
        &self,
        asker: Asker,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Full<Bytes>>> + Send;
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
pub(crate) fn response(
    status: StatusCode,
    kind: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
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
) -> Response<Full<Bytes>> {
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
pub(crate) fn wrong_method(allowed: &'static str) -> Response<Full<Bytes>> {
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
    let service = service_fn(|request: Request<Incoming>| async {
        Ok::<_, Infallible>(surface.respond(asker, request).await)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .half_close(true)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // Whatever goes wrong here goes wrong at the asker's side, who sees it; it must not fill the log.
    let _ = timeout(CONNECTION_TIMEOUT, connection).await;
}
