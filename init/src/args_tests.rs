use dragoman_capture::Ipv6;
use dragoman_harness::scratch::Scratch;

use super::*;

fn parse_with(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Parsed, String> {
    let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    parse(arguments.iter().map(OsString::from), variables).map_err(|wrong| wrong.to_string())
}

fn request(arguments: &[&str], variables: &[(&str, &str)]) -> Request {
    match parse_with(arguments, variables) {
        Ok(Parsed::Run(request)) => *request,
        other => panic!("{arguments:?} {variables:?}: {other:?}"),
    }
}

fn plain(command: Command, options: Options) -> Request {
    Request { command, options, dry_run: false, drain: None, json: false, iptables: false }
}

fn wrong(arguments: &str, variables: &[(&str, &str)]) -> String {
    let arguments: Vec<&str> = arguments.split_whitespace().collect();
    parse_with(&arguments, variables).expect_err(&format!("{arguments:?} {variables:?} was taken"))
}

#[test]
fn nothing_at_all_is_an_install_by_default() {
    let expected = plain(Command::Install, Options::default());
    assert_eq!(request(&[], &[]), expected);
    assert_eq!(request(&["install"], &[("PATH", "/bin"), ("DRAGOMAN_POLICY", "x")]), expected);
}

#[test]
fn every_option_is_read_from_the_command_line() {
    let got = request(
        &[
            "print",
            "--port=16001-16004",
            "--mark",
            "0x11",
            "--exclude-cidr",
            "10.0.0.0/8, fd00::/8",
            "--exclude-cidr=192.0.2.1",
            "--include-cidr=0.0.0.0/0",
            "--exclude-port",
            "22",
            "--exclude-port",
            "23,24",
            "--include-port=80",
            "--exclude-uid=1,2",
            "--exclude-gid=3",
            "--exclude-interface=eth1, wg0",
            "--ipv6",
            "on",
            "--capture-loopback",
            "--capture-dns=53",
            "--drop-invalid",
            "--inbound",
            "--inbound-port=16006",
            "--exclude-inbound-port",
            "8081,22",
            "--include-inbound-port=80",
            "--dry-run",
            "--iptables",
        ],
        &[],
    );
    let nets = |list: &[&str]| list.iter().map(|net| net.parse().unwrap()).collect::<Vec<_>>();
    let options = Options {
        port: PortRange { first: 16001, last: 16004 },
        own: Own::Mark(17),
        exclude_cidr: nets(&["10.0.0.0/8", "fd00::/8", "192.0.2.1/32"]),
        include_cidr: nets(&["0.0.0.0/0"]),
        exclude_port: vec![22, 23, 24],
        include_port: vec![80],
        exclude_uid: vec![1, 2],
        exclude_gid: vec![3],
        exclude_interface: vec!["eth1".to_owned(), "wg0".to_owned()],
        ipv6: Ipv6::On,
        capture_loopback: true,
        capture_dns: Some(53),
        reject_quic: false,
        drop_invalid: true,
        inbound: Some(Inbound { port: 16006, exclude_port: vec![8081, 22], include_port: vec![80] }),
        ..Options::default()
    };
    assert_eq!(got, Request { dry_run: true, iptables: true, ..plain(Command::Print, options) });
    let quic = Options { reject_quic: true, own: Own::Group(7), ..Options::default() };
    assert_eq!(request(&["--reject-quic", "--proxy-gid=7"], &[]), plain(Command::Install, quic));
    assert!(request(&["verify", "--json"], &[]).json);
}

#[test]
fn every_option_is_read_from_the_environment() {
    let variables = [
        ("DRAGOMAN_INIT_PORT", "16001"),
        ("DRAGOMAN_INIT_PROXY_GID", "7"),
        ("DRAGOMAN_INIT_EXCLUDE_CIDR", "10.0.0.0/8,fd00::/8"),
        ("DRAGOMAN_INIT_INCLUDE_CIDR", "0.0.0.0/0"),
        ("DRAGOMAN_INIT_EXCLUDE_PORT", "22, 23"),
        ("DRAGOMAN_INIT_INCLUDE_PORT", "80,443"),
        ("DRAGOMAN_INIT_EXCLUDE_UID", "1"),
        ("DRAGOMAN_INIT_EXCLUDE_GID", "3"),
        ("DRAGOMAN_INIT_EXCLUDE_INTERFACE", "wg0"),
        ("DRAGOMAN_INIT_IPV6", "auto"),
        ("DRAGOMAN_INIT_CAPTURE_DNS", "5353"),
        ("DRAGOMAN_INIT_REJECT_QUIC", "true"),
        ("DRAGOMAN_INIT_DROP_INVALID", "true"),
        ("DRAGOMAN_INIT_INBOUND", "true"),
        ("DRAGOMAN_INIT_INBOUND_PORT", "16006"),
        ("DRAGOMAN_INIT_EXCLUDE_INBOUND_PORT", "8081, 22"),
        ("DRAGOMAN_INIT_INCLUDE_INBOUND_PORT", "80"),
        ("DRAGOMAN_INIT_JSON", "true"),
        ("DRAGOMAN_INIT_IPTABLES", "true"),
        ("DRAGOMAN_INIT_CAPTURE_LOOPBACK", "true"),
        ("DRAGOMAN_INIT_DRY_RUN", "1"),
        ("DRAGOMAN_INIT_DRAIN", "9"),
    ];
    let flags = "remove --port 16001 --proxy-gid 7 --exclude-cidr 10.0.0.0/8,fd00::/8 --include-cidr 0.0.0.0/0 \
        --exclude-port 22,23 --include-port 80,443 --exclude-uid 1 --exclude-gid 3 --exclude-interface wg0 \
        --ipv6 auto --capture-loopback --capture-dns 5353 --reject-quic --drop-invalid --inbound \
        --inbound-port 16006 --exclude-inbound-port 8081,22 --include-inbound-port 80 --dry-run --drain 9";
    let flags: Vec<&str> = flags.split_whitespace().collect();
    let expected = Request { json: true, iptables: true, ..request(&flags, &[]) };
    assert_eq!(request(&["remove"], &variables), expected);
}

#[test]
fn the_command_line_wins_over_the_environment_and_an_empty_variable_is_none() {
    let variables = [
        ("DRAGOMAN_INIT_PORT", ""),
        ("DRAGOMAN_INIT_EXCLUDE_PORT", "22,not-a-port"),
        ("DRAGOMAN_INIT_CAPTURE_LOOPBACK", "true"),
        ("DRAGOMAN_INIT_EXCLUDE_CIDR", " "),
    ];
    let got = request(&["--exclude-port", "80", "--capture-loopback=false"], &variables);
    assert_eq!(got.options, Options { exclude_port: vec![80], ..Options::default() });
}

#[test]
fn what_kubernetes_says_of_services_is_no_option() {
    let variables = [
        ("DRAGOMAN_INIT_SERVICE_HOST", "10.96.0.7"),
        ("DRAGOMAN_INIT_SERVICE_PORT", "80"),
        ("DRAGOMAN_INIT_SERVICE_PORT_HTTP", "80"),
        ("DRAGOMAN_INIT_PORT", "tcp://10.96.0.7:80"),
        ("DRAGOMAN_INIT_PORT_80_TCP", "tcp://10.96.0.7:80"),
        ("DRAGOMAN_INIT_PORT_80_TCP_PROTO", "tcp"),
        ("DRAGOMAN_INIT_PORT_80_TCP_PORT", "80"),
        ("DRAGOMAN_INIT_PORT_80_TCP_ADDR", "10.96.0.7"),
        ("DRAGOMAN_INIT_WEB_PORT", "udp://[fd00::7]:53"),
    ];
    assert_eq!(request(&[], &variables).options, Options::default());
    for (variable, value) in [("DRAGOMAN_INIT_PORT_80", "x"), ("DRAGOMAN_INIT_PORTS", "tcp://10.96.0.7:80")] {
        assert!(parse_with(&[], &[(variable, value)]).is_err(), "{variable}");
    }
}

#[test]
fn help_and_version_win_over_what_follows_them() {
    assert_eq!(parse_with(&["--help", "--port", "x"], &[]), Ok(Parsed::Help));
    assert_eq!(parse_with(&["remove", "-h"], &[("DRAGOMAN_INIT_PORT", "x")]), Ok(Parsed::Help));
    assert_eq!(parse_with(&["-V"], &[]), Ok(Parsed::Version));
}

#[test]
fn wrong_arguments_are_named_in_one_line() {
    for (arguments, expected) in [
        ("--port 0", "--port 0: expected a port from 1 to 65535, or a range such as 15001-15004"),
        ("--port 65536", "--port 65536: expected a port from 1 to 65535, or a range such as 15001-15004"),
        ("--port +80", "--port +80: expected a port from 1 to 65535, or a range such as 15001-15004"),
        ("--port 1-", "--port 1-: expected a port from 1 to 65535, or a range such as 15001-15004"),
        ("--port 1-2-3", "--port 1-2-3: expected a port from 1 to 65535, or a range such as 15001-15004"),
        ("--port=", "--port \"\": expected a port from 1 to 65535, or a range such as 15001-15004"),
        ("--port 16004-16001", "--port 16004-16001: ends before it begins"),
        ("--port 16000-16064", "--port 16000-16064: is more than 64 ports"),
        ("--port 15001-15020", "--port 15001-15020: has dragoman's own port for probes and metrics"),
        ("--mark 0", "--mark 0: is the mark of every socket that has none; expected 1 or more"),
        ("--mark 0x", "--mark 0x: expected a mark such as 17 or 0x11"),
        ("--mark 0x100000000", "--mark 0x100000000: expected a mark such as 17 or 0x11"),
        ("--mark ten", "--mark ten: expected a mark such as 17 or 0x11"),
        ("--mark 1 --proxy-gid 1", "--mark: takes the place of --proxy-gid; give one of them"),
        (
            "--exclude-interface eth+",
            "--exclude-interface eth+: is not the name of an interface: up to 15 letters, digits and ._-@: \
             (patterns are not taken)",
        ),
        ("--exclude-interface lo", "--exclude-interface lo: is left alone anyway"),
        (
            "--exclude-interface lo --capture-loopback",
            "--exclude-interface lo: undoes --capture-loopback; take one of them out",
        ),
        ("--inbound-port 16006", "--inbound-port: goes with --inbound only"),
        ("--exclude-inbound-port 22 --inbound=false", "--exclude-inbound-port: goes with --inbound only"),
        ("--inbound --inbound-port 15001", "--inbound-port 15001: is one of dragoman's other ports"),
        ("--capture-dns 15001", "--capture-dns 15001: is one of dragoman's other ports"),
        (
            "--capture-dns 5353 --exclude-port 53",
            "--exclude-port 53: is what --capture-dns captures; take one of them out",
        ),
        (
            "--reject-quic --exclude-port 443",
            "--exclude-port 443: keeps TCP to that port from being captured, so --reject-quic has no point",
        ),
        (
            "--reject-quic --include-port 80",
            "--include-port 80: without 443 keeps TCP to it from being captured, so --reject-quic has no point",
        ),
        ("--json", "--json: goes with verify only"),
        ("--iptables", "--iptables: goes with print only"),
        ("--port", "--port: a value must follow; see --help"),
        ("--port 1 --port 1", "--port is given twice"),
        ("--dry-run --dry-run", "--dry-run is given twice"),
        ("--exclude-port 22,", "--exclude-port \"\": expected a port from 1 to 65535"),
        ("--exclude-port 22,,23", "--exclude-port \"\": expected a port from 1 to 65535"),
        ("--exclude-port 22 --exclude-port 22", "--exclude-port 22: is given twice"),
        ("--exclude-port 1-9", "--exclude-port 1-9: expected a port from 1 to 65535"),
        (
            "--exclude-port 22 --include-port 22",
            "--include-port 22: is in --exclude-port too; take it out of one of them",
        ),
        (
            "--include-port 15001",
            "--include-port 15001: is the port to which captured connections go (--port)",
        ),
        (
            "--exclude-cidr 10.0.0.0/33",
            "--exclude-cidr 10.0.0.0/33: expected a network such as 10.0.0.0/8, fd00::/8 or a single address",
        ),
        (
            "--include-cidr 10.1.0.0/8",
            "--include-cidr 10.1.0.0/8: has bits beyond its prefix; did you mean 10.0.0.0/8?",
        ),
        ("--exclude-uid root", "--exclude-uid root: expected a user's number, not a name"),
        ("--exclude-gid -1", "--exclude-gid -1: expected a group's number, not a name"),
        ("--proxy-gid 4294967296", "--proxy-gid 4294967296: expected a group's number, not a name"),
        ("--ipv6 yes", "--ipv6 yes: expected auto, on or off"),
        ("--capture-loopback=yes", "--capture-loopback yes: expected true or false"),
        ("--drain 5", "--drain: goes with remove only"),
        ("remove --drain 0", "--drain 0: expected seconds, from 1 to 86400"),
        ("verify --dry-run", "--dry-run: verify changes nothing anyway"),
        ("--exclude-prot 22", "--exclude-prot: no such option; see --help"),
        ("-p 1", "-p: no such option; see --help"),
        ("uninstall", "uninstall: no such command; expected install, remove, verify or print"),
        ("install remove", "remove: only one command is taken; see --help"),
    ] {
        assert_eq!(wrong(arguments, &[]), expected);
    }
}

#[test]
fn wrong_variables_are_named_in_one_line() {
    for (name, value, expected) in [
        (
            "DRAGOMAN_INIT_PORT",
            "x",
            "DRAGOMAN_INIT_PORT=x: expected a port from 1 to 65535, or a range such as 15001-15004",
        ),
        (
            "DRAGOMAN_INIT_EXCLUDE_PORT",
            "22,x",
            "DRAGOMAN_INIT_EXCLUDE_PORT=x: expected a port from 1 to 65535",
        ),
        ("DRAGOMAN_INIT_EXCLUDE_UID", "5,5", "DRAGOMAN_INIT_EXCLUDE_UID=5: is given twice"),
        ("DRAGOMAN_INIT_DRY_RUN", "yes", "DRAGOMAN_INIT_DRY_RUN=yes: expected true or false"),
        (
            "DRAGOMAN_INIT_EXCLUDE_PROT",
            "1",
            "DRAGOMAN_INIT_EXCLUDE_PROT: no option has this variable; see --help",
        ),
        (
            "DRAGOMAN_INIT_exclude_port",
            "1",
            "DRAGOMAN_INIT_exclude_port: no option has this variable; see --help",
        ),
        (
            "DRAGOMAN_INIT_EXCLUDE-PORT",
            "1",
            "DRAGOMAN_INIT_EXCLUDE-PORT: no option has this variable; see --help",
        ),
        ("DRAGOMAN_INIT_", "1", "DRAGOMAN_INIT_: no option has this variable; see --help"),
    ] {
        assert_eq!(wrong("print", &[(name, value)]), expected);
    }
    let mixed = [("DRAGOMAN_INIT_INCLUDE_PORT", "22")];
    assert_eq!(
        wrong("--exclude-port 22", &mixed),
        "DRAGOMAN_INIT_INCLUDE_PORT=22: is in --exclude-port too; take it out of one of them"
    );
}

#[test]
fn what_is_not_text_is_refused_not_mangled() {
    use std::os::unix::ffi::OsStringExt;
    let broken = || OsString::from_vec(b"22\xff".to_vec());
    let variable = (OsString::from("DRAGOMAN_INIT_PORT"), broken());
    assert_eq!(parse([], [variable]).unwrap_err().to_string(), "DRAGOMAN_INIT_PORT=22\u{fffd}: is not UTF-8");
    let arguments = [OsString::from("--port"), broken()];
    assert_eq!(parse(arguments, []).unwrap_err().to_string(), "--port 22\u{fffd}: is not UTF-8");
}

fn with_file(text: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Parsed, String> {
    let scratch = Scratch::new("options");
    let path = scratch.write("options", text);
    let path = path.to_str().unwrap();
    let arguments: Vec<&str> = arguments.iter().copied().chain(["--options", path]).collect();
    parse_with(&arguments, variables).map_err(|wrong| wrong.replace(path, "FILE"))
}

#[test]
fn a_file_has_one_option_in_each_line() {
    let text = "# what is left alone\n\n--exclude-port 22, 23\nexclude-port=24   # ssh and more\n\
                exclude-cidr = 10.0.0.0/8\r\n  reject-quic\ncapture-loopback false\n";
    let options = Options {
        exclude_port: vec![22, 23, 24],
        exclude_cidr: vec!["10.0.0.0/8".parse().unwrap()],
        reject_quic: true,
        ..Options::default()
    };
    assert_eq!(with_file(text, &[], &[]), Ok(Parsed::Run(Box::new(plain(Command::Install, options)))));
}

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
    let text = "exclude-port 1\nexclude-uid 1\nexclude-gid 1\njson\n";
    let variables = [("DRAGOMAN_INIT_EXCLUDE_PORT", "2"), ("DRAGOMAN_INIT_EXCLUDE_UID", "2")];
    let options =
        Options { exclude_port: vec![3], exclude_uid: vec![2], exclude_gid: vec![1], ..Options::default() };
    let got = with_file(text, &["--exclude-port", "3"], &variables);
    // What is for another command is no mistake in a file that all of them share.
    assert_eq!(got, Ok(Parsed::Run(Box::new(Request { json: true, ..plain(Command::Install, options) }))));
}

#[test]
fn wrong_lines_are_named_with_file_and_line() {
    for (text, expected) in [
        ("\nport x\n", "FILE:2: port x: expected a port from 1 to 65535, or a range such as 15001-15004"),
        ("port 1\n\nport 2\n", "FILE:3: port is given twice"),
        ("exclude-port\n", "FILE:1: exclude-port: a value must follow"),
        ("exclude-prot 22\n", "FILE:1: exclude-prot: no such option; see --help"),
        ("options other\n", "FILE:1: options: no such option; see --help"),
        ("remove\n", "FILE:1: remove: no such option; see --help"),
        ("exclude-port 22\nexclude-port 23,x\n", "FILE:2: exclude-port x: expected a port from 1 to 65535"),
        ("exclude-port 22\nexclude-uid 0\nexclude-port 22\n", "FILE:3: exclude-port 22: is given twice"),
        ("reject-quic 2\n", "FILE:1: reject-quic 2: expected true or false"),
        ("=\n", "FILE:1: : no such option; see --help"),
    ] {
        assert_eq!(with_file(text, &[], &[]).unwrap_err(), expected, "{text:?}");
    }
    assert_eq!(
        wrong("--options /no/such/file", &[]),
        "--options /no/such/file: No such file or directory (os error 2)"
    );
    assert_eq!(wrong("--options /dev/zero", &[]), "--options /dev/zero: is longer than 1 MiB");
}
