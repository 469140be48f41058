//! What is spoken between the app and the server of a case, and what the app sees in the end.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use dragoman_harness::faulty::{BODY, OPAQUE, Speaks};
use dragoman_harness::http2::frame::PREFACE;
use dragoman_harness::http2::{Event, Frame, Wire, code, value};
use dragoman_harness::net::server;
use dragoman_harness::{Net, Peer};

/// What is spoken on both sides of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
    /// The app speaks HTTP/1 and the server HTTP/2.
    ToHttp2,
    /// The app speaks HTTP/2 and the server HTTP/1.
    ToHttp1,
    Opaque,
}

pub(crate) const ALL: [Protocol; 5] =
    [Protocol::Http1, Protocol::Http2, Protocol::ToHttp2, Protocol::ToHttp1, Protocol::Opaque];

pub(crate) const HTTP: [Protocol; 4] =
    [Protocol::Http1, Protocol::Http2, Protocol::ToHttp2, Protocol::ToHttp1];

/// A destination for each, so that metrics and log tell them apart. HTTP is declared: where a server cannot be reached, an app that
/// says nothing at first is waited for, however slow the machine is.
pub(crate) const DESTINATIONS: &str = "
[destination.http1]
ports = [8001]
protocol = 'http'
[destination.http2]
ports = [8002]
protocol = 'http'
[destination.to_http2]
ports = [8012]
protocol = 'http'
upstream_protocol = 'http2'
[destination.to_http1]
ports = [8021]
protocol = 'http'
upstream_protocol = 'http1'
[destination.opaque]
ports = [9000]
";

impl Protocol {
    /// The name in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Protocol::Http1 => "http1",
            Protocol::Http2 => "http2",
            Protocol::ToHttp2 => "http1 to http2",
            Protocol::ToHttp1 => "http2 to http1",
            Protocol::Opaque => "opaque",
        }
    }

    /// The name of its destination in [`DESTINATIONS`].
    pub(crate) fn destination(self) -> &'static str {
        match self {
            Protocol::Http1 => "http1",
            Protocol::Http2 => "http2",
            Protocol::ToHttp2 => "to_http2",
            Protocol::ToHttp1 => "to_http1",
            Protocol::Opaque => "opaque",
        }
    }

    pub(crate) fn address(self) -> SocketAddr {
        server(match self {
            Protocol::Http1 => 8001,
            Protocol::Http2 => 8002,
            Protocol::ToHttp2 => 8012,
            Protocol::ToHttp1 => 8021,
            Protocol::Opaque => 9000,
        })
    }

    pub(crate) fn server_speaks(self) -> Speaks {
        match self {
            Protocol::Http1 | Protocol::ToHttp1 => Speaks::Http1,
            Protocol::Http2 | Protocol::ToHttp2 => Speaks::Http2,
            Protocol::Opaque => Speaks::Opaque,
        }
    }
}

/// The app's end of one connection.
pub(crate) struct App {
    protocol: Protocol,
    connection: Connection,
    /// Bytes of the body that were taken already.
    taken: usize,
    /// A write met the connection's reset, of which the kernel tells once.
    is_reset: bool,
}

enum Connection {
    Plain(Peer),
    Http2(Box<Wire>),
}

/// What the app saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sight {
    /// In the words of the table.
    pub(crate) words: String,
    /// The status of the response; 0 where there was none.
    pub(crate) status: u16,
    /// The cause that an answer of dragoman's own named.
    pub(crate) cause: Option<String>,
}

impl Sight {
    /// The connection was reset before anything came.
    pub(crate) fn reset() -> Sight {
        Sight { words: "reset".into(), status: 0, cause: None }
    }

    /// The same where a write has met the reset already: to who reads behind that, it looks like a close.
    pub(crate) fn after_reset(self) -> Sight {
        match self.words.strip_suffix("close") {
            Some(before) => Sight { words: format!("{before}reset"), ..self },
            None => self,
        }
    }
}

impl App {
    pub(crate) fn connect(net: &Net, protocol: Protocol) -> App {
        App::over(net.app.connect(protocol.address()), protocol)
    }

    /// The app of a connection that a case has made itself.
    pub(crate) fn over(peer: Peer, protocol: Protocol) -> App {
        let mut app = App::begun(peer, protocol);
        if let Connection::Http2(wire) = &mut app.connection {
            let said = wire.raw(&[PREFACE, &Frame::settings(&[]).bytes()].concat());
            app.note(said);
        }
        app
    }

    /// The app of a connection on which a case has said all itself, but for waiting for the end.
    pub(crate) fn begun(peer: Peer, protocol: Protocol) -> App {
        let connection = match protocol {
            Protocol::Http2 | Protocol::ToHttp1 => Connection::Http2(Box::new(Wire::begun(peer))),
            _ => Connection::Plain(peer),
        };
        App { protocol, connection, taken: 0, is_reset: false }
    }

    /// The same of HTTP/2.
    pub(crate) fn of_wire(wire: Wire, protocol: Protocol) -> App {
        App { protocol, connection: Connection::Http2(Box::new(wire)), taken: 0, is_reset: false }
    }

    /// The TCP connection.
    pub(crate) fn peer(&self) -> &Peer {
        match &self.connection {
            Connection::Plain(peer) => peer,
            Connection::Http2(wire) => wire.peer(),
        }
    }

    /// Sends the request.
    pub(crate) fn ask(&mut self) {
        let asked = match &mut self.connection {
            Connection::Http2(wire) => wire.get(1, "/"),
            Connection::Plain(peer) if self.protocol == Protocol::Opaque => peer.send(OPAQUE),
            Connection::Plain(peer) => peer.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        };
        self.note(asked);
    }

    /// What became of a write. The reset of what the proxy does not serve may be here already; it is seen in the end.
    fn note(&mut self, written: io::Result<()>) {
        match written {
            Err(e) if is_gone(&e) => self.is_reset = true,
            written => written.expect("an app says something"),
        }
    }

    /// Says something more; nobody needs to understand it.
    pub(crate) fn speak(&mut self) {
        let said = match &mut self.connection {
            Connection::Http2(wire) => wire.send(&Frame::ping([0; 8])),
            Connection::Plain(peer) => peer.send("more"),
        };
        self.note(said);
    }

    /// Reads to the end of an HTTP/1 response that was cut off, wherever that was.
    pub(crate) fn sight_of_a_part(self) -> Sight {
        let Connection::Plain(mut peer) = self.connection else { panic!("an app of HTTP/1") };
        let (received, reset) = peer.read_to_reset().expect("an end");
        assert!(received.starts_with(b"HTTP/1.1 200 "));
        let words = format!("200, a part of it, {}", if reset { "reset" } else { "close" });
        Sight { words, status: 200, cause: None }
    }

    /// Goes away with a reset.
    pub(crate) fn reset(self) -> Sight {
        let peer = match self.connection {
            Connection::Http2(wire) => wire.into_peer(),
            Connection::Plain(peer) => peer,
        };
        peer.reset().expect("a socket can be reset");
        Sight { words: "nothing: it is gone".into(), status: 0, cause: None }
    }

    /// Waits until so many bytes of the body are here.
    pub(crate) fn take_body(&mut self, length: usize) {
        while self.body() < length {
            match &mut self.connection {
                Connection::Plain(peer) => peer.more().expect("more of the body"),
                Connection::Http2(wire) => {
                    let data = |event: &Event| match event {
                        Event::Data { bytes, .. } => Some(bytes.len()),
                        _ => None,
                    };
                    self.taken += wire.take(data).expect("more of the body");
                }
            }
        }
    }

    /// Whether nothing but what was taken has come, and no end.
    pub(crate) fn waits(&self) -> bool {
        let stream = self.peer().stream();
        stream.set_nonblocking(true).expect("a socket can be asked without waiting");
        let waits = stream.peek(&mut [0]).is_err_and(|e| e.kind() == ErrorKind::WouldBlock);
        stream.set_nonblocking(false).expect("a socket can wait");
        waits
    }

    /// Waits for the end of the response, or of the connection.
    pub(crate) fn sight(mut self) -> Sight {
        let sight = match &mut self.connection {
            Connection::Http2(wire) => http2_sight(wire, self.taken),
            Connection::Plain(peer) if self.protocol == Protocol::Opaque => opaque_sight(peer),
            Connection::Plain(peer) => http1_sight(peer),
        };
        if self.is_reset { sight.after_reset() } else { sight }
    }

    fn body(&self) -> usize {
        match &self.connection {
            Connection::Http2(_) => self.taken,
            Connection::Plain(peer) => {
                let received = peer.received().so_far();
                if self.protocol == Protocol::Opaque { received.len() } else { http1_body(&received).len() }
            }
        }
    }
}

fn opaque_sight(peer: &mut Peer) -> Sight {
    let mut ended = None;
    while ended.is_none() && peer.received().len() < BODY.len() {
        ended = peer.more().err();
    }
    let words = match (peer.received().len(), ended) {
        (_, None) => "all of it".to_owned(),
        (0, Some(end)) => ending(&end).to_owned(),
        (n, Some(end)) => format!("{}, {}", part(n), ending(&end)),
    };
    Sight { words, status: 0, cause: None }
}

fn http1_sight(peer: &mut Peer) -> Sight {
    let ended = match peer.response("GET") {
        Ok(answer) => {
            let cause = answer.header("x-dragoman-cause").map(str::to_owned);
            let whole = http1_body(&[answer.head.as_bytes(), &answer.body].concat()) == BODY.as_bytes();
            return answered(answer.status(), cause, whole);
        }
        Err(ended) => ended,
    };
    let received = peer.received().so_far();
    let text = String::from_utf8_lossy(&received);
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let words = match status {
        0 => ending(&ended).to_owned(),
        _ => format!("{status}, {}, {}", part(http1_body(&received).len()), ending(&ended)),
    };
    Sight { words, status, cause: None }
}

fn http2_sight(wire: &mut Wire, taken: usize) -> Sight {
    let (mut status, mut cause, mut length) = (0, None, taken);
    let ending = loop {
        let event = wire.take(|event| match event {
            Event::Window { .. } | Event::Settings(_) | Event::SettingsAck => None,
            event => Some(event.clone()),
        });
        let ended = match event {
            Ok(Event::Fields { fields, end, .. }) => {
                if status == 0 {
                    status = value(&fields, ":status").and_then(|status| status.parse().ok()).unwrap_or(0);
                    cause = value(&fields, "x-dragoman-cause").map(str::to_owned);
                }
                end
            }
            Ok(Event::Data { bytes, end, .. }) => {
                length += bytes.len();
                end
            }
            Ok(Event::Reset { code, .. }) => break format!("RST_STREAM {}", code_name(code)),
            Ok(Event::GoAway { code, .. }) => break format!("GOAWAY {}", code_name(code)),
            Ok(_) => false,
            Err(e) => break ending(&e).to_owned(),
        };
        if ended {
            return answered(status, cause, length == BODY.len());
        }
    };
    let words = match status {
        0 => ending,
        _ => format!("{status}, {}, {ending}", part(length)),
    };
    Sight { words, status, cause: None }
}

/// How much of the body came; of one that goes on and on, how much is chance.
fn part(length: usize) -> String {
    if length > BODY.len() { "a part of it".into() } else { format!("{length} of {} bytes", BODY.len()) }
}

/// A response that came to its end: dragoman's own, or the server's.
fn answered(status: u16, cause: Option<String>, whole: bool) -> Sight {
    let words = match &cause {
        Some(cause) => format!("{status} `{cause}`"),
        None if whole => format!("{status}, all of it"),
        None => panic!("a response of status {status} with another body looks whole"),
    };
    Sight { words, status, cause }
}

/// What there is of the script's body in an HTTP/1 response: the letters between the sizes of chunks.
fn http1_body(received: &[u8]) -> Vec<u8> {
    let head = received.windows(4).position(|window| window == b"\r\n\r\n");
    let Some(at) = head else { return Vec::new() };
    let rest = &received[at + 4..];
    let end = rest.windows(5).position(|window| window.starts_with(b"\r\n0\r\n"));
    rest[..end.unwrap_or(rest.len())].iter().copied().filter(u8::is_ascii_alphabetic).collect()
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

fn ending(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::UnexpectedEof => "close",
        ErrorKind::ConnectionReset => "reset",
        _ => panic!("the app waits in vain: {error}"),
    }
}

fn code_name(code: u32) -> String {
    match code {
        code::NO_ERROR => "NO_ERROR".into(),
        code::PROTOCOL_ERROR => "PROTOCOL_ERROR".into(),
        code::INTERNAL_ERROR => "INTERNAL_ERROR".into(),
        code::REFUSED_STREAM => "REFUSED_STREAM".into(),
        code::CANCEL => "CANCEL".into(),
        code::ENHANCE_YOUR_CALM => "ENHANCE_YOUR_CALM".into(),
        other => format!("with code {other}"),
    }
}
