//! What the proxy works with: resolved, complete and free of contradictions.

mod tls;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use dragoman_policy::{BreakerParams, GrpcStatusSet, RetryParams, StatusSet};
use ipnet::IpNet;

pub use self::tls::{
    IdentityFiles, Inbound, InboundPort, Origination, PeerPattern, RootSource, TlsVersion, Verify,
};
pub use crate::value::word::{Access, Format, Level, Propagation, Protocol, UpstreamProtocol};
use crate::{route::index::RouteIndex, select::DestinationMatch};

/// The listener of captured connections, and the limits of the process.
#[derive(Clone, Debug, PartialEq)]
pub struct Proxy {
    /// The addresses to listen on, each with each of the ports; never empty.
    pub listen: Vec<SocketAddr>,
    /// The first port that captured connections are redirected to; never 0.
    pub port: u16,
    /// How many ports there are, in a row; at least 1.
    pub port_count: u16,
    /// The mark (`SO_MARK`) of each connection that the proxy opens; never 0.
    pub mark: Option<u32>,
    /// Threads that serve flows; 0 leaves the choice to the proxy.
    pub workers: usize,
    /// The most flows at once; at least 1.
    pub max_flows: usize,
    /// How long flows, old and new, may go on once the end has been announced, or has begun.
    pub drain: Duration,
    /// How long no flow must have been at work for a drain to end early.
    pub drain_quiet: Duration,
    /// Whether a drain goes on while another process listens.
    pub drain_while_listening: bool,
    /// From the first byte of a request head to its end.
    pub request_head_timeout: Duration,
    /// The longest silence of the app inside a request body; `None` is any, otherwise never zero.
    pub request_body_timeout: Option<Duration>,
    /// The most bytes of a request or response head.
    pub max_head_bytes: usize,
    /// The most headers of a request or response.
    pub max_headers: usize,
    /// The most HTTP/2 streams at once on one connection of the app; at least 1.
    pub max_h2_streams: usize,
    /// The most bytes of request bodies that all exchanges together keep to send them again.
    pub replay_bytes: usize,
}

/// The read-only surface for probes and scrapes.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// The addresses to listen on; may be empty.
    pub listen: Vec<SocketAddr>,
}

/// The surface that shows and changes things.
#[derive(Clone, Debug, PartialEq)]
pub struct Control {
    /// Its Unix socket.
    pub socket: ControlSocket,
    /// The addresses to listen on, all on loopback; may be empty.
    pub listen: Vec<SocketAddr>,
    /// Whether what changes something may be asked on [`listen`](Self::listen).
    pub changes_on_tcp: bool,
    /// Whether `/quitquitquit` may be asked there all the same.
    pub quit_on_tcp: bool,
}

/// Where the control surface has its Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlSocket {
    /// At the usual place, if that can be made.
    Usual,
    /// Here.
    At(PathBuf),
    /// Nowhere.
    Off,
}

/// DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// The addresses to answer on, all on loopback; may be empty.
    pub listen: Vec<SocketAddr>,
    /// The file that names the resolvers.
    pub resolv_conf: PathBuf,
}

/// A plain port that leads to a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name.
    pub name: Arc<str>,
    /// Where to listen; never port 0.
    pub address: SocketAddr,
    /// The name of the destination, which has endpoints of its own.
    pub destination: Arc<str>,
}

/// The log of the process, and the access log.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// How much of the process's own log is written.
    pub level: Level,
    /// How the process's own log is written.
    pub format: Format,
    /// Which flows and exchanges the access log tells of.
    pub access: Access,
    /// Which share of those that ended well gets a line, from 0 to 1.
    pub access_sample: f64,
    /// How the access log is written.
    pub access_format: Format,
    /// Where the access log goes; `None` is standard output.
    pub access_file: Option<PathBuf>,
}

/// Traces: what is begun where the app began none, and where spans are sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// Where spans are sent; `None` is nowhere, and then none are made.
    pub endpoint: Option<TraceEndpoint>,
    /// The share of traces that are recorded, of those that no caller has decided about: from 0 to 1.
    pub sample: f64,
    /// The form in which a trace is begun.
    pub propagation: Propagation,
    /// The attribute `service.name` of all spans.
    pub service_name: String,
    /// Headers to send with the spans.
    pub headers: Vec<(String, String)>,
}

/// A receiver of OTLP/HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceEndpoint {
    /// A name, or an IP address without brackets.
    pub host: String,
    /// Never 0.
    pub port: u16,
    /// Where to post spans.
    pub path: String,
}

/// The flight recorder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorder {
    /// The most bytes that its stories take; 0 is off, otherwise at least 64 KiB.
    pub memory: usize,
}

/// A target of traffic and its policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Destination {
    /// Its number in [`Config::names`](crate::Config::names), which is that of its name for the life of the process.
    pub index: usize,
    /// The [`Config::generation`](crate::Config::generation) that last changed anything about it.
    pub generation: u64,
    /// Its name in log and metrics: unique, and "default" for the implicit one.
    pub name: Arc<str>,
    /// What is spoken.
    pub protocol: Protocol,
    /// What HTTP endpoints are spoken to in.
    pub upstream_protocol: UpstreamProtocol,
    /// Whether the traffic is refused.
    pub deny: bool,
    /// Where to connect, each in turn; empty is the original destination.
    pub endpoints: Vec<SocketAddr>,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// When an endpoint is no longer asked; `None` is never.
    pub breaker: Option<BreakerPolicy>,
    /// How upstream connections are shared between flows; `None` is not at all.
    pub pool: Option<PoolParams>,
    /// TLS towards the endpoints, for what the app does not encrypt itself; `None` is none.
    pub tls: Option<Origination>,
    /// The networks to which alone a credential may go; empty where the server is known well enough, or none is set.
    pub plain_text_credentials: Vec<IpNet>,
    /// Whether this is the implicit destination and nothing is done for it but to observe.
    pub observe_only: bool,
    /// What is done for an exchange that no route matches.
    pub policy: Arc<Policy>,
    /// Its routes, by name; the one at index `i` has that [`Route::index`].
    pub routes: Vec<Route>,
    pub(crate) route_index: RouteIndex,
    pub(crate) matches: DestinationMatch,
}

impl Destination {
    /// Whether an exchange with this policy must not go out, since it would take a credential to an original destination
    /// outside of [`plain_text_credentials`](Self::plain_text_credentials).
    pub fn withholds_credential(&self, policy: &Policy, original: IpAddr) -> bool {
        let networks = &self.plain_text_credentials;
        let original = original.to_canonical();
        policy.sets_credential && !networks.is_empty() && !networks.iter().any(|it| it.contains(&original))
    }

    /// Which destination it is, and as which reload left it.
    pub fn version(&self) -> Version {
        Version { index: self.index, generation: self.generation }
    }

    /// The most specific of its routes that match; `None` means that [`policy`](Self::policy) holds. What this
    /// costs does not depend on how many routes there are.
    pub fn route(&self, request: &Request<'_>) -> Option<&Route> {
        self.route_index.find(request).map(|index| &self.routes[index])
    }
}

/// The key of whatever is learnt of a destination or connected for it: what was so under other rules is not used
/// under these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version {
    /// [`Destination::index`].
    pub index: usize,
    /// [`Destination::generation`].
    pub generation: u64,
}

/// A breaker and what it counts.
#[derive(Clone, Debug, PartialEq)]
pub struct BreakerPolicy {
    /// When it opens and for how long.
    pub params: BreakerParams,
    /// The response statuses that count as failures.
    pub statuses: StatusSet,
    /// The gRPC statuses that count as failures; never [`GrpcStatus::Ok`](dragoman_policy::GrpcStatus::Ok).
    pub grpc_statuses: GrpcStatusSet,
}

/// How upstream HTTP connections are shared between flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolParams {
    /// The most idle connections kept per endpoint; at least 1.
    pub max_idle: usize,
    /// How long a connection may be idle before it is closed.
    pub idle: Duration,
    /// How long after it was made a connection takes new exchanges; `None` is for ever, otherwise never zero.
    pub max_age: Option<Duration>,
    /// The most connections per endpoint, in use and idle; `None` is any number, otherwise at least 1.
    pub max_size: Option<usize>,
    /// How many idle connections are kept ready per endpoint in use; at most `max_idle` and `max_size`.
    pub min_warm: usize,
}

/// What is done for an exchange.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// The whole exchange, all attempts and waits included; never zero.
    pub timeout: Option<Duration>,
    /// One attempt, from its first byte sent to the response head; never zero.
    pub try_timeout: Option<Duration>,
    /// When a failed attempt is repeated; `None` is never.
    pub retry: Option<RetryParams>,
    /// Changes to the headers of the request.
    pub headers: HeaderRules,
    /// Whether one of the headers that are set carries a credential.
    pub sets_credential: bool,
    /// Changes to the headers of the response.
    pub response: ResponseRules,
}

/// Changes to the headers of a request. No name is in both lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderRules {
    /// Add `x-request-id` when the app sent none.
    pub request_id: bool,
    /// Continue the app's trace headers, and begin a trace when it sent none.
    pub trace: bool,
    /// Headers to set, in the case in which they were written.
    pub set: Vec<(String, String)>,
    /// Headers to remove; compare them without regard to case.
    pub remove: Vec<String>,
}

impl HeaderRules {
    /// Whether a header of this name is set or removed.
    pub fn governs(&self, name: &[u8]) -> bool {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        self.set.iter().any(|(set, _)| is(set)) || self.remove.iter().any(|removed| is(removed))
    }
}

/// Changes to the headers of a final response that came from an endpoint. No name is in both lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseRules {
    /// Headers to set, in the case in which they were written.
    pub set: Vec<(String, String)>,
    /// Headers to remove; compare them without regard to case.
    pub remove: Vec<String>,
    /// Set `x-response-time`.
    pub time: bool,
    /// Add `server-timing`.
    pub server_timing: bool,
}

/// A rule inside a destination.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Its place in [`Destination::routes`], which is as stable as the file.
    pub index: usize,
    /// Its name in log and metrics, unique within the destination.
    pub name: Arc<str>,
    /// What is done for the exchanges that it matches.
    pub policy: Arc<Policy>,
    /// The breaker that its exchanges have in place of the destination's; `None` means the destination's.
    pub breaker: Option<BreakerPolicy>,
}

/// What a route looks at.
pub struct Request<'a> {
    /// As it was sent.
    pub method: &'a str,
    /// The request target in origin form, with or without its query.
    pub path: &'a str,
    /// The host and port that the request is for, from its authority or Host header; empty if it says none.
    pub host: &'a str,
    /// What stands after the question mark, as it was sent; empty if there is none.
    pub query: &'a [u8],
    /// The first value of the header with this name, which is given in lower case.
    pub header: &'a dyn Fn(&str) -> Option<&'a [u8]>,
}

/// The name that a flow has given for its destination, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name<'a> {
    /// None, or none yet.
    None,
    /// The Host header or authority of a request; a port is ignored.
    Host(&'a str),
    /// The TLS server name.
    Sni(&'a str),
}

/// What the address of a flow says about its destination, before any name is known.
#[derive(Clone, Debug)]
pub struct ByAddress {
    /// What holds if the flow never gives a name.
    pub destination: Arc<Destination>,
    /// Whether a destination with `hosts` or `sni` could still match.
    pub name_may_decide: bool,
    /// Whether one of those that could still match refuses the traffic, and no name was learnt.
    pub name_may_deny: bool,
    /// Whether a name was learnt, that is, whether [`destination`](Self::destination) is by it.
    pub learnt: bool,
}
