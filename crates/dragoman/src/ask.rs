//! Questions of this program to a proxy that runs, by its control surface.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::sockets::USUAL_SOCKET;

/// How long one answer may take to begin.
const ANSWER: Duration = Duration::from_secs(15);

/// Where the control surface is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum At {
    Socket(PathBuf),
    Address(SocketAddr),
}

impl FromStr for At {
    type Err = std::convert::Infallible;

    /// An empty text says nothing: a variable may be left empty by whoever fills a template in.
    fn from_str(text: &str) -> Result<At, Self::Err> {
        if text.is_empty() {
            return Ok(At::default());
        }
        Ok(text.parse().map_or_else(|_| At::Socket(text.into()), At::Address))
    }
}

impl Default for At {
    fn default() -> At {
        At::Socket(USUAL_SOCKET.into())
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Socket(path) => path.display().fmt(f),
            At::Address(address) => address.fmt(f),
        }
    }
}

/// Why there is no answer, for a person: who was asked, and what went wrong.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// Nobody listens there any more, or has ended instead of answering.
    Gone(String),
    Failed(String),
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unanswered::Gone(why) | Unanswered::Failed(why) => f.write_str(why),
        }
    }
}

impl From<String> for Unanswered {
    fn from(why: String) -> Unanswered {
        Unanswered::Failed(why)
    }
}

/// Asks and reads the whole answer.
///
/// # Errors
/// For a person: who was asked, and what went wrong.
pub(crate) fn ask(at: &At, path: &str) -> Result<Bytes, String> {
    let asking = async {
        let body = begin(at, Method::GET, path, ANSWER).await?.into_body();
        let whole = timeout(ANSWER, body.collect())
            .await
            .map_err(|_| format!("{at}: no whole answer within {ANSWER:?}"))?;
        Ok(whole.map_err(|error| format!("{at}: {error}"))?.to_bytes())
    };
    run(asking).map_err(|why| why.to_string())
}

/// Asks for a change, and reads what is said of it. An answer that begins well and has no end is that of a proxy which did
/// as it was told.
///
/// # Errors
/// That it is not done, unless the proxy is gone.
pub(crate) fn post(at: &At, path: &str, patience: Duration) -> Result<Bytes, Unanswered> {
    run(async {
        let body = begin(at, Method::POST, path, patience).await?.into_body();
        let whole = timeout(patience, body.collect()).await;
        Ok(whole.ok().and_then(Result::ok).map(Collected::to_bytes).unwrap_or_default())
    })
}

/// Asks, and gives the lines of the answer to `take` as they come, until it wants no more.
///
/// # Errors
/// For a person: who was asked, and what went wrong.
pub(crate) fn follow(
    at: &At,
    path: &str,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), String> {
    let asking = async {
        let mut body = begin(at, Method::GET, path, ANSWER).await?.into_body();
        let mut rest = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| format!("{at}: {error}"))?;
            rest.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
            while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
                let line: Vec<_> = rest.drain(..=end).collect();
                if take(&line[..end]).is_err() {
                    // Whoever read this has gone.
                    return Ok(());
                }
            }
        }
        Ok(())
    };
    run(asking).map_err(|why| why.to_string())
}

fn run<T>(asking: impl Future<Output = Result<T, Unanswered>>) -> Result<T, Unanswered> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| format!("cannot start: {error}"))?.block_on(asking)
}

async fn begin(
    at: &At,
    method: Method,
    path: &str,
    patience: Duration,
) -> Result<Response<Incoming>, Unanswered> {
    let answer = timeout(patience, async {
        match at {
            At::Socket(socket) => {
                let stream = UnixStream::connect(socket).await.map_err(|error| unreachable(at, &error))?;
                exchange(at, stream, method, path).await
            }
            At::Address(address) => {
                let stream = TcpStream::connect(address).await.map_err(|error| unreachable(at, &error))?;
                exchange(at, stream, method, path).await
            }
        }
    });
    let answer = answer.await.map_err(|_| format!("{at}: no answer within {patience:?}"))??;
    match answer.status() {
        StatusCode::OK => Ok(answer),
        status => {
            let why = timeout(patience, answer.into_body().collect()).await;
            let why = why.ok().and_then(Result::ok).map(Collected::to_bytes).unwrap_or_default();
            Err(format!("{at}: {status}: {}", String::from_utf8_lossy(&why).trim_end()).into())
        }
    }
}

async fn exchange(
    at: &At,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    method: Method,
    path: &str,
) -> Result<Response<Incoming>, Unanswered> {
    let broken = |error: hyper::Error| match error.is_parse() {
        true => Unanswered::Failed(format!("{at} says what no dragoman says: {error}")),
        false => Unanswered::Gone(format!("{at}: the proxy ended the connection: {error}")),
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header(HOST, "localhost");
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    sender.send_request(request).await.map_err(broken)
}

fn unreachable(at: &At, error: &io::Error) -> Unanswered {
    let advice = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            "is `dragoman proxy` running? --control says where its control.socket or control.listen is"
        }
        io::ErrorKind::PermissionDenied => {
            "only root and the proxy's own user may ask there; --control 127.0.0.1:15000 is for everybody of this machine"
        }
        _ => "--control says where the control surface of the proxy is",
    };
    let why = format!("cannot ask {at}: {error}; {advice}");
    // A socket that is there was somebody's. One that is not may be the wrong one.
    if error.kind() == io::ErrorKind::ConnectionRefused {
        Unanswered::Gone(why)
    } else {
        Unanswered::Failed(why)
    }
}

/// The text as a value in a query.
pub(crate) fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            byte if byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte) => out.push(char::from(byte)),
            byte => out += &format!("%{byte:02X}"),
        }
        out
    })
}

/// The value of a query as text.
pub(crate) fn decoded(value: &str) -> String {
    let bytes = value.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let hex = value.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_can_be_decoded() {
        for text in ["", "a b&c=d", "é%41\u{0}", "/v1/x:80", "100%"] {
            assert_eq!(decoded(&encoded(text)), text);
            assert!(encoded(text).bytes().all(|byte| byte.is_ascii_graphic() && !b"&=#? ".contains(&byte)));
        }
        assert_eq!(decoded("%4"), "%4");
        assert_eq!(decoded("%zz%é"), "%zz%é");
    }

    #[test]
    fn an_address_is_told_from_a_path() {
        assert_eq!("127.0.0.1:15000".parse(), Ok(At::Address(([127, 0, 0, 1], 15000).into())));
        assert_eq!("/run/d.sock".parse(), Ok(At::Socket("/run/d.sock".into())));
    }
}
