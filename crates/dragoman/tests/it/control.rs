//! The control surface: what it shows and changes, and whom it refuses.

use std::io::{ErrorKind, Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::running::{
    DRAGOMAN, Folder, Running, Scratch, ask, ask_control, ask_socket, command, config_at, config_with_socket,
    own_address, run, text,
};

/// A proxy with a control socket.
pub(crate) struct Rig {
    pub(crate) running: Running,
    pub(crate) address: Ipv4Addr,
    pub(crate) socket: PathBuf,
    _folder: Folder,
    _file: Scratch,
}

/// Starts it, with `more` in `[control]`.
pub(crate) fn start(more: &str) -> Rig {
    let (address, folder) = (own_address(), Folder::new());
    let socket = folder.0.join("control.sock");
    let file = Scratch::new(&format!("{}{more}", config_with_socket(address, &socket)));
    let running = Running::start(command(Path::new(DRAGOMAN)).args(["proxy", "--config", file.path()]));
    Rig { running, address, socket, _folder: folder, _file: file }
}

fn request(method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// The status and the body of an answer.
fn parts(answer: &str) -> (u16, &str) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body)
}

#[test]
fn each_page_is_shown_on_the_socket_and_on_loopback() {
    let rig = start(
        "[destination.pay]\nhosts = [\"pay\"]\ntls = {}\nheaders = { set = { authorization = \"hunter2\" } }\n",
    );
    let pages =
        ["/", "/config", "/destinations", "/destinations?format=text", "/log-level", "/ready", "/metrics"];
    for page in pages {
        let question = request("GET", page, "");
        let answers = [ask_socket(&rig.socket, &question), ask_control(rig.address, &question)];
        assert!(answers.iter().all(|answer| parts(answer).0 == 200), "{page}: {answers:?}");
        assert!(!answers.concat().contains("hunter2"), "{page} shows a secret");
    }
    let config = ask_socket(&rig.socket, &request("GET", "/config", ""));
    assert!(config.contains("authorization = \"***\"") && config.contains(":15000"), "{config}");
    let destinations = ask_socket(&rig.socket, &request("GET", "/destinations", ""));
    let page: serde_json::Value = serde_json::from_str(parts(&destinations).1).unwrap();
    assert_eq!(page["destinations"][1]["name"], "pay");
}

/// The one worker of this proxy has flows to serve: what it is asked for last and quickly, it answers first.
#[test]
fn long_pages_are_made_beside_the_workers() {
    const ASKERS: usize = 16;
    let (address, folder) = (own_address(), Folder::new());
    let socket = folder.0.join("control.sock");
    let mut text = config_with_socket(address, &socket).replace("[proxy]\n", "[proxy]\nworkers = 1\n");
    for name in 0..2000 {
        text += &format!("[destination.d{name}]\nhosts = [\"h{name}\"]\nretry = {{}}\nbreaker = {{}}\n");
    }
    let file = Scratch::new(&text);
    let _running = Running::start(command(Path::new(DRAGOMAN)).args(["proxy", "--config", file.path()]));
    let ask_and_leave = |_| {
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(request("GET", "/config", "").as_bytes()).unwrap();
        stream
    };
    let mut askers: Vec<_> = (0..ASKERS).map(ask_and_leave).collect();
    askers[0].read_exact(&mut [0]).unwrap();
    assert_eq!(parts(&ask(address, &request("GET", "/live", ""))).1, "live\n");
    let waits = |mut stream: &UnixStream| {
        stream.set_nonblocking(true).unwrap();
        stream.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    };
    let waiting = askers.iter().filter(|asker| waits(asker)).count();
    assert!(waiting > ASKERS / 2, "the long page was made {} times meanwhile", ASKERS - waiting);
}

#[test]
fn methods_are_told_apart() {
    let rig = start("");
    let cases = [
        ("GET", "/drain", 405),
        ("HEAD", "/quitquitquit", 405),
        ("GET", "/takeover", 405),
        ("PUT", "/log-level", 405),
        ("POST", "/config", 405),
        ("DELETE", "/destinations", 405),
        ("POST", "/nothing", 404),
        ("GET", "/config/..", 404),
        ("POST", "/takeover", 426),
    ];
    for (method, path, status) in cases {
        let answer = ask_socket(&rig.socket, &request(method, path, ""));
        assert_eq!(parts(&answer).0, status, "{method} {path}: {answer}");
    }
    assert_eq!(
        parts(&ask(rig.address, &request("GET", "/ready", ""))).1,
        "ready\n",
        "nothing has begun to drain"
    );
    assert_eq!(
        parts(&ask(rig.address, &request("GET", "/config", ""))).0,
        404,
        "not on the read-only surface"
    );
    assert_eq!(parts(&ask(rig.address, &request("POST", "/drain", ""))).0, 404);
}

#[test]
fn the_level_of_the_log_can_be_changed_while_it_runs() {
    let mut rig = start("");
    let level = || parts(&ask_socket(&rig.socket, &request("GET", "/log-level", ""))).1.to_owned();
    assert_eq!(level(), "info\n");
    assert_eq!(parts(&ask_socket(&rig.socket, &request("POST", "/log-level", "error\n"))), (200, "error\n"));
    assert_eq!(level(), "error\n");
    for wrong in ["loud", "", "off", "4", "info warn"] {
        let answer = ask_socket(&rig.socket, &request("POST", "/log-level", wrong));
        assert_eq!(parts(&answer), (400, "say one of error, warn, info, debug, trace\n"), "{wrong:?}");
    }
    // At "error" this asking is not logged; at "info" it is.
    ask_socket(&rig.socket, &request("POST", "/log-level", "info"));
    ask_socket(&rig.socket, &request("POST", "/log-level", "debug"));
    for _ in 0..2 {
        rig.running.wait_for("asked to change something");
    }
    assert_eq!(rig.running.said().matches("asked to change").count(), 2, "{}", rig.running.said());
}

#[test]
fn nothing_changes_over_tcp_unless_it_may() {
    for (more, status) in [("", 403), ("changes_on_tcp = true\n", 200)] {
        let rig = start(more);
        let answer = ask_control(rig.address, &request("POST", "/log-level", "debug"));
        assert_eq!(parts(&answer).0, status, "{answer}");
        let level = ask_control(rig.address, &request("GET", "/log-level", ""));
        assert_eq!(parts(&level).1 == "debug\n", status == 200);
    }
}

#[test]
fn a_takeover_is_only_for_the_socket() {
    let rig = start("changes_on_tcp = true\n");
    let question = "POST /takeover HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: dragoman-takeover\r\n\r\n";
    assert_eq!(parts(&ask_control(rig.address, question)), (403, "only on control.socket\n"));
}

#[test]
fn web_pages_are_refused() {
    let rig = start("changes_on_tcp = true\n");
    let ask = |headers: &str| {
        let get = ask_control(rig.address, &format!("GET /config HTTP/1.1\r\n{headers}\r\n"));
        let post =
            ask_control(rig.address, &format!("POST /drain HTTP/1.1\r\n{headers}Content-Length: 0\r\n\r\n"));
        [parts(&get).0, parts(&post).0]
    };
    // A name that was bound to 127.0.0.1 after its page was loaded, and a form of a page of somebody else's.
    let strangers = [
        "Host: evil.example\r\n",
        "Host: evil.example:15000\r\n",
        "Host: localhost.evil.example\r\n",
        "Host: localhost\r\nHost: evil.example\r\n",
        "Host: localhost\r\nOrigin: http://evil.example\r\n",
        "Host: localhost\r\nOrigin: null\r\n",
        "Host: localhost\r\nSec-Fetch-Site: cross-site\r\n",
        "",
    ];
    for headers in strangers {
        assert_eq!(ask(headers), [403, 403], "{headers:?}");
    }
    let own = format!("Host: {}:15000\r\n", rig.address);
    assert_eq!(ask(&own), [200, 200]);
}

#[test]
fn hostile_requests_cost_little_and_change_nothing() {
    let rig = start("");
    let huge = request("POST", "/log-level", &"x".repeat(1 << 20));
    assert_eq!(parts(&ask_socket(&rig.socket, &huge)).0, 413);
    let chunked = "POST /log-level HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n";
    let endless = format!("{chunked}{}", "debug".repeat(300));
    assert!(!ask_socket(&rig.socket, &endless).contains(" 200 "));
    let long_head = format!("GET /config HTTP/1.1\r\nHost: localhost\r\nA: {}\r\n\r\n", "a".repeat(1 << 20));
    assert!(!ask_socket(&rig.socket, &long_head).contains(" 200 "));
    // Slow heads hold no more than their place, and not for long.
    let slow: Vec<_> = (0..100)
        .map(|_| std::os::unix::net::UnixStream::connect(&rig.socket))
        .filter_map(Result::ok)
        .collect();
    let level = ask_socket(&rig.socket, &request("GET", "/log-level", ""));
    assert_eq!(parts(&level), (200, "info\n"));
    drop(slow);
}

#[test]
fn l2_the_application_can_end_it_with_0() {
    for path in ["/drain", "/quitquitquit"] {
        let rig = start("");
        assert_eq!(parts(&ask_socket(&rig.socket, &request("POST", path, ""))).0, 200);
        let (code, said) = rig.running.end();
        assert_eq!(code, 0, "{said}");
        assert!(said.contains("drained"), "{said}");
    }
}

#[test]
fn a_drain_shows_in_readiness_and_a_signal_after_it_is_the_first() {
    let rig = start("");
    let drain = ask_socket(&rig.socket, &request("POST", "/drain", ""));
    assert_eq!(parts(&drain), (200, "draining\n"));
    assert_eq!(parts(&ask(rig.address, &request("GET", "/ready", ""))), (503, "draining\n"));
    assert_eq!(parts(&ask(rig.address, &request("GET", "/live", ""))), (200, "live\n"));
    rig.running.signal("INT");
    assert_eq!(rig.running.end().0, 0, "130 would be the end at once");
}

#[test]
fn the_socket_is_for_the_proxys_user_and_root() {
    let rig = start("");
    let metadata = std::fs::metadata(&rig.socket).unwrap();
    assert_eq!((metadata.permissions().mode() & 0o777, metadata.uid(), metadata.gid()), (0o600, 1337, 1337));
    let connect = format!("import socket; socket.socket(socket.AF_UNIX).connect('{}')", rig.socket.display());
    let try_as = |user: &str| {
        let mut command = Command::new("setpriv");
        command.args([&format!("--reuid={user}"), "--clear-groups", "/usr/bin/python3", "-c", &connect]);
        command.output().unwrap()
    };
    assert!(try_as("1337").status.success());
    let refused = try_as("nobody");
    assert!(text(&refused.stderr).contains("Permission denied"), "{}", text(&refused.stderr));
}

#[test]
fn a_socket_that_is_taken_is_said_and_one_that_is_left_over_is_not() {
    let rig = start("");
    let file = Scratch::new(&config_with_socket(own_address(), &rig.socket));
    let output = run(&["proxy", "--config", file.path()]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("control.sock (control.socket)") && said.contains("other dragoman"), "{said}");
    rig.running.signal("KILL");
    drop(rig.running);
    assert!(rig.socket.exists(), "it was left over");
    let _second = Running::start(command(Path::new(DRAGOMAN)).args(["proxy", "--config", file.path()]));
    assert_eq!(parts(&ask_socket(&rig.socket, &request("GET", "/ready", ""))).1, "ready\n");
}

#[test]
fn without_a_control_surface_there_is_none() {
    let address = own_address();
    let file = Scratch::new(&config_at(address).replace(&format!("[\"{address}:15000\"]"), "[]"));
    let _running = Running::start(command(Path::new(DRAGOMAN)).args(["proxy", "--config", file.path()]));
    assert!(std::net::TcpStream::connect((address, 15000)).is_err());
}
