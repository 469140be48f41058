//! What a reload keeps: the identity of destinations, and the keys that are read at the start alone.

use std::sync::Arc;
use std::time::Duration;

use dragoman_config::{Config, Destination, Name, Propagation};

fn parse(text: &str) -> Config {
    Config::parse("test.toml", text, &|_| None).unwrap_or_else(|errors| panic!("{errors}"))
}

/// One configuration after the other in the same process.
fn reload(texts: &[&str]) -> Vec<Config> {
    let mut configs = vec![parse(texts[0])];
    for text in &texts[1..] {
        configs.push(parse(text).adopt(configs.last().unwrap()));
    }
    configs
}

fn named<'a>(config: &'a Config, name: &str) -> &'a Arc<Destination> {
    config.destinations().iter().find(|it| &*it.name == name).expect("a destination of that name")
}

const TWO: &str = "[destination.b]\nhosts = ['b']\n[destination.d]\nhosts = ['d']\n";

#[test]
fn an_index_belongs_to_its_name_for_the_life_of_the_process() {
    let three = format!("{TWO}[destination.a]\nhosts = ['a']\n");
    let only_d = "[destination.d]\nhosts = ['d']\n";
    let configs = reload(&[TWO, &three, only_d, &three]);
    for config in &configs {
        assert_eq!(named(config, "d").index, 2);
        for destination in config.destinations() {
            assert_eq!(config.names()[destination.index], destination.name);
            assert!(Arc::ptr_eq(config.at(destination.version()).unwrap(), destination));
        }
    }
    assert_eq!(configs[1].names().iter().map(|name| &**name).collect::<Vec<_>>(), ["default", "b", "d", "a"]);
    assert!(configs[2].at(named(&configs[1], "b").version()).is_none(), "it is gone");
    assert_eq!(configs[3].names().len(), 4, "a name that comes back is known");
    assert_eq!(configs.iter().map(Config::generation).collect::<Vec<_>>(), [1, 2, 3, 4]);
}

#[test]
fn what_is_found_is_right_where_index_and_place_differ() {
    let configs = reload(&[TWO, "[destination.a]\nhosts = ['a']\n[destination.d]\nhosts = ['d', '*.d']\n"]);
    let dst = "10.0.0.1:80".parse().unwrap();
    for (host, name) in [("a", "a"), ("d", "d"), ("x.d", "d"), ("b", "default")] {
        assert_eq!(&*configs[1].lookup(dst, Name::Host(host)).name, name, "{host}");
    }
}

#[test]
fn what_did_not_change_is_the_same_value_and_what_did_has_a_new_generation() {
    let with = |more: &str| format!("{TWO}{more}");
    for (before, after, d_changes) in [
        (TWO.to_owned(), with("# a comment\n[destination.z]\nports = [1]\n"), false),
        (TWO.to_owned(), with("timeout = '1s'\n"), true),
        (TWO.to_owned(), with("ports = [80]\n"), true),
        (TWO.to_owned(), with("breaker = {}\n"), true),
        (with("timeout = '1s'\n"), with("timeout = '1000ms'\n"), false),
        (
            with("[destination.d.route.r]\npath = '/a'\n"),
            with("[destination.d.route.r]\npath = '/b'\n"),
            true,
        ),
        (
            with("[destination.d.route.r]\npath = '/a'\n"),
            with("[destination.d.route.s]\npath = '/a'\n"),
            true,
        ),
        // What is inherited counts, and only where it is.
        (TWO.to_owned(), with("[defaults]\nretry = {}\n"), true),
        (with("retry = false\n"), with("retry = false\n[defaults]\nretry = {}\n"), false),
        (with("[proxy]\ndrain = '1s'\n"), with("[proxy]\ndrain = '2s'\n"), false),
    ] {
        let configs = reload(&[&before, &after, &after]);
        let d: Vec<_> = configs.iter().map(|config| named(config, "d")).collect();
        assert_eq!(Arc::ptr_eq(d[0], d[1]), !d_changes, "{before}\n{after}");
        assert_eq!(d[1].generation, if d_changes { 2 } else { 1 }, "{before}\n{after}");
        assert!(Arc::ptr_eq(d[1], d[2]), "nothing changed the second time");
    }
}

#[test]
fn a_destination_that_was_gone_comes_back_as_a_new_one() {
    let configs = reload(&[TWO, "", TWO]);
    let before = named(&configs[0], "b").version();
    assert_eq!((before.generation, named(&configs[2], "b").generation), (1, 3));
    assert!(configs[0].at(before).is_some() && configs[2].at(before).is_none());
}

#[test]
fn the_implicit_destination_gives_way_to_one_of_the_users() {
    let configs = reload(&["", "[destination.rest]\n", ""]);
    let first: Vec<_> = configs.iter().map(|config| &config.destinations()[0]).collect();
    assert_eq!(
        first.iter().map(|it| (it.index, it.observe_only)).collect::<Vec<_>>(),
        [(0, true), (1, false), (0, true)]
    );
}

#[test]
fn keys_that_are_read_at_the_start_keep_the_running_value_and_are_told() {
    let start = "[proxy]\nport = 16000\nworkers = 1\nmax_flows = 10\n";
    let next = "[proxy]\nport = 16001\nport_count = 2\nmark = 1\nworkers = 2\nmax_flows = 20\ndrain = '1s'\n\
                [admin]\nlisten = []\n[log]\naccess = 'all'\nformat = 'json'\n\
                [trace]\nendpoint = 'http://a:1'\nsample = 0.5\npropagation = 'b3'\nheaders = { a = 'b' }\n";
    let configs = reload(&[start, next, next, start]);
    for config in &configs[1..3] {
        assert_eq!((config.proxy.port, config.proxy.workers, config.admin.listen.len()), (16000, 1, 1));
        assert!(config.proxy.listen.iter().all(|address| address.port() == 16000));
        assert_eq!((config.proxy.listen.len(), config.proxy.mark), (2, None));
        assert_eq!(
            (config.proxy.max_flows, config.proxy.drain),
            (20, Duration::from_secs(1)),
            "these are live"
        );
        let trace = &config.trace;
        assert_eq!((&trace.endpoint, trace.sample, trace.propagation), (&None, 0.5, Propagation::B3));
        let waits = [
            "proxy.port",
            "proxy.port_count",
            "proxy.mark",
            "proxy.workers",
            "admin.listen",
            "log.format",
            "trace.endpoint",
            "trace.headers",
        ];
        assert_eq!(config.waits_for_restart(), waits);
    }
    assert!(configs[3].waits_for_restart().is_empty(), "it says again what runs");
}
