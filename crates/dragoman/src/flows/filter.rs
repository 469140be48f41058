//! Which stories are asked for.

use dragoman_telemetry::Story;

use crate::ask::decoded;

/// The parameters of `/flows`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    /// An id of a flow or exchange, or an `x-request-id`.
    id: Option<String>,
    destination: Option<String>,
    /// `any` is any.
    cause: Option<String>,
    /// As `503` or `5xx`.
    status: Option<String>,
    /// At most so many, the newest.
    pub(crate) last: Option<usize>,
    /// Tell why the destination and the route matched.
    pub(crate) why: bool,
    /// Go on with what ends from now on.
    pub(crate) follow: bool,
}

impl Filter {
    /// # Errors
    /// What is wrong with the query, for whoever asks.
    pub(crate) fn parse(query: &str) -> Result<Filter, String> {
        let mut filter = Filter::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decoded(value);
            match key {
                "id" => filter.id = Some(value),
                "destination" => filter.destination = Some(value),
                "cause" => filter.cause = Some(value),
                "status" => filter.status = Some(value),
                "last" => {
                    filter.last = Some(value.parse().map_err(|_| format!("last={value}: not a number"))?);
                }
                "why" => filter.why = true,
                "follow" => filter.follow = true,
                _ => return Err(format!("{key}: no such parameter; there are {KEYS}")),
            }
        }
        Ok(filter)
    }

    pub(crate) fn matches(&self, story: &Story) -> bool {
        let fits = |wanted: &Option<String>, test: &dyn Fn(&str) -> bool| wanted.as_deref().is_none_or(test);
        fits(&self.id, &|id| story.id == id || story.flow == id || story.request_id == id && !id.is_empty())
            && fits(&self.destination, &|name| story.destination == name)
            && fits(&self.cause, &|cause| story.cause == cause || cause == "any" && !story.cause.is_empty())
            && fits(&self.status, &|wanted| story.status.is_some_and(|status| has_status(wanted, status)))
    }
}

const KEYS: &str = "id, destination, cause, status, last, why and follow";

/// `wanted` is a status, or a class of them as `5xx`.
fn has_status(wanted: &str, status: u16) -> bool {
    match wanted.strip_suffix("xx") {
        Some(class) => class == (status / 100).to_string(),
        None => wanted == status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn story() -> Story {
        Story {
            id: "a1".into(),
            flow: "b2".into(),
            destination: "pay".into(),
            cause: "timeout".into(),
            status: Some(504),
            ..Story::default()
        }
    }

    #[test]
    fn every_parameter_narrows_and_none_takes_all() {
        for (query, expected) in [
            ("", true),
            ("id=a1", true),
            ("id=b2", true),
            ("id=", false),
            ("id=c3", false),
            ("destination=pay&cause=timeout&status=504", true),
            ("destination=pa%79&cause=any&status=5xx", true),
            ("destination=payments", false),
            ("cause=connect_refused", false),
            ("status=4xx", false),
            ("status=503", false),
            ("status=xx", false),
        ] {
            assert_eq!(Filter::parse(query).unwrap().matches(&story()), expected, "{query}");
        }
        assert!(!Filter::parse("cause=any").unwrap().matches(&Story::default()));
    }

    #[test]
    fn what_is_not_understood_is_said() {
        assert!(Filter::parse("last=x").unwrap_err().contains("not a number"));
        assert!(Filter::parse("stauts=5").unwrap_err().contains("no such parameter"));
    }
}
