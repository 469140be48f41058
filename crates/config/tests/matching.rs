//! Which destination and which route win, case by case.

use std::net::SocketAddr;

use dragoman_config::{Config, Name, Request};

fn parse(text: &str) -> Config {
    Config::parse("test.toml", text, &|_| None).unwrap_or_else(|errors| panic!("{errors}"))
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| panic!("{text} is no address"))
}

const DESTINATIONS: &str = r#"
[destination.exact]
hosts = ["pay.example.com"]
[destination.below]
hosts = ["*.example.com"]
sni = ["*.example.com"]
[destination.deeper]
hosts = ["*.eu.example.com"]
[destination.exact-here]
hosts = ["pay.example.com"]
cidrs = ["10.1.0.0/16"]
[destination.tls]
sni = ["pay.example.com"]
ports = [443]
[destination.net]
cidrs = ["10.0.0.0/8", "fd00::/8"]
[destination.subnet]
cidrs = ["10.1.0.0/16"]
[destination.port]
ports = [5432]
[destination.ports]
ports = ["5000-5999", 7000]
[destination.subnet-port]
cidrs = ["10.1.0.0/16"]
ports = [5432]
[destination.forbidden]
hosts = ["evil.test"]
ports = ["9000-9001"]
deny = true
"#;

#[test]
fn the_most_specific_destination_wins() {
    let config = parse(DESTINATIONS);
    let host = Name::Host;
    let sni = Name::Sni;
    for (dst, name, want) in [
        // Names: exact, wildcards of any depth, case, ports, the final dot.
        ("192.0.2.1:80", host("pay.example.com"), "exact"),
        ("192.0.2.1:80", host("PAY.Example.COM"), "exact"),
        ("192.0.2.1:80", host("pay.example.com:8080"), "exact"),
        ("192.0.2.1:80", host("pay.example.com:"), "exact"),
        ("192.0.2.1:80", host("pay.example.com.:80"), "exact"),
        ("192.0.2.1:80", host("www.example.com"), "below"),
        ("192.0.2.1:80", host("a.b.example.com"), "below"),
        ("192.0.2.1:80", host("a.eu.example.com"), "deeper"),
        ("192.0.2.1:80", host("eu.example.com"), "below"),
        ("192.0.2.1:80", host("example.com"), "default"),
        ("192.0.2.1:80", host(".example.com"), "default"),
        ("192.0.2.1:80", host("badexample.com"), "default"),
        ("192.0.2.1:80", host(""), "default"),
        ("192.0.2.1:80", host("[::1]:80"), "default"),
        ("192.0.2.1:80", host("[fd00::1]"), "default"),
        // A name says more than an address, and an address more than none.
        ("10.1.2.3:80", host("pay.example.com"), "exact-here"),
        ("10.1.2.3:80", host("www.example.com"), "below"),
        ("10.1.2.3:80", host("other.test"), "subnet"),
        // The kind of name counts.
        ("192.0.2.1:443", sni("pay.example.com"), "tls"),
        ("192.0.2.1:8443", sni("pay.example.com"), "below"),
        ("192.0.2.1:443", sni("a.eu.example.com"), "below"),
        ("192.0.2.1:443", sni("example.com"), "default"),
        // Addresses and ports.
        ("10.2.0.1:80", Name::None, "net"),
        ("[fd12::1]:80", Name::None, "net"),
        ("[fe80::1]:80", Name::None, "default"),
        ("10.1.0.1:80", Name::None, "subnet"),
        ("10.1.0.1:5432", Name::None, "subnet-port"),
        ("10.1.0.1:5433", Name::None, "subnet"),
        ("192.0.2.1:5432", Name::None, "port"),
        ("192.0.2.1:5000", Name::None, "ports"),
        ("192.0.2.1:5999", Name::None, "ports"),
        ("192.0.2.1:6000", Name::None, "default"),
        ("192.0.2.1:7000", Name::None, "ports"),
        // What the kernel calls IPv6 and is IPv4.
        ("[::ffff:10.2.0.1]:80", Name::None, "net"),
        ("[::ffff:10.1.0.1]:5432", host("nobody"), "subnet-port"),
        ("[::ffff:192.0.2.1]:80", host("pay.example.com"), "exact"),
        // A name whose destination has other ports falls through.
        ("192.0.2.1:9000", host("evil.test"), "forbidden"),
        ("192.0.2.1:9002", host("evil.test"), "default"),
    ] {
        assert_eq!(&*config.lookup(address(dst), name).name, want, "{dst} {name:?}");
    }
}

#[test]
fn an_endless_name_costs_nothing() {
    let config = parse(DESTINATIONS);
    let name = "a.".repeat(1_000_000);
    assert_eq!(&*config.lookup(address("192.0.2.1:80"), Name::Host(&name)).name, "default");
}

#[test]
fn what_an_address_leaves_open() {
    let by_host = "[destination.a]\nhosts = [\"a\"]\ncidrs = [\"10.0.0.0/8\"]\n";
    let by_address = "[destination.a]\ncidrs = [\"10.0.0.0/8\"]\ndeny = true\n";
    for (text, dst, destination, may_decide, may_deny) in [
        (DESTINATIONS, "10.1.0.1:5432", "subnet-port", true, false),
        (DESTINATIONS, "192.0.2.1:9001", "default", true, true),
        (DESTINATIONS, "[::ffff:192.0.2.1]:9001", "default", true, true),
        ("", "10.0.0.1:80", "default", false, false),
        (by_host, "10.0.0.1:80", "default", true, false),
        (by_host, "11.0.0.1:80", "default", false, false),
        (by_address, "10.0.0.1:80", "a", false, false),
    ] {
        let config = parse(text);
        let by_address = config.by_address(address(dst), None);
        assert_eq!(&*by_address.destination.name, destination, "{dst}");
        assert_eq!((by_address.name_may_decide, by_address.name_may_deny), (may_decide, may_deny), "{dst}");
    }
}

#[test]
fn a_learnt_name_decides_until_the_flow_gives_one() {
    let text = "[destination.db]\nhosts = [\"db.test\", \"*.db.test\"]\nprotocol = \"opaque\"\n\
                [destination.ads]\nhosts = [\"ads.test\"]\ndeny = true\n\
                [destination.net]\ncidrs = [\"10.0.0.0/8\"]\n[destination.tls]\nsni = [\"tls.test\"]\n";
    let config = parse(text);
    for (learnt, destination, may_deny) in [
        (None, "net", true),
        (Some("db.test"), "db", false),
        (Some("a.db.test"), "db", false),
        (Some("ads.test"), "ads", false),
        (Some("other.test"), "net", false),
        (Some("tls.test"), "net", false),
    ] {
        let by_address = config.by_address(address("10.0.0.1:5432"), learnt);
        assert_eq!(&*by_address.destination.name, destination, "{learnt:?}");
        assert_eq!((by_address.name_may_deny, by_address.learnt), (may_deny, learnt.is_some()), "{learnt:?}");
        assert!(by_address.name_may_decide);
    }
}

#[test]
fn equals_are_decided_by_name() {
    let config = parse(
        "[destination.b]\nhosts = [\"x\", \"b\"]\n[destination.a]\nhosts = [\"x\", \"a\"]\n\
         [destination.c]\ncidrs = [\"10.0.0.0/8\", \"11.0.0.0/8\"]\n[destination.d]\ncidrs = [\"10.0.0.0/8\", \"12.0.0.0/8\"]\n",
    );
    let dst = address("10.0.0.1:80");
    assert_eq!(&*config.lookup(dst, Name::Host("x")).name, "a");
    assert_eq!(&*config.lookup(dst, Name::Host("b")).name, "b");
    assert_eq!(&*config.lookup(dst, Name::None).name, "c");
}

const ROUTES: &str = r#"
[destination.a]
hosts = ["a"]
[destination.a.route.exact]
path = "/v1/charges"
[destination.a.route.exact-post]
path = "/v1/charges"
methods = ["POST", "PUT"]
[destination.a.route.exact-post-gold]
path = "/v1/charges"
methods = ["POST"]
match_headers = { X-Tenant = "gold" }
[destination.a.route.template]
path = "/v1/{id}/refunds"
[destination.a.route.template-literal]
path = "/v1/charges/{id}"
[destination.a.route.prefix]
path = "/v1/*"
[destination.a.route.longer]
path = "/v1/reports/*"
[destination.a.route.purge]
methods = ["PURGE"]
[destination.a.route.debug]
match_headers = { "x-debug" = "*" }
"#;

#[test]
fn the_most_specific_route_wins() {
    let config = parse(ROUTES);
    let destination = config.lookup(address("192.0.2.1:80"), Name::Host("a"));
    let route = |method: &str, path: &str, headers: &[(&str, &str)]| {
        let header =
            |name: &str| headers.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_bytes());
        let request = Request { method, path, host: "a", query: b"", header: &header };
        destination.route(&request).map_or("none", |route| &*route.name).to_owned()
    };
    for (method, path, headers, want) in [
        ("GET", "/v1/charges", &[][..], "exact"),
        ("GET", "/v1/charges?limit=1", &[], "exact"),
        ("GET", "/v1/charges#x", &[], "exact"),
        ("POST", "/v1/charges", &[], "exact-post"),
        ("post", "/v1/charges", &[], "exact"),
        ("POST", "/v1/charges", &[("x-tenant", "gold")], "exact-post-gold"),
        ("POST", "/v1/charges", &[("x-tenant", "Gold")], "exact-post"),
        ("PUT", "/v1/charges", &[("x-tenant", "gold")], "exact-post"),
        ("GET", "/v1/7/refunds", &[], "template"),
        ("GET", "/v1/charges/refunds", &[], "template"),
        ("GET", "/v1/charges/7", &[], "template-literal"),
        ("GET", "/v1/charges/", &[], "prefix"),
        ("GET", "/v1/charges/7/x", &[], "prefix"),
        ("GET", "/v1/reports/2024/01", &[], "longer"),
        ("GET", "/v1/?x=/v1/charges", &[], "prefix"),
        ("GET", "/v1", &[], "none"),
        ("GET", "/V1/charges", &[], "none"),
        ("GET", "/v2/charges", &[("x-debug", "")], "debug"),
        ("PURGE", "/v2", &[("x-debug", "1")], "purge"),
        ("PURGE", "/v1/charges", &[], "exact"),
        ("OPTIONS", "*", &[], "none"),
        ("GET", "", &[], "none"),
    ] {
        assert_eq!(route(method, path, headers), want, "{method} {path} {headers:?}");
    }
}

#[test]
fn the_longest_names_are_found() {
    let name = [&"a".repeat(63), "."].concat().repeat(3) + &"b".repeat(61);
    let below = &name[2..];
    let config = parse(&format!(
        "[destination.d]\nhosts = [\"*.{below}\"]\n[destination.d.route.r]\nhosts = [\"*.{below}\"]\n"
    ));
    for (host, want) in [
        (format!("x.{below}"), Some("r")),
        (format!("x.{below}.:80"), Some("r")),
        (format!("xx.{below}"), None),
    ] {
        let destination = config.lookup(address("192.0.2.1:80"), Name::Host(&host));
        let request = Request { method: "GET", path: "/", host: &host, query: b"", header: &|_| None };
        assert_eq!(destination.route(&request).map(|route| &*route.name), want, "{host}");
    }
}

#[test]
fn equally_specific_routes_of_different_kinds_are_decided_by_name() {
    let patterns = ["/a/{x}", "/{x}/a", "/b/{x}", "/{x}/b", "/c/{x}"];
    let text = patterns
        .iter()
        .enumerate()
        .fold("[destination.a]\nhosts = [\"a\"]\n".to_owned(), |text, (number, path)| {
            format!("{text}route.r{number}.path = \"{path}\"\n")
        });
    let config = parse(&text);
    let destination = config.lookup(address("192.0.2.1:80"), Name::Host("a"));
    for (path, want) in [
        ("/a/a", "r0"),
        ("/b/a", "r1"),
        ("/b/b", "r2"),
        ("/a/b", "r0"),
        ("/c/b", "r3"),
        ("/c/c", "r4"),
        ("/d/b", "r3"),
    ] {
        let request = Request { method: "GET", path, host: "a", query: b"", header: &|_| None };
        assert_eq!(destination.route(&request).map(|route| &*route.name), Some(want), "{path}");
    }
}
