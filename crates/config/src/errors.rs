//! What is wrong with a configuration, told all at once.
//!
//! Someone who repairs a file wants the whole list, each with the place to look at and what to write
//! there. So nothing here stops at the first mistake: the stages add [`Problem`]s, and [`Errors`] shows
//! them in the order of the file, with the line itself and a caret under what is meant.

use std::{fmt, ops::Range};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// How many problems are rendered: the rest of a file that is no configuration at all teaches nothing.
const SHOWN: usize = 50;

/// Every mistake of a configuration, in the order of the file; never empty.
#[derive(Clone, Debug)]
pub struct Errors {
    sources: Vec<Source>,
    problems: Vec<Problem>,
}

impl Errors {
    /// `problems` are sorted by place, and one that is told twice (a default that several destinations
    /// inherit) is kept once.
    pub(crate) fn new(sources: Vec<Source>, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.place);
        let mut kept: Vec<Problem> = Vec::with_capacity(problems.len());
        for problem in problems {
            let mut here = kept.iter().rev().take_while(|other| other.place == problem.place);
            if !here.any(|other| other.message == problem.message) {
                kept.push(problem);
            }
        }
        Self { sources, problems: kept }
    }

    /// How many mistakes there are.
    pub fn count(&self) -> usize {
        self.problems.len()
    }

    /// Each mistake, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter()
    }

    /// The report for a person: each mistake with its line, a caret and what to do, then their number.
    /// `color` adds ANSI styles.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let mut report = String::new();
        for problem in self.problems.iter().take(SHOWN) {
            report.push_str(&renderer.render(&[problem.group(&self.sources)]));
            report.push_str("\n\n");
        }
        let hidden = self.problems.len().saturating_sub(SHOWN);
        let first = self.problems.first().and_then(|problem| problem.place).unwrap_or_default();
        let name = &self.sources[first.source].name;
        let noun = if self.count() == 1 { "error" } else { "errors" };
        report.push_str(&format!("{name}: {} {noun}", self.count()));
        if hidden > 0 {
            report.push_str(&format!(", of which the first {SHOWN} are shown"));
        }
        report
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Errors {}

/// One mistake.
#[derive(Clone, Debug)]
pub struct Problem {
    message: String,
    place: Option<Place>,
    label: String,
    others: Vec<(Place, String)>,
    help: Option<String>,
}

impl Problem {
    pub(crate) fn new(place: Place, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { message, place: Some(place), label: String::new(), others: Vec::new(), help: None }
    }

    /// A problem of the file as a whole, such as one that cannot be read.
    pub(crate) fn nowhere(message: impl Into<String>) -> Self {
        Self { place: None, ..Self::new(Place::default(), message) }
    }

    /// What is said beside the caret.
    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Another place that has to do with it.
    pub(crate) fn also(mut self, place: Place, label: impl Into<String>) -> Self {
        self.others.push((place, label.into()));
        self
    }

    /// What to write instead.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// What is wrong, in one line.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The bytes of the file that are meant; `None` if the file could not be read at all, or if an
    /// environment variable is at fault.
    pub fn span(&self) -> Option<Range<usize>> {
        self.place.filter(|place| place.source == 0).map(Place::range)
    }

    fn group<'a>(&'a self, sources: &'a [Source]) -> Group<'a> {
        let mut group = Group::with_title(Level::ERROR.primary_title(self.message.as_str()));
        let mut shown = Vec::new();
        for place in self.place.iter().chain(self.others.iter().map(|(place, _)| place)) {
            if !shown.contains(&place.source) {
                shown.push(place.source);
                group = group.element(self.snippet(place.source, &sources[place.source]));
            }
        }
        match &self.help {
            Some(help) => group.element(Level::HELP.message(help.as_str())),
            None => group,
        }
    }

    fn snippet<'a>(
        &'a self,
        index: usize,
        source: &'a Source,
    ) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
        let here = self.place.iter().map(|place| (AnnotationKind::Primary, place, &self.label));
        let others = self.others.iter().map(|(place, label)| (AnnotationKind::Context, place, label));
        let annotations =
            here.chain(others).filter(|(_, place, _)| place.source == index).map(|(kind, place, label)| {
                let label = (!label.is_empty()).then_some(label.as_str());
                kind.span(place.range()).label(label)
            });
        Snippet::source(source.text.as_str()).path(source.name.as_str()).annotations(annotations)
    }
}

/// A text that configuration comes from: the file, or one environment variable.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) text: String,
}

/// Where something was said: a range of bytes in the source with that index. Source 0 is the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) source: usize,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Place {
    pub(crate) fn new(source: usize, range: Range<usize>) -> Self {
        Self { source, start: range.start, end: range.end }
    }

    fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

/// Where the lines of a text begin.
pub(crate) struct Lines(Vec<usize>);

impl Lines {
    pub(crate) fn of(text: &str) -> Self {
        Self(text.match_indices('\n').map(|(newline, _)| newline + 1).collect())
    }

    /// The number of the line at this byte, counted from 1.
    pub(crate) fn number(&self, byte: usize) -> usize {
        1 + self.0.partition_point(|start| *start <= byte)
    }
}
