//! `dragoman wait --quit`: stays with a job, and takes the proxy with it at the end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use crate::running::{DRAGOMAN, Running, Scratch, ask, command, config_at, own_address, run, text};

/// A proxy that may be told to quit.
fn proxy(address: Ipv4Addr, control: &str) -> (Running, Scratch) {
    let file = Scratch::new(&format!("{}{control}", config_at(address)));
    (Running::start(command(Path::new(DRAGOMAN)).args(["proxy", "--config", file.path()])), file)
}

const ALLOWED: &str = "quit_on_tcp = true\n";

fn job(address: Ipv4Addr, quit: &str, command: &[&str]) -> Output {
    let (admin, control) = (format!("{address}:15020"), format!("{address}:15000"));
    run(&[&["wait", quit, "--admin", &admin, "--control", &control, "--"], command].concat())
}

#[test]
fn l2_however_a_job_ends_its_exit_code_is_kept_and_the_proxy_ends_with_0() {
    let ends: [(&[&str], i32); 6] = [
        (&["true"], 0),
        (&["sh", "-c", "exit 7"], 7),
        (&["sh", "-c", "kill -KILL $$"], 137),
        (&["sh", "-c", "kill -TERM $$"], 143),
        (&["/no/such/program"], 127),
        (&["/etc/passwd"], 126),
    ];
    for (command, code) in ends {
        let address = own_address();
        let (running, _file) = proxy(address, ALLOWED);
        let output = job(address, "--quit", command);
        assert_eq!(output.status.code(), Some(code), "{command:?}: {}", text(&output.stderr));
        assert_eq!(running.end().0, 0, "{command:?}");
    }
}

#[test]
fn l2_a_job_that_is_tried_again_keeps_its_proxy_until_it_succeeds() {
    let address = own_address();
    let (running, _file) = proxy(address, ALLOWED);
    for (command, code) in [("exit 7", 7), ("kill -KILL $$", 137)] {
        assert_eq!(job(address, "--quit=success", &["sh", "-c", command]).status.code(), Some(code));
        let ready = ask(address, "GET /ready HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(ready.starts_with("HTTP/1.1 200 "), "{ready}");
    }
    assert_eq!(job(address, "--quit=success", &["true"]).status.code(), Some(0));
    assert_eq!(running.end().0, 0);
}

/// Whoever does not want to hear of its own children passes that on to what it starts.
#[test]
fn a_command_is_waited_for_where_children_are_ignored() {
    const IGNORES: &str = "
import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.execv(sys.argv[1], sys.argv[1:])
";
    let admin = ready();
    let waits: &[&str] = &["wait", "--quit=success", "--admin", &admin];
    for starts in [waits, &["run"]] {
        let mut ignores = command(Path::new("timeout"));
        ignores.args(["-sKILL", "25", "/usr/bin/python3", "-c", IGNORES, DRAGOMAN]);
        let output = ignores.args(starts).args(["--", "sh", "-c", "exit 7"]).output().unwrap();
        assert_eq!(output.status.code(), Some(7), "{starts:?}: {}", text(&output.stderr));
    }
}

/// As a template leaves them that has nothing to say.
#[test]
fn an_empty_variable_is_one_that_is_not_set() {
    let mut wait = command(Path::new(DRAGOMAN));
    wait.args(["wait", "--timeout", "0s"]).env("DRAGOMAN_ADMIN", "").env("DRAGOMAN_CONTROL", "");
    let output = wait.output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("http://127.0.0.1:15020/ready"), "{said}");
}

#[test]
fn a_proxy_that_is_started_anew_hears_of_the_end() {
    let control = (own_address(), 15000);
    let at = format!("{}:{}", control.0, control.1);
    let mut wait = command(Path::new(DRAGOMAN));
    wait.args([
        "wait",
        "--quit",
        "--admin",
        &ready(),
        "--control",
        &at,
        "--",
        "sh",
        "-c",
        "echo done; exit 7",
    ]);
    let (mut job, mut stdout) = start(&mut wait);
    assert_eq!(line(&mut stdout), "done");

    let (mut proxy, _) = TcpListener::bind(control).unwrap().accept().unwrap();
    let mut asked = BufReader::new(proxy.try_clone().unwrap());
    assert_eq!(line(&mut asked), "POST /quitquitquit HTTP/1.1");
    proxy.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    assert_eq!(job.0.wait().unwrap().code(), Some(7));
}

#[test]
fn a_proxy_that_does_not_hear_changes_nothing_of_the_exit_code() {
    let address = own_address();
    let (running, _file) = proxy(address, "");
    let output = job(address, "--quit", &["sh", "-c", "exit 7"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(7), "{said}");
    assert!(said.contains("cannot tell the proxy") && said.contains("control.quit_on_tcp"), "{said}");
    running.signal("TERM");
    assert_eq!(running.end().0, 0);

    // One that is gone, and one that is stuck.
    let ready = ready();
    let stuck = TcpListener::bind((own_address(), 0)).unwrap();
    for control in [format!("{}:15000", own_address()), stuck.local_addr().unwrap().to_string()] {
        let output =
            run(&["wait", "--quit", "--admin", &ready, "--control", &control, "--", "sh", "-c", "exit 7"]);
        assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
    }
}

/// An admin address that says ready to whoever asks, for as long as the process lives.
fn ready() -> String {
    let listener = TcpListener::bind((own_address(), 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        }
    });
    address
}

/// `dragoman wait --quit -- python3 -c script`, which nobody hears at the end.
fn waits(script: &str) -> Vec<String> {
    let nobody = format!("{}:15000", own_address());
    let all = [
        DRAGOMAN,
        "wait",
        "--quit",
        "--admin",
        &ready(),
        "--control",
        &nobody,
        "--",
        "/usr/bin/python3",
        "-c",
        script,
    ];
    all.map(str::to_owned).into()
}

/// A process that is killed if the test ends before it.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(command: &mut Command) -> (Killed, BufReader<ChildStdout>) {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    (Killed(child), stdout)
}

fn line(stdout: &mut impl BufRead) -> String {
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

fn kill(signal: &str, pid: u32) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

#[test]
fn every_signal_goes_to_the_job() {
    const SCRIPT: &str = "
import os, signal
heard = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2,
         signal.SIGWINCH, signal.SIGALRM, signal.SIGCONT}
blocked = signal.pthread_sigmask(signal.SIG_BLOCK, heard)
print(len(blocked), 'blocked before', flush=True)
for _ in heard:
    print(signal.sigwait(heard).name, flush=True)
os._exit(3)
";
    let all = waits(SCRIPT);
    let (mut job, mut stdout) = start(command(Path::new(&all[0])).args(&all[1..]));
    assert_eq!(line(&mut stdout), "0 blocked before");
    for signal in ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "WINCH", "ALRM", "CONT"] {
        kill(&format!("-{signal}"), job.0.id());
        assert_eq!(line(&mut stdout), format!("SIG{signal}"));
    }
    assert_eq!(job.0.wait().unwrap().code(), Some(3));
}

/// What a terminal sends goes to all of its processes: the job must not get it a second time.
#[test]
fn an_interrupt_from_the_terminal_comes_once() {
    // A signal may come in the middle of what print does, which must not begin again then.
    const SCRIPT: &str = "
import os, signal
count = 0
def say(line):
    os.write(1, line.encode() + b'\\n')
def interrupted(*_):
    global count
    count += 1
    say('interrupted')
def ask(*_):
    say(f'terminal {os.isatty(0)} {count}')
    os._exit(0)
signal.signal(signal.SIGINT, interrupted)
signal.signal(signal.SIGUSR1, ask)
say(f'parent {os.getppid()}')
while True:
    signal.pause()
";
    // A terminal of its own: what the job says is passed on, and for what the test says Ctrl-C is typed.
    const TERMINAL: &str = "
import os, pty, select, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
while True:
    ready = select.select([terminal, 0], [], [])[0]
    if 0 in ready:
        if not os.read(0, 1):
            break
        os.write(terminal, b'\\x03')
    if terminal in ready:
        try:
            os.write(1, os.read(terminal, 1000))
        except OSError:
            break
os.close(terminal)
os.waitpid(pid, 0)
";
    let mut terminal = command(Path::new("/usr/bin/python3"));
    terminal.args(["-c", TERMINAL]).args(waits(SCRIPT)).stdin(Stdio::piped());
    let (mut terminal, mut stdout) = start(&mut terminal);
    let mut said = || loop {
        let line = line(&mut stdout);
        // The terminal echoes what is typed.
        let line = line.trim_start_matches("^C").to_owned();
        if !line.is_empty() {
            break line;
        }
    };
    let first = said();
    let waits =
        first.strip_prefix("parent ").and_then(|pid| pid.parse().ok()).unwrap_or_else(|| panic!("{first}"));
    terminal.0.stdin.as_mut().unwrap().write_all(b"c").unwrap();
    assert_eq!(said(), "interrupted");
    // Lower numbers are taken first: one that was passed on would come before this.
    kill("-USR1", waits);
    assert_eq!(said(), "terminal True 1");
    terminal.0.wait().unwrap();
}

#[test]
fn as_the_first_process_of_a_container_it_takes_care_of_orphans() {
    const SCRIPT: &str = "
import os, time
assert os.getppid() == 1
for _ in range(50):
    if os.fork() == 0:
        os.fork()
        os._exit(0)
    os.wait()
def parent(pid):
    try:
        return open(f'/proc/{pid}/stat').read().rsplit(') ', 1)[1].split()[1]
    except OSError:
        return None
def children():
    return [pid for pid in os.listdir('/proc') if pid.isdigit() and parent(pid) == '1']
for _ in range(2000):
    if len(children()) == 1:
        os._exit(5)
    time.sleep(0.01)
os._exit(9)
";
    let all = waits(SCRIPT);
    let mut contained = command(Path::new("unshare"));
    contained.args(["--pid", "--fork", "--kill-child", "--mount-proc"]).args(&all);
    let output = contained.output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", text(&output.stderr));
}

#[test]
fn as_the_first_process_of_a_container_it_ends_by_a_signal() {
    let all = waits("print('started', flush=True)\nimport signal\nsignal.pause()");
    let mut contained = command(Path::new("unshare"));
    contained.args(["--pid", "--fork", "--kill-child", "--mount-proc"]).args(&all);
    let (mut contained, mut stdout) = start(&mut contained);
    assert_eq!(line(&mut stdout), "started");
    let path = format!("/proc/{0}/task/{0}/children", contained.0.id());
    let first = std::fs::read_to_string(path).unwrap().trim().parse().unwrap();
    kill("-TERM", first);
    assert_eq!(contained.0.wait().unwrap().code(), Some(143));
}

#[test]
fn what_kills_it_kills_the_job() {
    let all = waits("print('started', flush=True)\nimport signal\nsignal.pause()");
    let (mut job, mut stdout) = start(command(Path::new(&all[0])).args(&all[1..]));
    assert_eq!(line(&mut stdout), "started");
    job.0.kill().unwrap();
    // Its end of the pipe is closed when it is gone.
    assert_eq!(line(&mut stdout), "");
}
