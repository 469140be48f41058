//! What the keys of TLS come to.

use std::path::PathBuf;

use dragoman_config::{
    Config, Destination, IdentityFiles, Inbound, InboundPort, Name, Origination, PeerPattern, Protocol,
    RootSource, TlsVersion, Verify,
};
use dragoman_policy::SpiffePattern;

fn parse(text: &str) -> Config {
    Config::parse("test.toml", text, &|_| None).unwrap_or_else(|errors| panic!("{errors}"))
}

fn named<'a>(config: &'a Config, name: &str) -> &'a Destination {
    config.destinations().iter().find(|it| &*it.name == name).expect("a destination of that name")
}

fn tls(config: &Config, name: &str) -> Origination {
    named(config, name).tls.clone().expect("it is on")
}

fn files(certificate: &str, key: &str) -> IdentityFiles {
    IdentityFiles { certificate: certificate.into(), key: key.into() }
}

fn spiffe(text: &str) -> SpiffePattern {
    SpiffePattern::parse(text).expect("a pattern")
}

const PLAIN: Origination = Origination {
    port: None,
    server_name: None,
    verify: Verify::Name,
    roots: Vec::new(),
    crls: Vec::new(),
    pins: Vec::new(),
    min_version: TlsVersion::V1_2,
    post_quantum: true,
    identity: None,
};

#[test]
fn the_server_is_verified_by_name_unless_something_else_is_said() {
    let config = parse("[destination.a]\nhosts = ['a']\ntls = {}\n[destination.b]\nhosts = ['b']\n");
    assert_eq!(tls(&config, "a"), Origination { roots: vec![RootSource::Webpki], ..PLAIN });
    assert!(named(&config, "b").tls.is_none() && config.destinations()[0].tls.is_none());
    assert!(config.inbound.is_none());
}

#[test]
fn every_key_of_tls_is_carried_over() {
    let config = parse(
        "[destination.a]\nhosts = ['a']\ntls = { port = 8443, server_name = 'Pay.Example', \
         roots = ['system', '/ca.pem'], crls = ['/a.crl'], min_version = '1.3', post_quantum = false, \
         pins = ['sha256/AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA='], \
         spiffe = ['spiffe://shop.test/ns/pay/*'], identity = { certificate = '/c', key = '/k' } }\n",
    );
    let mut pin = [0; 32];
    pin[0] = 1;
    let wanted = Origination {
        port: Some(8443),
        server_name: Some("pay.example".into()),
        verify: Verify::Spiffe(vec![spiffe("spiffe://shop.test/ns/pay/*")]),
        roots: vec![RootSource::System, RootSource::Pem("/ca.pem".into())],
        crls: vec![PathBuf::from("/a.crl")],
        pins: vec![pin],
        min_version: TlsVersion::V1_3,
        post_quantum: false,
        identity: Some(files("/c", "/k")),
    };
    assert_eq!(tls(&config, "a"), wanted);
}

#[test]
fn an_identity_is_that_of_the_process_unless_a_destination_has_its_own_or_none() {
    let config = parse(
        r#"
[identity]
certificate = "/all.crt"
key = "/all.key"
[defaults]
tls = { port = 443, server_name = "192.0.2.1" }
[destination.same]
hosts = ["same"]
[destination.own]
hosts = ["own"]
tls = { identity = { certificate = "/own.crt", key = "/own.key" } }
[destination.none]
hosts = ["none"]
tls = { identity = false }
[destination.plain]
hosts = ["plain"]
tls = false
"#,
    );
    assert_eq!(config.destinations()[0].tls, named(&config, "same").tls);
    assert_eq!(tls(&config, "same").identity, Some(files("/all.crt", "/all.key")));
    assert_eq!(tls(&config, "own").identity, Some(files("/own.crt", "/own.key")));
    assert_eq!(tls(&config, "own").server_name.as_deref(), Some("192.0.2.1"));
    assert_eq!(tls(&config, "none").identity, None);
    assert!(named(&config, "plain").tls.is_none());
}

#[test]
fn what_is_inherited_has_no_effect_where_it_means_nothing() {
    let config = parse(
        r#"
[defaults]
tls = { port = 443, roots = ["/ca.pem"], crls = ["/crl"] }
[destination.endpoints]
hosts = ["endpoints"]
endpoints = ["192.0.2.1:8443"]
[destination.danger]
hosts = ["danger"]
tls = { danger_accept_any_certificate = true }
[destination.no]
hosts = ["no"]
deny = true
[destination.own]
sni = ["own"]
"#,
    );
    let endpoints = tls(&config, "endpoints");
    assert_eq!((endpoints.port, endpoints.roots.len(), endpoints.crls.len()), (None, 1, 1));
    let danger = Origination { port: Some(443), verify: Verify::Nothing, ..PLAIN };
    assert_eq!(tls(&config, "danger"), danger, "no file of it is read");
    assert!(named(&config, "no").tls.is_none() && named(&config, "own").tls.is_none());
}

const INBOUND: &str = r#"
[identity]
certificate = "/all.crt"
key = "/all.key"
[inbound]
roots = ["/ca.crt"]
allow = ["dns:Web.shop.test", "spiffe://shop.test/*"]
[inbound.app_port.8080]
protocol = "http"
mode = "permissive"
[inbound.app_port.9090]
allow = []
"#;

#[test]
fn a_port_of_the_app_starts_from_what_holds_for_all() {
    let allow =
        vec![PeerPattern::Dns("web.shop.test".into()), PeerPattern::Spiffe(spiffe("spiffe://shop.test/*"))];
    let wanted = Inbound {
        port: 15006,
        identity: files("/all.crt", "/all.key"),
        roots: vec![RootSource::Pem("/ca.crt".into())],
        crls: Vec::new(),
        min_version: TlsVersion::V1_2,
        rest: InboundPort { permissive: false, protocol: Protocol::Auto, allow: allow.clone() },
        ports: [
            (8080, InboundPort { permissive: true, protocol: Protocol::Http, allow }),
            (9090, InboundPort { permissive: false, protocol: Protocol::Auto, allow: Vec::new() }),
        ]
        .into(),
    };
    assert_eq!(parse(INBOUND).inbound, Some(wanted));
    let own = INBOUND.replace(
        "roots",
        "crls = ['/crl']\nidentity = { certificate = '/own.crt', key = '/own.key' }\nroots",
    );
    let own = parse(&own).inbound.expect("it is on");
    assert_eq!((own.identity, own.crls.len()), (files("/own.crt", "/own.key"), 1));
}

#[test]
fn a_reload_changes_who_may_connect_and_tells_what_waits() {
    let running = parse(INBOUND);
    let next = INBOUND.replace("[inbound]", "[inbound]\nport = 16006\nmode = 'permissive'");
    let next = parse(&next.replace("/all", "/other")).adopt(&running);
    assert_eq!(next.waits_for_restart(), ["inbound.port", "inbound.identity"]);
    let inbound = next.inbound.as_ref().expect("it is on");
    assert_eq!((inbound.port, &inbound.identity), (15006, &files("/all.crt", "/all.key")));
    assert!(inbound.rest.permissive);
    let off = parse("").adopt(&next);
    assert_eq!(off.waits_for_restart(), ["inbound"]);
    assert_eq!(off.inbound, next.inbound, "what runs goes on");
    let on = parse(INBOUND).adopt(&parse(""));
    assert_eq!((on.waits_for_restart(), &on.inbound), (&["inbound"][..], &None));
}

#[test]
fn a_destination_whose_tls_changes_is_a_new_version() {
    let running =
        parse("[identity]\ncertificate = '/c'\nkey = '/k'\n[destination.a]\nhosts = ['a']\ntls = {}\n");
    for (next, changes) in [
        (
            "[identity]\ncertificate = '/c'\nkey = '/k'\n[destination.a]\nhosts = ['a']\ntls = { port = 1 }\n",
            true,
        ),
        ("[identity]\ncertificate = '/c'\nkey = '/x'\n[destination.a]\nhosts = ['a']\ntls = {}\n", true),
        (
            "[identity]\ncertificate = '/c'\nkey = '/k'\n[destination.a]\nhosts = ['a']\ntls = { crls = [] }\n",
            false,
        ),
    ] {
        let next = parse(next).adopt(&running);
        assert_eq!(named(&next, "a").generation, if changes { 2 } else { 1 });
    }
}

/// Connections to the app have a destination of their own, which nothing that the app dials leads to.
#[test]
fn what_comes_to_the_app_is_a_destination_that_matches_nothing() {
    let config = parse(&format!("[defaults]\ntimeout = '1s'\n[destination.zoo]\nhosts = ['zoo']\n{INBOUND}"));
    let inbound = config.inbound_destination().expect("it is on");
    let last = config.destinations().last().expect("it is the last");
    assert!(std::sync::Arc::ptr_eq(inbound, last) && &*inbound.name == "inbound");
    assert!(inbound.policy.timeout.is_none() && inbound.tls.is_none() && !inbound.observe_only);
    for address in ["198.18.0.1:80", "198.18.0.1:15006", "127.0.0.1:8080"] {
        let address = address.parse().expect("an address");
        assert_eq!(&*config.lookup(address, Name::None).name, "default");
        assert_eq!(&*config.lookup(address, Name::Host("inbound")).name, "default");
    }
    assert!(parse("[destination.inbound]\nhosts = ['a']\n").inbound_destination().is_none());
    let twice =
        Config::parse("test.toml", &format!("[destination.inbound]\nhosts = ['a']\n{INBOUND}"), &|_| None);
    let errors = twice.expect_err("two of that name").to_string();
    assert!(errors.contains("`inbound` is what `[inbound]` itself is called"), "{errors}");
}
