//! A running `dragoman proxy` of a test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Longer than anything here can take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The program under test.
pub(crate) const DRAGOMAN: &str = env!("CARGO_BIN_EXE_dragoman");

static COUNT: AtomicU8 = AtomicU8::new(1);

/// A loopback address that no other test has: tests run side by side with the ports that users see.
pub(crate) fn own_address() -> Ipv4Addr {
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 100 + COUNT.fetch_add(1, Ordering::Relaxed), high, low.clamp(1, 254))
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
    format!("[proxy]\nlisten = [\"{address}\"]\n[admin]\nlisten = [\"{address}:15020\"]\n")
}

/// Runs to the end and gives back what it said. No variable of the test's own environment reaches it.
pub(crate) fn run(arguments: &[&str]) -> Output {
    command(Path::new(DRAGOMAN)).args(arguments).output().unwrap()
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
    let mut stream = TcpStream::connect((address, 15020)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
