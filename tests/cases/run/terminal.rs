//! A terminal, and what a person does at it.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use dragoman_harness::{Net, servers, wait};

use crate::{PATH, User, as_user};

/// A program at a terminal of its own: `script` makes one.
struct Terminal {
    child: Child,
    shown: String,
    more: Receiver<Vec<u8>>,
}

impl Terminal {
    fn start(net: &Net, user: &User, line: &str) -> Terminal {
        let mut command = net.app.command("setpriv");
        // A shell that stays in between gets what the keyboard sends as well, and dies of it.
        let line = format!("exec {line}");
        as_user(&mut command, user.uid).args(["script", "-qec", &line, "/dev/null"]);
        command
            .env("HOME", user.home.path())
            .env("TERM", "dumb")
            .env("PS1", "$ ")
            .env("PAGER", "cat")
            .env("SHELL", "/bin/sh")
            .env("PATH", PATH);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.current_dir(user.home.path()).spawn().unwrap();
        let mut screen: File = std::os::fd::OwnedFd::from(child.stdout.take().unwrap()).into();
        let (send, more) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = screen.read(&mut buffer) {
                let _ = send.send(buffer[..length].to_vec());
            }
        });
        Terminal { child, shown: String::new(), more }
    }

    /// Waits until this is shown, beyond what was waited for before.
    fn shows(&mut self, text: &str) {
        let end = Instant::now() + wait::SOON;
        while !self.shown.contains(text) {
            let left = end.saturating_duration_since(Instant::now());
            let more = self.more.recv_timeout(left);
            let more = more.unwrap_or_else(|error| panic!("no {text:?} ({error}) in {:?}", self.shown));
            self.shown.push_str(&String::from_utf8_lossy(&more));
        }
        let after = self.shown.find(text).unwrap() + text.len();
        self.shown.drain(..after);
    }

    fn types(&mut self, keys: &str) {
        let mut keyboard = self.child.stdin.as_ref().unwrap();
        keyboard.write_all(keys.as_bytes()).unwrap();
        keyboard.flush().unwrap();
    }

    fn ends(mut self) -> Option<i32> {
        wait::until_some("the end of the terminal", wait::SOON, || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(user: &User, command: &str) -> String {
    format!("{} run -- {command}", user.dragoman.display())
}

#[test]
fn psql_redis_cli_and_python_are_interactive() {
    let (net, user) = (Net::new(), User::new());
    let _postgres = servers::postgres(&net.servers);
    let _redis = servers::redis(&net.servers);
    let psql = "psql \"host=198.18.0.2 user=app dbname=postgres\"";
    let mut terminal = Terminal::start(&net, &user, &run(&user, psql));
    // Asked for on the terminal itself.
    terminal.shows("Password");
    terminal.types("secret\n");
    terminal.shows("postgres=#");
    terminal.types("select 6*7 as answer;\n");
    terminal.shows("42");
    terminal.types("\\q\n");
    assert_eq!(terminal.ends(), Some(0));

    let mut terminal = Terminal::start(&net, &user, &run(&user, "redis-cli -h 198.18.0.2"));
    terminal.shows("198.18.0.2:6379>");
    terminal.types("set key value\n");
    terminal.shows("OK");
    terminal.types("quit\n");
    assert_eq!(terminal.ends(), Some(0));

    let mut terminal = Terminal::start(&net, &user, &run(&user, "/usr/bin/python3 -q"));
    terminal.shows(">>>");
    terminal.types("print(6 * 7)\n");
    terminal.shows("42");
    // Ctrl-C is the program's own to handle.
    terminal.types("exec('print(1000 + 1)\\nwhile True: pass')\n");
    terminal.shows("1001");
    terminal.types("\x03");
    terminal.shows("KeyboardInterrupt");
    terminal.shows(">>>");
    terminal.types("raise SystemExit(6)\n");
    assert_eq!(terminal.ends(), Some(6));
}

#[test]
fn the_keyboard_interrupts_the_command_and_the_end_is_its_own() {
    let (net, user) = (Net::new(), User::new());
    let script = "sh -c \"trap 'echo got; exit 3' INT; echo rea''dy; while :; do sleep 0.05; done\"";
    let mut terminal = Terminal::start(&net, &user, &run(&user, script));
    terminal.shows("ready");
    terminal.types("\x03");
    terminal.shows("got");
    assert_eq!(terminal.ends(), Some(3));

    let mut terminal = Terminal::start(&net, &user, &run(&user, "sh -c 'echo rea\"\"dy; exec sleep 600'"));
    terminal.shows("ready");
    terminal.types("\x03");
    assert_eq!(terminal.ends(), Some(130));
    wait::until("all processes are gone", wait::SOON, || user.processes().is_empty());
}

/// A shell's own jobs, inside and outside: Ctrl-Z stops all of it, and `fg` goes on.
#[test]
fn jobs_are_stopped_and_continued() {
    let (net, user) = (Net::new(), User::new());
    let mut terminal = Terminal::start(&net, &user, "bash --norc -i");
    terminal.shows("$ ");
    terminal.types(&(run(&user, "sh -c 'echo rea\"\"dy; read line; echo got $line; exit 4'") + "\n"));
    terminal.shows("ready");
    terminal.types("\x1a");
    terminal.shows("Stopped");
    terminal.shows("$ ");
    // The shell waits for dragoman alone: a command that has not come to its stop yet could still read.
    let stopped = || user.processes().iter().filter(|process| process.contains("State:\tT")).count();
    wait::until("all of it is stopped", wait::SOON, || stopped() == 3);
    terminal.types("fg\n");
    terminal.shows("run --");
    terminal.types("words\n");
    terminal.shows("got words");
    terminal.shows("$ ");
    terminal.types("echo code $?\n");
    terminal.shows("code 4");
    terminal.shows("$ ");

    terminal.types(&(run(&user, "bash --norc -i") + "\n"));
    terminal.shows("$ ");
    terminal.types("sh -c 'echo star\"\"ted; exec sleep 600'\n");
    terminal.shows("started");
    terminal.types("\x1a");
    terminal.shows("Stopped");
    terminal.shows("$ ");
    terminal.types("kill -KILL %1; while jobs | grep -q Stopped; do :; done; exit 5\n");
    terminal.shows("exit\r\n");
    terminal.shows("$ ");
    terminal.types("echo code $?; exit\n");
    terminal.shows("code 5");
    terminal.ends();
    wait::until("all processes are gone", wait::SOON, || user.processes().is_empty());
}
