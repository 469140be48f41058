//! h2 as an oracle of the sniffer: it knows nothing else of HTTP/2, so the first flights decide.

use dragoman_wire::{Client, Likely, Server, client, server};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use tokio::io::{AsyncReadExt, DuplexStream, duplex, join, sink};

use crate::{runner, runtime};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const ODD: &[&[u8]] = &[b"", b" ", b"\r", b"\n", b"p", b"1", b"\0"];
const FRAME_HEADER: usize = 9;

#[test]
fn a_server_that_speaks_first_is_known_by_its_settings() {
    let runtime = runtime();
    let settings = (any::<u16>(), 16_384..=16_777_215_u32, any::<bool>(), any::<u32>());
    let checked = runner().run(&settings, |(window, frame, connect, streams)| {
        let mut builder = h2::server::Builder::new();
        builder.initial_window_size(window.into()).max_frame_size(frame).max_concurrent_streams(streams);
        if connect {
            builder.enable_connect_protocol();
        }
        let (near, far) = duplex(4096);
        let flight = runtime.block_on(async {
            tokio::join!(first_flight(far, FRAME_HEADER), builder.handshake::<_, bytes::Bytes>(near)).0
        });
        for length in 0..=flight.len() {
            let expected = if length < FRAME_HEADER { Server::Incomplete } else { Server::Http2Settings };
            prop_assert_eq!(server(&flight[..length]), expected, "{} bytes", length);
        }
        Ok(())
    });
    checked.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn a_client_is_known_by_its_preface() {
    let flight = runtime().block_on(async {
        let (near, far) = duplex(4096);
        let shaken = h2::client::handshake(near).await.expect("the client does not wait for the server");
        tokio::join!(first_flight(far, PREFACE.len()), shaken.1).0
    });
    for length in 1..=flight.len() {
        let expected = if length < PREFACE.len() { Client::Incomplete(Likely::Known) } else { Client::Http2 };
        assert_eq!(client(&flight[..length]), expected, "{length} bytes");
    }
}

#[test]
fn a_damaged_preface_is_http2_to_both_or_to_none() {
    let runtime = runtime();
    let damage = (any::<Index>(), 0..2_usize, select(ODD));
    let checked = runner().run(&damage, |(at, removed, put_in)| {
        let mut bytes = [PREFACE, b"\0\0\0\x04\0\0\0\0\0"].concat();
        let at = at.index(bytes.len());
        bytes.splice(at..(at + removed).min(bytes.len()), put_in.iter().copied());
        let shaken = runtime.block_on(h2::server::handshake(join(&bytes[..], sink())));
        prop_assert_eq!(client(&bytes) == Client::Http2, shaken.is_ok(), "{}", bytes.escape_ascii());
        Ok(())
    });
    checked.unwrap_or_else(|failure| panic!("{failure}"));
}

/// What the other side says before it is answered; then the connection is closed.
async fn first_flight(mut far: DuplexStream, at_least: usize) -> Vec<u8> {
    let mut flight = Vec::new();
    while flight.len() < at_least {
        let read = far.read_buf(&mut flight).await.expect("a pipe in memory does not fail");
        assert!(read > 0, "closed after {}", flight.escape_ascii());
    }
    flight
}
