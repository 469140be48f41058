//! Much at once, and slowly: what streams costs no memory, whoever stalls stalls the other end and nothing else, and
//! an upload ends when its answer has come.

mod blocks;

use std::fs;
use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use dragoman_harness::dragoman::normal;
use dragoman_harness::net::server;
use dragoman_harness::origin::{Reply, response};
use dragoman_harness::scratch::Scratch;
use dragoman_harness::{Dragoman, Net, Origin, servers, wait};

use blocks::{BULK, block, blocks_of, expect, head, receive_chunks, send_chunks};

const MIB: u64 = 1 << 20;
/// A body that the kernel's buffers do not hold.
const LARGE: u64 = 64 * MIB;
/// The most that stands in the buffers of the kernel, of all sockets on the way, while one end reads nothing.
const MOST_ON_THE_WAY: u64 = 40 * MIB;
/// The most memory of the proxy: its code and a flow's buffers, but never a body.
const MOST_MEMORY: u64 = 64 * MIB;
/// A write that hangs for so long has met an end that does not read.
const STALLED: Duration = Duration::from_millis(300);

/// The most memory that the proxy ever had, in bytes.
fn most_memory(dragoman: &Dragoman) -> u64 {
    let file = format!("/proc/{}/status", dragoman.pid());
    let status = fs::read_to_string(&file).expect("a living process has a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells the peak");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

fn assert_flat(what: &str, dragoman: &Dragoman) {
    let most = most_memory(dragoman);
    println!("{what}: at most {} MiB of memory", most / MIB);
    assert!(most < MOST_MEMORY, "{what}: {most} bytes of memory");
}

#[test]
fn h9_a_gibibyte_each_way_costs_no_memory() {
    let net = Net::new();
    let _origin = Origin::tcp(&net.servers, server(80), |mut peer| {
        let mut from = BufReader::new(peer.stream().try_clone()?);
        while let Ok(head) = head(&mut from) {
            if head.starts_with("GET") {
                peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-End\r\n\r\n")?;
                send_chunks(peer.stream())?;
            } else {
                receive_chunks(&mut from)?;
                peer.send(response(200, "whole"))?;
            }
        }
        Ok(())
    });
    let dragoman = Dragoman::start(&net, &normal());
    let mut client = net.app.connect(server(80));
    let mut from = BufReader::new(client.stream().try_clone().unwrap());
    client.send("POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    send_chunks(client.stream()).unwrap();
    head(&mut from).unwrap();
    expect(&mut from, b"whole").unwrap();
    assert_flat("1 GiB up", &dragoman);
    client.send("GET /down HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    head(&mut from).unwrap();
    receive_chunks(&mut from).unwrap();
    assert_flat("1 GiB up and down", &dragoman);
    drop((client, from));
    let metrics = dragoman.settle();
    assert_eq!(metrics.sum("dragoman_exchanges_total", &[("code", "200"), ("cause", "-")]), 2);
}

/// How far a writer has come.
#[derive(Default)]
struct Progress {
    sent: AtomicU64,
    stalled: AtomicBool,
}

impl Progress {
    /// Writes a large body and notes where it cannot go on.
    fn write(&self, mut to: &TcpStream) -> io::Result<()> {
        to.set_write_timeout(Some(STALLED))?;
        let block = block();
        for n in 0..blocks_of(LARGE) {
            let mut rest = &block[..];
            while !rest.is_empty() {
                match to.write(rest) {
                    Ok(count) => rest = &rest[count..],
                    Err(e) if e.kind() == ErrorKind::WouldBlock => {
                        self.stalled.store(true, Ordering::Relaxed);
                    }
                    Err(e) => return Err(e),
                }
            }
            self.sent.store((n + 1) * block.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Waits until the writer is stalled; then it must not have sent more than the kernel holds.
    fn assert_stalls(&self, dragoman: &Dragoman) {
        wait::until("the writer stalls", wait::SOON, || self.stalled.load(Ordering::Relaxed));
        let sent = self.sent.load(Ordering::Relaxed);
        assert!(sent < MOST_ON_THE_WAY, "{} MiB went to an end that does not read", sent / MIB);
        assert_flat("stalled", dragoman);
    }
}

fn read_large(from: &mut impl Read) -> io::Result<()> {
    let block = block();
    (0..blocks_of(LARGE)).try_for_each(|_| expect(from, &block))
}

/// The proxy goes on for others while one flow is stalled.
fn assert_serves(net: &Net) {
    let answer = net.app.connect(server(81)).exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(answer.text(), "another");
}

#[test]
fn an_app_that_does_not_read_stalls_its_server_alone() {
    for configuration in ["", &normal()] {
        let net = Net::new();
        let progress = Arc::new(Progress::default());
        let written = Arc::clone(&progress);
        let _origin = Origin::tcp(&net.servers, server(80), move |mut peer| {
            peer.request()?;
            peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"))?;
            written.write(peer.stream())
        });
        let _other = Origin::http(&net.servers, server(81), |_, _| Reply::status(200, "another"));
        let dragoman = Dragoman::start(&net, configuration);
        let mut client = net.app.connect(server(80));
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        progress.assert_stalls(&dragoman);
        assert_serves(&net);
        let mut from = BufReader::new(client.stream().try_clone().unwrap());
        head(&mut from).unwrap();
        read_large(&mut from).unwrap();
        assert_flat("read at last", &dragoman);
    }
}

#[test]
fn a_server_that_does_not_read_stalls_its_app_alone() {
    for configuration in ["", &normal()] {
        let net = Net::new();
        let reads = Arc::new(AtomicBool::new(false));
        let may_read = Arc::clone(&reads);
        let _origin = Origin::tcp(&net.servers, server(80), move |mut peer| {
            wait::until("the case lets it read", wait::SOON, || may_read.load(Ordering::Relaxed));
            let mut from = BufReader::new(peer.stream().try_clone()?);
            head(&mut from)?;
            read_large(&mut from)?;
            peer.send(response(200, "whole"))
        });
        let _other = Origin::http(&net.servers, server(81), |_, _| Reply::status(200, "another"));
        let dragoman = Dragoman::start(&net, configuration);
        let mut client = net.app.connect(server(80));
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LARGE}\r\n\r\n")).unwrap();
        let progress = Progress::default();
        thread::scope(|scope| {
            let upload = scope.spawn(|| progress.write(client.stream()));
            progress.assert_stalls(&dragoman);
            assert_serves(&net);
            reads.store(true, Ordering::Relaxed);
            upload.join().unwrap().unwrap();
        });
        assert_eq!(client.response("POST").unwrap().text(), "whole");
        assert_flat("read at last", &dragoman);
    }
}

#[test]
fn bytes_that_trickle_arrive_as_they_are() {
    const SLOWLY: Duration = Duration::from_millis(300);
    const ANSWER: &[u8] =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: v\r\n\r\n";
    const REQUEST: &[u8] =
        b"POST /slow HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    let net = Net::new();
    let origin = Origin::tcp(&net.servers, server(80), |mut peer| {
        while peer.request()?.is_some() {
            peer.send_slowly(ANSWER, SLOWLY)?;
        }
        Ok(())
    });
    let _dragoman = Dragoman::start(&net, "");
    let mut client = net.app.connect(server(80));
    for _ in 0..2 {
        client.send_slowly(REQUEST, SLOWLY).unwrap();
        assert_eq!(client.read_exact(ANSWER.len()).unwrap(), ANSWER);
    }
    assert_eq!(origin.connection(0).bytes.so_far(), REQUEST.repeat(2));
}

#[test]
fn h5_curl_stops_an_upload_that_nginx_has_refused() {
    let net = Net::new();
    let _nginx = servers::nginx(&net.servers, "location /dav { client_max_body_size 1m; dav_methods PUT; }");
    let scratch = Scratch::new("upload");
    let file = scratch.write("body", "");
    // Sparse: only what is sent is ever read.
    fs::File::options().write(true).open(&file).unwrap().set_len(BULK).unwrap();
    let upload = |fields: &str| {
        let line = format!(
            "curl -sS -o /dev/null -w '%{{http_code}} %{{size_upload}}' {fields} -T {} http://198.18.0.2/dav/x",
            file.display()
        );
        let printed = net.app.succeed(&line);
        let (code, sent) = printed.split_once(' ').expect("two words");
        assert_eq!(code, "413", "{line}");
        let sent: u64 = sent.parse().expect("a number");
        assert!(sent < MOST_ON_THE_WAY, "{line}: {} MiB were sent", sent / MIB);
    };
    let ways = ["-H Expect:", "-H 'Expect: 100-continue'", "-H Expect: -H 'Transfer-Encoding: chunked'"];
    ways.iter().for_each(|fields| upload(fields));
    for configuration in ["", &normal()] {
        let _dragoman = Dragoman::start(&net, configuration);
        ways.iter().for_each(|fields| upload(fields));
    }
}

#[test]
fn h5_an_upload_that_does_not_stop_is_stopped() {
    let net = Net::new();
    let after_the_answer = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&after_the_answer);
    let _origin = Origin::tcp(&net.servers, server(80), move |mut peer| {
        peer.read_until(b"\r\n\r\n")?;
        peer.read_exact(100_000)?;
        // It does not close: it would read for as long as something comes.
        peer.send("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")?;
        let mut buffer = block();
        loop {
            match peer.stream().read(&mut buffer)? {
                0 => return Ok(()),
                read => count.fetch_add(read as u64, Ordering::Relaxed),
            };
        }
    });
    let dragoman = Dragoman::start(&net, &normal());
    let mut client = net.app.connect(server(80));
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000\r\n\r\n").unwrap();
    let block = block();
    for _ in 0..4 {
        client.send(&block).unwrap();
    }
    assert_eq!(client.response("POST").unwrap().status(), 413);
    wait::until("the app is stopped", wait::SOON, || client.send(&block).is_err());
    drop(client);
    assert_eq!(dragoman.settle().sum("dragoman_exchanges_total", &[("code", "413")]), 1);
    let unwanted = after_the_answer.load(Ordering::Relaxed);
    assert!(unwanted < MOST_ON_THE_WAY, "{} MiB went to a server that had answered", unwanted / MIB);
}

#[test]
fn h5_curl_and_server_agree_about_100_continue() {
    let net = Net::new();
    let origin = Origin::tcp(&net.servers, server(80), |mut peer| {
        loop {
            let head = peer.read_until(b"\r\n\r\n")?;
            let before: &[&str] = match head.split(|byte| *byte == b' ').nth(1) {
                Some(b"/asked") => &["HTTP/1.1 100 Continue\r\nX-From: server\r\n\r\n"],
                Some(b"/asked/twice") => &[
                    "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
                    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n",
                ],
                // Never asks, and waits: the client sends after a while by itself.
                Some(b"/late") => &[],
                _ => {
                    peer.send(response(401, "no"))?;
                    continue;
                }
            };
            before.iter().try_for_each(|interim| peer.send(interim))?;
            peer.read_exact(4)?;
            peer.send(response(200, "stored"))?;
        }
    });
    let scratch = Scratch::new("expect");
    let file = scratch.write("body", "body").display().to_string();
    let curl = |targets: &[&str]| {
        let one = |target: &&str| {
            format!(
                "-sS -i --expect100-timeout 0.2 -X PUT -H 'Expect: 100-continue' -T {file} http://198.18.0.2{target}"
            )
        };
        net.app.succeed(&format!("curl {}", targets.iter().map(one).collect::<Vec<_>>().join(" --next ")))
    };
    let all =
        || [curl(&["/asked", "/asked/twice", "/asked"]), curl(&["/late"]), curl(&["/refused", "/asked"])];
    let heard = || origin.seen().iter().map(dragoman_harness::origin::Seen::text).collect::<Vec<_>>();
    let direct = all();
    let heard_directly = heard();
    assert!(direct[0].contains("X-From: server") && direct[0].matches("stored").count() == 3, "{direct:#?}");
    assert!(!heard_directly[2].contains("body"), "curl did not wait: {heard_directly:?}");
    let dragoman = Dragoman::start(&net, "");
    assert_eq!(all(), direct);
    assert_eq!(heard()[heard_directly.len()..], heard_directly);
    drop(dragoman);
    let _dragoman = Dragoman::start(&net, &normal());
    assert_eq!(all(), direct);
    let bodies = |heard: &[String]| heard.concat().matches("\r\n\r\nbody").count();
    assert_eq!(bodies(&heard()), 3 * bodies(&heard_directly), "{:?}", heard());
}

#[test]
fn a_thousand_pipelined_requests_are_answered_in_order() {
    let net = Net::new();
    let _origin = Origin::http(&net.servers, server(8001), |request, n| {
        let rest = match request.word(0) {
            "HEAD" => "200 OK\r\nContent-Length: 9\r\n\r\n",
            "DELETE" => "204 No Content\r\n\r\n",
            _ if n % 3 == 0 => "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            _ => "200 OK\r\nContent-Length: 2\r\n\r\nok",
        };
        let (status, rest) = rest.split_once("\r\n").expect("a status line");
        Reply::Send(format!("HTTP/1.1 {status}\r\nX-Of: {}\r\n{rest}", request.word(1)).into())
    });
    let _nginx = servers::nginx(
        &net.servers,
        "keepalive_requests 10000; add_header X-Of $request_uri; location / { return 200 ok; }",
    );
    let ask = |port: u16, with_body: bool| {
        let method = |n: usize| ["GET", "HEAD", "DELETE", "POST", "PUT"][n % if with_body { 5 } else { 2 }];
        let request = |n: usize| match method(n) {
            "POST" => format!("POST /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"),
            "PUT" => format!(
                "PUT /{n} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
            ),
            method => format!("{method} /{n} HTTP/1.1\r\nHost: a\r\n\r\n"),
        };
        let mut client = net.app.connect(server(port));
        client.send((0..1000).map(request).collect::<String>()).unwrap();
        for n in 0..1000 {
            let answer = client.response(method(n)).unwrap();
            assert_eq!(answer.header("x-of"), Some(&*format!("/{n}")), "port {port}: {}", answer.head);
        }
        client.finish_sending().unwrap();
        assert_eq!(client.read_to_end().unwrap(), b"");
    };
    let both = || {
        ask(8001, true);
        ask(80, false);
    };
    both();
    for configuration in ["", &normal()] {
        let _dragoman = Dragoman::start(&net, configuration);
        both();
    }
}
