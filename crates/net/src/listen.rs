//! Listening sockets, made before privileges are dropped and handed to the runtime afterwards.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel completes on our behalf while the accept loop is busy. The kernel cuts this to
/// `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A non-blocking listener on `address`. An IPv6 listener takes IPv6 alone: a redirected IPv4 flow lands on
/// 127.0.0.1, and two plain listeners answer two plain `original_dst` calls.
///
/// # Errors
/// What `socket`, `bind` or `listen` say: `AddrInUse` where the port is taken.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the TIME_WAIT of the connections before it.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_addr_in_use() {
        let first = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = listen(first.local_addr().unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn both_families_share_a_port() {
        let v4 = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = v4.local_addr().unwrap().port();
        listen(format!("[::1]:{port}").parse().unwrap()).unwrap();
    }
}
