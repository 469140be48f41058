//! The proxy is killed in the midst of what the app says: no client takes that for all of it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

use dragoman_harness::http2::frame::PREFACE;
use dragoman_harness::http2::{Frame, Http2Origin, flag, hpack, kind, request};
use dragoman_harness::{Dragoman, Origin, Peer, wait};
use nix::sys::signal::Signal;
use rustls::version::TLS13;

use crate::{Rig, connect};

const HALF: &[u8] = b"half an answer";

/// What is asked of each app, by its port.
const HTTP1: u16 = 8080;
const HTTP2: u16 = 8081;
const OPAQUE: u16 = 7000;

fn question(port: u16) -> Vec<u8> {
    match port {
        HTTP1 => b"GET / HTTP/1.0\r\nHost: pay.test\r\n\r\n".to_vec(),
        HTTP2 => {
            let fields = hpack::encode(&request("GET", "/"));
            let head = Frame::new(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, fields);
            [PREFACE, &Frame::settings(&[]).bytes(), &head.bytes()].concat()
        }
        _ => b"\x01\x02\x03\x04".to_vec(),
    }
}

/// Apps that say half of what they have to say, and then nothing.
fn apps(rig: &Rig) -> (Origin, Http2Origin, Origin) {
    let at = |port: u16| SocketAddr::from(([0; 8], port));
    let rest = |mut peer: Peer| peer.read_to_end().map(drop);
    let http1 = Origin::tcp(&rig.net.app, at(HTTP1), move |mut peer: Peer| {
        peer.request()?;
        peer.send([b"HTTP/1.0 200 OK\r\n\r\n", HALF].concat())?;
        rest(peer)
    });
    let http2 = Http2Origin::start(&rig.net.app, at(HTTP2), |wire, request, _| {
        wire.fields(request.stream, &[(":status", "200")], false)?;
        wire.data(request.stream, HALF, false)
    });
    let opaque = Origin::tcp(&rig.net.app, at(OPAQUE), move |mut peer: Peer| {
        peer.read_exact(4)?;
        peer.send(HALF)?;
        rest(peer)
    });
    (http1, http2, opaque)
}

/// Reads until the half has come.
fn read_half(mut client: impl Read) {
    let (mut got, mut buffer) = (Vec::new(), [0; 4096]);
    while !got.windows(HALF.len()).any(|window| window == HALF) {
        let count = client.read(&mut buffer).expect("the half comes");
        assert!(count > 0, "it ended after {got:?}");
        got.extend_from_slice(&buffer[..count]);
    }
}

fn read_end(mut client: impl Read) -> io::Result<usize> {
    client.read_to_end(&mut Vec::new())
}

fn kill(mut dragoman: Dragoman<'_>) {
    dragoman.signal(Signal::SIGKILL);
    dragoman.wait(wait::SOON);
}

#[test]
fn l1_a_client_of_a_proxy_that_is_killed_sees_a_reset() {
    let rig = Rig::new();
    let _apps = apps(&rig);
    let dragoman = rig.start(&rig.inbound("mode = 'permissive'"));
    let (mut plain, mut secured) = (Vec::new(), Vec::new());
    for port in [HTTP1, HTTP2, OPAQUE] {
        let mut client = rig.net.servers.connect(Rig::app(port));
        client.send(question(port)).unwrap();
        read_half(client.stream());
        plain.push((port, client));
        let mut client = connect(&rig.net.servers, rig.client(Some(&rig.web), &TLS13), Rig::app(port));
        client.write_all(&question(port)).unwrap();
        read_half(&mut client);
        secured.push((port, client));
    }
    kill(dragoman);
    for (port, client) in plain {
        let ended = read_end(client.stream()).map_err(|error| error.kind());
        assert_eq!(ended, Err(ErrorKind::ConnectionReset), "in plain at {port}");
    }
    for (port, client) in secured {
        let ended = read_end(client.sock).map_err(|error| error.kind());
        assert_eq!(ended, Err(ErrorKind::ConnectionReset), "with TLS at {port}");
    }
}
