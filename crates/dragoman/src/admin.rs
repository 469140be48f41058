//! The read-only admin surface: `/live`, `/ready`, `/metrics`.
//!
//! kubelet and Prometheus reach it, and so may the application and others in the pod; so it shows no secret,
//! changes nothing, and holds little: one request per connection, a bounded number of connections, each with
//! a deadline.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dragoman_telemetry::Telemetry;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

/// Connections that are served at a time; more wait in the kernel's backlog.
const CONNECTIONS: usize = 64;
/// From accept to the end of the request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// From accept to the end of the response.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);
/// The pause after `accept` failed (out of descriptors, mostly), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where the process is in its life, as `/ready` tells it.
#[derive(Clone, Debug)]
pub(crate) struct Phase(Arc<AtomicU8>);

const STARTING: u8 = 0;
const READY: u8 = 1;
const DRAINING: u8 = 2;

impl Phase {
    /// Not accepting yet.
    pub(crate) fn starting() -> Phase {
        Phase(Arc::new(AtomicU8::new(STARTING)))
    }

    /// The listeners accept.
    pub(crate) fn set_ready(&self) {
        self.0.store(READY, Ordering::Relaxed);
    }

    /// The listeners are closed; flows that are open may finish.
    pub(crate) fn set_draining(&self) {
        self.0.store(DRAINING, Ordering::Relaxed);
    }

    fn answer(&self) -> (StatusCode, &'static str) {
        match self.0.load(Ordering::Relaxed) {
            READY => (StatusCode::OK, "ready\n"),
            DRAINING => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
            _ => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        }
    }
}

/// What the admin surface shows.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    pub(crate) telemetry: Telemetry,
    pub(crate) phase: Phase,
}

impl Admin {
    /// Serves these listeners, in tasks of the current runtime, for as long as it lives.
    ///
    /// # Errors
    /// When the runtime cannot take a listener.
    pub(crate) fn serve(&self, listeners: Vec<TcpListener>) -> io::Result<()> {
        let permits = Arc::new(Semaphore::new(CONNECTIONS));
        for listener in listeners {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            tokio::spawn(accept(listener, permits.clone(), self.clone()));
        }
        Ok(())
    }

    fn respond(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if !PAGES.contains(&path) {
            return response(StatusCode::NOT_FOUND, TEXT, "no such page; / lists them\n");
        }
        if method != Method::GET && method != Method::HEAD {
            let mut refusal = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n");
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
        match path {
            "/live" => response(StatusCode::OK, TEXT, "live\n"),
            "/ready" => {
                let (status, word) = self.phase.answer();
                response(status, TEXT, word)
            }
            "/metrics" => response(StatusCode::OK, EXPOSITION, self.telemetry.render()),
            _ => response(StatusCode::OK, TEXT, INDEX),
        }
    }
}

/// Listens on the addresses of `admin.listen`.
///
/// # Errors
/// The address that cannot be listened on, and why.
pub(crate) fn bind(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, (SocketAddr, io::Error)> {
    addresses.iter().map(|&address| listen(address).map_err(|error| (address, error))).collect()
}

const PAGES: [&str; 4] = ["/", "/live", "/ready", "/metrics"];

const INDEX: &str = "\
dragoman
/live     200 while the process runs
/ready    200 while new connections are accepted
/metrics  Prometheus text format
";

const TEXT: &str = "text/plain; charset=utf-8";
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

fn response(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn accept(listener: tokio::net::TcpListener, permits: Arc<Semaphore>, admin: Admin) {
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve(stream, admin.clone(), permit));
            }
            Err(error) => {
                tracing::warn!(%error, "the admin listener cannot accept");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(stream: tokio::net::TcpStream, admin: Admin, _permit: OwnedSemaphorePermit) {
    let service = service_fn(move |request: Request<_>| {
        let _: &hyper::body::Incoming = request.body();
        let response = admin.respond(request.method(), request.uri().path());
        async { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .half_close(true)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // Whatever goes wrong here goes wrong at the asker's side, who sees it; it must not fill the log.
    let _ = timeout(CONNECTION_TIMEOUT, connection).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use dragoman_telemetry::AccessLog;

    #[test]
    fn readiness_follows_the_phase_and_liveness_does_not() {
        let phase = Phase::starting();
        let admin = Admin { telemetry: Telemetry::new(vec![], AccessLog::off()), phase: phase.clone() };
        let ready = || admin.respond(&Method::GET, "/ready").status().as_u16();
        assert_eq!(ready(), 503);
        phase.set_ready();
        assert_eq!(ready(), 200);
        phase.set_draining();
        assert_eq!(ready(), 503);
        assert_eq!(admin.respond(&Method::GET, "/live").status().as_u16(), 200);
    }
}
