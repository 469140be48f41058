//! A running `dragoman proxy` of a test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// Longer than anything here can take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The program under test.
pub(crate) const DRAGOMAN: &str = env!("CARGO_BIN_EXE_dragoman");

static COUNT: AtomicU32 = AtomicU32::new(1);

/// A loopback address that no other test has: tests run side by side with the ports that users see.
pub(crate) fn own_address() -> Ipv4Addr {
    static ADDRESSES: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, ADDRESSES.fetch_add(1, Ordering::Relaxed), high, low.clamp(1, 254))
}

/// A file of a test, removed at its end.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(text: &str) -> Scratch {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("dragoman-it-{}-{count}.toml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Scratch(path)
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A configuration that listens at this address alone, on the usual ports.
pub(crate) fn config_at(address: Ipv4Addr) -> String {
    format!(
        "[proxy]\nlisten = [\"{address}\"]\n[admin]\nlisten = [\"{address}:15020\"]\n\
         [control]\nlisten = [\"{address}:15000\"]\nsocket = \"off\"\n"
    )
}

/// The same with a control socket.
pub(crate) fn config_with_socket(address: Ipv4Addr, socket: &Path) -> String {
    config_at(address).replace("\"off\"", &format!("{:?}", socket.display().to_string()))
}

/// A folder of a test, removed with all that is in it at its end.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("dragoman-it-{}-{count}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs to the end and gives back what it said. No variable of the test's own environment reaches it.
pub(crate) fn run(arguments: &[&str]) -> Output {
    command(Path::new(DRAGOMAN)).args(arguments).output().unwrap()
}

/// Copies a program that is going to be run. A process that another test starts would inherit the descriptor by which this one
/// writes, and for as long as that is open nobody can run the copy (ETXTBSY): so cp writes it.
pub(crate) fn copy(program: &str, to: &Path) {
    assert!(Command::new("cp").arg(program).arg(to).status().unwrap().success());
}

pub(crate) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    let ours = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("DRAGOMAN_"));
    for (name, _) in ours {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// Has the kernel refuse sockets of this family to `command` with this error, as one without it does, or a filter of system
/// calls. No other call is refused.
pub(crate) fn without_family(family: i32, errno: i32, command: &Command) -> Command {
    // One rule of classic BPF: socket(2) with this first argument, else all is allowed. The number of the call is that of
    // the machine.
    const SCRIPT: &str = "
import ctypes, os, platform, struct, sys
family, errno, program = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
socket = {'x86_64': 41, 'aarch64': 198}[platform.machine()]
rule = lambda code, yes, no, k: struct.pack('HBBI', code, yes, no, k)
rules = [rule(0x20, 0, 0, 0), rule(0x15, 0, 3, socket), rule(0x20, 0, 0, 16), rule(0x15, 0, 1, family),
         rule(0x06, 0, 0, 0x00050000 | errno), rule(0x06, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(b''.join(rules))
filter = ctypes.create_string_buffer(struct.pack('HxxxxxxP', len(rules), ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(filter), 0, 0) == 0, os.strerror(ctypes.get_errno())
os.execv(program[0], program)
";
    let mut refused = self::command(Path::new("/usr/bin/python3"));
    refused.args(["-c", SCRIPT, &family.to_string(), &errno.to_string()]);
    refused.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => refused.env(name, value),
            None => refused.env_remove(name),
        };
    }
    refused
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A process that is killed at the end of the test, if it still runs.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
    said: String,
}

impl Running {
    /// Starts it and waits until it says that it is ready.
    pub(crate) fn start(command: &mut Command) -> Running {
        let mut running = Running::spawn(command);
        running.wait_for(" ready");
        running
    }

    pub(crate) fn spawn(command: &mut Command) -> Running {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Running { child, lines, said: String::new() }
    }

    /// Reads its stderr up to a line that has this text.
    pub(crate) fn wait_for(&mut self, needle: &str) {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    self.said += &format!("{line}\n");
                    if line.contains(needle) {
                        return;
                    }
                }
                Err(error) => panic!("{error} while waiting for {needle:?}; it said:\n{}", self.said),
            }
        }
    }

    /// Whether it says nothing on its stderr for so long.
    pub(crate) fn is_silent_for(&mut self, time: Duration) -> bool {
        let line = self.lines.recv_timeout(time);
        self.said += &line.as_ref().map_or(String::new(), |line| format!("{line}\n"));
        line == Err(RecvTimeoutError::Timeout)
    }

    pub(crate) fn said(&self) -> &str {
        &self.said
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let status =
            Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Waits until it ends, and gives back its exit code and all that it said.
    pub(crate) fn end(mut self) -> (i32, String) {
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.said += &format!("{line}\n");
        }
        let status = self.child.wait().unwrap();
        let code = status.code().unwrap_or_else(|| panic!("ended by signal {:?}", status.signal()));
        (code, std::mem::take(&mut self.said))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends raw bytes to the admin port and reads the answer to its end.
pub(crate) fn ask(address: Ipv4Addr, request: &str) -> String {
    converse(TcpStream::connect((address, 15020)).unwrap(), request)
}

/// The same at the control port.
pub(crate) fn ask_control(address: Ipv4Addr, request: &str) -> String {
    converse(TcpStream::connect((address, 15000)).unwrap(), request)
}

/// The same at a control socket.
pub(crate) fn ask_socket(path: &Path, request: &str) -> String {
    converse(UnixStream::connect(path).unwrap(), request)
}

/// An answer that ends before all was sent is one too.
fn converse(mut stream: impl Read + Write, request: &str) -> String {
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}
