//! Whole texts: what is asked of `dragoman inject`.

use crate::annotations::{refuse_misplaced, refuse_unread};
use crate::edit::{Edit, Path};
use crate::look::Node;
use crate::options::Options;
use crate::plan::{Done, Plan, is_ours, plan};
use crate::refusal::{Refusal, Refusals};
use crate::refuse;
use crate::value::Value;
use crate::workload::{Object, objects};
use crate::yaml::{self, Document, Part, Undone, Wrong};

/// Each pod that nothing can be written into is looked at again without those before it.
const MOST_UNWRITABLE: usize = 100;

/// A text, and what was done to each of its objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The text as it is now.
    pub text: String,
    /// One for each object, in their order.
    pub reports: Vec<Report>,
    /// What of an injection before this one somebody had changed: it is there anew, without the change.
    pub lost: Vec<Part>,
}

/// A text without what was added to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Original {
    /// The text as it is now.
    pub text: String,
    /// What of that somebody had changed: the change is gone with it.
    pub lost: Vec<Part>,
    /// What is dragoman's by its name and is in no record, so that it stays.
    pub left: Vec<Part>,
}

/// What was done to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The object, as `Deployment shop/web`.
    pub object: String,
    /// What came of its pod; nothing where it is of a kind that has none.
    pub done: Option<Done>,
    /// What is allowed and doubtful, each in one line.
    pub warnings: Vec<String>,
}

/// Adds dragoman to every pod of a stream of YAML or JSON documents. What was added before is taken out first, so that to
/// inject twice is to inject once, by the later options.
///
/// Every other byte stays as it is.
///
/// # Errors
/// Every reason against it, of all objects at once. Then nothing is injected anywhere.
pub fn inject(text: &str, options: &Options) -> Result<Outcome, Vec<Refusal>> {
    let undone = yaml::taken_out(text, is_ours).map_err(|wrong| vec![unread(text, wrong)])?;
    let lost = undone.lost.clone();
    injected(&undone, options).map(|outcome| Outcome { lost, ..outcome }).map_err(|mut refusals| {
        // They are about the text without what was added before, and whoever reads them has the one with it.
        let lines = undone.lines_before(text);
        for refusal in &mut refusals {
            refusal.line = refusal.line.map(|line| lines.of(line));
        }
        refusals
    })
}

/// Takes out what [`inject`] added, and gives the original back byte for byte.
///
/// # Errors
/// The text cannot be read, or what was added has been changed since.
pub fn uninject(text: &str) -> Result<Original, Vec<Refusal>> {
    let undone = yaml::taken_out(text, is_ours).map_err(|wrong| vec![unread(text, wrong)])?;
    let lines = undone.lines_before(text);
    let left = undone.documents.iter().flat_map(left).map(|part| Part { line: lines.of(part.line), ..part });
    Ok(Original { left: left.collect(), text: undone.text, lost: undone.lost })
}

/// What is dragoman's by its name.
fn left(document: &Document) -> Vec<Part> {
    let pods = objects(document.value()).into_iter().filter_map(|object| object.pod());
    let named = pods.flat_map(|pod| refuse::named_as_ours(&Node { value: pod.spec, at: pod.at.key("spec") }));
    named.map(|(at, name)| Part { line: line(document, &at), what: format!("{at} {name:?}") }).collect()
}

/// Of a text that has nothing of dragoman.
fn injected(Undone { text, documents, .. }: &Undone, options: &Options) -> Result<Outcome, Vec<Refusal>> {
    let (mut additions, mut reports, mut refusals) = (Additions::default(), Vec::new(), Vec::new());
    for (n, document) in documents.iter().enumerate().filter(|(_, document)| *document.value() != Value::Null)
    {
        for object in objects(document.value()) {
            match decide(&object, options) {
                Ok(None) => {
                    let done = object.unknown_template().map(|_| Done::Unknown);
                    reports.push(Report { object: object.name, done, warnings: Vec::new() });
                }
                Ok(Some((at, plan))) => {
                    if !plan.edits.is_empty() {
                        additions.objects.push((object.name.clone(), line(document, &object.node.at)));
                        additions.edits.push((n, at.key("metadata"), plan.edits));
                    }
                    reports.push(Report {
                        object: object.name,
                        done: Some(plan.done),
                        warnings: plan.warnings,
                    });
                }
                Err(reasons) => refusals.extend(reasons.into_iter().map(|reason| {
                    let line = Some(line(document, &reason.at));
                    Refusal { line, ..reason }
                })),
            }
        }
    }
    match additions.apply(text, documents) {
        Ok(text) if refusals.is_empty() => Ok(Outcome { text, reports, lost: Vec::new() }),
        applied => {
            refusals.extend(applied.err().into_iter().flatten());
            refusals.sort_by_key(|refusal| refusal.line);
            Err(refusals)
        }
    }
}

/// What is added to the pods of a text, in the order in which they stand there.
#[derive(Default)]
struct Additions {
    /// The name and the line of each pod's object.
    objects: Vec<(String, usize)>,
    /// The number of its document, its metadata, and the edits.
    edits: Vec<(usize, Path, Vec<Edit>)>,
}

impl Additions {
    /// The text with them, or each pod whose text does not let anything be added (of very many, the first ones): since an
    /// alias stands where it would be, say.
    fn apply(mut self, text: &str, documents: &[Document]) -> Result<String, Vec<Refusal>> {
        let mut refusals = Vec::new();
        loop {
            let wrong = match yaml::apply(text, documents, &self.edits) {
                Ok(text) if refusals.is_empty() => return Ok(text),
                Ok(_) => return Err(refusals),
                Err(wrong) => wrong,
            };
            // The others may be wrong too.
            let Some(n) = self.objects.iter().rposition(|(_, line)| *line <= wrong.line) else {
                refusals.push(told(wrong));
                return Err(refusals);
            };
            self.edits.remove(n);
            let (object, _) = self.objects.remove(n);
            refusals.push(Refusal { object, ..told(wrong) });
            if refusals.len() == MOST_UNWRITABLE {
                return Err(refusals);
            }
        }
    }
}

/// What is added to the pod of an object, and where that is; nothing for a kind that has none.
fn decide(object: &Object<'_>, options: &Options) -> Result<Option<(Path, Plan)>, Vec<Refusal>> {
    let mut wrong = Refusals::of(&object.name);
    let Some(pod) = object.pod() else {
        refuse_unread(object, &mut wrong);
        return wrong.done().map(|()| None);
    };
    refuse_misplaced(object, &mut wrong);
    let planned = plan(&pod, options);
    if !matches!(&planned, Ok(plan) if plan.edits.is_empty()) {
        refuse::object(object, &mut wrong);
    }
    match (wrong.done(), planned) {
        (Ok(()), Ok(plan)) => Ok(Some((pod.at, plan))),
        (around, planned) => Err([around.err(), planned.err()].into_iter().flatten().flatten().collect()),
    }
}

/// The line of what is there, or of the nearest thing around it.
fn line(document: &Document, at: &Path) -> usize {
    let mut at = at.clone();
    loop {
        match document.place(&at) {
            Some((line, _)) => return line,
            None if at.0.pop().is_none() => return 1,
            None => {}
        }
    }
}

/// Of a text that cannot be read.
fn unread(text: &str, wrong: Wrong) -> Refusal {
    let mut lines = text.lines();
    let before = wrong.line.checked_sub(2).and_then(|line| lines.nth(line)).unwrap_or_default();
    let line = lines.next().unwrap_or_default();
    let mut refusal = told(wrong);
    if line.contains("{{") {
        refusal.reason.push_str("; if this is a template, render it first (`helm template`)");
    } else if before.ends_with('}') && line.starts_with('{') {
        refusal.reason.push_str("; between two documents of JSON write a line `---`");
    }
    refusal
}

fn told(wrong: Wrong) -> Refusal {
    Refusal { line: Some(wrong.line), object: String::new(), at: Path::default(), reason: wrong.reason }
}
