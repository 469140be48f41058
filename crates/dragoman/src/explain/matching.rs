//! Why a destination and a route matched, and what their policy does: of a story, or of a request that nobody has made.

use std::net::SocketAddr;

use dragoman_config::{
    Config, Destination, Explanation, Known, Name, Origination, Passed, Policy, Request, Verify,
};
use dragoman_telemetry::Story;
use serde::{Deserialize, Serialize};

use crate::ask::decoded;

/// What the policy of now says of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Matching {
    /// Where it goes.
    pub(crate) original_dst: String,
    pub(crate) destination: String,
    pub(crate) because: String,
    pub(crate) destinations: PassedOver,
    /// Empty: no route matches.
    pub(crate) route: String,
    pub(crate) route_because: String,
    pub(crate) routes: PassedOver,
    /// What is not as it was, or not known.
    pub(crate) note: String,
    /// What policy does, in sentences.
    pub(crate) policy: Vec<String>,
}

/// Candidates that did not win.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PassedOver {
    pub(crate) told: Vec<Candidate>,
    pub(crate) others: usize,
}

/// One of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Candidate {
    pub(crate) name: String,
    pub(crate) why: String,
}

/// A request that nobody has made, or a flow.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Question {
    /// Where the app would dial.
    pub(crate) address: Option<SocketAddr>,
    /// A TLS server name: then it is a flow.
    pub(crate) sni: Option<String>,
    /// `None`: it is a flow.
    pub(crate) method: Option<String>,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) query: String,
    /// Names in lower case, and values.
    pub(crate) headers: Vec<(String, String)>,
}

impl Question {
    /// The query of `/explain`.
    pub(crate) fn to_query(&self) -> String {
        let mut pairs = Vec::new();
        pairs.extend(self.address.map(|address| ("address", address.to_string())));
        pairs.extend(self.sni.clone().map(|sni| ("sni", sni)));
        pairs.extend(self.method.clone().map(|method| ("method", method)));
        for (key, value) in [("host", &self.host), ("path", &self.path), ("query", &self.query)] {
            pairs.push((key, value.clone()));
        }
        pairs.extend(self.headers.iter().map(|(name, value)| ("header", format!("{name}:{value}"))));
        let pairs = pairs.iter().map(|(key, value)| format!("{key}={}", crate::ask::encoded(value)));
        pairs.collect::<Vec<_>>().join("&")
    }

    /// # Errors
    /// What is wrong with the query, for whoever asks.
    pub(crate) fn of_query(query: &str) -> Result<Question, String> {
        let mut question = Question::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decoded(value);
            match key {
                "address" => {
                    let address = value.parse().map_err(|_| format!("address={value}: not an address"))?;
                    question.address = Some(address);
                }
                "sni" => question.sni = Some(value),
                "method" => question.method = Some(value),
                "host" => question.host = value,
                "path" => question.path = value,
                "query" => question.query = value,
                "header" => question.headers.push(header(&value)?),
                _ => return Err(format!("{key}: no such parameter")),
            }
        }
        Ok(question)
    }

    /// What this policy would do.
    ///
    /// # Errors
    /// There is no address.
    pub(crate) fn ask(&self, config: &Config) -> Result<Matching, String> {
        let address = self.address.ok_or("address=IP:PORT is missing")?;
        let header = |name: &str| {
            let found = self.headers.iter().find(|(own, _)| own == name);
            found.map(|(_, value)| value.as_bytes())
        };
        let explained = match (&self.method, &self.sni) {
            (Some(method), _) => {
                let (path, host) = (self.path.as_str(), self.host.as_str());
                let query = self.query.as_bytes();
                let request = Request { method, path, host, query, header: &header };
                let name = if host.is_empty() { Name::None } else { Name::Host(host) };
                config.explain(address, name, Known::All(&request))
            }
            (None, Some(sni)) => config.explain(address, Name::Sni(sni), Known::Nothing),
            (None, None) => config.explain(address, Name::None, Known::Nothing),
        };
        let policy = policy(&explained, self.method.as_deref());
        Ok(Matching { original_dst: address.to_string(), policy, ..matching(&explained) })
    }
}

/// `NAME:VALUE`, with or without a space.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or_else(|| format!("{text:?}: write NAME:VALUE"))?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

/// Why the destination and route of a story match by this policy; `None` where it never came to that.
pub(crate) fn of_story(config: &Config, story: &Story) -> Option<Matching> {
    let address: SocketAddr = story.original_dst.parse().ok()?;
    let is_exchange = story.kind == "exchange";
    if is_exchange && story.method.is_empty() {
        return None;
    }
    let (method, path, host) = (story.method.as_str(), story.path.as_str(), story.host.as_str());
    let request = Request { method, path, host, query: b"", header: &|_| None };
    let (name, known) = match () {
        () if is_exchange && host.is_empty() => (Name::None, Known::Recorded(&request, &story.route)),
        () if is_exchange => (Name::Host(host), Known::Recorded(&request, &story.route)),
        () if !story.sni.is_empty() => (Name::Sni(&story.sni), Known::Nothing),
        () if !host.is_empty() => (Name::Host(host), Known::Nothing),
        () => (Name::None, Known::Nothing),
    };
    let explained = config.explain(address, name, known);
    let now = &explained.destination;
    let note = match () {
        () if *now.name != *story.destination => {
            format!("by the configuration of now; {:?} held then", story.destination)
        }
        () if story.generation > 0 && now.generation != story.generation => format!(
            "the configuration of {:?} has changed since (generation {} then, {} now)",
            story.destination, story.generation, now.generation
        ),
        () if !story.route.is_empty() && explained.route.is_none() => {
            format!("the route {:?} that held then is gone", story.route)
        }
        () => String::new(),
    };
    Some(Matching { original_dst: story.original_dst.clone(), note, ..matching(&explained) })
}

fn matching(explained: &Explanation) -> Matching {
    let passed = |passed: &Passed| PassedOver {
        told: passed
            .told
            .iter()
            .map(|(name, why)| Candidate { name: name.to_string(), why: why.clone() })
            .collect(),
        others: passed.others,
    };
    let destination = &explained.destination;
    let route = explained.route.map(|index| destination.routes[index].name.to_string());
    Matching {
        destination: destination.name.to_string(),
        because: explained.because.clone(),
        destinations: passed(&explained.destinations),
        route: route.unwrap_or_default(),
        route_because: explained.route_because.clone(),
        routes: passed(&explained.routes),
        ..Matching::default()
    }
}

/// What is done for a flow, or for an exchange with this method.
fn policy(explained: &Explanation, method: Option<&str>) -> Vec<String> {
    let destination = &explained.destination;
    if destination.deny {
        return vec!["refused: `deny = true`".to_owned()];
    }
    let mut lines = vec![endpoints(destination)];
    if destination.observe_only {
        lines.push("nothing else is done: there is no policy for it".to_owned());
        return lines;
    }
    lines.extend(destination.tls.as_ref().map(tls));
    let route = explained.route.map(|index| &destination.routes[index]);
    let policy = route.map_or(&destination.policy, |route| &route.policy);
    lines.extend(limits(policy, method));
    lines.push(retries(policy, method));
    let breaker = route.and_then(|route| route.breaker.as_ref()).or(destination.breaker.as_ref());
    lines.push(match breaker {
        None => "no circuit breaker".to_owned(),
        Some(breaker) => format!(
            "circuit breaker: opens for {:?} after {} failures within {:?}, if those are {} % or more",
            breaker.params.open,
            breaker.params.failures,
            breaker.params.window,
            breaker.params.failure_percent
        ),
    });
    lines
}

fn endpoints(destination: &Destination) -> String {
    let limit = destination.connect_timeout;
    match destination.endpoints.as_slice() {
        [] => format!("goes to the original destination, connected within {limit:?}"),
        own => {
            let own: Vec<_> = own.iter().map(ToString::to_string).collect();
            format!("goes to {}, each in turn, connected within {limit:?}", own.join(", "))
        }
    }
}

fn tls(tls: &Origination) -> String {
    let port = tls.port.map_or_else(String::new, |port| format!(", to port {port}"));
    let name = tls.server_name.as_deref();
    let verified = match &tls.verify {
        Verify::Nothing => "NOTHING is verified".to_owned(),
        Verify::Name => {
            format!("the certificate must be for {}", name.unwrap_or("the host that the app names"))
        }
        Verify::Spiffe(ids) => {
            let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
            format!("the certificate must be for {}", ids.join(" or "))
        }
    };
    let pins = if tls.pins.is_empty() { "" } else { ", with a pinned key" };
    let identity = match &tls.identity {
        None => "no certificate is presented".to_owned(),
        Some(files) => format!("{} is presented to a server that asks", files.certificate.display()),
    };
    format!("TLS for what the app does not encrypt itself{port}: {verified}{pins}; {identity}")
}

fn limits(policy: &Policy, method: Option<&str>) -> Option<String> {
    method?;
    Some(match (policy.timeout, policy.try_timeout) {
        (None, None) => "no time limit".to_owned(),
        (Some(whole), None) => format!("time limit: {whole:?} in all"),
        (None, Some(one)) => format!("time limit: {one:?} for each try"),
        (Some(whole), Some(one)) => format!("time limit: {whole:?} in all, {one:?} for each try"),
    })
}

fn retries(policy: &Policy, method: Option<&str>) -> String {
    let Some(retry) = &policy.retry else { return "no retry".to_owned() };
    let attempts = retry.attempts;
    let Some(method) = method else {
        return format!("connecting is tried up to {attempts} times");
    };
    let safety = match retry.methods.contains(method) {
        true => format!("{method} may be repeated"),
        false => {
            let key = retry.idempotency_header.as_deref();
            let key = key.map_or_else(String::new, |key| format!(", or with the header {key}"));
            format!("{method} only where the server provably did not process it{key}")
        }
    };
    format!("up to {attempts} attempts; {safety}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_survives_the_way_to_the_proxy() {
        let question = Question {
            address: Some("[fd98::2]:80".parse().unwrap()),
            sni: Some("a b".into()),
            method: Some("GET".into()),
            host: "pay.test:80".into(),
            path: "/a&b=c%20?".into(),
            query: "é=\"&x=1".into(),
            headers: vec![("x-tenant".into(), "gold=1&2".into())],
        };
        assert_eq!(Question::of_query(&question.to_query()), Ok(question));
        assert!(Question::of_query("address=x").unwrap_err().contains("not an address"));
    }

    #[test]
    fn the_policy_that_would_hold_is_told() {
        let text = "[destination.pay]\nhosts = ['pay']\ntimeout = '9s'\nretry = {}\nbreaker = {}\n\
                    [destination.no]\nports = [25]\ndeny = true\n";
        let config = Config::parse("test", text, &|_| None).unwrap();
        let address = Some("10.0.0.1:80".parse().unwrap());
        let question =
            Question { address, method: Some("POST".into()), host: "pay".into(), ..Question::default() };
        assert_eq!(
            question.ask(&config).unwrap().policy,
            [
                "goes to the original destination, connected within 5s",
                "time limit: 9s in all",
                "up to 3 attempts; POST only where the server provably did not process it",
                "circuit breaker: opens for 30s after 5 failures within 10s, if those are 50 % or more",
            ]
        );
        let with_tls =
            "[destination.pay]\nhosts = ['pay']\ntls = { port = 443, spiffe = ['spiffe://a/b'] }\n";
        let with_tls = Config::parse("test", with_tls, &|_| None).unwrap();
        assert_eq!(
            question.ask(&with_tls).unwrap().policy[1],
            "TLS for what the app does not encrypt itself, to port 443: the certificate must be for spiffe://a/b; \
             no certificate is presented"
        );
        let refused = Question { address: Some("10.0.0.1:25".parse().unwrap()), ..Question::default() };
        assert_eq!(refused.ask(&config).unwrap().policy, ["refused: `deny = true`"]);
        assert!(Question::default().ask(&config).is_err());
    }
}
