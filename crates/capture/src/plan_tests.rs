use super::*;
use crate::Ipv6;

fn nets(list: &[&str]) -> Vec<IpNet> {
    list.iter().map(|net| net.parse().unwrap()).collect()
}

fn full() -> Options {
    Options {
        port: 16001,
        proxy_gid: 4242,
        exclude_cidr: nets(&["10.1.0.0/16", "fd00::/8", "10.0.0.0/8", "192.168.1.1/32"]),
        include_cidr: nets(&["0.0.0.0/0"]),
        exclude_port: vec![5432, 22],
        include_port: vec![443, 80],
        exclude_uid: vec![1000],
        exclude_gid: vec![60, 50],
        ipv6: Ipv6::Auto,
        capture_loopback: true,
    }
}

#[test]
fn the_default_plan_in_words_and_as_nft_text() {
    let plan = Plan::new(&Options::default(), Family::Inet).unwrap();
    assert_eq!(
        plan.to_string(),
        "\
New outbound TCP connections over IPv4 and IPv6; the first rule that matches decides:
  1. made by group 1337: left alone  [dragoman itself: sockets of its group are never captured]
  2. stays on this host: left alone  [local traffic is captured with --capture-loopback only]
  3. any other: redirected to port 15001  [new connections go to dragoman; older sessions stay as they are]
Only TCP is captured: UDP, and with it QUIC, passes by.
Table inet dragoman, chain output.
"
    );
    assert_eq!(
        plan.to_nft(),
        "\
add table inet dragoman
delete table inet dragoman
table inet dragoman {
	chain output {
		type nat hook output priority -100; policy accept;
		meta skgid 1337 return comment \"dragoman itself: sockets of its group are never captured\"
		oifname \"lo\" return comment \"local traffic is captured with --capture-loopback only\"
		tcp flags & (fin|syn|rst|ack) == syn redirect to :15001 comment \"new connections go to dragoman; older sessions stay as they are\"
	}
}
"
    );
}

#[test]
fn every_option_has_its_rule_in_order() {
    let plan = Plan::new(&full(), Family::Inet).unwrap();
    assert_eq!(
        plan.to_string(),
        "\
New outbound TCP connections over IPv4 and IPv6; the first rule that matches decides:
  1. made by group 4242: left alone  [dragoman itself: sockets of its group are never captured]
  2. stays on this host and to ports 15000, 15020 and 16001: left alone  [dragoman's own ports on this host]
  3. made by groups 50 and 60: left alone  [exclude-gid]
  4. made by user 1000: left alone  [exclude-uid]
  5. to IPv4 networks 10.0.0.0/8 and 192.168.1.1/32: left alone  [exclude-cidr]
  6. to IPv6 network fd00::/8: left alone  [exclude-cidr]
  7. to ports 22 and 5432: left alone  [exclude-port]
  8. to anywhere but IPv4 network 0.0.0.0/0: left alone  [not in include-cidr]
  9. over IPv6: left alone  [include-cidr has no IPv6 network]
 10. to anything but ports 80 and 443: left alone  [not in include-port]
 11. any other: redirected to port 16001  [new connections go to dragoman; older sessions stay as they are]
Only TCP is captured: UDP, and with it QUIC, passes by.
Table inet dragoman, chain output.
"
    );
    let text = plan.to_nft();
    for line in [
        "oifname \"lo\" tcp dport { 15000, 15020, 16001 } return comment \"dragoman's own ports on this host\"",
        "meta skgid { 50, 60 } return comment \"exclude-gid\"",
        "meta skuid 1000 return comment \"exclude-uid\"",
        "ip daddr { 10.0.0.0/8, 192.168.1.1/32 } return comment \"exclude-cidr\"",
        "ip6 daddr { fd00::/8 } return comment \"exclude-cidr\"",
        "ip daddr != { 0.0.0.0/0 } return comment \"not in include-cidr\"",
        "meta nfproto ipv6 return comment \"include-cidr has no IPv6 network\"",
        "tcp dport != { 80, 443 } return comment \"not in include-port\"",
    ] {
        assert!(text.contains(&format!("\t\t{line}\n")), "{line} is not in\n{text}");
    }
}

#[test]
fn an_ipv4_table_names_no_ipv6_and_says_what_passes_by() {
    let plan = Plan::new(&full(), Family::Ip).unwrap();
    assert!(!plan.captures_ipv6());
    assert!(plan.to_nft().starts_with("add table ip dragoman\n"));
    for text in ["ip6", "fd00", "nfproto"] {
        assert!(!plan.to_nft().contains(text), "{text} in\n{}", plan.to_nft());
    }
    assert!(plan.to_string().contains("IPv6 is not captured: its connections pass by.\n"));
}

#[test]
fn an_inclusion_of_the_other_family_alone_leaves_a_family_out() {
    let only_v6 = Options { include_cidr: nets(&["2001:db8::/32"]), ..Options::default() };
    let plan = Plan::new(&only_v6, Family::Inet).unwrap();
    assert!(plan.rules.iter().any(|rule| rule.matches == [Match::IsIpv4] && rule.action == Action::Leave));
    assert_eq!(
        Plan::new(&only_v6, Family::Ip).unwrap_err().to_string(),
        "include-cidr 2001:db8::/32: is IPv6, of which nothing can be captured here; include an IPv4 network"
    );
}

#[test]
fn c2_dragoman_itself_comes_first_and_the_redirect_last_whatever_is_asked_for() {
    for options in [Options::default(), full(), Options { capture_loopback: true, ..Options::default() }] {
        for family in [Family::Inet, Family::Ip] {
            let plan = Plan::new(&options, family).unwrap();
            let (first, last) = (&plan.rules[0], plan.rules.last().unwrap());
            assert_eq!(first.matches, [Match::SocketGid(vec![options.proxy_gid])]);
            assert_eq!(first.action, Action::Leave);
            assert_eq!(last.matches, [Match::Syn]);
            let redirects = plan.rules.iter().filter(|rule| matches!(rule.action, Action::Redirect(_)));
            assert_eq!(redirects.count(), 1);
            assert_eq!(last.action, Action::Redirect(options.port));
        }
    }
}

#[test]
fn each_comment_fits_into_a_rule() {
    for rule in Plan::new(&full(), Family::Inet).unwrap().rules {
        let fits = !rule.comment.is_empty() && rule.comment.len() <= 120 && rule.comment.is_ascii();
        assert!(fits && !rule.comment.contains('"'), "{}", rule.comment);
    }
}

#[test]
fn options_that_contradict_each_other_make_no_plan() {
    let options = Options { proxy_gid: 0, ..Options::default() };
    assert_eq!(Plan::new(&options, Family::Inet).unwrap_err().option, "proxy-gid");
}
