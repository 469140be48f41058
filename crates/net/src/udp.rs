//! Datagrams: where they are awaited, and where they are sent.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// Bytes of datagrams that may wait while the reader is busy, a burst of a thousand small ones. The kernel cuts this to
/// `net.core.rmem_max`.
const RECEIVE_BUFFER: usize = 2 * 1024 * 1024;

/// A non-blocking socket for datagrams that are sent to `address`. One for IPv6 takes IPv6 alone.
///
/// # Errors
/// What `socket` or `bind` say: `AddrInUse` where the port is taken.
pub fn listen_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = udp(address)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// A non-blocking socket that sends to `address` from `port`, and receives from there alone, with this mark (`SO_MARK`),
/// which takes CAP_NET_ADMIN. For port 0 the kernel takes a random one. What ICMP says of `address` comes as an error of the
/// next call.
///
/// # Errors
/// What `socket`, `setsockopt`, `bind` or `connect` say: `AddrInUse` where somebody has the port.
pub fn connect_udp(address: SocketAddr, mark: Option<u32>, port: u16) -> io::Result<UdpSocket> {
    let socket = udp(address)?;
    if let Some(mark) = mark {
        socket.set_mark(mark)?;
    }
    let any = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    socket.bind(&SocketAddr::new(any, port).into())?;
    socket.connect(&address.into())?;
    Ok(socket.into())
}

fn udp(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any_port(ip: &str) -> SocketAddr {
        SocketAddr::new(ip.parse().unwrap(), 0)
    }

    #[test]
    fn a_connected_socket_hears_its_peer_alone() {
        for ip in ["127.0.0.1", "::1"] {
            let (peer, other) = (listen_udp(any_port(ip)).unwrap(), listen_udp(any_port(ip)).unwrap());
            let socket = connect_udp(peer.local_addr().unwrap(), None, 0).unwrap();
            let own = socket.local_addr().unwrap();
            other.send_to(b"forged", own).unwrap();
            peer.send_to(b"right", own).unwrap();
            let mut bytes = [0; 16];
            assert_eq!(socket.recv(&mut bytes).unwrap(), 5, "{ip}");
            assert_eq!(&bytes[..5], b"right");
        }
    }

    #[test]
    fn ports_are_not_in_a_row() {
        let peer = listen_udp(any_port("127.0.0.1")).unwrap().local_addr().unwrap();
        let sockets: Vec<_> = (0..16).map(|_| connect_udp(peer, None, 0).unwrap()).collect();
        let ports: Vec<_> = sockets.iter().map(|socket| socket.local_addr().unwrap().port()).collect();
        let in_a_row = ports.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) == 1).count();
        assert!(in_a_row < 8, "{ports:?}");
    }
}
