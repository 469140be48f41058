//! Where the two programs under test are.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::process;

/// The variable that names the folder of the two programs; `make test` sets it.
pub const FOLDER: &str = "DRAGOMAN_BIN_DIR";

/// The proxy.
pub fn dragoman() -> PathBuf {
    find("dragoman")
}

/// The program that installs the rules.
pub fn dragoman_init() -> PathBuf {
    find("dragoman-init")
}

fn find(name: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| env::var_os(FOLDER).map_or_else(build, PathBuf::from));
    let path = directory.join(name);
    assert!(path.exists(), "{} does not exist: build it, or unset {FOLDER}", path.display());
    path
}

/// Builds both with the tests' own profile and answers where they are: two folders above this test's
/// program, `<target>/<profile>/deps/<test>`.
fn build() -> PathBuf {
    let own = env::current_exe().expect("the test's own path");
    let directory = own.ancestors().nth(2).expect("a test program lies two folders deep").to_owned();
    let target = directory.parent().expect("the profile's folder has a parent");
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace).args(["build", "--quiet", "-p", "dragoman", "-p", "dragoman-init"]);
    if directory.ends_with("release") {
        cargo.arg("--release");
    }
    process::succeed(cargo.arg("--target-dir").arg(target));
    directory
}
