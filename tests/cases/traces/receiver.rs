//! A receiver of OTLP that reads with the official messages, and what it read.

use std::fs;
use std::path::PathBuf;

use dragoman_harness::net::server;
use dragoman_harness::process::Process;
use dragoman_harness::scratch::Scratch;
use dragoman_harness::{Net, programs, wait};
use serde_json::Value;

/// Where it listens, in S.
pub(crate) const PORT: u16 = 4318;

/// A running receiver.
pub(crate) struct Receiver {
    process: Process,
    scratch: Scratch,
}

impl Receiver {
    pub(crate) fn start(net: &Net) -> Receiver {
        let scratch = Scratch::new("otlp");
        let mut command = net.servers.command(programs::python());
        command.arg(programs::path("otlp_receiver.py")).arg(PORT.to_string());
        command.arg(scratch.path().join("spans")).arg(scratch.path().join("answers"));
        let log = scratch.path().join("log");
        let mut process = Process::start("the receiver of traces", &mut command, &log, None);
        process.wait_ready(wait::SOON, || net.servers.listens(PORT));
        Receiver { process, scratch }
    }

    /// How the next requests are answered, one by line: see the program. Empty: with 200.
    pub(crate) fn answer(&self, lines: &str) {
        // Renamed into place: the program must not read half of it.
        let next = self.scratch.write("answers.next", lines);
        fs::rename(next, self.scratch.path().join("answers")).expect("a file can be renamed");
    }

    /// Whether it has used up all answers.
    pub(crate) fn has_answered(&self) -> bool {
        fs::read_to_string(self.scratch.path().join("answers")).is_ok_and(|lines| lines.is_empty())
    }

    /// The spans so far, in the order of arrival.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let log = self.process.log();
        assert!(!log.contains("Error"), "{log}");
        let text = fs::read_to_string(self.spans_file()).unwrap_or_default();
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole.map(|line| Span(serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))).collect()
    }

    /// Waits for `n` spans and returns them. They come within a period of the exporter.
    pub(crate) fn wait(&self, n: usize) -> Vec<Span> {
        wait::until_some(&format!("{n} spans"), wait::SOON, || Some(self.spans()).filter(|it| it.len() >= n))
    }

    fn spans_file(&self) -> PathBuf {
        self.scratch.path().join("spans")
    }
}

/// The configuration that exports to [`Receiver`].
pub(crate) fn exporting(sample: &str, rest: &str) -> String {
    let endpoint = format!("http://{}", server(PORT));
    format!(
        "[trace]\nendpoint = '{endpoint}'\nsample = {sample}\nservice_name = 'shop'\nheaders = {{ x-key = 'k' }}\n{rest}"
    )
}

/// A span as the program wrote it.
#[derive(Clone, Debug)]
pub(crate) struct Span(Value);

impl Span {
    pub(crate) fn text(&self, key: &str) -> &str {
        self.0[key].as_str().unwrap_or_else(|| panic!("no text {key}: {self:#?}"))
    }

    pub(crate) fn number(&self, key: &str) -> u64 {
        self.0[key].as_u64().unwrap_or_else(|| panic!("no number {key}: {self:#?}"))
    }

    /// An attribute; null where there is none.
    pub(crate) fn attribute(&self, key: &str) -> &Value {
        &self.0["attributes"][key]
    }

    pub(crate) fn resource(&self, key: &str) -> &Value {
        &self.0["resource"][key]
    }

    pub(crate) fn key(&self) -> &Value {
        &self.0["key"]
    }

    /// Whether it lies within another one, in time.
    pub(crate) fn lies_within(&self, other: &Span) -> bool {
        other.number("start") <= self.number("start")
            && self.number("start") <= self.number("end")
            && self.number("end") <= other.number("end")
    }

    /// Those of `spans` that it called, in the order of their beginning.
    pub(crate) fn children<'a>(&self, spans: &'a [Span]) -> Vec<&'a Span> {
        let mut children: Vec<_> =
            spans.iter().filter(|it| it.text("parent") == self.text("span_id")).collect();
        children.sort_by_key(|it| it.number("start"));
        children
    }
}

/// The spans of exchanges and flows: those whose caller is none of ours.
pub(crate) fn roots(spans: &[Span]) -> Vec<&Span> {
    let is_ours = |id: &str| spans.iter().any(|span| span.text("span_id") == id);
    spans.iter().filter(|span| !is_ours(span.text("parent"))).collect()
}
