//! One dial, in the words of the record.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use dragoman_net::DialError;
use dragoman_telemetry::Cause;

use crate::leg::Leg;
use crate::shared::Shared;

/// A dial that failed: nothing was sent.
#[derive(Debug)]
pub(crate) struct DialFailed {
    pub(crate) cause: Cause,
    pub(crate) detail: String,
}

impl DialFailed {
    pub(crate) fn new(address: SocketAddr, error: &DialError) -> Self {
        Self { cause: cause_of(error), detail: format!("{address}: {error}") }
    }
}

/// Connects to `address` and counts the connection for `destination`. Nothing is encrypted yet.
pub(super) async fn connect(
    shared: &Shared,
    destination: usize,
    address: SocketAddr,
    limit: Duration,
) -> Result<Leg, DialFailed> {
    let start = Instant::now();
    let dialled = match shared.inside() {
        Some(inside) => inside.dial(address, shared.mark(), limit).await,
        None => dragoman_net::dial(address, shared.mark(), limit).await,
    };
    let stream = dialled.map_err(|error| DialFailed::new(address, &error))?;
    shared.telemetry.destination(destination).connection_dialled(start.elapsed());
    Ok(Leg::new(stream))
}

fn cause_of(error: &DialError) -> Cause {
    match error {
        DialError::Refused => Cause::ConnectRefused,
        DialError::Reset => Cause::ConnectReset,
        DialError::Timeout(_) => Cause::ConnectTimeout,
        DialError::Unreachable(_) => Cause::ConnectUnreachable,
        DialError::PortsExhausted => Cause::PortsExhausted,
        DialError::DescriptorsExhausted => Cause::DescriptorsExhausted,
        DialError::Other(_) => Cause::ConnectFailed,
    }
}
