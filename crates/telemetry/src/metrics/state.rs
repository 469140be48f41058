//! What is a state rather than an event: it is read from where it lives when somebody looks, and costs nothing until
//! then.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::catalogue::Metric;
use super::endpoints::ENDPOINTS;
use super::page::Page;
use crate::labels::BreakerState;

/// How one destination is at this moment.
#[derive(Clone, Debug, Default)]
pub struct DestinationState {
    /// Its endpoints that are in use. One with breakers for routes of its own is listed once for each.
    pub endpoints: Vec<EndpointState>,
    /// Pooled HTTP/1 connections that are idle.
    pub http1_idle: usize,
    /// Pooled HTTP/2 connections without a stream.
    pub http2_idle: usize,
    /// Pooled HTTP/2 connections with streams.
    pub http2_in_use: usize,
    /// Streams on these.
    pub streams: usize,
}

/// How one endpoint is at this moment.
#[derive(Clone, Copy, Debug)]
pub struct EndpointState {
    /// Where it is.
    pub address: SocketAddr,
    /// The state of its breaker, if it has one.
    pub breaker: Option<BreakerState>,
    /// Retries that the emptiest of its budgets would grant, if it has any.
    pub retries: Option<u64>,
}

impl DestinationState {
    pub(crate) fn write(&self, page: &mut Page, name: &str) {
        let breakers =
            |state| self.endpoints.iter().filter(|endpoint| endpoint.breaker == Some(state)).count();
        for state in BreakerState::ALL {
            page.sample(Metric::Breakers, &[name, state.as_str()], breakers(*state));
        }
        for (endpoint, state) in self.worst_breakers() {
            page.sample(Metric::EndpointBreaker, &[name, &endpoint.to_string()], state);
        }
        if let Some(balance) = self.endpoints.iter().filter_map(|endpoint| endpoint.retries).min() {
            page.sample(Metric::BudgetBalance, &[name], balance);
        }
        page.sample(Metric::PoolConnections, &[name, "http1", "idle"], self.http1_idle);
        page.sample(Metric::PoolConnections, &[name, "http2", "idle"], self.http2_idle);
        page.sample(Metric::PoolConnections, &[name, "http2", "in_use"], self.http2_in_use);
        page.sample(Metric::PoolStreams, &[name], self.streams);
    }

    /// The endpoints with a breaker, as many as have series of their own, the worst first.
    fn worst_breakers(&self) -> Vec<(SocketAddr, u8)> {
        let mut worst = BTreeMap::new();
        for endpoint in &self.endpoints {
            let Some(breaker) = endpoint.breaker else { continue };
            let state: &mut u8 = worst.entry(endpoint.address).or_default();
            *state = severity(breaker).max(*state);
        }
        let mut worst: Vec<_> = worst.into_iter().collect();
        worst.sort_by_key(|(_, state)| std::cmp::Reverse(*state));
        worst.truncate(ENDPOINTS);
        worst
    }
}

/// The state of a breaker as a number, the worse the higher.
fn severity(state: BreakerState) -> u8 {
    match state {
        BreakerState::Closed => 0,
        BreakerState::HalfOpen => 1,
        BreakerState::Open => 2,
    }
}
