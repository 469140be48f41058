//! An HTTP/1 flow: exchanges, one after the other, on one connection of the app.

mod answer;
mod attempt;
mod connect;
mod download;
mod exchange;
mod request;
mod respond;
mod upload;

use std::sync::Arc;

use dragoman_net::OrigDst;
use dragoman_telemetry::{ExchangeRecord, FlowRecord};
use dragoman_wire::http1::{Limits, RequestHead, ResponseHead};
use tokio::time::Instant;

use super::early::Early;
use super::exchange::plan::Lookup;
use super::relay::{Moved, relay};
use crate::leg::Leg;
use crate::shared::Shared;
use connect::Upstream;

/// How an HTTP flow ends.
#[derive(Debug)]
enum End {
    /// Everything was said.
    Close,
    /// The last answer was given while the app may still be sending.
    Linger,
    /// What the app got is not whole, and it must notice.
    Reset,
    /// What follows is no longer HTTP: bytes both ways.
    Tunnel(Upstream),
}

/// An upstream connection that lives and dies with the flow.
#[derive(Debug)]
struct Kept {
    upstream: Upstream,
    destination: usize,
}

/// The state of an HTTP flow between and during its exchanges.
struct Connection<'a> {
    shared: &'a Arc<Shared>,
    flow: &'a mut FlowRecord,
    original: OrigDst,
    app: Leg,
    early: Early,
    kept: Option<Kept>,
    lookup: Lookup,
    /// When the first request began, if it is not whole yet.
    began: Option<Instant>,
    /// The app logged in on an upstream connection: connections of this flow are no longer shared.
    pinned: bool,
    limits: Limits,
    scratch: Scratch,
}

/// Storage that exchanges use again, one after the other.
struct Scratch {
    request: RequestHead,
    response: ResponseHead,
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
    record: ExchangeRecord,
}

/// Serves an HTTP/1 flow to its end.
///
/// Not an `async fn`: that keeps its arguments beside what it makes of them, for as long as the flow waits.
pub(super) fn serve<'a>(
    shared: &'a Arc<Shared>,
    app: Leg,
    early: Early,
    original: OrigDst,
    began: Option<Instant>,
    flow: &'a mut FlowRecord,
) -> impl Future<Output = ()> + use<'a> {
    let proxy = &shared.config.proxy;
    let mut connection = Connection {
        shared,
        original,
        app,
        early,
        kept: None,
        lookup: Lookup::default(),
        began,
        pinned: false,
        limits: Limits { head_bytes: proxy.max_head_bytes, headers: proxy.max_headers },
        scratch: Scratch::new(shared),
        flow,
    };
    async move {
        let end = loop {
            if let Err(end) = connection.wait().await {
                break end;
            }
            // Boxed: the future of an exchange is many times the size of one that waits.
            if let Err(end) = Box::pin(connection.exchange()).await {
                break end;
            }
        };
        // As rare, and for once.
        Box::pin(connection.end(end)).await;
    }
}

impl Scratch {
    fn new(shared: &Shared) -> Self {
        Self {
            request: RequestHead::default(),
            response: ResponseHead::default(),
            outgoing: Vec::new(),
            incoming: Vec::new(),
            record: ExchangeRecord::new(&shared.telemetry),
        }
    }

    /// Gives back what a large head has taken: a connection that waits costs what a small one did.
    fn release(&mut self) {
        const SMALL: usize = 4096;
        if self.outgoing.capacity().max(self.incoming.capacity()) > SMALL {
            (self.outgoing, self.incoming) = (Vec::new(), Vec::new());
            (self.request, self.response) = (RequestHead::default(), ResponseHead::default());
        }
    }
}

impl Connection<'_> {
    /// Waits for the first bytes of the next request.
    async fn wait(&mut self) -> Result<(), End> {
        if !self.app.buf.is_empty() {
            return Ok(());
        }
        if self.shared.drain.has_begun() {
            return Err(End::Close);
        }
        self.scratch.release();
        tokio::select! {
            biased;
            read = self.app.fill() => match read {
                Ok(1..) => Ok(()),
                Ok(0) => Err(End::Close),
                // Between two exchanges nothing is lost; the upstream learns of it as it is dropped.
                Err(_) => Err(End::Reset),
            },
            read = upstream_spoke(&mut self.kept) => Err(self.pass_on(read).await),
            () = self.shared.drain.begun() => Err(End::Close),
        }
    }

    /// The server of an unshared connection says something, or ends it, between two exchanges. As without us, the
    /// app gets what it said, and then the end.
    async fn pass_on(&mut self, read: std::io::Result<usize>) -> End {
        let Some(kept) = &mut self.kept else { return End::Close };
        match read {
            Ok(_) => {
                let _ = self.app.write_all(kept.upstream.leg.buf.bytes()).await;
                End::Close
            }
            Err(_) => End::Reset,
        }
    }

    async fn end(mut self, end: End) {
        self.early.discard();
        let kept = self.kept.take();
        match end {
            End::Close => {
                self.app.close();
                if let Some(kept) = kept {
                    kept.upstream.leg.close();
                }
            }
            End::Linger => self.app.close_lingering(usize::MAX).await,
            End::Reset => self.app.reset().await,
            End::Tunnel(upstream) => {
                let moved =
                    Moved { from_app: &mut self.flow.bytes_from_app, to_app: &mut self.flow.bytes_to_app };
                let (leg, _place) = upstream.into_tunnel();
                if let Err(broken) = relay(self.app, leg, moved).await {
                    self.flow.fail(broken.cause, broken.detail);
                }
            }
        }
    }
}

/// Returns when the server of an idle, unshared connection speaks or ends.
async fn upstream_spoke(kept: &mut Option<Kept>) -> std::io::Result<usize> {
    match kept {
        Some(kept) => kept.upstream.leg.fill().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dragoman_config::Config;
    use dragoman_telemetry::{AccessLog, Telemetry};

    #[test]
    fn storage_for_a_large_head_is_given_back_and_for_a_small_one_kept() {
        let telemetry = Telemetry::new(vec!["default".into()], AccessLog::off());
        let shared = Shared::new(Arc::new(Config::empty()), telemetry, vec![]);
        let mut scratch = Scratch::new(&shared);
        scratch.outgoing = Vec::with_capacity(500);
        scratch.release();
        assert!(scratch.outgoing.capacity() >= 500);
        scratch.incoming = vec![0; 30_000];
        scratch.release();
        assert_eq!((scratch.outgoing.capacity(), scratch.incoming.capacity()), (0, 0));
    }
}
