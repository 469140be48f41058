//! `dragoman inject`: files around what `dragoman_kube` decides.

pub(crate) mod arguments;

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use dragoman_kube::{Done, Options, Original, Part, Refusal, Report, inject, uninject};

use crate::check::{WRONG_INPUT, print};
use arguments::InjectArguments;

/// More than any manifest has, in bytes.
const MOST_BYTES: u64 = 64 * 1024 * 1024;

/// Runs `dragoman inject`.
pub(crate) fn run(arguments: &InjectArguments) -> ExitCode {
    if let Some(name) = arguments.given.flag().filter(|_| arguments.uninject) {
        return wrong(&[format!("--{name}: has no effect with --uninject; take one of them out")]);
    }
    let options = match arguments.given.options() {
        Ok(options) => options,
        Err(lines) => return wrong(&lines),
    };
    let name = if is_stdin(&arguments.file) { "stdin".into() } else { arguments.file.to_string_lossy() };
    if is_stdin(&arguments.file) && io::stdin().is_terminal() {
        return wrong(&["nothing to read: pipe manifests in, or name them by -f FILE".to_owned()]);
    }
    let text = match read(&arguments.file) {
        Ok(bytes) => bytes,
        Err(error) => {
            say(&format!("dragoman: cannot read {name}: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let Ok(text) = String::from_utf8(text) else {
        return wrong(&[format!("{name}: is not UTF-8")]);
    };
    match act(&text, &name, &options, arguments) {
        Ok(text) => print(&text),
        Err(refusals) => {
            refusals.iter().for_each(|refusal| say(&told(&name, refusal)));
            ExitCode::from(WRONG_INPUT)
        }
    }
}

fn act(
    text: &str,
    name: &str,
    options: &Options,
    arguments: &InjectArguments,
) -> Result<String, Vec<Refusal>> {
    let is_loud = !arguments.quiet;
    if arguments.uninject {
        let Original { text: original, lost, left } = uninject(text)?;
        if is_loud && original == text {
            say("dragoman: there is no record of an injection, and nothing was taken out");
        }
        if is_loud {
            warn_of(&lost, name, CHANGED);
            warn_of(&left, name, "has a name of dragoman's, but is in no record; it stays");
        }
        return Ok(original);
    }
    let outcome = inject(text, options)?;
    if is_loud {
        warn_of(&outcome.lost, name, CHANGED);
        outcome.reports.iter().for_each(report);
        if outcome.reports.is_empty() {
            say("dragoman: there was no object to read");
        }
    }
    Ok(outcome.text)
}

fn report(report: &Report) {
    let Report { object, done, warnings } = report;
    let what = match done {
        Some(Done::Injected { native, captured }) => {
            let form = if *native { "native" } else { "plain" };
            let capture = if *captured { "" } else { ", nothing is captured" };
            format!("injected, {form} sidecar{capture}")
        }
        Some(Done::Skipped) => "left alone, since it says dragoman.dev/inject: \"false\"".to_owned(),
        Some(Done::Unknown) => {
            "passed on: it has pods in spec.template, but is of no kind that inject knows".to_owned()
        }
        None => "passed on, it has no pods".to_owned(),
    };
    say(&format!("{object}: {what}"));
    warnings.iter().for_each(|warning| say(&format!("warning: {object}: {warning}")));
}

/// Whoever changed it may want to say it in another way.
const CHANGED: &str = "is not as it was injected; what was changed in it is gone";

fn warn_of(parts: &[Part], name: &str, told: &str) {
    for Part { line, what } in parts {
        say(&format!("warning: {name}:{line}: {what} {told}"));
    }
}

/// As compilers say where something is.
fn told(name: &str, refusal: &Refusal) -> String {
    match refusal.line {
        Some(line) => format!("{name}:{line}: {refusal}"),
        None => format!("{name}: {refusal}"),
    }
}

fn wrong(lines: &[String]) -> ExitCode {
    lines.iter().for_each(|line| say(&format!("dragoman: {line}")));
    ExitCode::from(WRONG_INPUT)
}

/// On stderr. A reader that has gone has seen enough: that is no reason to write no manifest.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let input: Box<dyn Read> =
        if is_stdin(path) { Box::new(io::stdin()) } else { Box::new(File::open(path)?) };
    input.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(io::Error::other("it is longer than 64 MiB"));
    }
    Ok(bytes)
}
