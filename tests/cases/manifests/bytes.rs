//! The bytes of manifests, as PyYAML and kubectl read them before and after.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use dragoman_harness::{binaries, process, programs};

use crate::oracles::repository;

#[test]
fn other_readers_find_the_original_around_what_was_injected() {
    let folder = repository("crates/kube/tests/corpus");
    let files: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the corpus")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml" || extension == "json"))
        .collect();
    assert!(files.len() >= 40, "the corpus is not all there");
    let mut oracle = Command::new(programs::python());
    oracle.arg(programs::path("manifest_oracle.py")).arg(binaries::dragoman()).arg(programs::kubectl());
    // No cluster of whoever runs the tests.
    oracle.args(&files).env("KUBECONFIG", "/dev/null").env("KUBECACHEDIR", std::env::temp_dir());
    let verdicts: BTreeMap<String, Vec<String>> =
        serde_json::from_str(&process::succeed(&mut oracle)).expect("the verdicts");
    assert_eq!(verdicts.len(), files.len());
    for (file, faults) in verdicts {
        assert_eq!(faults, Vec::<String>::new(), "{file}");
    }
}
