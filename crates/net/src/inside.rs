//! Connections into the network namespace of an app, where this process is not.
//!
//! A socket belongs to the namespace in which it was made, and so to whoever made it there: a [`Keeper`], a process
//! inside, makes sockets and sends them here, where they are connected. One byte asks for one socket, and sockets of a
//! version of IP are alike: where nobody waits for one any more when it comes, the next dial takes it.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream as StdStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::io::Interest;
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use crate::dial::{dial, dial_from};
use crate::{DialError, receive_descriptor, send_descriptor};

/// What asks for a socket of either version of IP. Lower bytes are numbers of signals.
const IPV4: u8 = b'4';
const IPV6: u8 = b'6';

/// The way into the namespace of the app.
pub struct Inside {
    keeper: Mutex<UnixStream>,
    /// The addresses of that namespace beside its loopback.
    own: Vec<IpAddr>,
    isolated: bool,
}

impl fmt::Debug for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inside")
            .field("own", &self.own)
            .field("isolated", &self.isolated)
            .finish_non_exhaustive()
    }
}

impl Inside {
    /// The namespace of the [`Keeper`] at the other end, which has these addresses. `isolated`: what nobody listens to on
    /// its loopback is not looked for on ours.
    ///
    /// # Errors
    /// The socket cannot be handed to the runtime.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(keeper: StdUnixStream, own: Vec<IpAddr>, isolated: bool) -> io::Result<Inside> {
        keeper.set_nonblocking(true)?;
        Ok(Inside { keeper: Mutex::new(UnixStream::from_std(keeper)?), own, isolated })
    }

    /// Connects as [`dial`] does; to an address that the namespace has too, there first, and here if that is refused.
    ///
    /// # Errors
    /// [`DialError`].
    pub async fn dial(
        &self,
        address: SocketAddr,
        mark: Option<u32>,
        limit: Duration,
    ) -> Result<TcpStream, DialError> {
        let loopback = address.ip().to_canonical().is_loopback();
        if !loopback && !self.own.contains(&address.ip()) {
            return dial(address, mark, limit).await;
        }
        let deadline = Instant::now() + limit;
        let late = || DialError::Timeout(limit);
        let socket = timeout_at(deadline, self.socket(address)).await.map_err(|_| late())??;
        // Without one, the namespace does not have that version of IP.
        if let Some(socket) = socket {
            let left = deadline.saturating_duration_since(Instant::now());
            match dial_from(socket, address, None, left).await {
                Err(DialError::Refused) => {}
                Err(DialError::Timeout(_)) => return Err(late()),
                dialled => return dialled,
            }
        }
        if loopback && self.isolated {
            return Err(DialError::Refused);
        }
        dial(address, mark, deadline.saturating_duration_since(Instant::now())).await
    }

    /// A socket that was made inside. Cancelling loses nothing.
    async fn socket(&self, address: SocketAddr) -> io::Result<Option<TcpSocket>> {
        let version = if address.is_ipv4() { IPV4 } else { IPV6 };
        let keeper = self.keeper.lock().await;
        let received = match take(&keeper, version) {
            Ok(left_over) => left_over,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                keeper.async_io(Interest::WRITABLE, || send_descriptor(&*keeper, version, None)).await?;
                keeper.async_io(Interest::READABLE, || take(&keeper, version)).await?
            }
            Err(error) => return Err(error),
        };
        let Some(socket) = received else { return Ok(None) };
        let stream = StdStream::from(socket);
        stream.set_nonblocking(true)?;
        Ok(Some(TcpSocket::from_std_stream(stream)))
    }

    /// Tells the keeper that this process got a signal: it passes the signal on to the app, unless the app got it too.
    pub async fn signal(&self, signal: u8) {
        let keeper = self.keeper.lock().await;
        // A keeper that is gone has nobody to pass it on to.
        let _ = keeper.async_io(Interest::WRITABLE, || send_descriptor(&*keeper, signal, None)).await;
    }
}

/// The next socket of this version that the keeper has sent.
fn take(keeper: &UnixStream, version: u8) -> io::Result<Option<OwnedFd>> {
    loop {
        let (came, socket) = keeper.try_io(Interest::READABLE, || receive_descriptor(keeper))?;
        if came == version {
            return Ok(socket);
        }
    }
}

/// The other end: whoever makes sockets inside.
#[derive(Debug)]
pub struct Keeper {
    link: StdUnixStream,
    mark: u32,
}

impl Keeper {
    /// Serves this connection by sockets with this mark (`SO_MARK`), which takes CAP_NET_ADMIN in the namespace.
    pub fn new(link: StdUnixStream, mark: u32) -> Keeper {
        Keeper { link, mark }
    }

    /// Serves what was asked next, and waits for it; returns a signal that is to be passed on.
    ///
    /// # Errors
    /// `UnexpectedEof` when [`Inside`] is gone; else what the system says.
    pub fn serve(&self) -> io::Result<Option<u8>> {
        let asked = receive_descriptor(&self.link)?.0;
        let domain = match asked {
            IPV4 => Domain::IPV4,
            IPV6 => Domain::IPV6,
            signal => return Ok(Some(signal)),
        };
        let socket = self.socket(domain).ok().map(OwnedFd::from);
        send_descriptor(&self.link, asked, socket.as_ref())?;
        Ok(None)
    }

    fn socket(&self, domain: Domain) -> io::Result<Socket> {
        let socket = Socket::new(domain, Type::STREAM, None)?;
        socket.set_mark(self.mark)?;
        Ok(socket)
    }
}

impl AsFd for Keeper {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;
    use tokio::net::TcpListener;
    use tokio::task::spawn_blocking;

    const LIMIT: Duration = Duration::from_secs(5);

    /// An inside that is where we are; tests may lack the right to mark.
    fn pair(isolated: bool) -> (Inside, StdUnixStream) {
        let (here, there) = StdUnixStream::pair().unwrap();
        (Inside::new(here, vec![], isolated).unwrap(), there)
    }

    /// Answers so many questions, each with a socket of its version.
    fn answer(there: StdUnixStream, questions: usize) -> thread::JoinHandle<StdUnixStream> {
        thread::spawn(move || {
            for _ in 0..questions {
                let asked = receive_descriptor(&there).unwrap().0;
                let domain = if asked == IPV4 { Domain::IPV4 } else { Domain::IPV6 };
                let socket = Socket::new(domain, Type::STREAM, None).unwrap().into();
                send_descriptor(&there, asked, Some(&socket)).unwrap();
            }
            there
        })
    }

    #[tokio::test]
    async fn loopback_is_dialled_inside_first() {
        let (inside, there) = pair(true);
        let keeper = answer(there, 2);
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).await.unwrap();
            inside.dial(listener.local_addr().unwrap(), None, LIMIT).await.unwrap();
        }
        keeper.join().unwrap();
    }

    #[tokio::test]
    async fn what_nobody_listens_to_inside_is_looked_for_outside_unless_isolated() {
        for isolated in [false, true] {
            let (inside, there) = pair(isolated);
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            // No socket: the namespace does not have this version of IP.
            let keeper = thread::spawn(move || {
                let asked = receive_descriptor(&there).unwrap().0;
                send_descriptor(&there, asked, None).unwrap();
                there
            });
            let dialled = inside.dial(listener.local_addr().unwrap(), None, LIMIT).await;
            assert_eq!(dialled.is_err(), isolated, "{dialled:?}");
            keeper.join().unwrap();
        }
    }

    #[tokio::test]
    async fn a_socket_that_nobody_waits_for_serves_the_next_dial() {
        let (inside, there) = pair(true);
        let (inside, there) = (Arc::new(inside), Arc::new(there));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        for _ in 0..3 {
            let (dialling, asked) = (Arc::clone(&inside), Arc::clone(&there));
            let dial = tokio::spawn(async move { dialling.dial(address, None, LIMIT).await });
            spawn_blocking(move || receive_descriptor(&*asked).unwrap()).await.unwrap();
            dial.abort();
            assert!(dial.await.unwrap_err().is_cancelled());
        }
        for _ in 0..3 {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap().into();
            send_descriptor(&*there, IPV4, Some(&socket)).unwrap();
        }
        inside.keeper.lock().await.readable().await.unwrap();
        for _ in 0..3 {
            inside.dial(address, None, LIMIT).await.unwrap();
        }
        there.set_nonblocking(true).unwrap();
        let nothing = receive_descriptor(&*there).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock, "three sockets were enough");
    }

    #[tokio::test]
    async fn a_keeper_that_is_gone_is_an_error_and_not_the_outside() {
        let (inside, there) = pair(false);
        drop(there);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialled = inside.dial(listener.local_addr().unwrap(), None, LIMIT).await;
        assert!(matches!(dialled, Err(DialError::Other(_))), "{dialled:?}");
    }

    #[tokio::test]
    async fn other_addresses_are_dialled_outside() {
        let (inside, there) = pair(false);
        drop(there);
        let nowhere = "192.0.2.1:9".parse().unwrap();
        let dialled = inside.dial(nowhere, None, Duration::from_millis(10)).await;
        // Whatever the network says: nobody asked the keeper, which is gone.
        assert!(!matches!(dialled, Err(DialError::Other(_))), "{dialled:?}");
    }

    #[tokio::test]
    async fn a_signal_is_told() {
        let (inside, there) = pair(false);
        inside.signal(15).await;
        assert_eq!(Keeper::new(there, 1).serve().unwrap(), Some(15));
    }
}
