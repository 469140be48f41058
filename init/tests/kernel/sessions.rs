//! Sessions that are open while rules come, change and go.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::Stdio;

use dragoman_harness::net::{APP_V4, server_v4, server_v6};
use dragoman_harness::{Peer, servers, wait};

use crate::rig::{APP, DIRECT, HERE_V4, HERE_V6, PORT, Rig, Way, listen_as_destination};

/// Both ends of one connection.
struct Session {
    client: Peer,
    server: Peer,
}

impl Session {
    /// From A to a listener in S.
    fn outbound(rig: &Rig, address: SocketAddr) -> Session {
        let listener = rig.net.servers.listen(address);
        let client = rig.net.app.connect(address);
        Session { client, server: Peer::new(listener.accept().expect("the client has connected").0) }
    }

    /// From S to a listener in A.
    fn inbound(rig: &Rig, address: SocketAddr) -> Session {
        let listener = rig.net.app.listen(address);
        let client = rig.net.servers.connect(address);
        Session { client, server: Peer::new(listener.accept().expect("the client has connected").0) }
    }

    /// A word each way; the given side speaks first, so that its packet is the one that conntrack sees first.
    fn talk(&mut self, client_first: bool, when: &str) {
        let Session { client, server } = self;
        let (first, second) = if client_first { (client, server) } else { (server, client) };
        pass(first, second, when);
        pass(second, first, when);
    }
}

fn pass(from: &mut Peer, to: &mut Peer, when: &str) {
    from.send(b"word").unwrap_or_else(|e| panic!("{when}: {e}"));
    assert_eq!(to.read_exact(4).unwrap_or_else(|e| panic!("{when}: {e}")), b"word");
}

/// No NAT and no conntrack is there when these sessions begin: the rules bring it, and the kernel takes the first
/// packet that it sees of each session for the first of a new one.
#[test]
fn c4_sessions_from_before_the_rules_stay_alive() {
    for (way, client_first) in Way::ALL.into_iter().flat_map(|way| [(way, true), (way, false)]) {
        let rig = Rig::by(way);
        let mut sessions = [
            Session::outbound(&rig, SocketAddr::new(server_v4(0), 7)),
            Session::outbound(&rig, SocketAddr::new(server_v6(0), 7)),
            Session::inbound(&rig, SocketAddr::new(APP_V4.into(), 7)),
        ];
        let mut talk = |when: &str| sessions.iter_mut().for_each(|one| one.talk(client_first, when));
        talk("before");
        rig.succeed("install");
        talk("after install");
        rig.succeed("install");
        talk("after a second install");
        rig.succeed("--exclude-port 22");
        talk("after an install with other options");
        rig.succeed("remove");
        talk("after remove");
        rig.succeed("install");
        talk("after one more install");
    }
}

#[test]
fn c4_an_ssh_session_stays_alive() {
    Way::ALL.into_iter().map(Rig::by).for_each(|rig| ssh_session_stays_alive(&rig));
}

fn ssh_session_stays_alive(rig: &Rig) {
    let ssh = servers::ssh(&rig.net.servers);
    let mut command = rig.net.app.command("ssh");
    command.arg("-q").arg("-i").arg(&ssh.key);
    for option in ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes"] {
        command.args(["-o", option]);
    }
    command.arg(format!("root@{}", server_v4(0))).arg("cat");
    let mut client = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("ssh starts");
    let mut input = client.stdin.take().expect("piped");
    let mut output = BufReader::new(client.stdout.take().expect("piped"));
    let mut talk = |when: &str| {
        writeln!(input, "{when}").unwrap_or_else(|e| panic!("{when}: {e}"));
        let mut line = String::new();
        output.read_line(&mut line).unwrap_or_else(|e| panic!("{when}: {e}"));
        assert_eq!(line.trim_end(), when, "the session is gone");
    };
    talk("before");
    for step in ["install", "install", "--exclude-cidr 10.0.0.0/8", "remove", "install", "remove"] {
        rig.succeed(step);
        talk(step);
    }
    drop(input);
    assert!(client.wait().expect("ssh ends").success());
}

/// A session that goes through the proxy, which is played by the test.
fn captured(rig: &Rig, target: SocketAddr) -> Session {
    let here = if target.is_ipv4() { HERE_V4 } else { HERE_V6 };
    let listener = rig.net.app.listen(SocketAddr::new(here, PORT));
    let client = rig.net.app.connect(target);
    Session { client, server: Peer::new(listener.accept().expect("the connection was captured").0) }
}

#[test]
fn c4_captured_sessions_stay_alive_over_a_reinstall() {
    for rig in Way::ALL.map(Rig::by) {
        rig.succeed("install");
        let mut sessions =
            [server_v4(0), server_v6(0)].map(|server| captured(&rig, SocketAddr::new(server, 80)));
        for step in
            ["install", "--exclude-cidr 198.18.0.0/15,fd98::/16", "--capture-loopback", "--include-port 1"]
        {
            rig.succeed(step);
            sessions.iter_mut().for_each(|one| one.talk(true, step));
        }
    }
}

/// The kernel translates while a NAT rule is there. Without another one, to remove the rules cuts what they serve,
/// and `remove` says so.
#[test]
fn c4_remove_says_how_many_live_flows_it_cuts() {
    let rig = Rig::new();
    rig.succeed("install");
    let mut sessions = [server_v4(0), server_v6(0)].map(|server| captured(&rig, SocketAddr::new(server, 80)));
    sessions.iter_mut().for_each(|one| one.talk(true, "captured"));
    assert_eq!(
        rig.succeed("remove"),
        "dragoman-init: removed table dragoman under 2 live flows through the proxy; they break now unless other NAT \
         rules keep translation on (--drain lets them end first)\n"
    );
}

#[test]
fn c4_where_other_nat_rules_are_captured_sessions_outlive_the_removal() {
    let rig = Rig::new();
    rig.load("table inet other { chain output { type nat hook output priority -90; tcp dport 1 redirect to :1; }; }");
    rig.succeed("install");
    let mut session = captured(&rig, SocketAddr::new(server_v4(0), 80));
    session.talk(true, "captured");
    assert!(rig.succeed("remove").contains(" under 1 live flow through the proxy; "));
    session.talk(true, "after remove");
}

#[test]
fn c4_draining_lets_new_connections_by_and_captured_ones_end() {
    for way in Way::ALL {
        let rig = Rig::by(way);
        let target = SocketAddr::new(server_v4(0), 80);
        listen_as_destination(&rig.net.servers, target);
        rig.succeed("install");
        let mut session = captured(&rig, target);
        session.talk(true, "captured");
        let draining = rig.command("remove --drain 60").stdout(Stdio::piped()).spawn().expect("it starts");
        wait::until("new connections are let by", wait::SOON, || rig.who(APP, target) == DIRECT);
        session.talk(true, "while draining");
        drop(session);
        let output = draining.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.starts_with("dragoman-init: removed "), "{way:?}: {said}");
        assert!(said.ends_with("; no redirected flow was open\n"), "{way:?}: {said}");
        assert!(!rig.ruleset().to_lowercase().contains("dragoman"), "{way:?}");
    }
}

#[test]
fn c4_draining_ends_when_its_time_is_up() {
    let rig = Rig::new();
    rig.succeed("--ipv6 off");
    let session = captured(&rig, SocketAddr::new(server_v4(0), 80));
    assert!(rig.succeed("remove --drain 1").contains(" under 1 live flow through the proxy; "));
    assert_eq!(rig.ruleset(), "");
    drop(session);
}
