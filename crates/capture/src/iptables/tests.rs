use crate::{Inbound, IpVersion, Options, Own, Plan, PortRange};

fn everything() -> Options {
    let nets = |list: &[&str]| list.iter().map(|net| net.parse().unwrap()).collect();
    Options {
        own: Own::Mark(17),
        port: PortRange { first: 16001, last: 16004 },
        exclude_cidr: nets(&["10.0.0.0/8", "fd00::/8"]),
        include_cidr: nets(&["0.0.0.0/1", "192.0.0.0/3", "2000::/3"]),
        exclude_port: (1..=17).collect(),
        include_port: vec![443, 80],
        exclude_uid: vec![1000, 5],
        exclude_gid: vec![60, 50],
        exclude_interface: vec!["eth1".to_owned()],
        capture_loopback: true,
        capture_dns: Some(15053),
        reject_quic: true,
        drop_invalid: true,
        ..Options::default()
    }
}

#[test]
fn a_plan_as_text_for_iptables_restore() {
    let text = |options: &Options| Plan::new(options, true).unwrap().to_iptables();
    assert_eq!(text(&Options::default()), include_str!("golden/default.rules"));
    assert_eq!(text(&everything()), include_str!("golden/everything.rules"));
    let inbound = Inbound { port: 16006, exclude_port: vec![8081, 22], include_port: vec![443, 80] };
    let inbound = Options { inbound: Some(inbound), drop_invalid: true, ..Options::default() };
    assert_eq!(text(&inbound), include_str!("golden/inbound.rules"));
}

#[test]
fn without_ipv6_no_rule_is_for_it() {
    let text = Plan::new(&Options { reject_quic: false, ..everything() }, false).unwrap().to_iptables();
    assert!(!text.contains("-6") && !text.contains("::"), "{text}");
}

#[test]
fn the_programs_are_named_by_version_and_back_end() {
    use super::Backend;
    assert_eq!(Backend::Nft.program(IpVersion::V6, "save"), "ip6tables-nft-save");
    assert_eq!(Backend::Legacy.to_string(), "iptables-legacy-restore");
    assert_eq!(Backend::Unnamed.to_string(), "iptables-restore");
}

#[test]
fn a_program_that_is_not_there_or_fails_says_so_in_one_line() {
    let said = |words: &[&str]| {
        let mut command = std::process::Command::new(words[0]);
        command.args(&words[1..]);
        super::run(command, "input").unwrap_err().to_string()
    };
    assert_eq!(said(&["no-such-program-here"]), "no-such-program-here: not in PATH");
    assert_eq!(said(&["sh", "-c", "echo one >&2; echo; echo ' two' >&2; exit 3"]), "sh: one; two");
    assert_eq!(said(&["false"]), "false: exit status: 1");
    let long = said(&["sh", "-c", "yes é | head -1000 >&2; exit 1"]);
    assert!(long.len() <= super::COMPLAINT_BYTES + 4, "{}", long.len());
}
