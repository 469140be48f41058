//! Upstream connections that wait for the next exchange, shared between flows where policy asks for it.
//!
//! The key holds everything that matters for safety; two keys never share a connection. The most recently used
//! connection is taken first, so that the others grow old and are closed, and each is looked at before it is
//! used again: one that was closed meanwhile, or has bytes to read, is thrown away.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dragoman_config::PoolParams;
use dragoman_telemetry::Telemetry;
use tokio::net::TcpStream;

/// The most idle connections that one process keeps, over all keys.
const IDLE_IN_ALL: usize = 4096;

/// A non-idempotent request takes an idle connection only when it was used this recently: for an older one the
/// server's own idle limit may strike in the moment between our look and its close, and then nobody could tell
/// whether the request was processed.
const FRESH: Duration = Duration::from_secs(1);

/// Connections with equal keys may be exchanged for one another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey {
    pub(crate) endpoint: SocketAddr,
    pub(crate) destination: usize,
}

#[derive(Debug)]
struct Idle {
    stream: TcpStream,
    since: Instant,
    until: Instant,
}

#[derive(Debug, Default)]
struct Shelves {
    idle: HashMap<PoolKey, Vec<Idle>>,
    count: usize,
}

/// All idle upstream connections.
#[derive(Debug)]
pub(crate) struct Pool {
    telemetry: Telemetry,
    shelves: Mutex<Shelves>,
}

impl Pool {
    pub(crate) fn new(telemetry: Telemetry) -> Self {
        Self { telemetry, shelves: Mutex::default() }
    }

    /// An idle connection that is open and quiet. `repeatable`: the request may be sent again if the connection
    /// turns out to be closing.
    pub(crate) fn take(&self, key: &PoolKey, repeatable: bool, now: Instant) -> Option<TcpStream> {
        loop {
            let idle = {
                let mut shelves = self.lock();
                let shelf = shelves.idle.get_mut(key)?;
                let newest = shelf.last()?;
                if !repeatable && now.duration_since(newest.since) > FRESH {
                    return None;
                }
                let idle = shelf.pop()?;
                shelves.count -= 1;
                idle
            };
            if now < idle.until && dragoman_net::is_still_open(&idle.stream) {
                return Some(idle.stream);
            }
            self.telemetry.destination(key.destination).idle_connection_closed();
        }
    }

    /// Keeps a connection for the next exchange, if there is room.
    pub(crate) fn put(&self, key: &PoolKey, stream: TcpStream, params: &PoolParams, now: Instant) {
        let mut shelves = self.lock();
        if shelves.count >= IDLE_IN_ALL {
            return;
        }
        if !shelves.idle.contains_key(key) {
            shelves.idle.insert(key.clone(), Vec::new());
        }
        let Some(shelf) = shelves.idle.get_mut(key).filter(|shelf| shelf.len() < params.max_idle) else {
            return;
        };
        shelf.push(Idle { stream, since: now, until: now + params.idle });
        shelves.count += 1;
    }

    /// Closes what is too old or was closed by the server. Called now and then.
    pub(crate) fn reap(&self, now: Instant) {
        let mut shelves = self.lock();
        for (key, shelf) in &mut shelves.idle {
            let before = shelf.len();
            shelf.retain(|idle| now < idle.until && dragoman_net::is_still_open(&idle.stream));
            for _ in shelf.len()..before {
                self.telemetry.destination(key.destination).idle_connection_closed();
            }
        }
        shelves.idle.retain(|_, shelf| !shelf.is_empty());
        shelves.count = shelves.idle.values().map(Vec::len).sum();
    }

    fn lock(&self) -> MutexGuard<'_, Shelves> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dragoman_telemetry::AccessLog;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    const PARAMS: PoolParams =
        PoolParams { max_idle: 2, idle: Duration::from_secs(60), max_age: None, max_size: None, min_warm: 0 };

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, accepted) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (client.unwrap(), accepted.unwrap().0)
    }

    fn pool() -> Pool {
        Pool::new(Telemetry::new(vec!["a".into(), "b".into()], AccessLog::off()))
    }

    fn key(destination: usize) -> PoolKey {
        PoolKey { endpoint: "192.0.2.1:80".parse().unwrap(), destination }
    }

    #[tokio::test]
    async fn last_in_first_out_per_key_and_bounded() {
        let (pool, now) = (pool(), Instant::now());
        let mut servers = Vec::new();
        let mut ports = Vec::new();
        for _ in 0..3 {
            let (client, server) = pair().await;
            ports.push(client.local_addr().unwrap().port());
            servers.push(server);
            pool.put(&key(0), client, &PARAMS, now);
        }
        assert!(pool.take(&key(1), true, now).is_none(), "another key");
        let taken: Vec<_> = std::iter::from_fn(|| pool.take(&key(0), true, now))
            .map(|stream| stream.local_addr().unwrap().port())
            .collect();
        assert_eq!(taken, [ports[1], ports[0]], "the third found no room");
    }

    #[tokio::test]
    async fn a_closed_or_speaking_connection_is_not_reused() {
        let (pool, now) = (pool(), Instant::now());
        let (client, server) = pair().await;
        drop(server);
        client.readable().await.unwrap();
        pool.put(&key(0), client, &PARAMS, now);
        let (client, mut server) = pair().await;
        server.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.unwrap();
        client.readable().await.unwrap();
        pool.put(&key(0), client, &PARAMS, now);
        assert!(pool.take(&key(0), true, now).is_none());
        let metrics = pool.telemetry.render();
        assert!(metrics.contains("dragoman_upstream_idle_closed_total{destination=\"a\"} 2\n"), "{metrics}");
    }

    #[tokio::test]
    async fn h7_a_request_that_cannot_be_repeated_takes_only_a_fresh_connection() {
        let (pool, now) = (pool(), Instant::now());
        let (client, _server) = pair().await;
        pool.put(&key(0), client, &PARAMS, now);
        let later = now + FRESH + Duration::from_millis(1);
        assert!(pool.take(&key(0), false, later).is_none());
        assert!(pool.take(&key(0), true, later).is_some());
    }

    #[tokio::test]
    async fn too_old_is_closed() {
        let (pool, now) = (pool(), Instant::now());
        let (client, mut server) = pair().await;
        pool.put(&key(0), client, &PARAMS, now);
        pool.reap(now + PARAMS.idle);
        let mut end = [0];
        assert_eq!(tokio::io::AsyncReadExt::read(&mut server, &mut end).await.unwrap(), 0);
        assert_eq!(pool.lock().count, 0);
    }
}
