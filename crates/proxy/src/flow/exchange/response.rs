//! What policy changes in the head of a response, whatever version of HTTP carries it: names to leave out, and fields
//! to add. Pure: the times are arguments.

use std::time::Duration;

use dragoman_config::ResponseRules;

const RESPONSE_TIME: &str = "x-response-time";

/// Where the time until a response head went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    /// From the end of the request head to the response head, all attempts and waits included.
    pub(crate) whole: Duration,
    /// The part of it that the last attempt was on its connection.
    pub(crate) upstream: Duration,
}

/// The changes to one response head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Changes<'a> {
    rules: &'a ResponseRules,
    spent: Spent,
    /// A rule that sets the field, or removes it, is the more explicit one.
    tells_time: bool,
}

impl<'a> Changes<'a> {
    /// The changes that `rules` ask for; `None` where the head stays as it came.
    pub(crate) fn new(rules: &'a ResponseRules, spent: impl FnOnce() -> Spent) -> Option<Self> {
        let ResponseRules { set, remove, time, server_timing } = rules;
        if set.is_empty() && remove.is_empty() && !time && !server_timing {
            return None;
        }
        let tells_time = *time && !names(rules).any(|name| name.eq_ignore_ascii_case(RESPONSE_TIME));
        Some(Self { rules, spent: spent(), tells_time })
    }

    /// Whether a field of that name is left out; those of [`Self::write`] are new ones, or take its place.
    pub(crate) fn drops(&self, name: &[u8]) -> bool {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        self.tells_time && is(RESPONSE_TIME) || names(self.rules).any(is)
    }

    /// Gives each field, name and value, to `add`.
    pub(crate) fn write(&self, mut add: impl FnMut(&str, &[u8])) {
        for (name, value) in &self.rules.set {
            add(name, value.as_bytes());
        }
        if self.tells_time {
            add(RESPONSE_TIME, milliseconds(self.spent.whole).as_bytes());
        }
        if self.rules.server_timing {
            let own = milliseconds(self.spent.whole.saturating_sub(self.spent.upstream));
            let upstream = milliseconds(self.spent.upstream);
            // As in W3C Server Timing: a name and its milliseconds. The server's own entries stay.
            add("server-timing", format!("dragoman;dur={own}, upstream;dur={upstream}").as_bytes());
        }
    }
}

fn names(rules: &ResponseRules) -> impl Iterator<Item = &str> {
    rules.set.iter().map(|(name, _)| name.as_str()).chain(rules.remove.iter().map(String::as_str))
}

fn milliseconds(time: Duration) -> String {
    format!("{}.{:03}", time.as_millis(), time.subsec_micros() % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPENT: Spent =
        Spent { whole: Duration::from_micros(1_012_345), upstream: Duration::from_micros(12_007) };

    fn rules(set: &[(&str, &str)], remove: &[&str]) -> ResponseRules {
        ResponseRules {
            set: set.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            remove: remove.iter().map(|name| (*name).into()).collect(),
            ..ResponseRules::default()
        }
    }

    fn written(rules: &ResponseRules) -> Vec<String> {
        let mut lines = Vec::new();
        let changes = Changes::new(rules, || SPENT).unwrap();
        changes.write(|name, value| lines.push(format!("{name}: {}", String::from_utf8_lossy(value))));
        lines
    }

    #[test]
    fn without_rules_nothing_is_asked_and_nothing_changes() {
        assert!(Changes::new(&ResponseRules::default(), || panic!("the clock was read")).is_none());
    }

    #[test]
    fn what_is_set_takes_the_place_of_every_field_of_its_name() {
        let rules = rules(&[("X-Frame-Options", "DENY")], &["Server"]);
        let changes = Changes::new(&rules, || SPENT).unwrap();
        let dropped = ["x-frame-options", "SERVER", "server-timing", "x-response-time", "serve"]
            .map(|name| changes.drops(name.as_bytes()));
        assert_eq!(dropped, [true, true, false, false, false]);
        assert_eq!(written(&rules), ["X-Frame-Options: DENY"]);
    }

    #[test]
    fn times_are_milliseconds_with_three_decimals() {
        let rules = ResponseRules { time: true, server_timing: true, ..ResponseRules::default() };
        assert_eq!(
            written(&rules),
            ["x-response-time: 1012.345", "server-timing: dragoman;dur=1000.338, upstream;dur=12.007"]
        );
        let changes = Changes::new(&rules, || SPENT).unwrap();
        assert!(changes.drops(b"X-Response-Time") && !changes.drops(b"Server-Timing"));
    }

    #[test]
    fn a_rule_for_the_response_time_itself_wins() {
        let set = ResponseRules { time: true, ..rules(&[("x-response-time", "n/a")], &[]) };
        assert_eq!(written(&set), ["x-response-time: n/a"]);
        let removed = ResponseRules { time: true, ..rules(&[], &["X-Response-Time"]) };
        assert!(written(&removed).is_empty());
        assert!(Changes::new(&removed, || SPENT).unwrap().drops(b"x-response-time"));
    }
}
