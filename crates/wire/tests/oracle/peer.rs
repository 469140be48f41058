//! What hyper reads from the same bytes.

use std::convert::Infallible;
use std::error::Error;
use std::io::ErrorKind;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HOST, HeaderMap};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::reading::{End, Head, Message, Reading, escaped, request_facts};

/// What hyper's server reads from a client that sends `bytes` and closes.
pub(crate) async fn requests(bytes: &[u8]) -> Reading {
    let seen = Arc::new(Mutex::new((Vec::new(), None)));
    let service = service_fn(|request: Request<Incoming>| {
        let seen = Arc::clone(&seen);
        async move {
            let (head, body) = request.into_parts();
            let (message, failure) = read(facts(&head), &head.headers, body).await;
            let mut seen = seen.lock().expect("nothing panics while it holds this");
            seen.0.push(message);
            seen.1 = failure;
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let io = TokioIo::new(tokio::io::join(bytes, tokio::io::sink()));
    // More headers than by default, to have the same limit as dragoman.
    let server = hyper::server::conn::http1::Builder::new().half_close(true).max_headers(256).to_owned();
    let served = server.serve_connection(io, service).await;
    let (messages, failure) = std::mem::take(&mut *seen.lock().expect("as above"));
    let connect = messages.last().is_some_and(|message: &Message| message.head.start.starts_with("CONNECT "));
    let end = match (failure, served) {
        (Some(end), _) => end,
        (None, Ok(())) if connect => End::Tunnel,
        (None, Ok(())) => End::Clean,
        (None, Err(error)) => ended_by(&error),
    };
    Reading { messages, end }
}

/// What hyper's client reads from a server that answers a request of that method with `bytes` and closes.
pub(crate) async fn responses(bytes: &[u8], method: &Method) -> Reading {
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_headers(256)
        .handshake(TokioIo::new(near))
        .await
        .expect("a handshake of HTTP/1 sends nothing");
    let target = if method == Method::CONNECT { "a.test:443" } else { "/" };
    let request = Request::builder().method(method).uri(target).header(HOST, "a.test");
    let request = request.body(Empty::<Bytes>::new()).expect("the request is valid");
    let client = async move {
        let response = match sender.send_request(request).await {
            Ok(response) => response,
            Err(error) => return Reading { messages: Vec::new(), end: ended_by(&error) },
        };
        let (head, body) = response.into_parts();
        let tunnel = head.status == 101 || (method == Method::CONNECT && head.status.is_success());
        let (message, failure) = read(head.status.as_u16().to_string(), &head.headers, body).await;
        let end = failure.unwrap_or(if tunnel { End::Tunnel } else { End::Clean });
        Reading { messages: vec![message], end }
    };
    let server = async {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            far.read_buf(&mut request).await.expect("a pipe in memory does not fail");
        }
        // A client that has read enough has closed.
        let _ = far.write_all(bytes).await;
        let _ = far.shutdown().await;
    };
    tokio::join!(client, server, connection.with_upgrades()).0
}

async fn read(start: String, fields: &HeaderMap, mut body: Incoming) -> (Message, Option<End>) {
    let fields = fields.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes()));
    let mut message = Message { head: Head::new(start, fields), body: String::new(), whole: false };
    while let Some(frame) = body.frame().await {
        match frame.map(hyper::body::Frame::into_data) {
            Ok(data) => message.body.push_str(&escaped(&data.unwrap_or_default())),
            Err(error) => return (message, Some(ended_by(&error))),
        }
    }
    message.whole = true;
    (message, None)
}

fn facts(head: &Parts) -> String {
    let uri = &head.uri;
    let host = head.headers.get(HOST).map_or(&b""[..], |host| host.as_bytes());
    let authority = uri.authority().and_then(|authority| authority.as_str().rsplit('@').next());
    let authority = authority.map_or_else(|| escaped(host), ToOwned::to_owned);
    request_facts(
        head.method.as_str(),
        &authority,
        uri.path(),
        &escaped(uri.query().unwrap_or_default().as_bytes()),
    )
}

fn ended_by(error: &hyper::Error) -> End {
    let cause = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
    match cause.map(std::io::Error::kind) {
        Some(ErrorKind::UnexpectedEof) => End::CutInBody,
        _ if error.is_incomplete_message() => End::CutInHead,
        _ => End::Refused(cause.map_or_else(|| error.to_string(), ToString::to_string)),
    }
}
