//! A pair of namespaces with dragoman-init, someone who listens where dragoman would, and programs that dial.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::thread;

use dragoman_harness::process;
use dragoman_harness::{Namespace, Net};

/// The program under test.
pub(crate) const INIT: &str = env!("CARGO_BIN_EXE_dragoman-init");
/// Where captured connections go by default.
pub(crate) const PORT: u16 = 15001;
/// 127.0.0.1.
pub(crate) const HERE_V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// ::1.
pub(crate) const HERE_V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// What the listener at the original destination says.
pub(crate) const DIRECT: &str = "direct";
/// What the listener at the redirect port says.
pub(crate) const CAPTURED: &str = "captured";

/// Who dials: the user, the group and the further groups of its process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: &'static str,
}

/// An app like any other.
pub(crate) const APP: Owner = Owner { uid: 1000, gid: 1000, groups: "1000" };

/// Two namespaces, the first of which dragoman-init may change.
pub(crate) struct Rig {
    pub(crate) net: Net,
}

impl Rig {
    pub(crate) fn new() -> Rig {
        Rig { net: Net::new() }
    }

    /// Runs dragoman-init in A to its end.
    pub(crate) fn init(&self, arguments: &str) -> Output {
        process::output(&mut self.command(arguments))
    }

    /// Runs dragoman-init in A, which must succeed, and returns what it said.
    pub(crate) fn succeed(&self, arguments: &str) -> String {
        process::succeed(&mut self.command(arguments))
    }

    /// dragoman-init in A, not started yet.
    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = self.net.app.bounded(INIT);
        command.args(arguments.split_whitespace());
        command
    }

    /// A's rules, as nft lists them.
    pub(crate) fn ruleset(&self) -> String {
        self.net.app.succeed("nft list ruleset")
    }

    /// Loads nft text in A.
    pub(crate) fn load(&self, text: &str) {
        self.net.app.succeed(&format!("nft -f - <<'END'\n{text}\nEND"));
    }

    /// Has someone listen on the port of A's loopback, for IPv4 and IPv6, who says `captured`.
    pub(crate) fn listen_as_proxy(&self, port: u16) {
        for address in [HERE_V4, HERE_V6] {
            say(CAPTURED, self.net.app.listen(SocketAddr::new(address, port)));
        }
    }

    /// The same where there is no ::1, on the default port.
    pub(crate) fn listen_as_proxy_on_ipv4(&self) {
        say(CAPTURED, self.net.app.listen(SocketAddr::new(HERE_V4, PORT)));
    }

    /// Who answers in A when `owner` dials `target`: `captured`, `direct`, or nobody (an empty text).
    pub(crate) fn who(&self, owner: Owner, target: SocketAddr) -> String {
        let Owner { uid, gid, groups } = owner;
        let mut command = self.net.app.bounded("setpriv");
        command.args([format!("--reuid={uid}"), format!("--regid={gid}"), format!("--groups={groups}")]);
        command.args(["nc", "-N", "-w", "5"]).args([target.ip().to_string(), target.port().to_string()]);
        String::from_utf8(process::output(&mut command).stdout).expect("listeners say plain words")
    }
}

/// Has someone listen in a namespace who says `direct`.
pub(crate) fn listen_as_destination(namespace: &Namespace, address: SocketAddr) {
    say(DIRECT, namespace.listen(address));
}

/// The first line that the kernel or a program said in error, without the program's name.
pub(crate) fn complaint(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(text.lines().count(), 1, "an error is one line, not:\n{text}");
    text.trim_end().strip_prefix("dragoman-init: ").unwrap_or_else(|| panic!("no name in {text}")).to_owned()
}

/// Answers every connection with one word. Lives as long as the test program.
fn say(word: &'static str, listener: TcpListener) {
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(word, stream));
        }
    });
}

/// Reads to the end first: to close with bytes unread would reset the connection and lose the word.
fn answer(word: &str, mut stream: TcpStream) {
    let _ = stream.write_all(word.as_bytes());
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let _ = stream.read_to_end(&mut Vec::new());
}
