//! Which route wins, against an oracle that scans all of them and reads the rule of the reference page
//! literally; which routes are refused as unreachable; and what a look-up costs.

use std::{
    cmp::Reverse,
    collections::BTreeSet,
    fmt::Write,
    hint::black_box,
    net::SocketAddr,
    sync::LazyLock,
    time::{Duration, Instant},
};

use dragoman_config::{Config, Destination, Name, Request};
use proptest::prelude::*;

/// A route as the oracle sees it.
#[derive(Clone, Debug)]
struct Route {
    name: String,
    path: Option<&'static str>,
    hosts: Vec<&'static str>,
    methods: Vec<&'static str>,
    headers: Vec<(&'static str, &'static str)>,
    query: Vec<(&'static str, &'static str)>,
}

/// A request as the oracle sees it.
#[derive(Clone, Debug)]
struct Asked {
    method: &'static str,
    path: &'static str,
    host: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    query: Vec<(&'static str, &'static str)>,
    /// As it is sent: in another case, with a port.
    sent_host: String,
    /// As it is sent: with other parameters around those that count.
    sent_query: String,
}

impl Asked {
    fn route_of<'a>(&self, destination: &'a Destination) -> Option<&'a str> {
        let header = |name: &str| {
            let found = self.headers.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.as_bytes())
        };
        let request = Request {
            method: self.method,
            path: self.path,
            host: &self.sent_host,
            query: self.sent_query.as_bytes(),
            header: &header,
        };
        destination.route(&request).map(|route| {
            assert_eq!(destination.routes[route.index].name, route.name);
            &*route.name
        })
    }
}

/// What the oracle compares: path, host, methods, conditions, exact conditions, name.
type Rank<'a> = ((u8, usize, usize), usize, bool, usize, usize, Reverse<&'a str>);

impl Route {
    fn toml(&self) -> String {
        let mut text = format!("[destination.d.route.{}]\n", self.name);
        let list =
            |items: &[&str]| items.iter().map(|item| format!("{item:?}")).collect::<Vec<_>>().join(", ");
        let table = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| format!("{name} = {value:?}")).collect::<Vec<_>>().join(", ")
        };
        if let Some(path) = self.path {
            text.push_str(&format!("path = {path:?}\n"));
        }
        for (key, items) in [("hosts", &self.hosts), ("methods", &self.methods)] {
            if !items.is_empty() {
                text.push_str(&format!("{key} = [{}]\n", list(items)));
            }
        }
        for (key, pairs) in [("match_headers", &self.headers), ("query", &self.query)] {
            if !pairs.is_empty() {
                text.push_str(&format!("{key} = {{ {} }}\n", table(pairs)));
            }
        }
        text
    }

    /// The rank of the route as the reference page states it, or `None` if it does not match.
    fn rank(&self, asked: &Asked) -> Option<Rank<'_>> {
        if !self.methods.is_empty() && !self.methods.contains(&asked.method) {
            return None;
        }
        let host = match self.hosts.is_empty() {
            true => 0,
            false => self.hosts.iter().filter_map(|pattern| host_rank(pattern, asked.host)).max()?,
        };
        let holds = |conditions: &[(&str, &str)], found: &[(&str, &str)]| {
            conditions.iter().all(|(name, wanted)| {
                found.iter().any(|(known, value)| known == name && (wanted == value || *wanted == "*"))
            })
        };
        if !holds(&self.headers, &asked.headers) || !holds(&self.query, &asked.query) {
            return None;
        }
        let path = self.path.map_or(Some((0, 0, 0)), |path| path_rank(path, asked.path))?;
        let conditions = || self.headers.iter().chain(&self.query);
        let exact = conditions().filter(|(_, value)| *value != "*").count();
        let name = Reverse(self.name.as_str());
        Some((path, host, !self.methods.is_empty(), conditions().count(), exact, name))
    }
}

/// Class, length of a prefix, literal segments.
fn path_rank(pattern: &str, path: &str) -> Option<(u8, usize, usize)> {
    let (fixed, open) = match pattern.strip_suffix('*') {
        Some(fixed) => (fixed, true),
        None => (pattern, false),
    };
    let wanted: Vec<_> = fixed.split('/').collect();
    let found: Vec<_> = path.split('/').collect();
    // A prefix ends in a slash, and so in an empty part that stands for whatever comes there.
    let fixed_parts = wanted.len() - usize::from(open);
    let length = if open { found.len() >= wanted.len() } else { found.len() == wanted.len() };
    let same =
        |(wanted, found): (&&str, &&str)| wanted == found || wanted.starts_with('{') && !found.is_empty();
    if !length || !wanted[..fixed_parts].iter().zip(&found).all(same) {
        return None;
    }
    let literals = wanted[..fixed_parts].iter().filter(|part| !part.starts_with('{')).count();
    Some(match (open, pattern.contains('{')) {
        (false, false) => (3, 0, 0),
        (false, true) => (2, 0, literals),
        (true, _) => (1, fixed_parts, literals),
    })
}

fn host_rank(pattern: &str, host: &str) -> Option<usize> {
    match pattern.strip_prefix('*') {
        Some(suffix) => (host.len() > suffix.len() && host.ends_with(suffix)).then_some(suffix.len()),
        None => (pattern == host).then_some(usize::MAX),
    }
}

const PATTERNS: [&str; 12] = [
    "/", "/a", "/a/b", "/{x}", "/a/{y}", "/{x}/b", "/{x}/{y}", "/*", "/a/*", "/{x}/*", "/a/{x}/*", "/{y}/b/*",
];
const PATHS: [&str; 14] = [
    "/", "/a", "/z", "/a/b", "/a/z", "/z/b", "/z/z", "/a/", "/a//b", "/a/b/z", "/a/z/z", "/z/b/z",
    "/z/z/z/z", "*",
];
const HOSTS: [&str; 6] = ["d.t", "e.d.t", "z.d.t", "z.t", "z.e.d.t", "d.u"];
const METHODS: [&str; 3] = ["GET", "POST", "PURGE"];

/// What a header or parameter may be: absent, a value that routes state, a value that none states.
const VALUES: [Option<&str>; 3] = [None, Some("1"), Some("9")];

/// A request for each combination of what the routes below can tell apart.
fn every_request() -> Vec<Asked> {
    let count = PATHS.len() * HOSTS.len() * METHODS.len() * VALUES.len() * 2 * VALUES.len();
    let request = |mut number: usize| {
        let mut pick = |choices: usize| {
            let choice = number % choices;
            number /= choices;
            choice
        };
        let (path, host) = (PATHS[pick(PATHS.len())], HOSTS[pick(HOSTS.len())]);
        let method = METHODS[pick(METHODS.len())];
        let of = |name, value: Option<&'static str>| value.map(|value| (name, value));
        let headers = [of("x-a", VALUES[pick(VALUES.len())]), of("x-b", VALUES[pick(2)])];
        let query = of("q", VALUES[pick(VALUES.len())]);
        let pair = query.map(|(name, value)| format!("&{name}={value}&{name}&{name}=8")).unwrap_or_default();
        Asked {
            method,
            path,
            host,
            headers: headers.into_iter().flatten().collect(),
            query: query.into_iter().collect(),
            sent_host: format!("{}:80", host.to_ascii_uppercase()),
            sent_query: format!("&qq=1{pair}&z"),
        }
    };
    (0..count).map(request).collect()
}

static REQUESTS: LazyLock<Vec<Asked>> = LazyLock::new(every_request);

fn some<T: Clone + Ord + std::fmt::Debug + 'static>(
    from: &'static [T],
    most: usize,
) -> impl Strategy<Value = Vec<T>> {
    prop::collection::btree_set(prop::sample::select(from), 0..=most)
        .prop_map(|set| set.into_iter().collect())
}

fn routes() -> impl Strategy<Value = Vec<Route>> {
    let headers = prop::sample::select(vec![
        vec![],
        vec![],
        vec![],
        vec![("x-a", "1")],
        vec![("x-a", "*")],
        vec![("x-b", "*")],
        vec![("x-a", "*"), ("x-b", "*")],
        vec![("x-b", "*"), ("x-a", "1")],
    ]);
    let query = prop::sample::select(vec![vec![], vec![], vec![("q", "1")], vec![("q", "*")]]);
    let path = prop::option::of(prop::sample::select(&PATTERNS[..]));
    let hosts = some(&["d.t", "e.d.t", "*.t", "*.d.t"], 2);
    let route = (path, hosts, some(&["GET", "POST"], 2), headers, query);
    prop::collection::vec(route, 1..8).prop_map(|routes| {
        let named = routes.into_iter().enumerate().map(|(number, (path, hosts, methods, headers, query))| {
            Route { name: format!("r{number}"), path, hosts, methods, headers, query }
        });
        named.filter(|it| it.toml().lines().count() > 1).collect()
    })
}

/// The destination's own key, and the hosts that requests to it may have.
const DESTINATIONS: [(&str, &[&str]); 3] = [
    ("ports = [80]", &HOSTS),
    ("hosts = [\"*.t\"]", &["d.t", "e.d.t", "z.d.t", "z.t", "z.e.d.t"]),
    ("hosts = [\"d.t\", \"e.d.t\", \"*.e.d.t\"]", &["d.t", "e.d.t", "z.e.d.t"]),
];

fn destination(config: &Config) -> &Destination {
    config.lookup(SocketAddr::from(([192, 0, 2, 1], 80)), Name::Host("d.t"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn l5_the_route_that_wins_is_that_of_the_rule_and_one_that_never_does_is_refused(
        (key, hosts) in prop::sample::select(&DESTINATIONS[..]),
        routes in routes(),
    ) {
        let text = routes.iter().fold(format!("[destination.d]\n{key}\n"), |text, route| text + &route.toml());
        let config = Config::parse("test.toml", &text, &|_| None);
        let mut winners = BTreeSet::new();
        for asked in REQUESTS.iter().filter(|asked| hosts.contains(&asked.host)) {
            let ranked = routes.iter().filter_map(|route| Some((route.rank(asked)?, &route.name)));
            let want = ranked.max().map(|(_, name)| name.as_str());
            winners.extend(want);
            if let Ok(config) = &config {
                let found = asked.route_of(destination(config));
                prop_assert_eq!(found, want, "{:?}\n{}", asked, text);
            }
        }
        let losers: Vec<_> = routes.iter().map(|it| it.name.as_str()).filter(|name| !winners.contains(name)).collect();
        match config {
            Ok(_) => prop_assert!(losers.is_empty(), "{losers:?} never match\n{text}"),
            Err(errors) => {
                let said: String = errors.iter().map(|problem| format!("{}\n", problem.message())).collect();
                for name in &losers {
                    prop_assert!(said.contains(&format!("the route `{name}`")), "{name}: {said}\n{text}");
                }
                for name in winners {
                    prop_assert!(!said.contains(&format!("the route `{name}` can never")), "{said}\n{text}");
                }
            }
        }
    }
}

/// As many routes as asked for, of the kinds that an API has, and a request for each.
fn api(count: usize) -> (String, Vec<(String, String)>) {
    let mut text = String::from("[destination.d]\nports = [80]\n");
    let mut requests = Vec::with_capacity(count);
    for number in 0..count {
        let (pattern, path) = match number % 4 {
            0 => (format!("/v1/things{number}"), format!("/v1/things{number}")),
            1 => (format!("/v1/things{number}/{{id}}"), format!("/v1/things{number}/7f3a")),
            2 => (
                format!("/v1/{{tenant}}/things{number}/{{id}}/parts"),
                format!("/v1/acme/things{number}/7/parts"),
            ),
            _ => (format!("/files{number}/*"), format!("/files{number}/2024/01/report.pdf")),
        };
        writeln!(text, "[destination.d.route.r{number}]\npath = \"{pattern}\"\nmethods = [\"GET\"]")
            .expect("a string");
        requests.push((path, format!("r{number}")));
    }
    (text, requests)
}

#[test]
fn a_look_up_finds_the_one_route_among_ten_and_among_ten_thousand() {
    for count in [10, 100, 10_000] {
        let (text, requests) = api(count);
        let started = Instant::now();
        let config = Config::parse("api.toml", &text, &|_| None).unwrap_or_else(|errors| panic!("{errors}"));
        let loaded = started.elapsed();
        let destination = destination(&config);
        assert_eq!(destination.routes.len(), count);
        for (path, name) in &requests {
            assert_eq!(find(destination, path), Some(&**name));
        }
        let mut took = Duration::ZERO;
        let mut asked = 0;
        while asked < 100_000 {
            let started = Instant::now();
            for (path, _) in &requests {
                black_box(find(destination, black_box(path)));
            }
            took += started.elapsed();
            asked += requests.len();
        }
        println!("{count} routes: {} ns per look-up, read in {loaded:?}", took.as_nanos() / asked as u128);
    }
}

fn find<'a>(destination: &'a Destination, path: &str) -> Option<&'a str> {
    let request = Request { method: "GET", path, host: "d.t:80", query: b"", header: &|_| None };
    destination.route(&request).map(|route| &*route.name)
}

#[test]
fn ten_thousand_routes_that_differ_in_a_header_or_a_host_are_read_and_found() {
    let mut text = String::from("[destination.d]\nports = [80]\n");
    for number in 0..5_000 {
        writeln!(text, "[destination.d.route.h{number}]\nhosts = [\"h{number}.t\"]").expect("a string");
        writeln!(text, "[destination.d.route.t{number}]\nmatch_headers = {{ x-tenant = \"t{number}\" }}")
            .expect("a string");
    }
    let config = Config::parse("tenants.toml", &text, &|_| None).unwrap_or_else(|errors| panic!("{errors}"));
    let destination = destination(&config);
    for number in 0..5_000 {
        let (host, tenant) = (format!("h{number}.t"), format!("t{number}"));
        let header = |name: &str| (name == "x-tenant").then_some(tenant.as_bytes());
        let request = |host| Request { method: "GET", path: "/", host, query: b"", header: &header };
        let name = |host| destination.route(&request(host)).map(|route| &*route.name);
        assert_eq!(name(&host), host.strip_suffix(".t"));
        assert_eq!(name("other"), Some(&*tenant));
    }
}
