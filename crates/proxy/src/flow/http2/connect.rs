//! A new upstream HTTP/2 connection: the early dial, or another one.

use std::sync::Arc;
use std::time::Duration;

use dragoman_net::DialError;
use dragoman_telemetry::Cause;
use tokio::time::timeout;

use super::io::Io;
use crate::flow::early::{Early, Taken};
use crate::flow::exchange::tries::Failed;
use crate::leg::Leg;
use crate::shared::Shared;
use crate::upstream::dial::DialFailed;
use crate::upstream::link::Link;
use crate::upstream::multiplex::connection::{Connected, handshake};

/// Connects to an endpoint within `limit`, by way of `early` if it goes there.
///
/// # Errors
/// It cannot be connected to. Nothing was asked of it.
pub(crate) async fn connect(
    shared: Arc<Shared>,
    link: Link,
    limit: Duration,
    early: Option<Early>,
) -> Result<Connected, Failed> {
    let leg = reach(&shared, &link, limit, early).await?;
    let secured = leg.stream().secured();
    let io = Io::new(leg).ok_or_else(|| Failed::here(Cause::ConnectFailed, None))?;
    let head_bytes = shared.config.now().proxy.max_head_bytes;
    handshake(io, secured, head_bytes).await.map_err(|error| Failed::no_connection(&error))
}

async fn reach(shared: &Shared, link: &Link, limit: Duration, early: Option<Early>) -> Result<Leg, Failed> {
    if let Some(mut early) = early {
        match timeout(limit, early.take(link)).await {
            Ok(Some(Taken::Open(leg))) => return Ok(leg),
            Ok(Some(Taken::Failed(failed))) => return Err(Failed::not_connected(failed)),
            Ok(Some(Taken::Ended(leg, _))) => leg.close(),
            Ok(None) => {}
            Err(_) => {
                let failed = DialFailed::new(link.endpoint(), &DialError::Timeout(limit));
                return Err(Failed::not_connected(failed));
            }
        }
    }
    link.dial(shared, limit).await.map_err(Failed::not_connected)
}
