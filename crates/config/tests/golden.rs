//! What a person reads who has made a mistake: one file per mistake, or a directory of files that are merged, and
//! beside it what is said.
//!
//! The first lines of a file may set environment variables: `# env: NAME=value`.
//! `DRAGOMAN_BLESS=1 cargo test -p dragoman-config` writes the answers anew; read the difference.

use std::{fs, path::Path};

use dragoman_config::{Config, Sources};

#[test]
fn l5_each_mistake_is_told_with_its_place_and_what_to_do() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cases: Vec<_> = fs::read_dir(&folder)
        .expect("the folder of cases")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_none_or(|extension| extension == "toml"))
        .collect();
    cases.sort();
    assert!(cases.len() >= 40, "the cases are not all there: {}", cases.len());
    let stale: Vec<_> = cases.iter().filter_map(|case| check(case).err()).collect();
    assert!(
        stale.is_empty(),
        "{}\nIf that is right, `DRAGOMAN_BLESS=1 cargo test -p dragoman-config`",
        stale.join("\n")
    );
}

fn check(case: &Path) -> Result<(), String> {
    let sources = Sources::read(&[case.to_owned()]).expect("a case");
    let folder = format!("{}/", case.parent().expect("a folder").display());
    let texts: Vec<_> = sources.names().map(|name| fs::read_to_string(name).expect("a file")).collect();
    // Answers are the same wherever the repository is.
    let names = sources.names().map(|name| name.trim_start_matches(&folder));
    let sources: Sources = names.zip(&texts).collect();
    let env = |wanted: &str| {
        let lines = texts.iter().flat_map(|text| text.lines());
        let mut variables = lines.filter_map(|line| line.strip_prefix("# env: "));
        variables.find_map(|line| line.strip_prefix(wanted)?.strip_prefix('=').map(str::to_owned))
    };
    let name = case.display();
    let said = match Config::resolve(&sources, &env) {
        Ok(_) => return Err(format!("{name} is accepted")),
        Err(errors) => format!("{errors}\n"),
    };
    let answer = case.with_extension("txt");
    if std::env::var_os("DRAGOMAN_BLESS").is_some() {
        fs::write(&answer, &said).expect("the answer is written");
    }
    let expected = fs::read_to_string(&answer).unwrap_or_default();
    if said == expected { Ok(()) } else { Err(format!("{name}: expected\n{expected}\nbut it says\n{said}")) }
}
