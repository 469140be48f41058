//! What goes on while a case changes something: flows that are opened once and asked again and again, or any other work.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::http2::{Wire, request};
use crate::peer::Peer;
use crate::wait;

/// Between two turns of one worker: ten of them take two hundred in a second.
const PACE: Duration = Duration::from_millis(50);

/// How long one request may take, and whatever else goes on while all workers are at work: a guard against what hangs, not a
/// promise, since a thousand flows on a machine that others use get little of it each.
const PATIENCE: Duration = Duration::from_secs(120);

/// A connection of the app that is never made anew.
pub enum Flow {
    /// HTTP/1, and the host that is asked for.
    Http1(Peer, &'static str),
    /// HTTP/2, and the next stream.
    Http2(Wire, u32),
    /// Bytes, to a server that says what it hears.
    Opaque(Peer),
}

impl Flow {
    /// One of HTTP/1.
    ///
    /// # Errors
    /// The connection is over already.
    pub fn http1(peer: Peer, host: &'static str) -> io::Result<Flow> {
        Ok(Flow::Http1(patient(peer)?, host))
    }

    /// One of HTTP/2.
    ///
    /// # Errors
    /// The connection is over already.
    pub fn http2(peer: Peer) -> io::Result<Flow> {
        Ok(Flow::Http2(Wire::client(patient(peer)?, &[])?, 1))
    }

    /// One of bytes.
    ///
    /// # Errors
    /// The connection is over already.
    pub fn opaque(peer: Peer) -> io::Result<Flow> {
        Ok(Flow::Opaque(patient(peer)?))
    }

    /// One request and its answer, which must be a 200 or the same bytes. Returns the answer's body; of bytes, nothing.
    ///
    /// # Errors
    /// It was not answered, or otherwise.
    pub fn ask(&mut self) -> io::Result<String> {
        let well = |is_well: bool, body: String, how: String| match is_well {
            true => Ok(body),
            false => Err(io::Error::other(how)),
        };
        match self {
            Flow::Http1(peer, host) => {
                let answer = peer.exchange(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))?;
                well(answer.status() == 200, answer.text(), answer.head)
            }
            Flow::Http2(wire, stream) => {
                wire.fields(*stream, &request("GET", "/"), true)?;
                let answer = wire.response(*stream)?;
                *stream += 2;
                let text = String::from_utf8_lossy(&answer.body).into_owned();
                well(answer.status() == 200, text, answer.status().to_string())
            }
            Flow::Opaque(peer) => {
                peer.send([1, 2, 3, 4])?;
                let echoed = peer.read_exact(4)?;
                well(echoed == [1, 2, 3, 4], String::new(), format!("{echoed:?}"))
            }
        }
    }
}

fn patient(peer: Peer) -> io::Result<Peer> {
    peer.stream().set_read_timeout(Some(PATIENCE))?;
    Ok(peer)
}

/// So many flows, each asked as soon as it is open: a worker waits for one answer at a time, and not for the dials of all flows
/// before that. Panics where one is not served.
pub fn opened(count: usize, open: impl Fn(usize) -> io::Result<Flow>) -> Vec<Flow> {
    let asked = |n| {
        let mut flow = open(n)?;
        flow.ask().map(|_| flow)
    };
    (0..count).map(|n| asked(n).unwrap_or_else(|error| panic!("flow {n}: {error}"))).collect()
}

/// Work that goes on in threads of its own.
#[derive(Debug, Default)]
pub struct Load {
    ready: AtomicUsize,
    turns: AtomicUsize,
    over: AtomicBool,
    ended: AtomicBool,
}

impl Load {
    /// How many turns of all workers there were.
    pub fn turns(&self) -> usize {
        self.turns.load(Ordering::SeqCst)
    }

    /// Waits until there were so many. Panics where a worker has failed.
    pub fn reaches(&self, turns: usize) {
        self.wait("the load goes on", PATIENCE, || self.turns() >= turns);
    }

    fn wait(&self, what: &str, deadline: Duration, condition: impl Fn() -> bool) {
        let failed = || self.ended.load(Ordering::SeqCst);
        wait::until(what, deadline, || failed() || condition());
        assert!(!failed(), "a worker has failed: it says above why");
    }
}

/// Sets a flag at the end of its scope, be it by a panic.
struct AtEnd<'a>(&'a AtomicBool);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Lets so many workers `begin` something, waits until all have, and lets them take one `turn` after the other with it for as
/// long as `act` takes. Returns what they had in the end, and what `act` has come to. A panic of either ends both.
pub fn under<W: Send, R>(
    workers: usize,
    begin: impl Fn() -> W + Sync,
    turn: impl Fn(&mut W, usize) + Sync,
    act: impl FnOnce(&Load) -> R,
) -> (Vec<W>, R) {
    let load = Load::default();
    let work = || {
        let _ended = AtEnd(&load.ended);
        let mut own = begin();
        load.ready.fetch_add(1, Ordering::SeqCst);
        for n in 0.. {
            if load.over.load(Ordering::SeqCst) {
                break;
            }
            turn(&mut own, n);
            load.turns.fetch_add(1, Ordering::SeqCst);
            wait::pause(PACE);
        }
        own
    };
    std::thread::scope(|scope| {
        let over = AtEnd(&load.over);
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        load.wait("all workers have begun", 5 * PATIENCE, || load.ready.load(Ordering::SeqCst) == workers);
        let acted = act(&load);
        drop(over);
        let joined = threads.into_iter().map(|thread| thread.join().expect("it says above why"));
        (joined.collect(), acted)
    })
}

/// Does something with what each worker has, all at once.
pub fn each<W: Send>(workers: &mut [W], act: impl Fn(&mut W) + Sync) {
    let act = &act;
    std::thread::scope(|scope| {
        for own in workers {
            scope.spawn(move || act(own));
        }
    });
}

/// Lets this process hold as many descriptors as it may: it has both ends of each flow, and those of the servers.
pub fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("every process has a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("anybody may go up to the hard limit");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_fails_ends_the_case() {
        let failed = std::panic::catch_unwind(|| {
            under(2, || (), |(), n| assert!(n < 2, "meant"), |load| load.reaches(1000))
        });
        assert!(failed.is_err());
    }

    #[test]
    fn a_case_that_fails_ends_its_workers() {
        let failed = std::panic::catch_unwind(|| under(2, || (), |(), _| {}, |_| panic!("meant")));
        assert!(failed.is_err());
    }
}
