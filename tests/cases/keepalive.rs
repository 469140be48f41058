//! Connections that are kept, and the moment at which servers end them: no GET may fail by it and no POST may be
//! done twice, and a connection that stands for a user is nobody else's.

use std::collections::BTreeMap;
use std::env;
use std::net::SocketAddr;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use dragoman_harness::dragoman::normal;
use dragoman_harness::net::server;
use dragoman_harness::origin::response;
use dragoman_harness::process::Process;
use dragoman_harness::scratch::Scratch;
use dragoman_harness::{Dragoman, Namespace, Net, Origin, Peer, programs, servers, wait};

/// Clients that ask at the same moment, so that as many idle connections wait for the next one.
const CLIENTS: usize = 24;

/// How long the races last: a minute where `DRAGOMAN_LONG` is set, and then with the limit that servers have.
fn long() -> bool {
    env::var_os("DRAGOMAN_LONG").is_some()
}

fn duration() -> Duration {
    Duration::from_secs(if long() { 60 } else { 5 })
}

/// When a server ends a connection, without having said so.
#[derive(Clone, Copy, Debug)]
enum Closes {
    /// After this much idleness.
    Idle(Duration),
    /// With the answer to the request of this number.
    After(usize),
    /// As the next request after that number arrives, which it does not read: the race, lost every time.
    Before(usize),
}

/// A server that counts how often each target was asked for.
fn closing_server(net: &Net, address: SocketAddr, closes: Closes) -> (Origin, Counts) {
    let counts = Counts::default();
    let kept = counts.clone();
    let origin = Origin::tcp(&net.servers, address, move |mut peer| {
        let most = match closes {
            Closes::Idle(limit) => {
                peer.stream().set_read_timeout(Some(limit))?;
                usize::MAX
            }
            Closes::After(most) | Closes::Before(most) => most,
        };
        for _ in 0..most {
            // At the limit the read fails, and the connection ends with the script.
            let Some(request) = peer.request()? else { break };
            *kept.lock().unwrap().entry(request.word(1).to_owned()).or_default() += 1;
            peer.send(response(200, "ok"))?;
        }
        match closes {
            Closes::Before(_) => peer.stream().peek(&mut [0]).map(drop),
            _ => Ok(()),
        }
    });
    (origin, counts)
}

type Counts = Arc<Mutex<BTreeMap<String, usize>>>;

/// What became of the requests of one race.
#[derive(Debug, Default)]
struct Tally {
    gets: usize,
    failed_gets: Vec<String>,
    /// Targets of POSTs, and whether the answer was good.
    posts: Vec<(String, bool)>,
}

impl Tally {
    /// No GET failed, no POST arrived twice, and each that was answered well arrived.
    fn judge(&self, what: &str, counts: &Counts) {
        let counts = counts.lock().unwrap();
        assert!(
            self.failed_gets.is_empty(),
            "{what}: {} of {} GETs failed: {:?}",
            self.failed_gets.len(),
            self.gets,
            self.failed_gets
        );
        for (target, good) in &self.posts {
            let arrived = counts.get(target).copied().unwrap_or_default();
            assert!(arrived <= 1, "{what}: {target} was done {arrived} times");
            assert!(!good || arrived == 1, "{what}: {target} was answered and never arrived");
        }
        println!(
            "{what}: {} GETs, {} POSTs, {} of them failed",
            self.gets,
            self.posts.len(),
            self.failed_posts()
        );
    }

    fn failed_posts(&self) -> usize {
        self.posts.iter().filter(|(_, good)| !good).count()
    }
}

/// Waves of requests by all clients at once. Between two waves every connection is idle for a time that `pause`
/// gives for the wave's number. Every other request is a POST where `posts` says so.
fn race(
    app: &Namespace,
    address: SocketAddr,
    posts: bool,
    pause: impl Fn(usize) -> Duration + Sync,
) -> Tally {
    let (barrier, tally) = (Barrier::new(CLIENTS), Mutex::new(Tally::default()));
    let end = Instant::now() + duration();
    let waves = Mutex::new(0);
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (barrier, tally, pause, waves) = (&barrier, &tally, &pause, &waves);
            scope.spawn(move || {
                let mut peer = None;
                for wave in 0.. {
                    // One decides for all whether there is another wave: else some would wait for ever.
                    if barrier.wait().is_leader() {
                        *waves.lock().unwrap() += usize::from(Instant::now() < end);
                    }
                    barrier.wait();
                    if *waves.lock().unwrap() == wave {
                        return;
                    }
                    wait::pause(pause(wave));
                    let method = if posts && (client + wave) % 2 == 1 { "POST" } else { "GET" };
                    let target = format!("/{client}/{wave}");
                    let error = ask(app, address, &mut peer, method, &target).err();
                    let mut tally = tally.lock().unwrap();
                    match method {
                        "GET" => {
                            tally.gets += 1;
                            tally.failed_gets.extend(error.map(|error| format!("{target}: {error}")));
                        }
                        _ => tally.posts.push((target, error.is_none())),
                    }
                }
            });
        }
    });
    tally.into_inner().unwrap()
}

/// One request on the client's own connection, which is renewed where it has ended.
fn ask(
    app: &Namespace,
    address: SocketAddr,
    kept: &mut Option<Peer>,
    method: &str,
    target: &str,
) -> Result<(), String> {
    let peer = kept.get_or_insert_with(|| app.connect(address));
    let length = if method == "POST" { "Content-Length: 5\r\n" } else { "" };
    let body = if method == "POST" { "hello" } else { "" };
    let answer = peer.exchange(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{length}\r\n{body}"));
    match answer {
        Ok(answer) if answer.status() == 200 => Ok(()),
        Ok(answer) => Err(answer.head),
        Err(error) => {
            *kept = None;
            Err(error.to_string())
        }
    }
}

/// A pause around `limit`: from just before it, where all connections are open, to just after, where all are
/// closed, in steps that do not repeat soon. Between is the race. The kernel's own timers strike some milliseconds late.
fn around(limit: Duration) -> impl Fn(usize) -> Duration + Sync {
    move |wave| limit + Duration::from_micros((wave as u64 * 1_700) % 10_000) - Duration::from_millis(2)
}

#[test]
fn h7_a_server_that_closes_at_its_limit_fails_no_get_and_doubles_no_post() {
    let net = Net::new();
    let (short, long) =
        (Duration::from_millis(400), Duration::from_millis(if long() { 5_000 } else { 1_200 }));
    let (_first, at_short) = closing_server(&net, server(8001), Closes::Idle(short));
    let (_second, at_long) = closing_server(&net, server(8002), Closes::Idle(long));
    let nginx = servers::nginx(&net.servers, "keepalive_timeout 400ms; location / { return 200 ok; }");
    let dragoman = Dragoman::start(&net, &normal());
    let app = &net.app;
    let (short, long, real) = thread::scope(|scope| {
        let by_short = scope.spawn(move || race(app, server(8001), true, around(short)));
        let by_long = scope.spawn(move || race(app, server(8002), true, around(long)));
        let by_nginx = scope.spawn(move || race(app, server(80), false, around(short)));
        (by_short.join().unwrap(), by_long.join().unwrap(), by_nginx.join().unwrap())
    });
    let stale = dragoman.settle().sum("dragoman_retries_total", &[("reason", "stale_connection")]);
    println!("{stale} requests met a closing connection and were sent again");
    short.judge("limit 400 ms", &at_short);
    long.judge("limit above a second", &at_long);
    assert_eq!(
        long.failed_posts(),
        0,
        "the first POST after idleness needs a connection that cannot be closing"
    );
    assert!(real.failed_gets.is_empty(), "nginx: {:?}", real.failed_gets);
    wait::until("nginx has noted all", wait::SOON, || nginx.log().matches(" 200 2\n").count() >= real.gets);
}

#[test]
fn h7_a_server_that_closes_after_some_requests_fails_no_get_and_doubles_no_post() {
    let net = Net::new();
    let (first, after) = closing_server(&net, server(8001), Closes::After(7));
    let (_second, before) = closing_server(&net, server(8002), Closes::Before(7));
    let dragoman = Dragoman::start(&net, &normal());
    let app = &net.app;
    let (by_after, by_before) = thread::scope(|scope| {
        let by_after = scope.spawn(move || race(app, server(8001), true, |_| Duration::ZERO));
        let by_before = scope.spawn(move || race(app, server(8002), true, |_| Duration::ZERO));
        (by_after.join().unwrap(), by_before.join().unwrap())
    });
    by_after.judge("closed with the seventh answer", &after);
    let asked: usize = after.lock().unwrap().values().sum();
    assert!(first.used() < asked / 3, "{} connections for {asked} requests", first.used());
    by_before.judge("closed by the eighth request", &before);
    let stale = dragoman.settle().sum("dragoman_retries_total", &[("reason", "stale_connection")]);
    assert!(stale > 0, "the race was never lost, so nothing was shown");
}

#[test]
fn an_upstream_connection_outlives_clients_that_close() {
    let net = Net::new();
    let (origin, counts) = closing_server(&net, server(80), Closes::After(usize::MAX));
    let ask_and_close = |n: usize| {
        let mut client = net.app.connect(server(80));
        client.send(format!("GET /{n} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).unwrap();
        let answer = String::from_utf8(client.read_to_end().unwrap()).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nok"), "{answer}");
        assert!(answer.to_lowercase().contains("\r\nconnection: close\r\n"), "{answer}");
    };
    let dragoman = Dragoman::start(&net, &normal());
    (0..50).for_each(ask_and_close);
    assert_eq!(counts.lock().unwrap().len(), 50);
    assert_eq!(origin.used(), 1, "one connection at a time is enough");
    dragoman.settle();
    drop(dragoman);

    let _dragoman = Dragoman::start(&net, "");
    let mut client = net.app.connect(server(80));
    client.exchange("GET /x HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    net.app.connect(server(80)).exchange("GET /y HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(origin.used(), 3, "an empty configuration shares nothing");
}

#[test]
fn h12_a_connection_that_stands_for_a_user_is_no_one_elses() {
    const URL: &str = "http://198.18.0.2";
    let net = Net::new();
    let scratch = Scratch::new("ntlm");
    let mut serve = net.servers.command(programs::python());
    serve.arg(programs::path("ntlm.py")).arg("80");
    let mut server = Process::start("ntlm.py", &mut serve, &scratch.path().join("log"), None);
    server.wait_ready(wait::SOON, || net.servers.listens(80));
    let curl = "curl -sS -w '%{http_code}\\n'";
    let alice = format!("{curl} --ntlm -u alice:secret {URL}/1 {URL}/2");
    let bob = format!("{curl} --ntlm -u bob:secret {URL}/1 {URL}/2");
    let negotiate = format!("{curl} -H 'Authorization: Negotiate Y2Fyb2w=' {URL}/");
    let nobody = format!("{curl} {URL}/");
    let in_turn = || {
        for _ in 0..3 {
            assert_eq!(net.app.succeed(&alice), "alice 200\nalice 200\n");
            assert_eq!(net.app.succeed(&nobody), "who? 401\n", "after alice");
            assert_eq!(net.app.succeed(&bob), "bob 200\nbob 200\n");
            assert_eq!(net.app.succeed(&negotiate), "carol 200\n");
            assert_eq!(net.app.succeed(&nobody), "who? 401\n", "after carol");
        }
    };
    let at_once = || {
        let repeated = |line: &str| format!("for i in $(seq 10); do {line}; done");
        thread::scope(|scope| {
            let by_alice = scope.spawn(|| net.app.succeed(&repeated(&alice)));
            let by_bob = scope.spawn(|| net.app.succeed(&repeated(&bob)));
            assert_eq!(by_alice.join().unwrap(), "alice 200\n".repeat(20));
            assert_eq!(by_bob.join().unwrap(), "bob 200\n".repeat(20));
        });
    };
    in_turn();
    at_once();
    for configuration in ["", &normal()] {
        let _dragoman = Dragoman::start(&net, configuration);
        in_turn();
        at_once();
    }
}
