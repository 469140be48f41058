//! What is done for an exchange, in the terms of the algorithms.

use dragoman_policy::{Backoff, BudgetParams, GrpcStatusSet, RetryParams, StatusSet};

use crate::{
    model::{HeaderRules, Policy, ResponseRules},
    raw::{Exchange, Headers, Retry},
    value::{
        collection::List,
        grpc::GrpcFailure,
        http::{Status, carries_credential},
        pairs::Pair,
    },
};

pub(super) fn policy(exchange: &Exchange) -> Policy {
    Policy {
        timeout: exchange.timeout().map(|deadline| deadline.0),
        try_timeout: exchange.try_timeout().map(|deadline| deadline.0),
        retry: exchange.retry().on().map(|retry| retry_params(&retry)),
        headers: header_rules(exchange),
        sets_credential: credentials(exchange).next().is_some(),
        response: response_rules(exchange),
    }
}

/// The headers that it sets and that carry a credential. One that is empty carries none.
pub(super) fn credentials(exchange: &Exchange) -> impl Iterator<Item = Pair> {
    let set = exchange.headers().set().0.into_iter();
    set.filter(|pair| !pair.value.is_empty() && carries_credential(&pair.name))
}

pub(super) fn statuses(list: &List<Status>) -> StatusSet {
    list.values().flat_map(|status| status.codes()).collect()
}

pub(super) fn grpc_statuses(list: &List<GrpcFailure>) -> GrpcStatusSet {
    list.values().map(|failure| failure.0).collect()
}

fn retry_params(retry: &Retry) -> RetryParams {
    let budget = retry.budget();
    RetryParams {
        attempts: retry.attempts().0,
        statuses: statuses(&retry.statuses()),
        unprocessed_statuses: retry.unprocessed_statuses().values().map(|status| status.0).collect(),
        grpc_statuses: grpc_statuses(&retry.grpc_statuses()),
        methods: retry.methods().values().map(|method| method.0.clone()).collect(),
        idempotency_header: retry.idempotency_header().map(|name| name.0),
        connect: retry.connect(),
        reset: retry.reset(),
        timeout: retry.timeout(),
        refused: retry.refused(),
        backoff: Backoff { base: retry.base().0, cap: retry.cap().0 },
        honour_retry_after: retry.honour_retry_after(),
        replay_bytes: retry.replay_bytes().0,
        budget: BudgetParams {
            ratio: budget.ratio().0,
            min_per_second: u32::try_from(budget.min_per_second().0).unwrap_or(u32::MAX),
            window: budget.window().0,
        },
    }
}

fn header_rules(exchange: &Exchange) -> HeaderRules {
    let (set, remove) = changes(&exchange.headers());
    HeaderRules { request_id: exchange.request_id(), trace: exchange.trace(), set, remove }
}

fn response_rules(exchange: &Exchange) -> ResponseRules {
    let (set, remove) = changes(&exchange.response_headers());
    ResponseRules { set, remove, time: exchange.response_time(), server_timing: exchange.server_timing() }
}

/// The headers to set and those to remove.
fn changes(headers: &Headers) -> (Vec<(String, String)>, Vec<String>) {
    let set = headers.set().0.into_iter().map(|pair| (pair.name, pair.value)).collect();
    (set, headers.remove().values().map(|name| name.0.clone()).collect())
}
