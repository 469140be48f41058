//! `/destinations`: the live state of each destination, for a program or for a person.

use std::collections::BTreeMap;
use std::fmt::Write;

use dragoman_config::{Config, Destination};
use dragoman_telemetry::{BreakerState, DestinationState, EndpointState};
use serde_json::{Value, json};

/// One JSON object with a list of all destinations, by name.
pub(crate) fn json(config: &Config, states: &[(usize, DestinationState)]) -> String {
    let destinations: Vec<_> = sorted(config, states).map(|(it, state)| destination(it, state)).collect();
    let page = json!({ "generation": config.generation(), "destinations": destinations });
    format!("{page:#}\n")
}

/// A table with a line for each endpoint in use, and at least one for each destination.
pub(crate) fn table(config: &Config, states: &[(usize, DestinationState)]) -> String {
    let header = ["DESTINATION", "ENDPOINT", "BREAKER", "RETRIES", "HTTP/1 IDLE", "HTTP/2", "STREAMS"];
    let mut rows = vec![header.map(str::to_owned)];
    for (destination, state) in sorted(config, states) {
        let none = String::from("-");
        let count = |of: fn(&DestinationState) -> usize| state.map_or(0, of).to_string();
        let own =
            [count(|it| it.http1_idle), count(|it| it.http2_idle + it.http2_in_use), count(|it| it.streams)];
        let row =
            |name: &str, [address, breaker, retries]: [String; 3], [idle, shared, streams]: [String; 3]| {
                [name.to_owned(), address, breaker, retries, idle, shared, streams]
            };
        let endpoints = state.map_or(&[][..], |state| &state.endpoints);
        let first = endpoints.first().map_or_else(|| [none.clone(), none.clone(), none.clone()], cells);
        rows.push(row(&destination.name, first, own));
        let blank = || [String::new(), String::new(), String::new()];
        rows.extend(endpoints.iter().skip(1).map(|endpoint| row("", cells(endpoint), blank())));
    }
    align(&rows)
}

/// Every destination by name, with its state if it has any.
fn sorted<'a>(
    config: &'a Config,
    states: &'a [(usize, DestinationState)],
) -> impl Iterator<Item = (&'a Destination, Option<&'a DestinationState>)> {
    let state = |index| states.iter().find(|(of, _)| *of == index).map(|(_, state)| state);
    let by_name: BTreeMap<_, _> = config.destinations().iter().map(|it| (&*it.name, &**it)).collect();
    by_name.into_values().map(move |destination| (destination, state(destination.index)))
}

fn destination(destination: &Destination, state: Option<&DestinationState>) -> Value {
    let endpoints: Vec<_> = state.iter().flat_map(|state| &state.endpoints).map(endpoint).collect();
    let count = |of: fn(&DestinationState) -> usize| state.map_or(0, of);
    json!({
        "name": &*destination.name,
        "deny": destination.deny,
        "endpoints": destination.endpoints.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "routes": destination.routes.iter().map(|route| &*route.name).collect::<Vec<_>>(),
        "in_use": endpoints,
        "http1_idle": count(|it| it.http1_idle),
        "http2_idle": count(|it| it.http2_idle),
        "http2_in_use": count(|it| it.http2_in_use),
        "http2_streams": count(|it| it.streams),
    })
}

fn endpoint(endpoint: &EndpointState) -> Value {
    json!({
        "address": endpoint.address.to_string(),
        "breaker": endpoint.breaker.map(BreakerState::as_str),
        "retries": endpoint.retries,
    })
}

fn cells(endpoint: &EndpointState) -> [String; 3] {
    let none = || "-".to_owned();
    [
        endpoint.address.to_string(),
        endpoint.breaker.map_or_else(none, |state| state.as_str().to_owned()),
        endpoint.retries.map_or_else(none, |retries| retries.to_string()),
    ]
}

fn align<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let widths: Vec<_> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            write!(line, "{cell:width$}  ").expect("a String takes all");
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> (Config, Vec<(usize, DestinationState)>) {
        let text = "[destination.pay]\nhosts = ['pay']\n[destination.pay.route.r]\npath = '/'\n";
        let config = Config::parse("test", text, &|_| None).unwrap();
        let endpoint = |last, breaker| EndpointState {
            address: ([10, 0, 0, last], 80).into(),
            breaker: Some(breaker),
            retries: Some(7),
        };
        let endpoints = vec![endpoint(1, BreakerState::Open), endpoint(20, BreakerState::Closed)];
        let state = DestinationState { endpoints, http1_idle: 3, ..DestinationState::default() };
        (config, vec![(1, state)])
    }

    #[test]
    fn a_person_gets_a_table() {
        let (config, states) = page();
        let expected = "\
DESTINATION  ENDPOINT      BREAKER  RETRIES  HTTP/1 IDLE  HTTP/2  STREAMS
default      -             -        -        0            0       0
pay          10.0.0.1:80   open     7        3            0       0
             10.0.0.20:80  closed   7
";
        assert_eq!(table(&config, &states), expected);
    }

    #[test]
    fn a_program_gets_json() {
        let (config, states) = page();
        let page: Value = serde_json::from_str(&json(&config, &states)).unwrap();
        let pay = &page["destinations"][1];
        assert_eq!(
            (&pay["name"], &pay["routes"][0], &pay["http1_idle"]),
            (&"pay".into(), &"r".into(), &3.into())
        );
        assert_eq!(pay["in_use"][0], json!({ "address": "10.0.0.1:80", "breaker": "open", "retries": 7 }));
        assert_eq!(page["destinations"][0]["in_use"], json!([]));
    }
}
