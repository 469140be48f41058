//! `dragoman flows`.

use std::io::{self, Write};
use std::process::ExitCode;

use super::follow::Line;
use super::{Page, row};
use crate::ask::{self, encoded};
use crate::cli::FlowsArguments;
use crate::logging;
use crate::plain::{ascii_json, plain};

/// Runs `dragoman flows`.
pub(crate) fn run(arguments: &FlowsArguments) -> ExitCode {
    let shown = if arguments.follow { follow(arguments) } else { list(arguments) };
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dragoman: {}", plain(&error));
            ExitCode::FAILURE
        }
    }
}

fn list(arguments: &FlowsArguments) -> Result<(), String> {
    let query = format!("/flows?last={}{}", arguments.last, filters(arguments));
    let answer = ask::ask(&arguments.control.at(), &query)?;
    let page: Page =
        serde_json::from_slice(&answer).map_err(|error| format!("not an answer of a proxy: {error}"))?;
    if page.recorder.is_none() {
        return Err("the flight recorder is off (recorder.memory = 0)".to_owned());
    }
    let text = match arguments.json {
        true => {
            let lines = page
                .stories
                .iter()
                .map(|told| ascii_json(&serde_json::to_string(told).unwrap_or_default()) + "\n");
            lines.collect()
        }
        false => {
            let stories: Vec<_> = page.stories.iter().map(|told| &told.story).collect();
            row::table(&stories, logging::color(&io::stdout()))
        }
    };
    // A reader that has gone has seen enough.
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(())
}

fn follow(arguments: &FlowsArguments) -> Result<(), String> {
    let color = logging::color(&io::stdout());
    let query = format!("/flows?follow{}", filters(arguments));
    let mut out = io::stdout();
    if !arguments.json {
        let _ = writeln!(out, "{}", row::header());
    }
    ask::follow(&arguments.control.at(), &query, |line| {
        let text = match serde_json::from_slice(line) {
            _ if arguments.json && !line.is_empty() => ascii_json(&String::from_utf8_lossy(line)),
            Ok(Line::Told(told)) => row::line(&told.story, color),
            Ok(Line::Lost { lost }) => {
                format!("({lost} were not shown: they came faster than they were read)")
            }
            // An empty line says that the proxy is there.
            Err(_) => return out.flush(),
        };
        writeln!(out, "{text}")?;
        out.flush()
    })
}

fn filters(arguments: &FlowsArguments) -> String {
    let pairs =
        [("destination", &arguments.destination), ("cause", &arguments.cause), ("status", &arguments.status)];
    let pairs = pairs
        .iter()
        .filter_map(|(key, value)| value.as_deref().map(|value| format!("&{key}={}", encoded(value))));
    pairs.collect()
}
