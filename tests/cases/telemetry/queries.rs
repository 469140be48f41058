//! Reads PromQL as far as to know which metrics a query is about, and by which labels.

use std::collections::BTreeSet;

/// A metric of a query, and the labels by which it is selected.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Selector {
    pub(crate) metric: String,
    pub(crate) labels: BTreeSet<String>,
}

/// What a query says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) selectors: Vec<Selector>,
    /// The labels by which anything is summed or matched.
    pub(crate) by: BTreeSet<String>,
}

/// Reads a query. Our metrics are told from functions by their names.
pub(crate) fn read(query: &str) -> Query {
    let mut result = Query::default();
    let (mut rest, mut last) = (query, "");
    while let Some(c) = rest.chars().next() {
        if c.is_ascii_alphabetic() || c == '_' {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            (last, rest) = rest.split_at(end);
            if last.starts_with("dragoman_") || last.starts_with("process_") {
                result.selectors.push(Selector { metric: last.to_owned(), labels: BTreeSet::new() });
            }
            continue;
        }
        match c {
            '"' => rest = rest[1..].split_once('"').expect("a closing quote").1,
            '{' => {
                let (inner, after) = rest[1..].split_once('}').expect("a closing brace");
                let labels = &mut result.selectors.last_mut().expect("a metric before its labels").labels;
                labels.extend(inner.split(',').filter_map(|matcher| {
                    let key = matcher.trim().split(['=', '!']).next()?;
                    (!key.is_empty()).then(|| key.to_owned())
                }));
                rest = after;
            }
            '(' if matches!(last, "by" | "on") => {
                let (inner, after) = rest[1..].split_once(')').expect("a closing parenthesis");
                result
                    .by
                    .extend(inner.split(',').map(|key| key.trim().to_owned()).filter(|key| !key.is_empty()));
                rest = after;
            }
            _ => rest = &rest[c.len_utf8()..],
        }
        if c != ' ' {
            last = "";
        }
    }
    result
}

#[test]
fn a_query_is_taken_apart() {
    let query =
        "sum by (job, x) (rate(dragoman_a_total{job=~\"$job\", c!=\"by(q)\"}[5m])) / on (y) process_b > 0";
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(
        read(query),
        Query {
            selectors: vec![
                Selector { metric: "dragoman_a_total".into(), labels: owned(&["job", "c"]) },
                Selector { metric: "process_b".into(), labels: owned(&[]) },
            ],
            by: owned(&["job", "x", "y"]),
        }
    );
    assert_eq!(read("time() - sum by () (up)").selectors, []);
}
