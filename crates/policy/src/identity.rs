//! Who a peer must be: names and SPIFFE IDs, and patterns of them.
//!
//! A SPIFFE ID is a URI `spiffe://TRUST_DOMAIN/PATH` (SPIFFE-ID standard, section 2). Trust domains are in lower case and
//! compared as they are; so are paths. There is no query, no fragment, no port, no percent-encoding, and no empty or
//! relative segment, so that two IDs are equal if their bytes are.

use std::fmt;
use std::sync::Arc;

/// The longest SPIFFE ID, in bytes (SPIFFE-ID standard, section 2.3).
const LONGEST: usize = 2048;

/// A pattern of SPIFFE IDs: one of them, or all below a path (`spiffe://TRUST_DOMAIN/ns/shop/*`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpiffePattern {
    /// Without the star, and with the slash before it.
    text: Arc<str>,
    is_prefix: bool,
}

/// What is wrong with a SPIFFE ID or a pattern of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotSpiffe(pub &'static str);

impl fmt::Display for NotSpiffe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for NotSpiffe {}

impl SpiffePattern {
    /// Reads a SPIFFE ID, or one whose last segment is `*`.
    ///
    /// # Errors
    /// It is neither.
    pub fn parse(text: &str) -> Result<Self, NotSpiffe> {
        match text.strip_suffix("/*") {
            // All of a trust domain is a prefix too.
            Some(below) => {
                check(below)?;
                Ok(Self { text: format!("{below}/").into(), is_prefix: true })
            }
            None => {
                check(text)?;
                Ok(Self { text: text.into(), is_prefix: false })
            }
        }
    }

    /// Whether this is a SPIFFE ID that the pattern allows.
    pub fn matches(&self, id: &str) -> bool {
        check(id).is_ok() && if self.is_prefix { id.starts_with(&*self.text) } else { id == &*self.text }
    }
}

impl fmt::Display for SpiffePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.text, if self.is_prefix { "*" } else { "" })
    }
}

/// Whether it is a valid SPIFFE ID.
fn check(id: &str) -> Result<(), NotSpiffe> {
    let rest = id.strip_prefix("spiffe://").ok_or(NotSpiffe("a SPIFFE ID begins with `spiffe://`"))?;
    if id.len() > LONGEST {
        return Err(NotSpiffe("a SPIFFE ID has at most 2048 bytes"));
    }
    let mut segments = rest.split('/');
    let domain = segments.next().unwrap_or_default();
    let in_domain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    if domain.is_empty() || domain.len() > 255 || !domain.bytes().all(in_domain) {
        return Err(NotSpiffe(
            "a trust domain has lower-case letters, digits, `.`, `-` and `_`, and nothing else",
        ));
    }
    let in_path = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    for segment in segments {
        if segment.is_empty() || segment == "." || segment == ".." {
            return Err(NotSpiffe("a segment of the path of a SPIFFE ID is not empty, `.` or `..`"));
        }
        if !segment.bytes().all(in_path) {
            return Err(NotSpiffe(
                "the path of a SPIFFE ID has letters, digits, `.`, `-` and `_`, and nothing else",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_matches_itself_alone() {
        let pattern = SpiffePattern::parse("spiffe://shop.test/ns/pay/sa/api").unwrap();
        assert!(pattern.matches("spiffe://shop.test/ns/pay/sa/api"));
        for other in [
            "spiffe://shop.test/ns/pay/sa/api2",
            "spiffe://shop.test/ns/pay/sa",
            "spiffe://shop.test/ns/pay/sa/api/x",
            "spiffe://shop.test.evil/ns/pay/sa/api",
            "spiffe://SHOP.test/ns/pay/sa/api",
            "https://shop.test/ns/pay/sa/api",
            "",
        ] {
            assert!(!pattern.matches(other), "{other}");
        }
    }

    #[test]
    fn a_prefix_ends_at_a_segment() {
        let pattern = SpiffePattern::parse("spiffe://shop.test/ns/pay/*").unwrap();
        assert_eq!(pattern.to_string(), "spiffe://shop.test/ns/pay/*");
        assert!(pattern.matches("spiffe://shop.test/ns/pay/sa/api"));
        assert!(!pattern.matches("spiffe://shop.test/ns/payroll/sa/api"));
        assert!(!pattern.matches("spiffe://shop.test/ns/pay/"));
        assert!(!pattern.matches("spiffe://shop.test/ns/pay/../bank/sa/api"));
        let domain = SpiffePattern::parse("spiffe://shop.test/*").unwrap();
        assert!(domain.matches("spiffe://shop.test/x"));
        assert!(!domain.matches("spiffe://shop.test.evil/x"));
    }

    #[test]
    fn what_is_no_id_is_no_pattern() {
        for text in [
            "",
            "*",
            "spiffe://",
            "spiffe:///x",
            "spiffe://Shop/x",
            "spiffe://shop:80/x",
            "spiffe://user@shop/x",
            "spiffe://shop/",
            "spiffe://shop/x/",
            "spiffe://shop//x",
            "spiffe://shop/./x",
            "spiffe://shop/x?y",
            "spiffe://shop/x#y",
            "spiffe://shop/%41",
            "spiffe://shop/a*",
            "spiffe://shop/*/x",
            "spiffe://*/x",
        ] {
            assert!(SpiffePattern::parse(text).is_err(), "{text}");
        }
        let long = format!("spiffe://shop/{}", "x".repeat(2048));
        assert!(SpiffePattern::parse(&long).is_err());
    }
}
