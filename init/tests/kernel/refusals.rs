//! What the filter chain refuses: first packets that no rule redirected, QUIC, and packets of no connection.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use dragoman_harness::net::{APP_V4, APP_V6, Namespace, server_v4, server_v6};
use dragoman_harness::{process, wait};
use nix::unistd::setfsgid;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::rig::{HERE_V4, PORT, Rig, Way, listen_as_destination};

const PROXY: u32 = 1337;
const APP: u32 = 1000;

/// A source port at random is what the kernel gives; these tests choose it.
fn source(target: SocketAddr, port: u16) -> SocketAddr {
    let address: IpAddr = if target.is_ipv4() { APP_V4.into() } else { APP_V6.into() };
    SocketAddr::new(address, port)
}

/// Has dragoman's own group connect from this source, and the server reset it. For ten seconds conntrack keeps an
/// entry of the closed connection, to which the next SYN from the same source belongs: no NAT rule sees that one.
fn leave_a_stale_entry(rig: &Rig, listener: &TcpListener, source: SocketAddr) {
    let target = listener.local_addr().expect("it is bound");
    let mut own = rig.connect_from(PROXY, source, target).expect("dragoman's group passes by");
    let (server, _) = listener.accept().expect("it has connected");
    SockRef::from(&server).set_linger(Some(Duration::ZERO)).expect("an open socket");
    drop(server);
    assert_eq!(own.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

fn nobody_arrives(listener: &TcpListener) {
    listener.set_nonblocking(true).expect("an open socket");
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "it went past the rules");
    listener.set_nonblocking(false).expect("an open socket");
}

#[test]
fn c6_a_source_port_of_dragomans_own_carries_no_app_past_the_rules() {
    for way in Way::ALL {
        let rig = Rig::by(way);
        rig.succeed("install");
        rig.listen_as_proxy(PORT);
        for target in [SocketAddr::new(server_v4(0), 80), SocketAddr::new(server_v6(0), 80)] {
            let listener = rig.net.servers.listen(target);
            leave_a_stale_entry(&rig, &listener, source(target, 44_444));
            let refused = rig.connect_from(APP, source(target, 44_444), target).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{way:?}");
            nobody_arrives(&listener);
            // Once the entry is gone, the same source is captured like any other.
            rig.net.app.succeed("conntrack -F");
            let mut captured = rig.connect_from(APP, source(target, 44_444), target).expect("captured");
            assert_eq!(captured.read(&mut [0]).expect("the proxy speaks"), 1, "{way:?}");
            nobody_arrives(&listener);
        }
    }
}

/// What the test above is about: without the filter chain, the app is past the rules.
#[test]
fn c6_only_the_filter_chain_stops_such_an_app() {
    let rig = Rig::new();
    rig.succeed("install");
    rig.net.app.succeed("nft flush chain inet dragoman filter");
    let listener = rig.net.servers.listen(SocketAddr::new(server_v4(0), 80));
    let target = listener.local_addr().unwrap();
    leave_a_stale_entry(&rig, &listener, source(target, 44_444));
    let _past = rig.connect_from(APP, source(target, 44_444), target).expect("it goes out directly");
    listener.accept().expect("and arrives at the server");
}

/// An exclusion holds in both chains, also for a SYN that conntrack takes for an old connection's.
#[test]
fn c6_what_is_left_alone_is_never_refused() {
    for (arguments, gid) in [
        ("install", PROXY),
        ("--exclude-gid 1000", APP),
        ("--exclude-port 80", APP),
        ("--exclude-cidr 0.0.0.0/0", APP),
    ] {
        let rig = Rig::new();
        rig.succeed(arguments);
        let listener = rig.net.servers.listen(SocketAddr::new(server_v4(0), 80));
        let target = listener.local_addr().unwrap();
        leave_a_stale_entry(&rig, &listener, source(target, 44_444));
        let again = rig.connect_from(gid, source(target, 44_444), target);
        again.unwrap_or_else(|error| panic!("{arguments}: {error}"));
    }
}

/// Whose DNAT rules took a connection first, theirs it is.
#[test]
fn c6_what_others_translate_is_not_refused() {
    let rig = Rig::new();
    let (asked, given) = (SocketAddr::new(server_v4(0), 80), SocketAddr::new(server_v4(1), 81));
    rig.load(&format!(
        "table ip other {{ chain output {{ type nat hook output priority -110; \
         ip daddr {} tcp dport 80 dnat to {given}; }}; }}",
        asked.ip()
    ));
    rig.succeed("install");
    listen_as_destination(&rig.net.servers, given);
    assert_eq!(rig.who(crate::rig::APP, asked), crate::rig::DIRECT);
}

/// Sends a datagram from A to `target` by a socket of this group; whether an ICMP error came back.
fn is_refused(app: &Namespace, gid: u32, target: SocketAddr) -> bool {
    let socket = app.enter(|| {
        setfsgid(gid.into());
        let any: IpAddr = if target.is_ipv4() { APP_V4.into() } else { APP_V6.into() };
        UdpSocket::bind((any, 0)).expect("A has this address")
    });
    socket.connect(target).expect("A has a route");
    socket.set_read_timeout(Some(wait::SOON)).expect("not zero");
    match socket.send(b"hello") {
        Ok(_) => false,
        // So the kernel tells who sent a packet that a filter did not let out. The ICMP error comes back within the
        // same call, and is told by the next.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let icmp = socket.recv(&mut [0]).unwrap_err();
            assert_eq!(icmp.kind(), ErrorKind::ConnectionRefused, "{target}");
            true
        }
        Err(error) => panic!("{target}: {error}"),
    }
}

#[test]
fn c8_quic_is_refused_where_tcp_is_captured_and_nowhere_else() {
    for way in Way::ALL {
        let rig = Rig::by(way);
        let receivers: [UdpSocket; 3] = [server_v4(0), server_v6(0), server_v4(1)].map(|address| {
            rig.net.servers.enter(|| UdpSocket::bind((address, 443)).expect("S has this address"))
        });
        let other =
            rig.net.servers.enter(|| UdpSocket::bind((server_v4(0), 444)).expect("S has this address"));
        let [v4, v6, excluded] = receivers.each_ref().map(|socket| socket.local_addr().unwrap());
        let app = &rig.net.app;
        rig.succeed("install");
        assert!(!is_refused(app, APP, v4) && !is_refused(app, APP, v6), "only where it is asked for");
        for receiver in receivers.iter().take(2) {
            receiver.set_read_timeout(Some(wait::SOON)).expect("not zero");
            assert_eq!(receiver.recv(&mut [0; 8]).expect("it arrived"), 5);
        }

        rig.succeed(&format!("--reject-quic --exclude-cidr {}", excluded.ip()));
        rig.net.app.succeed("conntrack -F");
        assert!(is_refused(app, APP, v4) && is_refused(app, APP, v6), "{way:?}");
        assert!(!is_refused(app, APP, excluded), "{way:?}: TCP to it is not captured either");
        assert!(!is_refused(app, PROXY, v4), "{way:?}: dragoman may speak it");
        assert!(!is_refused(app, APP, other.local_addr().unwrap()), "{way:?}: only port 443 is QUIC's");
    }
}

/// A captured connection and what conntrack knows of it: the next number that either end expects.
struct Captured {
    app: TcpStream,
    proxy: TcpStream,
    app_expects: u32,
    proxy_expects: u32,
}

/// Opens one, while tcpdump reads the sequence numbers of its handshake.
fn captured(rig: &Rig) -> Captured {
    let listener = rig.net.app.listen(SocketAddr::new(HERE_V4, PORT));
    let scratch = dragoman_harness::scratch::Scratch::new("handshake");
    let packets = scratch.path().join("packets");
    let mut command = rig.net.app.command("tcpdump");
    command
        .args(["-i", "lo", "-n", "-S", "-U", "-c", "2", "-w"])
        .arg(&packets)
        .arg("tcp[tcpflags] & tcp-syn != 0");
    let log = scratch.path().join("log");
    let mut dump = process::Process::start("tcpdump", &mut command, &log, None);
    dump.wait_ready(wait::SOON, || {
        std::fs::read_to_string(&log).is_ok_and(|said| said.contains("listening on"))
    });
    let app = rig.net.app.enter(|| TcpStream::connect(SocketAddr::new(server_v4(0), 80))).expect("captured");
    let (proxy, _) = listener.accept().expect("it has connected");
    for end in [&app, &proxy] {
        end.set_read_timeout(Some(wait::SOON)).expect("not zero");
    }
    assert!(dump.wait(wait::SOON).success());
    let text = process::succeed(std::process::Command::new("tcpdump").args(["-n", "-S", "-r"]).arg(&packets));
    let numbers: Vec<u32> = text
        .split("seq ")
        .skip(1)
        .filter_map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok())
        .collect();
    let &[from_app, from_proxy] = &numbers[..] else { panic!("no handshake in:\n{text}") };
    Captured { app, proxy, app_expects: from_proxy.wrapping_add(1), proxy_expects: from_app.wrapping_add(1) }
}

/// Sends, as the proxy's end, a segment far outside of every window, as one that was delayed for long is.
fn send_stray_segment(rig: &Rig, connection: &Captured) -> io::Result<usize> {
    let (from, to) = (connection.proxy.local_addr().unwrap(), connection.proxy.peer_addr().unwrap());
    let mut segment = Vec::new();
    segment.extend(from.port().to_be_bytes());
    segment.extend(to.port().to_be_bytes());
    segment.extend(connection.app_expects.wrapping_add(1 << 30).to_be_bytes());
    segment.extend(connection.proxy_expects.to_be_bytes());
    // Twenty bytes of header, ACK and PSH, a window; the checksum follows.
    segment.extend([0x50, 0x18, 0x10, 0, 0, 0, 0, 0]);
    segment.extend(b"stray");
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (from.ip(), to.ip()) else { panic!("IPv4 here") };
    let pseudo =
        [&source.octets()[..], &destination.octets(), &[0, 6], &(segment.len() as u16).to_be_bytes()]
            .concat();
    let sum = checksum(&[pseudo, segment.clone()].concat());
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    rig.net.app.enter(|| {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP)).expect("a test is root");
        socket.bind(&SocketAddr::new(from.ip(), 0).into()).expect("it is A's own");
        socket.send_to(&segment, &SocketAddr::new(to.ip(), 0).into())
    })
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| u32::from(low)));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) as u16 + (folded >> 16) as u16)
}

/// Untranslated, the segment reaches nobody's connection, and A answers it with a reset: to the proxy, of the live
/// connection.
#[test]
fn c7_a_segment_outside_of_the_window_resets_a_live_connection_unless_it_is_dropped() {
    for way in Way::ALL {
        for (arguments, survives) in [("install", false), ("--drop-invalid", true)] {
            let rig = Rig::by(way);
            rig.succeed(arguments);
            let mut connection = captured(&rig);
            let sent = send_stray_segment(&rig, &connection);
            assert_eq!(sent.is_ok(), !survives, "{way:?} {arguments}: {sent:?}");
            if !survives {
                let end = connection.proxy.read(&mut [0]).unwrap_err();
                assert_eq!(end.kind(), ErrorKind::ConnectionReset, "{way:?}: this is the harm that is done");
                continue;
            }
            for (from, to) in [
                (&connection.app, &mut connection.proxy.try_clone().unwrap()),
                (&connection.proxy, &mut connection.app.try_clone().unwrap()),
            ] {
                let mut word = [0; 4];
                (&mut &*from).write_all(b"word").expect("it is alive");
                to.read_exact(&mut word).unwrap_or_else(|error| panic!("{way:?} {arguments}: {error}"));
                assert_eq!(&word, b"word", "nothing of the stray segment");
            }
        }
    }
}
