//! One HTTP/1.1 connection to the receiver, used for one request after the other.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use super::export::Receiver;
use super::protobuf::{Value, next};

/// From the connect to the end of the answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes of an answer that are read.
const ANSWER_BYTES: usize = 64 * 1024;

/// What the receiver answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// How long it asks to wait; a date is not understood.
    pub(super) retry_after: Option<Duration>,
    /// Spans that it took the request without.
    pub(super) rejected: u64,
    /// What it says about that.
    pub(super) message: String,
}

pub(super) struct Client {
    runtime: Runtime,
    host: String,
    port: u16,
    uri: Uri,
    headers: HeaderMap,
    mark: Option<u32>,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    /// A client that has no connection yet.
    ///
    /// # Errors
    /// A path or a header cannot be sent; there are no resources for a runtime.
    pub(super) fn new(receiver: Receiver) -> io::Result<Client> {
        let Receiver { host, port, path, headers: more, mark, .. } = receiver;
        let mut headers = HeaderMap::new();
        headers.insert(HOST, text(&authority(&host, port))?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("dragoman/", env!("CARGO_PKG_VERSION"))));
        for (name, value) in &more {
            headers.insert(HeaderName::try_from(name).map_err(io::Error::other)?, text(value)?);
        }
        let uri = Uri::try_from(path).map_err(io::Error::other)?;
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        Ok(Client { runtime, host, port, uri, headers, mark, connection: None })
    }

    /// The receiver, for the log.
    pub(super) fn receiver(&self) -> String {
        authority(&self.host, self.port)
    }

    /// Posts `body`, and once again if a connection that stood breaks.
    ///
    /// # Errors
    /// There was no answer.
    pub(super) fn post(&mut self, body: &Bytes) -> Result<Answer, String> {
        let stood = self.connection.take();
        let reuses = stood.is_some();
        match self.try_post(stood, body) {
            Err(_) if reuses => self.try_post(None, body),
            result => result,
        }
    }

    fn try_post(
        &mut self,
        connection: Option<SendRequest<Full<Bytes>>>,
        body: &Bytes,
    ) -> Result<Answer, String> {
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        let Client { runtime, host, port, mark, .. } = self;
        let exchange = async {
            let mut connection = match connection {
                Some(connection) => connection,
                None => connect(host, *port, *mark).await?,
            };
            connection.ready().await.map_err(|error| error.to_string())?;
            let response = connection.send_request(request).await.map_err(|error| error.to_string())?;
            let answer = read(response).await?;
            Ok((answer, connection))
        };
        // The timer is made inside the runtime.
        let result = runtime.block_on(async { timeout(TIMEOUT, exchange).await });
        let (answer, connection) = result.unwrap_or_else(|_| Err(format!("no answer within {TIMEOUT:?}")))?;
        self.connection = Some(connection);
        Ok(answer)
    }
}

async fn connect(host: &str, port: u16, mark: Option<u32>) -> Result<SendRequest<Full<Bytes>>, String> {
    // Looking a name up blocks: nobody else is on this thread.
    let addresses: Vec<_> = (host, port).to_socket_addrs().map_err(|error| error.to_string())?.collect();
    let stream = dial(&addresses, mark).await.map_err(|error| error.to_string())?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // How it ends is told to the request that is on it.
    tokio::spawn(async { drop(connection.await) });
    Ok(sender)
}

/// Each address in turn.
async fn dial(addresses: &[SocketAddr], mark: Option<u32>) -> io::Result<TcpStream> {
    let mut last = io::ErrorKind::AddrNotAvailable.into();
    for &address in addresses {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        if let Some(mark) = mark {
            SockRef::from(&socket).set_mark(mark)?;
        }
        match socket.connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn read(response: hyper::Response<hyper::body::Incoming>) -> Result<Answer, String> {
    let status = response.status().as_u16();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    let (rejected, message) = partial_success(&body);
    Ok(Answer { status, retry_after: retry_after.map(Duration::from_secs), rejected, message })
}

/// How many spans an `ExportTraceServiceResponse` says were rejected, and why.
fn partial_success(mut response: &[u8]) -> (u64, String) {
    let (mut rejected, mut message) = (0, String::new());
    while let Some((field, value)) = next(&mut response) {
        let (1, Value::Bytes(mut partial)) = (field, value) else { continue };
        while let Some(field) = next(&mut partial) {
            match field {
                (1, Value::Number(spans)) => rejected = spans,
                (2, Value::Bytes(text)) => message = crate::text::printable(text),
                _ => {}
            }
        }
    }
    (rejected, message)
}

fn text(value: &str) -> io::Result<HeaderValue> {
    HeaderValue::try_from(value).map_err(io::Error::other)
}

fn authority(host: &str, port: u16) -> String {
    match host.parse::<Ipv6Addr>() {
        Ok(v6) => format!("[{v6}]:{port}"),
        Err(_) => format!("{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_success_is_read() {
        assert_eq!(partial_success(b""), (0, String::new()));
        assert_eq!(partial_success(b"\x0a\x00"), (0, String::new()));
        assert_eq!(partial_success(b"\x0a\x08\x08\x83\x02\x12\x03why"), (259, "why".to_owned()));
        assert_eq!(partial_success(b"<html>what is no answer of OTLP</html>"), (0, String::new()));
    }
}
