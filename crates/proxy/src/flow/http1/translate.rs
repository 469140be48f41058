//! An exchange of an HTTP/1 app with an endpoint that speaks HTTP/2: its messages are taken apart.

use std::sync::Arc;

use dragoman_telemetry::Cause;

use super::{Connection, End};
use crate::drain::Stage;
use crate::flow::http2::Context;
use crate::flow::http2::exchange;
use crate::flow::message::{Http1App, Http1Read, Incoming, Responder, request_from_http1};

impl Connection<'_> {
    /// Serves the exchange whose request head, of `length` bytes, stands at the front of the app's buffer. `Ok` means that
    /// the app may send another request.
    pub(super) async fn translate(&mut self, length: usize) -> Result<(), End> {
        let (head, bytes) = (&self.scratch.request, self.app.buf.bytes());
        let request = match request_from_http1(head, bytes, self.original.0) {
            Ok(request) => request,
            Err(what) => return Err(self.refuse_head(Cause::NotTranslated, Some(what.0.to_owned())).await),
        };
        let (version, asked_to_keep, body) = (head.version(), head.keeps_alive(), head.body());
        self.app.buf.consume(length);
        let mut leg = self.app.take();
        let buf = std::mem::take(&mut leg.buf);
        let leg = Arc::new(leg);
        let to_head = request.method() == http::Method::HEAD;
        let keeps = asked_to_keep && !self.shared.drain.has_reached(Stage::HandedOver);
        let app = Http1App::new(Arc::clone(&leg), version, keeps, to_head);
        let read = Http1Read::new(Arc::clone(&leg), buf, body);
        let context = self.context();
        let (body, respond) =
            exchange::serve(context, request, Incoming::Http1(read), Responder::Http1(app)).await;
        let (whole, keeps_alive) = match &respond {
            Responder::Http1(app) => app.outcome(),
            Responder::Http2(_) => (false, false),
        };
        drop(respond);
        let rest = match body {
            Incoming::Http1(read) => read.into_rest(),
            Incoming::Http2(_) => None,
        };
        // Nobody else holds it any more: the exchange is over.
        if let Some(leg) = Arc::into_inner(leg) {
            self.app = leg;
        }
        let all_read = rest.is_some();
        self.app.buf = rest.unwrap_or_default();
        match (whole, all_read && keeps_alive) {
            (false, _) => Err(End::Reset),
            (true, true) => Ok(()),
            (true, false) if all_read && !asked_to_keep && self.app.buf.is_empty() => Err(End::Close),
            (true, false) => Err(End::Linger),
        }
    }

    /// What the translated exchanges of this flow share.
    fn context(&mut self) -> Arc<Context> {
        let context = self.translated.get_or_insert_with(|| {
            let early = std::mem::take(&mut self.early);
            Arc::new(Context::new(self.shared, self.flow, self.original, early))
        });
        Arc::clone(context)
    }
}
