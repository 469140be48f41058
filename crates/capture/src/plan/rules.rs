//! Options as rules. Rules that leave something alone may stand in any order among themselves; what they share
//! between the chains is stated once.

use super::{Action, Chain, ChainKind, IpVersion, Match, Nets, Plan, Rule, Transport};
use crate::options::{Inbound, Invalid, Options, Own, PortRange};

const DNS_PORT: u16 = 53;
const QUIC_PORT: u16 = 443;

pub(super) fn plan(options: &Options, ipv6: bool) -> Result<Plan, Invalid> {
    let left_alone = left_alone(options, ipv6)?;
    let ports = ports_left_alone(options);
    let nat = Chain {
        kind: ChainKind::Nat,
        rules: [&left_alone[..], &dns(options), &ports, &[redirect(options.port)]].concat(),
    };
    let filter = Chain {
        kind: ChainKind::Filter,
        rules: [
            &invalid(options)[..],
            &not_to_judge(),
            &left_alone,
            &quic(options),
            &udp(options, ipv6),
            &ports,
            &[refuse()],
        ]
        .concat(),
    };
    let mut chains = vec![nat, filter];
    if let Some(inbound) = &options.inbound {
        chains.extend(self::inbound(options, inbound));
    }
    Ok(Plan { ipv6, chains, notes: notes(options, ipv6) })
}

/// What comes from outside: first what no packet of an app's server can be.
fn inbound(options: &Options, inbound: &Inbound) -> [Chain; 2] {
    let tcp = |ports: &[u16], within| Match::Port { of: Transport::Tcp, ports: sorted(ports), within };
    let mut left_alone = vec![
        leave(vec![Match::FromHere], "this host to itself"),
        leave(vec![tcp(&options.own_ports(), true)], "dragoman's own ports"),
    ];
    if !inbound.exclude_port.is_empty() {
        left_alone.push(leave(vec![tcp(&inbound.exclude_port, true)], "exclude-inbound-port"));
    }
    if !inbound.include_port.is_empty() {
        left_alone.push(leave(vec![tcp(&inbound.include_port, false)], "not in include-inbound-port"));
    }
    let for_another = leave(vec![Match::ForAnother], "this host only passes it on");
    let nat = Chain {
        kind: ChainKind::InboundNat,
        rules: [&[for_another][..], &left_alone, &[redirect(PortRange::one(inbound.port))]].concat(),
    };
    let filter = Chain {
        kind: ChainKind::InboundFilter,
        rules: [&invalid(options)[..], &not_to_judge(), &left_alone, &[refuse()]].concat(),
    };
    [nat, filter]
}

pub(super) fn draining(port: PortRange) -> Chain {
    let rules = vec![leave(Vec::new(), "draining: new connections pass by"), redirect(port)];
    Chain { kind: ChainKind::Nat, rules }
}

/// By socket, interface and network, which every packet has.
fn left_alone(options: &Options, ipv6: bool) -> Result<Vec<Rule>, Invalid> {
    let mut rules = vec![own(options), local(options)];
    if !options.exclude_gid.is_empty() {
        rules.push(leave(vec![Match::SocketGid(sorted(&options.exclude_gid))], "exclude-gid"));
    }
    if !options.exclude_uid.is_empty() {
        rules.push(leave(vec![Match::SocketUid(sorted(&options.exclude_uid))], "exclude-uid"));
    }
    for name in sorted(&options.exclude_interface) {
        rules.push(leave(vec![Match::Interface(name)], "exclude-interface"));
    }
    let (v4, v6) = Nets::of(&options.exclude_cidr);
    for nets in v4.into_iter().chain(v6.filter(|_| ipv6)) {
        rules.push(leave(vec![Match::Destination { nets, within: true }], "exclude-cidr"));
    }
    rules.extend(not_included(options, ipv6)?);
    Ok(rules)
}

fn own(options: &Options) -> Rule {
    match options.own {
        Own::Group(gid) => leave(
            vec![Match::SocketGid(vec![gid])],
            "dragoman itself: sockets of its group are never captured",
        ),
        Own::Mark(mark) => {
            leave(vec![Match::Mark(mark)], "dragoman itself: sockets with its mark are never captured")
        }
    }
}

fn local(options: &Options) -> Rule {
    if options.capture_loopback {
        let own = Match::Port { of: Transport::Tcp, ports: options.own_ports(), within: true };
        leave(vec![Match::Loopback, own], "dragoman's own ports on this host")
    } else {
        leave(vec![Match::Loopback], "local traffic is captured with --capture-loopback only")
    }
}

fn not_included(options: &Options, ipv6: bool) -> Result<Vec<Rule>, Invalid> {
    let Some(first) = options.include_cidr.first() else { return Ok(Vec::new()) };
    let (v4, v6) = Nets::of(&options.include_cidr);
    if !ipv6 && v4.is_none() {
        return Err(Invalid {
            option: "include-cidr",
            value: first.to_string(),
            reason: "is IPv6, of which nothing can be captured here; include an IPv4 network".to_owned(),
        });
    }
    let mut rules = vec![outside(v4, IpVersion::V4)];
    if ipv6 {
        rules.push(outside(v6, IpVersion::V6));
    }
    Ok(rules)
}

fn outside(nets: Option<Nets>, version: IpVersion) -> Rule {
    match nets {
        Some(nets) => leave(vec![Match::Destination { nets, within: false }], "not in include-cidr"),
        None => leave(vec![Match::Version(version)], &format!("include-cidr has no {version} network")),
    }
}

/// Before the exclusions by port: to capture DNS is to capture it on its port.
fn dns(options: &Options) -> Vec<Rule> {
    let Some(port) = options.capture_dns else { return Vec::new() };
    let to_resolver = |of| Rule {
        matches: match of {
            Transport::Udp => vec![asked(of)],
            Transport::Tcp => vec![Match::Syn, asked(of)],
        },
        action: Action::Redirect(PortRange::one(port)),
        comment: "capture-dns".to_owned(),
    };
    vec![to_resolver(Transport::Udp), to_resolver(Transport::Tcp)]
}

fn asked(of: Transport) -> Match {
    Match::Port { of, ports: vec![DNS_PORT], within: true }
}

fn ports_left_alone(options: &Options) -> Vec<Rule> {
    let tcp = |ports, within| Match::Port { of: Transport::Tcp, ports: sorted(ports), within };
    let mut rules = Vec::new();
    if !options.exclude_port.is_empty() {
        rules.push(leave(vec![tcp(&options.exclude_port, true)], "exclude-port"));
    }
    if !options.include_port.is_empty() {
        rules.push(leave(vec![tcp(&options.include_port, false)], "not in include-port"));
    }
    rules
}

fn redirect(port: PortRange) -> Rule {
    Rule {
        matches: vec![Match::Syn],
        action: Action::Redirect(port),
        comment: "new connections go to dragoman; older sessions stay as they are".to_owned(),
    }
}

/// Of all packets, dragoman's too: it is the answers of its listener that a reset would come of.
fn invalid(options: &Options) -> Vec<Rule> {
    let rule = Rule {
        matches: vec![Match::TcpInvalid],
        action: Action::Drop,
        comment: "drop-invalid: it would arrive untranslated and reset its connection".to_owned(),
    };
    options.drop_invalid.then_some(rule).into_iter().collect()
}

/// First, because every packet meets the filter chain and nearly all of them end here. What was redirected is
/// told by its translation: the kernel still shows the interface that it would have left by.
fn not_to_judge() -> [Rule; 2] {
    [
        leave(vec![Match::TcpButSyn], "only first packets are judged"),
        leave(vec![Match::Translated], "redirected, by these rules or by others"),
    ]
}

fn quic(options: &Options) -> Vec<Rule> {
    let rule = Rule {
        matches: vec![Match::Port { of: Transport::Udp, ports: vec![QUIC_PORT], within: true }],
        action: Action::Unreachable,
        comment: "reject-quic: the client takes TCP, which is captured".to_owned(),
    };
    options.reject_quic.then_some(rule).into_iter().collect()
}

/// What is captured of DNS does not come here: it is translated.
fn udp(options: &Options, ipv6: bool) -> Vec<Rule> {
    let Some(nets) = &options.udp_only_to else { return Vec::new() };
    let (v4, v6) = Nets::of(nets);
    let any_udp = Match::Port { of: Transport::Udp, ports: vec![DNS_PORT], within: false };
    let kept = v4.into_iter().chain(v6.filter(|_| ipv6)).map(|nets| {
        leave(vec![any_udp.clone(), Match::Destination { nets, within: true }], "UDP that stays here")
    });
    let refused = Rule {
        matches: vec![any_udp.clone()],
        action: Action::Unreachable,
        comment: "no UDP but DNS gets out: the client takes TCP, which is captured".to_owned(),
    };
    kept.chain([refused]).collect()
}

fn refuse() -> Rule {
    Rule {
        matches: vec![Match::Syn],
        action: Action::Reset,
        comment: "to be captured, and not redirected: refused rather than let by".to_owned(),
    }
}

fn notes(options: &Options, ipv6: bool) -> Vec<String> {
    if options.udp_only_to.is_some() {
        return vec!["Only TCP and DNS are captured: other UDP is refused.".to_owned()];
    }
    let mut notes = vec![match (options.capture_dns, options.reject_quic) {
        (None, false) => "Only TCP is captured: UDP, and with it QUIC, passes by.",
        (None, true) => "Only TCP is captured: UDP passes by, save for QUIC to port 443, which is refused.",
        (Some(_), false) => "Only TCP and DNS are captured: other UDP, and with it QUIC, passes by.",
        (Some(_), true) => {
            "Only TCP and DNS are captured: other UDP passes by, save for QUIC to port 443, which is refused."
        }
    }
    .to_owned()];
    if !ipv6 {
        notes.push("IPv6 is not captured: its connections pass by.".to_owned());
    }
    notes
}

fn leave(matches: Vec<Match>, comment: &str) -> Rule {
    Rule { matches, action: Action::Leave, comment: comment.to_owned() }
}

fn sorted<T: Clone + Ord>(values: &[T]) -> Vec<T> {
    let mut values = values.to_vec();
    values.sort_unstable();
    values
}
