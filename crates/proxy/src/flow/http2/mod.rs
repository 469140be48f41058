//! An HTTP/2 flow: many exchanges at once on one connection of the app.
//!
//! h2 speaks the protocol on both sides; what dragoman adds is policy for each stream. Every exchange is a task of its own, so
//! one that waits keeps no other from its turn; all of them end with the app's connection.

mod answer;
mod exchange;
mod head;
pub(crate) mod io;
mod pipe;
mod respond;
mod upload;

use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use bytes::Bytes;
use dragoman_net::OrigDst;
use dragoman_telemetry::{Cause, FlowFacts, FlowRecord};
use h2::server::Builder;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::early::Early;
use super::relay::app_cause;
use crate::accept::report_panic;
use crate::leg::Leg;
use crate::shared::Shared;
use crate::upstream::multiplex::{CONNECTION_WINDOW, Multiplexers, STREAM_WINDOW, head_limit};
use io::Io;

/// Bytes of a stream that wait in memory for the app's window, at most.
const SEND_BUFFER: usize = 16 * 1024;

/// What the exchanges of one flow share.
struct Context {
    shared: Arc<Shared>,
    facts: FlowFacts,
    original: OrigDst,
    /// Connections that live and die with the flow, for destinations that do not pool.
    own: Multiplexers,
    /// Taken by the first exchange.
    early: Mutex<Option<Early>>,
    /// A server of this flow takes extended CONNECT: it may be offered to the app (RFC 8441).
    extended_connect: Notify,
}

/// Serves an HTTP/2 flow to its end.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    app: Leg,
    early: Early,
    original: OrigDst,
    flow: &mut FlowRecord,
) {
    let Some(io) = Io::new(app) else { return };
    let proxy = &shared.config.proxy;
    let handshake = Builder::new()
        .max_concurrent_streams(u32::try_from(proxy.max_h2_streams).unwrap_or(u32::MAX))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(head_limit(proxy.max_head_bytes))
        .max_send_buffer_size(SEND_BUFFER)
        .handshake::<_, Bytes>(io);
    let mut connection = match timeout(proxy.request_head_timeout, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return fail(flow, &error),
        Err(_) => return flow.fail(Cause::RequestTimeout, None),
    };
    let context = Arc::new(Context {
        shared: Arc::clone(shared),
        facts: flow.facts(),
        original,
        own: Multiplexers::default(),
        early: Mutex::new(Some(early)),
        extended_connect: Notify::new(),
    });
    let mut exchanges = JoinSet::new();
    let (mut draining, mut offered) = (false, false);
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    let mut exchange = Box::pin(exchange::serve(Arc::clone(&context), request, respond));
                    // Its first steps are taken here: requests go upstream in the order in which they came.
                    if poll_fn(|cx| Poll::Ready(exchange.as_mut().poll(cx).is_pending())).await {
                        exchanges.spawn(exchange);
                    }
                }
                Some(Err(error)) => return fail(flow, &error),
                None => return,
            },
            () = context.extended_connect.notified(), if !offered => {
                offered = true;
                // An app that is gone shows in `accept`.
                let _ = connection.enable_connect_protocol();
            }
            Some(ended) = exchanges.join_next(), if !exchanges.is_empty() => report_panic(ended),
            () = shared.drain.begun(), if !draining => {
                draining = true;
                connection.graceful_shutdown();
            }
        }
    }
}

/// The app's connection ended other than by agreement.
fn fail(flow: &mut FlowRecord, error: &h2::Error) {
    let cause = match error.get_io() {
        // A client that just closes, as many do, has ended all the same.
        Some(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return,
        Some(error) => app_cause(error),
        None if error.is_go_away() && error.is_remote() => Cause::AppClosed,
        None => Cause::BadRequest,
    };
    flow.fail(cause, error.to_string());
}
