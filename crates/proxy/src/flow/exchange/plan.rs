//! What is decided about a request once its head is known.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use dragoman_config::{BreakerPolicy, Config, Destination, Name, Policy, Request, Route};
use dragoman_net::OrigDst;
use dragoman_telemetry::{Cause, ExchangeRecord};
use dragoman_tls::client::Alpn;

use super::tries::Failed;
use crate::shared::{Shared, Target};
use crate::upstream::link::{Asked, Link};
use crate::upstream::pool::Wanted;

/// The policy of one exchange.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) destination: Arc<Destination>,
    route: Option<usize>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) original: OrigDst,
    pub(crate) started: Instant,
    pub(crate) has_idempotency_key: bool,
    /// The method has the same effect twice as once, by policy, or by its definition where policy says nothing.
    pub(crate) is_idempotent: bool,
    asked: Asked,
}

/// When to give up, and what that is called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    pub(crate) at: tokio::time::Instant,
    pub(crate) cause: Cause,
}

impl Plan {
    /// The plan of `request` to `destination`; its route goes into the record. `learnt`: the name of its address.
    pub(crate) fn new(
        destination: Arc<Destination>,
        original: OrigDst,
        request: &Request<'_>,
        learnt: Option<&str>,
        record: &mut ExchangeRecord,
    ) -> Self {
        let route = destination.route(request);
        record.destination = destination.index;
        record.generation = destination.generation as u32;
        record.route = route.map(|route| Arc::clone(&route.name));
        let policy = Arc::clone(route.map_or(&destination.policy, |route| &route.policy));
        let retry = policy.retry.as_ref();
        let key = retry.and_then(|retry| retry.idempotency_header.as_deref());
        Self {
            original,
            started: Instant::now(),
            // An empty one is no key: the server could not tell a repetition by it.
            has_idempotency_key: key
                .and_then(request.header)
                .is_some_and(|value| !value.trim_ascii().is_empty()),
            is_idempotent: match retry {
                Some(retry) => retry.methods.contains(request.method),
                None => matches!(request.method, "GET" | "HEAD" | "OPTIONS"),
            },
            route: route.map(|route| route.index),
            asked: Asked::of(&destination, request.host, learnt),
            destination,
            policy,
        }
    }

    /// Where the exchange may go.
    pub(crate) fn target(&self) -> Target<'_> {
        let (destination, original) = (&self.destination, self.original);
        Target { destination, route: self.route(), original, app_encrypts: false }
    }

    /// A connection for the exchange.
    pub(crate) fn link(&self, shared: &Shared, endpoint: SocketAddr, alpn: Alpn) -> Result<Link, Failed> {
        let link = Link::new(shared, &self.destination, endpoint, alpn, &self.asked);
        // What the app calls its server is not the endpoint's fault.
        link.map_err(|failed| Failed { slow_app: true, ..Failed::here(failed.cause, &*failed.detail) })
    }

    fn route(&self) -> Option<&Route> {
        self.route.map(|index| &self.destination.routes[index])
    }

    /// The breaker that the exchange falls under: the route's own, or the destination's.
    pub(crate) fn breaker(&self) -> Option<&BreakerPolicy> {
        self.route().and_then(|route| route.breaker.as_ref()).or(self.destination.breaker.as_ref())
    }

    /// The end of the time for the whole exchange.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.policy.timeout.map(|timeout| self.started + timeout)
    }

    /// Which connection the request may go out on. `fresh`: it has met one of the pool that was closed. `has_come`: all of
    /// it is at hand, or it has no body.
    pub(crate) fn wanted(&self, fresh: bool, has_come: bool) -> Wanted {
        match self.is_idempotent || self.has_idempotency_key {
            _ if fresh => Wanted::New,
            true if has_come => Wanted::Likely,
            true => Wanted::Open,
            false => Wanted::Fresh,
        }
    }

    /// When the whole exchange must be over.
    pub(crate) fn whole_limit(&self) -> Option<Limit> {
        self.deadline().map(|at| Limit { at: at.into(), cause: Cause::Timeout })
    }

    /// When an attempt must have its response head, if `since` is when its request was last waited for.
    pub(crate) fn try_limit(&self, since: Instant) -> Option<Limit> {
        let whole = self.whole_limit();
        let time = self.policy.try_timeout;
        let one = time.map(|time| Limit { at: (since + time).into(), cause: Cause::TryTimeout });
        match (whole, one) {
            (Some(whole), Some(one)) => Some(if one.at < whole.at { one } else { whole }),
            (whole, one) => whole.or(one),
        }
    }

    /// Whether a response with this status counts against the endpoint.
    pub(crate) fn counts_as_failure(&self, status: u16) -> bool {
        self.breaker().is_some_and(|breaker| breaker.statuses.contains(status))
    }
}

/// Finds the destination of each exchange on a flow. Most flows are for one host: the last answer is kept, with the
/// generation of the policy that gave it.
#[derive(Debug, Default)]
pub(crate) enum Lookup {
    /// Nobody has asked.
    #[default]
    New,
    /// What was found last.
    Found(u64, String, Arc<Destination>),
    /// It is the same for all.
    Fixed(Arc<Destination>),
}

impl Lookup {
    /// The look-ups of a flow, all of which find `fixed` if there is one.
    pub(crate) fn new(fixed: Option<Arc<Destination>>) -> Self {
        fixed.map_or(Self::New, Self::Fixed)
    }

    /// The destination of a request for `host`, which is empty where the request names none.
    pub(crate) fn find(&mut self, config: &Config, original: OrigDst, host: &str) -> Arc<Destination> {
        match self {
            Self::Fixed(destination) => return Arc::clone(destination),
            Self::Found(generation, known, destination)
                if *generation == config.generation() && known == host =>
            {
                return Arc::clone(destination);
            }
            Self::Found(..) | Self::New => {}
        }
        let name = if host.is_empty() { Name::None } else { Name::Host(host) };
        let destination = Arc::clone(config.lookup(original.0, name));
        *self = Self::Found(config.generation(), host.to_owned(), Arc::clone(&destination));
        destination
    }
}
