use super::*;

fn parse_with(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Parsed, String> {
    let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    parse(arguments.iter().map(OsString::from), variables).map_err(|wrong| wrong.to_string())
}

fn request(arguments: &[&str], variables: &[(&str, &str)]) -> Request {
    match parse_with(arguments, variables) {
        Ok(Parsed::Run(request)) => request,
        other => panic!("{arguments:?} {variables:?}: {other:?}"),
    }
}

fn wrong(arguments: &str, variables: &[(&str, &str)]) -> String {
    let arguments: Vec<&str> = arguments.split_whitespace().collect();
    parse_with(&arguments, variables).expect_err(&format!("{arguments:?} {variables:?} was taken"))
}

#[test]
fn nothing_at_all_is_an_install_by_default() {
    let expected =
        Request { command: Command::Install, options: Options::default(), dry_run: false, drain: None };
    assert_eq!(request(&[], &[]), expected);
    assert_eq!(request(&["install"], &[("PATH", "/bin"), ("DRAGOMAN_POLICY", "x")]), expected);
}

#[test]
fn every_option_is_read_from_the_command_line() {
    let got = request(
        &[
            "print",
            "--port=16001",
            "--proxy-gid",
            "7",
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
            "--ipv6",
            "on",
            "--capture-loopback",
            "--dry-run",
        ],
        &[],
    );
    let nets = |list: &[&str]| list.iter().map(|net| net.parse().unwrap()).collect::<Vec<_>>();
    let options = Options {
        port: 16001,
        proxy_gid: 7,
        exclude_cidr: nets(&["10.0.0.0/8", "fd00::/8", "192.0.2.1/32"]),
        include_cidr: nets(&["0.0.0.0/0"]),
        exclude_port: vec![22, 23, 24],
        include_port: vec![80],
        exclude_uid: vec![1, 2],
        exclude_gid: vec![3],
        ipv6: Ipv6::On,
        capture_loopback: true,
    };
    assert_eq!(got, Request { command: Command::Print, options, dry_run: true, drain: None });
}

#[test]
fn every_option_is_read_from_the_environment() {
    let variables = [
        ("DRAGOMAN_INIT_PORT", "16001"),
        ("DRAGOMAN_INIT_PROXY_GID", "7"),
        ("DRAGOMAN_INIT_EXCLUDE_CIDR", "10.0.0.0/8,fd00::/8"),
        ("DRAGOMAN_INIT_INCLUDE_CIDR", "0.0.0.0/0"),
        ("DRAGOMAN_INIT_EXCLUDE_PORT", "22, 23"),
        ("DRAGOMAN_INIT_INCLUDE_PORT", "80"),
        ("DRAGOMAN_INIT_EXCLUDE_UID", "1"),
        ("DRAGOMAN_INIT_EXCLUDE_GID", "3"),
        ("DRAGOMAN_INIT_IPV6", "auto"),
        ("DRAGOMAN_INIT_CAPTURE_LOOPBACK", "true"),
        ("DRAGOMAN_INIT_DRY_RUN", "1"),
        ("DRAGOMAN_INIT_DRAIN", "9"),
    ];
    let flags = "remove --port 16001 --proxy-gid 7 --exclude-cidr 10.0.0.0/8,fd00::/8 --include-cidr 0.0.0.0/0 \
        --exclude-port 22,23 --include-port 80 --exclude-uid 1 --exclude-gid 3 --ipv6 auto --capture-loopback \
        --dry-run --drain 9";
    let flags: Vec<&str> = flags.split_whitespace().collect();
    assert_eq!(request(&["remove"], &variables), request(&flags, &[]));
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
fn help_and_version_win_over_what_follows_them() {
    assert_eq!(parse_with(&["--help", "--port", "x"], &[]), Ok(Parsed::Help));
    assert_eq!(parse_with(&["remove", "-h"], &[("DRAGOMAN_INIT_PORT", "x")]), Ok(Parsed::Help));
    assert_eq!(parse_with(&["-V"], &[]), Ok(Parsed::Version));
}

#[test]
fn wrong_arguments_are_named_in_one_line() {
    for (arguments, expected) in [
        ("--port 0", "--port 0: expected a port from 1 to 65535"),
        ("--port 65536", "--port 65536: expected a port from 1 to 65535"),
        ("--port +80", "--port +80: expected a port from 1 to 65535"),
        ("--port http", "--port http: expected a port from 1 to 65535"),
        ("--port=", "--port \"\": expected a port from 1 to 65535"),
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
        ("DRAGOMAN_INIT_PORT", "x", "DRAGOMAN_INIT_PORT=x: expected a port from 1 to 65535"),
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
