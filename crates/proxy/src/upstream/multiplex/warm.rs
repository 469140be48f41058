//! Upstream HTTP/2 connections that are made ahead of need. What is said of HTTP/1 in
//! [`pool::warm`](crate::upstream::pool::warm) holds here; a connection that is ready is one without a stream.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dragoman_config::Destination;

use super::Filling;
use crate::drain::Stage;
use crate::flow::http2::connect::connect;
use crate::shared::Shared;
use crate::upstream::link::Link;
use crate::upstream::pool::PoolKey;
use crate::upstream::state::Endpoint;

/// Lets go of connections whose time is over, and makes new ones where there are too few. Called now and then.
pub(crate) fn look_after(shared: &Arc<Shared>, now: Instant) {
    for key in shared.multiplexers.reap(now) {
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
    if destination.pool.is_none_or(|params| params.min_warm == 0) {
        return;
    }
    let Some(link) = Link::again(shared, destination, key) else { return };
    let Some(filling) = shared.multiplexers.begin_filling(key) else { return };
    let (shared, limit, endpoint) = (Arc::clone(shared), destination.connect_timeout, Arc::clone(endpoint));
    tokio::spawn(async move { fill(&filling, &shared, &link, &endpoint, limit).await });
}

async fn fill(filling: &Filling, shared: &Arc<Shared>, link: &Link, endpoint: &Endpoint, limit: Duration) {
    while !shared.drain.has_reached(Stage::Draining)
        && endpoint.is_closed(Instant::now())
        && let Some(growth) = filling.next().await
    {
        // How it fails is no verdict on the endpoint, and nobody waits for it.
        let Ok(connected) = connect(Arc::clone(shared), link.clone(), limit, None).await else { return };
        growth.add(connected).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::exchange::tries::Failed;
    use dragoman_config::Config;
    use dragoman_policy::{Failure, Verdict};
    use dragoman_telemetry::{AccessLog, Cause, Telemetry};
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn an_endpoint_whose_breaker_is_open_is_left_alone() {
        let text = "[defaults]\npool = { min_warm = 2 }\nbreaker = { failures = 1 }\n";
        let config = Config::parse("test", text, &|_| None).unwrap();
        let telemetry = Telemetry::new(vec!["default".into()], AccessLog::off());
        let shared = Arc::new(Shared::new(Arc::new(config), telemetry, vec![]));
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let destination = Arc::clone(&shared.config.now().destinations()[0]);
        let (limit, params) = (destination.connect_timeout, destination.pool.unwrap());
        let endpoint = shared.endpoints.get(&destination, None, server.local_addr().unwrap());
        let link = Link::plain(&destination, endpoint.address);
        let key = link.key.clone();

        let refused = Failed::there(Cause::ConnectRefused, None, Failure::Connect);
        let used =
            shared.multiplexers.lease(&key, &params, limit, false, || std::future::ready(Err(refused)));
        assert!(used.await.is_err());
        endpoint.admit(Instant::now()).unwrap().report(Verdict::Failure);
        let filling = shared.multiplexers.begin_filling(&key).expect("it is used, and cold");
        // It returns at once, and nobody knocks at the server.
        fill(&filling, &shared, &link, &endpoint, limit).await;
        assert!(filling.next().await.is_some(), "there is room for one");
    }
}
