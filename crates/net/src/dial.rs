//! Dialling, with the options that keep idle and half-closed flows alive.
//!
//! conntrack forgets a connection in CLOSE_WAIT after 60 seconds and an idle one after whatever its operator set:
//! keep-alive probes every 45 seconds on both legs keep the translation. TCP_USER_TIMEOUT stands near the
//! kernel's own limit for retransmission (tcp_retries2, about 924 seconds): less would end connections that
//! would live without the proxy, a stopped reader's above all, since the timeout counts for zero windows too.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

const KEEPALIVE_IDLE: Duration = Duration::from_secs(45);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const USER_TIMEOUT: Duration = Duration::from_secs(900);

/// Why a connection could not be made. Nothing was sent, so every one may be retried.
#[derive(Debug)]
pub enum DialError {
    /// A RST answered the SYN.
    Refused,
    /// The connection was reset before it was made.
    Reset,
    /// Nothing answered within the given time, or the kernel gave up.
    Timeout(Duration),
    /// No route, or a router or firewall said so.
    Unreachable(io::Error),
    /// The local port range is used up for this destination.
    PortsExhausted,
    /// This process has no descriptor left.
    DescriptorsExhausted,
    /// Anything else, as the kernel names it.
    Other(io::Error),
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("connection refused"),
            Self::Reset => f.write_str("connection reset while it was being made"),
            Self::Timeout(after) => write!(f, "no answer within {after:?}"),
            Self::Unreachable(error) | Self::Other(error) => error.fmt(f),
            Self::PortsExhausted => f.write_str("no free local port towards this destination"),
            Self::DescriptorsExhausted => f.write_str("no free file descriptor"),
        }
    }
}

impl std::error::Error for DialError {}

impl From<io::Error> for DialError {
    fn from(error: io::Error) -> Self {
        use nix::errno::Errno;
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ECONNREFUSED) => Self::Refused,
            Some(Errno::ECONNRESET) => Self::Reset,
            Some(Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EACCES | Errno::EPERM) => {
                Self::Unreachable(error)
            }
            Some(Errno::EADDRNOTAVAIL) => Self::PortsExhausted,
            Some(Errno::EMFILE | Errno::ENFILE) => Self::DescriptorsExhausted,
            _ => Self::Other(error),
        }
    }
}

/// Connects to `address` within `limit`, with Nagle off and keep-alive on, and with this mark (`SO_MARK`), which
/// takes CAP_NET_ADMIN.
///
/// # Errors
/// [`DialError`].
pub async fn dial(address: SocketAddr, mark: Option<u32>, limit: Duration) -> Result<TcpStream, DialError> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    dial_from(socket, address, mark, limit).await
}

/// The same from a socket of any namespace.
pub(crate) async fn dial_from(
    socket: TcpSocket,
    address: SocketAddr,
    mark: Option<u32>,
    limit: Duration,
) -> Result<TcpStream, DialError> {
    if let Some(mark) = mark {
        // Before the first packet, which the rules of capture judge.
        SockRef::from(&socket).set_mark(mark)?;
    }
    socket.set_nodelay(true)?;
    // Before the connection is made: afterwards a server may have reset it already.
    keep_alive(&socket)?;
    match timeout(limit, socket.connect(address)).await {
        Ok(result) => result.map_err(|error| timed_out(error, limit)),
        Err(_) => Err(DialError::Timeout(limit)),
    }
}

/// Whether this process may set a mark.
///
/// # Errors
/// What `setsockopt` says: EPERM without CAP_NET_ADMIN.
pub fn try_mark(mark: u32) -> io::Result<()> {
    Socket::new(Domain::IPV4, Type::STREAM, None)?.set_mark(mark)
}

/// ETIMEDOUT of the kernel (its SYN retries ran out first) is a timeout like ours.
fn timed_out(error: io::Error, limit: Duration) -> DialError {
    if error.kind() == io::ErrorKind::TimedOut { DialError::Timeout(limit) } else { error.into() }
}

/// Keep-alive and user timeout, for either leg of a flow.
///
/// # Errors
/// What `setsockopt` says.
pub(crate) fn keep_alive(socket: &impl AsFd) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL),
    )?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_closed_port_is_refused() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = dial(free, None, Duration::from_secs(5)).await.unwrap_err();
        assert!(matches!(error, DialError::Refused), "{error}");
    }

    #[tokio::test]
    async fn keep_alive_is_under_the_conntrack_limit() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = dial(listener.local_addr().unwrap(), None, Duration::from_secs(5)).await.unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert!(socket.tcp_keepalive_time().unwrap() < Duration::from_secs(60));
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(USER_TIMEOUT));
        assert!(stream.nodelay().unwrap());
    }
}
