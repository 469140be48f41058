//! Redirects beyond the plain one: by mark, past an interface, to a range of ports, and of DNS.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use dragoman_harness::net::{APP_V4, APP_V6, server_v4, server_v6};
use dragoman_harness::wait;
use nix::unistd::setfsgid;
use socket2::{Domain, Socket, Type};

use crate::rig::{APP, CAPTURED, DIRECT, HERE_V4, HERE_V6, Owner, PORT, Rig, Way, listen_as_destination};

const DNS: u16 = 5353;

/// The word that answers a connection in A by a socket with this mark.
fn who_by_mark(rig: &Rig, mark: u32, target: SocketAddr) -> String {
    let mut stream: TcpStream = rig.net.app.enter(|| {
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, None).expect("a test is root");
        socket.set_mark(mark).expect("a test is root");
        socket.connect(&target.into()).expect("somebody listens");
        socket.into()
    });
    stream.shutdown(std::net::Shutdown::Write).expect("it is connected");
    let mut word = String::new();
    stream.read_to_string(&mut word).expect("plain words");
    word
}

#[test]
fn c6_a_mark_in_place_of_the_group_passes_by() {
    for way in Way::ALL {
        let rig = Rig::by(way);
        rig.listen_as_proxy(PORT);
        rig.succeed("--mark 0x11");
        for address in [server_v4(0), server_v6(0)] {
            let target = SocketAddr::new(address, 80);
            listen_as_destination(&rig.net.servers, target);
            assert_eq!(who_by_mark(&rig, 17, target), DIRECT, "{way:?}");
            assert_eq!(who_by_mark(&rig, 18, target), CAPTURED, "{way:?}: by value, not by bits");
            let group = Owner { uid: 1000, gid: 1337, groups: "1337" };
            assert_eq!(rig.who(group, target), CAPTURED, "{way:?}: the group is nobody's then");
        }
    }
}

#[test]
fn c6_exclude_interface() {
    for way in Way::ALL {
        let rig = Rig::by(way);
        let (app, servers) = (&rig.net.app, &rig.net.servers);
        app.succeed(&format!(
            "ip link add eth1 index 11 type veth peer name eth1 netns {} index 21",
            servers.name()
        ));
        for (namespace, host) in [(app, 1), (servers, 2)] {
            namespace.succeed(&format!(
                "ip addr add 198.19.0.{host}/24 dev eth1; ip addr add fd99::{host}/64 dev eth1 nodad; ip link set eth1 up"
            ));
        }
        rig.listen_as_proxy(PORT);
        let by_eth1: [IpAddr; 2] = ["198.19.0.2".parse().unwrap(), "fd99::2".parse().unwrap()];
        for address in by_eth1.into_iter().chain([server_v4(0), server_v6(0)]) {
            listen_as_destination(servers, SocketAddr::new(address, 80));
        }
        let who = |address| rig.who(APP, SocketAddr::new(address, 80));
        for arguments in ["--exclude-interface eth1", "--exclude-interface wg0,eth1"] {
            rig.succeed(arguments);
            assert_eq!(by_eth1.map(who), [DIRECT, DIRECT], "{way:?} {arguments}");
            assert_eq!([server_v4(0), server_v6(0)].map(who), [CAPTURED, CAPTURED], "{way:?} {arguments}");
        }
        rig.succeed("--exclude-interface eth10");
        assert_eq!(by_eth1.map(who), [CAPTURED, CAPTURED], "{way:?}: a name, not how it begins");
    }
}

/// One source, two servers: to one redirect port they cannot both come as they are.
#[test]
fn c7_a_range_of_ports_takes_connections_of_one_source() {
    for way in Way::ALL {
        let rig = Rig::by(way);
        for [one, other] in [[server_v4(0), server_v4(1)], [server_v6(0), server_v6(1)]] {
            let (here, app): (IpAddr, IpAddr) =
                if one.is_ipv4() { (HERE_V4, APP_V4.into()) } else { (HERE_V6, APP_V6.into()) };
            let listeners = [15001, 15002].map(|port| rig.net.app.listen(SocketAddr::new(here, port)));
            let source = SocketAddr::new(app, 40_000);
            let connect = |to| rig.connect_from(1000, source, SocketAddr::new(to, 80)).expect("captured");

            rig.succeed("--port 15001-15002");
            let open = [connect(one), connect(other)];
            let arrived = listeners.each_ref().map(|listener| listener.accept().expect("it has connected").1);
            assert_eq!(arrived, [source, source], "{way:?}");
            drop(open);

            rig.succeed("--port 15001");
            rig.net.app.succeed("conntrack -F");
            let _open = [connect(one), connect(other)];
            let arrived = [(); 2].map(|()| listeners[0].accept().expect("it has connected").1);
            assert!(arrived[0] == source && arrived[1] != source, "{way:?}: {arrived:?}");
        }
    }
}

/// Answers DNS, or what the test takes for it, with where it was asked.
fn resolver(rig: &Rig) {
    for address in [HERE_V4, HERE_V6] {
        let tcp: TcpListener = rig.net.app.listen(SocketAddr::new(address, DNS));
        thread::spawn(move || {
            tcp.incoming().flatten().for_each(|mut stream| drop(stream.write_all(b"answer")));
        });
        let udp = rig.net.app.enter(|| UdpSocket::bind((address, DNS))).expect("the port is free");
        thread::spawn(move || {
            while let Ok((_, from)) = udp.recv_from(&mut [0; 512]) {
                let _ = udp.send_to(b"answer", from);
            }
        });
    }
}

/// Asks over UDP from A, by a socket of this group that takes an answer from the target alone.
fn ask(rig: &Rig, gid: u32, target: SocketAddr) -> UdpSocket {
    let socket = rig.net.app.enter(|| {
        setfsgid(gid.into());
        let any: IpAddr = if target.is_ipv4() { APP_V4.into() } else { APP_V6.into() };
        UdpSocket::bind((any, 0)).expect("A has this address")
    });
    socket.connect(target).expect("A has a route");
    socket.set_read_timeout(Some(wait::SOON)).expect("not zero");
    socket.send(b"question").expect("it is let out");
    socket
}

/// Asks where a server of S listens, which must hear it.
fn ask_directly(rig: &Rig, gid: u32, target: SocketAddr, why: &str) {
    let server = rig.net.servers.enter(|| UdpSocket::bind(target)).expect("the port is free");
    server.set_read_timeout(Some(wait::SOON)).expect("not zero");
    let app = ask(rig, gid, target);
    let (_, from) = server.recv_from(&mut [0; 8]).unwrap_or_else(|error| panic!("{why}: {error}"));
    assert_eq!(from, app.local_addr().expect("it is bound"), "{why}");
}

#[test]
fn c8_dns_goes_to_the_port_that_is_named_over_udp_and_tcp() {
    for way in Way::ALL {
        let rig = Rig::by(way);
        resolver(&rig);
        rig.listen_as_proxy(PORT);
        let excluded = server_v4(1);
        // Ports that are excluded or not included are about what goes to dragoman.
        rig.succeed(&format!("--capture-dns {DNS} --include-port 80 --exclude-cidr {excluded}"));
        for address in [server_v4(0), server_v6(0)] {
            let dns = SocketAddr::new(address, 53);
            let answer = ask(&rig, 1000, dns).recv(&mut [0; 8]);
            assert!(matches!(answer, Ok(6)), "{way:?} {dns}: {answer:?}");
            let mut stream = rig.net.app.enter(|| TcpStream::connect(dns)).expect("captured");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("plain words");
            assert_eq!(answer, "answer", "{way:?} {dns}");
            assert_eq!(rig.who(APP, SocketAddr::new(address, 80)), CAPTURED, "{way:?}");
            ask_directly(&rig, 1000, SocketAddr::new(address, 54), "only port 53");
            ask_directly(&rig, 1337, dns, "dragoman asks the real one");
        }
        ask_directly(&rig, 1000, SocketAddr::new(excluded, 53), "exclusions hold");
    }
}
