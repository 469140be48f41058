//! `dragoman wait`: until the proxy is ready, and what it becomes then.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::running::{DRAGOMAN, Running, Scratch, command, config_at, own_address, run, text};

fn admin(address: std::net::Ipv4Addr) -> String {
    format!("{address}:15020")
}

/// Says so much to whoever asks, each time.
fn impostor(says: &'static str) -> (String, TcpListener) {
    let listener = TcpListener::bind((own_address(), 15020)).unwrap();
    let own = listener.try_clone().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = own.accept() {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(says.as_bytes());
        }
    });
    (listener.local_addr().unwrap().to_string(), listener)
}

#[test]
fn l1_a_command_starts_when_the_proxy_is_ready_and_is_the_same_process() {
    let address = own_address();
    let script = "echo $$ \"$@\"; exit 7";
    let mut waits = command(Path::new(DRAGOMAN));
    waits.args(["wait", "--admin", &admin(address), "--", "sh", "-c", script, "sh", "--port", "a b"]);
    let mut child = waits.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    assert!(child.try_wait().unwrap().is_none(), "there is no proxy yet");
    let file = Scratch::new(&config_at(address));
    let _running = Running::start(command(Path::new(DRAGOMAN)).args(["proxy", "--config", file.path()]));
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(7), format!("{pid} --port a b\n")));
}

#[test]
fn l1_a_command_is_not_there_before_the_answer_is_yes() {
    const NOT_YET: usize = 5;
    let listener = TcpListener::bind((own_address(), 15020)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answered = Arc::new(AtomicUsize::new(0));
    let answers = Arc::clone(&answered);
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.read(&mut [0; 1024]);
            let is_ready = answers.fetch_add(1, Ordering::SeqCst) >= NOT_YET;
            let status = if is_ready { "200 OK" } else { "503 Service Unavailable" };
            let _ = stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes());
        }
    });
    let output = run(&["wait", "--admin", &address, "--", "echo", "started"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "started\n".to_owned()));
    assert_eq!(answered.load(Ordering::SeqCst), NOT_YET + 1);
}

#[test]
fn l1_what_is_not_ready_in_time_is_said() {
    let nobody = admin(own_address());
    let (starting, _listener) = impostor("HTTP/1.1 503 Service Unavailable\r\n\r\ndraining\n");
    let (other, _other) = impostor("220 mail.example ESMTP\r\n");
    for (address, why) in [
        (nobody, "refuses connections: is `dragoman proxy` running"),
        (starting, "says \"HTTP/1.1 503 Service Unavailable\""),
        (other, "says \"220 mail.example ESMTP\""),
    ] {
        let begun = Instant::now();
        let output = run(&["wait", "--timeout", "300ms", "--admin", &address, "--", "echo", "started"]);
        let said = text(&output.stderr);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), String::new()), "{said}");
        let expected = format!("dragoman: not ready after 300ms: http://{address}/ready {why}");
        assert!(said.starts_with(&expected), "{said}");
        assert!(begun.elapsed() >= Duration::from_millis(300));
    }
}

#[test]
fn a_silent_proxy_does_not_hold_it_for_ever() {
    let listener = TcpListener::bind((own_address(), 15020)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let output = run(&["wait", "--timeout", "300ms", "--admin", &address]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
}

#[test]
fn without_a_command_it_only_tells() {
    let (ready, _listener) = impostor("HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!(run(&["wait", "--admin", &ready]).status.code(), Some(0));
}

#[test]
fn a_command_that_cannot_be_run_is_said_as_shells_do() {
    let (ready, _listener) = impostor("HTTP/1.1 200 OK\r\n\r\n");
    for (program, code, why) in
        [("/no/such/program", 127, "No such file"), ("/etc/passwd", 126, "Permission denied")]
    {
        let output = run(&["wait", "--admin", &ready, "--", program]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(program) && said.contains(why), "{said}");
    }
}

/// The kernel gives the first process of a container no default for signals.
#[test]
fn a_signal_ends_it_as_the_first_process_of_a_container_too() {
    let script = format!("exec {DRAGOMAN} wait --admin 127.0.0.1:15020 -- true");
    let mut command = command(Path::new("unshare"));
    command.args(["--net", "--pid", "--fork", "--kill-child", "sh", "-c", &script]);
    let mut child = command.spawn().unwrap();
    let inside = || {
        let path = format!("/proc/{0}/task/{0}/children", child.id());
        std::fs::read_to_string(path).ok()?.trim().parse::<i32>().ok()
    };
    let catches = |pid: i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?.trim().to_owned();
        u64::from_str_radix(&caught, 16).ok()
    };
    let end = Instant::now() + crate::running::PATIENCE;
    let pid = loop {
        assert!(Instant::now() < end, "it never caught SIGTERM");
        if let Some(pid) = inside()
            && catches(pid).is_some_and(|caught| caught & (1 << 14) != 0)
        {
            break pid;
        }
        std::thread::yield_now();
    };
    assert!(std::process::Command::new("kill").args(["-TERM", &pid.to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(143));
}
