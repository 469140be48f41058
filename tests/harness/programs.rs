//! The tests' own programs: clients and servers in other languages, each with the libraries that users have.

use std::path::{Path, PathBuf};

/// A file of `tests/programs`.
pub fn path(name: &str) -> PathBuf {
    existing(Path::new(env!("CARGO_MANIFEST_DIR")).join("programs").join(name))
}

/// Python with the packages of `tests/programs/requirements.txt`.
pub fn python() -> PathBuf {
    existing(Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tests-venv/bin/python3"))
}

fn existing(path: PathBuf) -> PathBuf {
    assert!(path.exists(), "{} does not exist: run scripts/setup and scripts/setup-tests", path.display());
    path
}
