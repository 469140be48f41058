//! Where the app's queries come in: datagrams, and connections with any number of queries each (RFC 7766).

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use dragoman_telemetry::DnsTransport;
use dragoman_wire::dns::MESSAGE_MAX;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Forwarder, tcp};
use crate::accept::report_panic;
use crate::drain::Stage;

/// The most queries of one socket that wait at once. Beyond it the oldest is given up: its asker has waited longest, and is
/// about to ask again.
const PENDING_MAX: usize = 1024;
/// The most connections at once.
const CONNECTIONS_MAX: usize = 256;
/// The most queries of one connection that wait at once; beyond it, it is read no further.
const PIPELINE_MAX: usize = 64;
/// How long a connection may be silent with nothing under way, or leave an answer unread.
const IDLE: Duration = Duration::from_secs(30);
/// How long the loop rests after an error that would come again at once.
const BACK_OFF: Duration = Duration::from_millis(10);

/// Answers the datagrams of a socket. One that was handed over is read no further, and what it has asked is answered.
pub(super) async fn datagrams(forwarder: Arc<Forwarder>, socket: UdpSocket) {
    let socket = Arc::new(socket);
    let mut pending = Pending::default();
    let mut buffer = vec![0; MESSAGE_MAX];
    let shared = Arc::clone(&forwarder.shared);
    let (end, mut handed_over) = (shared.drain.reached(Stage::HandedOver), false);
    tokio::pin!(end);
    while !(handed_over && pending.tasks.is_empty()) {
        tokio::select! {
            received = socket.recv_from(&mut buffer), if !handed_over => match received {
                Ok((length, peer)) => {
                    let (forwarder, socket) = (Arc::clone(&forwarder), Arc::clone(&socket));
                    let message = buffer[..length].to_vec();
                    pending.add(async move {
                        if let Some(answer) = forwarder.answer(&message, peer, DnsTransport::Udp).await
                            && let Err(error) = socket.send_to(&answer, peer).await
                        {
                            tracing::debug!(%peer, %error, "an answer could not be sent");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "receive DNS queries");
                    sleep(BACK_OFF).await;
                }
            },
            Some(ended) = pending.tasks.join_next(), if !pending.tasks.is_empty() => report_panic(ended),
            () = &mut end, if !handed_over => handed_over = true,
        }
    }
}

/// Tasks, of which the oldest is ended when there are too many.
#[derive(Default)]
struct Pending {
    tasks: JoinSet<()>,
    /// In the order in which they began; some have ended.
    by_age: VecDeque<AbortHandle>,
}

impl Pending {
    fn add(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        if self.tasks.len() >= PENDING_MAX {
            while let Some(oldest) = self.by_age.pop_front() {
                if !oldest.is_finished() {
                    oldest.abort();
                    break;
                }
            }
        }
        // Those that have ended are swept now and then, so that one that lasts does not keep all after it.
        if self.by_age.len() >= 2 * PENDING_MAX {
            self.by_age.retain(|task| !task.is_finished());
        }
        self.by_age.push_back(self.tasks.spawn(task));
    }
}

/// Accepts connections. One too many is closed at once: its asker sees that and asks elsewhere, or again.
pub(super) async fn connections(forwarder: Arc<Forwarder>, listener: TcpListener) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut tasks = JoinSet::new();
    let shared = Arc::clone(&forwarder.shared);
    let (end, mut handed_over) = (shared.drain.reached(Stage::HandedOver), false);
    tokio::pin!(end);
    while !(handed_over && tasks.is_empty()) {
        tokio::select! {
            accepted = listener.accept(), if !handed_over => match accepted {
                Ok((stream, _)) => {
                    let Ok(permit) = Arc::clone(&room).try_acquire_owned() else { continue };
                    let forwarder = Arc::clone(&forwarder);
                    tasks.spawn(async move {
                        if let Err(error) = connection(forwarder, stream).await {
                            tracing::debug!(%error, "a DNS connection of the app");
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accept DNS connections");
                    sleep(BACK_OFF).await;
                }
            },
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => report_panic(ended),
            () = &mut end, if !handed_over => handed_over = true,
        }
    }
}

/// Answers the queries of one connection, each as soon as its answer is there, until the app has ended its side and all are
/// answered, or it is idle for too long.
async fn connection(forwarder: Arc<Forwarder>, stream: TcpStream) -> io::Result<()> {
    let peer = stream.peer_addr()?;
    stream.set_nodelay(true)?;
    let (mut read, mut write) = stream.into_split();
    let mut answers: JoinSet<Option<Vec<u8>>> = JoinSet::new();
    let mut queries = Queries::default();
    let (mut reading, mut idle_since) = (true, Instant::now());
    loop {
        tokio::select! {
            Some(answer) = answers.join_next(), if !answers.is_empty() => {
                match answer {
                    Ok(Some(answer)) => timeout(IDLE, tcp::write(&mut write, &answer)).await??,
                    // No query: whatever speaks here, it is not DNS.
                    Ok(None) => return Ok(()),
                    Err(error) => report_panic(Err(error)),
                }
                idle_since = Instant::now();
            }
            query = queries.next(&mut read), if reading && answers.len() < PIPELINE_MAX => match query? {
                Some(query) => {
                    let forwarder = Arc::clone(&forwarder);
                    answers.spawn(async move { forwarder.answer(&query, peer, DnsTransport::Tcp).await });
                }
                None => reading = false,
            },
            () = sleep_until(idle_since + IDLE), if reading && answers.is_empty() => return Ok(()),
            else => return Ok(()),
        }
    }
}

/// The queries of a connection, each after its length.
#[derive(Default)]
struct Queries {
    bytes: Vec<u8>,
}

impl Queries {
    /// The next query; `None` at the end. Cancelling loses nothing.
    async fn next(&mut self, from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some((length, rest)) = self.bytes.split_first_chunk::<2>() {
                let length = usize::from(u16::from_be_bytes(*length));
                if rest.len() >= length {
                    let query = rest[..length].to_vec();
                    self.bytes.drain(..2 + length);
                    return Ok(Some(query));
                }
            }
            if from.read_buf(&mut self.bytes).await? == 0 {
                return if self.bytes.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Notes its number when it is dropped.
    struct Dropped(usize, Arc<Mutex<Vec<usize>>>);

    impl Drop for Dropped {
        fn drop(&mut self) {
            self.1.lock().unwrap().push(self.0);
        }
    }

    /// Adds a task that ends when `end` says so.
    fn add(pending: &mut Pending, number: usize, dropped: &Arc<Mutex<Vec<usize>>>, ends: bool) {
        let guard = Dropped(number, Arc::clone(dropped));
        pending.add(async move {
            let _guard = guard;
            if !ends {
                std::future::pending::<()>().await;
            }
        });
    }

    #[tokio::test]
    async fn beyond_the_bound_the_oldest_that_waits_is_given_up() {
        let (mut pending, dropped) = (Pending::default(), Arc::new(Mutex::new(Vec::new())));
        // The first of all has an answer, and is not what is given up.
        add(&mut pending, 0, &dropped, true);
        pending.tasks.join_next().await.unwrap().unwrap();
        for number in 1..=PENDING_MAX + 3 {
            add(&mut pending, number, &dropped, false);
            if pending.tasks.len() > PENDING_MAX {
                assert!(pending.tasks.join_next().await.unwrap().unwrap_err().is_cancelled());
            }
            assert!(pending.tasks.len() <= PENDING_MAX);
        }
        assert_eq!(*dropped.lock().unwrap(), [0, 1, 2, 3]);
    }

    #[tokio::test]
    async fn one_that_lasts_does_not_keep_those_that_have_ended() {
        let (mut pending, dropped) = (Pending::default(), Arc::new(Mutex::new(Vec::new())));
        add(&mut pending, 0, &dropped, false);
        for number in 1..10 * PENDING_MAX {
            add(&mut pending, number, &dropped, true);
            pending.tasks.join_next().await.unwrap().unwrap();
            assert!(pending.by_age.len() <= 2 * PENDING_MAX);
        }
        assert_eq!(pending.tasks.len(), 1);
    }
}
