//! The accept loop: one task per flow, a bound on their number, and a sane answer when descriptors run out.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use dragoman_net::{Pipe, Reserve};
use dragoman_telemetry::{AcceptError, Cause, Direction};
use nix::errno::Errno;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep, timeout};

use crate::Purpose;
use crate::app_watch::AppWatch;
use crate::drain::Stage;
use crate::flow;
use crate::shared::Shared;
use crate::upstream::{multiplex, pool};

/// How long the loop rests after an error that would come again at once.
const BACK_OFF: Duration = Duration::from_millis(10);

/// How often idle upstream connections, spare pipes and the reserve are looked at.
const REAP: Duration = Duration::from_secs(5);

/// How often a drain looks whether anything is at work.
const TICK: Duration = Duration::from_millis(50);

/// The same when the app is known to be gone: it cannot come back, and somebody may wait for the end.
const LAST_TICK: Duration = Duration::from_millis(2);

/// Idle flows of an app that is gone have so long to notice what it said last.
const LAST_QUIET: Duration = Duration::from_millis(10);

/// How long what is idle at the end has to be closed in order, and what is at work to be finished. As long again for what is
/// idle and whose app says nothing to that.
const ORDERLY_END: Duration = Duration::from_millis(250);

/// A listener, and what comes to it.
type Port = (TcpListener, Purpose);

/// The listeners, and the flows that came from them.
pub(crate) struct Acceptor {
    shared: Arc<Shared>,
    listeners: Vec<Port>,
    flows: JoinSet<()>,
    /// Connections accepted so far.
    accepted: u64,
    reserve: Option<Reserve>,
    reap: Interval,
    app: AppWatch,
}

impl Acceptor {
    pub(crate) fn new(shared: Arc<Shared>, listeners: Vec<Port>, app: AppWatch) -> Self {
        shared.drain.advance(Stage::Serving);
        let mut reap = interval(REAP);
        reap.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            shared,
            listeners,
            flows: JoinSet::new(),
            accepted: 0,
            reserve: Reserve::take().ok(),
            reap,
            app,
        }
    }

    /// Serves flows until a drain begins, then until it has ended or `proxy.drain` has passed since it was announced.
    /// Returns how many flows were cut off by that.
    pub(crate) async fn serve(mut self) -> usize {
        let shared = Arc::clone(&self.shared);
        self.accept_until(shared.drain.reached(Stage::Draining)).await;
        let deadline = shared.drain.announce(Instant::now()) + shared.config.now().proxy.drain;
        self.drain_until(deadline).await;
        self.listeners.clear();
        shared.drain.advance(Stage::Over);
        if timeout(ORDERLY_END, self.all_ended()).await.is_err() && shared.drain.idle() > 0 {
            shared.drain.advance(Stage::Last);
            let _ = timeout(ORDERLY_END, self.all_ended()).await;
        }
        let cut = self.flows.len();
        if cut > 0 {
            shared.telemetry.cut();
        }
        self.flows.shutdown().await;
        cut
    }

    /// Serves flows until none was at work, and none came, for `proxy.drain_quiet`. Between two ticks a whole exchange
    /// may pass, so that what was begun is compared too.
    async fn drain_until(&mut self, deadline: Instant) {
        let shared = Arc::clone(&self.shared);
        let mut quiet = Duration::ZERO;
        while Instant::now() < deadline {
            if shared.drain.has_reached(Stage::HandedOver) {
                self.listeners.clear();
            }
            let begun = (self.accepted, shared.drain.woken());
            let is_gone = shared.drain.is_at(Stage::Finishing);
            if is_gone && self.has_ended() {
                return;
            }
            let tick = if is_gone { LAST_TICK } else { TICK };
            self.accept_until(sleep(tick)).await;
            let asking = !is_gone && shared.telemetry.dns().pending() > 0;
            let at_work = self.flows.len() > shared.drain.idle() || asking || self.app_listens();
            let quiet_before = std::mem::take(&mut quiet);
            if !at_work && begun == (self.accepted, shared.drain.woken()) {
                quiet = quiet_before + tick;
                if is_gone && quiet >= LAST_QUIET || quiet >= shared.config.now().proxy.drain_quiet {
                    return;
                }
            }
        }
    }

    /// Whether the app is seen to be there, where that matters: it has not said that it is gone, and this process is the one
    /// that it would find.
    fn app_listens(&mut self) -> bool {
        let Self { shared, app, .. } = self;
        let matters = shared.config.now().proxy.drain_while_listening && shared.drain.is_at(Stage::Draining);
        matters && app.sees_listener()
    }

    /// Whether every flow has ended, and what has come is accepted, though nobody has told of it yet.
    fn has_ended(&mut self) -> bool {
        let Self { shared, listeners, flows, accepted, .. } = self;
        for (listener, purpose) in listeners {
            while let Ok((stream, peer)) = accept_now(listener) {
                *accepted += 1;
                begin(flows, shared, stream, peer, *purpose);
            }
        }
        while let Some(ended) = flows.try_join_next() {
            report_panic(ended);
        }
        flows.is_empty()
    }

    /// Serves flows until `end`, which loses nothing by being dropped and asked anew.
    async fn accept_until(&mut self, end: impl Future<Output = ()>) {
        let Self { shared, listeners, flows, accepted, reserve, reap, app: _ } = self;
        tokio::pin!(end);
        loop {
            tokio::select! {
                biased;
                () = &mut end => return,
                Some(ended) = flows.join_next(), if !flows.is_empty() => report_panic(ended),
                ((listener, purpose), result) = accept(listeners, *accepted) => match result {
                    Ok((stream, peer)) => {
                        *accepted += 1;
                        if reserve.as_mut().is_none_or(Reserve::take_back) {
                            begin(flows, shared, stream, peer, *purpose);
                        } else {
                            give_up(shared, stream, peer);
                            reserve.as_mut().map(Reserve::take_back);
                        }
                    }
                    Err(error) => refused(shared, listener, &error, reserve.as_mut()).await,
                },
                _ = reap.tick() => {
                    pool::warm::look_after(shared, Instant::now());
                    multiplex::warm::look_after(shared, Instant::now());
                    Pipe::close_spare();
                    reserve.as_mut().map(Reserve::take_back);
                }
            }
        }
    }

    async fn all_ended(&mut self) {
        while let Some(ended) = self.flows.join_next().await {
            report_panic(ended);
        }
    }
}

/// The next connection of any listener. Each has its turn to be asked first, so that a flood at one of them keeps no
/// other from being served.
async fn accept(listeners: &[Port], turn: u64) -> (&Port, io::Result<(TcpStream, SocketAddr)>) {
    let first = turn.checked_rem(listeners.len() as u64).unwrap_or_default() as usize;
    let (later, sooner) = listeners.split_at(first);
    poll_fn(|context| {
        for port in sooner.iter().chain(later) {
            if let Poll::Ready(accepted) = port.0.poll_accept(context) {
                return Poll::Ready((port, accepted));
            }
        }
        Poll::Pending
    })
    .await
}

/// Starts the task of a flow. A panic in it ends it and nothing else: the record says `internal`.
fn begin(
    flows: &mut JoinSet<()>,
    shared: &Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    purpose: Purpose,
) {
    let mut record = shared.telemetry.flow(peer);
    match purpose {
        Purpose::Captured => {}
        Purpose::Plain(address) => record.original_dst = Some(address),
        Purpose::Inbound => record.direction = Direction::Inbound,
    }
    let config = shared.config.now();
    record.destination = config.destinations()[0].index;
    if flows.len() >= config.proxy.max_flows {
        dragoman_net::reset_on_close(&stream);
        return record.fail(Cause::FlowLimit, None);
    }
    let shared = Arc::clone(shared);
    flows.spawn(flow::serve(shared, stream, record));
}

/// `accept` failed. Where descriptors ran out the connection is still in the backlog, and its app would hang: the
/// reserve is given up to accept and reset it.
async fn refused(shared: &Shared, listener: &TcpListener, error: &io::Error, reserve: Option<&mut Reserve>) {
    let kind = match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ECONNABORTED | Errno::EPROTO) => AcceptError::Aborted,
        Some(Errno::EMFILE | Errno::ENFILE) => AcceptError::Descriptors,
        Some(Errno::ENOMEM | Errno::ENOBUFS) => AcceptError::Memory,
        _ => AcceptError::Other,
    };
    shared.telemetry.process().accept_error(kind);
    match kind {
        AcceptError::Aborted => return,
        AcceptError::Descriptors => {
            if let Some(peer) = reserve.and_then(|reserve| reserve.lend(|| accept_and_reset(listener))) {
                shared.telemetry.flow(peer).fail(Cause::DescriptorsExhausted, error.to_string());
            }
        }
        AcceptError::Memory | AcceptError::Other => tracing::warn!(%error, "accept"),
    }
    sleep(BACK_OFF).await;
}

/// Resets a connection for the descriptor that it has. The reserve was lost, to a thread that opened something while it was
/// lent, and there is no other: the reserve comes first, since without it all that come after this one hang.
fn give_up(shared: &Shared, stream: TcpStream, peer: SocketAddr) {
    dragoman_net::reset_on_close(&stream);
    drop(stream);
    shared.telemetry.flow(peer).fail(Cause::DescriptorsExhausted, Errno::EMFILE.desc().to_owned());
}

/// The next connection of those that wait in the kernel.
fn accept_now(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (socket, peer) = SockRef::from(listener).accept()?;
    socket.set_nonblocking(true)?;
    let peer = peer.as_socket().ok_or(io::ErrorKind::InvalidData)?;
    Ok((TcpStream::from_std(socket.into())?, peer))
}

/// Accepts one connection and resets it, so that its descriptor is free again.
fn accept_and_reset(listener: &TcpListener) -> Option<SocketAddr> {
    let (socket, peer) = SockRef::from(listener).accept().ok()?;
    socket.set_linger(Some(Duration::ZERO)).ok()?;
    peer.as_socket()
}

/// A panic has ended its flow, and the record has said so; here it is said to the operator.
pub(crate) fn report_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a defect in dragoman ended a flow; please report it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pair;
    use dragoman_config::Config;
    use dragoman_telemetry::{AccessFormat, AccessLog, AccessMode, Telemetry};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use crate::leg::Leg;

    #[tokio::test]
    async fn a_flood_at_one_listener_keeps_no_other_from_being_served() {
        let mut listeners = Vec::new();
        let mut clients = Vec::new();
        for connections in [20, 1, 1] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            for _ in 0..connections {
                clients.push(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
            }
            listeners.push((listener, Purpose::Captured));
        }
        let mut last = 0;
        for turn in 0..clients.len() as u64 {
            let (port, accepted) = accept(&listeners, turn).await;
            accepted.unwrap();
            if !std::ptr::eq(port, &raw const listeners[0]) {
                last = turn;
            }
        }
        assert!(last < 6, "the others waited for {last} of the flood");
    }

    /// A flow that echoes, until it reads what makes it panic.
    async fn fragile(stream: TcpStream) {
        let mut leg = Leg::new(stream);
        while leg.fill().await.unwrap() > 0 {
            assert_ne!(leg.buf.bytes(), b"panic", "injected");
            let bytes = leg.buf.bytes().to_vec();
            leg.write_all(&bytes).await.unwrap();
            leg.buf.consume(bytes.len());
        }
        leg.close();
    }

    #[tokio::test]
    async fn cause_internal() {
        let access =
            AccessLog::new(AccessMode::All(1.0), AccessFormat::Json, Box::new(std::io::sink())).unwrap();
        let telemetry = Telemetry::new(vec!["default".into()], access);
        let shared = Shared::new(Arc::new(Config::empty()), telemetry.clone(), vec![]);
        let mut flows = JoinSet::new();
        let mut clients = Vec::new();
        for _ in 0..2 {
            let (client, stream) = pair().await;
            let peer = stream.peer_addr().unwrap();
            let record = shared.telemetry.flow(peer);
            flows.spawn(async move {
                let _record = record;
                fragile(stream).await;
            });
            clients.push(client);
        }
        clients[0].write_all(b"panic").await.unwrap();
        let error = clients[0].read_u8().await.unwrap_err();
        assert!(dragoman_net::is_reset(&error), "an orderly end would look like a whole answer: {error}");
        let panicked = flows.join_next().await.unwrap();
        assert!(panicked.as_ref().is_err_and(JoinError::is_panic));
        report_panic(panicked);

        clients[1].write_all(b"alive").await.unwrap();
        let mut echo = [0; 5];
        clients[1].read_exact(&mut echo).await.unwrap();
        assert_eq!(&echo, b"alive");
        clients.clear();
        flows.join_next().await.unwrap().unwrap();
        let metrics = telemetry.render();
        let count = |cause: &str| {
            let start = format!(
                "dragoman_flows_total{{destination=\"default\",protocol=\"unknown\",cause=\"{cause}\"}} "
            );
            metrics.lines().find_map(|line| line.strip_prefix(&start)).map(str::to_owned)
        };
        assert_eq!(count("internal").as_deref(), Some("1"), "{metrics}");
        assert!(metrics.contains("dragoman_flows_open 0\n"), "{metrics}");
    }
}
