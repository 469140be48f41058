//! A scripted server: it does exactly what a case tells it and keeps what it saw.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::SockRef;

use crate::net::Namespace;
use crate::peer::{Bytes, Message, Peer};
use crate::wait;

/// What an HTTP script answers.
#[derive(Clone, Debug)]
pub enum Reply {
    /// These bytes, as they are; the connection stays open for the next request.
    Send(Vec<u8>),
    /// These bytes, then the end of the connection.
    SendAndClose(Vec<u8>),
    /// These bytes, then a reset.
    SendAndReset(Vec<u8>),
    /// Silence, then the end of the connection.
    Stall(Duration),
}

impl Reply {
    /// A whole response with a content-length.
    pub fn status(status: u16, body: &str) -> Reply {
        Reply::Send(response(status, body).into_bytes())
    }

    /// A reset in place of any answer.
    pub fn reset() -> Reply {
        Reply::SendAndReset(Vec::new())
    }
}

/// The text of a whole response with a content-length.
pub fn response(status: u16, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// A script for [`Origin::tcp`]: answers two bytes with the same two, for as long as it is asked.
///
/// # Errors
/// Those of `send(2)`.
pub fn echo(mut peer: Peer) -> io::Result<()> {
    while let Ok(bytes) = peer.read_exact(2) {
        peer.send(bytes)?;
    }
    Ok(())
}

/// One connection as the server saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Who connected.
    pub peer: SocketAddr,
    /// Every byte that arrived.
    pub bytes: Bytes,
}

impl Seen {
    /// The bytes so far as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.so_far()).into_owned()
    }
}

/// A scripted server in a namespace. It stops listening when dropped.
pub struct Origin {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    requests: Arc<Mutex<Vec<Message>>>,
    listener: std::net::TcpListener,
    acceptor: Option<JoinHandle<()>>,
}

impl Origin {
    /// Listens on `address` and runs `script` on a thread of its own for each connection. An error that
    /// the script returns ends its connection: peers that go away are part of most cases.
    pub fn tcp<F>(namespace: &Namespace, address: SocketAddr, script: F) -> Origin
    where
        F: Fn(Peer) -> io::Result<()> + Send + Sync + 'static,
    {
        let listener = namespace.listen(address);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let script = Arc::new(script);
        let accept = {
            let listener = listener.try_clone().expect("a listener can be duplicated");
            let seen = Arc::clone(&seen);
            move || {
                while let Ok((stream, peer)) = listener.accept() {
                    let bytes = Bytes::default();
                    lock(&seen).push(Seen { peer, bytes: bytes.clone() });
                    let script = Arc::clone(&script);
                    thread::spawn(move || script(Peer::of_server(stream, bytes)));
                }
            }
        };
        // A thread inherits the namespace of the one that starts it.
        let acceptor = namespace.enter(|| thread::spawn(accept));
        Origin { address, seen, requests: Arc::default(), listener, acceptor: Some(acceptor) }
    }

    /// Listens on `address` and answers each HTTP/1 request with what `script` says. Its second argument
    /// is the number of the request, from 0, over all connections.
    pub fn http<F>(namespace: &Namespace, address: SocketAddr, script: F) -> Origin
    where
        F: Fn(&Message, usize) -> Reply + Send + Sync + 'static,
    {
        let requests = Arc::<Mutex<Vec<Message>>>::default();
        let kept = Arc::clone(&requests);
        let count = AtomicUsize::new(0);
        let mut origin = Origin::tcp(namespace, address, move |mut peer| {
            while let Some(request) = peer.request()? {
                let reply = script(&request, count.fetch_add(1, Ordering::Relaxed));
                lock(&kept).push(request);
                match reply {
                    Reply::Send(bytes) => peer.send(bytes)?,
                    Reply::SendAndClose(bytes) => return peer.send(bytes),
                    Reply::SendAndReset(bytes) => {
                        peer.send(bytes)?;
                        return peer.reset_when_acknowledged();
                    }
                    Reply::Stall(duration) => {
                        wait::pause(duration);
                        return Ok(());
                    }
                }
            }
            Ok(())
        });
        origin.requests = requests;
        origin
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every connection so far, in the order of arrival.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.seen).clone()
    }

    /// How many connections so far were used. Where an app takes long to speak dragoman may have made one more (an early dial), on
    /// which nothing is said.
    pub fn used(&self) -> usize {
        lock(&self.seen).iter().filter(|seen| !seen.bytes.is_empty()).count()
    }

    /// Every whole HTTP request so far, in the order of arrival.
    pub fn requests(&self) -> Vec<Message> {
        lock(&self.requests).clone()
    }

    /// Waits for the connection number `n`, from 0.
    pub fn connection(&self, n: usize) -> Seen {
        let what = format!("connection {n} at {}", self.address);
        wait::until_some(&what, wait::SOON, || lock(&self.seen).get(n).cloned())
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        // Wakes the acceptor: accept(2) on a socket that is shut down fails.
        let _ = SockRef::from(&self.listener).shutdown(Shutdown::Both);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Net, server_v4};
    use std::io::ErrorKind;

    #[test]
    fn http_scripts_answer_and_record_as_they_are_told() {
        let net = Net::new();
        let address = SocketAddr::new(server_v4(0), 80);
        let origin = Origin::http(&net.servers, address, |request, n| match n {
            0 => Reply::status(503, "busy"),
            1 => Reply::Send(format!("HTTP/1.1 200 X\r\n\r\n{}", request.text()).into_bytes()),
            _ => Reply::reset(),
        });
        let mut client = net.app.connect(address);
        let first = client.exchange("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
        assert_eq!((first.status(), first.text().as_str()), (503, "busy"));
        let chunked =
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: v\r\n\r\n";
        client.send(chunked).unwrap();
        client.finish_sending().unwrap();
        assert_eq!(client.response("POST").unwrap().text(), "3;x=y\r\nabc\r\n0\r\nT: v\r\n\r\n");
        let mut other = net.app.connect(address);
        let error = other.exchange("GET / HTTP/1.1\r\n\r\n").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(origin.requests().len(), 3);
        assert_eq!(origin.seen().len(), 2);
        assert!(origin.connection(0).text().ends_with(chunked));
        assert_eq!(origin.connection(1).peer, other.local());
    }

    #[test]
    fn a_dropped_origin_stops_listening() {
        let net = Net::new();
        let address = SocketAddr::new(server_v4(0), 80);
        drop(Origin::tcp(&net.servers, address, |_| Ok(())));
        assert_eq!(net.app.try_connect(address).err().unwrap().kind(), ErrorKind::ConnectionRefused);
    }
}
