//! Many at once: abuse in bulk must cost no descriptor, no gauge, and bounded memory.

use std::fs;
use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};

use dragoman_harness::net::server;
use dragoman_harness::origin::{Reply, response};
use dragoman_harness::{Dragoman, Net, Origin, Peer, wait};

/// Resident memory of the proxy in KiB.
fn resident(dragoman: &Dragoman<'_>) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", dragoman.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

/// Opens `count` connections from one thread of A, and says `first` on each.
///
/// # Errors
/// Of each connection the first one that `connect(2)` or `send(2)` has.
fn crowd(net: &Net, port: u16, count: usize, first: &[u8]) -> Vec<io::Result<TcpStream>> {
    let open = || {
        let mut stream = TcpStream::connect(server(port))?;
        stream.write_all(first).map(|()| stream)
    };
    net.app.enter(|| (0..count).map(|_| open()).collect())
}

/// This process holds one end of each connection.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}

/// Connections that wait, of each kind, cost a few KiB each: printed, and bounded.
#[test]
fn waiting_connections_are_cheap() {
    const CROWD: usize = 500;
    raise_descriptor_limit();
    let net = Net::new();
    let _http = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"));
    let big = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(30_000));
    let half = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(1000));
    for (kind, first, limit_kib) in [
        ("silent", &b""[..], 12),
        ("half a method", b"GE", 16),
        ("half a head", half.as_bytes(), 32),
        ("idle after a small exchange", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 24),
        // The buffers are given back to the allocator, which keeps some of it: 20 to 50 KiB each, by chance.
        ("idle after a head of 30 KB", big.as_bytes(), 64),
    ] {
        let dragoman = Dragoman::start(
            &net,
            "[defaults]\npool = {}\n[destination.x]\nhosts = ['x']\nports = [80]\ndeny = true\n",
        );
        let before = resident(&dragoman);
        let crowd: Vec<_> = crowd(&net, 80, CROWD, first).into_iter().map(Result::unwrap).collect();
        dragoman.metrics_where("all are open", |m| m.sum("dragoman_flows_open", &[]) == CROWD as u64);
        if kind.starts_with("idle") {
            dragoman.metrics_where("all are answered", |m| {
                m.sum("dragoman_exchanges_total", &[("code", "200")]) == CROWD as u64
            });
        }
        let each = (resident(&dragoman) - before) as f64 / CROWD as f64;
        println!("{kind}: {each:.1} KiB for each connection");
        assert!(each < f64::from(limit_kib), "{kind}: {each:.1} KiB for each connection");
        drop(crowd);
        dragoman.settle();
    }
}

/// Two thousand flows of every kind of abuse, all mixed: the counts agree, and nothing is left.
#[test]
fn a_mixed_crowd_leaves_nothing_behind() {
    const THREADS: usize = 8;
    const ROUNDS: usize = 25;
    const KINDS: usize = 10;
    let net = Net::new();
    let _http = Origin::tcp(&net.servers, server(80), |mut peer: Peer| -> io::Result<()> {
        let mut count = 0;
        while let Some(request) = peer.request()? {
            count += 1;
            match (request.word(1), count % 7) {
                (_, 3) => peer.send(response(503, "busy"))?,
                (_, 5) => return peer.reset(),
                ("/close", _) => return peer.send("HTTP/1.1 200 OK\r\n\r\nuntil close"),
                ("/torn", _) => return peer.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ntorn"),
                _ => peer.send(response(200, "ok"))?,
            }
        }
        Ok(())
    });
    let _echo = Origin::tcp(&net.servers, server(9000), |mut peer: Peer| -> io::Result<()> {
        let bytes = peer.read_exact(4)?;
        peer.send(bytes)?;
        peer.read_to_end().map(drop)
    });
    let dragoman = Dragoman::start(
        &net,
        "[defaults]\npool = { idle = '1s' }\nretry = { base = '1ms' }\n\
         breaker = { failures = 20, open = '10ms' }\ntry_timeout = '2s'\n",
    );
    dragoman.settle();
    let before = dragoman.descriptors();
    let connected = AtomicU64::new(0);
    let abuse = |kind: usize| -> io::Result<()> {
        let port = [80, 80, 80, 80, 80, 80, 9000, 9000, 9001, 80][kind];
        let mut peer = net.app.try_connect(server(port))?;
        connected.fetch_add(1, Ordering::SeqCst);
        match kind {
            0 => Ok(()),
            1 => peer.send("GET / HT"),
            2 => {
                peer.send("GET /close HTTP/1.1\r\nHost: a\r\n\r\n")?;
                peer.reset()
            }
            3 => peer.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf"),
            4 => {
                for _ in 0..5 {
                    peer.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n")?;
                }
                Ok(())
            }
            5 => peer.exchange("GET /torn HTTP/1.1\r\nHost: a\r\n\r\n").map(drop),
            6 => {
                peer.send([1, 2, 3, 4])?;
                peer.finish_sending()?;
                peer.read_to_end().map(drop)
            }
            7 => {
                peer.send([1, 2, 3, 4])?;
                peer.reset()
            }
            8 => peer.read_to_reset().map(drop),
            _ => peer.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(20)),
        }
    };
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let abuse = &abuse;
            scope.spawn(move || {
                for round in 0..ROUNDS * KINDS {
                    // A flow that is refused or torn is a part of it; one that hangs is not.
                    let kind = (round + thread) % KINDS;
                    let hung = abuse(kind).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
                    assert!(!hung, "abuse of kind {kind} hangs");
                }
            });
        }
    });
    let (connected, most) = (connected.load(Ordering::SeqCst), (THREADS * ROUNDS * KINDS) as u64);
    // The rules refuse a connection rather than let it by: what was made is a flow.
    dragoman.metrics_where("all are counted", |m| m.sum("dragoman_flows_total", &[]) >= connected);
    let metrics = dragoman.settle();
    let flows = metrics.sum("dragoman_flows_total", &[]);
    // One of dragoman's own connections may get the port of an app's that was just reset, and with it what the kernel still
    // remembers of that one, its redirection included: then it comes back to dragoman, and goes on from there as a flow more.
    let twins = most / 100;
    assert!((connected..=most + twins).contains(&flows), "{flows} flows of {connected} to {most}");
    let records = dragoman.records_where(flows as usize, |r| r["kind"] == "flow");
    assert_eq!(records.len() as u64, flows);
    let exchanges = metrics.sum("dragoman_exchanges_total", &[]);
    let lines = dragoman.records_where(exchanges as usize, |r| r["kind"] == "exchange").len() as u64;
    assert_eq!(lines, exchanges);
    assert_eq!(metrics.sum("dragoman_flows_total", &[("cause", "internal")]), 0);
    wait::until("every descriptor is closed", wait::SOON, || dragoman.descriptors() <= before);
    assert!(!dragoman.log().contains("panic"), "{}", dragoman.log());
}

/// Descriptors run out under a crowd: everybody gets an answer or a reset, and it works again afterwards.
#[test]
fn a_crowd_beyond_the_descriptors_is_answered_and_forgotten() {
    let net = Net::new();
    let _origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"));
    let dragoman = Dragoman::start_by(&net, "[defaults]\npool = { idle = '1s' }\n", |net, configuration| {
        let mut command = net.app.command("sh");
        let program = dragoman_harness::binaries::dragoman();
        command
            .args(["-c", "ulimit -n 64; exec \"$0\" proxy --config \"$1\""])
            .arg(program)
            .arg(configuration);
        command
    });
    dragoman_harness::process::succeed(&mut dragoman_harness::dragoman::init(&net, &["install"]));
    let before = dragoman.descriptors();
    let crowd = crowd(&net, 80, 200, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    // A reset may come before the request was sent, or before connect() has returned.
    for stream in crowd.iter().flatten() {
        let mut peer = Peer::new(stream.try_clone().unwrap());
        let end = peer.response("GET").map(|answer| answer.status());
        let hung = matches!(&end, Err(e) if e.kind() == io::ErrorKind::WouldBlock);
        assert!(!hung, "an app hangs: neither answered nor reset");
    }
    drop(crowd);
    wait::until("it works again", wait::SOON, || {
        let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        net.app
            .try_connect(server(80))
            .is_ok_and(|mut peer| peer.exchange(request).is_ok_and(|a| a.status() == 200))
    });
    wait::until("the descriptors are free again", wait::SOON, || dragoman.descriptors() <= before);
}

/// Floods of what must be bounded: heads, fields, trailers, extensions, chunks, all without an end.
#[test]
fn what_never_ends_is_ended() {
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(80), |mut peer: Peer| -> io::Result<()> {
        let head = String::from_utf8_lossy(&peer.read_until(b"\r\n\r\n")?).into_owned();
        let (opening, flood) = match head.split(' ').nth(1).unwrap_or_default() {
            "/line" => ("HTTP/1.1 200 ", "x"),
            "/fields" => ("HTTP/1.1 200 OK\r\n", "a: b\r\n"),
            "/trailers" => ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "a: b\r\n"),
            "/extension" => ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", "x"),
            "/size" => ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "0"),
            _ => {
                let body = peer.read_to_end()?;
                let _ = body;
                return Ok(());
            }
        };
        peer.send(opening)?;
        loop {
            peer.send(flood.repeat(1000))?;
        }
    });
    let dragoman = Dragoman::start(&net, "[defaults]\nrequest_id = true\n");
    let before = resident(&dragoman);
    let connect = || net.app.connect(server(80));
    for path in ["/line", "/fields", "/trailers", "/extension", "/size"] {
        let mut client = connect();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).unwrap();
        let (bytes, reset) = client.read_to_reset().unwrap();
        assert!(reset || bytes.starts_with(b"HTTP/1.1 502"), "{path}: {}", String::from_utf8_lossy(&bytes));
    }
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (opening, flood) in [
        ("GET /", "x"),
        ("GET / HTTP/1.1\r\nHost: a\r\n", "a: b\r\n"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: ", "x"),
        (&format!("{chunked}0\r\n"), "a: b\r\n"),
        (&format!("{chunked}1;"), "x"),
        (chunked, "0"),
    ] {
        let mut client = connect();
        client.send(opening).unwrap();
        let flood = flood.repeat(1000);
        // More than any limit; what comes behind it is read and thrown away, so that the answer arrives.
        let refused = (0..200).any(|_| client.send(&flood).is_err());
        let answer = if refused { Ok(0) } else { client.response("GET").map(|answer| answer.status()) };
        assert!(matches!(answer, Ok(0 | 400 | 431)), "{opening:?} and no end: {answer:?}");
    }
    dragoman.settle();
    let grown = resident(&dragoman).saturating_sub(before);
    println!("resident memory grew by {grown} KiB");
    assert!(grown < 16 * 1024, "{grown} KiB");
}
