//! Peers that say a little, again and again, or take nothing.

use std::io::{ErrorKind, Write};
use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use dragoman_harness::faulty::{self, Speaks};
use dragoman_harness::http2::frame::PREFACE;
use dragoman_harness::http2::{Event, Frame, Wire, flag, hpack, kind, request, setting};
use dragoman_harness::origin::response;
use dragoman_harness::{Net, Origin, Peer, wait};

use crate::case::Case;
use crate::echo::flood;
use crate::page::{self, Row};
use crate::protocol::{App, HTTP, Protocol};

const TRY: &str = "[defaults]\ntry_timeout = '2s'\n";
const WHOLE: &str = "[defaults]\ntimeout = '4s'\n";
const HEAD: &str = "[proxy]\nrequest_head_timeout = '1s'\n[defaults]\nrequest_id = true\n";
const BODY: &str = "[proxy]\nrequest_body_timeout = '2s'\n[defaults]\nrequest_id = true\n";

/// Between two bytes: short beside each deadline.
const PACE: Duration = Duration::from_millis(20);

/// An app, and what it goes on sending meanwhile.
type Slow = (App, Option<Dripper>);

/// Sends piece after piece until it is stopped, or nobody takes them.
struct Dripper {
    stopped: Arc<AtomicBool>,
    /// Whether it met a reset.
    thread: JoinHandle<bool>,
}

impl Dripper {
    fn start(peer: &Peer, pieces: impl Iterator<Item = Vec<u8>> + Send + 'static) -> Option<Dripper> {
        let mut stream = peer.stream().try_clone().expect("a socket can be duplicated");
        let stopped = Arc::<AtomicBool>::default();
        let told = Arc::clone(&stopped);
        let thread = thread::spawn(move || {
            for piece in pieces {
                if told.load(Ordering::Relaxed) {
                    break;
                }
                if let Err(e) = stream.write_all(&piece) {
                    return e.kind() == ErrorKind::ConnectionReset;
                }
                wait::pause(PACE);
            }
            false
        });
        Some(Dripper { stopped, thread })
    }

    /// Ends it; whether it met a reset.
    fn stop(self) -> bool {
        self.stopped.store(true, Ordering::Relaxed);
        self.thread.join().expect("it only sends")
    }
}

/// Byte by byte.
fn drops(bytes: Vec<u8>) -> impl Iterator<Item = Vec<u8>> {
    bytes.into_iter().map(|byte| vec![byte])
}

/// Runs an app of each protocol to its end, all at once.
fn apps(
    fault: &'static str,
    policy: &str,
    protocols: &[Protocol],
    serve: fn(&Net, Protocol) -> Origin,
    act: fn(Peer, Protocol) -> Slow,
) {
    let net = Net::new();
    let case = Case::new(&net, fault, policy);
    let origins: Vec<Origin> = protocols.iter().map(|protocol| serve(&net, *protocol)).collect();
    let rows: Vec<Row> = thread::scope(|scope| {
        let run = |protocol: &Protocol| {
            let (protocol, net, case) = (*protocol, &net, &case);
            scope.spawn(move || {
                let begun = Instant::now();
                let (app, dripper) = act(net.app.connect(protocol.address()), protocol);
                let mut sight = app.sight();
                page::print_time(fault, protocol, begun.elapsed());
                if dripper.is_some_and(Dripper::stop) {
                    sight = sight.after_reset();
                }
                case.row(protocol, sight)
            })
        };
        let ends: Vec<_> = protocols.iter().map(run).collect();
        ends.into_iter().map(|end| end.join().expect("what failed is said above")).collect()
    });
    drop(origins);
    case.finish(&rows);
}

/// A server that takes everything and says nothing.
fn taciturn(net: &Net, protocol: Protocol) -> Origin {
    Origin::tcp(&net.servers, protocol.address(), move |mut peer| {
        if protocol.server_speaks() == Speaks::Http2 {
            let mut wire = Wire::server(peer, &[])?;
            loop {
                wire.event()?;
            }
        }
        peer.read_to_end().map(drop)
    })
}

/// A server that sends what `bytes` makes, byte by byte and then its last one for ever.
fn slow(net: &Net, protocol: Protocol, http1: &'static str, http2: fn(u32) -> Vec<u8>) -> Origin {
    Origin::tcp(&net.servers, protocol.address(), move |mut peer| {
        if protocol.server_speaks() == Speaks::Http1 {
            peer.request()?;
            return drip(peer, http1.as_bytes());
        }
        let mut wire = Wire::server(peer, &[])?;
        let stream = wire.take(|event| match event {
            Event::Fields { stream, .. } => Some(*stream),
            _ => None,
        })?;
        drip(wire.into_peer(), &http2(stream))
    })
}

fn drip(mut peer: Peer, bytes: &[u8]) -> std::io::Result<()> {
    let last = *bytes.last().expect("something to say");
    for byte in bytes.iter().copied().chain(iter::repeat(last)) {
        peer.send([byte])?;
        wait::pause(PACE);
    }
    Ok(())
}

fn ask(peer: Peer, protocol: Protocol) -> Slow {
    let mut app = App::over(peer, protocol);
    app.ask();
    (app, None)
}

#[test]
fn a_server_drips_its_head() {
    let serve = |net: &Net, protocol| {
        slow(net, protocol, "HTTP/1.1 200 OK\r\nX: x", |stream| {
            // One long field, without an end.
            let block = hpack::encode(&[(":status", "200"), ("x", &"x".repeat(10_000))]);
            Frame::new(kind::HEADERS, flag::END_HEADERS, stream, block).bytes()[..100].to_vec()
        })
    };
    apps("server sends its head byte by byte", TRY, &HTTP, serve, ask);
}

#[test]
fn a_server_drips_its_body() {
    let serve = |net: &Net, protocol| {
        slow(net, protocol, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nx", |stream| {
            let head =
                Frame::new(kind::HEADERS, flag::END_HEADERS, stream, hpack::encode(&[(":status", "200")]));
            let data = Frame::new(kind::DATA, 0, stream, [b'x'; 16_384]);
            [head.bytes(), data.bytes()].concat()[..100].to_vec()
        })
    };
    apps("server sends its body byte by byte", WHOLE, &HTTP, serve, ask);
}

#[test]
fn an_app_drips_its_head() {
    let act = |peer, protocol| {
        let head = format!("GET / HTTP/1.1\r\nHost: a.test\r\nX: {}", "x".repeat(10_000));
        let dripper = Dripper::start(&peer, drops(head.into()));
        (App::begun(peer, protocol), dripper)
    };
    let protocols = [Protocol::Http1, Protocol::ToHttp2];
    apps("app sends its head byte by byte", HEAD, &protocols, taciturn, act);
}

#[test]
fn an_app_drips_its_preface() {
    let act = |peer, protocol| {
        let dripper = Dripper::start(&peer, drops(PREFACE[..20].to_vec()));
        (App::begun(peer, protocol), dripper)
    };
    let protocols = [Protocol::Http2, Protocol::ToHttp1];
    apps("app sends its preface byte by byte", HEAD, &protocols, taciturn, act);
}

#[test]
fn an_app_drips_a_field_section() {
    let act = |peer, protocol| {
        let mut wire = Wire::client(peer, &[]).unwrap();
        wire.round_trip().unwrap();
        let block = hpack::encode(&[&request("GET", "/")[..], &[("x", &"x".repeat(16_000))]].concat());
        let headers = Frame::new(kind::HEADERS, flag::END_STREAM | flag::END_HEADERS, 1, block).bytes();
        let dripper = Dripper::start(wire.peer(), drops(headers));
        (App::of_wire(wire, protocol), dripper)
    };
    let protocols = [Protocol::Http2, Protocol::ToHttp1];
    apps("app sends a field section without end", HEAD, &protocols, taciturn, act);
}

#[test]
fn an_app_drips_its_first_message() {
    let act = |peer, protocol| {
        // A TLS handshake record of 512 bytes.
        let mut record = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec();
        record.resize(517, 0);
        let dripper = Dripper::start(&peer, drops(record));
        (App::begun(peer, protocol), dripper)
    };
    apps("app's first message has no end", HEAD, &[Protocol::Opaque], taciturn, act);
}

/// An app that has said the head of a request with a body.
fn post(mut peer: Peer, protocol: Protocol) -> App {
    match protocol {
        Protocol::Http2 | Protocol::ToHttp1 => {
            let mut wire = Wire::client(peer, &[]).unwrap();
            wire.fields(1, &request("POST", "/"), false).unwrap();
            App::of_wire(wire, protocol)
        }
        _ => {
            peer.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000000\r\n\r\n").unwrap();
            App::begun(peer, protocol)
        }
    }
}

#[test]
fn an_app_drips_its_body() {
    let act = |peer, protocol| {
        let app = post(peer, protocol);
        let piece = match protocol {
            Protocol::Http2 | Protocol::ToHttp1 => Frame::new(kind::DATA, 0, 1, b"x").bytes(),
            _ => b"x".to_vec(),
        };
        let dripper = Dripper::start(app.peer(), iter::repeat(piece));
        (app, dripper)
    };
    apps("app sends its body byte by byte", WHOLE, &HTTP, taciturn, act);
}

#[test]
fn an_app_falls_silent_in_its_body() {
    apps("app falls silent in its body", BODY, &HTTP, taciturn, |peer, protocol| {
        (post(peer, protocol), None)
    });
}

/// A server that answers each request with a body as long as all others'.
fn answering(net: &Net, protocol: Protocol) -> Origin {
    Origin::tcp(&net.servers, protocol.address(), move |mut peer| {
        if protocol.server_speaks() == Speaks::Http1 {
            while peer.request()?.is_some() {
                peer.send(response(200, faulty::BODY))?;
            }
            return Ok(());
        }
        let mut wire = Wire::server(peer, &[])?;
        loop {
            if let Event::Fields { stream, .. } = wire.event()? {
                wire.respond(stream, "200", faulty::BODY.as_bytes())?;
            }
        }
    })
}

#[test]
fn an_app_never_opens_its_window() {
    let act = |peer, protocol| {
        let mut wire = Wire::client(peer, &[(setting::INITIAL_WINDOW_SIZE, 0)]).unwrap();
        wire.get(1, "/").unwrap();
        (App::of_wire(wire, protocol), None)
    };
    let protocols = [Protocol::Http2, Protocol::ToHttp1];
    apps("app never opens its window", WHOLE, &protocols, answering, act);
}

#[test]
fn an_app_does_not_read() {
    const FAULT: &str = "app does not read";
    let net = Net::new();
    let case = Case::new(&net, FAULT, WHOLE);
    let protocols = [Protocol::Http1, Protocol::ToHttp2];
    let servers = protocols.map(|protocol| flood(&net, protocol));
    let apps = protocols.map(|protocol| {
        let mut app = App::connect(&net, protocol);
        app.ask();
        (protocol, app)
    });
    let rows: Vec<Row> = apps
        .into_iter()
        .map(|(protocol, app)| {
            // It looks when it is too late.
            let destination = protocol.destination();
            case.dragoman.records_where(1, |r| r["destination"] == destination && r["cause"] == "timeout");
            case.row(protocol, app.sight_of_a_part())
        })
        .collect();
    drop(servers);
    case.finish(&rows);
}
