//! Merging, against an oracle: RFC 7396 over trees that know nothing of what keys mean. Whatever it makes of some
//! files must, written as one file, be what dragoman makes of those files: with the same meaning, or refused for the
//! same reasons.

mod common;

use std::collections::BTreeMap;

use common::meaning;
use proptest::{prelude::*, strategy::ValueTree};

/// What may stand at a key: a value as it is written, or a table.
#[derive(Clone, Debug, PartialEq)]
enum Tree {
    Value(&'static str),
    Table(BTreeMap<&'static str, Tree>),
}

impl Tree {
    fn empty() -> Self {
        Self::Table(BTreeMap::new())
    }

    /// States a key, unless what it stands in is already stated to be no table, or it is one itself.
    fn state(&mut self, path: &'static str, value: &'static str) {
        let mut tree = self;
        for part in path.split('.') {
            let Self::Table(table) = tree else { return };
            tree = table.entry(part).or_insert_with(Self::empty);
        }
        if *tree == Self::empty() {
            *tree = if value == "{}" { Self::empty() } else { Self::Value(value) };
        }
    }

    /// What RFC 7396 calls MergePatch, without `null`.
    fn merged(self, later: Self) -> Self {
        match (self, later) {
            (Self::Table(mut own), Self::Table(later)) => {
                for (key, later) in later {
                    let base = own.remove(key).unwrap_or_else(Self::empty);
                    own.insert(key, base.merged(later));
                }
                Self::Table(own)
            }
            (Self::Value(_), Self::Table(later)) => Self::empty().merged(Self::Table(later)),
            (_, value) => value,
        }
    }

    /// The dotted keys of a file, one on each line.
    fn write(&self, path: &str, text: &mut String) {
        match self {
            Self::Table(table) if path.is_empty() || !table.is_empty() => {
                let dot = if path.is_empty() { "" } else { "." };
                table.iter().for_each(|(key, tree)| tree.write(&format!("{path}{dot}{key}"), text));
            }
            Self::Table(_) => text.push_str(&format!("{path} = {{}}\n")),
            Self::Value(value) => text.push_str(&format!("{path} = {value}\n")),
        }
    }

    fn toml(&self) -> String {
        let mut text = String::new();
        self.write("", &mut text);
        text
    }
}

/// Keys and what they may say. Some combinations contradict each other, and then all sides must say so.
const KEYS: [(&str, &[&str]); 42] = [
    ("proxy.port", &["15001", "15002"]),
    ("proxy.listen", &[r#"["127.0.0.1"]"#, r#"["::1"]"#]),
    ("proxy.replay_bytes", &["0", r#""1GiB""#]),
    ("admin.listen", &["[]", r#"["127.0.0.1:15002"]"#]),
    ("log.level", &[r#""warn""#, r#""debug""#]),
    ("log.access", &[r#""off""#, r#""all""#]),
    ("defaults.timeout", &[r#""1s""#, r#""9s""#]),
    ("defaults.try_timeout", &[r#""2s""#, r#""500ms""#]),
    ("defaults.retry", &["{}"]),
    ("defaults.retry.attempts", &["2", "5"]),
    ("defaults.retry.statuses", &["[]", "[503]", r#"["5xx"]"#]),
    ("defaults.retry.base", &[r#""40s""#, r#""10ms""#]),
    ("defaults.retry.cap", &[r#""1s""#]),
    ("defaults.retry.replay_bytes", &[r#""1KiB""#]),
    ("defaults.retry.budget", &["{}"]),
    ("defaults.retry.budget.ratio", &["0", "0.5"]),
    ("defaults.retry.budget.min_per_second", &["0", "3"]),
    ("defaults.breaker.failures", &["1", "9"]),
    ("defaults.pool", &["{}"]),
    ("defaults.pool.max_idle", &["2", "8"]),
    ("defaults.headers.set.x-a", &[r#""1""#, r#""2""#]),
    ("defaults.headers.set.x-b", &[r#""1""#, r#""""#]),
    ("defaults.headers.remove", &["[]", r#"["x-A"]"#, r#"["x-c", "x-d"]"#]),
    ("destination.a.hosts", &[r#"["a"]"#, r#"["a", "*.a"]"#, r#"["b"]"#]),
    ("destination.a.ports", &["[80]", "[80, 81]"]),
    ("destination.a.timeout", &[r#""3s""#, r#""1s""#]),
    ("destination.a.retry.attempts", &["3", "4"]),
    ("destination.a.headers.set.x-a", &[r#""3""#]),
    ("destination.a.breaker.window", &[r#""7s""#]),
    ("destination.a.deny", &["true", "false"]),
    ("destination.a.protocol", &[r#""http""#, r#""opaque""#, r#""auto""#]),
    ("destination.a.route.r.path", &[r#""/r""#, r#""/{s}""#]),
    ("destination.a.route.r.methods", &[r#"["GET"]"#]),
    ("destination.a.route.r.match_headers.x-a", &[r#""*""#, r#""1""#]),
    ("destination.a.route.r.retry", &["{}"]),
    ("destination.a.route.s.path", &[r#""/s""#, r#""/{s}""#]),
    ("destination.a.route.s.breaker.failures", &["2"]),
    ("destination.a.route.s.timeout", &[r#""1m""#]),
    ("destination.b.hosts", &[r#"["b"]"#, r#"["a"]"#]),
    ("destination.b.cidrs", &[r#"["10.0.0.0/8"]"#]),
    ("destination.b.sni", &[r#"["b"]"#]),
    ("destination.b.pool.idle", &[r#""2s""#]),
];

/// What a table that may be switched off may say instead of its keys.
const OFF: [(&str, &[&str]); 4] = [
    ("defaults.retry", &["false"]),
    ("defaults.breaker", &["false"]),
    ("destination.a.retry", &["false"]),
    ("destination.b.pool", &["false"]),
];

type Keys = Vec<(&'static str, &'static [&'static str])>;

fn file(keys: Keys) -> impl Strategy<Value = Tree> {
    let key =
        prop::sample::select(keys).prop_flat_map(|(path, values)| (Just(path), prop::sample::select(values)));
    prop::collection::vec(key, 0..14).prop_map(|keys| {
        let mut tree = Tree::empty();
        keys.into_iter().for_each(|(path, value)| tree.state(path, value));
        tree
    })
}

/// Files that may switch off what others set.
fn any_file() -> impl Strategy<Value = Tree> {
    file([&KEYS[..], &OFF].concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..Default::default() })]

    #[test]
    fn l5_files_mean_what_their_merge_means_as_one_file(files in prop::collection::vec(any_file(), 1..5)) {
        let texts: Vec<_> = files.iter().map(Tree::toml).collect();
        let one = files.iter().cloned().reduce(Tree::merged).expect("a file");
        prop_assert_eq!(meaning(&texts), meaning(&[one.toml()]), "{:#?}\n{}", texts, one.toml());
    }

    #[test]
    fn neighbours_may_be_joined_where_nothing_is_switched_off(
        files in prop::collection::vec(file(KEYS.to_vec()), 3..4),
    ) {
        let [a, b, c] = [0, 1, 2].map(|index: usize| files[index].clone());
        let apart = meaning(&[a.toml(), b.toml(), c.toml()]);
        let left = meaning(&[a.clone().merged(b.clone()).toml(), c.toml()]);
        let right = meaning(&[a.toml(), b.merged(c).toml()]);
        prop_assert_eq!(&apart, &left, "{:#?}", files);
        prop_assert_eq!(&apart, &right, "{:#?}", files);
    }

    #[test]
    fn the_first_may_be_joined_even_so(files in prop::collection::vec(any_file(), 3..4)) {
        let [a, b, c] = [0, 1, 2].map(|index: usize| files[index].clone());
        let apart = meaning(&[a.toml(), b.toml(), c.toml()]);
        prop_assert_eq!(apart, meaning(&[a.merged(b).toml(), c.toml()]), "{:#?}", files);
    }

    #[test]
    fn a_file_may_be_split_anywhere_and_repeated(tree in any_file(), at in any::<prop::sample::Index>()) {
        let text = tree.toml();
        let lines: Vec<_> = text.split_inclusive('\n').collect();
        let (head, tail) = lines.split_at(at.index(lines.len() + 1));
        let whole = meaning(std::slice::from_ref(&text));
        prop_assert_eq!(&whole, &meaning(&[head.concat(), tail.concat()]), "{}", text);
        prop_assert_eq!(&whole, &meaning(&[tail.concat(), head.concat()]), "{}", text);
        prop_assert_eq!(&whole, &meaning(&[text.clone(), String::new(), text.clone()]), "{}", text);
    }
}

/// The properties would hold of files that are always refused, too.
#[test]
fn enough_of_the_files_are_accepted() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = prop::collection::vec(any_file(), 3..4);
    let accepted = (0..500).filter(|_| {
        let files = strategy.new_tree(&mut runner).expect("files").current();
        meaning(&files.iter().map(Tree::toml).collect::<Vec<_>>()).is_ok()
    });
    let accepted = accepted.count();
    assert!((100..400).contains(&accepted), "{accepted} of 500");
}
