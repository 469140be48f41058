//! Which rule inside a destination a request falls under.
//!
//! A route with several hosts stands for several rules, one per host, because how specific it is depends on
//! the one that matched. Of the rules that match, the most specific wins: by path (see
//! [`PathPattern::rank`]; no path comes last), then by host (an exact one, then the longer wildcard), then
//! one with methods before one without, then the one with more conditions on headers and query, then the
//! one with more of them on exact values, then the name of the route.
//!
//! Since path and host come first in that order, a rule is only ever shadowed by rules of the same path
//! pattern; [`crate::resolve`] relies on it to find routes that can never match.

pub(crate) mod index;

use std::borrow::Cow;

use crate::{
    model::Request,
    value::{
        name::{self, NamePattern},
        path::{PathPattern, PathRank},
    },
};

/// What a route looks for; what is empty is not stated.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RouteMatcher {
    pub(crate) path: Option<PathPattern>,
    pub(crate) hosts: Vec<NamePattern>,
    pub(crate) methods: Vec<String>,
    /// Headers, by their names in lower case.
    pub(crate) headers: Vec<Condition>,
    /// Parameters of the query.
    pub(crate) query: Vec<Condition>,
}

/// A name, and the value that it must have or `None` for any.
pub(crate) type Condition = (String, Option<String>);

/// How specific a rule is; greater is more.
pub(crate) type Rank = (Option<PathRank>, Option<name::Rank>, bool, usize, usize);

impl RouteMatcher {
    pub(crate) fn is_everything(&self) -> bool {
        self.path.is_none()
            && self.hosts.is_empty()
            && self.methods.is_empty()
            && self.conditions().count() == 0
    }

    /// The host of each of its rules.
    pub(crate) fn rules(&self) -> impl Iterator<Item = Option<&NamePattern>> {
        one_or_each(&self.hosts)
    }

    /// The methods that it is found by; `None` stands for any.
    pub(crate) fn methods(&self) -> impl Iterator<Item = Option<&String>> {
        one_or_each(&self.methods)
    }

    pub(crate) fn rank(&self, host: Option<&NamePattern>) -> Rank {
        let exact = self.conditions().filter(|(_, value)| value.is_some()).count();
        (
            self.path.as_ref().map(PathPattern::rank),
            host.map(NamePattern::rank),
            !self.methods.is_empty(),
            self.conditions().count(),
            exact,
        )
    }

    /// Whether the rule for `host`, which is one of [`rules`](Self::rules), matches.
    pub(crate) fn matches(&self, host: Option<&NamePattern>, view: &View<'_, '_>) -> bool {
        let request = view.request;
        let holds = |(_, wanted): &Condition, found: Option<&[u8]>| {
            found.is_some_and(|found| wanted.as_ref().is_none_or(|wanted| wanted.as_bytes() == found))
        };
        (self.methods.is_empty() || self.methods.iter().any(|method| method == request.method))
            && self.path.as_ref().is_none_or(|pattern| pattern.matches(view.path))
            && host.is_none_or(|pattern| pattern.matches(&view.host))
            && self.headers.iter().all(|condition| holds(condition, (request.header)(&condition.0)))
            && self.query.iter().all(|condition| holds(condition, view.parameter(&condition.0)))
    }

    /// How specific the rules for this host are, whether they match or not; `None` if there are none.
    pub(crate) fn rank_by_host(&self, view: &View<'_, '_>) -> Option<Rank> {
        let rules = self.rules().filter(|host| host.is_none_or(|host| host.matches(&view.host)));
        rules.map(|host| self.rank(host)).max()
    }

    fn conditions(&self) -> impl Iterator<Item = &Condition> {
        self.headers.iter().chain(&self.query)
    }
}

/// A request, with the parts that rules look at.
pub(crate) struct View<'r, 'a> {
    request: &'r Request<'a>,
    /// Without query and fragment.
    path: &'a str,
    /// As patterns are compared with; empty if none can match.
    host: Cow<'a, str>,
}

impl<'r, 'a> View<'r, 'a> {
    pub(crate) fn new(request: &'r Request<'a>) -> Self {
        let path = request.path.split(['?', '#']).next().unwrap_or_default();
        let host = name::comparable(name::without_port(request.host)).unwrap_or_default();
        Self { request, path, host }
    }

    pub(crate) fn request(&self) -> &'r Request<'a> {
        self.request
    }

    pub(crate) fn path(&self) -> &'a str {
        self.path
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The bytes of the first parameter of that name, as they were sent; empty if it has no `=`.
    pub(crate) fn parameter(&self, name: &str) -> Option<&'a [u8]> {
        self.request.query.split(|byte| *byte == b'&').find_map(|pair| {
            let rest = pair.strip_prefix(name.as_bytes())?;
            if rest.is_empty() { Some(rest) } else { rest.strip_prefix(b"=") }
        })
    }
}

fn one_or_each<T>(list: &[T]) -> impl Iterator<Item = Option<&T>> {
    let none = list.is_empty().then_some(None);
    none.into_iter().chain(list.iter().map(Some))
}
