//! The table of causes is consistent, and its page in the documentation says the same.

use std::collections::HashSet;
use std::fmt::Write;

use crate::common::pages;
use dragoman_telemetry::{Cause, Effect, Outcome, Who};

#[test]
fn words_are_unique_and_snake_case() {
    let mut seen = HashSet::new();
    for cause in Cause::ALL {
        let word = cause.as_str();
        assert!(seen.insert(word), "{word} twice");
        assert!(word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{word}");
        assert!(cause.about().ends_with(['.', ')']) && cause.about().len() > 20, "{word}: {}", cause.about());
    }
}

/// Promise H11 in the vocabulary: only what the server or the way to it did counts against an endpoint.
#[test]
fn only_remote_causes_count_for_the_breaker() {
    for cause in Cause::ALL {
        let remote = matches!(cause.who(), Who::Upstream)
            || matches!(cause.who(), Who::Network) && *cause != Cause::AppLost;
        assert_eq!(cause.outcome() == Outcome::Failure, remote, "{cause}");
        assert_ne!(cause.outcome(), Outcome::Success, "{cause}");
    }
}

#[test]
fn each_cause_is_seen_somewhere_and_answers_are_errors() {
    for cause in Cause::ALL {
        assert!(cause.on_exchange().is_some() || cause.on_flow().is_some(), "{cause}");
        if let Some(status) = cause.status() {
            let is_forbidden = matches!(cause, Cause::Denied | Cause::CredentialWithheld);
            let of_the_app = cause.who() == Who::App || is_forbidden;
            assert_eq!((400..500).contains(&status), of_the_app, "{cause}: {status}");
        }
    }
}

#[test]
fn the_page_of_causes_is_fresh() {
    pages::check("causes.md", &page());
}

const INTRODUCTION: &str = "\
# Causes

<!-- Made from crates/telemetry/src/cause.rs. Renew with: DRAGOMAN_BLESS=1 cargo test -p dragoman-telemetry -->

When a flow (a captured connection) or an exchange (an HTTP request and its response) does not end well, dragoman
says why with one of these words, once, and with the same word everywhere:

- in the metrics, as the label `cause` of `dragoman_flows_total` or `dragoman_exchanges_total`
  (`-` where all went well);
- in the access log, as the key `cause`, with `who` and often `detail` beside it;
- in the header `x-dragoman-cause` of each answer that dragoman made itself.

**Exchange** is what the application sees when the head of the response was not sent yet; after that only a reset or
a close is left. **Flow** is what it sees outside of HTTP. **Breaker** says whether it counts as a failure of the
endpoint. Each cause has a test of the name in the last column; `scripts/check-causes` fails without it.

| Cause | Exchange | Flow | Who | Breaker | What happened | Test |
|---|---|---|---|---|---|---|
";

fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    for cause in Cause::ALL {
        let breaker = if cause.outcome() == Outcome::Failure { "failure" } else { "-" };
        let row = [
            format!("`{cause}`"),
            effect(cause.on_exchange()),
            effect(cause.on_flow()),
            cause.who().to_string(),
            breaker.to_owned(),
            cause.about().to_owned(),
            format!("`cause_{cause}`"),
        ];
        writeln!(page, "| {} |", row.join(" | ")).unwrap();
    }
    page
}

fn effect(effect: Option<Effect>) -> String {
    match effect {
        None => "-".to_owned(),
        Some(Effect::Status(status)) => status.to_string(),
        Some(Effect::Reset) => "reset".to_owned(),
        Some(Effect::Close) => "close".to_owned(),
        Some(Effect::Forwarded) => "the server's answer".to_owned(),
        Some(Effect::Gone) => "nothing: it is gone".to_owned(),
    }
}
