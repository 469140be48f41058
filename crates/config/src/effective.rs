//! What a destination comes to once everything that it inherits is filled in.

use crate::{
    errors::Place,
    raw::{Connection, Destination, Exchange, Root, Route},
    table::Table,
    value::{
        collection::{Entry, Switch},
        word::Protocol,
    },
};

/// Keys that mean something for HTTP alone.
const HTTP_ONLY: [&str; 23] = [
    "upstream_protocol",
    "pool",
    "timeout",
    "try_timeout",
    "request_id",
    "trace",
    "headers",
    "response_headers",
    "response_time",
    "server_timing",
    "route",
    "breaker.statuses",
    "breaker.grpc_statuses",
    "retry.statuses",
    "retry.unprocessed_statuses",
    "retry.grpc_statuses",
    "retry.methods",
    "retry.idempotency_header",
    "retry.reset",
    "retry.timeout",
    "retry.refused",
    "retry.honour_retry_after",
    "retry.replay_bytes",
];

/// Keys that mean something for traffic that is let through.
const ALLOWED_ONLY: [&str; 16] = [
    "upstream_protocol",
    "endpoints",
    "connect_timeout",
    "breaker",
    "pool",
    "tls",
    "timeout",
    "try_timeout",
    "retry",
    "request_id",
    "trace",
    "headers",
    "response_headers",
    "response_time",
    "server_timing",
    "route",
];

/// Keys of `tls` that mean something where the server is verified.
const VERIFIED_ONLY: [&str; 4] = ["tls.roots", "tls.crls", "tls.pins", "tls.spiffe"];

/// A destination with what it inherits from `[defaults]`.
pub(crate) struct Effective<'a> {
    pub(crate) entry: &'a Entry<Destination>,
    pub(crate) table: Destination,
    /// Its routes, each with what it inherits from the destination.
    pub(crate) routes: Vec<Entry<Route>>,
}

/// Why a key has no effect, and which line says so.
pub(crate) struct Inert {
    pub(crate) text: &'static str,
    pub(crate) place: Option<Place>,
}

impl<'a> Effective<'a> {
    pub(crate) fn of(root: &Root, entry: &'a Entry<Destination>) -> Self {
        let defaults = root.defaults();
        let mut table = entry.table.clone();
        table.connection.inherit_keys(&defaults.connection);
        inherit_exchange(&mut table.exchange, &defaults.exchange);
        let mut routes = table.routes.route().0;
        for route in &mut routes {
            inherit_exchange(&mut route.table.exchange, &table.exchange);
            if let (Some(own), Switch::On(base)) = (&mut route.table.own.breaker, table.connection.breaker())
            {
                own.value.inherit_keys(&base);
            }
        }
        Self { entry, table, routes }
    }

    /// Why the key at this dotted path has no effect in this destination, if that is so.
    pub(crate) fn inert(&self, key: &str) -> Option<Inert> {
        let connection = &self.table.connection;
        let matches = &self.table.matches;
        if connection.deny() && ALLOWED_ONLY.contains(&key) {
            let place = connection.deny.as_ref().map(|deny| deny.place);
            return Some(Inert { text: "`deny = true` refuses the traffic", place });
        }
        let http_only = HTTP_ONLY.contains(&key);
        if connection.protocol() == Protocol::Opaque && http_only {
            let place = connection.protocol.as_ref().map(|protocol| protocol.place);
            return Some(Inert { text: "`protocol = \"opaque\"` does not look for HTTP", place });
        }
        if let (None, Some(sni)) = (&matches.hosts, &matches.sni)
            && (http_only || key == "tls")
        {
            let text = "`sni` without `hosts` matches TLS alone, which passes untouched";
            return Some(Inert { text, place: Some(sni.place) });
        }
        inert_tls(connection, key)
    }
}

/// Why the key at this dotted path says nothing about TLS beside the others, if that is so.
pub(crate) fn inert_tls(connection: &Connection, key: &str) -> Option<Inert> {
    let Some(Switch::On(tls)) = connection.tls.as_ref().map(|tls| &tls.value) else { return None };
    if let (Some(endpoints), "tls.port") = (&connection.endpoints, key) {
        return Some(Inert { text: "`endpoints` have ports of their own", place: Some(endpoints.place) });
    }
    if tls.danger_accept_any_certificate() && VERIFIED_ONLY.contains(&key) {
        let place = tls.danger_accept_any_certificate.as_ref().map(|danger| danger.place);
        return Some(Inert { text: "`danger_accept_any_certificate = true` verifies nothing", place });
    }
    None
}

/// An inherited `try_timeout` that is longer than the own `timeout` means no more than that.
fn inherit_exchange(own: &mut Exchange, base: &Exchange) {
    let states_try = own.try_timeout.is_some();
    own.inherit_keys(base);
    if let (false, Some(one), Some(all)) = (states_try, &mut own.try_timeout, &own.timeout)
        && one.value.0 > all.value.0
    {
        one.value.0 = all.value.0;
    }
}
