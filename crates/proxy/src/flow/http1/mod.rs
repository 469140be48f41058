//! An HTTP/1 flow: exchanges, one after the other, on one connection of the app.

mod answer;
pub(super) mod attempt;
pub(super) mod connect;
mod download;
pub(super) mod exchange;
mod request;
pub(super) mod respond;
pub(crate) mod scratch;
mod translate;
mod upload;

use std::sync::Arc;

use dragoman_net::OrigDst;
use dragoman_telemetry::{FlowRecord, Who};
use dragoman_wire::http1::Limits;
use tokio::time::Instant;

use super::early::Early;
use super::exchange::plan::Lookup;
use super::http2::Context;
use super::relay::relay;
use crate::drain::Stage;
use crate::leg::Leg;
use crate::shared::Shared;
use connect::Upstream;
use scratch::Scratch;

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

/// The state of an HTTP flow between and during its exchanges.
struct Connection<'a> {
    shared: &'a Arc<Shared>,
    flow: &'a mut FlowRecord,
    original: OrigDst,
    app: Leg,
    early: Early,
    /// An upstream connection that lives and dies with the flow. Boxed, as few flows have one.
    kept: Option<Box<Upstream>>,
    lookup: Lookup,
    /// When the first request began, if it is not whole yet.
    began: Option<Instant>,
    /// The app logged in on an upstream connection: connections of this flow are no longer shared.
    pinned: bool,
    limits: Limits,
    /// What exchanges with endpoints of another version of HTTP share, once there was one.
    translated: Option<Arc<Context>>,
    scratch: Scratch,
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
    lookup: Lookup,
    flow: &'a mut FlowRecord,
) -> impl Future<Output = ()> + use<'a> {
    let proxy = &shared.config.now().proxy;
    let mut connection = Connection {
        shared,
        original,
        app,
        early,
        kept: None,
        lookup,
        began,
        pinned: false,
        limits: Limits { head_bytes: proxy.max_head_bytes, headers: proxy.max_headers },
        translated: None,
        scratch: Scratch::default(),
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

impl Connection<'_> {
    /// Waits for the first bytes of the next request.
    async fn wait(&mut self) -> Result<(), End> {
        if !self.app.buf.is_empty() {
            return Ok(());
        }
        self.scratch.give_back(self.shared);
        tokio::select! {
            biased;
            read = self.app.fill() => match read {
                Ok(1..) => Ok(()),
                Ok(0) => {
                    self.flow.closed_by(Who::App);
                    Err(End::Close)
                }
                // Between two exchanges nothing is lost; the upstream learns of it as it is dropped.
                Err(_) => Err(End::Reset),
            },
            read = upstream_spoke(&mut self.kept) => Err(self.pass_on(read).await),
            () = self.shared.drain.reached_while_idle(Stage::Over) => Err(End::Close),
        }
    }

    /// The server of an unshared connection says something, or ends it, between two exchanges. As without us, the
    /// app gets what it said, and then the end.
    async fn pass_on(&mut self, read: std::io::Result<usize>) -> End {
        let Some(kept) = &mut self.kept else { return End::Close };
        self.flow.closed_by(Who::Upstream);
        match read {
            Ok(_) => {
                let _ = self.app.write_all(kept.leg.buf.bytes()).await;
                End::Close
            }
            Err(_) => End::Reset,
        }
    }

    async fn end(mut self, end: End) {
        self.early.discard();
        self.scratch.give_back(self.shared);
        let kept = self.kept.take();
        match end {
            End::Close => {
                self.app.close();
                if let Some(kept) = kept {
                    kept.leg.close();
                }
            }
            End::Linger => self.app.close_lingering(usize::MAX).await,
            End::Reset => self.app.reset().await,
            End::Tunnel(upstream) => {
                let (leg, _place) = upstream.into_tunnel();
                relay(&self.shared.sleepers, self.app, leg, self.flow).await;
            }
        }
    }
}

/// Returns when the server of an idle, unshared connection speaks or ends.
async fn upstream_spoke(kept: &mut Option<Box<Upstream>>) -> std::io::Result<usize> {
    match kept {
        Some(kept) => kept.leg.fill().await,
        None => std::future::pending().await,
    }
}
