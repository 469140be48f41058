//! The end of an exchange: the server's response, or an answer of our own.

use std::time::Duration;

use dragoman_telemetry::{Cause, Effect};
use dragoman_wire::http1::{Known, ResponseHead, list};

use super::connect::Upstream;
use super::download::{Download, finish_upload, forward};
use super::exchange::{Shape, is_connection_auth};
use super::request::write_field;
use super::scratch::Storage;
use super::upload::Upload;
use super::{Connection, End, answer};
use crate::flow::exchange::plan::Plan;
use crate::flow::exchange::response::Changes;
use crate::flow::exchange::tries::{Failed, conclude};
use crate::upstream::state::Pass;

/// What an answer of our own must know about the request.
#[derive(Clone, Copy)]
pub(super) struct Answer {
    keep_alive: bool,
    to_head: bool,
}

impl Answer {
    /// The last answer on this connection.
    pub(super) const LAST: Self = Self { keep_alive: false, to_head: false };
}

impl Connection<'_> {
    /// Passes the response on, whose head of `length` bytes stands in the upstream's buffer.
    pub(super) async fn respond(
        &mut self,
        plan: &Plan,
        shape: &Shape,
        mut upstream: Upstream,
        length: usize,
        upload: &mut Upload<'_>,
        pass: Option<Pass>,
    ) -> Result<(), End> {
        upload.stop_keeping();
        upload.leave_given();
        let status = self.scratch.response.status();
        let method = upload.method();
        if status == 101 && !shape.upgrades {
            let failed = Failed::here(Cause::BadResponse, "an upgrade that was not asked for");
            conclude(pass, Some(&failed), &mut self.scratch.record);
            self.keep_unread(plan, upstream, upload, &failed);
            return self.give_up(plan, shape, Some(upload), failed).await;
        }
        let tunnel = status == 101 || shape.is_connect && (200..300).contains(&status);
        self.pinned |= asks_for_connection_auth(&self.scratch.response, upstream.leg.buf.bytes());
        let body = self.scratch.response.body_for(method);
        let mut incoming = std::mem::take(&mut self.scratch.incoming);
        incoming.clear();
        let rewritten = self.rewrite(plan, shape, &upstream, &mut incoming, tunnel).then_some(&*incoming);
        let mut download = match Download::new(&mut upstream.leg.buf, length, rewritten, body) {
            Ok(download) => download,
            Err(bad) => {
                let failed = Failed::here(Cause::BadResponse, bad.0);
                conclude(pass, Some(&failed), &mut self.scratch.record);
                self.keep_unread(plan, upstream, upload, &failed);
                return self.give_up(plan, shape, Some(upload), failed).await;
            }
        };
        if !shape.app_keeps_alive && upload.is_done() && !tunnel {
            download.close_after();
        }
        let record = &mut self.scratch.record;
        record.status = Some(status);
        if status >= 500 {
            record.fail(Cause::UpstreamStatus, None);
        }
        let until = plan.whole_limit();
        let result = forward(&mut self.app, &mut upstream.leg, upload, &mut download, until, record).await;
        let by_framing = download.ended_by_framing();
        self.scratch.incoming = incoming;
        conclude(pass, result.as_ref().err(), &mut self.scratch.record);
        if let Err(failed) = result {
            self.keep_unread(plan, upstream, upload, &failed);
            return Err(self.tear(failed));
        }
        if tunnel {
            return Err(End::Tunnel(upstream));
        }
        if !upload.is_done() && status < 400 && self.scratch.response.keeps_alive() {
            finish_upload(&mut self.app, &mut upstream.leg, upload, until, &mut self.scratch.record).await;
        }
        self.release(plan, shape, upstream, upload, by_framing);
        let keeps_alive = by_framing && self.scratch.response.keeps_alive() && shape.app_keeps_alive;
        match (upload.is_done(), keeps_alive) {
            (true, true) => Ok(()),
            // The app asked for it, and has said all it wanted to say.
            (true, false) if !self.scratch.request.keeps_alive() && self.app.buf.is_empty() => {
                Err(End::Close)
            }
            _ => Err(End::Linger),
        }
    }

    /// Writes the head as policy changes it. Whether the head in `out` is to be sent instead of the server's.
    fn rewrite(
        &self,
        plan: &Plan,
        shape: &Shape,
        upstream: &Upstream,
        out: &mut Vec<u8>,
        tunnel: bool,
    ) -> bool {
        let (response, bytes) = (&self.scratch.response, upstream.leg.buf.bytes());
        let changes = Changes::new(&plan.policy.response, || upstream.spent(plan.started));
        // The app asked for the end of its connection, and the upstream connection was kept alive: the app is told what
        // it asked for.
        let closes =
            !shape.app_keeps_alive && shape.upstream_keeps_alive && !tunnel && !response.connection().close;
        if changes.is_none() && !closes {
            return false;
        }
        response.copy_without(out, bytes, |field| {
            let replaced = closes
                && match field.known {
                    Known::KeepAlive => true,
                    Known::Connection => {
                        list(field.value.of(bytes)).any(|item| item.eq_ignore_ascii_case(b"keep-alive"))
                    }
                    _ => false,
                };
            replaced || changes.is_some_and(|changes| changes.drops(field.name.of(bytes)))
        });
        if let Some(changes) = changes {
            changes.write(|name, value| write_field(out, name, value));
        }
        if closes {
            write_field(out, "Connection", b"close");
        }
        out.extend_from_slice(b"\r\n");
        true
    }

    /// Where nothing of policy holds, what is not understood of a response is passed on as it came, and so is everything
    /// that follows on either side: an app may well read what we refuse to (bare LFs, ICY, HTTP/0.9). The connection is kept
    /// for that, with what the server said on it. Not where a name could still decide: the app's next request might be
    /// for a host that policy denies.
    pub(super) fn keep_unread(
        &mut self,
        plan: &Plan,
        mut upstream: Upstream,
        upload: &Upload<'_>,
        failed: &Failed,
    ) {
        let unread =
            matches!(failed.cause, Cause::BadResponse | Cause::ResponseTooLarge | Cause::UpstreamClosed);
        // The rest of the request's body stands in the app's buffer, but the rest of its head does not.
        let can_go_on = upload.head_is_sent() && !upstream.leg.buf.is_empty();
        if plan.destination.observe_only && unread && can_go_on {
            let no_name_decides = !self.shared.config.now().by_address(self.original.0, None).name_may_decide;
            upstream.unread = true;
            self.kept = no_name_decides.then(|| Box::new(upstream));
        }
    }

    /// After the head was forwarded, only the end of the connection can tell that something is wrong.
    fn tear(&mut self, failed: Failed) -> End {
        let closed = failed.cause == Cause::UpstreamClosed;
        self.scratch.record.cause = None;
        self.scratch.record.fail(failed.cause, failed.detail);
        if let Some(kept) = self.kept.take_if(|kept| kept.unread) {
            return End::Tunnel(*kept);
        }
        if closed { End::Close } else { End::Reset }
    }

    /// Ends an exchange that no server answered.
    pub(super) async fn give_up(
        &mut self,
        plan: &Plan,
        shape: &Shape,
        upload: Option<&mut Upload<'_>>,
        failed: Failed,
    ) -> Result<(), End> {
        let Failed { cause, detail, retry_after, torn, .. } = failed;
        self.scratch.record.fail(cause, detail.clone());
        if torn {
            return Err(End::Reset);
        }
        if let Some(kept) = self.kept.take_if(|kept| kept.unread) {
            return Err(End::Tunnel(*kept));
        }
        if plan.destination.observe_only
            && let Some(end) = as_without_us(cause)
        {
            return Err(end);
        }
        match cause.on_exchange() {
            Some(Effect::Status(_)) => {}
            _ if cause == Cause::AppClosed => return Err(End::Close),
            _ => return Err(End::Reset),
        }
        let to_head = upload.as_ref().is_some_and(|upload| upload.method() == "HEAD");
        let all_came = upload.is_some_and(|upload| upload.discard(&mut self.app.buf));
        // An HTTP/1.0 app takes the end of the connection for the end of the answer, unless it is told otherwise.
        let keep_alive = all_came && shape.app_keeps_alive && !shape.is_http10 && cause != Cause::BadRequest;
        self.answer(cause, detail.as_deref(), retry_after, Answer { keep_alive, to_head }).await;
        if keep_alive { Ok(()) } else { Err(End::Linger) }
    }

    /// Writes an answer of our own.
    pub(super) async fn answer(
        &mut self,
        cause: Cause,
        detail: Option<&str>,
        retry_after: Option<Duration>,
        about: Answer,
    ) {
        let Storage { incoming: out, record, .. } = &mut *self.scratch;
        out.clear();
        let status = answer::write(out, cause, detail, retry_after, about.keep_alive, about.to_head);
        // An app that is gone shows when it is read.
        if self.app.write_all(out).await.is_ok() {
            record.bytes_to_app += out.len() as u64;
        }
        record.status = Some(status);
    }
}

/// Whether the server begins an authentication that belongs to the connection rather than to the request (RFC 4559).
pub(in crate::flow) fn asks_for_connection_auth(response: &ResponseHead, bytes: &[u8]) -> bool {
    response.fields().iter().any(|field| {
        matches!(field.known, Known::WwwAuthenticate | Known::ProxyAuthenticate)
            && is_connection_auth(field.value.of(bytes))
    })
}

/// How the app would have met this failure without dragoman, where the connection alone tells of it.
fn as_without_us(cause: Cause) -> Option<End> {
    match cause {
        Cause::UpstreamClosed => Some(End::Close),
        Cause::UpstreamReset
        | Cause::UpstreamLost
        | Cause::ConnectRefused
        | Cause::ConnectTimeout
        | Cause::ConnectUnreachable
        | Cause::ConnectReset
        | Cause::ConnectFailed => Some(End::Reset),
        _ => None,
    }
}
