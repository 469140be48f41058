//! What is kept, listed and followed, within the bound and whatever the app sends.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use dragoman_harness::net::server;
use dragoman_harness::origin::Reply;
use dragoman_harness::{Dragoman, Net, Origin, binaries, wait};
use serde_json::Value;

use crate::{ask, stdout, stories};

const GET: &str = "GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n";

fn page(net: &Net, path: &str) -> String {
    let mut peer = net.app.connect("127.0.0.1:15000".parse().expect("an address"));
    let answer = peer.exchange(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")).unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer.text()
}

#[test]
fn ten_thousand_exchanges_stay_within_the_bound_and_a_failure_outlives_them() {
    const EXCHANGES: usize = 10_000;
    const MEMORY: usize = 256 * 1024;
    let net = Net::new();
    let _origin = Origin::http(&net.servers, server(80), |request, _| {
        Reply::status(if request.word(1) == "/fails" { 500 } else { 200 }, "ok")
    });
    let policy = "[recorder]\nmemory = '256KiB'\n[defaults]\npool = {}\nrequest_id = true\n";
    let dragoman = Dragoman::start(&net, policy);
    let fails = "GET /fails HTTP/1.1\r\nHost: a.test\r\n\r\n";
    assert_eq!(net.app.connect(server(80)).exchange(fails).unwrap().status(), 500);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = net.app.connect(server(80));
                for _ in 0..EXCHANGES / 4 {
                    assert_eq!(client.exchange(GET).unwrap().status(), 200);
                }
            });
        }
    });
    dragoman.settle();
    let page: Value = serde_json::from_str(&page(&net, "/flows")).unwrap();
    let recorder = &page["recorder"];
    println!("after {EXCHANGES} exchanges: {recorder}");
    let used = usize::try_from(recorder["used"].as_u64().unwrap()).unwrap();
    assert!(used <= MEMORY && recorder["memory"] == MEMORY, "{recorder}");
    let told = page["stories"].as_array().unwrap();
    assert_eq!(told.len() as u64, recorder["stories"].as_u64().unwrap());
    assert!(told.len() > 500 && told.len() < EXCHANGES, "{}", told.len());
    assert_eq!(told.iter().filter(|story| story["path"] == "/fails").count(), 1, "the failure is kept");
    let newest = net.app.connect(server(80)).exchange("GET /newest HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(newest.unwrap().status(), 200);
    dragoman.settle();
    let last = stories(&net, 1, &[]);
    assert!(last.iter().rev().take(4).any(|story| story["path"] == "/newest"), "the newest is never lost");
}

#[test]
fn followers_see_each_as_it_ends_and_a_slow_one_is_told_what_it_missed() {
    let net = Net::new();
    let _origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"));
    let policy = "[recorder]\nmemory = '64KiB'\n[defaults]\npool = {}\nrequest_id = true\n";
    let dragoman = Dragoman::start(&net, policy);
    // The slow one reads nothing until all is over; the quick one reads each line.
    let mut slow = net.app.connect("127.0.0.1:15000".parse().expect("an address"));
    slow.send("GET /flows?follow HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    slow.read_until(b"\r\n\r\n").unwrap();
    let mut command = net.app.command(binaries::dragoman());
    command.args(["flows", "--follow", "--json", "--status", "200"]).stdout(Stdio::piped());
    let mut quick = Follower::start(&mut command);
    wait::until("both follow", wait::SOON, || {
        net.app.connect(server(80)).exchange(GET).unwrap();
        quick.lines.lock().unwrap().iter().any(|line| line.contains("/x"))
    });
    let mut client = net.app.connect(server(80));
    for n in 0..200 {
        client.exchange(format!("GET /{n} HTTP/1.1\r\nHost: a.test\r\n\r\n")).unwrap();
        let mark = format!("\"/{n}\"");
        wait::until("it is followed", wait::SOON, || {
            quick.lines.lock().unwrap().iter().any(|line| line.contains(&mark))
        });
    }
    // More than the sockets' buffers and the recorder hold: the slow one must lose some, and the proxy must not wait.
    let long = "y".repeat(200);
    let request = format!("GET /{long} HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let mut lost = 0;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = net.app.connect(server(80));
                (0..5000).for_each(|_| assert_eq!(client.exchange(&request).unwrap().status(), 200));
            });
        }
    });
    drop(client);
    dragoman.settle();
    while lost == 0 {
        let line = String::from_utf8(slow.read_until(b"\n").unwrap()).unwrap();
        if let Ok(line) = serde_json::from_str::<Value>(&line) {
            lost = line["lost"].as_u64().unwrap_or(0);
        }
    }
    println!("the slow one lost {lost}");
    quick.end();
}

/// A child whose lines are read as they come.
struct Follower {
    child: std::process::Child,
    lines: std::sync::Arc<std::sync::Mutex<Vec<String>>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Follower {
    fn start(command: &mut Command) -> Follower {
        let mut child = command.env("DRAGOMAN_CONTROL", "127.0.0.1:15000").spawn().expect("it starts");
        let lines = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let kept = std::sync::Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                kept.lock().unwrap().push(line);
            }
        });
        Follower { child, lines, reader: Some(reader) }
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            reader.join().expect("it reads to the end");
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.end();
    }
}

#[test]
fn what_is_unknown_or_off_is_said_with_its_exit_code() {
    let net = Net::new();
    let dragoman = Dragoman::start(&net, "");
    let unknown = ask(&net, &["explain", "0123456789abcdef"]);
    assert_eq!(unknown.status.code(), Some(1));
    let said = String::from_utf8(unknown.stderr).unwrap();
    assert!(said.contains("no story of 0123456789abcdef") && said.contains("recorder.memory"), "{said}");
    assert_eq!(ask(&net, &["explain", "ftp://a.test/"]).status.code(), Some(2));
    assert_eq!(
        ask(&net, &["explain", "http://a.test/", "--header", "x", "--address", "10.0.0.1"]).status.code(),
        Some(2)
    );
    drop(dragoman);
    assert_eq!(ask(&net, &["explain", "0123456789abcdef"]).status.code(), Some(1));
    net.app.succeed("nft delete table inet dragoman");
    let _off = Dragoman::start(&net, "[recorder]\nmemory = 0\n");
    for arguments in [&["explain", "--last", "3"][..], &["flows"], &["flows", "--follow"]] {
        let off = ask(&net, arguments);
        let said = String::from_utf8(off.stderr).unwrap();
        assert!(off.status.code() == Some(1) && said.contains("recorder.memory = 0"), "{said}");
    }
}

#[test]
fn nothing_hostile_in_a_head_reaches_the_terminal() {
    let net = Net::new();
    let _origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(500, "no"));
    let dragoman = Dragoman::start(&net, "[defaults]\nrequest_id = true\n");
    let hostile = "\u{1b}]0;pwned\u{7}\u{9b}31m\u{202e}".as_bytes();
    let heads: [Vec<u8>; 4] = [
        [b"GET /", hostile, b" HTTP/1.1\r\nHost: a.test\r\n\r\n"].concat(),
        [b"GET / HTTP/1.1\r\nHost: ", hostile, b"\r\n\r\n"].concat(),
        [b"GET / HTTP/1.1\r\nHost: a.test\r\nx-request-id: ", "\u{9b}31m\u{202e}".as_bytes(), b"\r\n\r\n"]
            .concat(),
        [hostile, b"\x00\xff"].concat(),
    ];
    for head in &heads {
        let mut client = net.app.connect(server(80));
        client.send(head).unwrap();
        client.finish_sending().unwrap();
        // What comes back, and how it ends, is another case's matter.
        let _ = client.read_to_end();
    }
    dragoman.settle();
    for arguments in [
        &["explain", "--last", "100"][..],
        &["explain", "--json", "--last", "100"],
        &["flows"],
        &["flows", "--json"],
    ] {
        let out = ask(&net, arguments);
        assert!(out.status.success() && out.stdout.len() > 200);
        let harmless = |byte: &u8| *byte == b'\n' || (b' '..=b'~').contains(byte);
        assert!(out.stdout.iter().all(harmless), "{}", String::from_utf8_lossy(&out.stdout));
    }
}

#[test]
fn an_id_finds_an_exchange_a_flow_with_its_exchanges_and_a_request_of_the_apps() {
    let net = Net::new();
    let _origin = Origin::http(&net.servers, server(80), |_, _| Reply::status(200, "ok"));
    let dragoman = Dragoman::start(&net, "[defaults]\nrequest_id = true\n");
    let mut client = net.app.connect(server(80));
    for n in 0..2 {
        client
            .exchange(format!("GET /{n} HTTP/1.1\r\nHost: a.test\r\nx-request-id: mine-{n}\r\n\r\n"))
            .unwrap();
    }
    let record = dragoman.records_where(2, |record| record["kind"] == "exchange").remove(1);
    let flow = record["flow"].as_str().unwrap();
    // Its flow is still open, and its exchanges are known.
    assert_eq!(stdout(&ask(&net, &["explain", flow])).matches("exchange ").count(), 2);
    drop(client);
    dragoman.settle();
    let text = stdout(&ask(&net, &["explain", flow]));
    assert!(text.contains("closed by the app") && text.matches("in flow").count() == 2, "{text}");
    let one = stdout(&ask(&net, &["explain", "mine-1"]));
    assert!(one.contains("GET a.test/1") && one.contains("the flow's own connection"), "{one}");
    let id = record["id"].as_str().unwrap();
    let json: Value = serde_json::from_str(&stdout(&ask(&net, &["explain", "--json", id]))).unwrap();
    assert_eq!((&json[0]["id"], &json[0]["attempts"][0]["connection"]), (&record["id"], &"flow".into()));
    assert!(json[0]["matching"]["destination"] == "default", "{json}");
    // The read-only surface, which everybody reaches, has none of it.
    let mut admin = net.app.connect("127.0.0.1:15020".parse().unwrap());
    assert_eq!(admin.exchange("GET /flows HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap().status(), 404);
}
