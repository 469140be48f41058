//! The data path of dragoman: accept, original destination, sniff, route, relay.
//!
//! One plain async function per flow ([`flow`]), one loop per exchange (`flow::http1::exchange`). Policy is one
//! immutable snapshot; what is learnt about endpoints is in `upstream`. ARCHITECTURE.md has the way of a byte as a
//! table.

mod accept;
mod bounded;
mod buffer;
mod flow;
mod leg;
mod shared;
mod upstream;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;

use dragoman_config::Config;
use dragoman_telemetry::Telemetry;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;

use shared::Shared;

/// Sockets that listen, made before privileges are dropped.
#[derive(Debug)]
pub struct Listeners(Vec<StdListener>);

/// An address that cannot be listened on.
#[derive(Debug)]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// What the system says.
    pub source: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen on {}", self.address)
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl Listeners {
    /// Listens on every address, or on none.
    ///
    /// # Errors
    /// The first address that cannot be listened on.
    pub fn bind(addresses: &[SocketAddr]) -> Result<Self, BindError> {
        let listen = |&address| dragoman_net::listen(address).map_err(|source| BindError { address, source });
        addresses.iter().map(listen).collect::<Result<_, _>>().map(Self)
    }

    fn ports(&self) -> Vec<u16> {
        self.0
            .iter()
            .filter_map(|listener| listener.local_addr().ok())
            .map(|address| address.port())
            .collect()
    }
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Flows that were still open at the deadline, and were reset.
    pub flows_cut: usize,
}

/// The proxy, ready to run.
#[derive(Debug)]
pub struct Proxy {
    config: Arc<Config>,
    telemetry: Telemetry,
}

impl Proxy {
    /// A proxy for this policy. `telemetry` must have been made for the destinations of `config`.
    pub fn new(config: Arc<Config>, telemetry: Telemetry) -> Self {
        Self { config, telemetry }
    }

    /// Serves flows until `shutdown`; then closes the listeners, and waits for the flows that are open until they have
    /// ended or `proxy.drain` has passed.
    ///
    /// # Errors
    /// A listener cannot be handed to the runtime.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn run(self, listeners: Listeners, shutdown: impl Future<Output = ()>) -> io::Result<Drained> {
        let Self { config, telemetry } = self;
        telemetry.process().set_flow_limit(config.proxy.max_flows);
        let shared = Arc::new(Shared::new(Arc::clone(&config), telemetry.clone(), listeners.ports()));
        let listeners = listeners.0.into_iter().map(TcpListener::from_std).collect::<io::Result<_>>()?;
        let mut flows = accept::accept_until(shutdown, &shared, listeners).await;
        shared.drain.begin();
        if timeout(config.proxy.drain, all_ended(&mut flows)).await.is_err() {
            telemetry.cut();
        }
        let flows_cut = flows.len();
        flows.shutdown().await;
        Ok(Drained { flows_cut })
    }
}

async fn all_ended(flows: &mut JoinSet<()>) {
    while let Some(ended) = flows.join_next().await {
        accept::report_panic(ended);
    }
}
