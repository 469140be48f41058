//! What is wrong with a configuration, told all at once.
//!
//! Someone who repairs a file wants the whole list, each with the place to look at and what to write
//! there. So nothing here stops at the first mistake: the stages add [`Problem`]s, and [`Errors`] shows
//! them in the order of the files, with the line itself and a caret under what is meant.

use std::{fmt, ops::Range};

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

/// How many problems are rendered: the rest of a file that is no configuration at all teaches nothing.
const SHOWN: usize = 50;

/// Every mistake of a configuration, in the order of the files; never empty.
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

    /// Each mistake, in the order of the files.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter()
    }

    /// Where one of these mistakes is; `None` if a file could not be read at all, or if an environment variable is
    /// at fault.
    pub fn position(&self, problem: &Problem) -> Option<Position<'_>> {
        let place = problem.place?;
        let source = &self.sources[place.source];
        source.variable.is_none().then(|| Position::of(source, place))
    }

    /// Each mistake in one line, for a log: `FILE:LINE:COLUMN: what is wrong (what to do)`; of very many, the first
    /// ones and how many more there are. Unlike [`render`](Self::render) it shows nothing of the files' text, which may
    /// hold a secret.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let hidden = self.count().saturating_sub(SHOWN);
        let more = (hidden > 0).then(|| format!("and {hidden} more errors"));
        self.problems.iter().take(SHOWN).map(|problem| self.line(problem)).chain(more)
    }

    fn line(&self, problem: &Problem) -> String {
        let start = match (self.position(problem), problem.place) {
            (Some(Position { file, line, column, .. }), _) => format!("{file}:{line}:{column}: "),
            (None, Some(place)) => format!("{}: ", self.sources[place.source].origin(1)),
            (None, None) => String::new(),
        };
        let help = problem.help.as_ref().map_or(String::new(), |help| format!(" ({help})"));
        format!("{start}{}{help}", problem.message)
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
        let noun = if self.count() == 1 { "error" } else { "errors" };
        report.push_str(&format!("{}{} {noun}", self.where_all_are(), self.count()));
        if hidden > 0 {
            report.push_str(&format!(", of which the first {SHOWN} are shown"));
        }
        report
    }

    /// "FILE: " if all mistakes are in one; otherwise each has said where it is.
    fn where_all_are(&self) -> String {
        let places = self.problems.iter().filter_map(|problem| problem.place);
        let mut names: Vec<_> = places.map(|place| self.sources[place.source].name.as_str()).collect();
        names.dedup();
        match names[..] {
            [one] => format!("{one}: "),
            _ => String::new(),
        }
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
    /// Whether the text at its place may be a secret, and is not shown.
    is_quiet: bool,
}

impl Problem {
    pub(crate) fn new(place: Place, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            message,
            place: Some(place),
            label: String::new(),
            others: Vec::new(),
            help: None,
            is_quiet: false,
        }
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

    /// Its place is told, and what stands there is not shown: it may be a secret.
    pub(crate) fn quiet(mut self) -> Self {
        self.is_quiet = true;
        self
    }

    /// What is wrong, in one line.
    pub fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn place(&self) -> Option<Place> {
        self.place
    }

    fn group<'a>(&'a self, sources: &'a [Source]) -> Group<'a> {
        let mut group = Group::with_title(Level::ERROR.primary_title(self.message.as_str()));
        let mut shown = Vec::new();
        for place in self.place.iter().chain(self.others.iter().map(|(place, _)| place)) {
            if !shown.contains(&place.source) {
                shown.push(place.source);
                let source = &sources[place.source];
                group = match self.is_quiet {
                    true => {
                        let at = Position::of(source, *place);
                        group.element(Origin::path(at.file).line(at.line).char_column(at.column))
                    }
                    false => group.element(self.snippet(place.source, source)),
                };
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

/// A place in a file, for programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position<'a> {
    /// The file, as it was named.
    pub file: &'a str,
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// The bytes of the file that are meant.
    pub span: Range<usize>,
}

impl<'a> Position<'a> {
    pub(crate) fn of(source: &'a Source, place: Place) -> Self {
        let line = Lines::of(&source.text).number(place.start);
        let before = &source.text[..place.start];
        let column = 1 + before.chars().rev().take_while(|c| *c != '\n').count();
        Self { file: &source.name, line, column, span: place.range() }
    }
}

/// A text that configuration comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) text: String,
    /// The environment variable that it is, if it is no file.
    variable: Option<&'static str>,
}

impl Source {
    pub(crate) fn file(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into(), variable: None }
    }

    /// Its text reads as one would set it in a shell.
    pub(crate) fn variable(variable: &'static str, value: &str) -> Self {
        Self { name: "environment".into(), text: format!("{variable}={value}"), variable: Some(variable) }
    }

    /// Where what stands on this line was said: `FILE:LINE`, or the variable.
    pub(crate) fn origin(&self, line: usize) -> String {
        match self.variable {
            Some(variable) => format!("environment {variable}"),
            None => format!("{}:{line}", self.name),
        }
    }
}

/// Where something was said: a range of bytes in the source with that index. The files come first, in their
/// order, then the environment variables.
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
