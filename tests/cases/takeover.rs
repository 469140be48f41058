//! One process takes over from another while the app goes on: nothing is refused, nothing is lost.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::UdpSocket;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dragoman_harness::dragoman::{init, proxy};
use dragoman_harness::http2::{Event, Frame, Http2Origin, Wire, setting};
use dragoman_harness::net::server;
use dragoman_harness::origin::{Reply, echo};
use dragoman_harness::process::{self, Process};
use dragoman_harness::scratch::Scratch;
use dragoman_harness::servers::dnsmasq;
use dragoman_harness::{Net, Origin, Peer, wait};
use nix::sys::signal::Signal;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Starts one process after the other, each with the same control socket.
struct Rig<'n> {
    net: &'n Net,
    scratch: Scratch,
    count: AtomicUsize,
}

impl<'n> Rig<'n> {
    /// With the rules, and a first process.
    fn start(net: &'n Net) -> (Rig<'n>, Process) {
        Rig::start_with(net, "", &["install"])
    }

    fn start_with(net: &'n Net, more: &str, rules: &[&str]) -> (Rig<'n>, Process) {
        let rig = Rig { net, scratch: Scratch::new("takeover"), count: AtomicUsize::new(0) };
        let first = rig.spawn(more, &[]);
        let first = rig.ready(first);
        process::succeed(&mut init(net, rules));
        (rig, first)
    }

    fn socket(&self) -> PathBuf {
        self.scratch.path().join("control.sock")
    }

    fn access_log(&self) -> PathBuf {
        self.scratch.path().join("access.log")
    }

    fn spawn(&self, more: &str, arguments: &[&str]) -> Process {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let mut command = proxy(self.net, &self.configure(number, more));
        let log = self.scratch.path().join(format!("{number}.log"));
        let access_log = File::options().append(true).create(true).open(self.access_log()).unwrap();
        Process::start(&format!("dragoman {number}"), command.args(arguments), &log, Some(access_log))
    }

    fn configure(&self, number: usize, more: &str) -> PathBuf {
        let text = format!(
            "[proxy]\ndrain = '10m'\n[log]\naccess = 'all'\n[control]\nsocket = '{}'\n{more}",
            self.socket().display()
        );
        self.scratch.write(&format!("{number}.toml"), text)
    }

    /// Tells the newest process of a policy that it did not have.
    fn reload(&self, newest: &Process, round: usize) {
        let number = self.count.load(Ordering::Relaxed) - 1;
        self.configure(number, &format!("[defaults]\nconnect_timeout = '{}s'\n", round + 1));
        newest.signal(Signal::SIGHUP);
    }

    fn successor(&self, more: &str) -> Process {
        self.spawn(more, &["--takeover", self.socket().to_str().unwrap()])
    }

    fn ready(&self, mut process: Process) -> Process {
        let log = self.scratch.path().join(format!("{}.log", self.count.load(Ordering::Relaxed) - 1));
        process
            .wait_ready(wait::SOON, || std::fs::read_to_string(&log).is_ok_and(|log| log.contains(" ready")));
        process
    }

    /// A new connection of the app's, and one exchange on it.
    fn get(&self) -> Option<u16> {
        self.net.app.try_connect(server(80)).ok()?.exchange(GET).ok().map(|answer| answer.status())
    }

    /// What the control socket says to a request line.
    fn ask(&self, line: &str) -> String {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream.write_all(format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

fn web(net: &Net) -> Origin {
    Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"))
}

fn handed_over(process: &Process) {
    wait::until("it says that it handed over", wait::SOON, || process.log().contains("handed over"));
}

/// Asks at a steady rate, on new connections and on kept ones, and counts what failed. A kept connection is given up
/// only where the answer says so, or where it was found closed before the request.
struct Load {
    asked: AtomicUsize,
    failed: AtomicUsize,
    over: AtomicBool,
}

impl Load {
    const ASKERS: u32 = 4;
    const RATE: u32 = 200;

    fn new() -> Load {
        Load { asked: AtomicUsize::new(0), failed: AtomicUsize::new(0), over: AtomicBool::new(false) }
    }

    fn ask(&self, net: &Net, keeps_alive: bool) {
        let step = Duration::from_secs(1) * Load::ASKERS / Load::RATE;
        let mut kept: Option<Peer> = None;
        let mut next = Instant::now();
        while !self.over.load(Ordering::Relaxed) {
            let connection = kept.take().map_or_else(|| net.app.try_connect(server(80)), Ok);
            let answer = connection.and_then(|mut peer| Ok((peer.exchange(GET)?, peer)));
            self.asked.fetch_add(1, Ordering::Relaxed);
            match answer {
                Ok((answer, peer)) if answer.status() == 200 => {
                    kept = Some(peer).filter(|_| keeps_alive && answer.header("connection") != Some("close"));
                }
                Ok((answer, _)) => self.fail(&format!("status {}", answer.status())),
                Err(error) => self.fail(&error.to_string()),
            }
            next += step;
            wait::pause(next.saturating_duration_since(Instant::now()));
        }
    }

    /// Ends it when the case does, be it by a panic.
    fn end_with(&self) -> impl Drop + '_ {
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        End(&self.over)
    }

    fn fail(&self, why: &str) {
        eprintln!("a request failed: {why}");
        self.failed.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn twenty_takeovers_and_sixty_reloads_under_load_lose_no_request_and_no_flow() {
    let net = Net::new();
    let _origins = (web(&net), Origin::tcp(&net.servers, server(7000), echo));
    let (rig, first) = Rig::start(&net);
    let load = Load::new();
    let mut opaque: Vec<Peer> = Vec::new();
    let mut generations = vec![first];
    thread::scope(|scope| {
        let _end = load.end_with();
        for asker in 0..Load::ASKERS {
            let (load, net) = (&load, &net);
            scope.spawn(move || load.ask(net, asker % 2 == 0));
        }
        for takeover in 0..20 {
            for _ in 0..50 {
                let mut client = net.app.connect(server(7000));
                client.send(b"\x01\x02").unwrap();
                client.read_exact(2).unwrap();
                opaque.push(client);
            }
            // One falls upon the handover, two upon the first flows of the successor.
            rig.reload(&generations[takeover], 3 * takeover);
            let successor = rig.successor("");
            generations.push(rig.ready(successor));
            (1..3).for_each(|nth| rig.reload(&generations[takeover + 1], 3 * takeover + nth));
            handed_over(&generations[takeover]);
            let before = load.asked.load(Ordering::Relaxed);
            let went_on = || load.asked.load(Ordering::Relaxed) >= before + 100;
            wait::until("the next hundred requests", wait::SOON, went_on);
        }
        for client in &mut opaque {
            client.send(b"\x03\x04").unwrap();
            assert_eq!(client.read_exact(2).ok().as_deref(), Some(&b"\x03\x04"[..]), "an old flow goes on");
        }
    });
    let asked = load.asked.load(Ordering::Relaxed);
    println!("{asked} requests and {} flows in 20 takeovers", opaque.len());
    assert_eq!(load.failed.load(Ordering::Relaxed), 0, "of {asked}");
    let applied = |it: &Process| it.log().matches("configuration applied").count();
    // Two signals in a row may come as one.
    assert!(generations.iter().all(|it| applied(it) >= 1 && !it.log().contains("refused")));
    drop(opaque);
    let last = generations.pop().unwrap();
    for mut old in generations {
        assert_eq!(old.wait(wait::SOON).code(), Some(0), "{}", old.log());
        assert!(old.log().contains("drained"), "{}", old.log());
    }
    drop(last);
    let log = std::fs::read_to_string(rig.access_log()).unwrap();
    let broken: Vec<_> = log.lines().filter(|line| line.contains("\"cause\":\"")).collect();
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn kept_connections_move_over_in_order() {
    let net = Net::new();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let _http1 = web(&net);
    let _http2 = Http2Origin::start(&net.servers, server(81), move |wire, request, _| {
        if request.path() == "/slow" {
            let _ = released.lock().unwrap().recv();
        }
        wire.respond(request.stream, "200", b"ok")
    });
    let (rig, _first) = Rig::start(&net);
    drop(_first);
    let _translated = Http2Origin::start(&net.servers, server(82), |wire, request, _| {
        wire.respond(request.stream, "200", b"ok")
    });
    let policy = "[defaults]\npool = {}\n[destination.two]\nports = [82]\nupstream_protocol = 'http2'\n";
    let mut old = rig.ready(rig.spawn(policy, &[]));
    let mut http1 = net.app.connect(server(80));
    let mut translated = net.app.connect(server(82));
    for client in [&mut http1, &mut translated] {
        let answer = client.exchange(GET).unwrap();
        assert_eq!((answer.status(), answer.header("connection")), (200, None));
    }
    let mut http2 = Wire::client(net.app.connect(server(81)), &[]).unwrap();
    http2.get(1, "/").unwrap();
    assert_eq!(http2.response(1).unwrap().status(), 200);
    http2.get(3, "/slow").unwrap();
    wait::until("both are served by it", wait::SOON, || {
        rig.ask("GET /metrics").contains("dragoman_flows_open 3\n")
    });

    let _new = rig.ready(rig.successor(policy));
    handed_over(&old);
    release.send(()).unwrap();
    let mut answer = http2.response(3);
    if answer.as_ref().is_ok_and(|answer| answer.status() == 0) {
        // The GOAWAY came before it.
        answer = http2.response(3);
    }
    assert_eq!(answer.unwrap().status(), 200, "a stream that was under way ends well");
    for client in [&mut http1, &mut translated] {
        let answer = client.exchange(GET).unwrap();
        assert_eq!((answer.status(), answer.header("connection")), (200, Some("close")));
        assert_eq!(client.read_to_reset().unwrap(), (Vec::new(), false));
    }
    assert_eq!(old.wait(wait::SOON).code(), Some(0), "{}", old.log());
}

/// The process that handed over is the only one that has it.
#[test]
fn what_an_http2_app_has_yet_to_read_outlives_the_handover() {
    const LENGTH: usize = 100_000;
    let net = Net::new();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let _origin = Http2Origin::start(&net.servers, server(81), move |wire, request, _| {
        let _ = released.lock().unwrap().recv();
        wire.respond(request.stream, "200", &[b'x'; LENGTH])
    });
    let policy = "[defaults]\npool = {}\n";
    let (rig, mut old) = Rig::start_with(&net, policy, &["install"]);
    let peer = net.app.connect(server(81));
    // What is not read waits at the proxy.
    socket2::SockRef::from(peer.stream()).set_recv_buffer_size(16 * 1024).unwrap();
    let mut client = Wire::client(peer, &[(setting::INITIAL_WINDOW_SIZE, 1 << 30)]).unwrap();
    client.send(&Frame::window(0, 1 << 30)).unwrap();
    client.get(1, "/").unwrap();
    client.round_trip().unwrap();
    let _new = rig.ready(rig.successor(policy));
    client.take(|event| matches!(event, Event::GoAway { .. }).then_some(())).unwrap();
    // It is answered: nothing but the stream keeps the connection open now.
    client.take(|event| matches!(event, Event::Ping(_)).then_some(())).unwrap();
    release.send(()).unwrap();
    wait::until("the exchange is over", wait::SOON, || {
        std::fs::read_to_string(rig.access_log()).is_ok_and(|log| log.contains("\"kind\":\"exchange\""))
    });
    wait::pause(Duration::from_secs(1));
    let (mut body, mut is_whole) = (0, false);
    let ended = loop {
        match client.event() {
            Ok(Event::Data { bytes, end, .. }) => (body, is_whole) = (body + bytes.len(), end),
            Ok(_) => {}
            Err(error) => break error.kind(),
        }
    };
    assert_eq!((body, is_whole, ended), (LENGTH, true, ErrorKind::UnexpectedEof));
    drop(client);
    assert_eq!(old.wait(wait::SOON).code(), Some(0), "{}", old.log());
}

#[test]
fn a_successor_with_a_wrong_configuration_changes_nothing() {
    let net = Net::new();
    let _origin = web(&net);
    let (rig, old) = Rig::start(&net);
    let _taken = net.app.listen("127.0.0.1:15999".parse().unwrap());
    for (more, code, said) in [
        ("[defaults]\nretries = {}\n", 2, "unknown key"),
        ("[admin]\nlisten = ['127.0.0.1:15999']\n", 1, "the port is taken"),
    ] {
        let mut successor = rig.successor(more);
        assert_eq!(successor.wait(wait::SOON).code(), Some(code), "{}", successor.log());
        assert!(successor.log().contains(said), "{}", successor.log());
        assert_eq!(rig.get(), Some(200));
        assert!(rig.ask("GET /ready").ends_with("\r\n\r\nready\n"));
    }
    assert!(!old.log().contains("handed over"), "{}", old.log());
    let _new = rig.ready(rig.successor(""));
    handed_over(&old);
    assert_eq!(rig.get(), Some(200));
}

/// The folder of the control socket belongs to the user that the proxy runs as, and the successor starts as root.
#[test]
fn a_link_in_place_of_the_socket_gives_no_file_of_roots_away() {
    let net = Net::new();
    let (rig, old) = Rig::start(&net);
    let (victim, moved) = (rig.scratch.write("shadow", "secret"), rig.scratch.path().join("moved.sock"));
    std::fs::rename(rig.socket(), &moved).unwrap();
    std::os::unix::fs::symlink(&victim, rig.socket()).unwrap();
    let _new = rig.ready(rig.spawn("", &["--takeover", moved.to_str().unwrap()]));
    handed_over(&old);
    assert_eq!(std::fs::metadata(&victim).unwrap().uid(), 0);
}

const QUESTION: &[u8] =
    b"POST /takeover HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: dragoman-takeover\r\n\r\n";

const AGREED: &[u8] = b"HTTP/1.1 101 ";

/// Asks for the listeners like a successor; `None` where that is refused, as while another takeover is under way.
fn ask(rig: &Rig<'_>) -> Option<UnixStream> {
    let mut stream = UnixStream::connect(rig.socket()).ok()?;
    stream.write_all(QUESTION).ok()?;
    let mut start = [0; AGREED.len()];
    stream.read_exact(&mut start).ok()?;
    (start == *AGREED).then_some(stream)
}

/// The same as soon as no other takeover is under way.
fn begin(rig: &Rig<'_>) -> UnixStream {
    wait::until_some("no other takeover is under way", wait::SOON, || ask(rig))
}

#[test]
fn a_successor_that_dies_before_it_is_ready_changes_nothing() {
    let net = Net::new();
    let _origin = web(&net);
    let (rig, old) = Rig::start(&net);
    let mut stream = begin(&rig);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    drop(stream);
    // Before its question, after it, in the head of the answer, among the sockets, and after all of them.
    drop(UnixStream::connect(rig.socket()).unwrap());
    UnixStream::connect(rig.socket()).unwrap().write_all(QUESTION).unwrap();
    let sockets = 5;
    for bytes in [0, 1, head.len(), head.len() + 1, head.len() + 2, head.len() + sockets + 1] {
        let mut stream = begin(&rig);
        stream.read_exact(&mut vec![0; bytes]).unwrap();
        drop(stream);
        assert_eq!(rig.get(), Some(200), "after {bytes} bytes");
    }
    // All of them, and then nonsense instead of the word.
    let mut stream = begin(&rig);
    stream.read_exact(&mut vec![0; head.len() + sockets + 1]).unwrap();
    stream.write_all(b"X").unwrap();
    wait::until("it is told", wait::SOON, || old.log().contains("invalid data"));
    assert_eq!(rig.get(), Some(200));
    assert!(!old.log().contains("handed over"), "{}", old.log());
    // One that holds on keeps others out for as long as it does, and no longer.
    let holds = begin(&rig);
    let mut second = rig.successor("");
    assert_eq!(second.wait(wait::SOON).code(), Some(1));
    assert!(second.log().contains("another takeover is under way"), "{}", second.log());
    drop(holds);
    let new = wait::until_some("a takeover works again", wait::SOON, || {
        let mut new = rig.successor("");
        wait::until("it is ready or gives up", wait::SOON, || {
            new.log().contains(" ready") || new.ended().is_some()
        });
        new.ended().is_none().then_some(new)
    });
    handed_over(&old);
    assert_eq!(rig.get(), Some(200), "{}", new.log());
}

#[test]
fn a_successor_killed_at_any_moment_leaves_somebody_who_serves_or_nobody_at_all() {
    let net = Net::new();
    let _origin = web(&net);
    let (rig, mut serving) = Rig::start(&net);
    let (mut survived, mut taken) = (0, 0);
    for delay in 0..15 {
        let mut successor = rig.successor("");
        wait::pause(Duration::from_millis(3 * delay));
        successor.signal(Signal::SIGKILL);
        let _ = successor.wait(wait::SOON);
        // It was told before the end that the successor is ready, or has learnt of the end.
        wait::until("the giver has decided", wait::SOON, || {
            serving.log().contains("handed over") || ask(&rig).is_some()
        });
        if serving.log().contains("handed over") {
            taken += 1;
            assert_eq!(serving.wait(wait::SOON).code(), Some(0));
            let error = net.app.try_connect(server(80)).err().expect("nobody listens");
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            serving = rig.ready(rig.spawn("", &[]));
        } else {
            survived += 1;
        }
        wait::until("it serves", wait::SOON, || rig.get() == Some(200));
    }
    println!("killed before it was ready: {survived}, after: {taken}");
    assert!(survived > 0, "every kill came too late");
}

#[test]
fn after_a_handover_the_old_process_holds_no_listener() {
    let net = Net::new();
    let _origins = (web(&net), Origin::tcp(&net.servers, server(7000), echo));
    let (rig, mut old) = Rig::start(&net);
    let mut client = net.app.connect(server(7000));
    client.send(b"\x01\x02").unwrap();
    client.read_exact(2).unwrap();
    let mut new = rig.ready(rig.successor("[admin]\nlisten = ['127.0.0.1:15021']\n"));
    handed_over(&old);
    wait::until("what the new one does not want is closed", wait::SOON, || !net.app.listens(15020));
    assert!(net.app.listens(15021) && net.app.listens(15001));
    new.signal(Signal::SIGKILL);
    new.wait(wait::SOON);
    wait::until("nobody listens", wait::SOON, || !net.app.listens(15001) && !net.app.listens(15000));
    client.send(b"\x03\x04").unwrap();
    assert_eq!(client.read_exact(2).unwrap(), b"\x03\x04", "the old flow goes on");
    drop(client);
    assert_eq!(old.wait(wait::SOON).code(), Some(0));
}

#[test]
fn there_must_be_somebody_to_take_over_from() {
    let net = Net::new();
    let (rig, first) = Rig::start(&net);
    drop(first);
    let mut successor = rig.successor("");
    assert_eq!(successor.wait(wait::SOON).code(), Some(1));
    assert!(successor.log().contains("is dragoman running"), "{}", successor.log());
}

/// The address of `www.test`, as a resolver asks for it that never asks twice.
fn resolve(net: &Net, number: u16) -> io::Result<()> {
    let dns = server(53);
    let header = [number, 0x0100, 1, 0, 0, 0].into_iter().flat_map(u16::to_be_bytes);
    let query: Vec<u8> = header.chain(*b"\x03www\x04test\x00\x00\x01\x00\x01").collect();
    let mut answer = vec![0; 512];
    if number.is_multiple_of(3) {
        let mut peer = net.app.try_connect(dns)?;
        peer.send([&(query.len() as u16).to_be_bytes()[..], &query].concat())?;
        let length = peer.read_exact(2)?;
        answer = peer.read_exact(u16::from_be_bytes([length[0], length[1]]).into())?;
    } else {
        let socket = net.app.enter(|| UdpSocket::bind("0.0.0.0:0"))?;
        socket.set_read_timeout(Some(wait::SOON))?;
        socket.connect(dns)?;
        socket.send(&query)?;
        let length = socket.recv(&mut answer)?;
        answer.truncate(length);
    }
    if answer.starts_with(&number.to_be_bytes()) && answer.ends_with(&[198, 18, 0, 2]) {
        return Ok(());
    }
    Err(io::Error::new(ErrorKind::InvalidData, format!("{answer:?}")))
}

#[test]
fn dns_is_answered_by_whoever_is_there() {
    let net = Net::new();
    net.app.set_resolv_conf("nameserver 198.18.0.2\n");
    let _resolver = dnsmasq(&net.servers, "host-record=www.test,198.18.0.2");
    let dns = "[dns]\nlisten = ['127.0.0.1:15053', '[::1]:15053']\n";
    let (rig, first) = Rig::start_with(&net, dns, &["install", "--capture-dns", "15053"]);
    let (asked, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut generations = vec![first];
    thread::scope(|scope| {
        let asker = scope.spawn(|| {
            for number in (0..=u16::MAX).take_while(|_| !over.load(Ordering::Relaxed)) {
                resolve(&net, number)?;
                asked.fetch_add(1, Ordering::Relaxed);
            }
            io::Result::Ok(())
        });
        let takeovers = (0..5).try_for_each(|takeover| {
            let successor = rig.successor(dns);
            generations.push(rig.ready(successor));
            handed_over(&generations[takeover]);
            let before = asked.load(Ordering::Relaxed);
            let went_on = || asked.load(Ordering::Relaxed) >= before + 20 || asker.is_finished();
            wait::until("the next queries", wait::SOON, went_on);
            if asker.is_finished() { Err(()) } else { Ok(()) }
        });
        over.store(true, Ordering::Relaxed);
        asker.join().unwrap().expect("each query has its answer");
        takeovers.expect("queries go on");
    });
    let last = generations.pop().unwrap();
    for mut old in generations {
        assert_eq!(old.wait(wait::SOON).code(), Some(0), "{}", old.log());
    }
    assert!(!last.log().contains("IPv6"), "{}", last.log());
}
