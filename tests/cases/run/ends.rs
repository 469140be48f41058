//! What the command is given and how it ends; and that nothing stays, whichever process is killed.

use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;
use std::process::Stdio;

use dragoman_harness::origin::Reply;
use dragoman_harness::process::{self, Process};
use dragoman_harness::{Net, Origin, net, wait};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::{User, as_user, said, says};

#[test]
fn the_command_ends_as_without() {
    let (net, user) = (Net::new(), User::new());
    let scripts = [
        "exit 0",
        "exit 7",
        "exit 255",
        "kill -TERM $$",
        "kill -KILL $$",
        "echo out; echo err >&2; exit 3",
        "printf '%s|' \"$PWD\" \"$HOME\" \"$(umask)\" \"$(ulimit -n)\" \"$(id -u)\" \"$(id -g)\"",
        "trap '' TERM; kill -TERM $$; echo survived",
        // Without the two signals above 31 that are the C library's.
        "while read key value; do case $key in Sig[BI]*) echo $key $((0x$value & 0x7fffffff));; esac; done </proc/$$/status",
        "ls -l /proc/self/fd | grep -c '\\->'",
    ];
    for script in scripts {
        let direct = says(user.runs(&net, "sh").args(["-c", script]));
        let captured = says(&mut user.run(&net, &["--", "sh", "-c", script]));
        assert_eq!(captured, direct, "captured, then direct: {script}");
    }
}

#[test]
fn arguments_and_environment_are_the_commands_own() {
    let (net, user) = (Net::new(), User::new());
    let mut run = user.run(&net, &["printf", "%s|", "--config", "-c", "", "a b", "--explain", "--"]);
    assert_eq!(says(&mut run), (Some(0), "--config|-c||a b|--explain|--|".to_owned(), String::new()));
    let mut run = user.run(&net, &["sh", "-c", "echo $ODD"]);
    assert_eq!(says(run.env("ODD", "a  b")).1, "a b\n");
}

#[test]
fn streams_are_the_commands_own() {
    let (net, user) = (Net::new(), User::new());
    let dragoman = user.dragoman.display();
    let shell = |line: &str| says(user.runs(&net, "bash").args(["-c", line]));
    assert_eq!(
        shell(&format!("seq 100000 | {dragoman} run -- sort -n | {dragoman} run tail -n 1")).1,
        "100000\n"
    );
    // Nobody else holds the ends of the pipes: the reader learns that the command has closed its own.
    let line = format!(
        "{dragoman} run -- sh -c 'exec >&-; read line <{0}/fifo; echo $line >&2' | (cat; echo go >{0}/fifo)",
        user.home.path().display()
    );
    let fifo = format!("mkfifo {}/fifo; ", user.home.path().display());
    assert_eq!(shell(&(fifo + &line)), (Some(0), String::new(), "go\n".to_owned()));
    let line = format!(
        "(for n in 1 2 3; do echo $n; done; exec 3>&1; while echo x >&3; do :; done) 2>/dev/null | {dragoman} run -- sh -c 'read a; echo $a; exec <&-; sleep 0'; echo ended"
    );
    assert_eq!(shell(&line).1, "1\nended\n");
    assert_eq!(shell(&format!("{dragoman} run -- sh -c 'read a || echo closed' <&-")).1, "closed\n");
}

#[test]
fn a_command_that_cannot_be_run_is_said_as_a_shell_says_it() {
    let (net, user) = (Net::new(), User::new());
    let (code, out, err) = says(&mut user.run(&net, &["--", "no-such-command", "x"]));
    assert_eq!((code, out.as_str()), (Some(127), ""));
    assert_eq!(err, "dragoman: cannot run no-such-command: No such file or directory (os error 2)\n");
    let (code, _, err) = says(&mut user.run(&net, &["/etc/passwd"]));
    assert_eq!(
        (code, err.as_str()),
        (Some(126), "dragoman: cannot run /etc/passwd: Permission denied (os error 13)\n")
    );
    let (code, _, err) = says(&mut user.run(&net, &[]));
    assert!(code == Some(2) && err.contains("<COMMAND>..."), "{code:?} {err}");
    let config = user.home.write("wrong.toml", "[defaults]\nretyr = {}\n").display().to_string();
    let (code, _, err) = says(&mut user.run(&net, &["--config", &config, "true"]));
    assert!(code == Some(2) && err.contains("wrong.toml:2:1"), "{code:?} {err}");
}

/// What was sent last is passed on before the end, though the command does not wait for it.
#[test]
fn what_the_command_sent_last_arrives() {
    let (net, user) = (Net::new(), User::new());
    let listener = net.servers.listen(net::server(2003));
    let line = "for n in 1 2 3 4 5; do bash -c 'printf sample-%s $0 >/dev/tcp/198.18.0.2/2003' $n; done";
    for _ in 0..5 {
        assert_eq!(says(&mut user.run(&net, &["sh", "-c", line])), (Some(0), String::new(), String::new()));
        let sample = |_| {
            let mut text = String::new();
            listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
            text
        };
        let mut samples: Vec<String> = (1..=5).map(sample).collect();
        samples.sort();
        assert_eq!(samples, [1, 2, 3, 4, 5].map(|n| format!("sample-{n}")));
    }
}

/// A running `dragoman run`, with what it writes.
struct Running {
    process: Process,
    out: PathBuf,
}

impl Running {
    /// Starts a script in it, and waits until it has said "ready".
    fn start(net: &Net, user: &User, script: &str) -> Running {
        let out = user.home.path().join("out");
        let mut command = net.app.command("setpriv");
        as_user(&mut command, user.uid).arg(&user.dragoman).args(["run", "--", "sh", "-c", script]);
        let log = user.home.path().join("err");
        let process = Process::start("dragoman run", &mut command, &log, Some(File::create(&out).unwrap()));
        let mut running = Running { process, out };
        let out = running.out.clone();
        running.process.wait_ready(wait::SOON, || fs::read_to_string(&out).unwrap().contains("ready"));
        running
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.process.pid() as i32)
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.out).unwrap()
    }

    /// Its one child.
    fn keeper(&self) -> Pid {
        let children = format!("/proc/{0}/task/{0}/children", self.process.pid());
        Pid::from_raw(fs::read_to_string(children).unwrap().trim().parse().unwrap())
    }
}

#[test]
fn a_signal_comes_to_the_command_once_whoever_was_meant() {
    let (net, user) = (Net::new(), User::new());
    let script = "trap 'echo term' TERM; trap 'echo hup' HUP; trap 'echo usr1; exit 9' USR1; echo ready; \
                  while :; do sleep 600 & wait $!; kill $! 2>/dev/null; done";
    let mut running = Running::start(&net, &user, script);
    // To dragoman alone: passed on.
    running.process.signal(Signal::SIGTERM);
    wait::until("SIGTERM", wait::SOON, || running.said().contains("term"));
    // To the whole group: the command has it already.
    killpg(running.pid(), Signal::SIGHUP).unwrap();
    wait::until("SIGHUP", wait::SOON, || running.said().contains("hup"));
    running.process.signal(Signal::SIGUSR1);
    assert_eq!(running.process.wait(wait::SOON).code(), Some(9));
    assert_eq!(running.said(), "ready\nterm\nhup\nusr1\n");
}

#[test]
fn nothing_stays_whichever_process_is_killed() {
    let net = Net::new();
    for victim in ["dragoman", "keeper", "command"] {
        let user = User::new();
        let mut running = Running::start(&net, &user, "echo ready; exec sleep 600");
        let keeper = running.keeper();
        let victim_pid = match victim {
            "dragoman" => running.pid(),
            "keeper" => keeper,
            _ => {
                let children = fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).unwrap();
                Pid::from_raw(children.trim().parse().unwrap())
            }
        };
        kill(victim_pid, Signal::SIGKILL).unwrap();
        let status = running.process.wait(wait::SOON);
        let expected = (victim != "dragoman").then_some(128 + 9);
        assert_eq!(status.code(), expected, "{victim}");
        wait::until("all processes are gone", wait::SOON, || user.processes().is_empty());
    }
}

/// A process that outlives the command loses its connections, and gets no new ones.
#[test]
fn what_outlives_the_command_is_cut_off() {
    let (net, user) = (Net::new(), User::new());
    let _origin = Origin::http(&net.servers, net::server(80), |_, _| Reply::status(200, "here"));
    let script = "import os, socket, time\n\
                  s = socket.create_connection(('198.18.0.2', 80)); s.sendall(b'GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n'); s.recv(10)\n\
                  if os.fork(): os._exit(5)\n\
                  s.settimeout(60)\n\
                  def end(what):\n\
                  \x20 try:\n\
                  \x20   while what(): pass\n\
                  \x20   return 'end'\n\
                  \x20 except OSError as e: return type(e).__name__\n\
                  last = end(lambda: s.recv(100))\n\
                  new = end(lambda: socket.create_connection(('198.18.0.2', 80)).close())\n\
                  print(last, new, flush=True)\n";
    let output = user.run(&net, &["/usr/bin/python3", "-c", script]).stdin(Stdio::null()).output().unwrap();
    // The pipe ends with the process that was left.
    let (code, out, err) = said(&output);
    assert_eq!(code, Some(5), "{err}");
    let cut_off = ["end ConnectionRefusedError\n", "ConnectionResetError ConnectionRefusedError\n"];
    assert!(cut_off.contains(&out.as_str()), "{out}{err}");
}

/// 200 runs in a row and 20 side by side. The number of namespaces is limited to those of one run afterwards: if one
/// were left, that run would fail. The kernel takes them away a moment after their end.
#[test]
fn nothing_stays_of_many_runs() {
    let (net, user) = (Net::new(), User::new());
    let dragoman = user.dragoman.display();
    // Other tests make and remove namespaces meanwhile.
    let mounts = || net.app.succeed("grep -v -e netns -e dgm- /proc/self/mounts");
    let before = mounts();
    let script = format!(
        "for n in $(seq 200); do {dragoman} run -- true || exit 1; done; \
         for n in $(seq 20); do {dragoman} run -- sh -c 'exec true' & list=\"$list $!\"; done; \
         for p in $list; do wait $p || exit 2; done; \
         echo 1 >/proc/sys/user/max_net_namespaces || exit 3; echo 1 >/proc/sys/user/max_user_namespaces; \
         for n in $(seq 600); do {dragoman} run -- echo clean 2>last && exit; sleep 0.05; done; cat last"
    );
    let mut command = net.app.command("setpriv");
    as_user(&mut command, user.uid).args([
        "unshare",
        "--user",
        "--map-current-user",
        "--keep-caps",
        "--",
        "sh",
        "-c",
        &script,
    ]);
    let output = process::output(command.current_dir(user.home.path()));
    assert_eq!(said(&output), (Some(0), "clean\n".to_owned(), String::new()));
    wait::until("all processes are gone", wait::SOON, || user.processes().is_empty());
    assert_eq!(mounts(), before);
    let mine = fs::read_dir(user.home.path()).unwrap().flatten().map(|entry| entry.file_name());
    let mine: Vec<_> = mine.filter(|name| name != "last" && name != "dragoman").collect();
    assert!(mine.is_empty(), "{mine:?}");
}

#[test]
fn runs_may_be_nested() {
    let (net, user) = (Net::new(), User::new());
    let _origin = Origin::http(&net.servers, net::server(80), |_, _| Reply::status(200, "here"));
    let dragoman = user.dragoman.display().to_string();
    let nested = ["--", &dragoman, "run", "--", &dragoman, "run", "curl", "-sS", "http://198.18.0.2/"];
    assert_eq!(says(&mut user.run(&net, &nested)), (Some(0), "here".to_owned(), String::new()));
}
