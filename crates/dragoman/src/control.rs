//! The surface that shows and changes things, for an operator on this machine.
//!
//! It is on loopback and on a Unix socket, so that two kinds of strangers are left. A web page in a browser of this
//! machine can make that browser ask here: a browser names the page's origin, or, where the page's name was bound to
//! 127.0.0.1 meanwhile, that name as the host; both are refused. And any local process can connect to loopback: there
//! nothing can be changed unless the configuration says so.

use std::net::IpAddr;
use std::sync::Arc;

use dragoman_config::Secrets;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{HOST, HeaderMap, ORIGIN};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::Semaphore;

use crate::admin::{self, Admin};
use crate::destinations;
use crate::explain::matching::Question;
use crate::flows;
use crate::flows::filter::Filter;
use crate::flows::follow::Stream;
use crate::logging::LogLevel;
use crate::surface::{Asker, Page, Surface, TEXT, page, response, wrong_method};
use crate::takeover::Giver;

/// The largest body that is read, in bytes; what is expected is one word.
const MAX_BODY: usize = 256;

/// What the surface shows and changes.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    pub(crate) admin: Admin,
    pub(crate) log_level: LogLevel,
    pub(crate) giver: Arc<Giver>,
    pub(crate) on_tcp: OnTcp,
    /// Leave to follow the flows, for a few at a time.
    pub(crate) followers: Arc<Semaphore>,
}

/// What may be changed over TCP, where anybody of this machine can ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnTcp {
    Nothing,
    /// The app may say that it is done.
    Quit,
    Everything,
}

impl OnTcp {
    pub(crate) fn of(config: &dragoman_config::Control) -> OnTcp {
        match (config.changes_on_tcp, config.quit_on_tcp) {
            (true, _) => OnTcp::Everything,
            (false, true) => OnTcp::Quit,
            (false, false) => OnTcp::Nothing,
        }
    }

    /// # Errors
    /// Why it is refused, and what to do.
    fn allow(self, path: &str) -> Result<(), &'static str> {
        match (self, path) {
            (OnTcp::Everything, _) | (OnTcp::Quit, QUIT) => Ok(()),
            (OnTcp::Nothing, QUIT) => Err(NO_QUIT_ON_TCP),
            _ => Err(ONLY_ON_SOCKET),
        }
    }
}

/// The most that follow the flows at a time.
pub(crate) const FOLLOWERS: usize = 8;

const PAGES: &str = "\
/config         the effective configuration, each value with where it came from
/destinations   what is known of each destination, in JSON; ?format=text for a table
/flows          what became of the latest flows and exchanges, in JSON; ?follow for those to come
/explain        what would be done for ?address=IP:PORT&method=GET&host=…&path=…, in JSON
/log-level      how much is logged; POST a level to change it
/announce       POST: the end of this pod has begun; the deadline of the drain counts from now, which begins later
/drain          POST: serve until no connection is at work, then end
/quitquitquit   POST: the application is gone; end as soon as no connection is at work
";

impl Surface for Control {
    async fn respond(&self, asker: Asker, request: Request<Incoming>) -> Response<Page> {
        if let Err(refusal) = refuse_browsers(asker, request.headers()) {
            return response(StatusCode::FORBIDDEN, TEXT, refusal);
        }
        let path = request.uri().path();
        let Some(allowed) = methods(path) else { return not_found() };
        let changes = request.method() == Method::POST;
        if !allowed.split(", ").any(|method| method == request.method().as_str()) {
            wrong_method(allowed)
        } else if !changes {
            self.show(path, request.uri().query()).await
        } else if asker == Asker::Tcp
            && let Err(refusal) = self.on_tcp.allow(path)
        {
            response(StatusCode::FORBIDDEN, TEXT, refusal)
        } else {
            self.change(asker, request).await
        }
    }
}

impl Control {
    async fn show(&self, path: &str, query: Option<&str>) -> Response<Page> {
        let proxy = self.admin.proxy.clone();
        match path {
            "/" => response(StatusCode::OK, TEXT, format!("dragoman\n{PAGES}{}", admin::PAGES)),
            "/config" => page(TEXT, move || proxy.policy().print(Secrets::Masked)).await,
            "/destinations" if query == Some("format=text") => {
                page(TEXT, move || destinations::table(&proxy.policy(), &proxy.destinations())).await
            }
            "/destinations" => {
                page(JSON, move || destinations::json(&proxy.policy(), &proxy.destinations())).await
            }
            "/flows" => self.flows(query.unwrap_or_default()).await,
            "/explain" => match Question::of_query(query.unwrap_or_default()) {
                Ok(question) => match question.ask(&proxy.policy()) {
                    Ok(matching) => response(
                        StatusCode::OK,
                        JSON,
                        serde_json::to_string(&matching).unwrap_or_default() + "\n",
                    ),
                    Err(error) => response(StatusCode::BAD_REQUEST, TEXT, error + "\n"),
                },
                Err(error) => response(StatusCode::BAD_REQUEST, TEXT, error + "\n"),
            },
            "/log-level" => response(StatusCode::OK, TEXT, format!("{}\n", self.log_level.get())),
            _ => self.admin.page(path).await.unwrap_or_else(not_found),
        }
    }

    async fn flows(&self, query: &str) -> Response<Page> {
        let telemetry = self.admin.telemetry.clone();
        let filter = match Filter::parse(query) {
            Ok(filter) => filter,
            Err(error) => return response(StatusCode::BAD_REQUEST, TEXT, error + "\n"),
        };
        if !filter.follow {
            let proxy = self.admin.proxy.clone();
            return page(JSON, move || flows::page(&telemetry, &proxy.policy(), &filter)).await;
        }
        let Ok(permit) = Arc::clone(&self.followers).try_acquire_owned() else {
            return response(StatusCode::SERVICE_UNAVAILABLE, TEXT, "as many follow already as may\n");
        };
        let Some(stream) = Stream::new(telemetry, filter, permit) else {
            return response(StatusCode::CONFLICT, TEXT, "the recorder is off (recorder.memory = 0)\n");
        };
        let mut answer = response(StatusCode::OK, "application/x-ndjson", "");
        *answer.body_mut() = Page::Stream(Box::new(stream));
        answer
    }

    async fn change(&self, asker: Asker, request: Request<Incoming>) -> Response<Page> {
        let path = request.uri().path();
        tracing::info!(by = %asker, path, "asked to change something");
        match path {
            TAKEOVER => self.giver.answer(asker, request),
            ANNOUNCE => {
                let left = self.admin.proxy.announce_end();
                tracing::info!(deadline = ?left, "the end is announced: its time counts from here");
                response(StatusCode::OK, TEXT, format!("announced: {} ms left\n", left.as_millis()))
            }
            DRAIN => {
                self.admin.proxy.drain();
                response(StatusCode::OK, TEXT, "draining\n")
            }
            QUIT => {
                self.admin.proxy.finish();
                response(StatusCode::OK, TEXT, "ending\n")
            }
            _ => self.set_log_level(request).await,
        }
    }

    async fn set_log_level(&self, request: Request<Incoming>) -> Response<Page> {
        let Ok(body) = Limited::new(request.into_body(), MAX_BODY).collect().await else {
            return response(StatusCode::PAYLOAD_TOO_LARGE, TEXT, "the body is one word\n");
        };
        let body = body.to_bytes();
        match self.log_level.set(String::from_utf8_lossy(&body).trim()) {
            Ok(()) => response(StatusCode::OK, TEXT, format!("{}\n", self.log_level.get())),
            Err(refusal) => response(StatusCode::BAD_REQUEST, TEXT, format!("{refusal}\n")),
        }
    }
}

/// Where one process asks another for its listeners; see [`crate::takeover`].
pub(crate) const TAKEOVER: &str = "/takeover";

/// Where a hook says that the end of its pod has begun.
pub(crate) const ANNOUNCE: &str = "/announce";
/// Where a drain is asked for.
pub(crate) const DRAIN: &str = "/drain";
/// Where the app says that it is gone.
pub(crate) const QUIT: &str = "/quitquitquit";

/// What may be asked of each page.
fn methods(path: &str) -> Option<&'static str> {
    match path {
        "/" | "/config" | "/destinations" | "/flows" | "/explain" | "/live" | "/ready" | "/metrics" => {
            Some("GET, HEAD")
        }
        "/log-level" => Some("GET, HEAD, POST"),
        ANNOUNCE | DRAIN | QUIT | TAKEOVER => Some("POST"),
        _ => None,
    }
}

const JSON: &str = "application/json";

const ONLY_ON_SOCKET: &str = "\
nothing is changed over TCP: ask through control.socket (curl --unix-socket PATH http://localhost/…), or set \
control.changes_on_tcp
";

const NO_QUIT_ON_TCP: &str = "\
/quitquitquit is not allowed over TCP: set control.quit_on_tcp, or ask through control.socket
";

fn not_found() -> Response<Page> {
    response(StatusCode::NOT_FOUND, TEXT, "no such page; / lists them\n")
}

/// Refuses what a browser sends on behalf of a page of somebody else's.
///
/// # Errors
/// Why it is refused.
fn refuse_browsers(asker: Asker, headers: &HeaderMap) -> Result<(), &'static str> {
    if headers.contains_key(ORIGIN) || headers.contains_key("sec-fetch-site") {
        return Err("not for web pages\n");
    }
    // No browser speaks to a Unix socket, and other clients put anything there.
    if asker != Asker::Tcp {
        return Ok(());
    }
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next().and_then(|host| host.to_str().ok()), hosts.next()) {
        (Some(host), None) if is_loopback(host) => Ok(()),
        _ => Err("not for this host: ask for localhost or the address itself\n"),
    }
}

/// Whether a Host header names loopback itself rather than something that may resolve to it.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(asker: Asker, headers: &[(&'static str, &'static str)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        refuse_browsers(asker, &map).is_ok()
    }

    #[test]
    fn a_host_that_is_a_name_of_somebody_elses_is_refused() {
        for host in ["localhost", "LOCALHOST:15000", "127.0.0.1", "127.9.9.9:1", "[::1]:15000", "[::1]"] {
            assert!(judge(Asker::Tcp, &[("host", host)]), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:15000",
            "localhost.evil",
            "",
            ":15000",
            "10.0.0.1",
            "[::2]:1",
            "127.1",
        ] {
            assert!(!judge(Asker::Tcp, &[("host", host)]), "{host}");
            assert!(judge(Asker::Unix(None), &[("host", host)]), "{host}");
        }
        assert!(!judge(Asker::Tcp, &[]));
        assert!(!judge(Asker::Tcp, &[("host", "localhost"), ("host", "evil.example")]));
    }

    #[test]
    fn whatever_a_page_asks_is_refused() {
        for header in
            [("origin", "http://localhost:15000"), ("origin", "null"), ("sec-fetch-site", "same-site")]
        {
            assert!(!judge(Asker::Tcp, &[("host", "localhost"), header]));
            assert!(!judge(Asker::Unix(Some(0)), &[("host", "localhost"), header]));
        }
    }
}
