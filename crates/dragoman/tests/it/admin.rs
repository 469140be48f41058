//! The admin surface, spoken to in raw bytes.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;

use crate::running::{DRAGOMAN, Running, Scratch, ask, command, config_at, own_address, run, text};

fn start() -> (Running, Ipv4Addr, Scratch) {
    let address = own_address();
    let file = Scratch::new(&config_at(address));
    let running = Running::start(command(Path::new(DRAGOMAN)).args(["proxy", "--config", file.path()]));
    (running, address, file)
}

fn request(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

#[test]
fn each_page_answers() {
    let (_running, address, _file) = start();
    let cases = [
        ("GET", "/live", "200 OK", "live\n"),
        ("GET", "/ready", "200 OK", "ready\n"),
        ("GET", "/ready?verbose", "200 OK", "ready\n"),
        ("GET", "/nothing", "404 Not Found", "no such page; / lists them\n"),
        ("POST", "/nothing", "404 Not Found", "no such page; / lists them\n"),
        ("POST", "/live", "405 Method Not Allowed", "only GET, HEAD\n"),
        ("DELETE", "/metrics", "405 Method Not Allowed", "only GET, HEAD\n"),
        ("HEAD", "/ready", "200 OK", ""),
        ("HEAD", "/metrics", "200 OK", ""),
    ];
    for (method, path, status, body) in cases {
        let answer = ask(address, &request(method, path));
        let (head, got) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{method} {path}: {head}");
        assert_eq!(got, body, "{method} {path}");
        assert_eq!(head.contains("allow: GET, HEAD"), status.starts_with("405"), "{method} {path}: {head}");
    }
    assert!(ask(address, &request("GET", "/")).contains("/metrics"));
}

#[test]
fn metrics_are_in_the_text_format() {
    let (_running, address, _file) = start();
    let answer = ask(address, &request("GET", "/metrics"));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    let version = env!("CARGO_PKG_VERSION");
    assert!(body.contains(&format!("\ndragoman_build_info{{version=\"{version}\",")), "{body}");
    assert!(body.contains("\ndragoman_flows_open 0\n"), "{body}");
    assert!(body.contains("# TYPE dragoman_attempts_total counter\n"), "{body}");
}

#[test]
fn nonsense_is_refused() {
    let (_running, address, _file) = start();
    let long_head = format!("GET /live HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(1 << 20));
    for nonsense in ["\r\n\r\n\0\x16\x03\r\n\r\n", "GET /live\r\n\r\n", long_head.as_str()] {
        let mut stream = TcpStream::connect((address, 15020)).unwrap();
        // The server may answer and close before all is written: that is the point.
        let _ = std::io::Write::write_all(&mut stream, nonsense.as_bytes());
        let mut answer = Vec::new();
        let _ = std::io::Read::read_to_end(&mut stream, &mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{:?}", String::from_utf8_lossy(&answer));
    }
    assert!(ask(address, &request("GET", "/live")).ends_with("live\n"));
}

/// More connections than are served at a time say nothing; their deadline makes room.
#[test]
fn silent_connections_do_not_keep_others_out() {
    let (_running, address, _file) = start();
    let silent: Vec<_> = (0..100).map(|_| TcpStream::connect((address, 15020)).unwrap()).collect();
    assert!(ask(address, &request("GET", "/live")).ends_with("live\n"));
    drop(silent);
}

#[test]
fn a_taken_admin_port_is_said() {
    let address = own_address();
    let _taken = TcpListener::bind((address, 15020)).unwrap();
    let file = Scratch::new(&config_at(address));
    let output = run(&["proxy", "--config", file.path()]);
    let said = text(&output.stderr);
    let expected = format!(
        "dragoman: cannot listen on {address}:15020: the port is taken (by another dragoman? `ss -lntup sport = \
         :15020` says by whom); free it or change admin.listen\n"
    );
    assert_eq!((output.status.code(), said), (Some(1), expected));
}
