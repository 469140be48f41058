//! README's commands for a laptop without a cluster, as they stand there.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use dragoman_harness::pods::{APP, Node};
use dragoman_harness::{binaries, process};

const HEADING: &str = "### On a laptop, without a cluster";

/// What is different here: the image is there already, and what has to come is waited for instead of guessed.
const PRELUDE: &str = "set -eu
make() { :; }
sleep() {
    until [ \"$(podman logs checkout-app 2>/dev/null | grep -c '^order ')\" -ge 5 ]; do command sleep 0.1; done
}
set -x
";

#[test]
fn the_commands_of_the_readme_do_what_it_says() {
    let node = Node::new();
    let image = "docker.io/library/busybox:1.37";
    node.tag(APP, image);
    let folder = node.folder("readme");
    let project =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the project is there");
    let commands = commands(&project.join("README.md"));
    let link = |from: PathBuf, to: &str| {
        let to = folder.join(to);
        fs::create_dir_all(to.parent().expect("below the folder")).expect("a folder of our own");
        symlink(from, to).expect("a folder of our own");
    };
    link(project.join("deploy"), "deploy");
    link(binaries::dragoman().canonicalize().expect("it is there"), "target/debug/dragoman");

    let mut shell = node.shell();
    let script = format!("cd {}\n{PRELUDE}{commands}", folder.display());
    let out = process::output(shell.args(["-c", &script]));
    assert!(out.status.success(), "{script}\n{}", process::text(&out));

    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(said.lines().filter(|line| line.starts_with("order ")).count() >= 5, "{}", process::text(&out));
    assert!(!process::text(&out).contains("wget:"), "a request of the app failed: {}", process::text(&out));
    let twice = |line: &str| line.contains("GET orders/") && line.split_whitespace().any(|word| word == "2");
    assert!(said.lines().any(twice), "no exchange of two attempts: {said}");
    assert_eq!(node.ask(&["pod", "ls", "--quiet"]), "");
    assert!(!node.ask(&["network", "ls", "--quiet"]).contains("shop"));
}

/// The fenced commands below the heading.
fn commands(readme: &Path) -> String {
    let text = fs::read_to_string(readme).unwrap_or_else(|e| panic!("{}: {e}", readme.display()));
    let below = text.split_once(HEADING).unwrap_or_else(|| panic!("README has no {HEADING:?}")).1;
    let fenced = below.split_once("```sh\n").and_then(|(_, rest)| rest.split_once("```"));
    let commands = fenced.unwrap_or_else(|| panic!("nothing is fenced below {HEADING:?}")).0;
    assert!(commands.contains("kube play") && commands.contains("kube down"), "{commands}");
    commands.to_owned()
}
