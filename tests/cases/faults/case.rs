//! One fault, against all protocols at once: what each app saw, whether log and metrics say the same, and that nothing
//! is left behind.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use dragoman_harness::dragoman::{self, Record};
use dragoman_harness::faulty::{FaultyServer, Speaks, Stage};
use dragoman_harness::net::server;
use dragoman_harness::origin::Reply;
use dragoman_harness::tls::{Front, Setting, behind};
use dragoman_harness::{Dragoman, Net, Origin, Peer, process, wait};

use crate::page::{self, Row};
use crate::protocol::{App, DESTINATIONS, Protocol, Sight};

/// A policy that is not empty, so that dragoman answers where the server does not, and without a deadline.
pub(crate) const PATIENT: &str = "[defaults]\nrequest_id = true\n";

/// Where nothing is wrong.
const CLEAN: u16 = 81;

/// The proxy and a server without a fault.
pub(crate) struct Case<'n> {
    pub(crate) net: &'n Net,
    pub(crate) dragoman: Dragoman<'n>,
    fault: &'static str,
    policy: String,
    /// How many descriptors the idle proxy holds.
    pub(crate) descriptors: usize,
    /// How the servers speak TLS, if they do, and what does so for them.
    tls: Option<Setting>,
    fronts: Mutex<Vec<Front>>,
    _clean: Origin,
}

/// A server and its app in the moment before the fault.
pub(crate) struct Pair {
    pub(crate) protocol: Protocol,
    pub(crate) server: FaultyServer,
    pub(crate) app: App,
}

impl<'n> Case<'n> {
    pub(crate) fn new(net: &'n Net, fault: &'static str, policy: &str) -> Case<'n> {
        Case::started_by(net, fault, policy, dragoman::proxy)
    }

    /// The same, with the proxy started by a command of the case's own.
    pub(crate) fn started_by(
        net: &'n Net,
        fault: &'static str,
        policy: &str,
        command: fn(&Net, &Path) -> Command,
    ) -> Case<'n> {
        Case::before(net, fault, policy, DESTINATIONS, command)
    }

    /// With TLS to each server, who is `shop.test` by one of these roots.
    pub(crate) fn with_tls(net: &'n Net, fault: &'static str, roots: &Path, setting: Setting) -> Case<'n> {
        let tls = format!("tls = {{ server_name = 'shop.test', roots = ['{}'] }}", roots.display());
        let line = |line: &str| match line.starts_with("ports = ") {
            true => format!("{line}\n{tls}\n"),
            false => format!("{line}\n"),
        };
        let destinations: String = DESTINATIONS.lines().map(line).collect();
        Case { tls: Some(setting), ..Case::before(net, fault, PATIENT, &destinations, dragoman::proxy) }
    }

    fn before(
        net: &'n Net,
        fault: &'static str,
        policy: &str,
        destinations: &str,
        command: fn(&Net, &Path) -> Command,
    ) -> Case<'n> {
        let answer = |_: &_, _| Reply::status(200, "clean");
        let clean = Origin::http(&net.servers, server(CLEAN), answer);
        let dragoman = Dragoman::start_by(net, &format!("{policy}{destinations}"), command);
        process::succeed(&mut dragoman::init(net, &["install"]));
        let policy = policy.to_owned();
        let (tls, fronts) = (None, Mutex::default());
        let case = Case { net, dragoman, fault, policy, descriptors: 0, tls, fronts, _clean: clean };
        case.serves();
        let descriptors = case.idle_descriptors();
        Case { descriptors, ..case }
    }

    /// Has an app ask a server that halts at `stage`, and waits until both are there.
    pub(crate) fn halted(&self, protocol: Protocol, stage: Stage) -> Pair {
        let program = env!("CARGO_BIN_EXE_faulty-server");
        let speaks = protocol.server_speaks();
        let address = match &self.tls {
            Some(setting) => self.front(protocol, setting.clone()),
            None => protocol.address(),
        };
        let mut server = FaultyServer::start(program, &self.net.servers, address, speaks, stage);
        let mut app = App::connect(self.net, protocol);
        app.ask();
        server.wait_halt();
        app.take_body(stage.body_bytes());
        Pair { protocol, server, app }
    }

    /// Puts TLS before the server of a protocol. Returns where that is to listen.
    fn front(&self, protocol: Protocol, setting: Setting) -> SocketAddr {
        let alpn = match protocol.server_speaks() {
            Speaks::Http1 => vec!["http/1.1"],
            Speaks::Http2 => vec!["h2"],
            Speaks::Opaque => vec![],
        };
        let (address, inner) = (protocol.address(), behind(protocol.address().port()));
        let front = Front::start(&self.net.servers, address, inner, Setting { alpn, ..setting });
        self.fronts.lock().unwrap_or_else(PoisonError::into_inner).push(front);
        inner
    }

    /// Waits until each app has seen how it ends, and makes the rows.
    pub(crate) fn ends(&self, apps: Vec<(Protocol, App)>) -> Vec<Row> {
        let struck = Instant::now();
        thread::scope(|scope| {
            let end = |(protocol, app): (Protocol, App)| {
                scope.spawn(move || {
                    let sight = app.sight();
                    page::print_time(self.fault, protocol, struck.elapsed());
                    self.row(protocol, sight)
                })
            };
            let ends: Vec<_> = apps.into_iter().map(end).collect();
            let join = |end: thread::ScopedJoinHandle<'_, Row>| {
                end.join().unwrap_or_else(|e| std::panic::resume_unwind(e))
            };
            ends.into_iter().map(join).collect()
        })
    }

    /// The row of one protocol, once log, metrics and what the app saw agree on its cause.
    pub(crate) fn row(&self, protocol: Protocol, sight: Sight) -> Row {
        let destination = protocol.destination();
        let of_it = |record: &Record| record["destination"] == destination;
        self.dragoman.records_where(1, |record| of_it(record) && record["kind"] == "flow");
        let records: Vec<Record> = self.dragoman.records().into_iter().filter(of_it).collect();
        let mut told: Vec<&Record> = records.iter().filter(|record| !record["cause"].is_null()).collect();
        if told.len() > 1 {
            // An app that goes with something unread resets its connection: that has nothing to do with the fault.
            told.retain(|record| record["kind"] != "flow" || record["cause"] != "app_reset");
        }
        assert!(told.len() <= 1, "{}: a cause is told once: {told:#?}", self.fault);
        let about = told.first().copied().unwrap_or(&records[0]);
        let cause = about["cause"].as_str().unwrap_or("-").to_owned();
        assert!(sight.cause.as_ref().is_none_or(|told| *told == cause), "{}: {sight:?}, {about}", self.fault);
        if let Some(status) = about["status"].as_u64().filter(|_| sight.status != 0) {
            assert_eq!(status, u64::from(sight.status), "{}: {sight:?}, {about}", self.fault);
        }
        let counter = match about["kind"].as_str() {
            Some("exchange") => "dragoman_exchanges_total",
            _ => "dragoman_flows_total",
        };
        let labels = [("destination", destination), ("cause", &cause)];
        let what = format!("{}: {counter} has {labels:?}", self.fault);
        self.dragoman.metrics_where(&what, |metrics| metrics.sum(counter, &labels) == 1);
        let known = if sight.words.ends_with("all of it") { "-" } else { self.known(&cause) }.to_owned();
        Row { protocol, sight: sight.words, cause, known }
    }

    /// Nothing is left behind, the proxy serves on, and the rows are those of the page.
    pub(crate) fn finish(&self, rows: &[Row]) {
        self.leaves_nothing();
        page::check(self.fault, rows);
    }

    /// Nothing is left behind, and the proxy serves on.
    pub(crate) fn leaves_nothing(&self) {
        self.serves();
        let metrics = self.dragoman.settle();
        for gauge in ["dragoman_pool_streams", "dragoman_pool_waiting", "dragoman_defects_total"] {
            assert_eq!(metrics.sum(gauge, &[]), 0, "{}: {gauge}", self.fault);
        }
        let what = format!("{}: the descriptors are back to {}", self.fault, self.descriptors);
        wait::until(&what, wait::SOON, || self.idle_descriptors() <= self.descriptors);
    }

    /// How many sockets, pipes and files the proxy holds once nobody is connected to it. The rest are those by which it
    /// waits: some are made when they are first needed, and kept.
    pub(crate) fn idle_descriptors(&self) -> usize {
        let connected = "ss -Htn state connected exclude time-wait '( sport = :15001 or sport = :15020 )'";
        wait::until("nobody is connected to the proxy", wait::SOON, || {
            self.net.app.succeed(connected).is_empty()
        });
        let folder = format!("/proc/{}/fd", self.dragoman.pid());
        let links = fs::read_dir(&folder).expect("a living process has descriptors").flatten();
        let targets = links.filter_map(|link| fs::read_link(link.path()).ok());
        targets.filter(|target| !target.to_string_lossy().starts_with("anon_inode:")).count()
    }

    /// A request to a server without a fault is answered.
    pub(crate) fn serves(&self) {
        drop(self.served("Connection: close\r\n"));
    }

    /// An app whose request to a server without a fault, with these fields, was answered.
    pub(crate) fn served(&self, fields: &str) -> Peer {
        let mut client = self.net.app.connect(server(CLEAN));
        let answer = client.exchange(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n")).unwrap();
        assert_eq!((answer.status(), answer.text().as_str()), (200, "clean"), "{}", answer.head);
        client
    }

    /// Which deadline has to pass before an app knows of a cause.
    fn known(&self, cause: &str) -> &'static str {
        match cause {
            "connect_timeout" => "`connect_timeout`",
            "try_timeout" => "`try_timeout`",
            "timeout" => "`timeout`",
            "request_timeout" if self.policy.contains("request_body_timeout") => "`request_body_timeout`",
            "request_timeout" => "`request_head_timeout`",
            "upstream_lost" => "TCP_USER_TIMEOUT, 15 minutes",
            _ => "at once",
        }
    }
}
