//! Which rule inside a destination a request falls under.
//!
//! The most specific route wins: by path (see [`PathPattern::rank`]; no path comes last), then a route
//! with methods before one without, then the one with more headers, then the name. Routes are put into
//! that order once, so that the first match is the answer.

use std::cmp::Reverse;

use crate::{model::Request, value::path::PathPattern};

/// What a route looks for.
#[derive(Clone, Debug)]
pub(crate) struct RouteMatcher {
    pub(crate) path: Option<PathPattern>,
    /// Empty is any.
    pub(crate) methods: Vec<String>,
    /// Lower-case name, and the value or `None` for any.
    pub(crate) headers: Vec<(String, Option<String>)>,
}

impl RouteMatcher {
    pub(crate) fn matches(&self, request: &Request<'_>) -> bool {
        let path = request.path.split(['?', '#']).next().unwrap_or_default();
        (self.methods.is_empty() || self.methods.iter().any(|method| method == request.method))
            && self.path.as_ref().is_none_or(|pattern| pattern.matches(path))
            && self.headers.iter().all(|(name, wanted)| {
                let found = (request.header)(name);
                found.is_some_and(|value| wanted.as_ref().is_none_or(|wanted| wanted.as_bytes() == value))
            })
    }

    /// Sorts the most specific first.
    pub(crate) fn order(&self) -> impl Ord + use<> {
        Reverse((self.path.as_ref().map(PathPattern::rank), !self.methods.is_empty(), self.headers.len()))
    }

    /// Whether it matches everything that `other` matches, as far as that can be told from the same path.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let same_path = match (&self.path, &other.path) {
            (None, _) => true,
            (Some(own), Some(other)) => own.same(other),
            (Some(_), None) => false,
        };
        let methods = self.methods.is_empty()
            || (!other.methods.is_empty()
                && other.methods.iter().all(|method| self.methods.contains(method)));
        let headers = self.headers.iter().all(|(name, wanted)| {
            other.headers.iter().any(|(other_name, other_wanted)| {
                name == other_name && (wanted.is_none() || wanted == other_wanted)
            })
        });
        same_path && methods && headers
    }
}
