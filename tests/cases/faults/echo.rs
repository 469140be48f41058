//! Bodies that go to a server and come back.

use dragoman_harness::faulty::{OPAQUE, Speaks};
use dragoman_harness::http2::{End, Event, Http2Origin, Wire};
use dragoman_harness::origin::response;
use dragoman_harness::{Net, Origin, Peer};

use crate::protocol::{Protocol, Sight};

/// Servers of all protocols, which answer with what they get.
pub(crate) struct Servers {
    _plain: Vec<Origin>,
    _http2: Vec<Http2Origin>,
}

impl Servers {
    /// `length` is that of each opaque body, in bytes.
    pub(crate) fn start(net: &Net, length: usize) -> Servers {
        let http1 = |protocol: Protocol| {
            Origin::tcp(&net.servers, protocol.address(), |mut peer| {
                while let Some(request) = peer.request()? {
                    let body = letters(&request.body);
                    peer.send(response(200, &String::from_utf8_lossy(&body)))?;
                }
                Ok(())
            })
        };
        let opaque = Origin::tcp(&net.servers, Protocol::Opaque.address(), move |mut peer| {
            let bytes = peer.read_exact(length)?;
            peer.send(bytes)
        });
        let http2 = |protocol: Protocol| {
            Http2Origin::start(&net.servers, protocol.address(), |wire, request, _| {
                wire.respond(request.stream, "200", &request.body)
            })
        };
        Servers {
            _plain: vec![http1(Protocol::Http1), http1(Protocol::ToHttp1), opaque],
            _http2: vec![http2(Protocol::Http2), http2(Protocol::ToHttp2)],
        }
    }
}

/// A server whose answer is larger than what lies between it and the app.
pub(crate) fn flood(net: &Net, protocol: Protocol) -> Origin {
    const PIECE: [u8; 16 * 1024] = [b'-'; 16 * 1024];
    const PIECES: usize = 4096;
    Origin::tcp(&net.servers, protocol.address(), move |mut peer| {
        match protocol.server_speaks() {
            Speaks::Http1 => {
                peer.request()?;
                let length = PIECES * PIECE.len();
                peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"))?;
            }
            Speaks::Opaque => drop(peer.read_exact(OPAQUE.len())?),
            Speaks::Http2 => {
                let mut wire = Wire::server(peer, &[])?;
                let stream = wire.take(|event| match event {
                    Event::Fields { stream, .. } => Some(*stream),
                    _ => None,
                })?;
                wire.fields(stream, &[(":status", "200")], false)?;
                return (0..PIECES).try_for_each(|_| wire.data(stream, &PIECE, false));
            }
        }
        (0..PIECES).try_for_each(|_| peer.send(PIECE))
    })
}

/// A body on its way.
pub(crate) struct Journey {
    protocol: Protocol,
    connection: Connection,
    body: Vec<u8>,
}

enum Connection {
    Plain(Peer),
    Http2(Box<Wire>),
}

impl Journey {
    /// Sends a body of so many bytes.
    pub(crate) fn begin(net: &Net, protocol: Protocol, length: usize) -> Journey {
        // Letters that are no digits of a chunk's size.
        let mut body: Vec<u8> = (0..length).map(|n| b'g' + u8::try_from(n % 17).expect("below 17")).collect();
        let mut peer = net.app.connect(protocol.address());
        let connection = match protocol {
            Protocol::Opaque => {
                // What no protocol begins with.
                body[..2].copy_from_slice(b"\x01\x02");
                peer.send(&body).expect("an app sends");
                Connection::Plain(peer)
            }
            Protocol::Http1 | Protocol::ToHttp2 => {
                peer.send(format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {length}\r\n\r\n"))
                    .and_then(|()| peer.send(&body))
                    .expect("an app sends");
                Connection::Plain(peer)
            }
            Protocol::Http2 | Protocol::ToHttp1 => {
                let mut wire = Wire::client(peer, &[]).expect("an app says its preface");
                wire.post(1, "/", &body).expect("an app sends");
                Connection::Http2(Box::new(wire))
            }
        };
        Journey { protocol, connection, body }
    }

    /// Takes it back, whole.
    pub(crate) fn end(self) -> Sight {
        let Journey { protocol, connection, body } = self;
        let (status, got) = match connection {
            Connection::Plain(mut peer) if protocol == Protocol::Opaque => {
                (0, peer.read_exact(body.len()).expect("an app gets its answer"))
            }
            Connection::Plain(mut peer) => {
                let answer = peer.response("POST").expect("an app gets its answer");
                (answer.status(), letters(&answer.body))
            }
            Connection::Http2(mut wire) => {
                let answer = wire.response(1).expect("an app gets its answer");
                assert_eq!(answer.end, End::Whole);
                (answer.status(), answer.body)
            }
        };
        assert!(got == body, "{}: {} other bytes", protocol.name(), got.len());
        let words = if status == 0 { "all of it".to_owned() } else { format!("{status}, all of it") };
        Sight { words, status, cause: None }
    }
}

/// A body without the sizes of its chunks.
fn letters(body: &[u8]) -> Vec<u8> {
    body.iter().copied().filter(|byte| (b'g'..=b'z').contains(byte)).collect()
}
