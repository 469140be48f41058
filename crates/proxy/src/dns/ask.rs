//! One query over UDP: tried on one resolver after the other, with all tries open until one is answered.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use dragoman_wire::dns::{Answer, MESSAGE_MAX, Query, Rcode, set_id};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::sleep_until;

use super::{COMEBACKS_MAX, Forwarder, Own};

/// What came of asking.
pub(super) enum Reply {
    /// A resolver's answer; that there is no such name is one.
    Answer(Vec<u8>, Answer),
    /// No resolver gave one: what the last of them said about that.
    Failure(Vec<u8>, Answer),
    /// No resolver said anything, and what is known of why.
    None(String),
    /// What we send comes back to us.
    Loop,
}

/// A resolver that was asked and has not answered.
struct Try<'a> {
    resolver: SocketAddr,
    /// When, the first time.
    asked: Instant,
    socket: Arc<UdpSocket>,
    id: u16,
    answer: Hearing<'a>,
    own: Own<'a>,
}

/// Waits for the answer of one try.
type Hearing<'a> = Pin<Box<dyn Future<Output = io::Result<(Vec<u8>, Answer)>> + Send + 'a>>;

impl Forwarder {
    pub(super) async fn ask_by_udp(&self, query: &Query, message: &[u8]) -> Reply {
        let begun = Instant::now();
        let plan = self.resolvers.plan(begun);
        let (deadline, step) = (begun + plan.timeout, plan.step());
        let mut tries = plan.tries();
        let mut open: Vec<Try<'_>> = Vec::new();
        let mut failures = Failures::default();
        let (mut next, mut comebacks) = (begun, 0);
        loop {
            while open.is_empty() || Instant::now() >= next {
                let Some(resolver) = tries.find(|resolver| !failures.refused.contains(resolver)) else {
                    next = deadline;
                    break;
                };
                if next > begun || !failures.is_empty() {
                    self.shared.telemetry.dns().retried();
                }
                match self.try_on(resolver, query, message, &mut open) {
                    Ok(()) => next = Instant::now() + step,
                    Err(error) => failures.note(resolver, &error),
                }
            }
            if open.is_empty() {
                return failures.into_reply();
            }
            let waited_for = open.last().map(|last| (last.resolver, last.asked));
            tokio::select! {
                (Try { resolver, asked, own, .. }, heard) = first_heard(&mut open) => match heard {
                    Ok((_, answer)) if is_failure(answer.rcode) && own.came_back() => {
                        comebacks += 1;
                        if comebacks > COMEBACKS_MAX {
                            return Reply::Loop;
                        }
                        if let Err(error) = self.try_on(resolver, query, message, &mut open) {
                            failures.note(resolver, &error);
                        }
                    }
                    Ok((bytes, answer)) => {
                        self.resolvers.was_heard(resolver, Instant::now());
                        if !is_failure(answer.rcode) {
                            return Reply::Answer(bytes, answer);
                        }
                        failures.refuse(resolver, bytes, answer);
                        next = Instant::now();
                    }
                    Err(error) => {
                        self.resolvers.was_silent(resolver, asked, Instant::now());
                        failures.note(resolver, &error);
                        next = Instant::now();
                    }
                },
                () = sleep_until(next.min(deadline).into()) => {
                    let now = Instant::now();
                    waited_for.inspect(|(resolver, asked)| self.resolvers.was_silent(*resolver, *asked, now));
                    if now >= deadline {
                        let silent = open.iter().map(|silent| silent.resolver);
                        return failures.after(plan.timeout, silent).into_reply();
                    }
                }
            }
        }
    }

    /// Asks a resolver, or asks it again if it has been silent.
    fn try_on<'a>(
        &'a self,
        resolver: SocketAddr,
        query: &'a Query,
        message: &[u8],
        open: &mut Vec<Try<'a>>,
    ) -> io::Result<()> {
        let again = open.iter().position(|silent| silent.resolver == resolver);
        let one = match again {
            Some(place) => open.remove(place),
            None => self.new_try(resolver, query)?,
        };
        let mut message = message.to_vec();
        set_id(&mut message, one.id);
        // Not by way of the runtime, which has not heard yet that a new socket can be written to. Where the kernel has no
        // room, this try is lost as any datagram may be.
        match SockRef::from(&one.socket).send(&message) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => open.push(one),
        }
        Ok(())
    }

    fn new_try<'a>(&'a self, resolver: SocketAddr, query: &'a Query) -> io::Result<Try<'a>> {
        let socket = self.ports.connect(resolver, self.shared.mark(), || self.ids.draw())?;
        let (port, id) = (socket.local_addr()?.port(), self.ids.next());
        let socket = Arc::new(UdpSocket::from_std(socket)?);
        let answer = Box::pin(self.hear(Arc::clone(&socket), id, query));
        Ok(Try { resolver, asked: Instant::now(), socket, id, answer, own: self.note_own(port, id) })
    }

    /// The answer that comes in by this socket. What answers nothing is counted and skipped.
    async fn hear(&self, socket: Arc<UdpSocket>, id: u16, query: &Query) -> io::Result<(Vec<u8>, Answer)> {
        loop {
            // What ICMP says makes a socket neither readable nor writable.
            let interest = Interest::READABLE | Interest::ERROR;
            let receive = || {
                with_scratch(|scratch| {
                    let length = (&*SockRef::from(&socket)).read(scratch)?;
                    let bytes = &scratch[..length];
                    Ok(query.answer(id, bytes).map(|answer| (bytes.to_vec(), answer)))
                })
            };
            match socket.async_io(interest, receive).await? {
                Some(answer) => return Ok(answer),
                None => self.shared.telemetry.dns().stray(),
            }
        }
    }
}

/// Takes the first try that has something to say.
async fn first_heard<'a>(open: &mut Vec<Try<'a>>) -> (Try<'a>, io::Result<(Vec<u8>, Answer)>) {
    poll_fn(|context| {
        for place in 0..open.len() {
            if let Poll::Ready(heard) = open[place].answer.as_mut().poll(context) {
                return Poll::Ready((open.remove(place), heard));
            }
        }
        Poll::Pending
    })
    .await
}

/// Room for any message, one for each thread rather than one for each query that waits.
fn with_scratch<T>(read: impl FnOnce(&mut [u8]) -> T) -> T {
    thread_local! {
        static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; MESSAGE_MAX]);
    }
    SCRATCH.with(|scratch| read(&mut scratch.borrow_mut()))
}

/// Whether another resolver may do better: it failed or declined, and said nothing about the name.
pub(super) fn is_failure(rcode: Rcode) -> bool {
    matches!(rcode, Rcode::SERVER_FAILURE | Rcode::NOT_IMPLEMENTED | Rcode::REFUSED)
}

/// What the resolvers that gave no answer said instead.
#[derive(Default)]
pub(super) struct Failures {
    /// Those that declined, which are not asked again.
    refused: Vec<SocketAddr>,
    last: Option<(Vec<u8>, Answer)>,
    /// Each with what the system said, for a person.
    errors: Vec<String>,
}

impl Failures {
    pub(super) fn refuse(&mut self, resolver: SocketAddr, bytes: Vec<u8>, answer: Answer) {
        self.refused.push(resolver);
        self.last = Some((bytes, answer));
    }

    pub(super) fn note(&mut self, resolver: SocketAddr, error: &io::Error) {
        let text = format!("{resolver}: {error}");
        if !self.errors.contains(&text) {
            self.errors.push(text);
        }
    }

    /// The time has passed without a word of these.
    fn after(mut self, timeout: Duration, silent: impl Iterator<Item = SocketAddr>) -> Self {
        self.errors.extend(silent.map(|resolver| format!("{resolver}: no answer within {timeout:?}")));
        self
    }

    fn is_empty(&self) -> bool {
        self.refused.is_empty() && self.errors.is_empty()
    }

    pub(super) fn into_reply(self) -> Reply {
        match self.last {
            Some((bytes, answer)) => Reply::Failure(bytes, answer),
            None => Reply::None(format!("dragoman got no answer from {}", self.errors.join("; "))),
        }
    }
}
