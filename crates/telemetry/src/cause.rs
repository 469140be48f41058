//! The closed vocabulary of causes: why a flow or an exchange did not end well.
//!
//! One table drives everything that names a cause: this enum, the `cause` label of the metrics, the `cause`
//! key of the access log, the `x-dragoman-cause` header of answers that dragoman made, and `docs/causes.md`.
//! A person who meets a word in one place finds the same word in all others.

use crate::labels::{Outcome, labels};

labels! {
    /// Who ended it.
    Who {
        /// The application that dragoman serves.
        App = "app",
        /// The server at the other side.
        Upstream = "upstream",
        /// dragoman itself, by policy or by a limit of its own.
        Dragoman = "dragoman",
        /// The way between dragoman and one of the two.
        Network = "network",
    }
}

/// What the application sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// An HTTP answer made by dragoman, with this status and the header `x-dragoman-cause`.
    Status(u16),
    /// The connection is reset (RST).
    Reset,
    /// The connection is closed (FIN).
    Close,
    /// The server's own answer, as it came.
    Forwarded,
    /// Nothing: the application has gone already.
    Gone,
}

/// Builds the enum and its accessors from the table.
macro_rules! causes {
    ($($variant:ident $name:literal, $exchange:expr, $flow:expr, $who:ident, $outcome:ident, $about:literal;)+) => {
        /// Why a flow or an exchange did not end well. See `docs/causes.md`, which is made from the same
        /// table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Cause { $(#[doc = $about] $variant,)+ }

        impl Cause {
            /// Every cause, in the order of the documentation.
            pub const ALL: &[Cause] = &[$(Cause::$variant,)+];

            /// The word for it in metrics, log, header and documentation.
            pub const fn as_str(self) -> &'static str {
                match self { $(Cause::$variant => $name,)+ }
            }

            /// What the application sees when an HTTP exchange ends so before the head of its response was
            /// sent; later nothing but a reset or a close is left. `None`: it does not happen to an exchange.
            pub const fn on_exchange(self) -> Option<Effect> {
                use Effect::{Forwarded, Gone, Reset, Status};
                match self { $(Cause::$variant => $exchange,)+ }
            }

            /// What the application sees when a flow ends so outside of HTTP. `None`: it does not happen
            /// there.
            pub const fn on_flow(self) -> Option<Effect> {
                use Effect::{Close, Gone, Reset};
                match self { $(Cause::$variant => $flow,)+ }
            }

            /// Who ended it.
            pub const fn who(self) -> Who {
                match self { $(Cause::$variant => Who::$who,)+ }
            }

            /// What it says about the endpoint: only [`Outcome::Failure`] counts for the breaker.
            pub const fn outcome(self) -> Outcome {
                match self { $(Cause::$variant => Outcome::$outcome,)+ }
            }

            /// One sentence for a person.
            pub const fn about(self) -> &'static str {
                match self { $(Cause::$variant => $about,)+ }
            }
        }
    };
}

#[rustfmt::skip]
causes! {
    // Before anything is dialled.
    OwnListener           "own_listener",            None, Some(Reset), App, Local,
        "The application dialled a port that dragoman itself listens on; passing it on would be a loop.";
    NoOriginalDestination "no_original_destination", None, Some(Reset), Dragoman, Local,
        "The kernel could not say where the connection was going: it was not redirected, or its conntrack entry is gone.";
    Denied                "denied",                  Some(Status(403)), Some(Reset), Dragoman, Local,
        "The destination's policy says `deny = true`.";
    CredentialWithheld    "credential_withheld",     Some(Status(403)), None, Dragoman, Local,
        "Policy sets a header with a credential, and the original destination is outside of `danger_plain_text_credentials`.";
    FlowLimit             "flow_limit",              None, Some(Reset), Dragoman, Local,
        "`proxy.max_flows` flows were open already.";
    DescriptorsExhausted  "descriptors_exhausted",   Some(Status(503)), Some(Reset), Dragoman, Local,
        "The process or the system had no file descriptor left; raise the limit (`ulimit -n`).";
    UnexpectedProtocol    "unexpected_protocol",     None, Some(Reset), App, Local,
        "The destination is declared `protocol = \"http\"` and the first bytes were something else.";
    BreakerOpen           "breaker_open",            Some(Status(503)), Some(Reset), Dragoman, Local,
        "The circuit breaker of the endpoint is open; nothing was dialled.";

    // Connections that come to the app.
    ClientNotTls          "client_not_tls",          None, Some(Reset), App, Local,
        "A client outside spoke something else than TLS to a port of the app whose `mode` is `strict`.";
    ClientNoCertificate   "client_no_certificate",   None, Some(Close), App, Local,
        "A client outside has presented no certificate; it was told so by a TLS alert.";
    ClientNotTrusted      "client_not_trusted",      None, Some(Close), App, Local,
        "The certificate of a client outside has expired or is not valid yet, is signed by none of `inbound.roots`, is revoked, or cannot be used otherwise; the log's `detail` says which, with the times.";
    ClientNotAllowed      "client_not_allowed",      None, Some(Close), App, Local,
        "A client outside is none of those that `allow` has for this port of the app; the log's `detail` says who it is.";
    ClientTlsFailed       "client_tls_failed",       None, Some(Close), App, Local,
        "No TLS could be agreed on with a client outside: what it says is not TLS or breaks its rules, it has no version or protocol that we allow, it does not accept our certificate, or it went away.";

    // Connecting.
    ConnectRefused        "connect_refused",         Some(Status(503)), Some(Reset), Upstream, Failure,
        "The server's host answered that nothing listens on the port (ECONNREFUSED).";
    ConnectTimeout        "connect_timeout",         Some(Status(503)), Some(Reset), Network, Failure,
        "No answer to the connection attempt within `connect_timeout`.";
    ConnectUnreachable    "connect_unreachable",     Some(Status(503)), Some(Reset), Network, Failure,
        "There is no route to the server (EHOSTUNREACH, ENETUNREACH).";
    ConnectReset          "connect_reset",           Some(Status(503)), Some(Reset), Upstream, Failure,
        "The connection was reset while it was being made (ECONNRESET).";
    PortsExhausted        "ports_exhausted",         Some(Status(503)), Some(Reset), Dragoman, Local,
        "No local port was left for a connection to this server (EADDRNOTAVAIL).";
    ConnectFailed         "connect_failed",          Some(Status(503)), Some(Reset), Network, Failure,
        "The connection could not be made for another reason; the log's `detail` has the system's words.";
    PoolFull              "pool_full",               Some(Status(503)), None, Dragoman, Local,
        "The endpoint had `pool.max_size` connections, and none of them became free within `connect_timeout`.";

    // TLS towards the server.
    TlsExpired            "tls_certificate_expired", Some(Status(503)), Some(Reset), Upstream, Failure,
        "The server's certificate, or one that signed it, has expired; the log's `detail` has the times, and by how much.";
    TlsNotYetValid        "tls_certificate_not_yet_valid", Some(Status(503)), Some(Reset), Upstream, Failure,
        "The server's certificate, or one that signed it, is not valid yet; the log's `detail` has the times, and by how much. A clock may be wrong.";
    TlsWrongName          "tls_wrong_name",          Some(Status(503)), Some(Reset), Upstream, Failure,
        "The server's certificate is for other names than the one that was asked for.";
    TlsUnknownCa          "tls_unknown_ca",          Some(Status(503)), Some(Reset), Upstream, Failure,
        "The server's certificate is signed by none of the destination's `tls.roots`.";
    TlsRevoked            "tls_certificate_revoked", Some(Status(503)), Some(Reset), Upstream, Failure,
        "The server's certificate is on one of the revocation lists of `tls.crls`, or none of these tells of it.";
    TlsWrongIdentity      "tls_wrong_identity",      Some(Status(503)), Some(Reset), Upstream, Failure,
        "The server's certificate has none of the SPIFFE IDs of `tls.spiffe`.";
    TlsWrongPin           "tls_wrong_pin",           Some(Status(503)), Some(Reset), Upstream, Failure,
        "No key in the chain of the server's certificate is one of `tls.pins`.";
    TlsBadCertificate     "tls_bad_certificate",     Some(Status(503)), Some(Reset), Upstream, Failure,
        "The server's certificate cannot be used for another reason: it cannot be read, or is not for servers; the log's `detail` says which.";
    TlsVersion            "tls_version",             Some(Status(503)), Some(Reset), Upstream, Failure,
        "The server speaks no version of TLS that policy allows (`tls.min_version`), or has no parameters in common with us.";
    TlsNoAlpn             "tls_no_alpn",             Some(Status(503)), Some(Reset), Upstream, Failure,
        "The server did not agree (ALPN) to the version of HTTP that is needed.";
    TlsClientRefused      "tls_client_certificate_refused", Some(Status(503)), Some(Reset), Upstream, Failure,
        "The server did not accept our certificate, or wants one and policy has none for it (`identity`, `tls.identity`).";
    TlsTimeout            "tls_timeout",             Some(Status(503)), Some(Reset), Upstream, Failure,
        "The TLS handshake was not done within `connect_timeout`.";
    TlsClosed             "tls_closed",              Some(Status(503)), Some(Reset), Upstream, Failure,
        "The server ended the connection in the middle of the TLS handshake.";
    TlsFailed             "tls_failed",              Some(Status(503)), Some(Reset), Upstream, Failure,
        "What the server said is not TLS, or breaks its rules; the log's `detail` has more.";
    TlsTruncated          "tls_truncated",           Some(Status(502)), Some(Reset), Upstream, Failure,
        "The connection ended without TLS's own end (close_notify): somebody on the way may have cut it, so what came is not taken for all.";

    // The application's request.
    BadRequest            "bad_request",             Some(Status(400)), None, App, Local,
        "The request breaks the rules of HTTP/1.1 in a way that two readers could take differently; nothing of it was sent on.";
    HeadTooLarge          "head_too_large",          Some(Status(431)), None, App, Local,
        "The request head is longer than `proxy.max_head_bytes` or has more than `proxy.max_headers` fields.";
    NotTranslated         "not_translated",          Some(Status(501)), None, Dragoman, Local,
        "The request uses what the endpoint's version of HTTP has no words for (`upstream_protocol`): CONNECT, or bytes that HTTP/2 does not allow. Or a client asks the app for a tunnel by HTTP/1 (CONNECT, `[inbound]`): whatever it says of itself in there would be believed.";
    RequestTimeout        "request_timeout",         Some(Status(408)), Some(Reset), App, Local,
        "The request head, or another first message, was not complete within `proxy.request_head_timeout`, or the application was silent for `proxy.request_body_timeout` inside a request body.";
    AppClosed             "app_closed",              Some(Gone), Some(Gone), App, Local,
        "The application closed its connection before the end.";
    AppReset              "app_reset",               Some(Gone), Some(Gone), App, Local,
        "The application reset its connection.";
    AppLost               "app_lost",                Some(Gone), Some(Gone), Network, Local,
        "The application no longer acknowledged anything (keepalive or TCP_USER_TIMEOUT, ETIMEDOUT).";

    // The server's answer.
    UpstreamReset         "upstream_reset",          Some(Status(502)), Some(Reset), Upstream, Failure,
        "The server reset the connection.";
    UpstreamClosed        "upstream_closed",         Some(Status(502)), Some(Close), Upstream, Failure,
        "The server closed the connection before its response was whole.";
    UpstreamLost          "upstream_lost",           Some(Status(502)), Some(Reset), Network, Failure,
        "The server no longer acknowledged anything on an established connection (keepalive or TCP_USER_TIMEOUT, ETIMEDOUT).";
    BadResponse           "bad_response",            Some(Status(502)), None, Upstream, Failure,
        "The response breaks the rules of HTTP/1.1; nothing of it was passed on.";
    ResponseTooLarge      "response_too_large",      Some(Status(502)), None, Upstream, Failure,
        "The response head is longer than `proxy.max_head_bytes` or has more than `proxy.max_headers` fields.";
    UpstreamStatus        "upstream_status",         Some(Forwarded), None, Upstream, Failure,
        "The server answered with a 5xx status, which was passed on as it came.";
    TryTimeout            "try_timeout",             Some(Status(504)), None, Upstream, Failure,
        "The last attempt had no response head within `try_timeout`.";
    Timeout               "timeout",                 Some(Status(504)), None, Upstream, Failure,
        "The exchange, with all its attempts, was not done within `timeout`.";

    // dragoman's own end.
    DrainDeadline         "drain_deadline",          Some(Reset), Some(Reset), Dragoman, Local,
        "dragoman was told to end, and this was still open when `proxy.drain` had passed, or at the second signal.";
    Internal              "internal",                Some(Reset), Some(Reset), Dragoman, Local,
        "A defect in dragoman ended this flow; the process log has the panic. Please report it.";
}

impl Cause {
    /// The status of the HTTP answer that dragoman makes for it, if it makes one.
    pub const fn status(self) -> Option<u16> {
        match self.on_exchange() {
            Some(Effect::Status(status)) => Some(status),
            _ => None,
        }
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
