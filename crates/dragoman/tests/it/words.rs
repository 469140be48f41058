//! What the program says about itself: help, completions, manual pages.

use std::process::{Command, Output};

use crate::running::{DRAGOMAN, Scratch};

const COMMANDS: [&str; 11] =
    ["run", "proxy", "check", "schema", "wait", "drain", "explain", "flows", "inject", "ca", "completions"];
/// What `dragoman ca` does.
const CA: [&str; 4] = ["init", "issue", "renew", "watch"];

fn say(arguments: &[&str]) -> Output {
    // No variable of the caller's: help shows their values.
    Command::new(DRAGOMAN).args(arguments).env_clear().env("COLUMNS", "100").output().unwrap()
}

fn text(arguments: &[&str]) -> String {
    let out = say(arguments);
    assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn each_command_has_help_with_examples() {
    let all = text(&["--help"]);
    for command in COMMANDS {
        assert!(all.contains(&format!("\n  {command} ")), "{command} is not in\n{all}");
        assert_help(&[command]);
    }
    CA.iter().for_each(|verb| assert_help(&["ca", verb]));
}

fn assert_help(command: &[&str]) {
    let help = text(&[command, &["--help"]].concat());
    let path = format!("{}/tests/help/{}.txt", env!("CARGO_MANIFEST_DIR"), command.join("-"));
    if std::env::var_os("DRAGOMAN_BLESS").is_some() {
        std::fs::write(&path, &help).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert_eq!(help, expected, "{path}: DRAGOMAN_BLESS=1 renews it");
    assert!(help.contains("\nExamples:\n  ") && !help.contains('\x1b'), "{help}");
}

#[test]
fn shells_get_what_they_can_read() {
    for (shell, check) in [("bash", Some("bash")), ("zsh", None), ("fish", None), ("elvish", None)] {
        let script = text(&["completions", shell]);
        for command in COMMANDS {
            assert!(script.contains(command), "{shell}: {command}");
        }
        if let Some(shell) = check {
            let checked = Command::new(shell).args(["-n", "-c", &script]).output().unwrap();
            assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
        }
    }
    assert_eq!(say(&["completions", "tcsh"]).status.code(), Some(2));
}

#[test]
fn there_is_a_manual_page_of_all_and_of_each() {
    assert!(text(&["man"]).starts_with(".ie"));
    for command in COMMANDS {
        let page = text(&["man", command]);
        assert!(page.contains(".SH SYNOPSIS") && page.contains("Examples:"), "{command}\n{page}");
    }
    for verb in CA {
        assert!(text(&["man", "ca", verb]).contains("Examples:"), "{verb}");
    }
    assert_eq!(say(&["man", "nothing"]).status.code(), Some(2));
    assert_eq!(say(&["man", "ca", "nothing"]).status.code(), Some(2));
}

#[test]
fn a_request_is_explained_by_a_file_alone() {
    let file = crate::running::Scratch::new("[destination.pay]\nhosts = ['pay.test']\ntimeout = '9s'\n");
    let explain = |arguments: &[&str]| {
        say(&[&["explain", "--config", file.path(), "--address", "10.0.0.1"], arguments].concat())
    };
    let out = explain(&["http://pay.test/x"]);
    let said = String::from_utf8(out.stdout).unwrap();
    assert!(said.contains("destination \"pay\"") && said.contains("time limit: 9s in all"), "{said}");
    let out = explain(&["--json", "other.test:81"]);
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((&json["destination"], &json["original_dst"]), (&"default".into(), &"10.0.0.1:81".into()));
    assert_eq!(explain(&["ftp://x/"]).status.code(), Some(2));
    assert_eq!(explain(&["http://pay.test:99999/"]).status.code(), Some(2));
    let nobody = say(&["explain", "0123456789abcdef", "--control", "/nowhere/control.sock"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8(nobody.stderr).unwrap().contains("is `dragoman proxy` running?"));
}

#[test]
fn colours_are_for_a_terminal_and_for_who_wants_them() {
    let wrong = Scratch::new("[prxy]\n");
    let check = format!("'{DRAGOMAN}' check '{}'", wrong.path());
    let told = |command: &mut Command| {
        let out = command.env_remove("NO_COLOR").output().unwrap();
        let told = [out.stdout, out.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        assert!(told.contains("prxy"), "{told}");
        told
    };
    // `script` gives its command a terminal.
    let at_terminal = |variable: &str| {
        told(Command::new("script").args(["-qec", &format!("{variable} {check}"), "/dev/null"]))
    };
    assert!(at_terminal("").contains('\x1b'));
    assert!(at_terminal("NO_COLOR=").contains('\x1b'), "an empty one is none (no-color.org)");
    assert!(!at_terminal("NO_COLOR=1").contains('\x1b'));
    assert!(!told(Command::new("sh").args(["-c", &check])).contains('\x1b'), "a pipe");
}
