//! IPv6 where it is, is not, and comes later. The switches are `net.ipv6.conf.*.disable_ipv6`.

use std::net::SocketAddr;

use dragoman_harness::net::{APP_V6, SERVER_V6, server_v4, server_v6};
use dragoman_harness::process;

use crate::rig::{APP, CAPTURED, INIT, PORT, Rig, complaint};

const NO_LOOPBACK: &str = "lo has no ::1, where captured connections would arrive; \
    set net.ipv6.conf.lo.disable_ipv6=0, or use --ipv6 off to let IPv6 pass by";

fn disable(rig: &Rig, interface: &str, disabled: u8) {
    rig.net.app.succeed(&format!("sysctl -qw net.ipv6.conf.{interface}.disable_ipv6={disabled}"));
}

fn who(rig: &Rig, ipv6: bool) -> String {
    let address = if ipv6 { server_v6(0) } else { server_v4(0) };
    rig.who(APP, SocketAddr::new(address, 80))
}

#[test]
fn c3_on_everywhere_both_are_captured() {
    let rig = Rig::new();
    rig.listen_as_proxy(PORT);
    assert_eq!(
        rig.succeed("install"),
        "dragoman-init: new outbound TCP connections over IPv4 and IPv6 go to port 15001, save for those of group \
         1337: table inet dragoman, 8 rules\n"
    );
    assert_eq!([who(&rig, false), who(&rig, true)], [CAPTURED, CAPTURED]);
}

#[test]
fn c3_off_everywhere_rules_wait_for_addresses_that_come_later() {
    let rig = Rig::new();
    rig.listen_as_proxy(PORT);
    disable(&rig, "all", 1);
    disable(&rig, "default", 1);
    rig.succeed("install");
    assert_eq!(who(&rig, false), CAPTURED);
    assert_eq!(who(&rig, true), "", "there is no IPv6 to be captured");
    // The listener of ::1 has outlived its address, which comes back by itself.
    disable(&rig, "all", 0);
    address_again(&rig);
    assert_eq!(who(&rig, true), CAPTURED, "the rules were there first");
}

#[test]
fn c3_off_on_the_interface_alone_is_no_error() {
    let rig = Rig::new();
    rig.listen_as_proxy(PORT);
    disable(&rig, "eth0", 1);
    rig.succeed("install");
    assert_eq!([who(&rig, false), who(&rig, true)], [CAPTURED.to_owned(), String::new()]);
    disable(&rig, "eth0", 0);
    address_again(&rig);
    assert_eq!(who(&rig, true), CAPTURED);
}

#[test]
fn c3_off_on_loopback_alone_is_an_error_and_installs_nothing() {
    let rig = Rig::new();
    disable(&rig, "lo", 1);
    for (arguments, expected) in [
        ("install", format!("eth0 has an IPv6 address, but {NO_LOOPBACK}")),
        ("print", format!("eth0 has an IPv6 address, but {NO_LOOPBACK}")),
        ("--ipv6 on", format!("--ipv6 on: {NO_LOOPBACK}")),
    ] {
        let output = rig.init(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments}");
        assert_eq!(complaint(&output), expected);
        assert_eq!(rig.ruleset(), "", "not even IPv4: together or not at all");
    }
    rig.listen_as_proxy_on_ipv4();
    assert_eq!(
        rig.succeed("--ipv6 off"),
        "dragoman-init: new outbound TCP connections over IPv4 (not IPv6: --ipv6 off) go to port 15001, save for \
         those of group 1337: table ip dragoman, 8 rules\n"
    );
    assert_eq!(who(&rig, false), CAPTURED);
}

/// strace hides the file by which the kernel says that it has IPv6, as one booted with `ipv6.disable=1` lacks it.
#[test]
fn c3_off_in_the_kernel_ipv4_goes_alone() {
    let rig = Rig::new();
    let mut command = rig.net.app.bounded("strace");
    command.args(["--quiet=all", "-o", "/dev/null", "-P", "/proc/self/net/if_inet6"]);
    command.args(["-e", "inject=openat:error=ENOENT", INIT]);
    assert_eq!(
        process::succeed(&mut command),
        "dragoman-init: new outbound TCP connections over IPv4 (not IPv6: this kernel cannot) go to port 15001, save \
         for those of group 1337: table ip dragoman, 8 rules\n"
    );
    rig.listen_as_proxy_on_ipv4();
    assert_eq!(who(&rig, false), CAPTURED);
    let output = process::output(command.args(["--ipv6", "on"]));
    assert_eq!(complaint(&output), "--ipv6 on: this kernel has no IPv6; use --ipv6 auto");
}

/// No back-end for IPv6: an error where somebody has an address, and IPv4 alone where nobody has.
#[test]
fn c3_what_cannot_be_captured_is_an_error_only_where_somebody_has_it() {
    let rig = Rig::new();
    let install = || process::output(rig.without_sockets("netfilter,inet6").arg(INIT));
    let output = install();
    assert_eq!(output.status.code(), Some(1));
    assert!(!complaint(&output).contains("IPv4 alone"), "{}", complaint(&output));
    disable(&rig, "all", 1);
    let output = install();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "dragoman-init: new outbound TCP connections over IPv4 (not IPv6: this kernel cannot) go to port 15001, save \
         for those of group 1337: by iptables-legacy-restore, chains DRAGOMAN_OUTPUT of tables nat and filter, \
         8 rules\n"
    );
    rig.listen_as_proxy_on_ipv4();
    assert_eq!(who(&rig, false), CAPTURED);
}

#[test]
fn c3_an_error_leaves_the_rules_of_before() {
    let rig = Rig::new();
    rig.succeed("--exclude-port 22");
    let before = rig.ruleset();
    disable(&rig, "lo", 1);
    assert_eq!(rig.init("install").status.code(), Some(1));
    assert_eq!(rig.ruleset(), before);
}

#[test]
fn c3_off_by_default_counts_for_nothing_where_addresses_are() {
    let rig = Rig::new();
    rig.listen_as_proxy(PORT);
    disable(&rig, "default", 1);
    rig.succeed("install");
    assert_eq!([who(&rig, false), who(&rig, true)], [CAPTURED, CAPTURED]);
}

/// The kernel forgets addresses and routes of an interface that loses IPv6.
fn address_again(rig: &Rig) {
    rig.net.app.succeed(&format!("ip addr replace {APP_V6}/64 dev eth0 nodad"));
    rig.net.app.succeed(&format!("ip route replace ::/0 via {SERVER_V6}"));
}
