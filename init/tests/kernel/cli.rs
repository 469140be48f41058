//! What a person sees who asks for the wrong thing, or from the wrong place.

use dragoman_harness::process;

use crate::rig::{INIT, Rig, complaint};

#[test]
fn wrong_input_is_one_line_and_exit_2() {
    let rig = Rig::new();
    for (arguments, variable, expected) in [
        ("--exclude-port 99999", "", "--exclude-port 99999: expected a port from 1 to 65535"),
        (
            "",
            "DRAGOMAN_INIT_EXCLUDE_UID=root",
            "DRAGOMAN_INIT_EXCLUDE_UID=root: expected a user's number, not a name",
        ),
        ("verify --drain 3", "", "--drain: goes with remove only"),
        (
            "--proxy-gid 0",
            "",
            "--proxy-gid 0: would let every process of root's group pass by; run the proxy in a group of its own",
        ),
    ] {
        let mut command = rig.net.app.bounded("env");
        let words = [variable, INIT, arguments].join(" ");
        let output = process::output(command.args(words.split_whitespace()));
        assert_eq!(output.status.code(), Some(2), "{words}");
        assert_eq!(complaint(&output), expected);
        assert!(output.stdout.is_empty());
    }
    assert_eq!(rig.ruleset(), "");
}

#[test]
fn help_names_every_option_and_fits_a_screen() {
    let rig = Rig::new();
    let help = rig.succeed("--help");
    for option in [
        "--port",
        "--proxy-gid",
        "--exclude-cidr",
        "--include-cidr",
        "--exclude-port",
        "--include-port",
        "--exclude-uid",
        "--exclude-gid",
        "--ipv6",
        "--capture-loopback",
        "--drain",
        "--dry-run",
        "--version",
    ] {
        assert!(help.contains(option), "{option}");
    }
    assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
    assert_eq!(rig.succeed("-h"), help);
    assert_eq!(rig.succeed("--version"), format!("dragoman-init {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn without_the_capability_it_says_what_it_needs_and_what_it_tried() {
    let rig = Rig::new();
    rig.succeed("install");
    let before = rig.ruleset();
    let nobody = "--reuid=65534 --regid=65534 --clear-groups";
    let weak_root = "--inh-caps=-net_admin --bounding-set=-net_admin";
    for (who, what) in [(nobody, "install"), (weak_root, "install"), (nobody, "remove")] {
        let mut command = rig.net.app.bounded("setpriv");
        let output = process::output(command.args(who.split(' ')).args([INIT, what]));
        assert_eq!(output.status.code(), Some(1), "{who} {what}");
        assert_eq!(
            complaint(&output),
            "changing rules needs CAP_NET_ADMIN (run as root, or add the capability); \
             tried: nf_tables over netlink: EPERM"
        );
    }
    assert_eq!(rig.ruleset(), before);
}

#[test]
fn the_capability_alone_is_enough() {
    let rig = Rig::new();
    let mut command = rig.net.app.bounded("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command.args(["--inh-caps=+net_admin", "--ambient-caps=+net_admin", "--bounding-set=-all,+net_admin"]);
    // A large batch needs a larger send buffer, which is the capability's to give as well.
    let nets: Vec<String> = (0..4000).map(|n| format!("10.{}.{}.0/25", n / 256, n % 256)).collect();
    process::succeed(command.args([INIT, "--exclude-cidr", &nets.join(",")]));
    assert!(rig.ruleset().contains("10.15.159.0/25"));
}

/// strace stands in for a kernel that lacks what is asked for.
#[test]
fn a_kernel_without_nf_tables_is_named_with_what_was_tried() {
    let rig = Rig::new();
    for (fault, expected) in [
        (
            "socket:error=EPROTONOSUPPORT",
            "this kernel offers no nf_tables (CONFIG_NF_TABLES, Linux 3.13 or later; it may need `modprobe \
             nf_tables`); tried: nf_tables over netlink: socket(AF_NETLINK, NETLINK_NETFILTER): EPROTONOSUPPORT \
             (Protocol not supported)",
        ),
        (
            "sendto:error=ENOBUFS",
            "sending to the kernel: ENOBUFS (No buffer space available); tried: nf_tables over netlink",
        ),
        (
            "recvfrom:error=EAGAIN",
            "waiting for the kernel's answer: ETIMEDOUT (Connection timed out); tried: nf_tables over netlink",
        ),
    ] {
        let mut command = rig.net.app.bounded("strace");
        command.args([
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=%network",
            "-e",
            &format!("inject={fault}"),
            INIT,
        ]);
        let output = process::output(&mut command);
        assert_eq!(output.status.code(), Some(1), "{fault}");
        assert_eq!(complaint(&output), expected);
        assert_eq!(rig.ruleset(), "");
    }
}
