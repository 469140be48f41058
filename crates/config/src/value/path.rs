//! Patterns of request paths.

use crate::{
    read::{Fault, Node, Reader, Value},
    schema::{Json, text},
    value::quote,
};

/// "/v1/charges" (this path), "/v1/{id}/refunds" (any one segment in place of `{id}`), "/v1/*" (every
/// path below "/v1/", and that itself).
///
/// Paths are compared as they were sent: no percent-decoding, no merging of slashes, no dot segments.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PathPattern {
    text: String,
    segments: Vec<Option<String>>,
    open: bool,
}

/// The most segments of a pattern that is not exact.
pub(crate) const MAX_SEGMENTS: usize = 32;

/// How specific a pattern is; greater is more.
pub(crate) type PathRank = (u8, usize, usize);

impl PathPattern {
    /// As it was written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// `path` is without its query.
    pub(crate) fn matches(&self, path: &str) -> bool {
        let Some(path) = path.strip_prefix('/') else { return false };
        let mut parts = path.split('/');
        for wanted in &self.segments {
            match (wanted, parts.next()) {
                (Some(wanted), Some(part)) if wanted == part => {}
                (None, Some(part)) if !part.is_empty() => {}
                _ => return false,
            }
        }
        // The slash before `*` is part of the pattern: "/v1" is not below "/v1/".
        parts.next().is_some() == self.open
    }

    /// Greater is more specific: exact, then templates, then prefixes; the longer prefix; then the
    /// pattern with more literal segments.
    pub(crate) fn rank(&self) -> PathRank {
        let literals = self.segments.iter().flatten().count();
        match (self.open, self.is_exact()) {
            (false, true) => (3, 0, 0),
            (false, false) => (2, 0, literals),
            (true, _) => (1, self.segments.len(), literals),
        }
    }

    /// What is between the slashes; `None` is any one segment that is not empty. With
    /// [`is_open`](Self::is_open), this says which paths match: the names of placeholders say nothing.
    pub(crate) fn segments(&self) -> &[Option<String>] {
        &self.segments
    }

    /// Whether anything may follow.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// Whether it matches one path alone.
    pub(crate) fn is_exact(&self) -> bool {
        !self.open && self.segments.iter().all(Option::is_some)
    }
}

impl Value for PathPattern {
    fn describe() -> String {
        "a path, as \"/v1/charges\", \"/v1/{id}/refunds\" or \"/v1/*\"".into()
    }

    fn schema() -> Json {
        text(r#"^/[!"$->@-~]*$"#)
    }

    fn read(node: &Node<'_>, reader: &mut Reader) -> Option<Self> {
        reader.text(node, parse)
    }

    fn toml(&self) -> String {
        quote(&self.text)
    }
}

fn parse(text: &str) -> Result<PathPattern, Fault> {
    let Some(path) = text.strip_prefix('/') else {
        return Err(Fault::new("a path starts with `/`").help(format!("did you mean \"/{text}\"?")));
    };
    if let Some(c) = text.chars().find(|c| matches!(c, '?' | '#') || !c.is_ascii_graphic()) {
        let fault = Fault::new(format!("{c:?} is never part of a path"));
        return Err(match c {
            '?' | '#' => fault.help("only the path is compared, without its query"),
            _ => fault.help("write the path as it is sent, percent-encoded"),
        });
    }
    let (path, open) = match path.strip_suffix('*') {
        Some("") => ("", true),
        Some(path) => match path.strip_suffix('/') {
            Some(path) => (path, true),
            None => return Err(Fault::new("`*` stands alone after the last slash, as \"/v1/*\"")),
        },
        None => (path, false),
    };
    if path.contains('*') {
        return Err(Fault::new("`*` stands only at the end").help("one segment of any value is `{name}`"));
    }
    let segments = match (path, open) {
        ("", true) => Vec::new(),
        _ => path.split('/').map(parse_segment).collect::<Result<_, _>>()?,
    };
    let pattern = PathPattern { text: text.to_owned(), segments, open };
    if !pattern.is_exact() && pattern.segments.len() > MAX_SEGMENTS {
        return Err(Fault::new(format!("a template or prefix has at most {MAX_SEGMENTS} segments")));
    }
    Ok(pattern)
}

fn parse_segment(segment: &str) -> Result<Option<String>, Fault> {
    let inner = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    match inner {
        Some(inner) if !inner.is_empty() && inner.bytes().all(name) => Ok(None),
        None if !segment.contains(['{', '}']) => Ok(Some(segment.to_owned())),
        _ => Err(Fault::new("a placeholder is a whole segment with a name, as \"/v1/{id}/refunds\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matching() {
        for (pattern, path, want) in [
            ("/v1/charges", "/v1/charges", true),
            ("/v1/charges", "/v1/charges/", false),
            ("/v1/charges", "/V1/charges", false),
            ("/v1/charges", "/v1//charges", false),
            ("/", "/", true),
            ("/", "/a", false),
            ("/", "", false),
            ("/", "*", false),
            ("/*", "/", true),
            ("/*", "/a/b", true),
            ("/*", "*", false),
            ("/v1/*", "/v1/", true),
            ("/v1/*", "/v1/a/b", true),
            ("/v1/*", "/v1", false),
            ("/v1/*", "/v10/a", false),
            ("/v1/{id}", "/v1/7", true),
            ("/v1/{id}", "/v1/", false),
            ("/v1/{id}", "/v1/7/x", false),
            ("/v1/{id}/x", "/v1/7/x", true),
            ("/v1/{id}/*", "/v1/7/x/y", true),
            ("/v1/{id}/*", "/v1//x", false),
            ("/v1/a%2Fb", "/v1/a%2Fb", true),
            ("/v1/a%2Fb", "/v1/a/b", false),
        ] {
            let pattern_text = pattern;
            let Ok(pattern) = parse(pattern) else { panic!("{pattern_text}") };
            assert_eq!(pattern.matches(path), want, "{pattern_text} {path}");
        }
    }

    #[test]
    fn refused() {
        for text in
            ["", "v1", "*", "/v1*", "/*/x", "/v1/**", "/a?b", "/a#b", "/a b", "/é", "/{}", "/{a", "/x{a}"]
        {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn specificity() {
        let ranked = ["/v1/a/b", "/v1/a/{x}", "/v1/{x}/{y}", "/v1/a/*", "/v1/{x}/*", "/v1/*", "/*"];
        let rank = |text| parse(text).map(|pattern| pattern.rank()).ok();
        for pair in ranked.windows(2) {
            assert!(rank(pair[0]) > rank(pair[1]), "{pair:?}");
        }
    }
}
