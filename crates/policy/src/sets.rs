//! Sets of status codes and of methods, as policy lists them.

use std::fmt;

const STATUSES: u16 = 640;
const WORDS: usize = (STATUSES / 64) as usize;

/// A set of HTTP status codes, as 640 bits: asking is one load, copying is 80 bytes.
///
/// RFC 9110 §15 gives a meaning to 100 to 599. A number from 640 on is never in a set: whoever reads
/// such a number from a user refuses it before it gets here.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct StatusSet([u64; WORDS]);

impl StatusSet {
    /// The set of nothing.
    pub const EMPTY: Self = Self([0; WORDS]);

    /// The set of these.
    pub const fn of(statuses: &[u16]) -> Self {
        let mut set = Self::EMPTY;
        let mut index = 0;
        while index < statuses.len() {
            set.insert(statuses[index]);
            index += 1;
        }
        set
    }

    /// Whether `status` is one of them.
    pub const fn contains(&self, status: u16) -> bool {
        status < STATUSES && self.0[(status / 64) as usize] >> (status % 64) & 1 == 1
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::EMPTY
    }

    /// All of them, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        (0..STATUSES).filter(|status| self.contains(*status))
    }

    const fn insert(&mut self, status: u16) {
        if status < STATUSES {
            self.0[(status / 64) as usize] |= 1 << (status % 64);
        }
    }
}

impl FromIterator<u16> for StatusSet {
    fn from_iter<I: IntoIterator<Item = u16>>(statuses: I) -> Self {
        let mut set = Self::EMPTY;
        statuses.into_iter().for_each(|status| set.insert(status));
        set
    }
}

impl fmt::Debug for StatusSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// A set of HTTP methods. Methods are case-sensitive (RFC 9110 §9.1): `get` is not `GET`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct MethodSet(Vec<String>);

impl MethodSet {
    /// Whether `method` is one of them.
    pub fn contains(&self, method: &str) -> bool {
        self.0.binary_search_by(|known| known.as_str().cmp(method)).is_ok()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, in the order of their bytes.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl FromIterator<String> for MethodSet {
    fn from_iter<I: IntoIterator<Item = String>>(methods: I) -> Self {
        let mut methods: Vec<String> = methods.into_iter().collect();
        methods.sort_unstable();
        methods.dedup();
        Self(methods)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_status_set_shows_its_members() {
        let set = StatusSet::of(&[503, 429, 503]);
        assert_eq!(format!("{set:?}"), "{429, 503}");
        assert!(!set.is_empty() && StatusSet::EMPTY.is_empty());
    }

    #[test]
    fn methods_match_exactly() {
        let set: MethodSet = ["PUT", "GET", "PUT"].map(String::from).into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), ["GET", "PUT"]);
        assert!(set.contains("GET") && set.contains("PUT"));
        for other in ["", "get", "GE", "GETS", "POST", "GET "] {
            assert!(!set.contains(other), "{other:?}");
        }
        assert!(!set.is_empty() && MethodSet::default().is_empty());
    }

    proptest! {
        #[test]
        fn a_status_set_agrees_with_a_tree_of_numbers(statuses in prop::collection::vec(any::<u16>().prop_map(|n| n % 700), 0..60), probe: u16) {
            let set: StatusSet = statuses.iter().copied().collect();
            let tree: BTreeSet<u16> = statuses.iter().copied().filter(|status| *status < 640).collect();
            prop_assert_eq!(set, StatusSet::of(&statuses));
            prop_assert_eq!(set.contains(probe), tree.contains(&probe));
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), tree.into_iter().collect::<Vec<_>>());
        }
    }
}
