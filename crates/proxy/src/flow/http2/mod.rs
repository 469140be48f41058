//! An HTTP/2 flow: many exchanges at once on one connection of the app.
//!
//! h2 speaks the protocol on both sides; what dragoman adds is policy for each stream. Every exchange is a task of its own, so
//! one that waits keeps no other from its turn; all of them end with the app's connection.

mod answer;
pub(crate) mod connect;
pub(super) mod exchange;
mod head;
pub(crate) mod io;
pub(in crate::flow) mod late;
mod pipe;
mod respond;
mod send;
mod upload;
pub(crate) mod wire;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{self, Poll};
use std::time::Duration;

use bytes::Bytes;
use dragoman_config::{Destination, Proxy};
use dragoman_net::OrigDst;
use dragoman_telemetry::{Cause, FlowFacts, FlowRecord};
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::early::Early;
use super::message::{Incoming, Responder};
use super::relay::app_cause;
use crate::accept::report_panic;
use crate::drain::Stage;
use crate::leg::Leg;
use crate::shared::Shared;
use crate::upstream::multiplex::Multiplexers;
use crate::upstream::multiplex::connection::{CONNECTION_WINDOW, STREAM_WINDOW, head_limit};
use io::Io;
use late::is_late;
use wire::{Wire, drive};

/// Bytes of a stream that wait in memory for the app's window, at most.
const SEND_BUFFER: usize = 16 * 1024;

/// How often a drain looks whether an app has what it was answered: there is no event for that.
const DELIVERY_POLL: Duration = Duration::from_millis(10);

/// How long exchanges whose app is gone may take to notice.
const FAREWELL: Duration = Duration::from_secs(1);

/// The connection to the app, in the words of h2.
pub(super) type AppConnection = h2::server::Connection<Io, Bytes>;

/// A request of the app, and where its response goes.
type Accepted = Result<(Request<RecvStream>, SendResponse<Bytes>), h2::Error>;

/// What the exchanges of one flow share.
pub(super) struct Context {
    shared: Arc<Shared>,
    facts: FlowFacts,
    /// What the address that the app dialled is called.
    learnt: Option<Arc<str>>,
    original: OrigDst,
    /// The destination of all exchanges, whatever host they are for.
    fixed: Option<Arc<Destination>>,
    /// Connections that live and die with the flow, for destinations that do not pool.
    own: Multiplexers,
    /// Taken by the first exchange.
    early: Mutex<Option<Early>>,
    /// A server of this flow takes extended CONNECT: it may be offered to the app (RFC 8441).
    extended_connect: Notify,
    /// Who waits until what it has queued for the app is written, and the call for that.
    unwritten: Mutex<Vec<oneshot::Sender<()>>>,
    write: Notify,
    /// What the first server of this flow says of it is noted for other flows. Once is enough: it takes a lock that all share.
    noted: AtomicBool,
}

impl Context {
    /// The context of a flow to `original`, whose first exchange may take `early`.
    pub(super) fn new(shared: &Arc<Shared>, flow: &FlowRecord, original: OrigDst, early: Early) -> Self {
        Self {
            fixed: None,
            shared: Arc::clone(shared),
            facts: flow.facts(),
            learnt: flow.host.clone(),
            original,
            own: Multiplexers::new(shared.telemetry.clone(), shared.config.clone()),
            early: Mutex::new(Some(early)),
            extended_connect: Notify::new(),
            unwritten: Mutex::default(),
            write: Notify::new(),
            noted: AtomicBool::new(false),
        }
    }

    /// The server at `address` has said whether it takes extended CONNECT.
    fn note_extended_connect(&self, address: SocketAddr, takes: bool) {
        if takes {
            self.extended_connect.notify_one();
        }
        if !self.noted.swap(true, Ordering::Relaxed) {
            self.shared.learnt.note_extended_connect(address, takes);
        }
    }

    /// Returns when everything that was queued for an HTTP/2 app is written, as far as the app takes it. h2 throws away what
    /// it has not written of a stream that is reset, and does not tell when it has.
    async fn written(&self) {
        let (told, written) = oneshot::channel();
        lock(&self.unwritten).push(told);
        self.write.notify_one();
        // It is told by letting go of.
        let _ = written.await;
    }
}

/// Serves an HTTP/2 flow to its end.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    app: Leg,
    early: Early,
    original: OrigDst,
    fixed: Option<Arc<Destination>>,
    flow: &mut FlowRecord,
) {
    // Boxed, and given back in a box: what waits for requests holds no room for the handshake that went before.
    let is_known = early.endpoint().is_some_and(|endpoint| shared.learnt.takes_extended_connect(endpoint));
    let Some((mut connection, wire)) = Box::pin(handshake(shared, app, is_known, flow)).await else { return };
    let mut offer = if is_known { Offer::Made } else { Offer::Unwanted };
    let context = Arc::new(Context { fixed, ..Context::new(shared, flow, original, early) });
    let mut exchanges = JoinSet::new();
    // The stage at which something is to be said to the app, until all is said.
    let (mut next, mut ended) = (Stage::HandedOver, false);
    // Shared by futures of one task: it orders nothing.
    let open = AtomicUsize::new(0);
    let is_busy = || open.load(Ordering::Relaxed) > 1;
    let streams = async {
        loop {
            open.store(exchanges.len(), Ordering::Relaxed);
            let is_idle = exchanges.is_empty();
            tokio::select! {
                accepted = poll_fn(|cx| {
                    let accepted = poll_accept(&mut connection, &context, &mut offer, cx);
                    // Nobody asks before that.
                    if shared.drain.has_reached(Stage::Draining) {
                        wire.note_streams(connection.has_streams());
                    }
                    accepted
                }) => match accepted {
                    Some(Ok((request, respond))) => {
                        let (head, body) = split(request);
                        let (body, respond) = (Incoming::Http2(body), Responder::Http2(respond));
                        let mut exchange = exchange::serve_stream(Arc::clone(&context), head, body, respond);
                        // Its first steps are taken here: requests go upstream in the order in which they came.
                        if poll_fn(|cx| Poll::Ready(exchange.as_mut().poll(cx).is_pending())).await {
                            exchanges.spawn(exchange);
                        }
                    }
                    Some(Err(error)) => break Err(error),
                    None => break Ok(()),
                },
                // What is to be done is done in `poll_accept`.
                () = context.write.notified() => {}
                () = context.extended_connect.notified(), if offer == Offer::Unwanted => offer = Offer::Wanted,
                Some(ended) = exchanges.join_next(), if !is_idle => report_panic(ended),
                () = ends(shared, &wire, next, is_idle), if !ended && (is_idle || next != Stage::Last) => {
                    match next {
                        Stage::Last => connection.abrupt_shutdown(Reason::NO_ERROR),
                        _ => connection.graceful_shutdown(),
                    }
                    ended = next == Stage::Last;
                    next = Stage::Last;
                }
            }
        }
    };
    let how = drive(&wire, is_busy, pin!(streams)).await;
    // Boxed, as the end is: they are of no concern to what waits.
    Box::pin(farewell(flow, how, exchanges)).await;
    Box::pin(io::close(&wire, &shared.drain)).await;
}

/// The app's connection is over. Where it broke under exchanges, each of them tells why, and the flow need not.
async fn farewell(flow: &mut FlowRecord, how: Result<(), h2::Error>, mut exchanges: JoinSet<()>) {
    while let Some(ended) = exchanges.try_join_next() {
        report_panic(ended);
    }
    match how {
        Ok(()) => {}
        Err(error) if exchanges.is_empty() || !error.is_io() => fail(flow, &error),
        // Their streams have the error already.
        Err(_) => _ = timeout(FAREWELL, all(&mut exchanges)).await,
    }
    // What does not look at its stream now is dropped. One that has just given the app its last frame may still be at
    // work on another thread: its record comes before that of the flow.
    exchanges.abort_all();
    all(&mut exchanges).await;
}

/// Returns when no exchange is left.
async fn all(exchanges: &mut JoinSet<()>) {
    while let Some(ended) = exchanges.join_next().await {
        report_panic(ended);
    }
}

/// What the app has been told of extended CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offer {
    Unwanted,
    Wanted,
    Made,
}

/// The next request of the app. Writes what is queued for it. Makes the offer that is wanted as soon as it can be made: h2 takes
/// no further settings until the app has acknowledged those before, which it sees in here.
fn poll_accept(
    connection: &mut AppConnection,
    context: &Context,
    offer: &mut Offer,
    cx: &mut task::Context<'_>,
) -> Poll<Option<Accepted>> {
    let waiting = std::mem::take(&mut *lock(&context.unwritten));
    let accepted = connection.poll_accept(cx);
    drop(waiting);
    if accepted.is_ready() || *offer != Offer::Wanted || connection.enable_connect_protocol().is_err() {
        return accepted;
    }
    *offer = Offer::Made;
    // Sends it.
    connection.poll_accept(cx)
}

/// Returns at the stage at which the app should go to another connection, or does without it: another process accepts, or all
/// is over. A connection that has no exchange is idle from when its app has all that it was answered: what the app says
/// once this process is gone (a window that it gives back) would be met by a reset, and the rest be lost.
async fn ends(shared: &Shared, wire: &Wire, stage: Stage, is_idle: bool) {
    let drain = &shared.drain;
    if !is_idle {
        return drain.reached(stage).await;
    }
    drain.reached(Stage::Draining).await;
    // Boxed: most connections see no drain.
    Box::pin(async {
        let may_say = || stage != Stage::Last && drain.has_reached(stage);
        while !may_say() && !wire.is_delivered() {
            sleep(DELIVERY_POLL).await;
        }
        drain.reached_while_idle(stage).await;
    })
    .await;
}

/// The app's connection, once its preface and our settings are exchanged. `offers`: extended CONNECT is among them.
async fn handshake(
    shared: &Arc<Shared>,
    app: Leg,
    offers: bool,
    flow: &mut FlowRecord,
) -> Option<(Box<AppConnection>, Wire)> {
    let (mut builder, limit) = {
        let config = shared.config.now();
        (server(&config.proxy), config.proxy.request_head_timeout)
    };
    let (io, wire) = Io::of_app(app, limit)?;
    if offers {
        builder.enable_connect_protocol();
    }
    match timeout(limit, drive(&wire, || false, pin!(builder.handshake(io)))).await {
        Ok(Ok(connection)) => return Some((Box::new(connection), wire)),
        Ok(Err(error)) => fail(flow, &error),
        Err(_) => flow.fail(Cause::RequestTimeout, None),
    }
    None
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn split(request: Request<RecvStream>) -> (Request<()>, RecvStream) {
    let (parts, body) = request.into_parts();
    (Request::from_parts(parts, ()), body)
}

/// Our side of the app's connection.
fn server(limits: &Proxy) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(u32::try_from(limits.max_h2_streams).unwrap_or(u32::MAX))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(head_limit(limits.max_head_bytes))
        .max_send_buffer_size(SEND_BUFFER);
    builder
}

/// The app's connection ended other than by agreement.
fn fail(flow: &mut FlowRecord, error: &h2::Error) {
    let cause = match error.get_io() {
        // A client that just closes, as many do, has ended all the same.
        Some(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return,
        Some(error) if is_late(error) => Cause::RequestTimeout,
        Some(error) => app_cause(error),
        None if error.is_go_away() && error.is_remote() => Cause::AppClosed,
        None => Cause::BadRequest,
    };
    flow.fail(cause, error.to_string());
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use dragoman_telemetry::{AccessLog, Telemetry};

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn an_exchange_that_is_at_work_is_over_before_its_flow() {
        let telemetry = Telemetry::new(vec!["default".into()], AccessLog::off());
        let mut flow = telemetry.flow("127.0.0.1:1".parse().unwrap());
        let (begins, begun) = oneshot::channel();
        let (lets_go, held) = mpsc::channel();
        let over = Arc::new(AtomicBool::new(false));
        let mut exchanges = JoinSet::new();
        let is_over = Arc::clone(&over);
        exchanges.spawn(async move {
            begins.send(()).unwrap();
            // It has its thread to itself: dropping it takes effect only where it waits.
            held.recv().unwrap();
            is_over.store(true, Ordering::Relaxed);
        });
        begun.await.unwrap();
        let mut end = pin!(farewell(&mut flow, Ok(()), exchanges));
        assert!(poll_fn(|cx| Poll::Ready(end.as_mut().poll(cx))).await.is_pending());
        lets_go.send(()).unwrap();
        end.await;
        assert!(over.load(Ordering::Relaxed));
    }
}
