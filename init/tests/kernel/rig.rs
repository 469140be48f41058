//! A pair of namespaces with dragoman-init, someone who listens where dragoman would, and programs that dial.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::thread;

use dragoman_harness::{Namespace, Net, process, programs, wait};
use nix::unistd::setfsgid;
use socket2::{Domain, Socket, Type};

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

/// What the kernel of a rig offers to dragoman-init.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Everything.
    Netlink,
    /// No NAT in tables for both versions of IP: a library in front of the kernel makes it say so.
    NetlinkApart,
    /// No netlink, while iptables has nf_tables: strace answers for the kernel, to dragoman-init alone.
    IptablesNft,
    /// No nf_tables for anybody: a seccomp filter answers for the kernel.
    IptablesLegacy,
}

impl Way {
    pub(crate) const ALL: [Way; 4] = [Way::Netlink, Way::NetlinkApart, Way::IptablesNft, Way::IptablesLegacy];
}

/// Two namespaces, the first of which dragoman-init may change.
pub(crate) struct Rig {
    pub(crate) net: Net,
    pub(crate) way: Way,
}

impl Rig {
    pub(crate) fn new() -> Rig {
        Rig::by(Way::Netlink)
    }

    /// A rig in which dragoman-init has to go this way to install and remove.
    pub(crate) fn by(way: Way) -> Rig {
        Rig { net: Net::new(), way }
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
        let mut command = match self.way {
            // The check needs sockets of its own, and no netlink.
            _ if arguments.starts_with("verify") => self.net.app.bounded(INIT),
            Way::Netlink => self.net.app.bounded(INIT),
            Way::NetlinkApart => {
                let mut env = self.net.app.bounded("env");
                env.arg(format!("LD_PRELOAD={}", without_inet_nat().display())).arg(INIT);
                env
            }
            Way::IptablesNft => {
                let mut strace = self.net.app.bounded("strace");
                strace.args(["-qq", "-o", "/dev/null", "-e", "trace=socket"]);
                strace.args(["-e", "inject=socket:error=EPROTONOSUPPORT", INIT]);
                strace
            }
            Way::IptablesLegacy => {
                let mut command = self.without_sockets("netfilter");
                command.arg(INIT);
                command
            }
        };
        command.args(arguments.split_whitespace());
        command
    }

    /// What runs a program in A for which the kernel has no sockets of these kinds.
    pub(crate) fn without_sockets(&self, kinds: &str) -> Command {
        let mut python = self.net.app.bounded("/usr/bin/python3");
        python.arg(programs::path("without_sockets.py")).arg(kinds);
        python
    }

    /// A's rules, as nft lists them.
    pub(crate) fn ruleset(&self) -> String {
        self.net.app.succeed("nft list ruleset")
    }

    /// Connects in A from this source, by a socket that was made under this group.
    pub(crate) fn connect_from(
        &self,
        gid: u32,
        source: SocketAddr,
        target: SocketAddr,
    ) -> io::Result<TcpStream> {
        self.net.app.enter(|| {
            // Of this thread alone, which ends with the call.
            setfsgid(gid.into());
            let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            socket.set_read_timeout(Some(wait::SOON))?;
            socket.bind(&source.into())?;
            socket.connect_timeout(&target.into(), wait::SOON)?;
            Ok(socket.into())
        })
    }

    /// Waits until nothing runs in A: what a killed program has started may still be at work.
    pub(crate) fn wait_for_quiet(&self) {
        let name = self.net.app.name();
        wait::until("the end of all programs in A", wait::SOON, || {
            process::succeed(Command::new("ip").args(["netns", "pids", name])).is_empty()
        });
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

/// The library of `without_inet_nat.c`, compiled once.
fn without_inet_nat() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| programs::library("without_inet_nat.c", Path::new(env!("CARGO_TARGET_TMPDIR"))))
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
pub(crate) fn say(word: &'static str, listener: TcpListener) {
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
