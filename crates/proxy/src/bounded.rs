//! A bounded map for what is learnt about addresses.
//!
//! Two generations: entries go into the young one; when it is full it becomes the old one, and the old one is
//! forgotten. What is used moves to the young one again. That is a cheap approximation of "least recently used"
//! without a list: every operation is a hash lookup or two, and never more than `capacity` entries are held.

use std::collections::HashMap;
use std::hash::Hash;

use foldhash::fast::RandomState;

#[derive(Debug)]
pub(crate) struct Bounded<K, V> {
    half: usize,
    young: HashMap<K, V, RandomState>,
    old: HashMap<K, V, RandomState>,
}

impl<K: Eq + Hash + Clone, V: Clone> Bounded<K, V> {
    /// A map that never holds more than `capacity` entries.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { half: (capacity / 2).max(1), young: HashMap::default(), old: HashMap::default() }
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let value = self.old.remove(key)?;
        self.insert(key.clone(), value.clone());
        Some(value)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    /// Forgets an entry.
    pub(crate) fn remove(&mut self, key: &K) {
        self.young.remove(key);
        self.old.remove(key);
    }

    /// Forgets the entries that `keep` says no to.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        self.young.retain(|key, value| keep(key, value));
        self.old.retain(|key, value| keep(key, value));
    }
}

impl<K, V> Bounded<K, V> {
    /// How many entries it holds.
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// All that it holds.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.young.iter().chain(&self.old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_holds_more_than_its_capacity() {
        let mut map = Bounded::new(8);
        for key in 0..1000 {
            map.insert(key, key);
            assert!(map.young.len() + map.old.len() <= 8);
        }
        assert_eq!(map.get(&999), Some(999));
        assert_eq!(map.get(&0), None);
    }

    #[test]
    fn keeps_what_is_used() {
        let mut map = Bounded::new(8);
        map.insert("kept", 1);
        for key in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"] {
            map.insert(key, 0);
            assert_eq!(map.get(&"kept"), Some(1), "{key}");
        }
    }
}
