//! A whole story, for a person.

use std::fmt::Write;

use dragoman_telemetry::{AttemptStory, Cause, Story};

use super::row::{tone, what};
use super::{Page, Told};
use crate::explain::matching::{Matching, PassedOver};
use crate::plain::{Tone, plain, time};

/// The story as text, lines and all.
pub(crate) fn tell(told: &Told, color: bool) -> String {
    let Told { story, matching } = told;
    let mut text = Text { out: String::new(), color };
    let head = format!("{} {}  {}", story.kind, story.id, what(story));
    text.out = tone(story).paint(&plain(&head), color) + "\n";
    text.row("ended", &format!("{} after {}", story.ended, time(story.duration_us)));
    text.outcome(story);
    text.origin(story);
    match matching {
        Some(matching) => text.matching(story, matching),
        None => text.matched(story),
    }
    for (number, attempt) in (1..).zip(&story.attempts) {
        text.attempt(number, attempt, story);
    }
    let left_out = usize::try_from(story.attempts_made).unwrap_or(0).saturating_sub(story.attempts.len());
    if left_out > 0 {
        text.row("", &format!("({left_out} more attempts before the last one are not kept)"));
    }
    text.out
}

/// What a policy would do.
pub(crate) fn tell_matching(matching: &Matching, color: bool) -> String {
    let mut text = Text { out: String::new(), color };
    text.row("to", &matching.original_dst);
    text.matching(&Story::default(), matching);
    for line in &matching.policy {
        text.row("policy", line);
    }
    text.out
}

/// Why there is no story, for a person.
pub(crate) fn absent(page: &Page, what: &str) -> String {
    match &page.recorder {
        None => format!("no story of {what}: the flight recorder is off (recorder.memory = 0)"),
        Some(state) => {
            let since = match &state.oldest {
                Some(oldest) => format!("the oldest of {oldest}"),
                None => "nothing has ended yet".to_owned(),
            };
            format!(
                "no story of {what} among the {} that the recorder holds ({since}): it is still under way, or too old, or \
                 of another process; recorder.memory, {} KiB now, says how many are kept",
                state.stories,
                state.memory / 1024
            )
        }
    }
}

struct Text {
    out: String,
    color: bool,
}

impl Text {
    /// A line, its name in the first column; what others chose is made harmless.
    fn row(&mut self, name: &str, value: &str) {
        let value = plain(value);
        writeln!(self.out, "  {name:<9} {value}").expect("a String takes all");
    }

    fn more(&mut self, value: &str) {
        self.row("", &format!("  {value}"));
    }

    fn outcome(&mut self, story: &Story) {
        let status = story.status.map(|status| format!("status {status} to the app"));
        let grpc = (!story.grpc_status.is_empty()).then(|| format!("gRPC {}", story.grpc_status));
        let words: Vec<_> = status.into_iter().chain(grpc).collect();
        let words = words.join(", ");
        if story.cause.is_empty() {
            let text = if words.is_empty() { "ended well".to_owned() } else { words };
            let closed = match story.closed_by.as_str() {
                "" => String::new(),
                who => format!("; closed by {}", named(who)),
            };
            return self.row("outcome", &(text + &closed));
        }
        let status = if words.is_empty() { String::new() } else { format!("{words}, ") };
        let culprit =
            Tone::Bad.paint(&format!("{}by {}: {}", status, named(&story.who), story.cause), self.color);
        writeln!(self.out, "  {:<9} {culprit}", "outcome").expect("a String takes all");
        if let Some(cause) = Cause::ALL.iter().find(|cause| cause.as_str() == story.cause) {
            self.more(cause.about());
        }
        if !story.detail.is_empty() {
            self.more(&format!("it said: {}", story.detail));
        }
    }

    fn origin(&mut self, story: &Story) {
        if !story.request_id.is_empty() {
            self.row("id", &format!("x-request-id {}", story.request_id));
        }
        let carried = if story.flow.is_empty() { String::new() } else { format!(", in flow {}", story.flow) };
        let to = if story.original_dst.is_empty() { "an unknown address" } else { &story.original_dst };
        self.row("from", &format!("{} to {to}{carried}", story.peer));
        let sniffed = &story.sniffed;
        let how = match sniffed.by.as_str() {
            "app" => format!("by the app's first bytes, \"{}\"", sniffed.bytes),
            "upstream" => format!("by the server's first bytes, \"{}\"", sniffed.bytes),
            _ => "without a byte that was looked at".to_owned(),
        };
        self.row("spoke", &format!("{}, {how}", sniffed.protocol));
        let bytes = (story.bytes_from_app, story.bytes_to_app);
        self.row("bytes", &format!("{} from the app, {} to it", bytes.0, bytes.1));
    }

    fn matched(&mut self, story: &Story) {
        self.row("matched", &format!("destination {:?}", story.destination));
        if !story.route.is_empty() {
            self.more(&format!("route {:?}", story.route));
        }
    }

    fn matching(&mut self, story: &Story, matching: &Matching) {
        self.row("matched", &format!("destination {:?}: {}", matching.destination, matching.because));
        if story.destination != matching.destination && !story.destination.is_empty() {
            self.more(&format!("then: destination {:?}", story.destination));
        }
        self.passed("destination", &matching.destinations);
        if !matching.route.is_empty() {
            self.row("", &format!("route {:?}: {}", matching.route, matching.route_because));
        }
        self.passed("route", &matching.routes);
        if !matching.note.is_empty() {
            self.row("", &format!("note: {}", matching.note));
        }
    }

    fn passed(&mut self, noun: &str, passed: &PassedOver) {
        for candidate in &passed.told {
            self.more(&format!("not {noun} {:?}: {}", candidate.name, candidate.why));
        }
        match passed.others {
            0 => {}
            others => self.more(&format!("and {others} more that come less close")),
        }
    }

    fn attempt(&mut self, number: u32, attempt: &AttemptStory, story: &Story) {
        let name = if story.kind == "flow" { "connect" } else { "attempt" };
        let mut line = format!("{number} at {}, to {}", time(attempt.started_us.into()), attempt.endpoint);
        match (attempt.connection.as_str(), attempt.connected_us) {
            ("", _) | (_, None) => line += ": no connection",
            (way, Some(at)) => {
                let took = time(at.saturating_sub(attempt.started_us).into());
                write!(line, ": {} after {took}", connection(way)).expect("a String takes all");
            }
        }
        if let Some(at) = attempt.first_byte_us {
            write!(line, ", response head at {}", time(at.into())).expect("a String takes all");
        }
        let end = attempt.ended_us.map_or(story.duration_us, u64::from);
        write!(line, ", end at {}", time(end)).expect("a String takes all");
        self.row(name, &line);
        self.tls(attempt);
        self.verdict(attempt);
        self.decision(attempt);
    }

    fn tls(&mut self, attempt: &AttemptStory) {
        if attempt.tls.is_empty() {
            return;
        }
        let took = match (attempt.connection.as_str(), attempt.tls_us) {
            ("new", Some(took)) => format!(", which took {} of that", time(took.into())),
            ("early", Some(took)) => format!(", which took {}", time(took.into())),
            _ => String::new(),
        };
        let handshake = format!("{} handshake{took}", attempt.tls_handshake);
        self.more(&format!("TLS {} with {:?}, {handshake}", attempt.tls, attempt.server_name));
    }

    fn verdict(&mut self, attempt: &AttemptStory) {
        let status = attempt.status.map_or_else(String::new, |status| format!(" (status {status})"));
        let cause = if attempt.cause.is_empty() { String::new() } else { format!(", {}", attempt.cause) };
        let breaker = match (attempt.breaker.as_str(), attempt.breaker_after.as_str()) {
            ("", _) => String::new(),
            (before, "") => format!("; breaker {before}"),
            (before, after) if before == after => format!("; breaker {before}"),
            (before, after) => format!("; breaker {before}, then {after}"),
        };
        let outcome = if attempt.outcome.is_empty() { "not over" } else { &attempt.outcome };
        self.more(&format!("{outcome}{cause}{status}{breaker}"));
    }

    fn decision(&mut self, attempt: &AttemptStory) {
        let budget = attempt.budget_left.map_or_else(String::new, |left| match left {
            1 => "; the budget had 1 retry left".to_owned(),
            left => format!("; the budget had {left} retries left"),
        });
        if !attempt.retried.is_empty() {
            let wait = time(attempt.wait_us.unwrap_or_default().into());
            let proof = about_proof(&attempt.proof);
            self.more(&format!(
                "repeated after {wait} ({}): {} - {proof}{budget}",
                attempt.retried, attempt.proof
            ));
        } else if attempt.outcome != "success" && !attempt.not_retried.is_empty() {
            let why = about_refusal(&attempt.not_retried);
            self.more(&format!("not repeated: {} - {why}{budget}", attempt.not_retried));
        } else if attempt.outcome == "failure" {
            self.more("not repeated: another try would not mend it");
        }
    }
}

fn named(who: &str) -> &str {
    match who {
        "app" => "the app",
        "upstream" => "the server",
        "network" => "the network",
        who => who,
    }
}

fn connection(way: &str) -> &'static str {
    match way {
        "early" => "the early connection",
        "pool" => "a pooled connection",
        "flow" => "the flow's own connection",
        _ => "a new connection",
    }
}

/// Why repeating was safe.
fn about_proof(proof: &str) -> &'static str {
    match proof {
        "nothing_sent" => "nothing of it had reached the wire",
        "not_processed" => "the server said that it did not process it",
        "idempotent" => "policy lists the method as safe to repeat",
        "idempotency_key" => "the request carries an idempotency key",
        _ => "safe",
    }
}

/// Why it was not repeated.
fn about_refusal(refusal: &str) -> &'static str {
    match refusal {
        "head_forwarded" => "a part of the answer was with the app already",
        "no_retry" => "policy has no `retry` here",
        "not_listed" => "policy does not list this status",
        "not_configured" => "policy does not list this kind of failure",
        "attempts_spent" => "as many attempts were made as policy allows",
        "not_safe" => "the server may have processed it, and its method is not one to repeat",
        "body_not_replayable" => "the body was too long to be kept, or had not come whole",
        "retry_after" => "the server asks for a longer wait than policy allows",
        "pushback" => "the gRPC server asks not to",
        "deadline" => "too little time was left",
        "budget_spent" => "the retry budget is spent",
        "breaker_open" => "the circuit breaker is open",
        _ => "policy says so",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_of_policy_has_its_sentence() {
        use dragoman_policy::{Proof, Refusal};
        for proof in [Proof::NothingSent, Proof::NotProcessed, Proof::Idempotent, Proof::IdempotencyKey] {
            assert_ne!(about_proof(proof.as_str()), "safe", "{proof:?}");
        }
        for refusal in [
            Refusal::NotConfigured,
            Refusal::AttemptsSpent,
            Refusal::NotSafe,
            Refusal::BodyNotReplayable,
            Refusal::RetryAfter,
            Refusal::Pushback,
            Refusal::Deadline,
            Refusal::BudgetSpent,
        ] {
            assert_ne!(about_refusal(refusal.as_str()), "policy says so", "{refusal:?}");
        }
    }

    #[test]
    fn tls_is_told_and_the_time_for_it_where_this_try_has_waited_for_it() {
        let told = |connection: &str| {
            let attempt = AttemptStory {
                connection: connection.into(),
                connected_us: Some(5000),
                tls: "1.3".into(),
                tls_handshake: "full".into(),
                tls_us: Some(1500),
                server_name: "pay.test".into(),
                ..AttemptStory::default()
            };
            let story = Story { attempts: vec![attempt], ..Story::default() };
            tell(&Told { story, matching: None }, false)
        };
        let line = "TLS 1.3 with \"pay.test\", full handshake";
        assert!(told("new").contains(&format!("{line}, which took 1.500 ms of that\n")), "{}", told("new"));
        assert!(told("early").contains(&format!("{line}, which took 1.500 ms\n")), "{}", told("early"));
        assert!(told("pool").contains(&format!("{line}\n")), "{}", told("pool"));
    }

    #[test]
    fn what_is_absent_is_said_with_its_reason() {
        assert!(absent(&Page::default(), "x").contains("recorder is off"));
        let state = super::super::RecorderState { memory: 65_536, ..Default::default() };
        let page = Page { recorder: Some(state), ..Page::default() };
        assert!(absent(&page, "x").contains("64 KiB"));
    }

    #[test]
    fn no_byte_that_a_terminal_obeys_is_told() {
        let hostile = "\x1b[2J\r\n\u{9b}";
        let story = Story {
            kind: hostile.into(),
            method: hostile.into(),
            host: hostile.into(),
            path: hostile.into(),
            detail: hostile.into(),
            cause: "timeout".into(),
            peer: hostile.into(),
            request_id: hostile.into(),
            attempts: vec![AttemptStory { endpoint: hostile.into(), ..AttemptStory::default() }],
            ..Story::default()
        };
        let text = tell(
            &Told { story, matching: Some(Matching { note: hostile.into(), ..Matching::default() }) },
            false,
        );
        assert!(text.bytes().all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte)), "{text:?}");
    }
}
