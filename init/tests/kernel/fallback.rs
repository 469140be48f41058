//! Kernels without nf_tables NAT, without netlink, or with nothing at all; systems without the programs.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use dragoman_harness::net::{server_v4, server_v6};
use dragoman_harness::process;
use dragoman_harness::scratch::Scratch;

use crate::rig::{APP, CAPTURED, DIRECT, INIT, PORT, Rig, Way, complaint, listen_as_destination};

/// Rules of others, in every table in which dragoman has some.
const FOREIGN: &str = "*nat\n:MINE - [0:0]\n-A OUTPUT -d 203.0.113.9/32 -j MINE\n-A MINE -p tcp -j DNAT \
    --to-destination 127.0.0.1\nCOMMIT\n*filter\n-A OUTPUT -d 192.0.2.7/32 -j DROP\nCOMMIT";

const OPTION_SETS: [&str; 5] = [
    "install",
    "--port 16001 --exclude-port 22 --exclude-uid 0",
    "--exclude-cidr 10.0.0.0/8,fd00::/8 --include-cidr 0.0.0.0/1,192.0.0.0/3,2000::/3 --include-port 80,443",
    "--ipv6 off --capture-loopback --capture-dns 5353 --reject-quic --drop-invalid --port 15001-15004",
    "--mark 7 --exclude-interface wg0 --exclude-gid 5,6 --exclude-port 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16",
];

/// The rules of both versions of IP as the back-end's own program shows them, without counters and comments of its
/// own, and without what is empty: the kernel keeps a table that was once used.
fn saved(rig: &Rig, backend: &str) -> String {
    ["iptables", "ip6tables"]
        .map(|program| {
            let text = rig.net.app.succeed(&format!("{program}-{backend}-save"));
            let own =
                |line: &&str| line.starts_with("-A ") || (line.starts_with(':') && line.contains(" - "));
            text.lines().filter(own).map(|line| line.to_owned() + "\n").collect::<String>()
        })
        .join("--\n")
}

fn backend(way: Way) -> &'static str {
    match way {
        Way::Netlink | Way::NetlinkApart => panic!("netlink is no back-end of iptables"),
        Way::IptablesNft => "nft",
        Way::IptablesLegacy => "legacy",
    }
}

#[test]
fn c5_without_nat_for_both_versions_in_one_table_each_has_its_own() {
    let mut rig = Rig::by(Way::NetlinkApart);
    rig.load("table inet filter { chain output { type filter hook output priority 0; }; }");
    let before = rig.ruleset();
    for options in
        ["install", OPTION_SETS[2], OPTION_SETS[4], "--reject-quic --drop-invalid --capture-dns 5353"]
    {
        let said = rig.succeed(options);
        assert!(said.contains(": tables ip and ip6 dragoman, "), "{said}");
        let apart = rig.ruleset();
        assert!(apart.contains("table ip dragoman") && apart.contains("table ip6 dragoman"), "{apart}");
        rig.succeed(options);
        assert_eq!(rig.ruleset(), apart, "{options}");
        // The kernel is replaced by a newer one, and then by the old one again: no table stays behind.
        rig.way = Way::Netlink;
        assert!(rig.succeed(options).contains(": table inet dragoman, "));
        assert!(!rig.ruleset().contains("table ip dragoman"), "{}", rig.ruleset());
        rig.way = Way::NetlinkApart;
        rig.succeed(options);
        assert_eq!(rig.ruleset(), apart, "{options}");
        assert!(rig.succeed("remove").starts_with("dragoman-init: removed table dragoman; "));
        assert_eq!(rig.ruleset(), before, "{options}");
    }
    assert!(rig.succeed("--ipv6 off").contains(": table ip dragoman, "), "that takes no such table");
}

const BOTH: [Way; 2] = [Way::IptablesNft, Way::IptablesLegacy];

#[test]
fn c5_without_netlink_or_nf_tables_iptables_installs_the_rules() {
    for way in BOTH {
        let rig = Rig::by(way);
        let backend = backend(way);
        assert_eq!(
            rig.succeed("install"),
            format!(
                "dragoman-init: new outbound TCP connections over IPv4 and IPv6 go to port 15001, save for those of \
                 group 1337: by iptables-{backend}-restore, chains DRAGOMAN_OUTPUT of tables nat and filter, 8 rules\n"
            )
        );
        rig.listen_as_proxy(PORT);
        for address in [server_v4(0), server_v6(0)] {
            assert_eq!(rig.who(APP, SocketAddr::new(address, 80)), CAPTURED, "{way:?}");
        }
        let verified = rig.init("verify");
        assert!(!verified.status.success(), "who listens is not the proxy: {}", process::text(&verified));
        assert_eq!(
            rig.succeed("remove"),
            "dragoman-init: removed the iptables chains DRAGOMAN_OUTPUT; no redirected flow was open\n"
        );
        listen_as_destination(&rig.net.servers, SocketAddr::new(server_v4(0), 80));
        assert_eq!(rig.who(APP, SocketAddr::new(server_v4(0), 80)), DIRECT, "{way:?}");
    }
}

#[test]
fn c9_rules_of_iptables_are_proved_like_any_other() {
    for way in BOTH {
        let rig = Rig::by(way);
        rig.succeed("install");
        assert_eq!(rig.succeed("verify").matches("proved: ").count(), 2, "{way:?}");
        rig.succeed("remove");
        assert_eq!(rig.init("verify").status.code(), Some(1), "{way:?}");
    }
}

#[test]
fn c4_iptables_three_installs_are_one_and_remove_leaves_what_was_there() {
    for way in BOTH {
        let rig = Rig::by(way);
        let backend = backend(way);
        for foreign in ["", FOREIGN] {
            for program in ["iptables", "ip6tables"] {
                let text = if program == "iptables" { foreign } else { "" };
                rig.net.app.succeed(&format!("{program}-{backend}-restore <<'END'\n{text}\nEND"));
            }
            let before = saved(&rig, backend);
            for options in OPTION_SETS {
                rig.succeed(options);
                let once = saved(&rig, backend);
                assert!(once.contains("DRAGOMAN_OUTPUT"), "{once}");
                rig.succeed(options);
                rig.succeed(options);
                assert_eq!(saved(&rig, backend), once, "{way:?} {options}");
                rig.succeed("remove");
                assert_eq!(saved(&rig, backend), before, "{way:?} {options}");
            }
        }
        assert_eq!(rig.succeed("remove"), "dragoman-init: nothing to remove: there is no table dragoman\n");
    }
}

#[test]
fn c4_iptables_an_install_with_other_options_leaves_nothing_of_the_former() {
    for way in BOTH {
        let rig = Rig::by(way);
        for options in OPTION_SETS {
            rig.succeed(options);
            let fresh = saved(&rig, backend(way));
            rig.succeed("remove");
            for former in OPTION_SETS {
                rig.succeed(former);
                rig.succeed(options);
                assert_eq!(saved(&rig, backend(way)), fresh, "{way:?}: {former} and then {options}");
            }
            rig.succeed("remove");
        }
    }
}

/// A stranger's rules in dragoman's own chains, and jumps to them from anywhere.
#[test]
fn c4_iptables_what_a_stranger_left_in_the_chains_goes_with_them() {
    for way in BOTH {
        let rig = Rig::by(way);
        let program = format!("iptables-{}", backend(way));
        rig.net
            .app
            .succeed(&format!("{program} -t nat -N DRAGOMAN_OUTPUT_9; {program} -t nat -N DRAGOMAN_OUTPUT"));
        rig.net.app.succeed(&format!("{program} -t nat -A OUTPUT -p udp -g DRAGOMAN_OUTPUT_9"));
        rig.net.app.succeed(&format!("{program} -t nat -A DRAGOMAN_OUTPUT -j DRAGOMAN_OUTPUT_9"));
        rig.net
            .app
            .succeed(&format!("{program} -t nat -A DRAGOMAN_OUTPUT_9 -p udp -j REDIRECT --to-ports 9"));
        rig.succeed("install");
        let clean = saved(&rig, backend(way));
        assert!(!clean.contains("_9") && !clean.contains("udp"), "{clean}");
        rig.succeed("remove");
        rig.succeed("install");
        assert_eq!(saved(&rig, backend(way)), clean);
    }
}

#[test]
fn c4_the_text_that_is_printed_for_iptables_is_what_is_installed() {
    for way in BOTH {
        let rig = Rig::by(way);
        let backend = backend(way);
        for options in OPTION_SETS.iter().filter(|options| !options.contains("--ipv6 off")) {
            rig.succeed(options);
            let installed = saved(&rig, backend);
            rig.succeed("remove");
            let options = options.trim_start_matches("install");
            for program in ["iptables", "ip6tables"] {
                rig.net.app.succeed(&format!(
                    "{INIT} print --iptables {options} | {program}-{backend}-restore --noflush"
                ));
            }
            assert_eq!(saved(&rig, backend), installed, "{way:?} {options}");
            rig.succeed("remove");
        }
    }
}

/// What a change of kernel or packages leaves behind is found by looking, and does not stay.
#[test]
fn c4_an_install_by_another_way_replaces_the_former_and_remove_finds_all() {
    let mut rig = Rig::new();
    let place = |rig: &Rig| {
        let ruleset = rig.ruleset();
        // The nft back-end's chains are in the ruleset; the older one's are not.
        [
            ruleset.contains("table inet dragoman"),
            ruleset.contains("chain DRAGOMAN_OUTPUT"),
            saved(rig, "legacy").contains("DRAGOMAN_OUTPUT"),
        ]
    };
    for (way, expected) in [
        (Way::IptablesLegacy, [false, false, true]),
        (Way::Netlink, [true, false, false]),
        (Way::IptablesNft, [true, true, false]),
        (Way::Netlink, [true, false, false]),
        (Way::IptablesLegacy, [true, false, true]),
        (Way::Netlink, [true, false, false]),
    ] {
        rig.way = way;
        rig.succeed("install");
        assert_eq!(place(&rig), expected, "{way:?}: without netlink, its table cannot be seen");
    }
    rig.way = Way::IptablesLegacy;
    rig.succeed("install");
    rig.way = Way::Netlink;
    assert_eq!(
        rig.succeed("remove"),
        "dragoman-init: removed table dragoman and the iptables chains DRAGOMAN_OUTPUT; no redirected flow was open\n"
    );
    assert_eq!(place(&rig), [false; 3]);
}

/// The programs themselves are not needed where netlink does.
#[test]
fn c5_over_netlink_no_program_is_needed() {
    let rig = Rig::new();
    for command in ["install", "remove"] {
        let mut init = rig.net.app.bounded("env");
        process::succeed(init.args(["PATH=/nonexistent", INIT, command]));
    }
    assert_eq!(rig.ruleset(), "");
}

#[test]
fn c5_where_nothing_works_the_error_names_every_way_and_why() {
    let rig = Rig::new();
    let mut init = rig.without_sockets("netfilter");
    let output = process::output(init.args(["/usr/bin/env", "PATH=/nonexistent", INIT]));
    assert_eq!(output.status.code(), Some(1));
    let no_nf_tables = "this kernel offers no nf_tables (CONFIG_NF_TABLES, Linux 3.13 or later; it may need \
        `modprobe nf_tables`): socket(AF_NETLINK, NETLINK_NETFILTER): EPROTONOSUPPORT (Protocol not supported)";
    assert_eq!(
        complaint(&output),
        format!(
            "no way to install the rules works here, and nothing was changed; tried: \
             1. nf_tables over netlink: {no_nf_tables}; \
             2. nf_tables over netlink with a table for each version of IP: {no_nf_tables}; \
             3. iptables-nft-restore: iptables-nft-save: not in PATH; \
             4. iptables-legacy-restore: iptables-legacy-save: not in PATH; \
             5. iptables-restore: iptables-save: not in PATH"
        )
    );
    let mut remove = rig.without_sockets("netfilter");
    let output = process::output(remove.args(["/usr/bin/env", "PATH=/nonexistent", INIT, "remove"]));
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "dragoman-init: nothing to remove: there is no table dragoman\n"
    );
}

/// Kills the installer at each of its calls that start, feed and await the programs of iptables. Between two of
/// their steps there is no atomic whole, but the next run makes one.
#[test]
fn c4_iptables_a_kill_anywhere_is_mended_by_the_next_run() {
    let rig = Rig::by(Way::IptablesLegacy);
    rig.succeed(OPTION_SETS[2]);
    let after = saved(&rig, "legacy");
    let mut states = HashSet::new();
    for call in 1.. {
        rig.succeed(OPTION_SETS[1]);
        let mut command = rig.without_sockets("netfilter");
        command.args(["strace", "-qq", "-o", "/dev/null", "-e", "trace=%process,write"]);
        command.args(["-e", &format!("inject=%process,write:signal=KILL:when={call}"), INIT]);
        let output = process::output(command.args(OPTION_SETS[2].split_whitespace()));
        assert!(output.status.code() != Some(127), "strace is missing: run scripts/setup");
        rig.wait_for_quiet();
        states.insert(saved(&rig, "legacy"));
        if call % 2 == 0 {
            rig.succeed("remove");
            assert_eq!(saved(&rig, "legacy"), "--\n", "removed after the kill at call {call}");
        }
        rig.succeed(OPTION_SETS[2]);
        assert_eq!(saved(&rig, "legacy"), after, "installed again after the kill at call {call}");
        if output.status.success() {
            break;
        }
        assert!(call < 100, "the installer never ends");
    }
    assert!(states.len() > 2, "it was never killed between two steps: {states:#?}");
}

/// The back-end over ip_tables fails for IPv6, after it has installed IPv4.
#[test]
fn c4_iptables_both_versions_go_in_or_neither() {
    let rig = Rig::by(Way::IptablesLegacy);
    for former in [None, Some("--exclude-port 22 --include-cidr 10.0.0.0/8,2000::/3")] {
        if let Some(former) = former {
            rig.succeed(former);
        }
        let before = saved(&rig, "legacy");
        let output = process::output(rig.without_sockets("netfilter,inet6").args([INIT, "install"]));
        assert_eq!(output.status.code(), Some(1));
        let said = complaint(&output);
        assert!(said.contains("; 4. iptables-legacy-restore: ip6tables-legacy-"), "{said}");
        assert!(!said.contains("could not be undone"), "{said}");
        assert_eq!(saved(&rig, "legacy"), before, "after {former:?}");
    }
}

/// A folder in which the programs of the older back-end look, but change things only as often as `times` says.
fn reluctant_programs(times: [u8; 2]) -> Scratch {
    let scratch = Scratch::new("programs");
    for (program, times) in ["iptables", "ip6tables"].iter().zip(times) {
        let real = format!("/usr/sbin/{program}-legacy");
        let left = scratch.write(&format!("{program}.left"), "x".repeat(times.into()));
        for (verb, script) in [
            ("save", format!("exec {real}-save")),
            // Each run takes one character away.
            (
                "restore",
                format!(
                    "left=$(cat {0}); [ -n \"$left\" ] || {{ echo \"I would rather not\" >&2; exit 1; }}\n\
                     printf %s \"${{left#x}}\" >{0}; exec {real}-restore \"$@\"",
                    left.display()
                ),
            ),
        ] {
            let name = format!("{program}-legacy-{verb}");
            let file = scratch.write(&format!("{name}.new"), format!("#!/bin/sh\n{script}\n"));
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).expect("the test's own file");
            process::copy(&file, &scratch.path().join(name));
        }
    }
    scratch
}

fn path_of(programs: &Scratch) -> String {
    // cat is in /bin, iptables in /usr/sbin alone.
    format!("PATH={}:/usr/bin:/bin", programs.path().display())
}

#[test]
fn c4_iptables_what_cannot_be_undone_is_said_and_the_next_run_mends_it() {
    let rig = Rig::by(Way::IptablesLegacy);
    let programs = reluctant_programs([1, 0]);
    let mut install = rig.without_sockets("netfilter");
    let output = process::output(install.args(["/usr/bin/env", &path_of(&programs), INIT]));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        complaint(&output),
        "ip6tables-legacy-restore: I would rather not; and a part of the change could not be undone: \
         iptables-legacy-restore: I would rather not; run `dragoman-init remove`"
    );
    assert!(saved(&rig, "legacy").contains("DRAGOMAN_OUTPUT"), "so there is something to mend");
    rig.succeed("remove");
    assert_eq!(saved(&rig, "legacy"), "--\n");
}

#[test]
fn c4_rules_of_a_former_way_that_cannot_be_taken_out_are_told() {
    let mut rig = Rig::by(Way::IptablesLegacy);
    rig.succeed("--port 16001");
    let programs = reluctant_programs([0, 0]);
    let mut install = rig.net.app.bounded("env");
    let output = process::output(install.args([&path_of(&programs), INIT]));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        complaint(&output),
        "the rules are installed, but those of a former run, in another place, could not be taken out: \
         iptables-legacy-restore: I would rather not; run `dragoman-init remove` and install again"
    );
    rig.way = Way::Netlink;
    rig.succeed("remove");
    assert_eq!((rig.ruleset(), saved(&rig, "legacy")), (String::new(), "--\n".to_owned()));
}
