//! The units of deploy/systemd, judged by systemd itself, and what the process tells a service manager.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::running::{
    DRAGOMAN, Folder, PATIENCE, Running, Scratch, command, config_at, config_with_socket, own_address, run,
    text,
};

const UNITS: [&str; 2] = ["dragoman.service", "dragoman-init.service"];

fn unit(name: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/systemd/");
    std::fs::read_to_string(format!("{folder}{name}")).unwrap()
}

/// Puts the units into a folder, with a program that is there in the place of those that are installed.
fn units(folder: &Folder) -> Vec<PathBuf> {
    let put = |name: &&str| {
        let text = unit(name);
        let text = text
            .replace("/usr/local/bin/dragoman-init", DRAGOMAN)
            .replace("/usr/local/bin/dragoman", DRAGOMAN);
        let path = folder.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    UNITS.iter().map(put).collect()
}

fn analyze(arguments: &[&str], units: &[PathBuf]) -> Output {
    let mut command = Command::new("systemd-analyze");
    command.args(arguments).args(units).output().unwrap_or_else(|error| {
        panic!("systemd-analyze: {error}; run scripts/setup");
    })
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let folder = Folder::new();
    let output = analyze(&["verify", "--man=no"], &units(&folder));
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && !said.contains(".service:"), "{said}");
}

/// The number is ten times what systemd calls the exposure: 0 is shut in, 100 is wide open.
#[test]
fn the_units_give_away_little() {
    let folder = Folder::new();
    for (unit, exposure) in units(&folder).into_iter().zip(["17", "27"]) {
        let arguments = ["security", "--no-pager", "--offline=yes", "--threshold", exposure];
        let output = analyze(&arguments, std::slice::from_ref(&unit));
        assert!(output.status.success(), "{}: {}", unit.display(), text(&output.stdout));
    }
}

#[test]
fn the_proxys_unit_starts_it_as_it_can_be_started() {
    let text_of = unit(UNITS[0]);
    let line = text_of.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let file = Scratch::new("[defaults]\nretry = {}\n");
    let line = line.replace("/etc/dragoman/dragoman.toml", file.path());
    let (_, arguments) = line.split_once(" proxy ").unwrap();
    let output = run(&[&["check"], &*arguments.split(' ').collect::<Vec<_>>()].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

fn listen(folder: &Folder) -> (UnixDatagram, PathBuf) {
    let path = folder.0.join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    (socket, path)
}

fn next(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 256];
    let length = socket.recv(&mut buffer).unwrap();
    text(&buffer[..length])
}

#[test]
fn a_service_manager_is_told_of_start_and_end() {
    let folder = Folder::new();
    let (socket, path) = listen(&folder);
    let file = Scratch::new(&config_at(own_address()));
    let mut command = command(Path::new(DRAGOMAN));
    command.args(["proxy", "--config", file.path()]).env("NOTIFY_SOCKET", &path);
    // The socket is root's, and by then the process is not.
    command.args(["--user", "0", "--group", "0"]);
    let running = Running::start(&mut command);
    assert_eq!(next(&socket), format!("READY=1\nMAINPID={}", running.pid()));
    running.signal("TERM");
    assert_eq!(next(&socket), "STOPPING=1");
    assert_eq!(running.end().0, 0);
}

#[test]
fn a_service_that_was_taken_over_is_not_stopping() {
    let folder = Folder::new();
    let (socket, path) = listen(&folder);
    let control = folder.0.join("control.sock");
    let file = Scratch::new(&config_with_socket(own_address(), &control));
    let start = |more: &[&str]| {
        let mut command = command(Path::new(DRAGOMAN));
        command.args(["proxy", "--user", "0", "--group", "0", "--config", file.path()]).args(more);
        Running::start(command.env("NOTIFY_SOCKET", &path))
    };
    let first = start(&[]);
    assert_eq!(next(&socket), format!("READY=1\nMAINPID={}", first.pid()));
    let second = start(&["--takeover", control.to_str().unwrap()]);
    assert_eq!(next(&socket), format!("READY=1\nMAINPID={}", second.pid()));
    assert_eq!(first.end().0, 0);
    second.signal("TERM");
    assert_eq!(next(&socket), "STOPPING=1", "and nothing before it");
    assert_eq!(second.end().0, 0);
}
