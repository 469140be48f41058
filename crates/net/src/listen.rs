//! Listening sockets, made before privileges are dropped and handed to the runtime afterwards.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::dial::keep_alive;

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
    prepare_accepted(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Sets what each connection that `listener` accepts is to have: Nagle off, and keep-alive on. They get it from their
/// listener, which saves five system calls for each.
///
/// # Errors
/// What `setsockopt` says.
pub fn prepare_accepted(listener: &impl AsFd) -> io::Result<()> {
    SockRef::from(listener).set_tcp_nodelay(true)?;
    keep_alive(listener)
}

/// Has each connection that `listener` accepts end by a reset where nobody closes it in order (SO_LINGER 0, which they get
/// from their listener): also where this process is killed, and the kernel closes it. [`close_in_order`] takes it back.
///
/// # Errors
/// What `setsockopt` says.
pub fn reset_accepted(listener: &impl AsFd) -> io::Result<()> {
    SockRef::from(listener).set_linger(Some(Duration::ZERO))
}

/// Makes the coming close an orderly end again.
pub fn close_in_order(stream: &impl AsFd) {
    // A socket that is already gone has ended.
    let _ = SockRef::from(stream).set_linger(None);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_accepted_has_the_options_of_a_leg() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = listen(address.parse().unwrap()).unwrap();
            let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            // A dial sets them itself.
            let dialled = Socket::from(client);
            dialled.set_tcp_nodelay(true).unwrap();
            keep_alive(&dialled).unwrap();
            let accepted = loop {
                match listener.accept() {
                    Ok((accepted, _)) => break Socket::from(accepted),
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                }
            };
            for socket in [&accepted, &dialled] {
                assert!(socket.keepalive().unwrap() && socket.tcp_nodelay().unwrap());
            }
            assert_eq!(accepted.tcp_keepalive_time().unwrap(), dialled.tcp_keepalive_time().unwrap());
            assert_eq!(accepted.tcp_keepalive_interval().unwrap(), dialled.tcp_keepalive_interval().unwrap());
            assert_eq!(accepted.tcp_user_timeout().unwrap(), dialled.tcp_user_timeout().unwrap());
            assert!(accepted.tcp_user_timeout().unwrap().is_some());
        }
    }

    #[test]
    fn what_nobody_closes_in_order_is_reset() {
        use std::io::Read;
        for in_order in [false, true] {
            let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
            reset_accepted(&listener).unwrap();
            let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            listener.set_nonblocking(false).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            if in_order {
                close_in_order(&accepted);
            }
            drop(accepted);
            let ended = client.read(&mut [0]).map_err(|error| error.kind());
            assert_eq!(ended, if in_order { Ok(0) } else { Err(io::ErrorKind::ConnectionReset) });
        }
    }

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
