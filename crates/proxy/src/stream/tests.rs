use super::*;

use std::future::ready;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::yield_now;

use dragoman_tls::failure::FailureKind;

use crate::buffer::{Buffer, write_parts};
use crate::flow::http2::io::Io;
use crate::flow::http2::wire::drive;
use crate::leg::Leg;
use crate::testing::{TLS_VERSIONS, Tls, pair};

fn numbered(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 31 % 251) as u8).collect()
}

/// A connection that takes little at once.
async fn narrow() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    SockRef::from(&listener).set_recv_buffer_size(4096).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    SockRef::from(&client).set_send_buffer_size(4096).unwrap();
    (client, listener.accept().await.unwrap().0)
}

#[tokio::test]
async fn bytes_go_both_ways_at_once() {
    for version in TLS_VERSIONS {
        let (mut client, mut server) = Tls::new(version).on(narrow().await).await;
        let sent = numbered(1_000_000);
        let (mut up, mut down) = (Vec::new(), Vec::new());
        let (mut client_read, mut client_write) = client.split();
        let (mut server_read, mut server_write) = server.split();
        tokio::join!(
            async {
                client_write.write_all(&sent).await.unwrap();
                client_write.shutdown().await.unwrap();
            },
            async {
                server_write.write_all(&sent).await.unwrap();
                server_write.shutdown().await.unwrap();
            },
            read_to_end(&mut client_read, &mut down),
            read_to_end(&mut server_read, &mut up),
        );
        assert!(up == sent && down == sent);
    }
}

async fn read_to_end(from: &mut ReadHalf<'_>, all: &mut Vec<u8>) {
    let mut buffer = Buffer::default();
    while buffer.fill(from).await.unwrap() > 0 {
        all.extend_from_slice(buffer.bytes());
        buffer.consume(buffer.len());
    }
}

#[tokio::test]
async fn a_write_that_is_cancelled_wherever_it_waits_loses_and_doubles_nothing() {
    for version in TLS_VERSIONS {
        let (mut client, mut server) = Tls::new(version).on(narrow().await).await;
        let sent = numbered(600_000);
        let read = tokio::spawn(async move {
            let mut all = Vec::new();
            server.read_to_end(&mut all).await.unwrap();
            all
        });
        let (mut at, mut cancelled, mut turn) = (0, 0, 0);
        while at < sent.len() {
            turn += 1;
            // What is offered again may have grown meanwhile, or be less.
            let most = [100_000, 3000, 1, 20_000, 70_000][turn % 5];
            let offered = &sent[at..sent.len().min(at + most)];
            let (head, body) = offered.split_at(offered.len().min(7));
            let mut half = client.split().1;
            tokio::select! {
                biased;
                written = write_parts(&mut half, [head, body]) => at += written.unwrap(),
                () = ready(()) => cancelled += 1,
            }
            yield_now().await;
        }
        assert!(cancelled > 10, "only {cancelled} waits");
        client.shutdown().await.unwrap();
        assert!(read.await.unwrap() == sent);
    }
}

#[tokio::test]
async fn an_end_of_tcp_alone_is_no_end() {
    for version in TLS_VERSIONS {
        let tls = Tls::new(version);
        for orderly in [true, false] {
            let (mut client, mut server) = tls.pair().await;
            server.write_all(b"content").await.unwrap();
            if orderly {
                drop(server);
            } else {
                SockRef::from(server.tcp()).shutdown(std::net::Shutdown::Write).unwrap();
            }
            let mut all = Vec::new();
            let end = client.read_to_end(&mut all).await;
            assert_eq!(all, b"content");
            match orderly {
                true => assert!(end.is_ok()),
                false => assert_eq!(end.unwrap_err().kind(), io::ErrorKind::UnexpectedEof),
            }
        }
    }
}

#[tokio::test]
async fn a_half_close_stays_one() {
    for version in TLS_VERSIONS {
        let (mut client, mut server) = Tls::new(version).pair().await;
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut all = Vec::new();
        server.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"question");
        server.write_all(&[7; 100_000]).await.unwrap();
        drop(server);
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, [7; 100_000]);
        assert_eq!(client.write(b"more").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}

#[tokio::test]
async fn a_connection_that_has_only_tickets_to_read_is_open() {
    for version in TLS_VERSIONS {
        let tls = Tls::new(version);
        let (client, mut server) = tls.pair().await;
        assert!(client.is_still_open() && client.seems_open());
        server.write_all(b"x").await.unwrap();
        while client.seems_open() {
            yield_now().await;
        }
        assert!(!client.is_still_open(), "unread content");
        let (client, server) = tls.pair().await;
        if version.version == rustls::ProtocolVersion::TLSv1_3 {
            // They come behind the handshake.
            client.tcp().readable().await.unwrap();
        }
        assert!(client.seems_open() && client.is_still_open());
        drop(server);
        while client.seems_open() {
            yield_now().await;
        }
        assert!(!client.is_still_open(), "closed");
    }
}

#[tokio::test]
async fn a_connection_with_content_that_was_taken_in_and_not_read_is_not_open() {
    for version in TLS_VERSIONS {
        {
            let (mut client, mut server) = Tls::new(version).pair().await;
            server.write_all(b"answer and what nobody asked for").await.unwrap();
            let mut answer = [0; 6];
            client.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"answer");
            // What is left stands decrypted; the kernel has nothing more to read.
            let Stream::Tls(tls) = &client else { unreachable!() };
            assert!(!client.seems_open(), "unread content");
            assert!(!tls.is_still_open());
        }
    }
}

#[tokio::test]
async fn what_was_read_before_the_handshake_is_the_first_of_it() {
    let tls = Tls::new(TLS_VERSIONS[1]);
    let (client, mut server) = pair().await;
    let client = Box::new(TlsStream::new(client, tls.client()));
    let hello = async {
        let mut held = vec![0; 17];
        server.read_exact(&mut held).await.unwrap();
        let server = TlsStream::new(server, tls.server());
        server.handshake(&held).await.unwrap();
    };
    let (done, ()) = tokio::join!(client.handshake(&[]), hello);
    done.unwrap();
}

#[test]
fn tls_costs_a_plain_connection_no_memory() {
    assert_eq!(size_of::<Option<Stream>>(), size_of::<TcpStream>());
}

#[tokio::test]
async fn http2_goes_through_tls_in_large_bodies_both_ways() {
    let (client, server) = Tls::new(TLS_VERSIONS[1]).on(narrow().await).await;
    let (io, wire) = Io::new(Leg::new(client)).unwrap();
    let body = numbered(400_000);
    let answered = async {
        let mut server = h2::server::handshake(server).await.unwrap();
        let (request, mut respond) = server.accept().await.unwrap().unwrap();
        let mut incoming = request.into_body();
        let mut send = respond.send_response(http::Response::new(()), false).unwrap();
        let echo = async move {
            while let Some(data) = incoming.data().await {
                let data = data.unwrap();
                incoming.flow_control().release_capacity(data.len()).unwrap();
                send.send_data(data, false).unwrap();
            }
            send.send_data(bytes::Bytes::new(), true).unwrap();
        };
        tokio::join!(echo, async { while server.accept().await.is_some() {} });
    };
    let asked = async {
        let (mut send, connection) = h2::client::handshake(io).await.unwrap();
        let mut connection = std::pin::pin!(connection);
        let (response, mut upload) = send.send_request(http::Request::new(()), false).unwrap();
        upload.send_data(body.clone().into(), true).unwrap();
        // The connection ends with the last that stands on it.
        drop((send, upload));
        let exchange = async {
            let mut incoming = response.await.unwrap().into_body();
            let mut all = Vec::new();
            while let Some(data) = incoming.data().await {
                let data = data.unwrap();
                incoming.flow_control().release_capacity(data.len()).unwrap();
                all.extend_from_slice(&data);
            }
            all
        };
        tokio::join!(exchange, drive(&wire, || false, connection.as_mut()))
    };
    let ((all, ended), ()) = tokio::join!(asked, answered);
    ended.unwrap();
    assert!(all == body);
}

#[tokio::test]
async fn what_tls_says_of_its_end_comes_through_http2() {
    let (client, server) = Tls::new(TLS_VERSIONS[1]).pair().await;
    let (io, wire) = Io::new(Leg::new(client)).unwrap();
    let (mut send, connection) = h2::client::handshake(io).await.unwrap();
    let (response, _) = send.send_request(http::Request::new(()), true).unwrap();
    SockRef::from(server.tcp()).shutdown(std::net::Shutdown::Write).unwrap();
    let connection = std::pin::pin!(connection);
    let (response, ended) = tokio::join!(response, drive(&wire, || false, connection));
    ended.unwrap_err();
    let told = response.unwrap_err();
    assert_eq!(told.get_io().and_then(FailureKind::of), Some(FailureKind::Truncated));
}
