//! Breaker and budget of each (destination, endpoint), and of each route that has a breaker of its own.
//!
//! State is keyed by what fails: where the endpoint is the original destination, a catch-all destination must not
//! be one breaker for the whole internet. The table is bounded; what has not been used for thousands of other
//! endpoints starts afresh.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dragoman_config::{Destination, Route, Version};
use dragoman_policy::{
    Admission, Attempt, Breaker, Budget, BudgetParams, Decision, Random, RetryParams, State, Ticket,
    Transition, Verdict, decide,
};
use dragoman_telemetry::{BreakerState, DestinationState, EndpointState, Outcome, Telemetry};

use crate::bounded::Bounded;
use crate::in_force::InForce;

const ENDPOINTS: usize = 4096;

/// What is known of one endpoint of one destination.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    destination: usize,
    telemetry: Telemetry,
    breaker: Option<Mutex<Breaker>>,
    /// One for each budget that a policy of the destination states: routes may have their own.
    budgets: Mutex<Vec<(BudgetParams, Budget)>>,
}

/// Leave to try an endpoint once. Dropped without a report it says nothing about the endpoint, and a probe's
/// place is free again.
#[derive(Debug)]
pub(crate) struct Pass {
    endpoint: Arc<Endpoint>,
    ticket: Option<Ticket>,
}

impl Endpoint {
    /// Asks the breaker for leave to try.
    ///
    /// # Errors
    /// The breaker is open: how long until it lets a probe through.
    pub(crate) fn admit(self: &Arc<Self>, now: Instant) -> Result<Pass, Duration> {
        let Some(breaker) = &self.breaker else {
            return Ok(Pass { endpoint: Arc::clone(self), ticket: None });
        };
        let (admission, transition) = lock(breaker).admit(now);
        self.count(transition);
        match admission {
            Admission::Admitted(ticket) => Ok(Pass { endpoint: Arc::clone(self), ticket: Some(ticket) }),
            Admission::Refused { retry_in } => Err(retry_in),
        }
    }

    /// Whether [`Self::admit`] would give leave now.
    pub(crate) fn would_admit(&self, now: Instant) -> bool {
        self.breaker.as_ref().is_none_or(|breaker| lock(breaker).would_admit(now))
    }

    /// Whether the breaker has no doubt about the endpoint.
    pub(crate) fn is_closed(&self, now: Instant) -> bool {
        self.breaker.as_ref().is_none_or(|breaker| lock(breaker).state(now) == State::Closed)
    }

    /// A new exchange or flow pays into the retry budget.
    pub(crate) fn deposit(&self, params: &RetryParams, now: Instant) {
        self.with_budget(params, |budget| budget.deposit(now));
    }

    /// Decides on a retry, and takes it from the budget.
    pub(crate) fn decide(
        &self,
        params: &RetryParams,
        attempt: &Attempt<'_>,
        now: Instant,
        rng: &mut impl Random,
    ) -> Decision {
        self.with_budget(params, |budget| decide(params, attempt, budget, now, rng))
    }

    fn with_budget<T>(&self, params: &RetryParams, act: impl FnOnce(&mut Budget) -> T) -> T {
        let mut budgets = lock(&self.budgets);
        let place = budgets.iter().position(|(of, _)| *of == params.budget).unwrap_or_else(|| {
            budgets.push((params.budget, Budget::new(params.budget)));
            budgets.len() - 1
        });
        act(&mut budgets[place].1)
    }

    /// How it is, for whoever looks.
    pub(crate) fn observe(&self, now: Instant) -> EndpointState {
        let breaker = self.breaker.as_ref().map(|breaker| match lock(breaker).state(now) {
            State::Closed => BreakerState::Closed,
            State::Open => BreakerState::Open,
            State::HalfOpen => BreakerState::HalfOpen,
        });
        let retries = lock(&self.budgets).iter_mut().map(|(_, budget)| budget.balance(now)).min();
        EndpointState { address: self.address, breaker, retries }
    }

    fn record(&self, ticket: Ticket, verdict: Verdict) {
        let Some(breaker) = &self.breaker else { return };
        let transition = lock(breaker).record(ticket, verdict, Instant::now());
        self.count(transition);
    }

    fn count(&self, transition: Option<Transition>) {
        if let Some(transition) = transition {
            tracing::warn!(endpoint = %self.address, state = transition.as_str(), "circuit breaker");
            self.telemetry.destination(self.destination).breaker_transition(transition.as_str());
        }
    }
}

impl Pass {
    /// What the breaker was when it gave its leave; `None` where there is none.
    pub(crate) fn breaker(&self) -> Option<BreakerState> {
        let state =
            |ticket: Ticket| if ticket.is_probe() { BreakerState::HalfOpen } else { BreakerState::Closed };
        self.ticket.map(state)
    }

    /// A good response head is all that a probe is to find out: a stream may go on for hours. What follows is an ordinary
    /// try, with a pass of its own.
    pub(crate) fn after_good_head(self) -> Option<Self> {
        if !self.ticket.is_some_and(|ticket| ticket.is_probe()) {
            return Some(self);
        }
        let endpoint = Arc::clone(&self.endpoint);
        self.report(Verdict::Success);
        endpoint.admit(Instant::now()).ok()
    }

    /// Says how the try went. Only what the remote side did may be a failure.
    pub(crate) fn report(mut self, verdict: Verdict) {
        if let Some(ticket) = self.ticket.take() {
            self.endpoint.record(ticket, verdict);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.endpoint.record(ticket, Verdict::Neutral);
        }
    }
}

/// What the outcome of a try says about the endpoint: only what the remote side did may count against it.
pub(crate) fn verdict(outcome: Outcome) -> Verdict {
    match outcome {
        Outcome::Success => Verdict::Success,
        Outcome::Failure => Verdict::Failure,
        Outcome::Overload | Outcome::Local => Verdict::Neutral,
    }
}

/// Destination, route where that has a breaker of its own, endpoint.
type Key = (Version, Option<usize>, SocketAddr);

/// All endpoints in use.
#[derive(Debug)]
pub(crate) struct Endpoints {
    telemetry: Telemetry,
    policy: InForce,
    table: Mutex<Bounded<Key, Arc<Endpoint>>>,
}

impl Endpoints {
    pub(crate) fn new(telemetry: Telemetry, policy: InForce) -> Self {
        Self { telemetry, policy, table: Mutex::new(Bounded::new(ENDPOINTS)) }
    }

    /// Forgets the endpoints of destinations that are gone or have changed, unless somebody is still at work with them.
    pub(crate) fn forget_retired(&self) {
        let policy = self.policy.now();
        lock(&self.table).retain(|(version, ..), endpoint| {
            policy.at(*version).is_some() || Arc::strong_count(endpoint) > 1
        });
    }

    /// The state of `address` as an endpoint of `destination`, for exchanges on `route`.
    pub(crate) fn get(
        &self,
        destination: &Destination,
        route: Option<&Route>,
        address: SocketAddr,
    ) -> Arc<Endpoint> {
        let own = route.filter(|route| route.breaker.is_some());
        let key = (destination.version(), own.map(|route| route.index), address);
        let mut table = lock(&self.table);
        if let Some(endpoint) = table.get(&key) {
            return endpoint;
        }
        let policy = own.map_or(&destination.breaker, |route| &route.breaker);
        let breaker = policy.as_ref().map(|policy| Mutex::new(Breaker::new(policy.params)));
        let endpoint = Arc::new(Endpoint {
            address,
            destination: destination.index,
            telemetry: self.telemetry.clone(),
            breaker,
            budgets: Mutex::default(),
        });
        table.insert(key, Arc::clone(&endpoint));
        endpoint
    }

    /// Adds how each endpoint is to the state of its destination. What is left of a destination that has changed is
    /// nobody's concern.
    pub(crate) fn observe(&self, states: &mut BTreeMap<usize, DestinationState>, now: Instant) {
        let policy = self.policy.now();
        // The lock that each exchange takes is held for no longer than it takes to copy the list.
        let endpoints: Vec<_> = lock(&self.table)
            .iter()
            .filter(|((version, ..), _)| policy.at(*version).is_some())
            .map(|(_, endpoint)| Arc::clone(endpoint))
            .collect();
        for endpoint in endpoints {
            states.entry(endpoint.destination).or_default().endpoints.push(endpoint.observe(now));
        }
    }
}

/// A panic in one flow ends one flow: what it held a lock on is plain counters, and stays in use.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
