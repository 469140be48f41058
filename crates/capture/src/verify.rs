//! The proof that capture works: dial an address that is nobody's and see where the connection arrives.
//!
//! If the proxy runs, it must answer with a random token and the address that was dialled. If nothing listens on
//! its port, the check listens there itself and asks the kernel for the original destination of what arrives. No
//! step waits longer than three seconds.

use std::fmt::{Display, Formatter};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener, TcpStream, UdpSocket,
};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, getsockopt, setsockopt, socket, sockopt,
};

use crate::options::Ipv6;
use crate::{Error, Options, Own, PortRange, probe};

const DEADLINE: Duration = Duration::from_secs(3);

/// What the check found for each IP version.
#[derive(Debug)]
pub struct Report {
    /// Over IPv4.
    pub ipv4: Outcome,
    /// Over IPv6.
    pub ipv6: Outcome,
    /// Of connections from outside, where they are captured. Nothing on this host can prove that they are; what can be
    /// shown is that a proxy that runs listens for them.
    pub inbound: Option<Outcome>,
}

/// What the check found for one IP version.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The connection arrived with its original destination; says who took it.
    Proved(String),
    /// There is nothing to prove here, and why.
    Skipped(String),
    /// The connection is not captured, or could not be shown to be, and why.
    Failed(String),
}

impl Report {
    /// Nothing failed, and something was proved.
    pub fn is_proof(&self) -> bool {
        let outcomes: Vec<&Outcome> = [&self.ipv4, &self.ipv6].into_iter().chain(&self.inbound).collect();
        outcomes.iter().any(|one| matches!(one, Outcome::Proved(_)))
            && !outcomes.iter().any(|one| matches!(one, Outcome::Failed(_)))
    }

    /// The report as one line of JSON: for each version of IP an `outcome` (`proved`, `skipped` or `failed`) and a
    /// `detail` for people, the same for `inbound` where that is captured, and whether all of it is a proof.
    pub fn to_json(&self) -> String {
        let one = |outcome: &Outcome| {
            let (word, detail) = match outcome {
                Outcome::Proved(how) => ("proved", how),
                Outcome::Skipped(why) => ("skipped", why),
                Outcome::Failed(why) => ("failed", why),
            };
            format!("{{\"outcome\":\"{word}\",\"detail\":\"{}\"}}", escaped(detail))
        };
        let (ipv4, ipv6) = (one(&self.ipv4), one(&self.ipv6));
        let inbound = self.inbound.as_ref().map(|inbound| format!(",\"inbound\":{}", one(inbound)));
        let inbound = inbound.unwrap_or_default();
        format!("{{\"proof\":{},\"ipv4\":{ipv4},\"ipv6\":{ipv6}{inbound}}}\n", self.is_proof())
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "IPv4: {}", self.ipv4)?;
        writeln!(f, "IPv6: {}", self.ipv6)?;
        if let Some(inbound) = &self.inbound {
            writeln!(f, "Inbound: {inbound}")?;
        }
        if let (Outcome::Skipped(_), Outcome::Skipped(_)) = (&self.ipv4, &self.ipv6) {
            writeln!(f, "Nothing was proved: there must be a route to at least one of these addresses.")?;
        }
        Ok(())
    }
}

impl Display for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Outcome::Proved(how) => write!(f, "proved: {how}"),
            Outcome::Skipped(why) => write!(f, "skipped: {why}"),
            Outcome::Failed(why) => write!(f, "FAILED: {why}"),
        }
    }
}

/// As between the quotes of a JSON string (RFC 8259 section 7).
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\\' => escaped.extend(['\\', c]),
            c if c.is_control() => escaped += &format!("\\u{:04x}", u32::from(c)),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Proves, for IPv4 and IPv6, that a new connection arrives at the proxy's port with its original destination.
/// Takes the options that the rules were installed with, and needs no privilege.
///
/// # Errors
/// [`Error::Invalid`], and [`Error::Verify`] if the rules leave this very process alone.
pub fn verify(options: &Options) -> Result<Report, Error> {
    options.check()?;
    refuse_if_excluded(options)?;
    let token = token().map_err(|source| Error::Read { path: RANDOM, source })?;
    let [v4, v6] = probe::targets(options);
    // Both before the first dial: which of them is taken tells whether the proxy runs.
    let here = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]
        .map(|address| Receiver::at(address, options.port));
    let proxy_runs =
        here.iter().any(|receiver| matches!(receiver, Receiver::Proxy(_) | Receiver::Lacking(_)));
    let [here_v4, here_v6] = here;
    let (ipv4, ipv6) = std::thread::scope(|scope| {
        let ipv4 = scope.spawn(|| check(v4, here_v4, proxy_runs, &token));
        let ipv6 = match options.ipv6 {
            Ipv6::Off => Outcome::Skipped("--ipv6 off lets IPv6 pass by".to_owned()),
            Ipv6::Auto => check(v6, here_v6, proxy_runs, &token),
            Ipv6::On => match check(v6, here_v6, proxy_runs, &token) {
                Outcome::Skipped(why) => Outcome::Failed(format!("{why}, but --ipv6 on asks for proof")),
                outcome => outcome,
            },
        };
        let ipv4 = ipv4.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (ipv4, ipv6)
    });
    let inbound = options.inbound.as_ref().map(|inbound| served(inbound.port, proxy_runs));
    Ok(Report { ipv4, ipv6, inbound })
}

/// Whether the proxy listens for what comes from outside. The port cannot be bound where it does.
fn served(port: u16, proxy_runs: bool) -> Outcome {
    let any = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    let free =
        any.map(|address| SocketAddr::new(address, port)).into_iter().find(|&address| is_free(address));
    match free {
        Some(_) if !proxy_runs => Outcome::Skipped(format!(
            "the proxy is not running: connections from outside are refused at port {port}"
        )),
        Some(address) => Outcome::Failed(format!(
            "the proxy runs, but does not listen on {address}, where connections from outside are redirected"
        )),
        None => Outcome::Skipped(format!(
            "somebody listens on port {port}; only a connection from outside can prove more"
        )),
    }
}

/// Whether nobody listens there. An IPv6 socket would else take the IPv4 port too.
fn is_free(address: SocketAddr) -> bool {
    let bound = || {
        let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        if address.is_ipv6() {
            setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
        }
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
        bind(socket.as_raw_fd(), &SockaddrStorage::from(address))
    };
    bound().is_ok()
}

/// Who takes what arrives at the proxy's port.
enum Receiver {
    /// The port is taken, so the proxy must answer.
    Proxy(SocketAddr),
    /// The first port is taken, and this further one is not.
    Lacking(SocketAddr),
    /// The port was free: this check listens.
    Here(TcpListener, SocketAddr),
    /// Nobody can listen there.
    None(io::Error),
}

impl Receiver {
    /// On the first port: the others are for connections whose source is taken there. A proxy must have them all.
    fn at(address: IpAddr, ports: PortRange) -> Receiver {
        let first = SocketAddr::new(address, ports.first);
        match TcpListener::bind(first) {
            Ok(listener) => Receiver::Here(listener, first),
            Err(error) if error.kind() == ErrorKind::AddrInUse => (ports.first..=ports.last)
                .map(|port| SocketAddr::new(address, port))
                .find(|&other| TcpListener::bind(other).is_ok())
                .map_or(Receiver::Proxy(first), Receiver::Lacking),
            Err(error) => Receiver::None(error),
        }
    }
}

fn check(target: Result<SocketAddr, String>, receiver: Receiver, proxy_runs: bool, token: &str) -> Outcome {
    let target = match target {
        Ok(target) => target,
        Err(why) => return Outcome::Failed(why),
    };
    if let Err(error) = route_to(target) {
        let version = if target.is_ipv4() { "IPv4" } else { "IPv6" };
        return Outcome::Skipped(format!("no {version} route to {} ({error})", target.ip()));
    }
    let result = match receiver {
        Receiver::Lacking(address) => Err(unserved(address)),
        Receiver::Here(_, address) if proxy_runs => Err(unserved(address)),
        Receiver::Here(listener, address) => arrives_here(&listener, address, target, token),
        Receiver::Proxy(address) => proxy_answers(address, target, token),
        Receiver::None(error) => Err(format!("nobody can listen where connections are redirected: {error}")),
    };
    match result {
        Ok(how) => Outcome::Proved(how),
        Err(why) => Outcome::Failed(why),
    }
}

fn unserved(address: SocketAddr) -> String {
    format!("the proxy runs, but does not listen on {address}, where connections are redirected")
}

/// To connect a UDP socket looks the route up and sends nothing.
fn route_to(target: SocketAddr) -> io::Result<()> {
    let any = match target {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    UdpSocket::bind((any, 0))?.connect(target)
}

fn arrives_here(
    listener: &TcpListener,
    here: SocketAddr,
    target: SocketAddr,
    token: &str,
) -> Result<String, String> {
    let deadline = Instant::now() + DEADLINE;
    let mut ours = dial(target, deadline)?;
    let failed = |error: io::Error| format!("{target} answered, but not through {here}: {error}");
    ours.write_all(probe::request(token).as_bytes()).map_err(failed)?;
    let us = ours.local_addr().map_err(failed)?;
    loop {
        let (stream, peer) = accept(listener, deadline).map_err(failed)?;
        // An app may be connecting meanwhile; only our own connection proves anything.
        if peer == us && line(&stream, deadline).is_ok_and(|line| line == probe::request(token)) {
            return match original_dst(&stream, here) {
                Ok(original) if original == target => Ok(format!(
                    "{target} arrived at {here} with its original destination (the proxy is not running)"
                )),
                Ok(original) => Err(format!("{target} arrived at {here}, but as {original}")),
                Err(error) => {
                    Err(format!("{target} arrived at {here} without its original destination: {error}"))
                }
            };
        }
    }
}

fn proxy_answers(here: SocketAddr, target: SocketAddr, token: &str) -> Result<String, String> {
    let deadline = Instant::now() + DEADLINE;
    let mut stream = dial(target, deadline)?;
    let answer = stream
        .write_all(probe::request(token).as_bytes())
        .and_then(|()| line(&stream, deadline))
        .map_err(|error| format!("{target} was reached, but whoever has {here} did not answer: {error}"))?;
    if answer == probe::expected(token, target) {
        Ok(format!("{target} arrived at the proxy on {here} with its original destination"))
    } else {
        Err(format!("{target} was answered by {answer:?}, which is not the proxy's answer"))
    }
}

fn dial(target: SocketAddr, deadline: Instant) -> Result<TcpStream, String> {
    TcpStream::connect_timeout(&target, left(deadline)).map_err(|error| {
        format!("{target} is not redirected ({error}); are the rules installed, and with the same options?")
    })
}

fn accept(listener: &TcpListener, deadline: Instant) -> io::Result<(TcpStream, SocketAddr)> {
    listener.set_nonblocking(true)?;
    loop {
        match listener.accept() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            taken => return taken,
        }
        let timeout = PollTimeout::try_from(left(deadline)).unwrap_or(PollTimeout::MAX);
        if poll(&mut [PollFd::new(listener.as_fd(), PollFlags::POLLIN)], timeout)? == 0 {
            return Err(io::Error::new(ErrorKind::TimedOut, "nothing arrived there in three seconds"));
        }
    }
}

/// The first line, with its line feed.
fn line(mut stream: &TcpStream, deadline: Instant) -> io::Result<String> {
    stream.set_nonblocking(false)?;
    let mut line = Vec::new();
    let mut buffer = [0; probe::REQUEST_MAX_BYTES];
    while !line.ends_with(b"\n") {
        if line.len() > probe::REQUEST_MAX_BYTES {
            return Err(io::Error::new(ErrorKind::InvalidData, "the answer is too long"));
        }
        // Once more for each piece, so that a peer that drips bytes cannot stretch the deadline.
        stream.set_read_timeout(Some(left(deadline)))?;
        match stream.read(&mut buffer)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            read => line.extend(&buffer[..read]),
        }
    }
    String::from_utf8(line).map_err(|_| io::Error::new(ErrorKind::InvalidData, "the answer is not text"))
}

/// Never zero, which a socket would take for "wait for ever".
fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

fn original_dst(stream: &TcpStream, here: SocketAddr) -> nix::Result<SocketAddr> {
    match here {
        SocketAddr::V4(_) => getsockopt(stream, sockopt::OriginalDst).map(|raw| {
            let address = Ipv4Addr::from(u32::from_be(raw.sin_addr.s_addr));
            SocketAddrV4::new(address, u16::from_be(raw.sin_port)).into()
        }),
        SocketAddr::V6(_) => getsockopt(stream, sockopt::Ip6tOriginalDst).map(|raw| {
            let address = Ipv6Addr::from(raw.sin6_addr.s6_addr);
            SocketAddrV6::new(address, u16::from_be(raw.sin6_port), 0, 0).into()
        }),
    }
}

fn refuse_if_excluded(options: &Options) -> Result<(), Error> {
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let reason = if options.own == Own::Group(gid) {
        format!(
            "verify runs under the proxy's own group {gid}, which is never captured; run it under another"
        )
    } else if options.exclude_gid.contains(&gid) {
        format!("verify runs under group {gid}, which --exclude-gid leaves alone; run it under another")
    } else if options.exclude_uid.contains(&uid) {
        format!("verify runs as user {uid}, whom --exclude-uid leaves alone; run it as another")
    } else {
        return Ok(());
    };
    Err(Error::Verify(reason))
}

const RANDOM: &str = "/dev/urandom";

/// 128 random bits in hexadecimal, so that no stale or foreign answer is taken for ours.
fn token() -> io::Result<String> {
    let mut bits = [0; 16];
    std::fs::File::open(RANDOM)?.read_exact(&mut bits)?;
    Ok(bits.iter().map(|byte| format!("{byte:02x}")).collect())
}
