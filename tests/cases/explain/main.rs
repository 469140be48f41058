//! `dragoman explain` and `dragoman flows` beside a proxy that runs: each way to fail has a story, and it names the
//! culprit.

mod failures;
mod flows;

use std::fs;
use std::process::Output;

use dragoman_harness::{Net, binaries, process, wait};
use serde_json::Value;

/// Asks the proxy in A.
fn ask(net: &Net, arguments: &[&str]) -> Output {
    let mut command = net.app.bounded(binaries::dragoman());
    command.args(arguments).env("DRAGOMAN_CONTROL", "127.0.0.1:15000");
    process::output(&mut command)
}

fn stdout(out: &Output) -> String {
    assert!(out.status.success(), "{}", process::text(out));
    String::from_utf8(out.stdout.clone()).expect("it says ASCII alone")
}

/// The stories that `dragoman flows` lists with these arguments, once there are `n` of them.
fn stories(net: &Net, n: usize, arguments: &[&str]) -> Vec<Value> {
    let arguments = [&["flows", "--json", "--last", "1000000"], arguments].concat();
    wait::until_some("the stories are there", wait::SOON, || {
        let text = stdout(&ask(net, &arguments));
        let found: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        (found.len() >= n).then_some(found)
    })
}

/// What is another each time, by its kind.
fn mask(text: &str) -> String {
    let word = |word: &str| {
        let core = word.trim_matches([',', ';', ':', '(', ')', '"']);
        let is_hex = core.bytes().all(|byte| byte.is_ascii_hexdigit());
        let mask = match core {
            _ if core.len() == 16 && is_hex => "ID",
            _ if core.len() == 36 && core.matches('-').count() == 4 => "UUID",
            _ if core.len() == 24 && core.ends_with('Z') => "WHEN",
            _ if core.starts_with("198.18.0.1:") => "APP",
            _ if core.split_once('.').is_some_and(|(_, f)| f.len() == 3 && f.parse::<u16>().is_ok()) => "0",
            _ => return word.to_owned(),
        };
        word.replace(core, mask)
    };
    let line = |line: &str| line.split(' ').map(word).collect::<Vec<_>>().join(" ");
    text.lines().map(|text| line(text) + "\n").collect()
}

/// Compares with a file of this folder; `DRAGOMAN_BLESS=1` renews it.
fn golden(name: &str, text: &str) {
    let path = format!("{}/cases/explain/golden/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("DRAGOMAN_BLESS").is_some() {
        fs::write(&path, text).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    let expected = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert_eq!(text, expected, "{name}: DRAGOMAN_BLESS=1 renews it\n{text}");
}
