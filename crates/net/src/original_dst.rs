//! Where a redirected connection was going: `SO_ORIGINAL_DST`, asked of conntrack.
//!
//! A connection that was not redirected has no such destination. The kernel then answers ENOENT, or the
//! listener's own address when conntrack tracks the connection without translating it; both are refused here,
//! or the proxy would dial itself.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use socket2::SockRef;
use tokio::net::TcpStream;

use crate::OrigDst;

/// Why a connection has no original destination.
#[derive(Debug)]
pub enum NoOriginalDst {
    /// The kernel knows none: the connection came here directly, or conntrack lost it.
    Unknown(io::Error),
    /// The destination is this proxy's own listener.
    OwnListener(SocketAddr),
}

impl fmt::Display for NoOriginalDst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(error) => write!(f, "the kernel knows no original destination ({error})"),
            Self::OwnListener(address) => write!(f, "{address} is dragoman's own listener"),
        }
    }
}

/// The original destination of a captured connection that `peer` opened. `own_ports` are the ports that this proxy
/// listens on, that of the connection among them: any local address with one of them is the proxy itself.
///
/// # Errors
/// [`NoOriginalDst`]: the connection must be reset, never dialled on.
pub fn original_dst(
    stream: &TcpStream,
    peer: SocketAddr,
    own_ports: &[u16],
) -> Result<OrigDst, NoOriginalDst> {
    let socket = SockRef::from(stream);
    let address = match peer.ip().to_canonical() {
        IpAddr::V4(_) => socket.original_dst_v4(),
        IpAddr::V6(_) => socket.original_dst_v6(),
    };
    let address = address
        .map_err(NoOriginalDst::Unknown)?
        .as_socket()
        .ok_or_else(|| NoOriginalDst::Unknown(io::ErrorKind::AddrNotAvailable.into()))?;
    // Where it arrived is asked only where it may matter.
    let arrived_there = || stream.local_addr().is_ok_and(|local| local == address);
    if own_ports.contains(&address.port()) && (arrived_there() || is_local(address.ip())) {
        return Err(NoOriginalDst::OwnListener(address));
    }
    Ok(OrigDst(address))
}

/// Whether `ip` is one of this host's own addresses. Asked of the kernel by a bind, so that it is right in every
/// namespace and at every moment; not for a hot path.
pub fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified() || UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_direct_connection_has_none() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = tokio::net::TcpListener::bind(address).await.unwrap();
            let local = listener.local_addr().unwrap();
            let (_client, accepted) = tokio::join!(TcpStream::connect(local), listener.accept());
            let (accepted, peer) = accepted.unwrap();
            let result = original_dst(&accepted, peer, &[local.port()]);
            assert!(result.is_err(), "{address}: {result:?}");
        }
    }

    #[test]
    fn local_addresses_are_known() {
        assert!(is_local("127.0.0.9".parse().unwrap()));
        assert!(is_local("::1".parse().unwrap()));
        assert!(!is_local("192.0.2.1".parse().unwrap()));
        assert!(!is_local("2001:db8::1".parse().unwrap()));
    }
}
