use super::*;
use crate::{Inbound, Ipv6, Own, PortRange};

fn nets(list: &[&str]) -> Vec<IpNet> {
    list.iter().map(|net| net.parse().unwrap()).collect()
}

fn full() -> Options {
    Options {
        port: PortRange::one(16001),
        own: Own::Group(4242),
        exclude_cidr: nets(&["10.1.0.0/16", "fd00::/8", "10.0.0.0/8", "192.168.1.1/32"]),
        include_cidr: nets(&["0.0.0.0/0"]),
        exclude_port: vec![5432, 22],
        include_port: vec![443, 80],
        exclude_uid: vec![1000],
        exclude_gid: vec![60, 50],
        ipv6: Ipv6::Auto,
        capture_loopback: true,
        ..Options::default()
    }
}

/// What nobody asks for at once, on top of [`full`].
fn everything() -> Options {
    Options {
        own: Own::Mark(17),
        port: PortRange { first: 16001, last: 16004 },
        exclude_interface: vec!["wg0".to_owned(), "eth1".to_owned()],
        capture_dns: Some(15053),
        reject_quic: true,
        drop_invalid: true,
        ..full()
    }
}

fn inbound() -> Options {
    let inbound = Inbound { port: 16006, exclude_port: vec![8081, 22], include_port: vec![443, 80] };
    Options { inbound: Some(inbound), drop_invalid: true, ..Options::default() }
}

#[test]
fn the_default_plan_in_words_and_as_nft_text() {
    let plan = Plan::new(&Options::default(), true).unwrap();
    assert_eq!(plan.to_string(), include_str!("golden/default.txt"));
    assert_eq!(plan.to_nft(), include_str!("golden/default.nft"));
}

#[test]
fn every_option_has_its_rule_in_order() {
    let plan = Plan::new(&full(), true).unwrap();
    assert_eq!(plan.to_string(), include_str!("golden/full.txt"));
    assert_eq!(plan.to_nft(), include_str!("golden/full.nft"));
    let plan = Plan::new(&everything(), true).unwrap();
    assert_eq!(plan.to_string(), include_str!("golden/everything.txt"));
    assert_eq!(plan.to_nft(), include_str!("golden/everything.nft"));
}

#[test]
fn what_comes_from_outside_has_chains_of_its_own() {
    let plan = Plan::new(&inbound(), true).unwrap();
    assert_eq!(plan.to_string(), include_str!("golden/inbound.txt"));
    assert_eq!(plan.to_nft(), include_str!("golden/inbound.nft"));
    let outbound = Plan::new(&Options { inbound: None, ..inbound() }, true).unwrap();
    assert_eq!(plan.chains[..2], outbound.chains);
}

#[test]
fn an_ipv4_table_names_no_ipv6_and_says_what_passes_by() {
    let plan = Plan::new(&full(), false).unwrap();
    assert!(!plan.ipv6);
    assert!(plan.to_nft().starts_with("add table ip dragoman\n"));
    for text in ["ip6", "fd00", "nfproto"] {
        assert!(!plan.to_nft().contains(text), "{text} in\n{}", plan.to_nft());
    }
    assert!(plan.to_string().contains("IPv6 is not captured: its connections pass by.\n"));
}

#[test]
fn an_inclusion_of_the_other_family_alone_leaves_a_family_out() {
    let only_v6 = Options { include_cidr: nets(&["2001:db8::/32"]), ..Options::default() };
    let plan = Plan::new(&only_v6, true).unwrap();
    let no_ipv4 =
        |rule: &Rule| rule.matches == [Match::Version(IpVersion::V4)] && rule.action == Action::Leave;
    assert!(plan.chains.iter().all(|chain| chain.rules.iter().any(no_ipv4)));
    assert_eq!(
        Plan::new(&only_v6, false).unwrap_err().to_string(),
        "include-cidr 2001:db8::/32: is IPv6, of which nothing can be captured here; include an IPv4 network"
    );
}

#[test]
fn c2_dragoman_itself_comes_first_and_the_redirect_last_whatever_is_asked_for() {
    for options in [Options::default(), full(), everything()] {
        for ipv6 in [true, false] {
            let plan = Plan::new(&options, ipv6).unwrap();
            assert_eq!(plan.chains[0].kind, ChainKind::Nat);
            let rules = &plan.chains[0].rules;
            let (first, last) = (&rules[0], rules.last().unwrap());
            let own = match options.own {
                Own::Group(gid) => Match::SocketGid(vec![gid]),
                Own::Mark(mark) => Match::Mark(mark),
            };
            assert_eq!((&first.matches[..], first.action), (&[own][..], Action::Leave));
            assert_eq!((&last.matches[..], last.action), (&[Match::Syn][..], Action::Redirect(options.port)));
        }
    }
}

#[test]
fn c1_what_the_first_chain_leaves_alone_the_second_never_refuses() {
    for options in [Options::default(), full(), everything()] {
        let plan = Plan::new(&options, true).unwrap();
        let left_alone = |kind| {
            let chain = plan.chains.iter().find(|chain| chain.kind == kind).unwrap();
            chain.rules.iter().filter(|rule| rule.action == Action::Leave).collect::<Vec<_>>()
        };
        let filter = left_alone(ChainKind::Filter);
        assert!(left_alone(ChainKind::Nat).iter().all(|rule| filter.contains(rule)));
        let judged = plan.chains[1].rules.iter().filter(|rule| rule.action == Action::Reset);
        assert_eq!(judged.collect::<Vec<_>>(), [plan.chains[1].rules.last().unwrap()]);
    }
}

#[test]
fn each_comment_fits_into_a_rule() {
    let everything = Options { inbound: inbound().inbound, ..everything() };
    for rule in Plan::new(&everything, true).unwrap().chains.iter().flat_map(|chain| &chain.rules) {
        let fits = !rule.comment.is_empty() && rule.comment.len() <= 120 && rule.comment.is_ascii();
        assert!(fits && !rule.comment.contains('"'), "{}", rule.comment);
    }
}

#[test]
fn options_that_contradict_each_other_make_no_plan() {
    let options = Options { own: Own::Group(0), ..Options::default() };
    assert_eq!(Plan::new(&options, true).unwrap_err().option, "proxy-gid");
}
