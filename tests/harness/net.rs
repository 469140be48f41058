//! Two network namespaces joined by a veth: A, where the app and the proxy are, and S, where servers are.
//!
//! Each test has a pair of its own, so the addresses are the same in all and nothing is shared. The
//! names hold the pid, so that what a killed test run left behind is found and removed by the next.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use socket2::{Domain, Socket, Type};

use crate::link::Link;
use crate::peer::Peer;
use crate::process;

/// A's address.
pub const APP_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// A's IPv6 address.
pub const APP_V6: Ipv6Addr = Ipv6Addr::new(0xfd98, 0, 0, 0, 0, 0, 0, 1);
/// S's first address; S has this and the next six.
pub const SERVER_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
/// S's first IPv6 address; S has this and the next six.
pub const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0xfd98, 0, 0, 0, 0, 0, 0, 2);

const PREFIX: &str = "dgm-";
const NETNS: &str = "/run/netns";
/// Where `ip netns exec` finds the files that it lays over those of `/etc`.
const ETC: &str = "/etc/netns";
const SERVER_ADDRESSES: u8 = 7;

/// A pair of namespaces, removed with everything that runs in them when this value is dropped.
pub struct Net {
    /// A: the app and the proxy.
    pub app: Namespace,
    /// S: the servers.
    pub servers: Namespace,
}

impl Net {
    /// Makes the pair, with IPv4 and IPv6 and a default route from A to S.
    #[expect(clippy::new_without_default, reason = "making namespaces is no default")]
    pub fn new() -> Net {
        Net::joined(|app, servers| {
            // Two different indexes: where an end's own equals its peer's, the kernel takes the link for one
            // that is no pair and reports its carrier, without which IPv6 is silent, up to two seconds late.
            add_veth((app, "eth0", 10), (servers, "eth0", 20));
        })
        .0
    }

    /// Makes the pair with a bad link between the two.
    pub fn with_link() -> (Net, Link) {
        Net::joined(|app, servers| Link::between(Namespace::add(next_name("l")), app, servers))
    }

    /// Makes the pair with a bridge as A's device, so that pods can be put beside the servers: A is their machine.
    pub fn with_bridge() -> Net {
        Net::joined(|app, servers| {
            app.ip_batch("link add eth0 type bridge\n");
            add_veth((app, "uplink", 11), (servers, "eth0", 20));
            app.ip_batch("link set uplink master eth0 up\n");
        })
        .0
    }

    /// Makes the pair; `join` has to give each a device `eth0`.
    fn joined<T>(join: impl FnOnce(&Namespace, &Namespace) -> T) -> (Net, T) {
        static SWEEP: Once = Once::new();
        assert!(nix::unistd::geteuid().is_root(), "this test makes network namespaces: run it as root");
        SWEEP.call_once(sweep);
        let app = Namespace::add(next_name("a"));
        let servers = Namespace::add(next_name("s"));
        let joined = join(&app, &servers);
        app.ip_batch(&format!(
            "link set lo up\naddr add {APP_V4}/24 dev eth0\naddr add {APP_V6}/64 dev eth0 nodad\n\
             link set eth0 up\n"
        ));
        let mut batch = String::from("link set lo up\n");
        for n in 0..SERVER_ADDRESSES {
            batch += &format!("addr add {}/24 dev eth0\n", server_v4(n));
            batch += &format!("addr add {}/64 dev eth0 nodad\n", server_v6(n));
        }
        servers.ip_batch(&(batch + "link set eth0 up\n"));
        // A namespace begins with what this machine has, and a container engine may have made a router of it.
        servers.succeed("echo 0 >/proc/sys/net/ipv4/ip_forward");
        app.ip_batch(&format!("route add default via {SERVER_V4}\nroute add ::/0 via {SERVER_V6}\n"));
        (Net { app, servers }, joined)
    }
}

/// A name that no other namespace has, and that tells whose it is.
fn next_name(role: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{PREFIX}{}-{}-{role}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Joins two namespaces by a pair of devices, each with its name and index.
pub(crate) fn add_veth(one: (&Namespace, &str, u32), other: (&Namespace, &str, u32)) {
    let link = format!(
        "link add {} index {} netns {} type veth peer name {} index {} netns {}",
        one.1, one.2, one.0.name, other.1, other.2, other.0.name
    );
    process::succeed(Command::new("ip").args(link.split(' ')));
}

/// S's IPv4 address number `n`, from 0 to 6.
pub fn server_v4(n: u8) -> IpAddr {
    assert!(n < SERVER_ADDRESSES, "S has {SERVER_ADDRESSES} addresses");
    let [a, b, c, d] = SERVER_V4.octets();
    Ipv4Addr::new(a, b, c, d + n).into()
}

/// S's IPv6 address number `n`, from 0 to 6.
pub fn server_v6(n: u8) -> IpAddr {
    assert!(n < SERVER_ADDRESSES, "S has {SERVER_ADDRESSES} addresses");
    let mut segments = SERVER_V6.segments();
    segments[7] += u16::from(n);
    Ipv6Addr::from(segments).into()
}

/// A port of S's first IPv4 address, where most cases have their one server.
pub fn server(port: u16) -> SocketAddr {
    SocketAddr::new(server_v4(0), port)
}

/// The same port in both families.
pub fn server_in_both_families(port: u16) -> [SocketAddr; 2] {
    [server(port), SocketAddr::new(server_v6(0), port)]
}

/// One network namespace.
pub struct Namespace {
    name: String,
}

impl Namespace {
    fn add(name: String) -> Namespace {
        process::succeed(Command::new("ip").args(["netns", "add", &name]));
        Namespace { name }
    }

    /// Gives a name to the namespace that this file of the kernel stands for, if it is there still. Dropped, the
    /// namespace takes with it what runs there.
    pub(crate) fn adopt(file: &Path) -> Option<Namespace> {
        let namespace = Namespace { name: next_name("p") };
        let path = namespace.path();
        File::create(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mounted = process::output(Command::new("mount").arg("--bind").arg(file).arg(path));
        mounted.status.success().then_some(namespace)
    }

    /// The name that `ip netns` knows.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that will run here. Its pid is the program's own: `ip netns exec` replaces itself.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program.as_ref());
        command
    }

    /// A command that will run here and is ended when it is stuck.
    pub fn bounded(&self, program: impl AsRef<Path>) -> Command {
        let mut command = self.command("timeout");
        command.arg("--kill-after=1").arg(process::STUCK_SECONDS.to_string()).arg(program.as_ref());
        command
    }

    /// Runs a shell line here to its end.
    pub fn shell(&self, line: &str) -> Output {
        process::output(self.bounded("sh").args(["-c", line]))
    }

    /// Runs a shell line here, which must succeed, and returns its standard output.
    pub fn succeed(&self, line: &str) -> String {
        process::succeed(self.bounded("sh").args(["-c", line]))
    }

    /// Gives the programs that start here from now on this `/etc/resolv.conf`.
    pub fn set_resolv_conf(&self, text: &str) {
        let folder = Path::new(ETC).join(&self.name);
        fs::create_dir_all(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        fs::write(folder.join("resolv.conf"), text).expect("a file in a folder of our own");
    }

    /// Runs `work` on a thread of this namespace. The sockets that it makes belong to the namespace for
    /// good and may be used by any thread.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = self.path();
        thread::scope(|scope| {
            let thread = scope.spawn(move || {
                let file = File::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                setns(file, CloneFlags::CLONE_NEWNET).unwrap_or_else(|e| panic!("setns: {e}"));
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Listens here. The backlog is the library's 128.
    pub fn listen(&self, address: SocketAddr) -> TcpListener {
        self.enter(|| TcpListener::bind(address)).unwrap_or_else(|e| panic!("listen on {address}: {e}"))
    }

    /// Connects from here. A source port that the kernel remembers of a connection of the proxy's is refused, and the next try has
    /// another one (docs/adr/0016).
    pub fn connect(&self, address: SocketAddr) -> Peer {
        let connected = self.try_connect(address).or_else(|e| match e.kind() {
            ErrorKind::ConnectionRefused => self.try_connect(address),
            _ => Err(e),
        });
        connected.unwrap_or_else(|e| panic!("connect to {address}: {e}"))
    }

    /// Connects from here, or says why not.
    ///
    /// # Errors
    /// Those of `connect(2)`.
    pub fn try_connect(&self, address: SocketAddr) -> std::io::Result<Peer> {
        // Connected by the caller's own thread: where another one did it, the switch between the two would stand between the
        // connection and its first byte, and a silence there means something to the proxy.
        let socket = self.enter(|| Socket::new(Domain::for_address(address), Type::STREAM, None))?;
        socket.connect_timeout(&address.into(), crate::wait::SOON)?;
        Ok(Peer::new(socket.into()))
    }

    /// Connects, says `first` and returns all that comes back, and whether a reset ended it. One that comes
    /// before anything could be said counts too: the proxy accepts first and refuses then.
    pub fn knock(&self, address: SocketAddr, first: &[u8]) -> (Vec<u8>, bool) {
        let refused = |e: std::io::Error| match e.kind() {
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => (Vec::new(), true),
            _ => panic!("knock at {address}: {e}"),
        };
        let mut peer = match self.try_connect(address) {
            Ok(peer) => peer,
            Err(e) => return refused(e),
        };
        match peer.send(first).and_then(|()| peer.read_to_reset()) {
            Ok(end) => end,
            Err(e) => refused(e),
        }
    }

    /// Whether something listens here on the port, asked of the kernel: a connection would be a probe
    /// that the server or an interceptor could notice.
    pub fn listens(&self, port: u16) -> bool {
        let out = process::output(self.command("ss").args(["-Hltn", &format!("sport = :{port}")]));
        assert!(out.status.success(), "ss: {}", process::text(&out));
        !out.stdout.is_empty()
    }

    /// How many connections a server on this port has here of whose end the other side's kernel has not heard.
    pub fn open_connections(&self, port: u16) -> usize {
        let filter = format!("( sport = :{port} )");
        let states = ["state", "established", "state", "fin-wait-1"];
        let out = process::output(self.command("ss").arg("-Htn").args(states).arg(filter));
        assert!(out.status.success(), "ss: {}", process::text(&out));
        String::from_utf8_lossy(&out.stdout).lines().count()
    }

    pub(crate) fn path(&self) -> PathBuf {
        Path::new(NETNS).join(&self.name)
    }

    fn ip_batch(&self, lines: &str) {
        let mut child = Command::new("ip")
            .args(["-n", &self.name, "-batch", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("ip: {e}; run scripts/setup"));
        child.stdin.take().expect("piped").write_all(lines.as_bytes()).expect("ip reads its batch");
        let status = child.wait().expect("a child can be waited for");
        assert!(status.success(), "ip -batch in {}: {status}\n{lines}", self.name);
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Ends what still runs in a namespace that this harness made, by pid, and removes it. Nothing here
/// panics: it runs while tests fail.
fn remove(name: &str) {
    if let Ok(out) = Command::new("ip").args(["netns", "pids", name]).output() {
        for pid in String::from_utf8_lossy(&out.stdout).lines().filter_map(|line| line.trim().parse().ok()) {
            let _ = signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    let _ = Command::new("ip").args(["netns", "del", name]).stderr(Stdio::null()).status();
    let _ = fs::remove_dir_all(Path::new(ETC).join(name));
}

/// Removes the namespaces of test runs that are no more.
fn sweep() {
    let entries = match fs::read_dir(NETNS) {
        Err(e) if e.kind() == ErrorKind::NotFound => return,
        entries => entries.unwrap_or_else(|e| panic!("{NETNS}: {e}")),
    };
    for name in entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait;

    #[test]
    fn a_pair_carries_both_families_and_leaves_nothing() {
        let net = Net::new();
        for address in [server_v4(0), server_v6(0), server_v4(6), server_v6(6)] {
            let listener = net.servers.listen(SocketAddr::new(address, 7000));
            let mut client = net.app.connect(SocketAddr::new(address, 7000));
            let (stream, peer) = listener.accept().unwrap();
            let from = if address.is_ipv4() { IpAddr::from(APP_V4) } else { IpAddr::from(APP_V6) };
            assert_eq!(peer.ip(), from);
            client.send(b"hello").unwrap();
            assert_eq!(Peer::new(stream).read_exact(5).unwrap(), b"hello");
        }
        let paths = [net.app.path(), net.servers.path()];
        drop(net);
        assert!(paths.iter().all(|path| !path.exists()), "a namespace is left: {paths:?}");
    }

    #[test]
    fn the_sweep_removes_the_dead_and_spares_the_living() {
        let net = Net::new();
        let mut child = Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        let stale = format!("{PREFIX}{pid}-0-a");
        process::succeed(Command::new("ip").args(["netns", "add", &stale]));
        sweep();
        assert!(!Path::new(NETNS).join(&stale).exists());
        assert!(net.app.path().exists());
    }

    #[test]
    fn readiness_is_asked_of_the_kernel() {
        let net = Net::new();
        assert!(!net.servers.listens(7001));
        let listener = net.servers.listen(SocketAddr::new(server_v4(0), 7001));
        wait::until("ss shows the listener", wait::SOON, || net.servers.listens(7001));
        listener.set_nonblocking(true).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "the question was a probe");
    }
}
