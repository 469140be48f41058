//! What `--inbound` captures: connections from outside arrive at the inbound port, and nothing else does.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread;

use dragoman_harness::net::{APP_V4, APP_V6, Net, server_v4};
use dragoman_harness::process;
use nix::sys::socket::{getsockopt, sockopt};

use crate::rig::{APP, CAPTURED, DIRECT, HERE_V4, HERE_V6, PORT, Rig, Way, listen_as_destination};

const INBOUND: u16 = 15006;
const ADDRESSES: [IpAddr; 2] = [IpAddr::V4(APP_V4), IpAddr::V6(APP_V6)];

/// A rig whose app listens on these ports of its addresses and of loopback.
fn with_app(way: Way, ports: &[u16]) -> Rig {
    let rig = Rig::by(way);
    for &port in ports {
        for address in [ADDRESSES[0], ADDRESSES[1], HERE_V4, HERE_V6] {
            listen_as_destination(&rig.net.app, SocketAddr::new(address, port));
        }
    }
    rig
}

/// Has someone listen on every address of A where the proxy would, who says `captured`.
fn listen_as_proxy(rig: &Rig, port: u16) {
    crate::rig::say(CAPTURED, rig.net.app.listen(any(port)));
}

/// Of IPv4 too: the harness's sockets take both.
fn any(port: u16) -> SocketAddr {
    SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port)
}

/// Who answers in A when S dials it: `captured`, `direct`, or nobody (an empty text).
fn from_outside(rig: &Rig, address: IpAddr, port: u16) -> String {
    let mut nc = rig.net.servers.bounded("nc");
    nc.args(["-N", "-w", "5"]).args([address.to_string(), port.to_string()]);
    String::from_utf8(process::output(&mut nc).stdout).expect("listeners say plain words")
}

#[test]
fn c6_what_comes_from_outside_is_captured_and_this_host_to_itself_is_not() {
    for way in Way::ALL {
        let rig = with_app(way, &[8080]);
        listen_as_proxy(&rig, INBOUND);
        rig.listen_as_proxy(PORT);
        for address in ADDRESSES {
            assert_eq!(from_outside(&rig, address, 8080), DIRECT, "without rules");
        }
        let said = rig.succeed("install --inbound");
        assert!(said.contains("; from outside, to port 15006: "), "{said}");
        for address in ADDRESSES {
            assert_eq!(from_outside(&rig, address, 8080), CAPTURED, "{way:?}\n{}", rig.ruleset());
            assert_eq!(from_outside(&rig, address, 9), CAPTURED, "{way:?}: nobody listens there");
            let itself = rig.who(APP, SocketAddr::new(address, 8080));
            assert_eq!(itself, DIRECT, "{way:?}: it never leaves the host");
        }
        for address in [HERE_V4, HERE_V6] {
            assert_eq!(rig.who(APP, SocketAddr::new(address, 8080)), DIRECT, "{way:?}");
        }
        assert_eq!(rig.who(APP, SocketAddr::new(server_v4(0), 80)), CAPTURED, "{way:?}: outbound as ever");
        rig.succeed("install");
        assert_eq!(from_outside(&rig, ADDRESSES[0], 8080), DIRECT, "{way:?}: without --inbound no more");
    }
}

/// Redirected to a port where nobody listens, a connection is refused: the app never sees it.
#[test]
fn c1_while_the_proxy_is_down_what_comes_from_outside_is_refused() {
    for way in Way::ALL {
        let rig = with_app(way, &[8080]);
        rig.succeed("install --inbound");
        for address in ADDRESSES {
            let refused = rig.net.servers.try_connect(SocketAddr::new(address, 8080));
            let error = refused.err().unwrap_or_else(|| panic!("{way:?}: {address} was reached"));
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{way:?}");
        }
    }
}

#[test]
fn c6_exclude_and_include_inbound_port() {
    for way in Way::ALL {
        let rig = with_app(way, &[8080, 8081, 15020]);
        listen_as_proxy(&rig, 16006);
        for (arguments, expected) in [
            ("--inbound", [(8080, CAPTURED), (8081, CAPTURED), (15020, DIRECT)]),
            ("--inbound --exclude-inbound-port 8081,22", [(8080, CAPTURED), (8081, DIRECT), (15020, DIRECT)]),
            ("--inbound --include-inbound-port 8080", [(8080, CAPTURED), (8081, DIRECT), (15020, DIRECT)]),
            (
                "--inbound --include-inbound-port 8081,80 --drop-invalid",
                [(8080, DIRECT), (8081, CAPTURED), (15020, DIRECT)],
            ),
        ] {
            rig.succeed(&format!("{arguments} --inbound-port 16006"));
            for (address, (port, who)) in ADDRESSES.into_iter().flat_map(|one| expected.map(|it| (one, it))) {
                let got = from_outside(&rig, address, port);
                assert_eq!(got, who, "{way:?} {arguments}: {address} port {port}\n{}", rig.ruleset());
            }
            assert_eq!(from_outside(&rig, ADDRESSES[0], 16006), CAPTURED, "the port itself is left alone");
        }
    }
}

#[test]
fn c6_the_original_destination_is_known_of_what_comes_from_outside() {
    let rig = Rig::new();
    rig.succeed("--inbound");
    let listener = rig.net.app.listen(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), INBOUND));
    let _client = rig.net.servers.connect(SocketAddr::new(ADDRESSES[0], 8080));
    let (stream, _) = listener.accept().unwrap();
    let original = getsockopt(&stream, sockopt::OriginalDst).unwrap();
    assert_eq!(u32::from_be(original.sin_addr.s_addr), u32::from(APP_V4));
    assert_eq!(u16::from_be(original.sin_port), 8080);

    let rig = Rig::new();
    rig.succeed("--inbound");
    let listener = rig.net.app.listen(any(INBOUND));
    let _client = rig.net.servers.connect(SocketAddr::new(ADDRESSES[1], 8080));
    let (stream, _) = listener.accept().unwrap();
    let original = getsockopt(&stream, sockopt::Ip6tOriginalDst).unwrap();
    assert_eq!(Ipv6Addr::from(original.sin6_addr.s6_addr), APP_V6);
    assert_eq!(u16::from_be(original.sin6_port), 8080);
}

/// A host that passes packets on, such as a laptop with containers, does not take what is for them: S sends A what
/// is for an address of a third namespace behind A.
#[test]
fn c6_what_is_for_another_host_passes() {
    for way in Way::ALL {
        let rig = Rig::by(way);
        listen_as_proxy(&rig, INBOUND);
        let behind = Net::new();
        behind.app.succeed("ip link set eth0 down; ip link set eth0 name eth7");
        let a = rig.net.app.name();
        behind.app.succeed(&format!("ip link set eth7 netns {a}"));
        rig.net.app.succeed(
            "ip link set eth7 up; ip addr add 192.0.2.1/24 dev eth7; sysctl -qw net.ipv4.ip_forward=1",
        );
        behind.servers.succeed(
            "ip addr flush dev eth0; ip addr add 192.0.2.2/24 dev eth0; ip route add default via 192.0.2.1",
        );
        rig.net.servers.succeed(&format!("ip route add 192.0.2.0/24 via {APP_V4}"));
        listen_as_destination(&behind.servers, "192.0.2.2:8080".parse().unwrap());
        rig.succeed("install --inbound");
        assert_eq!(from_outside(&rig, [192, 0, 2, 2].into(), 8080), DIRECT, "{way:?}");
        assert_eq!(from_outside(&rig, [192, 0, 2, 1].into(), 8080), CAPTURED, "{way:?}: A's own address");
    }
}

/// What `verify --inbound` says of what comes from outside, and how it ends.
fn verify(rig: &Rig) -> (String, Option<i32>) {
    let output = rig.init("verify --inbound");
    let said = String::from_utf8_lossy(&output.stdout);
    (said.lines().nth(2).unwrap_or_default().to_owned(), output.status.code())
}

/// A rig with rules in which the proxy seems to run.
fn with_proxy() -> Rig {
    let rig = Rig::new();
    rig.succeed("install --inbound");
    for address in [HERE_V4, HERE_V6] {
        answer_as_proxy(&rig, SocketAddr::new(address, PORT));
    }
    rig
}

#[test]
fn c9_verify_says_what_can_be_shown_of_what_comes_from_outside() {
    let rig = Rig::new();
    rig.succeed("install --inbound");
    let down =
        "Inbound: skipped: the proxy is not running: connections from outside are refused at port 15006";
    assert_eq!(verify(&rig), (down.to_owned(), Some(0)));
    let json = rig.succeed("verify --inbound --json");
    assert!(json.contains(",\"inbound\":{\"outcome\":\"skipped\",\"detail\":\"the proxy is not"), "{json}");

    let failed = |address: &str| {
        let what = "the proxy runs, but does not listen on";
        let said =
            format!("Inbound: FAILED: {what} {address}, where connections from outside are redirected");
        (said, Some(1))
    };
    let rig = with_proxy();
    assert_eq!(verify(&rig), failed("0.0.0.0:15006"));
    let _v4 = rig.net.app.listen(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), INBOUND));
    assert_eq!(verify(&rig), failed("[::]:15006"));

    let rig = with_proxy();
    let _both = rig.net.app.listen(any(INBOUND));
    let up =
        "Inbound: skipped: somebody listens on port 15006; only a connection from outside can prove more";
    assert_eq!(verify(&rig), (up.to_owned(), Some(0)));
}

/// Answers the check's questions as dragoman does.
fn answer_as_proxy(rig: &Rig, address: SocketAddr) {
    use dragoman_capture::probe;
    let listener = rig.net.app.listen(address);
    let ip: IpAddr = if address.is_ipv4() { probe::IPV4.into() } else { probe::IPV6.into() };
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; probe::REQUEST_MAX_BYTES];
            let len = stream.read(&mut request).unwrap_or(0);
            let answer = probe::answer(&request[..len], SocketAddr::new(ip, probe::PORT));
            let _ = stream.write_all(&answer.unwrap_or_default());
        }
    });
}

/// Of a flow from outside too, `remove` says that it was open.
#[test]
fn c4_remove_counts_flows_from_outside() {
    let rig = Rig::new();
    rig.succeed("install --inbound");
    let listener = rig.net.app.listen(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), INBOUND));
    let _client = rig.net.servers.connect(SocketAddr::new(ADDRESSES[0], 8080));
    let _server = listener.accept().unwrap();
    let said = rig.succeed("remove");
    assert!(said.contains(" under 1 live flow through the proxy"), "{said}");
}
