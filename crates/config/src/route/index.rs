//! The rules of a destination, arranged so that finding one costs the same for ten and for ten thousand.
//!
//! Tuple space search (Srinivasan, Suri and Varghese, "Packet Classification Using Tuple Space Search",
//! SIGCOMM 1999): rules that look at the same parts of a request have the same [`Shape`], and within a shape
//! one look-up in a hash table finds those whose parts are equal. So the cost grows with the number of
//! shapes, which is that of the ways in which people write rules, and not with the number of rules. The
//! shapes are asked in the order of their most specific rule, until none can be more specific than what was
//! found. A key only nominates; the rule itself has the last word, so the answer is exact.
//!
//! The key of a rule is that of any request that matches it, and therefore computed from an [`Example`].

use std::{
    cmp::Reverse,
    collections::HashMap,
    hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher},
};

use super::{Condition, RouteMatcher, View};
use crate::{
    model::Request,
    value::{
        name::{NamePattern, last_labels},
        path::{MAX_SEGMENTS, PathPattern},
    },
};

/// A hash table of what the configuration says. What a request says is never put into one, so nobody can
/// make them slow from outside, and a fixed seed keeps them equal for equal files.
type Table<K, V> = HashMap<K, V, BuildHasherDefault<DefaultHasher>>;

/// Finds the most specific of some routes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RouteIndex {
    matchers: Vec<RouteMatcher>,
    /// The most specific first; their places here are what the groups hold.
    rules: Vec<Rule>,
    /// In the order of `first`.
    groups: Vec<Group>,
}

/// A route as far as it is about one of its hosts.
#[derive(Clone, Debug, PartialEq)]
struct Rule {
    route: usize,
    host: Option<NamePattern>,
}

/// The rules of one shape.
#[derive(Clone, Debug, PartialEq)]
struct Group {
    shape: Shape,
    /// The most specific of its rules.
    first: usize,
    /// By key, the most specific first.
    rules: Table<u64, Vec<usize>>,
}

impl RouteIndex {
    /// Of equally specific routes, the earlier one wins.
    pub(crate) fn new(matchers: Vec<RouteMatcher>) -> Self {
        let mut rules: Vec<_> = matchers
            .iter()
            .enumerate()
            .flat_map(|(route, matcher)| matcher.rules().map(move |host| Rule { route, host: host.cloned() }))
            .collect();
        rules.sort_by_cached_key(|rule| (Reverse(matchers[rule.route].rank(rule.host.as_ref())), rule.route));
        let mut groups: Vec<Group> = Vec::new();
        let mut known: Table<Shape, usize> = Table::default();
        for (place, Rule { route, host }) in rules.iter().enumerate() {
            let matcher = &matchers[*route];
            let shape = Shape::of(matcher, host.as_ref());
            let group = *known.entry(shape).or_insert_with_key(|shape| {
                groups.push(Group { shape: shape.clone(), first: place, rules: Table::default() });
                groups.len() - 1
            });
            let Group { shape, rules, .. } = &mut groups[group];
            for method in matcher.methods() {
                let example = Example::of(matcher, host.as_ref(), method);
                let key = example.ask(|request| {
                    let view = View::new(request);
                    shape.key(&view, &Segments::of(view.path))
                });
                rules.entry(key.expect("an example has all that its rule looks at")).or_default().push(place);
            }
        }
        Self { matchers, rules, groups }
    }

    /// What each route looks for, in the order in which they were given.
    pub(crate) fn matchers(&self) -> &[RouteMatcher] {
        &self.matchers
    }

    /// The route that `request` falls under, as its place in what the index was made of.
    pub(crate) fn find(&self, request: &Request<'_>) -> Option<usize> {
        if self.groups.is_empty() {
            return None;
        }
        let view = View::new(request);
        let segments = Segments::of(view.path);
        let mut best = self.rules.len();
        for group in &self.groups {
            if group.first > best {
                break;
            }
            let nominated = group.shape.key(&view, &segments).and_then(|key| group.rules.get(&key));
            let found = nominated.into_iter().flatten().find(|place| self.matches(**place, &view));
            best = found.map_or(best, |found| best.min(*found));
        }
        self.rules.get(best).map(|rule| rule.route)
    }

    fn matches(&self, place: usize, view: &View<'_, '_>) -> bool {
        let Rule { route, host } = &self.rules[place];
        self.matchers[*route].matches(host.as_ref(), view)
    }
}

/// Which parts of a request a rule looks at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Shape {
    path: PathShape,
    host: HostShape,
    method: bool,
    /// Names, and whether the value counts.
    headers: Vec<(String, bool)>,
    query: Vec<(String, bool)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum PathShape {
    Any,
    Whole,
    /// For each segment whether it counts, and whether others may follow.
    Segments(Vec<bool>, bool),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum HostShape {
    Any,
    Whole,
    /// So many labels at its end.
    Labels(usize),
}

impl Shape {
    fn of(matcher: &RouteMatcher, host: Option<&NamePattern>) -> Self {
        let conditions = |list: &[Condition]| {
            let mut names: Vec<_> =
                list.iter().map(|(name, value)| (name.clone(), value.is_some())).collect();
            names.sort_unstable();
            names
        };
        Self {
            path: match &matcher.path {
                None => PathShape::Any,
                Some(path) if path.is_exact() => PathShape::Whole,
                Some(path) => {
                    let literal = path.segments().iter().map(Option::is_some).collect();
                    PathShape::Segments(literal, path.is_open())
                }
            },
            host: match host {
                None => HostShape::Any,
                Some(NamePattern::Exact(_)) => HostShape::Whole,
                Some(NamePattern::Below(name)) => HostShape::Labels(name.split('.').count()),
            },
            method: !matcher.methods.is_empty(),
            headers: conditions(&matcher.headers),
            query: conditions(&matcher.query),
        }
    }

    /// What stands in those parts, hashed; `None` if one is missing, so that no rule of this shape matches.
    fn key(&self, view: &View<'_, '_>, segments: &Segments) -> Option<u64> {
        let mut hasher = DefaultHasher::new();
        match &self.path {
            PathShape::Any => {}
            PathShape::Whole => view.path.hash(&mut hasher),
            PathShape::Segments(literal, open) => segments.hash(literal, *open, &mut hasher)?,
        }
        match self.host {
            HostShape::Any => {}
            HostShape::Whole => view.host.hash(&mut hasher),
            HostShape::Labels(labels) => last_labels(&view.host, labels)?.hash(&mut hasher),
        }
        if self.method {
            view.request.method.hash(&mut hasher);
        }
        for (name, counts) in &self.headers {
            hash_value((view.request.header)(name)?, *counts, &mut hasher);
        }
        for (name, counts) in &self.query {
            hash_value(view.parameter(name)?, *counts, &mut hasher);
        }
        Some(hasher.finish())
    }
}

fn hash_value(value: &[u8], counts: bool, hasher: &mut DefaultHasher) {
    if counts {
        value.hash(hasher);
    }
}

/// What is between the slashes of a path, hashed once for all shapes.
struct Segments {
    /// As many as a pattern can look at.
    hashes: [u64; MAX_SEGMENTS],
    /// How many there are, counted to one more than that; 0 if the path does not start with a slash.
    count: usize,
}

impl Segments {
    fn of(path: &str) -> Self {
        let mut segments = Self { hashes: [0; MAX_SEGMENTS], count: 0 };
        let parts = path.strip_prefix('/').map(|path| path.split('/'));
        for part in parts.into_iter().flatten().take(MAX_SEGMENTS + 1) {
            if let Some(hash) = segments.hashes.get_mut(segments.count) {
                let mut hasher = DefaultHasher::new();
                part.hash(&mut hasher);
                *hash = hasher.finish();
            }
            segments.count += 1;
        }
        segments
    }

    /// Hashes those that count; `None` if there are too few or too many.
    fn hash(&self, literal: &[bool], open: bool, hasher: &mut DefaultHasher) -> Option<()> {
        let fits = if open { self.count > literal.len() } else { self.count == literal.len() };
        fits.then_some(())?;
        let counting = self.hashes.iter().zip(literal).filter(|(_, literal)| **literal);
        counting.for_each(|(hash, _)| hasher.write_u64(*hash));
        Some(())
    }
}

/// A request that matches a rule. Where the rule leaves a part open, it has [`OPEN`](Self::OPEN) there, which
/// no file can state: so it matches another rule only if that one leaves the part open too.
pub(crate) struct Example {
    method: String,
    path: String,
    host: String,
    headers: Vec<(String, String)>,
    query: String,
}

impl Example {
    const OPEN: &str = "\0";

    /// `method` is one of those of `matcher`.
    pub(crate) fn of(matcher: &RouteMatcher, host: Option<&NamePattern>, method: Option<&String>) -> Self {
        let open = || Self::OPEN.to_owned();
        let value = |value: &Option<String>| value.clone().unwrap_or_else(open);
        let query: Vec<_> =
            matcher.query.iter().map(|(name, wanted)| format!("{name}={}", value(wanted))).collect();
        Self {
            method: method.cloned().unwrap_or_else(open),
            path: matcher.path.as_ref().map_or_else(open, example_path),
            host: match host {
                None => open(),
                Some(NamePattern::Exact(name)) => name.clone(),
                Some(NamePattern::Below(name)) => format!("{}.{name}", Self::OPEN),
            },
            headers: matcher.headers.iter().map(|(name, wanted)| (name.clone(), value(wanted))).collect(),
            query: query.join("&"),
        }
    }

    pub(crate) fn ask<T>(&self, ask: impl FnOnce(&Request<'_>) -> T) -> T {
        let header = |name: &str| {
            let found = self.headers.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.as_bytes())
        };
        ask(&Request {
            method: &self.method,
            path: &self.path,
            host: &self.host,
            query: self.query.as_bytes(),
            header: &header,
        })
    }
}

fn example_path(pattern: &PathPattern) -> String {
    let segments = pattern.segments().iter().map(|segment| segment.as_deref().unwrap_or(Example::OPEN));
    let mut path: String = segments.flat_map(|segment| ["/", segment]).collect();
    if pattern.is_open() {
        path.push('/');
    }
    path
}
