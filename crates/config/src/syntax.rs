//! From the text of one file to its tables, and what in it is not TOML.

use std::collections::HashSet;

use toml::de::{DeTable, DeValue};

use crate::{
    errors::{Lines, Place, Problem},
    raw::Root,
    read::{Node, Reader},
    table::read_table,
};

/// What one file says, as far as it can be read, and whether all of it is TOML.
pub(crate) struct Parsed {
    pub(crate) root: Root,
    pub(crate) is_toml: bool,
}

/// Reads `text`, which is the source with this index, and reports what is wrong with it.
pub(crate) fn parse(source: usize, text: &str, reader: &mut Reader) -> Parsed {
    let before = reader.problems.len();
    let (tree, errors) = DeTable::parse_recoverable(text);
    let tree = DeValue::Table(tree.into_inner());
    let place = Place { source, ..Place::default() };
    let root = read_table(&Node { value: &tree, place }, reader).unwrap_or_default();
    if !errors.is_empty() {
        let others = reader.problems.split_off(before);
        let lines = Lines::of(text);
        let syntax = problems(source, text, &lines, &errors);
        reader.problems.extend(beside(syntax, others, &lines));
    }
    Parsed { root, is_toml: errors.is_empty() }
}

/// The syntax errors: the first of each line, because the parser stumbles over the rest of it.
fn problems(source: usize, text: &str, lines: &Lines, errors: &[toml::de::Error]) -> Vec<Problem> {
    let mut places: Vec<_> = errors
        .iter()
        .map(|error| (Place::new(source, error.span().unwrap_or_default()), error.message()))
        .collect();
    places.sort_by_key(|(place, _)| *place);
    places.dedup_by_key(|(place, _)| lines.number(place.start));
    let explain = |(place, message): (Place, &str)| {
        let missing =
            place.start == place.end && text[..place.start].trim_end_matches([' ', '\t']).ends_with('=');
        let message = if missing { "a value is missing" } else { message };
        Problem::new(place, format!("not TOML: {message}"))
    };
    places.into_iter().map(explain).collect()
}

/// Adds the other mistakes to the syntax errors, without those on the same lines, which follow from them.
fn beside(mut syntax: Vec<Problem>, others: Vec<Problem>, lines: &Lines) -> Vec<Problem> {
    let line = |problem: &Problem| problem.place().map(|place| lines.number(place.start));
    let broken: HashSet<_> = syntax.iter().filter_map(line).collect();
    syntax.extend(
        others.into_iter().filter(|problem| line(problem).is_none_or(|line| !broken.contains(&line))),
    );
    syntax
}
