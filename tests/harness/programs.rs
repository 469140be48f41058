//! The tests' own programs: clients and servers in other languages, each with the libraries that users have.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process;

/// A file of `tests/programs`.
pub fn path(name: &str) -> PathBuf {
    existing(Path::new(env!("CARGO_MANIFEST_DIR")).join("programs").join(name))
}

/// Python with the packages of `tests/programs/requirements.txt`.
pub fn python() -> PathBuf {
    existing(Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tests-venv/bin/python3"))
}

/// A program of `tests/programs/tonic`.
pub fn tonic(name: &str) -> PathBuf {
    existing(Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tests-tonic/debug").join(name))
}

/// kubectl, for what needs no cluster: building kustomizations, and reading manifests.
pub fn kubectl() -> PathBuf {
    existing(Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tests-kubectl/kubectl"))
}

/// The TOML tool that stands behind editors' plug-ins.
pub fn taplo() -> PathBuf {
    existing(Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tests-venv/bin/taplo"))
}

/// A library for LD_PRELOAD, built from a C file of `tests/programs` into a folder of the test program's own.
pub fn library(name: &str, folder: &Path) -> PathBuf {
    let library = folder.join(name).with_extension("so");
    // Moved into place whole: two test programs may build it at once.
    let own = library.with_extension(std::process::id().to_string());
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&own);
    process::succeed(cc.arg(path(name)).arg("-ldl"));
    std::fs::rename(&own, &library).expect("both are in one folder");
    library
}

fn existing(path: PathBuf) -> PathBuf {
    assert!(path.exists(), "{} does not exist: run scripts/setup and scripts/setup-tests", path.display());
    path
}
