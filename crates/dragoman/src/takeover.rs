//! One process hands its listeners over to another: an upgrade of the program without a moment in which nobody
//! listens (docs/adr/0013).
//!
//! The taker asks `POST /takeover` on the control socket, with an upgrade. It gets a copy of every socket that others send to (a
//! byte `L` and a descriptor each, then `E`), begins to accept, and says `R`. Only then does the giver stop accepting.
//! Both share one queue of connections meanwhile, so that none is refused or lost; a taker that dies before `R`
//! changes nothing.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dragoman_net::{receive_descriptor, send_descriptor};
use dragoman_proxy::{Handle, Phase};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::Uid;
use socket2::{SockRef, Type};
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::UnixStream;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::timeout;

use crate::control::TAKEOVER;
use crate::surface::{Asker, Page, TEXT, response};

/// How long the taker has from its question until it is ready.
const GIVER_PATIENCE: Duration = Duration::from_secs(60);
/// How long the taker waits for each answer.
const TAKER_PATIENCE: Duration = Duration::from_secs(10);
/// More sockets than any configuration has; a bound on what a giver can make a taker hold.
const MOST_SOCKETS: usize = 1024;
/// The longest answer to the question that is read, in bytes.
const MOST_ANSWER: usize = 2048;

const PROTOCOL: &str = "dragoman-takeover";
const LISTENER: u8 = b'L';
const END: u8 = b'E';
const READY: u8 = b'R';

/// What a running process can give away.
#[derive(Debug)]
pub(crate) struct Giver {
    /// Copies of the listening sockets. Whoever holds the lock is being given them.
    sockets: Arc<Mutex<Vec<OwnedFd>>>,
    proxy: Handle,
}

impl Giver {
    /// Gives away these on request.
    pub(crate) fn new(sockets: Vec<OwnedFd>, proxy: Handle) -> Self {
        Self { sockets: Arc::new(Mutex::new(sockets)), proxy }
    }

    /// Answers the question of a taker, and goes on with it in a task of its own.
    pub(crate) fn answer(&self, asker: Asker, mut request: Request<Incoming>) -> Response<Page> {
        match asker {
            Asker::Unix(Some(user)) if user == 0 || user == Uid::effective().as_raw() => {}
            Asker::Unix(_) => {
                return refusal(StatusCode::FORBIDDEN, "only for root and this process's own user");
            }
            Asker::Tcp => return refusal(StatusCode::FORBIDDEN, "only on control.socket"),
        }
        if request.headers().get(UPGRADE).is_none_or(|protocol| protocol != PROTOCOL) {
            return refusal(StatusCode::UPGRADE_REQUIRED, "this is for `dragoman proxy --takeover SOCKET`");
        }
        let Ok(sockets) = Arc::clone(&self.sockets).try_lock_owned() else {
            return refusal(StatusCode::CONFLICT, "another takeover is under way");
        };
        if self.proxy.phase() != Phase::Serving {
            return refusal(StatusCode::CONFLICT, "this process is ending or handed over already");
        }
        let (proxy, upgrade) = (self.proxy.clone(), hyper::upgrade::on(&mut request));
        tokio::spawn(async move {
            let given = timeout(GIVER_PATIENCE, async {
                give(upgrade.await.map_err(io::Error::other)?, sockets, &proxy).await
            });
            if let Err(error) = given.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                tracing::warn!(%error, "the takeover failed before it was ready; going on");
            }
        });
        let mut agreed = response(StatusCode::SWITCHING_PROTOCOLS, TEXT, "");
        agreed.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
        agreed.headers_mut().insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
        agreed
    }
}

fn refusal(status: StatusCode, why: &str) -> Response<Page> {
    response(status, TEXT, format!("{why}\n"))
}

/// Gives the sockets away, and hands over when the taker is ready; then this process's own copies are closed.
async fn give(
    upgraded: Upgraded,
    mut sockets: OwnedMutexGuard<Vec<OwnedFd>>,
    proxy: &Handle,
) -> io::Result<()> {
    let parts = upgraded.downcast::<TokioIo<UnixStream>>().map_err(|_| io::ErrorKind::Unsupported)?;
    let mut taker = parts.io.into_inner();
    for socket in sockets.iter() {
        send(&taker, LISTENER, Some(socket)).await?;
    }
    send(&taker, END, None).await?;
    match taker.read_u8().await? {
        READY => proxy.hand_over(),
        _ => return Err(io::ErrorKind::InvalidData.into()),
    }
    sockets.clear();
    Ok(())
}

async fn send(taker: &UnixStream, mark: u8, socket: Option<&OwnedFd>) -> io::Result<()> {
    taker.async_io(Interest::WRITABLE, || send_descriptor(taker, mark, socket)).await
}

/// What was taken from another process, which goes on until it is told that this one is ready.
#[derive(Debug)]
pub(crate) struct Inherited {
    giver: std::os::unix::net::UnixStream,
    sockets: Vec<OwnedFd>,
}

impl Inherited {
    /// Asks the process whose control socket this is for its listeners. It must run as root or as `owner`, as whom this
    /// one will run.
    ///
    /// # Errors
    /// Why it does not give them, for a person.
    pub(crate) fn take(path: &Path, owner: Uid) -> Result<Self, String> {
        let cannot = |why: String| format!("cannot take over from {}: {why}", path.display());
        Self::ask(path, owner).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => cannot(format!("no answer within {TAKER_PATIENCE:?}")),
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                cannot(format!("{error}; is dragoman running, with this as its control.socket?"))
            }
            _ => cannot(error.to_string()),
        })
    }

    /// The listener on this address, if it was among them.
    pub(crate) fn tcp(&mut self, address: SocketAddr) -> Option<TcpListener> {
        self.of_type(Type::STREAM, address).map(Into::into)
    }

    /// The socket for datagrams to this address, if it was among them.
    pub(crate) fn udp(&mut self, address: SocketAddr) -> Option<UdpSocket> {
        self.of_type(Type::DGRAM, address).map(Into::into)
    }

    /// The listener at this path, if it was among them.
    pub(crate) fn unix(&mut self, path: &Path) -> Option<UnixListener> {
        self.find(|socket| socket.local_addr().is_ok_and(|own| own.as_pathname() == Some(path)))
            .map(Into::into)
    }

    /// Tells the other process that this one accepts. What of its sockets nobody asked for is closed.
    pub(crate) fn ready(mut self) -> io::Result<()> {
        self.sockets.clear();
        self.giver.write_all(&[READY])
    }

    fn of_type(&mut self, kind: Type, address: SocketAddr) -> Option<OwnedFd> {
        self.find(|socket| {
            let is_there = socket.local_addr().is_ok_and(|own| own.as_socket() == Some(address));
            is_there && socket.r#type().is_ok_and(|own| own == kind)
        })
    }

    fn find(&mut self, is_wanted: impl Fn(&SockRef<'_>) -> bool) -> Option<OwnedFd> {
        let place = self.sockets.iter().position(|socket| is_wanted(&SockRef::from(socket)))?;
        Some(self.sockets.swap_remove(place))
    }

    fn ask(path: &Path, owner: Uid) -> io::Result<Self> {
        let mut giver = std::os::unix::net::UnixStream::connect(path)?;
        giver.set_read_timeout(Some(TAKER_PATIENCE))?;
        let user = Uid::from_raw(getsockopt(&giver, PeerCredentials)?.uid());
        if !user.is_root() && user != owner {
            let why =
                format!("user {user} listens there, which is neither root nor the one that this will run as");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        let question = format!(
            "POST {TAKEOVER} HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: {PROTOCOL}\r\n\r\n"
        );
        giver.write_all(question.as_bytes())?;
        read_agreement(&mut giver)?;
        let mut sockets = Vec::new();
        loop {
            match receive_descriptor(&giver)? {
                (LISTENER, Some(socket)) if sockets.len() < MOST_SOCKETS => {
                    let about = SockRef::from(&socket);
                    if about.is_listener()? || about.r#type()? == Type::DGRAM {
                        sockets.push(socket);
                    }
                }
                (END, None) => return Ok(Self { giver, sockets }),
                _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "it says what no dragoman says")),
            }
        }
    }
}

/// Reads the head of the answer and no byte more: what follows comes with descriptors.
fn read_agreement(giver: &mut impl Read) -> io::Result<()> {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        giver.read_exact(&mut byte)?;
        answer.push(byte[0]);
        if answer.len() > MOST_ANSWER {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    if answer.starts_with(b"HTTP/1.1 101 ") {
        return Ok(());
    }
    let mut why = String::new();
    giver.take(MOST_ANSWER as u64).read_to_string(&mut why)?;
    let status = String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned();
    Err(io::Error::other(format!("{status}: {}", why.trim_end())))
}
