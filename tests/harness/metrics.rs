//! Reads the Prometheus text format: enough to compare counters with what a server counted.

use std::collections::{BTreeMap, BTreeSet};

/// One scrape.
#[derive(Clone, Debug)]
pub struct Metrics {
    series: Vec<Series>,
}

#[derive(Clone, Debug)]
struct Series {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Metrics {
    /// Reads a scrape. Panics on a line that is not in the format: the proxy's fault.
    pub fn parse(text: &str) -> Metrics {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let read = |line| series(line).unwrap_or_else(|| panic!("not a Prometheus line: {line:?}"));
        Metrics { series: lines.map(read).collect() }
    }

    /// The sum of all series of that name that have at least these labels. A counter that has not been
    /// touched has no series and counts as 0.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let has =
            |s: &&Series| labels.iter().all(|(key, value)| s.labels.get(*key).is_some_and(|v| v == value));
        let series = self.series.iter().filter(|s| s.name == name).filter(has);
        // Not `sum`: that of nothing is -0.
        let sum = series.fold(0.0, |sum, s| sum + s.value);
        assert!(sum >= 0.0 && sum.fract() == 0.0, "{name} is not a count: {sum}");
        format!("{sum}").parse().unwrap_or_else(|_| panic!("{name} is not a count: {sum}"))
    }

    /// The names of all series.
    pub fn names(&self) -> BTreeSet<&str> {
        self.series.iter().map(|s| &*s.name).collect()
    }

    /// How many series there are.
    pub fn count(&self) -> usize {
        self.series.len()
    }

    /// The keys of the labels that every series of that name has; none where there is no such series.
    pub fn labels(&self, name: &str) -> Option<BTreeSet<&str>> {
        let of_name = self.series.iter().filter(|s| s.name == name);
        let keys = of_name.map(|s| s.labels.keys().map(|key| &**key).collect::<BTreeSet<_>>());
        keys.reduce(|one, other| one.intersection(&other).copied().collect())
    }

    /// Every value of one label of a metric that is above zero.
    pub fn values(&self, name: &str, label: &str) -> BTreeMap<String, u64> {
        let of_name = self.series.iter().filter(|s| s.name == name && s.value > 0.0);
        let keys = of_name.filter_map(|s| s.labels.get(label).cloned());
        keys.map(|key| (key.clone(), self.sum(name, &[(label, &key)]))).collect()
    }
}

fn series(line: &str) -> Option<Series> {
    let (id, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, rest)) = id.split_once('{') else {
        return Some(Series { name: id.to_owned(), labels: BTreeMap::new(), value });
    };
    let mut labels = BTreeMap::new();
    let mut rest = rest.strip_suffix('}')?;
    while !rest.is_empty() {
        let (key, after) = rest.split_once("=\"")?;
        let (label, after) = quoted(after)?;
        labels.insert(key.to_owned(), label);
        rest = after.strip_prefix(',').unwrap_or(after);
    }
    Some(Series { name: name.to_owned(), labels, value })
}

/// A label's value up to its closing quote, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_over_the_labels_that_are_not_named() {
        let text = "# TYPE a counter\na{x=\"1\",y=\"p\"} 2\na{x=\"1\",y=\"q\\\"}\"} 3\nab 7\n";
        let metrics = Metrics::parse(text);
        assert_eq!(metrics.sum("a", &[("x", "1")]), 5);
        assert_eq!(metrics.sum("a", &[("y", "q\"}")]), 3);
        assert_eq!(metrics.sum("a", &[("y", "none")]), 0);
        assert_eq!(metrics.sum("ab", &[]), 7);
        assert_eq!(metrics.values("a", "y").len(), 2);
        assert_eq!(metrics.labels("a"), Some(BTreeSet::from(["x", "y"])));
        assert_eq!((metrics.labels("ab"), metrics.labels("b")), (Some(BTreeSet::new()), None));
        assert_eq!((metrics.names(), metrics.count()), (BTreeSet::from(["a", "ab"]), 3));
    }

    #[test]
    #[should_panic(expected = "not a Prometheus line")]
    fn a_line_that_is_no_series_is_said() {
        Metrics::parse("a{x=\"1} 2\n");
    }
}
