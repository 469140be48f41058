//! A gRPC server as Rust programs have it (tonic, on hyper). The service is that of grpc_server.py.
//!
//!     grpc_server PORT [MAX_CONNECTION_AGE_MS]

use std::convert::Infallible;
use std::env;
use std::net::{Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use grpc_tonic::{Message, Plain};
use tokio_stream::{Stream, StreamExt, iter};
use tonic::body::Body;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::server::Grpc;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status, Streaming};
use tower::service_fn;

static GIVEN_UP: AtomicUsize = AtomicUsize::new(0);

type Answers = Pin<Box<dyn Stream<Item = Result<Message, Status>> + Send>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = env::args().skip(1);
    let port: u16 = arguments.next().ok_or("no port")?.parse()?;
    let mut server = Server::builder();
    if let Some(age) = arguments.next() {
        // With a grace tonic ends a connection after that, and never says GOAWAY (0.14).
        server = server.max_connection_age(Duration::from_millis(age.parse()?));
    }
    let service = service_fn(|request| async { Ok::<_, Infallible>(respond(request).await) });
    Ok(server.serve(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), service).await?)
}

/// Every call is taken for one with streams of messages both ways, which is how all of them look on the wire.
async fn respond(request: http::Request<Body>) -> http::Response<Body> {
    let method = request.uri().path().trim_start_matches("/test.Echo/").to_owned();
    let service = service_fn(move |request| answer(method.clone(), request));
    Grpc::new(Plain).max_decoding_message_size(usize::MAX).streaming(service, request).await
}

async fn answer(method: String, request: Request<Streaming<Message>>) -> Result<Response<Answers>, Status> {
    let (asked, _, mut messages) = request.into_parts();
    Ok(match method.as_str() {
        "Unary" => {
            let message = messages.message().await?.unwrap_or_default();
            if let Some(status) = status(&asked) {
                return Err(status);
            }
            echoing(&asked, [Ok(message), Err(end(&asked))])
        }
        "ServerStream" => {
            let count = number(&asked, "x-count").unwrap_or(0);
            let answers = (0..count).map(|n| Ok(vec![n as u8; 1000]));
            match status(&asked) {
                Some(status) => streaming(iter(answers.chain([Err(status)]))),
                None => echoing(&asked, answers.chain([Err(end(&asked))])),
            }
        }
        "ClientStream" => {
            let (mut count, mut bytes) = (0, 0);
            while let Some(message) = messages.message().await? {
                (count, bytes) = (count + 1, bytes + message.len());
            }
            one(format!("{count} messages, {bytes} bytes"))
        }
        "Chat" => streaming(messages),
        "Slow" => streaming(iter([Ok(b"begun".to_vec())]).chain(Forever)),
        "Deadline" => one(time_left(&asked).map_or("none".into(), |left| left.to_string())),
        "GivenUp" => one(GIVEN_UP.load(Ordering::SeqCst).to_string()),
        _ => return Err(Status::unimplemented("no such method")),
    })
}

fn streaming(answers: impl Stream<Item = Result<Message, Status>> + Send + 'static) -> Response<Answers> {
    Response::new(Box::pin(answers))
}

fn one(answer: String) -> Response<Answers> {
    streaming(iter([Ok(answer.into_bytes())]))
}

/// The answers, after the metadata that are to come back.
fn echoing<A>(asked: &MetadataMap, answers: A) -> Response<Answers>
where
    A: IntoIterator<Item = Result<Message, Status>>,
    A::IntoIter: Send + 'static,
{
    let mut response = streaming(iter(answers));
    *response.metadata_mut() = echo(asked);
    response
}

fn echo(asked: &MetadataMap) -> MetadataMap {
    let mut headers = asked.clone().into_headers();
    let others: Vec<_> =
        headers.keys().filter(|name| !name.as_str().starts_with("x-echo")).cloned().collect();
    for name in others {
        headers.remove(name);
    }
    MetadataMap::from_headers(headers)
}

/// The end of a call that went well, with the metadata after it.
fn end(asked: &MetadataMap) -> Status {
    Status::with_metadata(Code::Ok, "", echo(asked))
}

/// The status that the call asks for.
fn status(asked: &MetadataMap) -> Option<Status> {
    let code = Code::from(i32::try_from(number(asked, "x-status")?).ok()?);
    let mut metadata = echo(asked);
    metadata.insert_bin("x-detail-bin", MetadataValue::from_bytes(&[0, 255, 128]));
    Some(Status::with_metadata(code, "was asked for: 100 % é\n", metadata))
}

fn number(asked: &MetadataMap, name: &str) -> Option<u64> {
    asked.get(name)?.to_str().ok()?.parse().ok()
}

/// Milliseconds, of `grpc-timeout`.
fn time_left(asked: &MetadataMap) -> Option<u64> {
    let text = asked.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "n" => amount / 1_000_000,
        "u" => amount / 1000,
        "m" => amount,
        "S" => amount * 1000,
        "M" => amount * 60_000,
        _ => amount * 3_600_000,
    })
}

/// No further message, until the call is given up.
struct Forever;

impl Stream for Forever {
    type Item = Result<Message, Status>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Pending
    }
}

impl Drop for Forever {
    fn drop(&mut self) {
        GIVEN_UP.fetch_add(1, Ordering::SeqCst);
    }
}
