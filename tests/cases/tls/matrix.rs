//! One way to be wrong, with each protocol of the app, and with and without a certificate of the client: what the app is
//! told, what log and metrics say, and that the server behind it got nothing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use dragoman_harness::http2::{End, Http2Origin, Wire};
use dragoman_harness::net::server_v4;
use dragoman_harness::origin::Reply;
use dragoman_harness::pki::{Issued, Pki, Spec};
use dragoman_harness::tls::{Front, Handshake, Setting, behind};
use dragoman_harness::{Dragoman, Net, Origin, binaries, process, wait};

/// The name that the app asks for, and that a good certificate is for.
pub(crate) const NAME: &str = "shop.test";

/// What the app says within TLS; nobody may see it outside.
const SECRET: &str = "the-words-of-the-app";

/// A line of a destination's policy: a busy machine may take its time over a handshake, and no case but that of the timeout
/// itself is about that.
pub(crate) const PATIENT: &str = "connect_timeout = \"1m\"\n";

/// What the app speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum App {
    Http1,
    Http2,
    Opaque,
}

/// One of the six ways that a case goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    /// What the app speaks.
    pub(crate) app: App,
    /// Whether the server asks for a certificate, and policy has one.
    pub(crate) mutual: bool,
    at: u8,
}

const WAYS: [Way; 6] = {
    const fn way(app: App, mutual: bool, at: u8) -> Way {
        Way { app, mutual, at }
    }
    use App::{Http1, Http2, Opaque};
    [
        way(Http1, false, 0),
        way(Http1, true, 1),
        way(Http2, false, 2),
        way(Http2, true, 3),
        way(Opaque, false, 4),
        way(Opaque, true, 5),
    ]
};

impl Way {
    /// The destination's name in the configuration.
    fn destination(self) -> String {
        let app = format!("{:?}", self.app).to_lowercase();
        if self.mutual { format!("{app}-mutual") } else { app }
    }

    fn address(self, port: u16) -> std::net::SocketAddr {
        (server_v4(self.at), port).into()
    }

    /// Where the server behind the front is: one for each way, so that it is clear who got what.
    fn behind(self) -> std::net::SocketAddr {
        behind(8000 + u16::from(self.at))
    }
}

/// What stands on one way: a good server and a policy that it satisfies, until a case makes one of them wrong.
pub(crate) struct Side<'p> {
    /// Who issues the server's certificate, and is its root by policy.
    pub(crate) pki: &'p Pki,
    /// Who issues certificates of clients.
    pub(crate) clients: &'p Pki,
    /// How the server behaves.
    pub(crate) setting: Setting,
    /// Who may have signed the server's certificate.
    pub(crate) roots: PathBuf,
    /// What is presented to the server.
    pub(crate) identity: Option<Issued>,
    /// Further keys of `tls`, each with a comma before it.
    pub(crate) keys: String,
    /// Further keys of the destination, a line each.
    pub(crate) more: String,
    /// What goes wrong; `None` is nothing.
    pub(crate) cause: Option<&'static str>,
    /// What the log's `detail` must have.
    pub(crate) words: Vec<String>,
}

impl<'p> Side<'p> {
    fn good(pki: &'p Pki, clients: &'p Pki, way: Way, cause: Option<&'static str>) -> Side<'p> {
        let mut side = Side {
            pki,
            clients,
            setting: Setting::of(&pki.issue(&Spec::dns(NAME))),
            roots: pki.roots().to_owned(),
            identity: way.mutual.then(|| clients.issue(&Spec::uri("spiffe://shop.test/app"))),
            keys: String::new(),
            more: PATIENT.to_owned(),
            cause,
            words: Vec::new(),
        };
        side.wants(way, |setting| setting.alpn = alpn(way.app));
        if way.app == App::Opaque {
            side.keys = format!(", server_name = {NAME:?}");
        }
        side
    }

    /// The server shows what such a certificate of its own authority says.
    pub(crate) fn shows(&mut self, way: Way, spec: &Spec) -> Issued {
        let issued = self.pki.issue(spec);
        self.shows_what(way, &issued);
        issued
    }

    /// The server shows this.
    pub(crate) fn shows_what(&mut self, way: Way, issued: &Issued) {
        self.setting = Setting::of(issued);
        self.wants(way, |setting| setting.alpn = alpn(way.app));
    }

    /// The `detail` must have these.
    pub(crate) fn says(&mut self, words: impl IntoIterator<Item = impl Into<String>>) {
        self.words.extend(words.into_iter().map(Into::into));
    }

    fn wants(&mut self, way: Way, change: impl FnOnce(&mut Setting)) {
        change(&mut self.setting);
        self.setting.clients = way.mutual.then(|| self.clients.certificate().clone());
    }

    fn destination(&self, way: Way) -> String {
        let identity = self.identity.as_ref().map_or(String::new(), |issued| {
            format!(", identity = {{ certificate = {:?}, key = {:?} }}", issued.certificate, issued.key)
        });
        format!(
            "[destination.{}]\ncidrs = [\"{}/32\"]\n{}tls = {{ port = 443, roots = [{:?}]{}{identity} }}\n",
            way.destination(),
            way.address(80).ip(),
            self.more,
            self.roots,
            self.keys
        )
    }
}

fn alpn(app: App) -> Vec<&'static str> {
    match app {
        App::Http1 => vec!["http/1.1"],
        App::Http2 => vec!["h2"],
        App::Opaque => Vec::new(),
    }
}

/// A server behind a front.
enum Behind {
    Http1(Origin),
    Http2(Http2Origin),
    Opaque(Origin),
}

impl Behind {
    fn start(net: &Net, way: Way) -> Behind {
        let at = way.behind();
        match way.app {
            App::Http1 => Behind::Http1(Origin::http(&net.servers, at, |_, _| Reply::status(200, "welcome"))),
            App::Http2 => Behind::Http2(Http2Origin::start(&net.servers, at, |wire, request, _| {
                wire.respond(request.stream, "200", b"welcome")
            })),
            App::Opaque => Behind::Opaque(Origin::tcp(&net.servers, at, |mut peer| {
                peer.read_until(b"\n")?;
                peer.send("welcome")
            })),
        }
    }

    fn connections(&self) -> usize {
        match self {
            Behind::Http1(origin) | Behind::Opaque(origin) => origin.seen().len(),
            Behind::Http2(origin) => origin.connections(),
        }
    }
}

/// What the app was told.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    status: u16,
    cause: Option<String>,
    body: String,
}

/// The app asks, and says what came of it. `status` 0 is no answer at all.
fn ask(net: &Net, way: Way) -> Told {
    let nothing = || Told { status: 0, cause: None, body: String::new() };
    match way.app {
        App::Http1 => {
            let request = format!("GET /{SECRET} HTTP/1.1\r\nHost: {NAME}\r\n\r\n");
            let answer = net.app.connect(way.address(80)).exchange(request).unwrap();
            let cause = answer.header("x-dragoman-cause").map(str::to_owned);
            Told { status: answer.status(), cause, body: answer.text() }
        }
        App::Http2 => {
            let mut wire = Wire::client(net.app.connect(way.address(80)), &[]).unwrap();
            let path = format!("/{SECRET}");
            let fields =
                [(":method", "GET"), (":scheme", "http"), (":authority", NAME), (":path", path.as_str())];
            wire.fields(1, &fields, true).unwrap();
            let answer = wire.response(1).unwrap();
            assert_eq!(answer.end, End::Whole);
            let cause = answer.field("x-dragoman-cause").map(str::to_owned);
            let body = String::from_utf8_lossy(&answer.body).into_owned();
            Told { status: answer.status(), cause, body }
        }
        App::Opaque => match net.app.knock(way.address(80), format!("{SECRET}\n").as_bytes()) {
            (bytes, true) if bytes.is_empty() => nothing(),
            (bytes, reset) => {
                assert!(!reset, "a reset after {bytes:?}");
                Told { status: 200, cause: None, body: String::from_utf8_lossy(&bytes).into_owned() }
            }
        },
    }
}

/// Runs a case on each way: `wrong` makes one thing wrong in what is good, and the whole fails by that cause.
pub(crate) fn shows(cause: &'static str, wrong: impl Fn(&mut Side, Way)) {
    run(Some(cause), wrong);
}

/// Runs a case on each way that goes well.
pub(crate) fn goes_well(change: impl Fn(&mut Side, Way)) {
    run(None, change);
}

fn run(cause: Option<&'static str>, change: impl Fn(&mut Side, Way)) {
    let (net, pki, clients) = (Net::new(), Pki::new(), Pki::new());
    let sides = WAYS.map(|way| {
        let mut side = Side::good(&pki, &clients, way, cause);
        change(&mut side, way);
        side
    });
    let behinds = WAYS.map(|way| Behind::start(&net, way));
    let fronts: Vec<Front> = WAYS
        .iter()
        .zip(&sides)
        .map(|(way, side)| Front::start(&net.servers, way.address(443), way.behind(), side.setting.clone()))
        .collect();
    let configuration: String = WAYS.iter().zip(&sides).map(|(way, side)| side.destination(*way)).collect();
    let dragoman = Dragoman::start(&net, &configuration);
    let told: Vec<Told> = thread::scope(|scope| {
        let asked = WAYS.map(|way| {
            scope.spawn({
                let net = &net;
                move || ask(net, way)
            })
        });
        asked.map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).into()
    });
    for (n, (way, side)) in WAYS.iter().zip(&sides).enumerate() {
        let seen = Seen { dragoman: &dragoman, front: &fronts[n], connections: behinds[n].connections() };
        match side.cause {
            Some(cause) => seen.refused(*way, side, cause, &told[n]),
            None => seen.served(*way, side, &told[n]),
        }
    }
    let identities: Vec<&Issued> = sides.iter().filter_map(|side| side.identity.as_ref()).collect();
    nothing_secret_is_told(&net, &dragoman, &configuration, &identities);
}

/// What is there to look at when the app was told something.
struct Seen<'a> {
    dragoman: &'a Dragoman<'a>,
    front: &'a Front,
    connections: usize,
}

impl Seen<'_> {
    fn refused(&self, way: Way, side: &Side, cause: &str, told: &Told) {
        let (status, named) = if way.app == App::Opaque { (0, None) } else { (503, Some(cause.to_owned())) };
        assert_eq!(
            (told.status, &told.cause),
            (status, &named),
            "{way:?}: {told:?}\n{}",
            self.dragoman.log()
        );
        for seen in self.front.seen() {
            let wire = String::from_utf8_lossy(&seen.wire.so_far()).into_owned();
            assert!(!wire.contains(SECRET), "{way:?}: the app's words, in the clear");
            assert!(seen.plain.is_empty(), "{way:?}: the server got {:?}", seen.plain.so_far());
        }
        let destination = way.destination();
        let kind = if way.app == App::Opaque { "flow" } else { "exchange" };
        let of = |record: &serde_json::Value| record["destination"] == destination && record["kind"] == kind;
        let record = self.dragoman.records_where(1, of).remove(0);
        assert_eq!((&record["cause"], &record["who"]), (&cause.into(), &"upstream".into()), "{record}");
        assert_eq!(record["endpoint"], way.address(443).to_string(), "{record}");
        let detail = record["detail"].as_str().unwrap_or_default();
        for words in &side.words {
            assert!(detail.contains(words), "{way:?}: no {words:?} in {detail:?}");
        }
        let metrics = self.dragoman.settle();
        let total = format!("dragoman_{kind}s_total");
        let counted = |labels: &[(&str, &str)]| {
            metrics.sum(&total, &[&[("destination", destination.as_str())], labels].concat())
        };
        assert_eq!((counted(&[("cause", cause)]), counted(&[])), (1, 1), "{way:?}");
    }

    fn served(&self, way: Way, side: &Side, told: &Told) {
        let expected = Told { status: 200, cause: None, body: "welcome".to_owned() };
        assert_eq!(told, &expected, "{way:?}\n{}", self.dragoman.log());
        assert!(self.connections > 0, "{way:?}: who has answered?");
        // An app that takes long to speak has had a connection made before, for no name (crates/proxy/src/flow/early.rs).
        let named = |handshake: &Handshake| handshake.server_name.as_deref() == Some(NAME);
        let handshake = wait::until_some("a good handshake for the name", wait::SOON, || {
            self.front.handshakes().into_iter().find(named)
        });
        assert_eq!(handshake.alpn.as_deref(), side.setting.alpn.first().copied(), "{way:?}");
        let client = side.identity.as_ref().filter(|_| way.mutual).map(|issued| &issued.chain[0]);
        assert_eq!(handshake.client.as_ref(), client, "{way:?}");
        let destination = way.destination();
        let record = self.dragoman.records_where(1, |record| record["destination"] == destination).remove(0);
        assert!(record["cause"].is_null(), "{record}");
    }
}

/// Neither log nor metrics, neither the control surface nor what prints a configuration has a key in it.
fn nothing_secret_is_told(net: &Net, dragoman: &Dragoman, configuration: &str, identities: &[&Issued]) {
    let get = |port: u16, path: &str| {
        let mut peer = net.app.connect(([127, 0, 0, 1], port).into());
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let answer = peer.exchange(request).unwrap();
        assert_eq!(answer.status(), 200, "{path}: {}", answer.text());
        answer.text()
    };
    let file = dragoman_harness::scratch::Scratch::new("print");
    let file = (file.write("dragoman.toml", configuration), file);
    let run = |arguments: &[&str]| {
        let mut command = net.app.bounded(binaries::dragoman());
        process::text(&process::output(command.args(arguments).arg(&file.0)))
    };
    let records: String = dragoman.records().iter().map(ToString::to_string).collect();
    let told = [
        ("log", dragoman.log()),
        ("access log", records),
        ("/metrics", get(15020, "/metrics")),
        ("/config", get(15000, "/config")),
        ("/destinations", get(15000, "/destinations")),
        ("/flows", get(15000, "/flows?last=100")),
        ("check", run(&["check"])),
        ("check --print", run(&["check", "--print", "--show-secrets"])),
    ];
    for (where_, text) in told {
        for secret in identities.iter().flat_map(|issued| issued.secrets()) {
            assert!(!text.contains(&secret), "{where_} has a line of a private key");
        }
        assert!(!text.contains("PRIVATE KEY"), "{where_} has a private key");
    }
}

/// A time as the log has it: `2026-11-21T15:04:05Z`.
pub(crate) fn stamp(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let mut date = Command::new("date");
    date.args(["-u", "-d", &format!("@{seconds}"), "+%FT%TZ"]);
    process::succeed(&mut date).trim().to_owned()
}

/// A path as TOML has it.
pub(crate) fn quoted(path: &Path) -> String {
    format!("{path:?}")
}
