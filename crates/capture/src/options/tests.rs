use super::*;

fn nets(list: &[&str]) -> Vec<IpNet> {
    list.iter().map(|net| net.parse().unwrap()).collect()
}

fn refusal(options: &Options) -> String {
    options.check().unwrap_err().to_string()
}

#[test]
fn the_defaults_make_sense() {
    assert_eq!(Options::default().check(), Ok(()));
}

#[test]
fn c2_the_proxys_group_is_never_roots() {
    assert_eq!(
        refusal(&Options { own: Own::Group(0), ..Options::default() }),
        "proxy-gid 0: would let every process of root's group pass by; run the proxy in a group of its own"
    );
    assert_eq!(
        refusal(&Options { own: Own::Group(u32::MAX), ..Options::default() }),
        "proxy-gid 4294967295: is not a group; expected 1 to 4294967294"
    );
}

#[test]
fn dragomans_own_ports_are_not_for_capture() {
    let refused = |port| refusal(&Options { port: PortRange::one(port), ..Options::default() });
    assert_eq!(refused(0), "port 0: expected a port from 1 to 65535");
    assert_eq!(refused(15000), "port 15000: is dragoman's own administration port");
    assert_eq!(refused(15020), "port 15020: is dragoman's own port for probes and metrics");
    assert_eq!(
        refusal(&Options { port: PortRange::one(9000), include_port: vec![80, 9000], ..Options::default() }),
        "include-port 9000: is the port to which captured connections go (--port)"
    );
    // On other hosts it is a port like any other once dragoman listens elsewhere.
    assert!(
        Options { port: PortRange::one(9000), include_port: vec![15001], ..Options::default() }
            .check()
            .is_ok()
    );
}

#[test]
fn what_is_given_twice_is_refused() {
    let twice = vec![7, 8, 7];
    let ports = vec![22, 80, 22];
    let cidrs = nets(&["10.0.0.0/8", "fd00::/8", "fd00::/8"]);
    for (options, expected) in [
        (Options { exclude_uid: twice.clone(), ..Options::default() }, "exclude-uid 7: is given twice"),
        (Options { exclude_gid: twice, ..Options::default() }, "exclude-gid 7: is given twice"),
        (Options { exclude_port: ports.clone(), ..Options::default() }, "exclude-port 22: is given twice"),
        (Options { include_port: ports, ..Options::default() }, "include-port 22: is given twice"),
        (
            Options { exclude_cidr: cidrs.clone(), ..Options::default() },
            "exclude-cidr fd00::/8: is given twice",
        ),
        (Options { include_cidr: cidrs, ..Options::default() }, "include-cidr fd00::/8: is given twice"),
    ] {
        assert_eq!(refusal(&options), expected);
    }
}

#[test]
fn what_could_never_have_an_effect_is_refused() {
    for (options, expected) in [
        (
            Options { exclude_port: vec![22], include_port: vec![80, 22], ..Options::default() },
            "include-port 22: is in --exclude-port too; take it out of one of them",
        ),
        (
            Options {
                exclude_cidr: nets(&["10.0.0.0/8"]),
                include_cidr: nets(&["10.1.0.0/16"]),
                ..Options::default()
            },
            "include-cidr 10.1.0.0/16: lies within --exclude-cidr 10.0.0.0/8, which wins; take one of them out",
        ),
        (
            Options { include_cidr: nets(&["fd00::/8"]), ipv6: Ipv6::Off, ..Options::default() },
            "include-cidr fd00::/8: is IPv6, which --ipv6 off leaves alone",
        ),
        (
            Options { include_cidr: nets(&["127.0.0.0/8"]), ..Options::default() },
            "include-cidr 127.0.0.0/8: never leaves this host, so it is captured with --capture-loopback only",
        ),
        (
            Options { include_cidr: nets(&["::1/128"]), ..Options::default() },
            "include-cidr ::1/128: never leaves this host, so it is captured with --capture-loopback only",
        ),
        (
            Options { exclude_gid: vec![1337], ..Options::default() },
            "exclude-gid 1337: is the proxy's own group, which is never captured; leave it out",
        ),
    ] {
        assert_eq!(refusal(&options), expected);
    }
    let narrower = Options {
        exclude_cidr: nets(&["10.1.0.0/16"]),
        include_cidr: nets(&["10.0.0.0/8", "0.0.0.0/0"]),
        ..Options::default()
    };
    assert_eq!(narrower.check(), Ok(()), "an exclusion may cut a hole into an inclusion");
}

#[test]
fn ports_of_what_comes_from_outside_must_have_a_meaning() {
    let of = |port, exclude: &[u16], include: &[u16]| Options {
        inbound: Some(Inbound { port, exclude_port: exclude.to_vec(), include_port: include.to_vec() }),
        ..Options::default()
    };
    assert_eq!(of(15006, &[8081], &[80]).check(), Ok(()));
    for (options, expected) in [
        (of(0, &[], &[]), "inbound-port 0: expected a port from 1 to 65535"),
        (of(15001, &[], &[]), "inbound-port 15001: is one of dragoman's other ports"),
        (of(15020, &[], &[]), "inbound-port 15020: is one of dragoman's other ports"),
        (of(15006, &[0], &[]), "exclude-inbound-port 0: expected a port from 1 to 65535"),
        (of(15006, &[7, 7], &[]), "exclude-inbound-port 7: is given twice"),
        (of(15006, &[], &[7, 7]), "include-inbound-port 7: is given twice"),
        (
            of(15006, &[80], &[443, 80]),
            "include-inbound-port 80: is in --exclude-inbound-port too; take it out of one of them",
        ),
        (
            of(15006, &[], &[15006]),
            "include-inbound-port 15006: is one of dragoman's own ports, which are never captured",
        ),
    ] {
        assert_eq!(refusal(&options), expected);
    }
}

#[test]
fn ids_that_mean_nobody_are_refused() {
    assert_eq!(
        refusal(&Options { exclude_uid: vec![u32::MAX], ..Options::default() }),
        "exclude-uid 4294967295: is not a user; expected 0 to 4294967294"
    );
    assert_eq!(
        refusal(&Options { exclude_gid: vec![u32::MAX], ..Options::default() }),
        "exclude-gid 4294967295: is not a group; expected 0 to 4294967294"
    );
    assert_eq!(Options { exclude_uid: vec![0], exclude_gid: vec![0], ..Options::default() }.check(), Ok(()));
}

#[test]
fn networks_are_read_strictly() {
    assert_eq!(parse_cidr("10.0.0.0/8").unwrap().to_string(), "10.0.0.0/8");
    assert_eq!(parse_cidr("10.1.2.3").unwrap().to_string(), "10.1.2.3/32");
    assert_eq!(parse_cidr("FD00::/8").unwrap().to_string(), "fd00::/8");
    assert_eq!(parse_cidr("fd00::1").unwrap().to_string(), "fd00::1/128");
    assert_eq!(parse_cidr("0.0.0.0/0").unwrap().to_string(), "0.0.0.0/0");
    assert_eq!(parse_cidr("::/0").unwrap().to_string(), "::/0");
    for wrong in
        ["", "10.0.0.0/33", "10.0.0/8", "fd00::/129", "example.org", "10.0.0.0/-1", "10.0.0.0/", "/8"]
    {
        assert_eq!(
            parse_cidr(wrong).unwrap_err(),
            "expected a network such as 10.0.0.0/8, fd00::/8 or a single address",
            "{wrong:?}"
        );
    }
    assert_eq!(parse_cidr("10.1.2.3/8").unwrap_err(), "has bits beyond its prefix; did you mean 10.0.0.0/8?");
    assert_eq!(parse_cidr("fd00::1/8").unwrap_err(), "has bits beyond its prefix; did you mean fd00::/8?");
    let mapped = "is IPv4 written as IPv6, which no packet matches; write ";
    assert_eq!(parse_cidr("::ffff:10.0.0.0/104").unwrap_err(), format!("{mapped}10.0.0.0/8"));
    assert_eq!(parse_cidr("::ffff:192.0.2.1").unwrap_err(), format!("{mapped}192.0.2.1/32"));
}
