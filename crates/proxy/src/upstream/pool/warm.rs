//! Pooled connections that are made ahead of need, so that an exchange need not wait for one.
//!
//! An endpoint is kept warm for as long as it is in use: from the first exchange until the pool's idle time has
//! passed since the last one. It is filled up when an exchange has taken a connection, and now and then, since servers
//! close what is idle for too long for them. An endpoint whose breaker is not closed is left alone, and what comes of these
//! dials is no verdict on it: the requests of the app are what it is judged by.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dragoman_config::{Destination, PoolParams};

use super::{PoolKey, Pooled};
use crate::drain::Stage;
use crate::leg::Leg;
use crate::shared::Shared;
use crate::upstream::link::Link;
use crate::upstream::state::Endpoint;

/// Closes idle connections whose time is over, and makes new ones where there are too few. Called now and then.
pub(crate) fn look_after(shared: &Arc<Shared>, now: Instant) {
    for key in shared.pool.reap(now) {
        let Some(destination) = shared.config.now().at(key.destination).cloned() else { continue };
        let endpoint = shared.endpoints.get(&destination, None, key.endpoint);
        keep_warm(shared, &destination, &endpoint, &key);
    }
}

/// Makes connections to the endpoint in the background, until `min_warm` of them are idle.
pub(crate) fn keep_warm(
    shared: &Arc<Shared>,
    destination: &Arc<Destination>,
    endpoint: &Arc<Endpoint>,
    key: &PoolKey,
) {
    let Some(params) = destination.pool.filter(|params| params.min_warm > 0) else { return };
    let Some(link) = Link::again(shared, destination, key) else { return };
    if shared.pool.begin_filling(key) {
        let filling = Filling { shared: Arc::clone(shared), link };
        let (limit, endpoint) = (destination.connect_timeout, Arc::clone(endpoint));
        tokio::spawn(async move { filling.fill(&endpoint, &params, limit).await });
    }
}

/// The one task that makes connections to an endpoint ahead of need.
struct Filling {
    shared: Arc<Shared>,
    link: Link,
}

impl Filling {
    async fn fill(&self, endpoint: &Endpoint, params: &PoolParams, limit: Duration) {
        let Self { shared, link } = self;
        while !shared.drain.has_reached(Stage::Draining)
            && endpoint.is_closed(Instant::now())
            && let Some(place) = shared.pool.place_to_fill(&link.key)
        {
            let dialled = link.dial(shared, limit).await;
            let Some(stream) = dialled.ok().and_then(Leg::into_stream) else { return };
            let now = Instant::now();
            shared.pool.put(&link.key, Pooled { stream, made: now }, params, now);
            drop(place);
        }
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        self.shared.pool.end_filling(&self.link.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::pool::Wanted;
    use dragoman_config::Config;
    use dragoman_policy::Verdict;
    use dragoman_telemetry::{AccessLog, Telemetry};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::yield_now;

    /// A proxy that keeps two connections warm, and a server.
    async fn rig() -> (Arc<Shared>, TcpListener) {
        let text = "[defaults]\npool = { min_warm = 2 }\nbreaker = { failures = 1 }\n";
        let config = Config::parse("test", text, &|_| None).unwrap();
        let telemetry = Telemetry::new(vec!["default".into()], AccessLog::off());
        let shared = Arc::new(Shared::new(Arc::new(config), telemetry, vec![]));
        (shared, TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn endpoint(shared: &Shared, server: &TcpListener) -> (PoolKey, Arc<Endpoint>) {
        let destination = Arc::clone(&shared.config.now().destinations()[0]);
        let address = server.local_addr().unwrap();
        let key = PoolKey { endpoint: address, destination: destination.version(), secure: None };
        (key, shared.endpoints.get(&destination, None, address))
    }

    async fn use_once(shared: &Shared, key: &PoolKey) {
        let params = shared.config.now().destinations()[0].pool.unwrap();
        drop(shared.pool.place(key, &params, Instant::now()).await);
    }

    fn is_being_filled(shared: &Shared, key: &PoolKey) -> bool {
        shared.pool.lock().by_key.get(key).is_some_and(|shelf| shelf.filling)
    }

    /// Returns when nobody makes connections ahead of need.
    async fn filled(shared: &Shared, key: &PoolKey) {
        while is_being_filled(shared, key) {
            yield_now().await;
        }
    }

    async fn accept(server: &TcpListener) -> TcpStream {
        server.accept().await.unwrap().0
    }

    #[tokio::test]
    async fn an_endpoint_in_use_is_kept_warm() {
        let (shared, server) = rig().await;
        let (key, endpoint) = endpoint(&shared, &server);
        let destination = Arc::clone(&shared.config.now().destinations()[0]);
        keep_warm(&shared, &destination, &endpoint, &key);
        assert!(!is_being_filled(&shared, &key), "nobody has used it");
        use_once(&shared, &key).await;
        keep_warm(&shared, &destination, &endpoint, &key);
        let servers = [accept(&server).await, accept(&server).await];
        filled(&shared, &key).await;
        let taken = shared.pool.take(&key, Wanted::Open, Instant::now()).expect("one of two");
        keep_warm(&shared, &destination, &endpoint, &key);
        let third = accept(&server).await;
        filled(&shared, &key).await;

        // The server closes what is idle.
        drop((servers, third, taken));
        while !shared.pool.begin_filling(&key) {
            yield_now().await;
            drop(shared.pool.reap(Instant::now()));
        }
        shared.pool.end_filling(&key);
        look_after(&shared, Instant::now());
        accept(&server).await;
    }

    #[tokio::test]
    async fn an_endpoint_whose_breaker_is_open_is_left_alone() {
        let (shared, server) = rig().await;
        let (key, endpoint) = endpoint(&shared, &server);
        use_once(&shared, &key).await;
        endpoint.admit(Instant::now()).unwrap().report(Verdict::Failure);
        keep_warm(&shared, &shared.config.now().destinations()[0], &endpoint, &key);
        filled(&shared, &key).await;
        assert!(shared.pool.take(&key, Wanted::Open, Instant::now()).is_none(), "it was dialled");
    }

    #[tokio::test]
    async fn a_dial_ahead_of_need_that_fails_is_no_verdict() {
        let (shared, server) = rig().await;
        let (key, endpoint) = endpoint(&shared, &server);
        use_once(&shared, &key).await;
        drop(server);
        keep_warm(&shared, &shared.config.now().destinations()[0], &endpoint, &key);
        filled(&shared, &key).await;
        assert!(endpoint.is_closed(Instant::now()));
        assert!(shared.pool.begin_filling(&key), "it may be tried again");
    }
}
