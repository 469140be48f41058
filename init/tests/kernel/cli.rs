//! What a person sees who asks for the wrong thing, or from the wrong place.

use dragoman_harness::process;
use dragoman_harness::scratch::Scratch;

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
        "--exclude-interface",
        "--mark",
        "--ipv6",
        "--capture-loopback",
        "--capture-dns",
        "--reject-quic",
        "--drop-invalid",
        "--json",
        "--iptables",
        "--options",
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

/// What leaves open whether the kernel has changed anything is not tried in another way.
#[test]
fn a_failure_of_netlink_itself_ends_the_install() {
    let rig = Rig::new();
    for (fault, expected) in [
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

#[test]
fn a_file_of_options_is_as_good_as_the_command_line() {
    let rig = Rig::new();
    let scratch = Scratch::new("options");
    let file =
        scratch.write("options", "# ours\nexclude-port 22,5432\nexclude-cidr = 10.0.0.0/8\nreject-quic\n");
    rig.succeed("--exclude-port 22,5432 --exclude-cidr 10.0.0.0/8 --reject-quic");
    let expected = rig.ruleset();
    rig.succeed(&format!("--options {}", file.display()));
    assert_eq!(rig.ruleset(), expected);
    let mut command = rig.net.app.bounded("env");
    process::succeed(command.args([format!("DRAGOMAN_INIT_OPTIONS={}", file.display()), INIT.to_owned()]));
    assert_eq!(rig.ruleset(), expected);
    let wrong = scratch.write("wrong", "reject-quic\n\nexclude-port 443\n");
    let output = rig.init(&format!("--options {}", wrong.display()));
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        complaint(&output),
        format!(
            "{}:3: exclude-port 443: keeps TCP to that port from being captured, so --reject-quic has no point",
            wrong.display()
        )
    );
}
