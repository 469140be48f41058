//! Why others were passed over, in words.

use std::net::SocketAddr;

use dragoman_config::{Config, Explanation, Known, Name, Request};

const POLICY: &str = r#"
[destination.pay]
hosts = ["pay.example.com"]
ports = [80]
[destination.pay.route.charges]
path = "/v1/charges"
methods = ["POST"]
timeout = "1s"
[destination.pay.route.charge]
path = "/v1/charges/{id}"
timeout = "1s"
[destination.pay.route.gold]
path = "/v1/*"
match_headers = { x-tenant = "gold" }
timeout = "1s"
[destination.pay.route.all]
path = "/v1/*"
timeout = "1s"
[destination.pay-eu]
hosts = ["pay.example.com"]
cidrs = ["10.9.0.0/16"]
[destination.any]
hosts = ["*.example.com"]
[destination.net]
cidrs = ["10.0.0.0/8"]
[destination.tls]
sni = ["pay.example.com"]
[destination.far]
hosts = ["elsewhere.example.org"]
"#;

fn explain(dst: &str, host: &str, method: &str, path: &str, tenant: Option<&str>) -> Explanation {
    let config = Config::parse("test.toml", POLICY, &|_| None).unwrap();
    let dst: SocketAddr = dst.parse().unwrap();
    let header = |name: &str| tenant.filter(|_| name == "x-tenant").map(str::as_bytes);
    let request = Request { method, path, host, query: b"", header: &header };
    config.explain(dst, Name::Host(host), Known::All(&request))
}

fn told(passed: &dragoman_config::Passed) -> Vec<String> {
    passed.told.iter().map(|(name, why)| format!("{name}: {why}")).collect()
}

#[test]
fn each_that_was_passed_over_has_its_reason() {
    let explained = explain("10.1.2.3:80", "pay.example.com", "GET", "/v1/charges", Some("tin"));
    assert_eq!(&*explained.destination.name, "pay");
    assert_eq!(explained.because, "`hosts` has \"pay.example.com\", `ports` has 80");
    assert_eq!(
        told(&explained.destinations),
        [
            "any: matches too, and names the host less exactly",
            "net: matches too, and names the host less exactly",
            "default: is for what no other destination matches",
            "pay-eu: 10.1.2.3 is in none of its `cidrs`",
        ]
    );
    assert_eq!(explained.destinations.others, 2);
    assert_eq!(explained.route.map(|route| &*explained.destination.routes[route].name), Some("all"));
    assert_eq!(explained.route_because, "`path` is \"/v1/*\"");
    assert_eq!(
        told(&explained.routes),
        [
            "charges: the method is none of POST",
            "gold: the header \"x-tenant\" has another value",
            "charge: the path is not \"/v1/charges/{id}\"",
        ]
    );
}

#[test]
fn no_value_of_a_condition_is_told() {
    for tenant in [None, Some("secret-7"), Some("gold")] {
        let explained = explain("10.9.0.1:80", "pay.example.com", "GET", "/v1/x", tenant);
        assert_eq!(&*explained.destination.name, "pay-eu");
        let explained = explain("10.1.0.1:80", "pay.example.com", "GET", "/v1/x", tenant);
        let text = format!("{} {}", explained.route_because, told(&explained.routes).join(" "));
        assert!(!text.contains("gold\"") && !text.contains("secret-7"), "{text}");
    }
}

#[test]
fn without_a_name_the_named_say_that_they_state_one() {
    let config = Config::parse("test.toml", POLICY, &|_| None).unwrap();
    let explained = config.explain("10.9.0.1:80".parse().unwrap(), Name::None, Known::Nothing);
    assert_eq!((&*explained.destination.name, explained.route), ("net", None));
    assert_eq!(explained.because, "`cidrs` has 10.0.0.0/8");
    let pay = told(&explained.destinations);
    assert!(pay.contains(&"pay: it states a name, and none is known".to_owned()), "{pay:?}");
    let explained = config.explain("192.0.2.1:9".parse().unwrap(), Name::None, Known::Nothing);
    assert_eq!(
        (&*explained.destination.name, &*explained.because),
        ("default", "no other destination matches")
    );
}

#[test]
fn of_a_recorded_request_the_route_is_known_and_its_headers_are_not() {
    let config = Config::parse("test.toml", POLICY, &|_| None).unwrap();
    let request =
        Request { method: "GET", path: "/v1/x", host: "pay.example.com", query: b"", header: &|_| None };
    let explain = |route| {
        let known = Known::Recorded(&request, route);
        config.explain("10.1.2.3:80".parse().unwrap(), Name::Host("pay.example.com"), known)
    };
    let gold = explain("gold");
    assert_eq!(gold.route_because, "`path` is \"/v1/*\"");
    assert!(told(&gold.routes).contains(&"all: matches too, by fewer conditions".to_owned()), "{gold:?}");
    let all = told(&explain("all").routes);
    let needs = "gold: it needs the header \"x-tenant\", and those are not recorded";
    assert!(all.contains(&needs.to_owned()), "{all:?}");
}
