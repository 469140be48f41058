//! docs/inject.md has each setting as the code has it. `DRAGOMAN_BLESS=1 cargo test -p dragoman-kube` writes it anew.

mod common;

use std::fmt::Write;
use std::path::Path;

use common::{golden, settle};
use dragoman_kube::{SETTINGS, Said};

const BEGIN: &str = "by `DRAGOMAN_BLESS=1 cargo test -p dragoman-kube` -->\n";
const END: &str = "<!-- end of settings -->";

#[test]
fn the_documentation_has_each_setting() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/inject.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("where the settings begin");
    let (_, after) = rest.split_once(END).expect("where they end");
    settle([golden(&path, &format!("{before}{BEGIN}{}{END}{after}", table()))]);
}

fn table() -> String {
    let mut table =
        String::from("| Option | Annotation | Value | Default | Meaning |\n|---|---|---|---|---|\n");
    for setting in SETTINGS {
        let option =
            if setting.said == Said::Annotation { String::new() } else { format!("`--{}`", setting.name) };
        let annotation = if setting.said == Said::Option {
            String::new()
        } else {
            format!("`dragoman.dev/{}`", setting.name)
        };
        let value = setting.value.replace('|', "\\|");
        writeln!(table, "| {option} | {annotation} | {value} | {} | {} |", setting.default, setting.about)
            .unwrap();
    }
    table
}
