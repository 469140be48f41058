//! The process inside: it makes the namespaces and what is in them, runs the command, and waits for it.
//!
//! It has one thread, as a process must to enter a user namespace, and sleeps until the command ends, a socket is asked
//! for (see [`Keeper`]), or a signal comes. It hears what its process group hears: so it can tell a signal that went to
//! `dragoman run` alone, and is to be passed on to the command, from one that the command has got too.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitCode, Stdio};

use dragoman_capture::{REDIRECT_PORT, private};
use dragoman_net::{Keeper, for_child, receive_descriptor, send_descriptor};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{Pid, getppid};

use super::{PASSED_ON, mark};
use crate::app::{StartError, cannot};
use crate::child::{FAILED, Signals, code, not_run};
use crate::cli::KeeperArguments;

/// The mark (`SO_MARK`) of the sockets that are made for the proxy: "drag". The command lacks the right to set it.
const MARK: u32 = 0x6472_6167;

/// Runs `dragoman keeper`, which `dragoman run` starts.
pub(crate) fn run(arguments: &KeeperArguments) -> ExitCode {
    keep(arguments).unwrap_or_else(|StartError(text)| {
        eprintln!("dragoman: {text}");
        ExitCode::from(FAILED)
    })
}

fn keep(arguments: &KeeperArguments) -> Result<ExitCode, StartError> {
    // Not "dragoman": who means `dragoman run` by that should not stop us.
    let _ = prctl::set_name(c"run: keeper");
    let (link, stdin) = take_streams().map_err(|error| cannot("take the command's streams over", &error))?;
    enter(arguments.parent)?;
    private::furnish(&arguments.reach).map_err(said)?;
    let listeners = listen().map_err(|error| cannot("listen inside", &error))?;
    dragoman_capture::install_anew(&private::options(MARK, &arguments.reach)).map_err(said)?;
    private::hide_resolvers(&arguments.reach).map_err(said)?;
    hand_over(&link, listeners).map_err(|error| cannot("hand the listeners over", &error))?;

    let passed_on = PASSED_ON.iter().filter_map(|kind| Signal::try_from(kind.as_raw_value()).ok());
    let signals = Signals::new(passed_on).map_err(|error| cannot("wait for signals", &error))?;
    if let Some(told) = wait_for_go(&link, &signals).map_err(|error| cannot("wait for the proxy", &error))? {
        return Ok(ExitCode::from(128 + told));
    }
    let mut command = Command::new(&arguments.command[0]);
    command.args(&arguments.command[1..]).stdin(stdin);
    for_child(&mut command, signals.mask_before);
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Ok(ExitCode::from(not_run(&arguments.command[0], &error))),
    };
    // It has the streams now, with all that they keep open.
    drop(command);
    let _ = super::let_go_of_streams();
    watch(child, &Keeper::new(link, MARK), &signals).map_err(|error| cannot("wait for the command", &error))
}

fn said(error: impl std::fmt::Display) -> StartError {
    StartError(error.to_string())
}

/// Our standard input is the link to `dragoman run`, and the first thing that comes over it is the command's.
fn take_streams() -> io::Result<(UnixStream, Stdio)> {
    let link = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    match receive_descriptor(&link)? {
        (mark::STDIN, Some(stdin)) => Ok((link, stdin.into())),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Enters the namespaces, to be killed when the parent ends.
fn enter(parent: i32) -> Result<(), StartError> {
    private::enter().map_err(said)?;
    // Afterwards: the kernel forgets it where rights change.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|errno| cannot("follow the proxy", &errno.into()))?;
    if getppid() == Pid::from_raw(parent) {
        Ok(())
    } else {
        Err(StartError("the proxy has ended".to_owned()))
    }
}

/// What is listened on inside: for captured connections and for DNS, on either loopback that there is.
fn listen() -> io::Result<Vec<(u8, OwnedFd)>> {
    let mut listeners = listen_on(Ipv4Addr::LOCALHOST.into())?;
    match listen_on(Ipv6Addr::LOCALHOST.into()) {
        Ok(more) => listeners.extend(more),
        Err(error) if lacks_ipv6(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(listeners)
}

fn listen_on(loopback: IpAddr) -> io::Result<Vec<(u8, OwnedFd)>> {
    let at = |port| SocketAddr::new(loopback, port);
    Ok(vec![
        (mark::CAPTURED, dragoman_net::listen(at(REDIRECT_PORT))?.into()),
        (mark::DNS_UDP, dragoman_net::listen_udp(at(private::DNS_PORT))?.into()),
        (mark::DNS_TCP, dragoman_net::listen(at(private::DNS_PORT))?.into()),
    ])
}

fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::EADDRNOTAVAIL | Errno::EAFNOSUPPORT))
}

fn hand_over(link: &UnixStream, listeners: Vec<(u8, OwnedFd)>) -> io::Result<()> {
    for (mark, listener) in listeners {
        send_descriptor(link, mark, Some(&listener))?;
    }
    send_descriptor(link, mark::READY, None)
}

/// Waits until the command may begin. A signal that came before it is the end, and is returned.
fn wait_for_go(link: &UnixStream, signals: &Signals) -> io::Result<Option<u8>> {
    let told = receive_descriptor(link)?.0;
    if told != mark::GO {
        return Ok(Some(told));
    }
    let mut heard = SigSet::empty();
    hear(signals, &mut heard)?;
    Ok(heard.iter().next().map(|signal| signal as u8))
}

/// Adds what came to what was heard; tells whether a child has news.
fn hear(signals: &Signals, heard: &mut SigSet) -> Result<bool, Errno> {
    let mut child = false;
    while let Some((signal, _)) = signals.next()? {
        match signal {
            Signal::SIGCHLD => child = true,
            signal => heard.add(signal),
        }
    }
    Ok(child)
}

/// Serves the proxy until the command has ended.
fn watch(mut child: Child, keeper: &Keeper, signals: &Signals) -> io::Result<ExitCode> {
    let pid = Pid::from_raw(child.id() as i32);
    // What the process group got, and the proxy has not told of yet.
    let mut heard = SigSet::empty();
    loop {
        let mut waiting =
            [PollFd::new(signals.as_fd(), PollFlags::POLLIN), PollFd::new(keeper.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waiting, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            polled => polled?,
        };
        let asked = waiting[1].any().unwrap_or(true);
        if hear(signals, &mut heard)?
            && let Some(status) = child.try_wait()?
        {
            return Ok(ExitCode::from(code(status)));
        }
        if !asked {
            continue;
        }
        let Some(number) = keeper.serve()? else { continue };
        let Ok(signal) = Signal::try_from(i32::from(number)) else { continue };
        if heard.contains(signal) {
            heard.remove(signal);
        } else {
            // It is there until it is waited for, which happens here alone.
            let _ = kill(pid, signal);
        }
    }
}
