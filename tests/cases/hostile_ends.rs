//! How connections end, in every order: FIN, reset and silence, on either side, with bytes on their way.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dragoman_harness::net::server;
use dragoman_harness::{Dragoman, Net, Origin, Peer, wait};
use nix::sys::signal::Signal;
use socket2::SockRef;

/// What no protocol begins with.
const OPAQUE: &[u8] = b"\x01\x02\x03\x04";

fn connect(net: &Net) -> Peer {
    let mut peer = net.app.connect(server(9000));
    peer.send(OPAQUE).unwrap();
    peer
}

fn raw(peer: &Peer) -> TcpStream {
    peer.stream().try_clone().unwrap()
}

/// Writes until the other side takes no more; whether a reset ended that.
fn fill(mut stream: &TcpStream) -> bool {
    stream.set_write_timeout(Some(Duration::from_millis(150))).unwrap();
    loop {
        if let Err(error) = stream.write_all(&[b'x'; 65536]) {
            return error.kind() != ErrorKind::WouldBlock;
        }
    }
}

/// Reads to the end: how many bytes, and whether that was a reset.
fn drain(mut stream: &TcpStream) -> (usize, bool) {
    let mut buffer = vec![0; 1 << 20];
    let mut total = 0;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return (total, false),
            Ok(count) => total += count,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return (total, true),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("after {total} bytes: {error}"),
        }
    }
}

type Ends = Arc<Mutex<Vec<(usize, bool)>>>;

/// A server that fills the app's window, waits for `go`, and then records how the app's side ended.
fn filler(net: &Net, ends: &Ends) -> Origin {
    let ends = Arc::clone(ends);
    Origin::tcp(&net.servers, server(9000), move |mut peer: Peer| -> io::Result<()> {
        peer.read_exact(OPAQUE.len())?;
        let stream = raw(&peer);
        let reset = fill(&stream);
        let (bytes, end) = drain(&stream);
        ends.lock().unwrap().push((bytes, reset || end));
        Ok(())
    })
}

/// An upload that a reset ended must not look whole to the server, also where the app was not reading.
#[test]
fn s4_an_upload_that_was_reset_never_ends_as_if_it_were_whole() {
    const ROUNDS: usize = 6;
    let net = Net::new();
    let ends = Ends::default();
    let _origin = filler(&net, &ends);
    let _dragoman = Dragoman::start(&net, "");
    for _ in 0..ROUNDS {
        let mut client = connect(&net);
        client.send(b"half an order").unwrap();
        // The server's flood stands in front of the app: dragoman waits to write to it when the reset comes.
        wait::pause(Duration::from_millis(600));
        client.reset().unwrap();
    }
    wait::until("the server saw every end", wait::SOON, || ends.lock().unwrap().len() == ROUNDS);
    let ends = ends.lock().unwrap();
    assert!(ends.iter().all(|(_, reset)| *reset), "(bytes, reset): {ends:?}");
}

/// The other way round: a download that a reset ended, while the app's upload is stuck.
#[test]
fn s4_a_download_that_was_reset_never_ends_as_if_it_were_whole() {
    const ROUNDS: usize = 6;
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(9000), |mut peer: Peer| {
        peer.read_exact(OPAQUE.len())?;
        peer.send(b"half an answer")?;
        wait::pause(Duration::from_millis(800));
        peer.reset()
    });
    let _dragoman = Dragoman::start(&net, "");
    let mut ends = Vec::new();
    for _ in 0..ROUNDS {
        let client = connect(&net);
        // The kernel tells of a reset once.
        let reset = fill(client.stream());
        let (bytes, end) = drain(client.stream());
        ends.push((bytes, reset || end));
    }
    assert!(ends.iter().all(|(_, reset)| *reset), "(bytes, reset): {ends:?}");
}

/// A reset is passed on although its side had ended sending before.
#[test]
fn s5_a_reset_after_a_half_close_ends_the_flow() {
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(9000), |mut peer: Peer| {
        peer.read_to_end()?;
        // Thinks for long, and has nothing to say.
        peer.stream().set_read_timeout(Some(Duration::from_secs(60)))?;
        wait::pause(Duration::from_secs(60));
        Ok(())
    });
    let dragoman = Dragoman::start(&net, "");
    let client = connect(&net);
    client.finish_sending().unwrap();
    wait::pause(Duration::from_millis(200));
    client.reset().unwrap();
    let none_open = || dragoman.metrics().sum("dragoman_flows_open", &[]) == 0;
    wait::until("the flow of an app that is gone ends", wait::SOON, none_open);
}

/// A relayed reset does not wait for acknowledgements of an app that is gone itself.
#[test]
fn s5_a_reset_to_an_app_that_is_gone_ends_the_flow() {
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(9000), |mut peer: Peer| {
        peer.read_exact(OPAQUE.len())?;
        // More than the app's window takes, and no more than waits in the proxy's send buffer.
        peer.send(vec![b'x'; 150_000])?;
        peer.reset_when_acknowledged()
    });
    let dragoman = Dragoman::start(&net, "");
    let client = connect(&net);
    wait::pause(Duration::from_secs(1));
    // Closed with unread bytes: a reset.
    drop(client);
    let none_open = || dragoman.metrics().sum("dragoman_flows_open", &[]) == 0;
    wait::until("the flow ends", wait::SOON, none_open);
}

/// What the drain deadline cuts is reset, also while a relayed reset waits for its bytes to be read.
#[test]
fn a_reset_that_the_drain_deadline_cuts_short_is_still_a_reset() {
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(9000), |mut peer: Peer| {
        peer.read_exact(OPAQUE.len())?;
        fill(peer.stream());
        peer.reset()
    });
    let mut dragoman = Dragoman::start(&net, "[proxy]\ndrain = '200ms'\n");
    let client = connect(&net);
    wait::pause(Duration::from_secs(1));
    dragoman.signal(Signal::SIGTERM);
    dragoman.wait(wait::SOON);
    let (bytes, reset) = drain(client.stream());
    assert!(reset, "after {bytes} bytes a torn stream ended as if it were whole");
}

/// Each side ends, resets or says more, in every order: the flow ends, is counted once, and nothing is left open.
#[test]
fn every_order_of_ends_leaves_nothing() {
    const ACTS: [&str; 4] = ["fin", "reset", "close", "say"];
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(9000), |mut peer: Peer| {
        let script = peer.read_until(b"\n")?;
        let script = String::from_utf8_lossy(&script[OPAQUE.len()..]).into_owned();
        act(peer, script.trim_end(), "s")
    });
    let dragoman = Dragoman::start(&net, "");
    dragoman.settle();
    let before = dragoman.descriptors();
    let mut flows = 0;
    for app in ACTS {
        for origin in ACTS {
            for pattern in ["as", "sa"] {
                let script = format!("{}:{app},{}:{origin}", &pattern[..1], &pattern[1..]);
                let script = if pattern == "sa" { format!("s:{origin},a:{app}") } else { script };
                let mut client = connect(&net);
                client.send(format!("{script}\n")).unwrap();
                let _ = act(client, &script, "a");
                flows += 1;
            }
        }
    }
    let metrics = dragoman.settle();
    assert_eq!(metrics.sum("dragoman_flows_total", &[]), flows);
    assert_eq!(metrics.sum("dragoman_flows_total", &[("cause", "internal")]), 0);
    wait::until("every descriptor is closed", wait::SOON, || dragoman.descriptors() <= before);
}

/// Does what a script of `side:act` says for one side: a step of the other side is waited for a moment.
fn act(mut peer: Peer, script: &str, side: &str) -> io::Result<()> {
    for step in script.split(',') {
        let (who, what) = step.split_once(':').unwrap_or_default();
        if who != side {
            wait::pause(Duration::from_millis(20));
            continue;
        }
        match what {
            "fin" => peer.finish_sending()?,
            "reset" => return peer.reset(),
            "close" => return Ok(()),
            _ => peer.send(vec![b'y'; 100_000])?,
        }
    }
    peer.finish_sending()?;
    peer.read_to_reset().map(drop)
}

/// The same for HTTP: the app goes away in each phase of an exchange, and the server too.
#[test]
fn an_exchange_that_ends_in_any_phase_leaves_nothing() {
    let net = Net::new();
    let origin = Origin::tcp(&net.servers, server(80), |mut peer: Peer| -> io::Result<()> {
        let head = String::from_utf8_lossy(&peer.read_until(b"\r\n\r\n")?).into_owned();
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        match path.as_str() {
            "/silent" => {}
            "/interim" => peer.send("HTTP/1.1 103 Early Hints\r\n\r\n")?,
            "/torn-head" => peer.send("HTTP/1.1 200 OK\r\nConte")?,
            "/torn-body" => peer.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")?,
            "/torn-chunk" => peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab")?,
            _ => peer.send("HTTP/1.1 200 OK\r\n\r\nuntil close")?,
        }
        wait::pause(Duration::from_millis(30));
        if head.contains("x-end: reset") { peer.reset() } else { Ok(()) }
    });
    let dragoman = Dragoman::start(
        &net,
        "[defaults]\nretry = { attempts = 2, base = '1ms', budget = { ratio = 10.0 } }\npool = {}\n",
    );
    dragoman.settle();
    let before = dragoman.descriptors();
    let mut exchanges = 0;
    for path in ["/silent", "/interim", "/torn-head", "/torn-body", "/torn-chunk", "/close"] {
        for end in ["reset", "fin"] {
            for app in ["wait", "fin", "reset", "close", "upload"] {
                let mut client = net.app.connect(server(80));
                let length = if app == "upload" { 100 } else { 0 };
                client
                    .send(format!(
                        "PUT {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nx-end: {end}\r\nContent-Length: {length}\r\n\r\n"
                    ))
                    .unwrap();
                exchanges += 1;
                match app {
                    "wait" | "upload" => {
                        let (bytes, reset) = client.read_to_reset_or_close();
                        if path == "/close" && end == "fin" && app == "wait" {
                            assert!(bytes.ends_with(b"until close") && !reset);
                        }
                        if path == "/close" && end == "reset" {
                            assert!(reset, "a response until close that was reset looks whole");
                        }
                    }
                    "fin" => {
                        client.finish_sending().unwrap();
                        client.read_to_reset_or_close();
                    }
                    "reset" => client.reset().unwrap(),
                    _ => SockRef::from(client.stream()).shutdown(Shutdown::Both).unwrap(),
                }
            }
        }
    }
    let metrics = dragoman.settle();
    assert_eq!(metrics.sum("dragoman_flows_total", &[]), exchanges);
    assert_eq!(metrics.sum("dragoman_exchanges_total", &[]), exchanges);
    assert_eq!(metrics.sum("dragoman_flows_total", &[("cause", "internal")]), 0);
    let puts: usize = origin.seen().iter().map(|seen| seen.text().matches("PUT ").count()).sum();
    assert!(puts as u64 <= exchanges, "a PUT was repeated without a proof");
    wait::until("every descriptor is closed", wait::SOON, || dragoman.descriptors() <= before);
}

trait ToTheEnd {
    fn read_to_reset_or_close(&mut self) -> (Vec<u8>, bool);
}

impl ToTheEnd for Peer {
    fn read_to_reset_or_close(&mut self) -> (Vec<u8>, bool) {
        self.read_to_reset().expect("the connection ends")
    }
}
