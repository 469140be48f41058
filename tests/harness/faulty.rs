//! A server that comes to a halt in the middle of its answer, so that a fault can strike at exactly that point. It is
//! a process of its own: one that is killed or stopped.

use std::fmt;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::str::FromStr;

use nix::sys::signal::Signal;

use crate::http2::{Event, Frame, Wire, flag, hpack, kind};
use crate::net::Namespace;
use crate::peer::Peer;
use crate::process::Process;
use crate::scratch::Scratch;
use crate::wait;

/// What the whole answer has in its body, or for an opaque server, what it says.
pub const BODY: &str = "halffull";

/// What an opaque client says first.
pub const OPAQUE: &[u8] = b"\x01\x02";

/// What a server speaks.
#[expect(missing_docs, reason = "the names say it")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    Http1,
    Http2,
    Opaque,
}

/// Where a server comes to a halt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It listens, and accepts nobody.
    Accept,
    /// It has the request, and has said nothing.
    Start,
    /// In the middle of the head.
    Head,
    /// After half of the body.
    Body,
    /// In the middle of the trailer, after the whole body.
    Trailer,
}

impl Stage {
    /// How many bytes of the body a client gets before the halt.
    pub fn body_bytes(self) -> usize {
        match self {
            Stage::Accept | Stage::Start | Stage::Head => 0,
            Stage::Body => BODY.len() / 2,
            Stage::Trailer => BODY.len(),
        }
    }
}

macro_rules! by_name {
    ($type:ident: $($name:ident)*) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self, f)
            }
        }

        impl FromStr for $type {
            type Err = String;

            fn from_str(name: &str) -> Result<Self, String> {
                match name {
                    $(stringify!($name) => Ok($type::$name),)*
                    _ => Err(format!("no such {}: {name}", stringify!($type))),
                }
            }
        }
    };
}

by_name!(Speaks: Http1 Http2 Opaque);
by_name!(Stage: Accept Start Head Body Trailer);

/// A running server, seen from a case.
pub struct FaultyServer {
    process: Process,
    control: BufReader<UnixStream>,
    // Dropped last: the process has its files there.
    _scratch: Scratch,
}

impl FaultyServer {
    /// Starts `program`, which is [`run`] in a process, and waits until it listens.
    pub fn start(
        program: &str,
        namespace: &Namespace,
        address: SocketAddr,
        speaks: Speaks,
        stage: Stage,
    ) -> FaultyServer {
        let scratch = Scratch::new("faulty");
        let path = scratch.path().join("control");
        let listener = UnixListener::bind(&path).expect("the scratch directory takes a socket");
        let mut command = namespace.command(program);
        command.arg(&path).args([address.to_string(), speaks.to_string(), stage.to_string()]);
        let process = Process::start("faulty-server", &mut command, &scratch.path().join("log"), None);
        listener.set_nonblocking(true).expect("a listener can be asked without waiting");
        let control = wait::until_some("the faulty server listens", wait::SOON, || match listener.accept() {
            Ok((control, _)) => Some(control),
            Err(e) if e.kind() == ErrorKind::WouldBlock => None,
            Err(e) => panic!("the faulty server's control: {e}"),
        });
        control.set_nonblocking(false).expect("a socket can wait");
        control.set_read_timeout(Some(wait::SOON)).expect("a timeout above zero is valid");
        FaultyServer { process, control: BufReader::new(control), _scratch: scratch }
    }

    /// Waits until it has come to its halt.
    pub fn wait_halt(&mut self) {
        let mut line = String::new();
        self.control.read_line(&mut line).unwrap_or_else(|e| panic!("no halt: {e}\n{}", self.process.log()));
        assert_eq!(line, "halted\n", "{}", self.process.log());
    }

    /// Has it reset its connection.
    pub fn reset(&mut self) {
        self.order("reset\n");
    }

    /// Has it say the rest, and keep the connection.
    pub fn go_on(&mut self) {
        self.order("go on\n");
    }

    /// Ends it as the kernel does when memory runs out.
    pub fn kill(&mut self) {
        self.process.signal(Signal::SIGKILL);
        self.process.wait(wait::SOON);
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    fn order(&mut self, order: &str) {
        self.control.get_mut().write_all(order.as_bytes()).expect("the faulty server takes orders");
    }
}

/// The server itself: serves one request, tells `control` when it halts, and does then what it is told there.
///
/// # Errors
/// Those of its sockets.
pub fn run(control: &Path, address: SocketAddr, speaks: Speaks, stage: Stage) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    let mut control = BufReader::new(UnixStream::connect(control)?);
    let mut order = String::new();
    if stage == Stage::Accept {
        halt(&mut control, &mut order)?;
    }
    let (mut peer, before, after) = request(&listener, speaks, stage)?;
    peer.send(before)?;
    if stage != Stage::Accept {
        halt(&mut control, &mut order)?;
    }
    match order.trim_end() {
        "reset" => peer.reset_when_acknowledged()?,
        "go on" => {
            peer.send(after)?;
            peer.read_to_end()?;
            drop(peer);
        }
        _ => return Ok(()),
    }
    // Ended by whoever started it.
    control.read_line(&mut order).map(drop)
}

fn halt(control: &mut BufReader<UnixStream>, order: &mut String) -> io::Result<()> {
    control.get_mut().write_all(b"halted\n")?;
    control.read_line(order).map(drop)
}

/// Takes a connection and its request; what to say before the halt, and what after it.
fn request(listener: &TcpListener, speaks: Speaks, stage: Stage) -> io::Result<(Peer, Vec<u8>, Vec<u8>)> {
    let mut peer = connection(listener)?;
    let (peer, parts) = match speaks {
        Speaks::Opaque => {
            peer.read_exact(OPAQUE.len())?;
            (peer, opaque())
        }
        Speaks::Http1 => {
            peer.request()?;
            (peer, http1())
        }
        Speaks::Http2 => {
            let mut wire = Wire::server(peer, &[])?;
            let stream = wire.take(|event| match event {
                Event::Fields { stream, .. } => Some(*stream),
                _ => None,
            })?;
            // Nothing is left to come: the kernel resets what ends with bytes that nobody has read. The PING is that by which
            // dragoman learns that a server has said its settings.
            wire.take(|event| (*event == Event::SettingsAck).then_some(()))?;
            wire.take(|event| matches!(event, Event::Ping(_)).then_some(()))?;
            (wire.into_peer(), http2(stream))
        }
    };
    let [head, half, full, trailer] = parts;
    let before = match stage {
        Stage::Accept | Stage::Start => Vec::new(),
        Stage::Head => head[..head.len() / 2].to_vec(),
        Stage::Body => [&head[..], &half].concat(),
        Stage::Trailer => [&head[..], &half, &full, &trailer[..trailer.len() / 2]].concat(),
    };
    let after = [head, half, full, trailer].concat()[before.len()..].to_vec();
    Ok((peer, before, after))
}

/// The first connection on which something is said. Where an app takes long to speak dragoman may have made another one, of
/// which it has no use.
fn connection(listener: &TcpListener) -> io::Result<Peer> {
    loop {
        let (stream, _) = listener.accept()?;
        if stream.peek(&mut [0]).is_ok_and(|bytes| bytes > 0) {
            let peer = Peer::new(stream);
            peer.stream().set_read_timeout(None)?;
            return Ok(peer);
        }
    }
}

/// An answer's head, the two halves of its body, and its trailer.
type Parts = [Vec<u8>; 4];

fn opaque() -> Parts {
    let (half, full) = BODY.split_at(BODY.len() / 2);
    [Vec::new(), half.into(), full.into(), Vec::new()]
}

fn http1() -> Parts {
    let (half, full) = BODY.split_at(BODY.len() / 2);
    let head = "HTTP/1.1 200 OK\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n";
    [
        head.into(),
        format!("{:x}\r\n{half}", BODY.len()).into(),
        format!("{full}\r\n").into(),
        "0\r\nx-sum: 12\r\n\r\n".into(),
    ]
}

fn http2(stream: u32) -> Parts {
    let (half, full) = BODY.split_at(BODY.len() / 2);
    let fields = |fields: &[(&str, &str)], flags| {
        Frame::new(kind::HEADERS, flag::END_HEADERS | flags, stream, hpack::encode(fields)).bytes()
    };
    [
        fields(&[(":status", "200")], 0),
        Frame::new(kind::DATA, 0, stream, half).bytes(),
        Frame::new(kind::DATA, 0, stream, full).bytes(),
        fields(&[("x-sum", "12")], flag::END_STREAM),
    ]
}
