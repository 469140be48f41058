//! One probe per flag: who gets the connection that an app opens, dragoman or its destination.

use std::net::{IpAddr, SocketAddr};

use dragoman_harness::net::{APP_V4, APP_V6, server_v4, server_v6};

use crate::rig::{APP, CAPTURED, DIRECT, HERE_V4, HERE_V6, Owner, PORT, Rig, Way, listen_as_destination};

/// The ports on which both destinations of a [`World`] listen.
const PORTS: [u16; 2] = [80, 443];

/// Two servers in S, each with an IPv4 and an IPv6 address, and someone who listens as the proxy in A.
struct World(Rig);

impl World {
    /// One for each way of installing the rules: what they say must not depend on it.
    fn each() -> impl Iterator<Item = World> {
        Way::ALL.into_iter().map(World::by)
    }

    fn by(way: Way) -> World {
        let rig = Rig::by(way);
        rig.listen_as_proxy(PORT);
        for address in [server_v4(0), server_v4(1), server_v6(0), server_v6(1)] {
            PORTS
                .iter()
                .for_each(|&port| listen_as_destination(&rig.net.servers, SocketAddr::new(address, port)));
        }
        World(rig)
    }

    /// Installs with these arguments and asserts what becomes of each of these connections of an ordinary app.
    fn expect(&self, arguments: &str, expected: &[(IpAddr, u16, &str)]) {
        self.0.succeed(arguments);
        for &(address, port, who) in expected {
            let got = self.0.who(APP, SocketAddr::new(address, port));
            assert_eq!(
                got,
                who,
                "install {arguments} by {:?}: {address} port {port}\n{}",
                self.0.way,
                self.0.ruleset()
            );
        }
    }

    /// Installs with these arguments and asserts what becomes of the connections of this owner, over IPv4 and IPv6.
    fn expect_of(&self, arguments: &str, owner: Owner, who: &str) {
        self.0.succeed(arguments);
        for address in [server_v4(0), server_v6(0)] {
            let got = self.0.who(owner, SocketAddr::new(address, 80));
            assert_eq!(got, who, "install {arguments}: {owner:?} to {address}\n{}", self.0.ruleset());
        }
    }
}

#[test]
fn c6_everything_that_leaves_is_captured_and_nothing_without_rules() {
    for world in World::each() {
        for (address, port) in [(server_v4(0), 80), (server_v6(0), 443)] {
            assert_eq!(world.0.who(APP, SocketAddr::new(address, port)), DIRECT, "without rules");
        }
        world.expect(
            "install",
            &[
                (server_v4(0), 80, CAPTURED),
                (server_v4(1), 443, CAPTURED),
                (server_v6(0), 80, CAPTURED),
                (server_v6(1), 443, CAPTURED),
                // Nobody listens there: what is captured never asks.
                (server_v4(0), 9, CAPTURED),
                // The redirect port of another host is a destination like any other.
                (server_v4(0), PORT, CAPTURED),
                (server_v6(0), PORT, CAPTURED),
            ],
        );
        world.0.succeed("remove");
        assert_eq!(world.0.who(APP, SocketAddr::new(server_v4(0), 80)), DIRECT, "after remove");
    }
}

#[test]
fn c6_exclude_and_include_cidr() {
    for world in World::each() {
        let (v4, v6) = (server_v4(0), server_v6(0));
        let (other_v4, other_v6) = (server_v4(1), server_v6(1));
        world.expect(
            &format!("--exclude-cidr {v4}/32 --exclude-cidr {v6}"),
            &[(v4, 80, DIRECT), (v6, 80, DIRECT), (other_v4, 80, CAPTURED), (other_v6, 80, CAPTURED)],
        );
        world.expect(
            &format!("--include-cidr {v4},{v6}/128"),
            &[(v4, 80, CAPTURED), (v6, 80, CAPTURED), (other_v4, 80, DIRECT), (other_v6, 80, DIRECT)],
        );
        world.expect(
            &format!("--include-cidr {v4}"),
            &[(v4, 80, CAPTURED), (other_v4, 80, DIRECT), (v6, 80, DIRECT), (other_v6, 80, DIRECT)],
        );
        world.expect(
            &format!("--include-cidr {v6}"),
            &[(v6, 80, CAPTURED), (other_v6, 80, DIRECT), (v4, 80, DIRECT)],
        );
        world.expect(
            &format!("--include-cidr 198.18.0.0/15,fd98::/16 --exclude-cidr {v4},{v6}"),
            &[(v4, 80, DIRECT), (v6, 80, DIRECT), (other_v4, 80, CAPTURED), (other_v6, 80, CAPTURED)],
        );
        world.expect("--exclude-cidr 0.0.0.0/0", &[(v4, 80, DIRECT), (v6, 80, CAPTURED)]);
        world.expect("--exclude-cidr ::/0", &[(v6, 80, DIRECT), (v4, 80, CAPTURED)]);
    }
}

#[test]
fn c6_the_edges_of_a_network_belong_to_it_and_their_neighbours_do_not() {
    let rig = Rig::by(Way::Netlink);
    rig.listen_as_proxy(PORT);
    // 198.18.0.4/31 is .4 and .5, and 198.18.0.6/32 follows at once.
    let host = |last: u8| IpAddr::from([198, 18, 0, last]);
    (2..=8).for_each(|last| listen_as_destination(&rig.net.servers, SocketAddr::new(host(last), 80)));
    rig.succeed("--exclude-cidr 198.18.0.4/31,198.18.0.6");
    let who: Vec<String> = (2..=8).map(|last| rig.who(APP, SocketAddr::new(host(last), 80))).collect();
    assert_eq!(who, [CAPTURED, CAPTURED, DIRECT, DIRECT, DIRECT, CAPTURED, CAPTURED]);
}

#[test]
fn c6_exclude_and_include_port() {
    for world in World::each() {
        let (v4, v6) = (server_v4(0), server_v6(0));
        for arguments in
            ["--exclude-port 80", "--exclude-port 80,81,82", "--include-port 443", "--include-port 1,443"]
        {
            world.expect(
                arguments,
                &[(v4, 80, DIRECT), (v6, 80, DIRECT), (v4, 443, CAPTURED), (v6, 443, CAPTURED)],
            );
        }
        world.expect("--exclude-port 1 --include-port 443,80", &[(v4, 80, CAPTURED), (v6, 443, CAPTURED)]);
    }
}

#[test]
fn c6_with_both_inclusions_a_connection_must_match_both() {
    for world in World::each() {
        world.expect(
            &format!("--include-cidr {},{} --include-port 443", server_v4(0), server_v6(0)),
            &[
                (server_v4(0), 443, CAPTURED),
                (server_v6(0), 443, CAPTURED),
                (server_v4(0), 80, DIRECT),
                (server_v6(0), 80, DIRECT),
                (server_v4(1), 443, DIRECT),
                (server_v6(1), 443, DIRECT),
            ],
        );
    }
}

#[test]
fn c6_exclude_uid_and_gid() {
    for world in World::each() {
        let other = Owner { uid: 1001, gid: 1001, groups: "1001" };
        for arguments in
            ["--exclude-uid 1000", "--exclude-uid 5,1000", "--exclude-gid 1000", "--exclude-gid 5,1000"]
        {
            world.expect_of(arguments, APP, DIRECT);
            world.expect_of(arguments, other, CAPTURED);
        }
        // By number, not by position: a user is not the group of the same number.
        world.expect_of("--exclude-uid 1000", Owner { uid: 1001, gid: 1000, groups: "1000" }, CAPTURED);
        world.expect_of("--exclude-gid 1000", Owner { uid: 1000, gid: 1001, groups: "1000" }, CAPTURED);
    }
}

#[test]
fn c2_the_proxys_group_passes_by_whoever_the_user_is() {
    for world in World::each() {
        let proxy = Owner { uid: 1337, gid: 1337, groups: "1337" };
        world.expect_of("install", proxy, DIRECT);
        world.expect_of("install", Owner { uid: 0, gid: 1337, groups: "0" }, DIRECT);
        world.expect_of("--proxy-gid 4000", proxy, CAPTURED);
        world.expect_of("--proxy-gid 4000", Owner { uid: 1337, gid: 4000, groups: "0" }, DIRECT);
    }
}

#[test]
fn c2_an_app_that_shares_the_proxys_user_is_captured() {
    for world in World::each() {
        world.expect_of("install", Owner { uid: 1337, gid: 1000, groups: "1000" }, CAPTURED);
        // A further group is not the group: an app that is let into the proxy's directory stays captured.
        world.expect_of("install", Owner { uid: 1337, gid: 1000, groups: "1337" }, CAPTURED);
    }
}

#[test]
fn c2_root_is_captured() {
    for world in World::each() {
        world.expect_of("install", Owner { uid: 0, gid: 0, groups: "0" }, CAPTURED);
    }
}

#[test]
fn c6_the_port_is_where_captured_connections_go() {
    for world in World::each() {
        world.0.listen_as_proxy(16001);
        world.0.succeed("--port 16001 --include-port 80,15001");
        for address in [server_v4(0), server_v6(0)] {
            assert_eq!(world.0.who(APP, SocketAddr::new(address, 80)), CAPTURED);
            assert_eq!(world.0.who(APP, SocketAddr::new(address, PORT)), CAPTURED);
            assert_eq!(world.0.who(APP, SocketAddr::new(address, 443)), DIRECT);
        }
    }
}

#[test]
fn c6_what_stays_on_the_host_passes_by_unless_asked_for() {
    for world in World::each() {
        // Loopback, and the host's own address, which is routed through loopback too.
        let local = [HERE_V4, HERE_V6, IpAddr::from([127, 9, 9, 9]), APP_V4.into(), APP_V6.into()];
        local
            .iter()
            .for_each(|&address| listen_as_destination(&world.0.net.app, SocketAddr::new(address, 8080)));
        world.expect("install", &local.map(|address| (address, 8080, DIRECT)));
        world.expect("--capture-loopback", &local.map(|address| (address, 8080, CAPTURED)));
        world.expect(
            "--capture-loopback --exclude-port 8080",
            &[(HERE_V4, 8080, DIRECT), (server_v4(0), 80, CAPTURED), (HERE_V6, 9, CAPTURED)],
        );
        world.expect(
            "--capture-loopback --include-cidr 127.9.9.9,::1",
            &[
                (IpAddr::from([127, 9, 9, 9]), 8080, CAPTURED),
                (HERE_V6, 8080, CAPTURED),
                (HERE_V4, 8080, DIRECT),
                (server_v4(0), 80, DIRECT),
            ],
        );
    }
}

#[test]
fn c6_dragomans_own_ports_on_this_host_are_never_captured() {
    for world in World::each() {
        for port in [15000, 15020] {
            for address in [HERE_V4, HERE_V6, APP_V4.into()] {
                listen_as_destination(&world.0.net.app, SocketAddr::new(address, port));
            }
        }
        for arguments in ["install", "--capture-loopback"] {
            for port in [15000, 15020] {
                world.expect(
                    arguments,
                    &[(HERE_V4, port, DIRECT), (HERE_V6, port, DIRECT), (APP_V4.into(), port, DIRECT)],
                );
            }
        }
    }
}

#[test]
fn c3_with_ipv6_off_only_ipv4_is_captured() {
    for world in World::each() {
        world.expect("--ipv6 off", &[(server_v4(0), 80, CAPTURED), (server_v6(0), 80, DIRECT)]);
        world.expect("--ipv6 on", &[(server_v4(0), 80, CAPTURED), (server_v6(0), 80, CAPTURED)]);
    }
}
