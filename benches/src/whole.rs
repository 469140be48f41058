//! The proxy as a whole, with an app and a server of a few lines, all on one thread: what one does follows what another
//! did, so that the count is the same each time. The kernel's share is not in it.

use std::future::Future;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;

use bytes::Bytes;
use dragoman_proxy::{Listeners, Material, Proxy};
use dragoman_telemetry::{AccessLog, Telemetry};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

use crate::Round;
use crate::data::{REQUEST, RESPONSE};
use crate::pure::config;

static BODY: [u8; 1024] = [b'x'; 1024];

/// A request on a connection that stays, to a server whose connection stays.
pub(crate) fn exchange_http1() -> Round {
    let (runtime, proxy) = start(serve_http1);
    let mut app = runtime.block_on(async { TcpStream::connect(proxy).await.expect("the proxy listens") });
    Box::new(move || runtime.block_on(exchange(&mut app)))
}

/// A request on a connection of its own, to a server whose connection stays.
pub(crate) fn flow_http1() -> Round {
    let (runtime, proxy) = start(serve_http1);
    Box::new(move || {
        runtime.block_on(async {
            let mut app = TcpStream::connect(proxy).await.expect("the proxy listens");
            exchange(&mut app).await;
            app.shutdown().await.expect("it is connected");
            assert_eq!(app.read(&mut [0; 1]).await.expect("an orderly end"), 0);
        });
    })
}

/// A stream on an HTTP/2 connection that stays, to a server whose connection stays.
pub(crate) fn exchange_http2() -> Round {
    let (runtime, proxy) = start(serve_http2);
    let mut app = runtime.block_on(async {
        let stream = TcpStream::connect(proxy).await.expect("the proxy listens");
        let (app, connection) = h2::client::handshake(stream).await.expect("the proxy speaks HTTP/2");
        tokio::spawn(connection);
        app
    });
    Box::new(move || {
        runtime.block_on(async {
            app = app.clone().ready().await.expect("the connection stays");
            let request = http::Request::get("http://payments.internal.example/v1/charges/ch_3Nq?limit=20")
                .header("accept", "application/json")
                .header("authorization", "Bearer 0123456789abcdef0123456789abcdef");
            let request = request.body(()).expect("a request");
            let (answer, _) = app.send_request(request, true).expect("room for a stream");
            let mut body = answer.await.expect("an answer").into_body();
            while let Some(data) = body.data().await {
                let length = data.expect("a whole answer").len();
                body.flow_control().release_capacity(length).expect("it was used");
            }
        });
    })
}

async fn exchange(app: &mut TcpStream) {
    app.write_all(REQUEST).await.expect("the proxy reads");
    app.read_exact(&mut [0; RESPONSE.len() + BODY.len()]).await.expect("an answer");
}

/// A proxy with the policy of the benchmarks, before a server. Returns where its plain port is.
fn start<S: Future<Output = ()> + Send + 'static>(serve: fn(TcpListener) -> S) -> (Runtime, SocketAddr) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let proxy = runtime.block_on(async {
        let server = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let upstream = server.local_addr().expect("it listens");
        tokio::spawn(serve(server));
        let port = StdListener::bind("127.0.0.1:0").expect("a port is free");
        port.set_nonblocking(true).expect("a socket of our own");
        let address = port.local_addr().expect("it listens");
        let policy = include_str!("../../deploy/policies/normal.toml");
        let config = config(&format!(
            "{policy}\n[destination.server]\nendpoints = [\"{upstream}\"]\n\
             [listener.server]\naddress = \"{address}\"\ndestination = \"server\"\n"
        ));
        let telemetry = Telemetry::new(config.names().to_vec(), AccessLog::off());
        telemetry.record(config.recorder.memory, 1);
        let mut listeners = Listeners::default();
        listeners.add_plain(address, port);
        let material = Material::load(&config).expect("no file is named");
        tokio::spawn(Proxy::new(Arc::new(config), telemetry, listeners, material).run());
        address
    });
    (runtime, proxy)
}

/// Answers whatever comes in one piece.
async fn serve_http1(server: TcpListener) {
    let answer = [RESPONSE, &BODY].concat();
    while let Ok((mut stream, _)) = server.accept().await {
        let answer = answer.clone();
        tokio::spawn(async move {
            let mut request = [0; 4096];
            while stream.read(&mut request).await.is_ok_and(|length| length > 0) {
                if stream.write_all(&answer).await.is_err() {
                    return;
                }
            }
        });
    }
}

async fn serve_http2(server: TcpListener) {
    while let Ok((stream, _)) = server.accept().await {
        tokio::spawn(async move {
            let mut connection = h2::server::handshake(stream).await.expect("the proxy speaks HTTP/2");
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let head = http::Response::builder().header("content-type", "application/json");
                let mut body =
                    respond.send_response(head.body(()).expect("a head"), false).expect("a stream");
                body.send_data(Bytes::from_static(&BODY), true).expect("a stream");
            }
        });
    }
}
