//! What a file comes to: defaults, inheritance, environment, and the printed form of it all.

use std::net::SocketAddr;
use std::time::Duration;

use dragoman_config::{
    Config, Destination, Level, Name, PoolParams, Protocol, ResponseRules, Secrets, UpstreamProtocol,
};
use dragoman_policy::{BreakerParams, GrpcStatus, GrpcStatusSet, RetryParams};

fn parse(text: &str) -> Config {
    parse_with(text, &[])
}

fn parse_with(text: &str, env: &[(&str, &str)]) -> Config {
    let env = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    Config::parse("test.toml", text, &env).unwrap_or_else(|errors| panic!("{errors}"))
}

fn named<'a>(config: &'a Config, name: &str) -> &'a Destination {
    config.destinations().iter().find(|it| &*it.name == name).expect("a destination of that name")
}

#[test]
fn an_empty_file_changes_nothing() {
    for config in [Config::empty(), parse(""), parse("[proxy]\n[admin]\n[log]\n[defaults]\n[destination]\n")]
    {
        let [default] = config.destinations() else { panic!("one destination") };
        assert!(default.observe_only);
        assert_eq!((default.index, &*default.name), (0, "default"));
        assert_eq!(default.protocol, Protocol::Auto);
        assert!(default.policy.retry.is_none() && default.breaker.is_none() && default.pool.is_none());
        assert!(default.endpoints.is_empty() && !default.deny && default.routes.is_empty());
        assert_eq!(*default.policy, Default::default());
        assert_eq!(default.connect_timeout, Duration::from_secs(5));
        let listen: Vec<_> = config.proxy.listen.iter().map(ToString::to_string).collect();
        assert_eq!(listen, ["127.0.0.1:15001", "[::1]:15001"]);
        assert_eq!((config.proxy.port_count, config.proxy.mark), (1, None));
        assert_eq!(config.proxy.request_head_timeout, Duration::from_secs(30));
        assert_eq!(config.proxy.request_body_timeout, None);
        assert_eq!((config.proxy.max_h2_streams, config.proxy.replay_bytes), (256, 16 << 20));
        assert_eq!(default.upstream_protocol, UpstreamProtocol::Auto);
        assert_eq!(config.admin.listen.len(), 1);
        assert_eq!(config.log.access_file, None);
    }
}

#[test]
fn a_range_of_ports_is_listened_on_at_each_address() {
    let config = parse("[proxy]\nport = 16001\nport_count = 2\nmark = 4294967295\n");
    let listen: Vec<_> = config.proxy.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["127.0.0.1:16001", "127.0.0.1:16002", "[::1]:16001", "[::1]:16002"]);
    assert_eq!(config.proxy.mark, Some(u32::MAX));
}

#[test]
fn the_defaults_of_retry_and_breaker_are_those_of_the_algorithms() {
    let config = parse("[defaults]\nretry = {}\nbreaker = {}\n");
    let default = &config.destinations()[0];
    assert_eq!(default.policy.retry, Some(RetryParams::default()));
    let breaker = default.breaker.as_ref().expect("it is on");
    assert_eq!(breaker.params, BreakerParams::default());
    assert_eq!(breaker.statuses.iter().collect::<Vec<_>>(), (500..=599).collect::<Vec<_>>());
    let failures = [GrpcStatus::Unavailable, GrpcStatus::Unknown, GrpcStatus::Internal, GrpcStatus::DataLoss];
    assert_eq!(breaker.grpc_statuses, GrpcStatusSet::of(&failures));
    assert!(!default.observe_only);
}

#[test]
fn a_pool_is_bounded_as_stated() {
    let config = parse(
        "[defaults]\npool = { max_age = \"1h\", min_warm = 2 }\n[destination.a]\nhosts = [\"a\"]\n\
         pool = { max_size = 3 }\nupstream_protocol = \"http1\"\n",
    );
    let inherited = PoolParams {
        max_idle: 64,
        idle: Duration::from_secs(60),
        max_age: Some(Duration::from_secs(3600)),
        max_size: None,
        min_warm: 2,
    };
    assert_eq!(config.destinations()[0].pool, Some(inherited));
    let a = named(&config, "a");
    assert_eq!(a.pool, Some(PoolParams { max_size: Some(3), ..inherited }));
    assert_eq!(a.upstream_protocol, UpstreamProtocol::Http1);
    assert_eq!(parse("[defaults]\npool = {}\n").destinations()[0].pool.map(|it| it.max_age), Some(None));
}

#[test]
fn grpc_statuses_are_listed_by_name() {
    let config = parse(
        "[defaults]\nretry = { grpc_statuses = [\"unavailable\", \"resource_exhausted\"], refused = false }\n\
         breaker = { grpc_statuses = [\"data_loss\"] }\n",
    );
    let default = &config.destinations()[0];
    let retry = default.policy.retry.as_ref().expect("on");
    let listed = GrpcStatusSet::of(&[GrpcStatus::Unavailable, GrpcStatus::ResourceExhausted]);
    assert_eq!((retry.grpc_statuses, retry.refused), (listed, false));
    let breaker = default.breaker.as_ref().expect("on");
    assert_eq!(breaker.grpc_statuses, GrpcStatusSet::of(&[GrpcStatus::DataLoss]));
}

#[test]
fn observing_only_ends_where_policy_begins() {
    for (text, observe_only) in [
        ("[defaults]\nretry = false\ndeny = false", true),
        ("[log]\naccess = \"all\"", true),
        ("[destination.a]\nhosts = [\"a\"]\nretry = {}", true),
        ("[defaults]\nrequest_id = true", false),
        ("[defaults]\nconnect_timeout = \"1s\"", false),
        ("[defaults]\nheaders.remove = [\"x-a\"]", false),
        ("[defaults]\nresponse_headers.remove = [\"x-a\"]", false),
        ("[defaults]\nserver_timing = true", false),
        ("[defaults]\nprotocol = \"opaque\"", false),
        ("[defaults]\nupstream_protocol = \"http2\"", false),
        ("[destination.everything]\n", false),
    ] {
        assert_eq!(parse(text).destinations()[0].observe_only, observe_only, "{text}");
    }
}

#[test]
fn policy_is_inherited_key_by_key() {
    let config = parse(
        r#"
[defaults]
timeout = "9s"
retry = { attempts = 5, base = "1s", budget = { ratio = 0.5 } }
breaker = { failures = 9 }
headers = { set = { x-a = "default", x-b = "default" }, remove = ["x-r"] }
response_headers = { set = { x-a = "default", x-b = "default" }, remove = ["x-r"] }
response_time = true

[destination.own]
hosts = ["own"]
retry = { attempts = 2, budget = { window = "5s" } }
breaker = false
headers = { set = { X-A = "own" } }
response_headers = { remove = [] }
server_timing = true

[destination.own.route.r]
path = "/r"
retry = { budget = { min_per_second = 1 } }
trace = true

[destination.own.route.off]
path = "/off"
retry = false

[destination.plain]
hosts = ["plain"]
"#,
    );
    let own = named(&config, "own");
    let retry = own.policy.retry.as_ref().expect("on");
    assert_eq!((retry.attempts, retry.backoff.base), (2, Duration::from_secs(1)));
    assert_eq!((retry.budget.ratio, retry.budget.window), (0.5, Duration::from_secs(5)));
    assert!(own.breaker.is_none());
    assert_eq!(own.policy.headers.set, [("X-A".into(), "own".into()), ("x-b".into(), "default".into())]);
    assert_eq!(own.policy.headers.remove, ["x-r"]);
    let response = ResponseRules {
        set: vec![("x-a".into(), "default".into()), ("x-b".into(), "default".into())],
        remove: vec![],
        time: true,
        server_timing: true,
    };
    assert_eq!(own.policy.response, response);
    let route = |name| own.routes.iter().find(|route| &*route.name == name).expect("a route");
    let inner = route("r").policy.retry.as_ref().expect("on");
    assert_eq!((inner.attempts, inner.budget.min_per_second, inner.budget.ratio), (2, 1, 0.5));
    assert!(route("r").policy.headers.trace && !own.policy.headers.trace);
    assert_eq!(route("r").policy.timeout, Some(Duration::from_secs(9)));
    assert!(route("off").policy.retry.is_none());
    let plain = named(&config, "plain");
    assert_eq!(plain.policy.retry.as_ref().map(|retry| retry.attempts), Some(5));
    assert_eq!(plain.breaker.as_ref().map(|breaker| breaker.params.failures), Some(9));
}

#[test]
fn a_route_has_a_breaker_of_its_own_only_where_it_states_one() {
    let config = parse(
        r#"
[destination.a]
hosts = ["a"]
breaker = { failures = 7, open = "1s" }
[destination.a.route.own]
path = "/own"
breaker = { failures = 2 }
[destination.a.route.apart]
path = "/apart"
breaker = {}
[destination.a.route.none]
path = "/none"
[destination.b]
hosts = ["b"]
[destination.b.route.own]
path = "/own"
breaker = { window = "2s" }
"#,
    );
    let (a, b) = (named(&config, "a"), named(&config, "b"));
    let names: Vec<_> = a.routes.iter().map(|route| (&*route.name, route.index)).collect();
    assert_eq!(names, [("apart", 0), ("none", 1), ("own", 2)]);
    let of = |route: usize| a.routes[route].breaker.as_ref().map(|it| (it.params.failures, it.params.open));
    let second = Duration::from_secs(1);
    assert_eq!([of(0), of(1), of(2)], [Some((7, second)), None, Some((2, second))]);
    assert!(b.breaker.is_none());
    let own = b.routes[0].breaker.as_ref().expect("it is on").params;
    assert_eq!(own, BreakerParams { window: Duration::from_secs(2), ..BreakerParams::default() });
}

#[test]
fn what_defaults_turn_off_a_destination_turns_on() {
    let config = parse("[defaults]\nretry = false\n[destination.a]\nhosts = [\"a\"]\nretry = {}\n");
    assert_eq!(named(&config, "a").policy.retry, Some(RetryParams::default()));
    assert!(config.destinations()[0].policy.retry.is_none());
}

#[test]
fn a_destination_without_match_keys_takes_the_place_of_the_default() {
    let config = parse(
        "[destination.b]\nhosts = [\"b\"]\n[destination.z]\npool = {}\n[destination.a]\nsni = [\"a\"]\n",
    );
    let names: Vec<_> = config.destinations().iter().map(|it| (&*it.name, it.index)).collect();
    assert_eq!(names, [("z", 0), ("a", 1), ("b", 2)]);
    let dst = "192.0.2.1:80".parse().expect("an address");
    assert_eq!(&*config.lookup(dst, Name::None).name, "z");
}

#[test]
fn a_shorter_timeout_may_meet_an_inherited_longer_try_timeout() {
    parse("[defaults]\ntry_timeout = \"5s\"\n[destination.a]\nhosts = [\"a\"]\ntimeout = \"2s\"\n");
}

#[test]
fn the_environment_overrides_defaults_but_not_a_destination() {
    let env = [
        ("DRAGOMAN_RETRY_ATTEMPTS", "7"),
        ("DRAGOMAN_BREAKER_FAILURES", " 2 "),
        ("DRAGOMAN_UPSTREAM", "10.0.0.1:80, [fd00::1]:81"),
        ("DRAGOMAN_LOG_LEVEL", "debug"),
        ("DRAGOMAN_PROXY_DRAIN", "1m30s"),
        ("DRAGOMAN_PROXY_DRAIN_QUIET", "0s"),
        ("DRAGOMAN_PROXY_DRAIN_WHILE_LISTENING", "true"),
        ("DRAGOMAN_ADMIN_LISTEN", "0.0.0.0:15020,[::]:15020"),
        ("DRAGOMAN_DNS_LISTEN", "127.0.0.1:15053, [::1]:15053"),
        ("DRAGOMAN_CONTROL_QUIT_ON_TCP", "true"),
    ];
    let file = r#"
[proxy]
drain = "2s"
max_flows = 7
[log]
level = "error"
[defaults]
retry = false
breaker = { failures = 50, open = "1s" }
[destination.a]
hosts = ["a"]
retry = { attempts = 2 }
endpoints = ["10.9.9.9:99"]
"#;
    let config = parse_with(file, &env);
    assert_eq!(config.log.level, Level::Debug);
    let proxy = &config.proxy;
    assert_eq!((proxy.drain, proxy.max_flows), (Duration::from_secs(90), 7));
    assert_eq!((proxy.drain_quiet, proxy.drain_while_listening), (Duration::ZERO, true));
    let any: Vec<SocketAddr> =
        ["0.0.0.0:15020", "[::]:15020"].map(|any| any.parse().expect("an address")).into();
    assert_eq!((&config.admin.listen, config.control.quit_on_tcp), (&any, true));
    assert_eq!(config.dns.listen.len(), 2);
    let default = &config.destinations()[0];
    assert_eq!(default.policy.retry.as_ref().map(|retry| retry.attempts), Some(7));
    let breaker = default.breaker.as_ref().expect("on").params;
    assert_eq!((breaker.failures, breaker.open), (2, Duration::from_secs(1)));
    assert_eq!(default.endpoints.len(), 2);
    let a = named(&config, "a");
    assert_eq!(a.policy.retry.as_ref().map(|retry| retry.attempts), Some(2));
    assert_eq!(a.endpoints, ["10.9.9.9:99".parse().expect("an address")]);
    assert!(
        config.print(Secrets::Shown).contains("# environment DRAGOMAN_UPSTREAM\n"),
        "{}",
        config.print(Secrets::Shown)
    );

    let empty = env.map(|(name, _)| (name, " "));
    assert!(parse_with("", &empty).destinations()[0].observe_only);
}

/// Everything that the file can say, once.
const EVERYTHING: &str = include_str!("everything.toml");

#[test]
fn what_is_printed_means_the_same() {
    for text in ["", EVERYTHING, include_str!("../../../deploy/policies/example.toml")] {
        let config = parse(text);
        let printed = config.print(Secrets::Shown);
        let again = parse(&printed);
        assert_eq!(
            format!("{:#?}", config.destinations()),
            format!("{:#?}", again.destinations()),
            "{printed}"
        );
        assert_eq!((&config.proxy, &config.admin, &config.log), (&again.proxy, &again.admin, &again.log));
        assert_eq!((&config.control, &config.listeners), (&again.control, &again.listeners));
        assert_eq!(config.trace, again.trace, "{printed}");
        assert_eq!(config.recorder, again.recorder, "{printed}");
        assert_eq!(config.inbound, again.inbound, "{printed}");
    }
}

#[test]
fn what_is_printed_names_the_source_of_each_value() {
    let printed = parse("[defaults]\ntimeout = \"9s\"\n\n[destination.a]\nhosts = [\"a\"]\ntrace = true\n")
        .print(Secrets::Shown);
    let destination = printed.split("[destination.a]\n").nth(1).expect("a section");
    for (key, line) in [
        ("timeout", "timeout = \"9s\"                              # test.toml:2"),
        ("trace", "trace = true                                # test.toml:6"),
        ("deny", "deny = false                                # default"),
        ("# sni", "# sni is not set"),
        ("retry", "retry = false                               # default"),
    ] {
        let found = destination.lines().find(|line| line.starts_with(&format!("{key} ")));
        assert_eq!(found, Some(line), "{destination}");
    }
}

#[test]
fn secrets_are_masked_where_they_are_not_asked_for() {
    let text = r#"
[defaults]
danger_plain_text_credentials = ["0.0.0.0/0", "::/0"]
headers.set = { Authorization = "Bearer hunter2", "x-team" = "a" }
response_headers.set.set-cookie = "hunter2"
[destination.a]
hosts = ["a"]
headers.set.x-api-Key = "hunter2"
[destination.a.route.r]
match_headers = { "x-session" = "hunter2" }
query = { "access_token" = "hunter2", "page" = "1" }
headers.set.authorization = "hunter2"
"#;
    let config = parse(text);
    let masked = config.print(Secrets::Masked);
    assert!(!masked.contains("hunter2"), "{masked}");
    assert!(masked.contains("Authorization = \"***\""), "{masked}");
    assert!(masked.contains("# test.toml:4, masked\n"), "{masked}");
    assert!(masked.contains("x-team = \"a\"") && masked.contains("query.page = \"1\""), "{masked}");
    // Defaults, the destination and the route: as often as they take effect.
    assert_eq!(masked.matches("\"***\"").count(), 2 + 3 + 5, "{masked}");
    assert_eq!(config.print(Secrets::Shown).matches("hunter2").count(), 10);
    parse(&masked);
}

#[test]
fn every_key_of_the_reference_is_printed() {
    let printed = parse(EVERYTHING).print(Secrets::Shown);
    let page = dragoman_config::reference();
    let keys = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let missing: Vec<_> = keys
        .filter(|key| !key.contains("DRAGOMAN_") && !["proxy", "route"].contains(key))
        .filter(|key| !printed.contains(&format!("{key} ")) && !printed.contains(&format!("{key}.")))
        .collect();
    assert_eq!(missing, Vec::<&str>::new());
}

#[test]
fn a_plain_port_leads_to_its_destination_whatever_is_asked_for() {
    let config = parse(
        "[destination.a]\nhosts = ['a']\n[destination.b]\nhosts = ['b']\nendpoints = ['192.0.2.1:80']\n\
         [listener.x]\naddress = '127.0.0.1:9000'\ndestination = 'b'\n",
    );
    let at = "127.0.0.1:9000".parse().unwrap();
    for name in [Name::None, Name::Host("a"), Name::Sni("a")] {
        assert_eq!(&*config.lookup(at, name).name, "b", "{name:?}");
    }
    let by_address = config.by_address(at, None);
    assert_eq!((&*by_address.destination.name, by_address.name_may_decide), ("b", false));
    assert!(config.by_address("127.0.0.1:9001".parse().unwrap(), Some("b")).name_may_decide);
}

#[test]
fn a_destination_that_states_nothing_is_for_its_plain_port_alone() {
    let destinations =
        "[destination.a]\nendpoints = ['192.0.2.1:80']\n[destination.b]\nendpoints = ['192.0.2.2:80']\n";
    let listeners = "[listener.a]\naddress = '127.0.0.1:9000'\ndestination = 'a'\n\
                     [listener.b]\naddress = '127.0.0.1:9001'\ndestination = 'b'\n";
    let config = parse(&format!("{destinations}{listeners}"));
    let name = |at: &str| config.lookup(at.parse().unwrap(), Name::Host("x")).name.to_string();
    assert_eq!([name("127.0.0.1:9000"), name("127.0.0.1:9001"), name("192.0.2.1:80")], ["a", "b", "default"]);
    assert!(Config::parse("test.toml", destinations, &|_| None).is_err(), "both would match everything");
}
