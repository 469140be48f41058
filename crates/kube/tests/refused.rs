//! What a person reads whose manifest is refused: one file for each reason, or for some that belong together, and beside it
//! what is said.
//!
//! The first line of a file may give options: `# options: native-sidecar=false`.
//! `DRAGOMAN_BLESS=1 cargo test -p dragoman-kube` writes the answers anew; read the difference.

mod common;

use std::fs;
use std::path::Path;

use common::{files, folder, golden, options, settle, told};
use dragoman_kube::inject;

#[test]
fn each_reason_is_told_with_its_place_and_what_to_do() {
    let cases = files(&folder("refused"), &["yaml", "json"]);
    assert!(cases.len() >= 40, "the cases are not all there: {}", cases.len());
    settle(cases.iter().map(|case| check(case)));
}

fn check(case: &Path) -> Result<(), String> {
    let text = fs::read_to_string(case).unwrap();
    let words = text.lines().next().and_then(|line| line.strip_prefix("# options: ")).unwrap_or_default();
    let name = case.file_name().unwrap().to_str().unwrap();
    let Err(refusals) = inject(&text, &options(words)) else { return Err(format!("{name} is accepted")) };
    let said = told(name, &refusals);
    for line in said.lines() {
        let place = line.strip_prefix(name).and_then(|rest| rest.strip_prefix(':'));
        let number = place.and_then(|rest| rest.split_once(": ")).map(|(number, _)| number);
        if number.is_none_or(|number| number.parse::<usize>().is_err()) {
            return Err(format!("{name}: a line without a place: {line}"));
        }
    }
    golden(&case.with_extension("txt"), &said)
}
