//! "Did you mean": the known word that is nearest to a mistyped one, and the tables that a misplaced key is of.

use std::sync::OnceLock;

use crate::{
    raw::Root,
    table::{Key, Table},
};

/// The candidate that `word` was probably meant to be, if one is near enough to be worth naming.
///
/// Near is the edit distance of Levenshtein with neighbours swapped counted as one edit (optimal string
/// alignment), without regard to case and with `-` equal to `_`; at most a third of the word may differ.
/// A word that goes on where a candidate ends, or ends within one, is near too.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let fold = |text: &str| -> Vec<char> {
        text.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect()
    };
    let word = fold(word);
    // A long word is no slip of the finger, and the distance costs its square.
    if word.len() > 64 {
        return None;
    }
    let allowed = (word.len() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| {
            let folded = fold(candidate);
            let cut = word.len().min(folded.len());
            let same_start = cut >= 3 && word[..cut] == folded[..cut];
            (if same_start { 1 } else { distance(&word, &folded) }, candidate)
        })
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn distance(a: &[char], b: &[char]) -> usize {
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        rows[i][0] = i;
        for j in 1..=b.len() {
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

/// The tables that have a key of this name, as one writes them, for "it belongs in …".
pub(crate) fn tables_with(name: &str) -> Vec<String> {
    // A file of nothing but mistakes asks very often.
    static KEYS: OnceLock<Vec<Key>> = OnceLock::new();
    let mut found = Vec::new();
    search(KEYS.get_or_init(Root::all_keys), name, "", &mut found);
    found
}

fn search(keys: &[Key], name: &str, path: &str, found: &mut Vec<String>) {
    if keys.iter().any(|key| key.name == name) {
        found.push(if path.is_empty() { "the top level".into() } else { format!("[{path}]") });
    }
    for key in keys.iter().filter(|key| !key.keys.is_empty()) {
        let path = [path, key.name, if key.is_named { "NAME" } else { "" }];
        let path: Vec<_> = path.into_iter().filter(|part| !part.is_empty()).collect();
        search(&key.keys, name, &path.join("."), found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_only_what_is_near() {
        let keys = ["timeout", "try_timeout", "retry", "pool", "deny"];
        for (word, want) in [
            ("tiemout", Some("timeout")),
            ("time-out", Some("timeout")),
            ("try-timeout", Some("try_timeout")),
            ("Retry", Some("retry")),
            ("pooling", Some("pool")),
            ("tim", Some("timeout")),
            ("ti", None),
            ("polo", Some("pool")),
            ("x", None),
            ("", None),
            ("balance", None),
        ] {
            assert_eq!(nearest(word, keys), want, "{word}");
        }
    }
}
