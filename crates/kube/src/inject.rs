//! Whole texts: what is asked of `dragoman inject`.

use crate::annotations::refuse_misplaced;
use crate::options::Options;
use crate::plan::{Done, Plan, plan};
use crate::refusal::{Refusal, Refusals};
use crate::value::Value;
use crate::workload::{Object, objects};
use crate::yaml::{self, Document, Wrong};

/// A text, and what was done to each of its objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The text as it is now.
    pub text: String,
    /// One for each object, in their order.
    pub reports: Vec<Report>,
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
    let text = uninject(text)?;
    let documents = yaml::parse(&text).map_err(unreadable)?;
    let (mut edits, mut reports, mut refusals) = (Vec::new(), Vec::new(), Vec::new());
    for (n, document) in documents.iter().enumerate().filter(|(_, document)| *document.value() != Value::Null)
    {
        for object in objects(document.value()) {
            match decide(&object, options) {
                Ok(None) => reports.push(Report { object: object.name, done: None, warnings: Vec::new() }),
                Ok(Some((at, plan))) => {
                    if !plan.edits.is_empty() {
                        edits.push((n, at.key("metadata"), plan.edits));
                    }
                    reports.push(Report {
                        object: object.name,
                        done: Some(plan.done),
                        warnings: plan.warnings,
                    });
                }
                Err(reasons) => refusals.extend(reasons.into_iter().map(|reason| placed(document, reason))),
            }
        }
    }
    if !refusals.is_empty() {
        refusals.sort_by_key(|refusal| refusal.line);
        return Err(refusals);
    }
    let text = yaml::apply(&text, &documents, &edits).map_err(unreadable)?;
    Ok(Outcome { text, reports })
}

/// Takes out what [`inject`] added, and gives the original back byte for byte.
///
/// # Errors
/// The text cannot be read, or what was added has been changed since.
pub fn uninject(text: &str) -> Result<String, Vec<Refusal>> {
    yaml::undo(text).map_err(unreadable)
}

/// What is added to the pod of an object, and where that is; nothing for a kind that has none.
fn decide(object: &Object<'_>, options: &Options) -> Result<Option<(crate::edit::Path, Plan)>, Vec<Refusal>> {
    let Some(pod) = object.pod() else { return Ok(None) };
    let mut wrong = Refusals::of(&object.name);
    refuse_misplaced(object, &mut wrong);
    match (wrong.done(), plan(&pod, options)) {
        (Ok(()), Ok(plan)) => Ok(Some((pod.at, plan))),
        (misplaced, planned) => {
            Err([misplaced.err(), planned.err()].into_iter().flatten().flatten().collect())
        }
    }
}

/// With the line of what it is about, or of the nearest thing around that.
fn placed(document: &Document, mut refusal: Refusal) -> Refusal {
    let mut at = refusal.at.clone();
    refusal.line = loop {
        match document.place(&at) {
            Some((line, _)) => break Some(line),
            None if at.0.pop().is_none() => break None,
            None => {}
        }
    };
    refusal
}

fn unreadable(wrong: Wrong) -> Vec<Refusal> {
    vec![Refusal {
        line: Some(wrong.line),
        object: String::new(),
        at: crate::edit::Path::default(),
        reason: wrong.reason,
    }]
}
