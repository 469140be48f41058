//! The read-only admin surface: `/live`, `/ready`, `/metrics`.
//!
//! kubelet and Prometheus reach it, and so may the application and others in the pod; so it shows no secret and
//! changes nothing.

use dragoman_proxy::{Handle, Phase};
use dragoman_telemetry::Telemetry;
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};

use crate::surface::{Asker, Page, Surface, TEXT, page, response, wrong_method};

/// What the surface shows.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    pub(crate) telemetry: Telemetry,
    pub(crate) proxy: Handle,
}

/// Its pages, each with what it shows, for `/`.
pub(crate) const PAGES: &str = "\
/live     200 while the process runs
/ready    200 once connections are accepted, 503 from the beginning of a drain
/metrics  Prometheus text format
";

impl Admin {
    /// The page at `path`, if it is one of these.
    pub(crate) async fn page(&self, path: &str) -> Option<Response<Page>> {
        Some(match path {
            "/live" => response(StatusCode::OK, TEXT, "live\n"),
            "/ready" => {
                let (status, word) = readiness(self.proxy.phase());
                response(status, TEXT, word)
            }
            "/metrics" => {
                let telemetry = self.telemetry.clone();
                page(EXPOSITION, move || telemetry.render()).await
            }
            _ => return None,
        })
    }
}

impl Surface for Admin {
    async fn respond(&self, _: Asker, request: Request<Incoming>) -> Response<Page> {
        let page = match request.uri().path() {
            "/" => Some(response(StatusCode::OK, TEXT, format!("dragoman\n{PAGES}"))),
            path => self.page(path).await,
        };
        match page {
            None => response(StatusCode::NOT_FOUND, TEXT, "no such page; / lists them\n"),
            Some(_) if !matches!(*request.method(), Method::GET | Method::HEAD) => wrong_method("GET, HEAD"),
            Some(page) => page,
        }
    }
}

const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

fn readiness(phase: Phase) -> (StatusCode, &'static str) {
    match phase {
        Phase::Serving => (StatusCode::OK, "ready\n"),
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Phase::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        Phase::HandedOver => (StatusCode::SERVICE_UNAVAILABLE, "handed over\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_proxy_that_serves_with_no_end_in_sight_is_ready() {
        for phase in [Phase::Starting, Phase::Serving, Phase::Draining, Phase::HandedOver] {
            assert_eq!(readiness(phase).0.is_success(), phase == Phase::Serving, "{phase:?}");
        }
    }
}
