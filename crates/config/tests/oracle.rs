//! Which destination wins, against an oracle that reads the rule of the reference page literally.

use std::{
    cmp::Reverse,
    net::{IpAddr, SocketAddr},
};

use dragoman_config::{Config, Destination, Name};
use proptest::prelude::*;

/// A destination as the oracle sees it.
#[derive(Clone, Debug)]
struct Rule {
    name: String,
    hosts: Vec<String>,
    sni: Vec<String>,
    cidrs: Vec<String>,
    ports: Vec<(u16, u16)>,
}

impl Rule {
    fn toml(&self) -> String {
        let mut text = format!("[destination.{}]\n", self.name);
        let strings =
            |list: &[String]| list.iter().map(|item| format!("{item:?}")).collect::<Vec<_>>().join(", ");
        for (key, list) in [("hosts", &self.hosts), ("sni", &self.sni), ("cidrs", &self.cidrs)] {
            if !list.is_empty() {
                text.push_str(&format!("{key} = [{}]\n", strings(list)));
            }
        }
        let ports =
            self.ports.iter().map(|(a, b)| if a == b { a.to_string() } else { format!("\"{a}-{b}\"") });
        if !self.ports.is_empty() {
            text.push_str(&format!("ports = [{}]\n", ports.collect::<Vec<_>>().join(", ")));
        }
        text
    }

    /// The rank of the rule as the reference page states it, or `None` if it does not match.
    fn rank(&self, dst: SocketAddr, name: Name<'_>) -> Option<(usize, i32, i32, Reverse<&str>)> {
        let named = match name {
            _ if self.hosts.is_empty() && self.sni.is_empty() => 0,
            Name::None => return None,
            Name::Host(name) => self.hosts.iter().filter_map(|it| pattern_rank(it, name)).max()?,
            Name::Sni(name) => self.sni.iter().filter_map(|it| pattern_rank(it, name)).max()?,
        };
        let network = match self.cidrs.is_empty() {
            true => -1,
            false => self.cidrs.iter().filter_map(|cidr| prefix_rank(cidr, dst.ip())).max()?,
        };
        let ports = match self.ports.is_empty() {
            true => i32::MIN,
            false => {
                let inside =
                    self.ports.iter().filter(|(first, last)| *first <= dst.port() && dst.port() <= *last);
                inside.map(|(first, last)| i32::from(*first) - i32::from(*last)).max()?
            }
        };
        Some((named, network, ports, Reverse(&self.name)))
    }
}

fn pattern_rank(pattern: &str, name: &str) -> Option<usize> {
    match pattern.strip_prefix('*') {
        Some(suffix) => (name.len() > suffix.len() && name.ends_with(suffix)).then_some(suffix.len()),
        None => (pattern == name).then_some(usize::MAX),
    }
}

fn prefix_rank(cidr: &str, ip: IpAddr) -> Option<i32> {
    let (network, length) = cidr.split_once('/')?;
    let length: u32 = length.parse().ok()?;
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, false),
        IpAddr::V6(v6) => (v6.to_bits(), true),
    };
    let ((network, v6), (ip, ip_v6)) = (bits(network.parse().ok()?), bits(ip));
    let same = length == 0 || (network ^ ip) >> (128 - length) == 0;
    (v6 == ip_v6 && same).then(|| i32::try_from(length).unwrap_or(i32::MAX))
}

fn names() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b.a", "c.b.a", "d.c.b.a", "b", "a.b", "x.a.b"]).prop_map(str::to_owned)
}

fn patterns() -> impl Strategy<Value = Vec<String>> {
    let pattern = prop_oneof![names(), names().prop_map(|name| format!("*.{name}"))];
    unique(pattern, 3)
}

fn cidrs() -> impl Strategy<Value = Vec<String>> {
    let cidr = prop::sample::select(vec![
        "0.0.0.0/0",
        "10.0.0.0/8",
        "10.1.0.0/16",
        "10.1.1.0/24",
        "10.1.1.1/32",
        "::/0",
        "fd00::/8",
        "fd00:1::/32",
    ]);
    unique(cidr.prop_map(str::to_owned), 3)
}

fn ports() -> impl Strategy<Value = Vec<(u16, u16)>> {
    unique(prop::sample::select(vec![(80, 80), (81, 81), (80, 81), (80, 99), (1, 65535), (5000, 65535)]), 2)
}

fn unique<T: Clone + Ord + std::fmt::Debug>(
    item: impl Strategy<Value = T>,
    most: usize,
) -> impl Strategy<Value = Vec<T>> {
    prop::collection::btree_set(item, 0..=most).prop_map(|set| set.into_iter().collect())
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let rule = (patterns(), patterns(), cidrs(), ports());
    prop::collection::vec(rule, 1..8).prop_map(|rules| {
        let named = rules.into_iter().enumerate().map(|(number, (hosts, sni, cidrs, ports))| Rule {
            name: format!("r{number}"),
            hosts,
            sni,
            cidrs,
            ports,
        });
        // One that states nothing takes the place of "default", which the table test shows.
        let stated = named.filter(|it| {
            !(it.hosts.is_empty() && it.sni.is_empty() && it.cidrs.is_empty() && it.ports.is_empty())
        });
        stated.collect()
    })
}

fn flows() -> impl Strategy<Value = (SocketAddr, Option<(bool, String)>)> {
    let ip = prop::sample::select(vec![
        "10.1.1.1",
        "10.1.2.1",
        "10.9.9.9",
        "192.0.2.1",
        "fd00:1::1",
        "2001:db8::1",
    ]);
    let port = prop::sample::select(vec![80_u16, 81, 90, 443, 6000]);
    (ip, port, prop::option::of((any::<bool>(), names())))
        .prop_map(|(ip, port, name)| (SocketAddr::new(ip.parse().expect("an address"), port), name))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn lookup_agrees_with_the_rule_read_literally(
        rules in rules(),
        flows in prop::collection::vec(flows(), 1..20),
    ) {
        let text: String = rules.iter().map(Rule::toml).collect();
        // Rules that can never match are refused; what is left to say of those files is below.
        let Ok(config) = Config::parse("test.toml", &text, &|_| None) else {
            let shadowed = rules.iter().any(|rule| rules.iter().any(|other| shadows(other, rule)));
            prop_assert!(shadowed, "refused without need:\n{text}");
            return Ok(());
        };
        for (dst, name) in &flows {
            let name = match name {
                None => Name::None,
                Some((true, name)) => Name::Host(name),
                Some((false, name)) => Name::Sni(name),
            };
            let ranked = rules.iter().filter_map(|rule| Some((rule.rank(*dst, name)?, rule)));
            let want = ranked.max_by(|a, b| a.0.cmp(&b.0)).map_or("default", |(_, rule)| &rule.name);
            prop_assert_eq!(&*config.lookup(*dst, name).name, want, "{} {:?}\n{}", dst, name, text);
            let mapped = match dst.ip() {
                IpAddr::V4(v4) => SocketAddr::new(v4.to_ipv6_mapped().into(), dst.port()),
                IpAddr::V6(_) => *dst,
            };
            prop_assert_eq!(config.lookup(mapped, name).index, config.lookup(*dst, name).index);
            check_by_address(&config, *dst, name)?;
            let explained = config.explain(*dst, name, dragoman_config::Known::Nothing);
            prop_assert_eq!(&*explained.destination.name, want);
            for (passed, why) in &explained.destinations.told {
                let matches = rules.iter().find(|rule| rule.name == **passed).map(|rule| rule.rank(*dst, name).is_some());
                prop_assert_eq!(matches.unwrap_or(why.starts_with("matches")), why.starts_with("matches"), "{}: {}\n{}", passed, why, text);
            }
        }
    }
}

/// Whether each match of `rule` is one of `other`, in the same words, and `other` comes first by name.
fn shadows(other: &Rule, rule: &Rule) -> bool {
    fn within<T: PartialEq>(inner: &[T], outer: &[T]) -> bool {
        inner.iter().all(|item| outer.contains(item))
    }
    let named = |rule: &Rule| !rule.hosts.is_empty() || !rule.sni.is_empty();
    other.name < rule.name
        && named(other) == named(rule)
        && other.cidrs.is_empty() == rule.cidrs.is_empty()
        && other.ports.is_empty() == rule.ports.is_empty()
        && within(&rule.hosts, &other.hosts)
        && within(&rule.sni, &other.sni)
        && within(&rule.cidrs, &other.cidrs)
        && within(&rule.ports, &other.ports)
}

/// Whatever a name decides must have been announced by what the address alone said.
fn check_by_address(config: &Config, dst: SocketAddr, name: Name<'_>) -> Result<(), TestCaseError> {
    let early = config.by_address(dst, None);
    let late: &Destination = config.lookup(dst, name);
    prop_assert!(early.name_may_decide || early.destination.index == late.index);
    prop_assert!(early.name_may_decide || !early.name_may_deny);
    Ok(())
}
