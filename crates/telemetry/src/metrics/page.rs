//! The page that Prometheus reads: the text format, version 0.0.4.
//!
//! The format wants each family whole and in one place, while the numbers lie by destination. So each family has a
//! text of its own, which is filled in any order and joined at the end.

use std::fmt::{Display, Write};

use super::catalogue::{Kind, Metric};
use super::histogram::{BUCKETS, Cumulative, Histogram};

/// One scrape, as it is being written.
#[derive(Debug)]
pub(crate) struct Page(Vec<String>);

impl Page {
    pub(crate) fn new() -> Page {
        Page(vec![String::new(); Metric::ALL.len()])
    }

    /// One sample. `labels` are the values of the metric's labels, in the order of the catalogue.
    pub(crate) fn sample(&mut self, metric: Metric, labels: &[&str], value: impl Display) {
        debug_assert!(metric.kind() != Kind::Histogram, "{metric:?} has buckets");
        self.line(metric, "", labels, None, value);
    }

    /// A histogram, if anything was recorded in it.
    pub(crate) fn histogram(&mut self, metric: Metric, labels: &[&str], histogram: &Histogram) {
        debug_assert!(metric.kind() == Kind::Histogram, "{metric:?} has no buckets");
        let Some(Cumulative { counts, sum_micros }) = histogram.cumulative() else { return };
        let bounds = BUCKETS.iter().map(|(_, seconds)| *seconds).chain(["+Inf"]);
        for (bound, count) in bounds.zip(counts) {
            self.line(metric, "_bucket", labels, Some(("le", bound)), count);
        }
        let (seconds, micros) = (sum_micros / 1_000_000, sum_micros % 1_000_000);
        self.line(metric, "_sum", labels, None, format_args!("{seconds}.{micros:06}"));
        self.line(metric, "_count", labels, None, counts[counts.len() - 1]);
    }

    fn line(
        &mut self,
        metric: Metric,
        suffix: &str,
        labels: &[&str],
        more: Option<(&str, &str)>,
        value: impl Display,
    ) {
        debug_assert_eq!(labels.len(), metric.labels().len(), "the labels of {metric:?}");
        let out = &mut self.0[metric as usize];
        out.push_str(metric.name());
        out.push_str(suffix);
        let pairs = metric.labels().iter().copied().zip(labels.iter().copied()).chain(more);
        let mut open = '{';
        for (key, value) in pairs {
            out.push(open);
            open = ',';
            out.push_str(key);
            out.push_str("=\"");
            push_escaped(out, value);
            out.push('"');
        }
        if open == ',' {
            out.push('}');
        }
        writeln!(out, " {value}").expect("writing to a String cannot fail");
    }

    /// The whole text. A family without a sample is left out.
    pub(crate) fn finish(self) -> String {
        let mut text = String::with_capacity(self.0.iter().map(|family| family.len() + 128).sum());
        for (metric, samples) in Metric::ALL.iter().zip(self.0).filter(|(_, samples)| !samples.is_empty()) {
            let (name, about, kind) = (metric.name(), metric.about(), metric.kind().as_str());
            write!(text, "# HELP {name} {about}\n# TYPE {name} {kind}\n{samples}")
                .expect("writing to a String cannot fail");
        }
        text
    }
}

/// A label's value, with the three escapes that the format has.
fn push_escaped(out: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_cumulative_and_ends_with_everything() {
        let mut page = Page::new();
        let histogram = Histogram::default();
        page.histogram(Metric::Connect, &["d"], &histogram);
        assert_eq!(page.0.concat(), "", "nothing was recorded");
        histogram.record(std::time::Duration::from_micros(1_500));
        page.histogram(Metric::Connect, &["d"], &histogram);
        let text = page.finish();
        for line in [
            "_bucket{destination=\"d\",le=\"0.001\"} 0",
            "_bucket{destination=\"d\",le=\"0.0025\"} 1",
            "_bucket{destination=\"d\",le=\"+Inf\"} 1",
            "_sum{destination=\"d\"} 0.001500",
            "_count{destination=\"d\"} 1",
        ] {
            assert!(text.contains(&format!("\ndragoman_connect_seconds{line}\n")), "{line} in {text}");
        }
    }

    #[test]
    fn families_are_whole_in_the_order_of_the_catalogue() {
        let mut page = Page::new();
        page.sample(Metric::IdleClosed, &["one"], 1);
        page.sample(Metric::FlowsOpen, &[], 0.5);
        page.sample(Metric::IdleClosed, &["a\\b\"c\nd"], 2);
        let about = Metric::FlowsOpen.about();
        let idle = Metric::IdleClosed.about();
        assert_eq!(
            page.finish(),
            format!(
                "# HELP dragoman_flows_open {about}\n# TYPE dragoman_flows_open gauge\ndragoman_flows_open 0.5\n\
                 # HELP dragoman_upstream_idle_closed_total {idle}\n\
                 # TYPE dragoman_upstream_idle_closed_total counter\n\
                 dragoman_upstream_idle_closed_total{{destination=\"one\"}} 1\n\
                 dragoman_upstream_idle_closed_total{{destination=\"a\\\\b\\\"c\\nd\"}} 2\n"
            )
        );
    }
}
