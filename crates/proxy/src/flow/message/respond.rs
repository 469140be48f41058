//! The app's side of an exchange: what it is answered.

use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use dragoman_wire::http1::Version;
use h2::Reason;
use h2::server::SendResponse;
use http::Response;

use super::head::{ForApp, response_to_http1};
use super::http1_write::Http1Write;
use super::{Broke, Outgoing};
use crate::leg::Leg;

/// The way back to the app.
#[derive(Debug)]
pub(crate) enum Responder {
    Http1(Http1App),
    Http2(SendResponse<Bytes>),
}

/// An app that waits for its answer by HTTP/1.
#[derive(Debug)]
pub(crate) struct Http1App {
    leg: Arc<Leg>,
    about: ForApp,
    progress: Progress,
}

/// How far the answer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Not to its end: all that the app may be told is a reset.
    Torn,
    Whole,
}

impl Http1App {
    /// An app that sent a request of that version by `leg`, a HEAD or not.
    pub(crate) fn new(leg: Arc<Leg>, version: Version, keeps_alive: bool, to_head: bool) -> Self {
        Self { leg, about: ForApp { version, keeps_alive, to_head }, progress: Progress::Torn }
    }

    /// Whether the app got a whole answer, and whether it may send another request after it.
    pub(crate) fn outcome(&self) -> (bool, bool) {
        (self.progress == Progress::Whole, self.about.keeps_alive)
    }
}

impl Responder {
    /// Passes an interim answer on. An app that is gone shows in [`Self::gone`].
    pub(crate) async fn inform(&mut self, interim: Response<()>) {
        match self {
            // HTTP/1.0 does not know them.
            Self::Http1(app) if app.about.version == Version::Http10 => {}
            Self::Http1(app) => {
                let (head, framing, _) = response_to_http1(&interim, true, app.about);
                let _ = Http1Write::new(Arc::clone(&app.leg), &head, framing).flush().await;
            }
            Self::Http2(respond) => {
                let _ = respond.send_informational(interim);
            }
        }
    }

    /// The app's connection ends with this answer: what is left of the request is not waited for.
    pub(crate) fn last(&mut self) {
        if let Self::Http1(app) = self {
            app.about.keeps_alive = false;
        }
    }

    /// Begins the final answer; it is to be flushed. `ended`: it has no content and no trailers.
    pub(crate) fn answer(&mut self, response: Response<()>, ended: bool) -> Result<Outgoing, Broke> {
        match self {
            Self::Http1(app) => Ok(Outgoing::Http1(app.answer(&response, ended))),
            Self::Http2(respond) => Ok(Outgoing::Http2(respond.send_response(response, ended)?)),
        }
    }

    /// The final answer was written to its end.
    pub(crate) fn done(&mut self) {
        if let Self::Http1(app) = self {
            app.progress = Progress::Whole;
        }
    }

    /// Returns when the app waits no longer: why, and the code by which it said so.
    pub(crate) async fn gone(&mut self) -> Broke {
        match self {
            Self::Http1(app) => app.leg.broken().await.into(),
            Self::Http2(respond) => Broke::reset(poll_fn(|cx| respond.poll_reset(cx)).await),
        }
    }

    /// Ends the exchange without an answer. The connection of an HTTP/1 app is reset by whoever holds it.
    pub(crate) fn reset(&mut self, reason: Reason) {
        if let Self::Http2(respond) = self {
            respond.send_reset(reason);
        }
    }
}

impl Http1App {
    fn answer(&mut self, response: &Response<()>, ended: bool) -> Http1Write {
        let (head, framing, closes) = response_to_http1(response, ended, self.about);
        self.about.keeps_alive &= !closes;
        Http1Write::new(Arc::clone(&self.leg), &head, framing)
    }
}
