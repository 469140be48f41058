//! A gRPC client as Rust programs have it (tonic, on hyper): every kind of call to test.Echo, and what came of it, in
//! the same lines as grpc_client.py prints.
//!
//!     grpc_client TARGET          one line for each call
//!     grpc_client TARGET load N   N calls, eight at a time, and how many ended with which status

use std::collections::BTreeMap;
use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use grpc_tonic::{Message, Plain};
use http::uri::PathAndQuery;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::metadata::{KeyAndValueRef, MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let target = arguments.first().ok_or("no target")?;
    let channel = Endpoint::from_shared(format!("http://{target}"))?
        .http2_keep_alive_interval(Duration::from_millis(100))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true)
        .connect_lazy();
    match arguments.get(1..) {
        Some([mode, count]) if mode == "load" => load(&channel, count.parse()?).await,
        _ => {
            unary(&channel).await?;
            streams(&channel).await?;
            statuses(&channel).await;
            deadlines(&channel).await?;
        }
    }
    Ok(())
}

/// What came of a call.
#[derive(Default)]
struct Ended {
    initial: MetadataMap,
    messages: Vec<Message>,
    trailing: MetadataMap,
    error: Option<Status>,
}

impl Ended {
    fn code(&self) -> Code {
        self.error.as_ref().map_or(Code::Ok, Status::code)
    }

    fn show(&self, name: &str) {
        match &self.error {
            // What libraries say about a call that went well is their own.
            None => println!("{name}: 0 - [{}]", shown(&self.trailing)),
            Some(status) => {
                let (code, said) = (i32::from(status.code()), status.message());
                println!("{name}: {code} {said:?} [{}]", shown(status.metadata()));
            }
        }
    }
}

/// Opens a call.
async fn open(
    channel: &Channel,
    method: &str,
    request: Request<ReceiverStream<Message>>,
) -> Result<tonic::Response<Streaming<Message>>, Status> {
    let mut grpc = Grpc::new(channel.clone()).max_decoding_message_size(usize::MAX);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = format!("/test.Echo/{method}").parse::<PathAndQuery>().expect("it is a path");
    grpc.streaming(request, path, Plain).await
}

/// A request of these messages.
fn request(
    messages: impl IntoIterator<Item = Message>,
    metadata: MetadataMap,
) -> Request<ReceiverStream<Message>> {
    let messages: Vec<_> = messages.into_iter().collect();
    let (send, receive) = mpsc::channel(messages.len().max(1));
    messages.into_iter().for_each(|message| send.try_send(message).expect("there is room"));
    let mut request = Request::new(ReceiverStream::new(receive));
    *request.metadata_mut() = metadata;
    request
}

/// A call from its beginning to its end.
async fn call(
    channel: &Channel,
    method: &str,
    mut request: Request<ReceiverStream<Message>>,
    seconds: u64,
) -> Ended {
    request.set_timeout(Duration::from_secs(seconds));
    let mut ended = Ended::default();
    let result = async {
        let response = open(channel, method, request).await?;
        ended.initial = response.metadata().clone();
        let mut answers = response.into_inner();
        while let Some(message) = answers.message().await? {
            ended.messages.push(message);
        }
        ended.trailing = answers.trailers().await?.unwrap_or_default();
        Ok(())
    };
    // The library itself leaves off at the answer's head.
    let late = || Err(Status::deadline_exceeded("late"));
    ended.error = timeout(Duration::from_secs(seconds), result).await.unwrap_or_else(|_| late()).err();
    ended
}

/// The answer to one message.
async fn one(channel: &Channel, method: &str, message: impl Into<Message>) -> Result<Message, Status> {
    let ended = call(channel, method, request([message.into()], MetadataMap::new()), 60).await;
    match ended.error {
        None => Ok(ended.messages.concat()),
        Some(status) => Err(status),
    }
}

async fn unary(channel: &Channel) -> Result<(), Status> {
    let ended = call(channel, "Unary", request([b"hello".to_vec()], echo(&[])), 30).await;
    println!("unary: {}", text(&ended.messages.concat()));
    println!("initial: [{}]", shown(&ended.initial));
    ended.show("trailing");
    println!("empty: {}", one(channel, "Unary", "").await?.len());
    let large: Message = (0..256 * 80_000_u32).map(|n| n as u8).collect();
    println!("large: {}", digest(&one(channel, "Unary", large).await?));
    let mut together = JoinSet::new();
    for n in 0..100 {
        let channel = channel.clone();
        together.spawn(async move {
            one(&channel, "Unary", n.to_string())
                .await
                .is_ok_and(|answer| answer == n.to_string().into_bytes())
        });
    }
    println!("together: {}", together.join_all().await.into_iter().filter(|right| *right).count());
    Ok(())
}

async fn streams(channel: &Channel) -> Result<(), Status> {
    let ended = call(channel, "ServerStream", request([vec![]], echo(&[("x-count", "200")])), 30).await;
    println!("server stream: {}", digest(&ended.messages.concat()));
    ended.show("server stream");
    let messages = (0..200).map(|_| vec![0; 10_000]);
    let ended = call(channel, "ClientStream", request(messages, MetadataMap::new()), 30).await;
    println!("client stream: {}", text(&ended.messages.concat()));
    // Each message is sent once the one before it has come back.
    let (send, receive) = mpsc::channel(1);
    let _ = send.send(b"0".to_vec()).await;
    let mut send = Some(send);
    let mut answers = open(channel, "Chat", Request::new(ReceiverStream::new(receive))).await?.into_inner();
    let mut turns = 0;
    while let Some(message) = answers.message().await? {
        assert_eq!(text(&message), turns.to_string());
        turns += 1;
        match &send {
            Some(send) if turns < 50 => drop(send.send(turns.to_string().into_bytes()).await),
            _ => send = None,
        }
    }
    println!("chat: {turns}");
    Ok(())
}

async fn statuses(channel: &Channel) {
    for status in 1..=16 {
        let asked = echo(&[("x-status", &status.to_string())]);
        call(channel, "Unary", request([b"x".to_vec()], asked), 30).await.show(&format!("status {status}"));
    }
    let asked = metadata(&[("x-count", "3"), ("x-status", "14")]);
    let ended = call(channel, "ServerStream", request([vec![]], asked), 30).await;
    ended.show(&format!("after {} messages", ended.messages.len()));
    let missing = one(channel, "Missing", "x").await.err();
    println!("missing: {}", missing.map_or(0, |status| status.code().into()));
}

async fn deadlines(channel: &Channel) -> Result<(), Status> {
    let ended = call(channel, "Deadline", request([vec![]], MetadataMap::new()), 30).await;
    let left: u64 = text(&ended.messages.concat()).parse().unwrap_or(0);
    // The wire's units are coarse, and libraries round up.
    println!("deadline: {}", if left > 0 && left <= 31_000 { "True" } else { "False" });
    let mut answers = open(channel, "Deadline", request([vec![]], MetadataMap::new())).await?.into_inner();
    println!("no deadline: {}", text(&answers.message().await?.unwrap_or_default()));
    let ended = call(channel, "Slow", request([vec![]], MetadataMap::new()), 1).await;
    println!("slow: {}", i32::from(ended.code()));
    let mut answers = open(channel, "Slow", request([vec![]], MetadataMap::new())).await?.into_inner();
    println!("cancel: {}", text(&answers.message().await?.unwrap_or_default()));
    // To drop a call is to cancel it, and nobody is told a code.
    drop(answers);
    println!("cancel: {}", i32::from(Code::Cancelled));
    // The server learns of both; this waits for nothing else.
    for _ in 0..3000 {
        if one(channel, "GivenUp", "").await? == b"2" {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    println!("given up: {}", text(&one(channel, "GivenUp", "").await?));
    Ok(())
}

async fn load(channel: &Channel, count: usize) {
    let next = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..8 {
        let (channel, next) = (channel.clone(), Arc::clone(&next));
        workers.spawn(async move {
            let mut codes = Vec::new();
            while next.fetch_add(1, Ordering::SeqCst) < count {
                let result = one(&channel, "Unary", "x").await;
                codes.push(i32::from(result.err().map_or(Code::Ok, |status| status.code())));
            }
            codes
        });
    }
    let mut counts = BTreeMap::<i32, usize>::new();
    workers.join_all().await.concat().into_iter().for_each(|code| *counts.entry(code).or_default() += 1);
    println!("{counts:?}");
}

fn metadata(pairs: &[(&'static str, &str)]) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    for (name, value) in pairs {
        metadata.append(*name, value.parse().expect("it is ASCII"));
    }
    metadata
}

/// These, and some that come back.
fn echo(pairs: &[(&'static str, &str)]) -> MetadataMap {
    let echoed = [("x-echo-ascii", "a b, c"), ("x-echo-twice", "1"), ("x-echo-twice", "2")];
    let mut metadata = metadata(&[pairs, &echoed].concat());
    metadata.append_bin("x-echo-bin", MetadataValue::from_bytes(&[0, 255, 10]));
    metadata
}

fn shown(metadata: &MetadataMap) -> String {
    let mut values = BTreeMap::<&str, Vec<String>>::new();
    for pair in metadata.iter() {
        let (name, value) = match pair {
            KeyAndValueRef::Ascii(name, value) => (name.as_str(), value.to_str().unwrap_or("?").to_owned()),
            KeyAndValueRef::Binary(name, value) => {
                (name.as_str(), hex(&value.to_bytes().unwrap_or_default()))
            }
        };
        if name.starts_with("x-") {
            values.entry(name).or_default().push(value);
        }
    }
    let pairs: Vec<_> = values.iter().map(|(name, all)| format!("{name}={}", all.join(", "))).collect();
    pairs.join(", ")
}

fn digest(bytes: &[u8]) -> String {
    format!("{} bytes, {}", bytes.len(), &hex(&Sha256::digest(bytes))[..12])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(message: &[u8]) -> String {
    String::from_utf8_lossy(message).into_owned()
}
