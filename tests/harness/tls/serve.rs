//! One connection of a [`Front`](super::Front): the handshake, then bytes both ways, with the fault that was planned.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::{HandshakeKind, ServerConfig, ServerConnection};
use socket2::SockRef;

use super::{At, Fault, GARBAGE, GARBAGE_TIMES, Handshake, Note, Setting, lock};
use crate::peer::Bytes;

/// How long a client may not read before a case counts as stuck. It may be silent for as long as the case is.
const PATIENCE: Duration = Duration::from_secs(60);

/// One connection from its first byte to its last.
pub(super) fn serve(
    stream: TcpStream,
    received: Bytes,
    behind: SocketAddr,
    config: Arc<ServerConfig>,
    setting: &Setting,
    note: &Note,
) {
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout above zero is valid");
    stream.set_nodelay(true).expect("TCP has no-delay");
    let wire = Wire { stream, received, sent: Mutex::new(0), segment: setting.segment, fault: setting.fault };
    let mut tls = ServerConnection::new(config).expect("a configuration of this harness");
    tls.set_buffer_limit(None);
    let early = match shake_hands(&wire, &mut tls) {
        Ok((handshake, early)) => {
            note.set(|seen| seen.handshake = Some(Ok(handshake)));
            early
        }
        Err(e) => {
            note.set(|seen| seen.handshake = Some(Err(e.to_string())));
            // Closed before all was read, it would be reset, and an alert on the way would be lost.
            let _ = wire.fault.is_some() || wire.stream.shutdown(Shutdown::Write).is_ok();
            return wire.drain();
        }
    };
    let Ok(backend) = TcpStream::connect(behind) else { return };
    backend.set_nodelay(true).expect("TCP has no-delay");
    let tls = Mutex::new(tls);
    thread::scope(|scope| {
        scope.spawn(|| answer(&wire, &tls, &backend, setting));
        let notified = hear(&wire, &tls, &backend, &note.plain, early);
        note.set(|seen| seen.notified = Some(notified));
    });
}

/// The socket, with a memory of what came and a plan for what goes.
struct Wire {
    stream: TcpStream,
    received: Bytes,
    sent: Mutex<usize>,
    segment: usize,
    fault: Option<(At, Fault)>,
}

impl Wire {
    /// Sends all of it, as far as the plan lets it. The end of the connection by plan is an error.
    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let mut sent = lock(&self.sent);
        let planned = match self.fault {
            Some((At::Byte(at), fault)) if at < *sent + bytes.len() => Some((at - *sent, fault)),
            _ => None,
        };
        let bytes = planned.map_or(bytes, |(left, _)| &bytes[..left]);
        for part in bytes.chunks(self.segment) {
            (&self.stream).write_all(part)?;
        }
        *sent += bytes.len();
        planned.map_or(Ok(()), |(_, fault)| self.strike(fault))
    }

    /// Ends what is said here; always an error. Whoever reads goes on to the other side's end.
    fn strike(&self, fault: Fault) -> io::Result<()> {
        match fault {
            Fault::Stall => {}
            Fault::Garbage => (&self.stream).write_all(&GARBAGE.repeat(GARBAGE_TIMES))?,
            Fault::Close => self.stream.shutdown(Shutdown::Write)?,
            Fault::Reset => {
                SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))?;
                // Wakes the reader here, and says nothing there; the reset follows when the socket is closed.
                self.stream.shutdown(Shutdown::Read)?;
            }
        }
        Err(io::Error::other("the case's fault"))
    }

    /// Waits for the other side's end.
    fn drain(&self) {
        while matches!(self.receive(&mut [0; 4096]), Ok(n) if n > 0) {}
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = (&self.stream).read(buffer)?;
        self.received.extend(&buffer[..n]);
        Ok(n)
    }
}

/// The handshake, and what the client has said right behind it.
fn shake_hands(wire: &Wire, tls: &mut ServerConnection) -> io::Result<(Handshake, Heard)> {
    let mut buffer = [0; 4096];
    let mut early = Heard::default();
    while tls.is_handshaking() {
        let n = match wire.receive(&mut buffer)? {
            0 => return Err(io::Error::new(ErrorKind::UnexpectedEof, "the client went away")),
            n => n,
        };
        let understood = take(tls, &buffer[..n], &mut early);
        // An alert, where it was not understood.
        let said = wire.send(&pending(tls)?);
        understood?;
        said?;
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let handshake = Handshake {
        server_name: tls.server_name().map(str::to_owned),
        alpn: tls.alpn_protocol().map(text),
        version: tls.protocol_version().map(|version| format!("{version:?}")).unwrap_or_default(),
        resumed: tls.handshake_kind() == Some(HandshakeKind::Resumed),
        client: tls.peer_certificates().and_then(|chain| chain.first().cloned()),
    };
    Ok((handshake, early))
}

/// What a client has said.
#[derive(Default)]
struct Heard {
    bytes: Vec<u8>,
    /// Whether it said close_notify after that.
    closed: bool,
}

/// From the client to the server behind, to the client's end: whether it said close_notify.
fn hear(
    wire: &Wire,
    tls: &Mutex<ServerConnection>,
    backend: &TcpStream,
    plain: &Bytes,
    early: Heard,
) -> bool {
    let notified = hear_all(wire, tls, backend, plain, early).unwrap_or(false);
    // Without one, nobody is left to answer.
    let _ = backend.shutdown(if notified { Shutdown::Write } else { Shutdown::Both });
    notified
}

fn hear_all(
    wire: &Wire,
    tls: &Mutex<ServerConnection>,
    mut backend: &TcpStream,
    plain: &Bytes,
    mut heard: Heard,
) -> io::Result<bool> {
    let mut buffer = [0; 16 * 1024];
    loop {
        plain.extend(&heard.bytes);
        backend.write_all(&heard.bytes)?;
        heard.bytes.clear();
        if heard.closed {
            return Ok(true);
        }
        let n = wire.receive(&mut buffer)?;
        if n == 0 {
            return Ok(false);
        }
        let (understood, said) = {
            let mut tls = lock(tls);
            (take(&mut tls, &buffer[..n], &mut heard), pending(&mut tls)?)
        };
        wire.send(&said)?;
        understood?;
    }
}

/// From the server behind to the client, to the server's end.
fn answer(
    wire: &Wire,
    tls: &Mutex<ServerConnection>,
    mut backend: &TcpStream,
    setting: &Setting,
) -> Option<()> {
    let mut buffer = [0; 16 * 1024];
    let mut answered = 0;
    loop {
        let n = match backend.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(_) => return wire.strike(Fault::Reset).ok(),
        };
        let (part, fault) = match setting.fault {
            Some((At::Answer(at), fault)) if at < answered + n => (at - answered, Some(fault)),
            _ => (n, None),
        };
        answered += part;
        let encrypted = {
            let mut tls = lock(tls);
            if setting.updates_keys {
                tls.refresh_traffic_keys().expect("a session of TLS 1.3 after its handshake");
            }
            tls.writer().write_all(&buffer[..part]).ok()?;
            pending(&mut tls).ok()?
        };
        wire.send(&encrypted).ok()?;
        if let Some(fault) = fault {
            return wire.strike(fault).ok();
        }
    }
    if setting.notifies {
        let mut tls = lock(tls);
        tls.send_close_notify();
        let said = pending(&mut tls).ok()?;
        drop(tls);
        wire.send(&said).ok()?;
    }
    wire.stream.shutdown(Shutdown::Write).ok()
}

/// Hands all of it to a session, and takes what that understands.
fn take(tls: &mut ServerConnection, mut bytes: &[u8], heard: &mut Heard) -> io::Result<()> {
    while !bytes.is_empty() {
        tls.read_tls(&mut bytes)?;
        let state = tls.process_new_packets().map_err(io::Error::other)?;
        let known = heard.bytes.len();
        heard.bytes.resize(known + state.plaintext_bytes_to_read(), 0);
        tls.reader().read_exact(&mut heard.bytes[known..])?;
        heard.closed |= state.peer_has_closed();
    }
    Ok(())
}

/// What a session wants to say.
fn pending(tls: &mut ServerConnection) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while tls.wants_write() {
        tls.write_tls(&mut bytes)?;
    }
    Ok(bytes)
}
