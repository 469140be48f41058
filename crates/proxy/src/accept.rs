//! The accept loop: one task per flow, a bound on their number, and a sane answer when descriptors run out.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use dragoman_net::Reserve;
use dragoman_telemetry::{AcceptError, Cause};
use nix::errno::Errno;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::flow;
use crate::shared::Shared;
use crate::upstream::pool::warm::look_after;

/// How long the loop rests after an error that would come again at once.
const BACK_OFF: Duration = Duration::from_millis(10);

/// How often idle upstream connections are looked at.
const REAP: Duration = Duration::from_secs(5);

/// Accepts flows until `shutdown`, then returns those that still run. The listeners are closed by then.
pub(crate) async fn accept_until(
    shutdown: impl Future<Output = ()>,
    shared: &Arc<Shared>,
    listeners: Vec<TcpListener>,
) -> JoinSet<()> {
    let mut flows = JoinSet::new();
    let mut reserve = Reserve::take().ok();
    let mut reap = interval(REAP);
    reap.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => return flows,
            Some(ended) = flows.join_next(), if !flows.is_empty() => report_panic(ended),
            (listener, accepted) = accept(&listeners) => match accepted {
                Ok((stream, peer)) => begin(&mut flows, shared, stream, peer),
                Err(error) => refused(shared, listener, &error, reserve.as_mut()).await,
            },
            _ = reap.tick() => {
                look_after(shared, Instant::now());
                shared.multiplexers.reap(Instant::now());
            }
        }
    }
}

/// The next connection of any listener.
async fn accept(listeners: &[TcpListener]) -> (&TcpListener, io::Result<(TcpStream, SocketAddr)>) {
    poll_fn(|context| {
        for listener in listeners {
            if let Poll::Ready(accepted) = listener.poll_accept(context) {
                return Poll::Ready((listener, accepted));
            }
        }
        Poll::Pending
    })
    .await
}

/// Starts the task of a flow. A panic in it ends it and nothing else: the record says `internal`.
fn begin(flows: &mut JoinSet<()>, shared: &Arc<Shared>, stream: TcpStream, peer: SocketAddr) {
    let mut record = shared.telemetry.flow(peer);
    if flows.len() >= shared.config.proxy.max_flows {
        dragoman_net::reset_on_close(&stream);
        return record.fail(Cause::FlowLimit, None);
    }
    let shared = Arc::clone(shared);
    flows.spawn(async move { flow::serve(shared, stream, &mut record).await });
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
    use dragoman_config::Config;
    use dragoman_telemetry::{AccessFormat, AccessLog, AccessMode, Telemetry};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use crate::leg::Leg;

    async fn pair() -> (TcpStream, TcpStream, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, accepted) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (accepted, peer) = accepted.unwrap();
        (client.unwrap(), accepted, peer)
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
        let access = AccessLog::new(AccessMode::All, AccessFormat::Json, Box::new(std::io::sink())).unwrap();
        let telemetry = Telemetry::new(vec!["default".into()], access);
        let shared = Shared::new(Arc::new(Config::empty()), telemetry.clone(), vec![]);
        let mut flows = JoinSet::new();
        let mut clients = Vec::new();
        for _ in 0..2 {
            let (client, stream, peer) = pair().await;
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
