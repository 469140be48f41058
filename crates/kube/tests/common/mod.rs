//! What the tests of this crate share.
#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod standards;

use std::fs;
use std::path::{Path, PathBuf};

use dragoman_kube::{Options, Refusal, SETTINGS};

/// A folder beside this one.
pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// The files in it and below whose name ends so, in order.
pub(crate) fn files(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extensions));
        } else if path.extension().is_some_and(|extension| extensions.iter().any(|known| extension == *known))
        {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Options as words: `native-sidecar=false exclude-ports=22,23`. The image has no version, so that a new one changes no file.
pub(crate) fn options(words: &str) -> Options {
    let mut options = Options { image: "dragoman:test".to_owned(), ..Options::default() };
    for word in words.split_whitespace() {
        let (name, value) = word.split_once('=').unwrap_or((word, "true"));
        let setting =
            SETTINGS.iter().find(|setting| setting.name == name).unwrap_or_else(|| panic!("{name}"));
        setting.set(&mut options, value).unwrap_or_else(|error| panic!("{word}: {error}"));
    }
    options.check().unwrap_or_else(|wrong| panic!("{words}: {wrong:?}"));
    options
}

/// As `dragoman inject -f NAME` says it.
pub(crate) fn told(name: &str, refusals: &[Refusal]) -> String {
    let line = |refusal: &Refusal| match refusal.line {
        Some(line) => format!("{name}:{line}: {refusal}\n"),
        None => format!("{name}: {refusal}\n"),
    };
    refusals.iter().map(line).collect()
}

/// Compares with the file, or writes it where `DRAGOMAN_BLESS` is set. What is different is told.
pub(crate) fn golden(path: &Path, found: &str) -> Result<(), String> {
    if std::env::var_os("DRAGOMAN_BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, found).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    if expected == found {
        return Ok(());
    }
    Err(format!("{}: expected\n{expected}\nfound\n{found}", path.display()))
}

/// Fails with all that is stale.
pub(crate) fn settle(results: impl IntoIterator<Item = Result<(), String>>) {
    let stale: Vec<_> = results.into_iter().filter_map(Result::err).collect();
    assert!(
        stale.is_empty(),
        "{}\nIf that is right, `DRAGOMAN_BLESS=1 cargo test -p dragoman-kube`",
        stale.join("\n")
    );
}
