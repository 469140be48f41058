//! What docs/kubernetes.md shows of commands is what they print.

use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

use dragoman_harness::process::{self, text};
use dragoman_harness::{binaries, programs};

use crate::oracles::repository;

const BEGIN: &str = "```console\n$ ";
const END: &str = "```\n";

/// The page, with what its commands print now.
fn renewed(page: &str) -> String {
    let mut parts = page.split(BEGIN);
    let mut renewed = parts.next().expect("a page").to_owned();
    for part in parts {
        let (shown, rest) = part.split_once(END).expect("each block ends");
        let (command, _) = shown.split_once('\n').expect("a command is a line");
        renewed.extend([BEGIN, command, "\n", &printed(command), END, rest]);
    }
    renewed
}

/// What a command prints on either stream, in a checkout of this repository, where `dragoman` and `kubectl` are installed.
fn printed(command: &str) -> String {
    let installed = [binaries::dragoman(), programs::kubectl()];
    let mut folders: Vec<PathBuf> =
        installed.iter().map(|program| program.parent().expect("a folder").to_owned()).collect();
    folders.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).current_dir(repository("."));
    shell.env("PATH", env::join_paths(folders).expect("paths"));
    let output = process::output(&mut shell);
    assert!(output.status.success(), "{command}: {}\n{}", output.status, text(&output));
    text(&output)
}

#[test]
fn the_page_shows_what_commands_print() {
    let path = repository("docs/kubernetes.md");
    let page = fs::read_to_string(&path).expect("the page");
    assert!(page.contains(BEGIN));
    let renewed = renewed(&page);
    if env::var_os("DRAGOMAN_BLESS").is_some() {
        fs::write(&path, renewed).expect("the page can be written");
    } else {
        assert_eq!(page, renewed, "renew docs/kubernetes.md with DRAGOMAN_BLESS=1");
    }
}
