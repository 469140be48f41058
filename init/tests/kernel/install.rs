//! One transaction: any number of times, killed anywhere, and gone without a trace.

use std::os::fd::AsRawFd;
use std::process::{Command, ExitStatus, Stdio};

use dragoman_harness::process;
use dragoman_harness::scratch::Scratch;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, socket};

use crate::rig::{INIT, Rig};

/// Tables of somebody else, with NAT at the same hook.
const FOREIGN: &str = "table ip nat {
    chain OUTPUT { type nat hook output priority -100; policy accept; ip daddr 203.0.113.9 dnat to 127.0.0.1; }
}
table inet filter {
    set hosts { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 192.0.2.7 } }
    chain output { type filter hook output priority filter; ip daddr @hosts counter packets 0 bytes 0 drop; }
}";

/// Options of every kind, with lists of one and of several.
const OPTION_SETS: [&str; 12] = [
    "",
    "--port 16001 --proxy-gid 4294967294",
    "--exclude-port 22 --exclude-uid 0 --exclude-gid 0",
    "--exclude-port 65535,1 --exclude-uid 1,4294967294 --exclude-gid 2,3,256,65536",
    "--exclude-cidr 10.0.0.0/8,172.16.0.0/12,255.255.255.255,fd00::/8,ff00::/8 --include-cidr 0.0.0.0/1,192.0.0.0/3,2000::/3,fe80::/10",
    "--include-cidr 10.0.0.0/8,192.168.0.0/16 --include-port 80,443",
    "--include-cidr 2001:db8::/32,fd00::/8 --include-port 80 --capture-loopback",
    "--ipv6 off --exclude-cidr 10.0.0.0/8,192.168.0.0/16,fd00::/8 --include-cidr 0.0.0.0/1,192.0.0.0/3",
    "--mark 0xffffffff --exclude-interface eth0,a.b-c_d@e:01234 --reject-quic --drop-invalid",
    "--port 15001-15004 --capture-dns 5353 --reject-quic --exclude-port 22 --include-port 443,80",
    "--ipv6 off --port 15001-15002 --capture-dns 5353 --capture-loopback --reject-quic --drop-invalid",
    "--inbound --inbound-port 16006 --exclude-inbound-port 22,8081 --include-inbound-port 80,443 --drop-invalid",
];

#[test]
fn c4_three_installs_are_one_install() {
    let rig = Rig::new();
    rig.load(FOREIGN);
    rig.succeed(OPTION_SETS[4]);
    let once = rig.ruleset();
    rig.succeed(OPTION_SETS[4]);
    rig.succeed(OPTION_SETS[4]);
    assert_eq!(rig.ruleset(), once);
    assert!(once.contains("redirect to :15001"), "{once}");
}

#[test]
fn c4_remove_leaves_the_ruleset_as_it_was() {
    let rig = Rig::new();
    for foreign in ["", FOREIGN] {
        rig.load(foreign);
        let before = rig.ruleset();
        for options in OPTION_SETS {
            rig.succeed(options);
            assert_ne!(rig.ruleset(), before, "{options}");
            assert_eq!(
                rig.succeed("remove"),
                "dragoman-init: removed table dragoman; no redirected flow was open\n"
            );
            assert_eq!(rig.ruleset(), before, "{options}");
        }
    }
    assert_eq!(rig.succeed("remove"), "dragoman-init: nothing to remove: there is no table dragoman\n");
}

#[test]
fn c4_an_install_with_other_options_leaves_nothing_of_the_former() {
    let rig = Rig::new();
    for options in OPTION_SETS {
        rig.succeed(options);
        let fresh = rig.ruleset();
        rig.succeed("remove");
        for former in OPTION_SETS {
            rig.succeed(former);
            rig.succeed(options);
            assert_eq!(rig.ruleset(), fresh, "{former} and then {options}");
        }
        rig.succeed("remove");
    }
}

#[test]
fn c4_what_a_stranger_put_into_the_table_is_replaced_and_removed() {
    let rig = Rig::new();
    rig.succeed("install");
    let clean = rig.ruleset();
    rig.load(
        "add chain inet dragoman other { type filter hook output priority 0; }\n\
         add rule inet dragoman output counter\nadd set inet dragoman s { type inet_service; }",
    );
    assert_ne!(rig.ruleset(), clean);
    rig.succeed("install");
    assert_eq!(rig.ruleset(), clean);
}

#[test]
fn c4_the_printed_text_makes_the_same_rules_as_netlink() {
    let rig = Rig::new();
    for options in OPTION_SETS {
        rig.succeed(&format!("install {options}"));
        let by_netlink = rig.ruleset();
        rig.succeed("remove");
        rig.net.app.succeed(&format!("{INIT} print {options} | nft -c -f -"));
        assert_eq!(rig.ruleset(), "", "nft -c only checks");
        rig.net.app.succeed(&format!("{INIT} print {options} | nft -f -"));
        assert_eq!(rig.ruleset(), by_netlink, "{options}");
        rig.net.app.succeed(&format!("{INIT} print {options} | nft -f -"));
        assert_eq!(rig.ruleset(), by_netlink, "loaded twice: {options}");
        rig.succeed("remove");
    }
}

#[test]
fn c4_thousands_of_networks_go_in_at_once() {
    let rig = Rig::new();
    let v4 = (0..4000).map(|n| format!("10.{}.{}.0/25", n / 256, n % 256));
    // The upper half of each, so that no two of them touch and are joined.
    let v6 = (1..4000).map(|n| format!("fd00:{n:x}:8000::/33"));
    let nets: Vec<String> = v4.chain(v6).collect();
    // The kernel takes 128 KiB per argument.
    let flags: Vec<String> =
        nets.chunks(1000).map(|nets| format!("--exclude-cidr {}", nets.join(","))).collect();
    rig.succeed(&flags.join(" "));
    let ruleset = rig.ruleset();
    for net in &nets {
        assert!(ruleset.contains(net.as_str()), "{net}");
    }
    rig.succeed("remove");
    assert_eq!(rig.ruleset(), "");
}

/// Kills the installer at each of its calls on the network, in turn, until it gets to its end.
#[test]
fn c4_a_kill_anywhere_leaves_the_old_rules_or_the_new() {
    let rig = Rig::new();
    rig.load(FOREIGN);
    let new = "--port 16001 --exclude-port 22,23 --exclude-cidr 10.0.0.0/8,fd00::/8";
    rig.succeed(new);
    let after = rig.ruleset();
    for old in [None, Some("--exclude-cidr 192.0.2.0/24,198.51.100.0/24"), Some("--ipv6 off")] {
        let set_old = || old.map_or_else(|| rig.succeed("remove"), |old| rig.succeed(old));
        set_old();
        let before = rig.ruleset();
        let mut found = Vec::new();
        for call in 1.. {
            set_old();
            let killed = killed_at(&rig, new, call);
            let now = rig.ruleset();
            assert!(now == before || now == after, "killed at call {call} over {old:?}:\n{now}");
            found.push(now == after);
            rig.succeed(new);
            assert_eq!(rig.ruleset(), after, "installed again after the kill at call {call}");
            if !killed {
                break;
            }
            assert!(call < 100, "the installer never ends");
        }
        assert!(found.len() > 4, "strace saw too few calls to kill at: {found:?}");
        assert_eq!(found.last(), Some(&true), "not killed, it installs");
        assert!(found.is_sorted() && !found[0], "there is one moment at which the rules change: {found:?}");
    }
}

/// Runs the installer and kills it as it enters its `call`th system call on the network; false if it ended before.
fn killed_at(rig: &Rig, options: &str, call: u32) -> bool {
    let mut command = rig.net.app.bounded("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=%network"]);
    command.args(["-e", &format!("inject=%network:signal=KILL:when={call}"), INIT]);
    let output = process::output(command.args(options.split_whitespace()));
    assert!(output.status.code() != Some(127), "strace is missing: run scripts/setup");
    !output.status.success()
}

/// The kernel may not live to see the end of a transaction either: each beginning of one, cut between two messages,
/// changes nothing, and does not stand in the way of the next.
#[test]
fn c4_a_transaction_that_is_cut_between_two_messages_changes_nothing() {
    let rig = Rig::new();
    rig.load(FOREIGN);
    let new = OPTION_SETS[9];
    rig.succeed(new);
    let after = rig.ruleset();
    for old in [None, Some(OPTION_SETS[4])] {
        old.map_or_else(|| rig.succeed("remove"), |old| rig.succeed(old));
        let before = rig.ruleset();
        let transaction = transaction(&rig, new);
        old.map_or_else(|| rig.succeed("remove"), |old| rig.succeed(old));
        let boundaries = boundaries(&transaction);
        assert!(boundaries.len() > 20, "begin, table, chains, rules, sets: {boundaries:?}");
        let (whole, cut) = boundaries.split_last().expect("not empty");
        for &end in cut {
            send(&rig, &transaction[..end]);
            assert_eq!(rig.ruleset(), before, "cut at byte {end} over {old:?}");
        }
        send(&rig, &transaction[..*whole]);
        assert_eq!(rig.ruleset(), after, "the whole of it, to show that it is one");
    }
}

/// The bytes of the transaction that an install with these options sends, as strace sees them.
fn transaction(rig: &Rig, options: &str) -> Vec<u8> {
    let scratch = Scratch::new("transaction");
    let trace = scratch.path().join("trace");
    let mut command = rig.net.app.bounded("strace");
    // The first descriptor that the program opens is its socket; what is written there is dumped as ` | offset  bytes`.
    command.args(["-qq", "-e", "trace=sendto", "-e", "write=3", "-o"]).arg(&trace).arg(INIT);
    process::succeed(command.args(options.split_whitespace()));
    let text = std::fs::read_to_string(&trace).expect("strace wrote it");
    let calls =
        text.split("sendto(").map(|call| call.lines().filter_map(|line| line.strip_prefix(" | ")).collect());
    let longest: Vec<&str> = calls.max_by_key(Vec::len).expect("something was sent");
    // Sixteen bytes in each line, then the same as text.
    let bytes = longest.iter().flat_map(|line| line[7..55].split_whitespace());
    bytes.map(|byte| u8::from_str_radix(byte, 16).expect("two digits")).collect()
}

/// Where each message ends, by the length that it begins with.
fn boundaries(transaction: &[u8]) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut at = 0;
    while let Some(length) = transaction.get(at..at + 4) {
        at += u32::from_ne_bytes(length.try_into().expect("four bytes")) as usize;
        ends.push(at);
    }
    assert_eq!(at, transaction.len());
    ends
}

/// Sends bytes to the nf_tables of A, which deals with them within the call.
fn send(rig: &Rig, bytes: &[u8]) {
    rig.net.app.enter(|| {
        let kind = (SockType::Raw, SockFlag::empty(), SockProtocol::NetlinkNetFilter);
        let socket = socket(AddressFamily::Netlink, kind.0, kind.1, kind.2).expect("a test is root");
        let sent = nix::sys::socket::send(socket.as_raw_fd(), bytes, MsgFlags::empty());
        assert_eq!(sent, Ok(bytes.len()));
    });
}

#[test]
fn c4_installers_that_run_at_the_same_time_leave_one_ruleset() {
    let rig = Rig::new();
    rig.succeed("install");
    let expected = rig.ruleset();
    rig.succeed("remove");
    for _ in 0..5 {
        let running: Vec<_> = (0..4)
            .map(|_| rig.command("install").stdout(Stdio::null()).spawn().expect("the installer starts"))
            .collect();
        let ended: Vec<_> = running.into_iter().map(|mut child| child.wait().expect("it ends")).collect();
        assert!(ended.iter().all(ExitStatus::success), "{ended:?}");
        assert_eq!(rig.ruleset(), expected);
        rig.succeed("remove");
    }
}

#[test]
fn what_only_looks_changes_nothing() {
    let rig = Rig::new();
    let dry = rig.succeed("--dry-run --exclude-port 22");
    assert_eq!(dry, rig.succeed("print --exclude-port 22"));
    assert!(dry.contains("#   3. to port 22: left alone  [exclude-port]\n"), "{dry}");
    assert!(dry.contains("\t\ttcp dport 22 return comment \"exclude-port\"\n"), "{dry}");
    assert_eq!(rig.ruleset(), "");
    rig.succeed("install");
    let installed = rig.ruleset();
    assert_eq!(
        rig.succeed("remove --dry-run"),
        "would remove the tables dragoman of nf_tables and the chains DRAGOMAN_OUTPUT and DRAGOMAN_INBOUND of iptables\n"
    );
    assert_eq!(rig.ruleset(), installed);
    // Neither needs a privilege.
    let mut unprivileged = Command::new("setpriv");
    unprivileged.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--bounding-set=-all",
        INIT,
        "print",
    ]);
    process::succeed(&mut unprivileged);
}
