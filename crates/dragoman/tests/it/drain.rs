//! `dragoman drain`, and what a drain waits for.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;

use nix::libc;

use crate::control::{Rig, start};
use crate::running::{
    DRAGOMAN, Folder, Running, Scratch, ask, ask_control, command, config_at, own_address, run, text,
    without_family,
};

/// What came of `dragoman drain`: its exit code, and all that it said.
fn drain(at: &str, options: &[&str]) -> (Option<i32>, String) {
    let output = run(&[&["drain", "--control", at], options].concat());
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

fn post(path: &str, headers: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: 0\r\n\r\n")
}

fn is_ready(rig: &Rig) -> bool {
    ask(rig.address, "GET /ready HTTP/1.1\r\nHost: a\r\n\r\n").starts_with("HTTP/1.1 200 ")
}

#[test]
fn l2_the_proxy_ends_where_it_is_told_to() {
    for (options, answer) in [(&[][..], "draining\n"), (&["--quit"], "ending\n")] {
        let rig = start("");
        let at = rig.socket.to_str().unwrap();
        assert_eq!(drain(at, options), (Some(0), answer.to_owned()));
        let (code, said) = rig.running.end();
        assert!(code == 0 && said.contains("drained"), "{said}");
        let (code, said) = drain(at, options);
        assert!(code == Some(0) && said.contains("has ended already"), "{code:?} {said}");
    }
}

#[test]
fn l3_an_announcement_begins_nothing_and_the_first_counts() {
    let mut rig = start("");
    let left = |rig: &Rig| {
        let (code, said) = drain(rig.socket.to_str().unwrap(), &["--announce"]);
        assert_eq!(code, Some(0), "{said}");
        let left = said.strip_prefix("announced: ").and_then(|said| said.strip_suffix(" ms left\n"));
        left.and_then(|left| left.parse::<u32>().ok()).unwrap_or_else(|| panic!("{said:?}"))
    };
    let first = left(&rig);
    assert!(first <= 25_000, "{first}");
    let second = left(&rig);
    assert!(second < first, "time has gone by: {second} of {first}");
    assert!(is_ready(&rig), "nothing has begun");
    rig.running.wait_for("the end is announced");
    rig.running.signal("TERM");
    assert_eq!(rig.running.end().0, 0);
}

#[test]
fn what_is_not_done_is_an_error() {
    let rig = start("");
    let tcp = format!("{}:15000", rig.address);
    for (options, key) in [
        (&[][..], "control.changes_on_tcp"),
        (&["--announce"], "control.changes_on_tcp"),
        (&["--quit"], "control.quit_on_tcp"),
    ] {
        let (code, said) = drain(&tcp, options);
        assert!(code == Some(1) && said.contains("403") && said.contains(key), "{code:?} {said}");
    }
    let (code, said) = drain("/no/such/control.sock", &[]);
    assert!(code == Some(1) && said.contains("/no/such/control.sock: No such file"), "{code:?} {said}");
    let silent = TcpListener::bind((own_address(), 0)).unwrap();
    let (code, said) = drain(&silent.local_addr().unwrap().to_string(), &[]);
    assert!(code == Some(1) && said.contains("no answer within 5s"), "{code:?} {said}");
    assert!(is_ready(&rig));
}

#[test]
fn a_proxy_that_ends_in_place_of_an_answer_has_ended() {
    let folder = Folder::new();
    let path = folder.0.join("control.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let ends = std::thread::spawn(move || drop(listener.accept()));
    let (code, said) = drain(path.to_str().unwrap(), &["--quit"]);
    ends.join().unwrap();
    assert!(code == Some(0) && said.contains("has ended already"), "{code:?} {said}");
}

#[test]
fn l2_quit_on_tcp_allows_that_and_nothing_else() {
    let rig = start("quit_on_tcp = true\n");
    for path in ["/drain", "/announce", "/log-level", "/takeover"] {
        let answer = ask_control(rig.address, &post(path, ""));
        assert!(answer.starts_with("HTTP/1.1 403 "), "{path}: {answer}");
    }
    for browsers in ["Origin: http://localhost:15000\r\n", "Sec-Fetch-Site: same-origin\r\n"] {
        let answer = ask_control(rig.address, &post("/quitquitquit", browsers));
        assert!(answer.contains("not for web pages"), "{answer}");
    }
    let rebound = post("/quitquitquit", "").replace("localhost", "evil.example");
    assert!(ask_control(rig.address, &rebound).starts_with("HTTP/1.1 403 "));
    let get = ask_control(rig.address, "GET /quitquitquit HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(get.starts_with("HTTP/1.1 405 "), "{get}");
    assert!(is_ready(&rig));
    assert_eq!(drain(&format!("{}:15000", rig.address), &["--quit"]), (Some(0), "ending\n".to_owned()));
    assert_eq!(rig.running.end().0, 0);
}

#[test]
fn l3_where_listeners_cannot_be_seen_it_is_said_once_and_the_deadline_holds() {
    let address = own_address();
    let settings = "drain = '600ms'\ndrain_quiet = '0s'\ndrain_while_listening = true\n[admin]";
    let file = Scratch::new(&config_at(address).replace("[admin]", settings));
    let mut proxy = command(Path::new(DRAGOMAN));
    proxy.args(["proxy", "--config", file.path()]);
    let running = Running::start(&mut without_family(libc::AF_NETLINK, libc::EPERM, &proxy));
    running.signal("TERM");
    let (code, said) = running.end();
    assert_eq!((code, said.matches("cannot see who listens").count()), (0, 1), "{said}");
}
