//! `dragoman check` and the command line.

use std::path::Path;

use crate::running::{DRAGOMAN, Scratch, command, run, text};

#[test]
fn a_good_file_is_ok() {
    let file = Scratch::new("[destination.a]\nports = [80]\n[destination.a.route.b]\npath = \"/b\"\n");
    let output = run(&["check", file.path()]);
    assert_eq!(text(&output.stdout), format!("{}: ok (1 destination, 1 route)\n", file.path()));
    assert_eq!(text(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn an_empty_file_is_ok() {
    let file = Scratch::new("");
    let output = run(&["check", file.path()]);
    assert_eq!(text(&output.stdout), format!("{}: ok (0 destinations, 0 routes)\n", file.path()));
}

#[test]
fn the_policies_that_we_ship_are_ok() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/policies");
    for name in ["normal.toml", "example.toml"] {
        let output = run(&["check", folder.join(name).to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    }
}

#[test]
fn l5_all_errors_are_shown_at_once_with_their_place() {
    let file = Scratch::new("[proxy]\nprot = 1\n\n[log]\nlevel = \"loud\"\n");
    for arguments in [&["check", file.path()][..], &["proxy", "--config", file.path()]] {
        let output = run(arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert_eq!(text(&output.stdout), "");
        assert!(said.contains(&format!("{}:2:1", file.path())), "{said}");
        assert!(said.contains(&format!("{}:5:9", file.path())), "{said}");
        assert!(said.contains("2 errors"), "{said}");
        assert!(!said.contains('\x1b'), "colour, although this is no terminal: {said}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let output = run(&["check", "/nonexistent/policy.toml"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("/nonexistent/policy.toml") && said.contains("No such file"), "{said}");
}

#[test]
fn print_shows_where_a_value_comes_from() {
    let file = Scratch::new("[proxy]\nport = 15999\n");
    let environment = ("DRAGOMAN_RETRY_ATTEMPTS", "7");
    let mut command = command(Path::new(DRAGOMAN));
    let output =
        command.args(["check", file.path(), "--print"]).env(environment.0, environment.1).output().unwrap();
    let printed = text(&output.stdout);
    let line = |key: &str| {
        printed
            .lines()
            .find(|line| line.trim_start().starts_with(key))
            .unwrap_or_else(|| panic!("{key}: {printed}"))
    };
    assert!(line("port =").contains("15999") && line("port =").contains("line 2"), "{printed}");
    assert!(line("max_flows =").contains("default"), "{printed}");
    assert!(
        line("retry.attempts =").contains('7') && line("retry.attempts =").contains(environment.0),
        "{printed}"
    );
}

#[test]
fn a_reader_that_has_gone_is_no_error() {
    let script = format!("{DRAGOMAN} check --print \"$1\" | :; exit ${{PIPESTATUS[0]}}");
    let file = Scratch::new("");
    let output = command(Path::new("bash")).args(["-c", &script, "bash", file.path()]).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
}

#[test]
fn a_wrong_command_line_exits_with_2_and_says_what() {
    let cases: &[(&[&str], &str)] = &[
        (&[], "Usage: dragoman <COMMAND>"),
        (&["chekc"], "a similar subcommand exists: 'check'"),
        (&["check"], "<FILE>"),
        (&["proxy", "--user", "no-such-user"], "no such user here"),
        (&["proxy", "--group", "4294967295"], "no such group here"),
    ];
    for (arguments, expected) in cases {
        let output = run(arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}

#[test]
fn each_command_has_help_with_examples() {
    for command in ["proxy", "check"] {
        let output = run(&[command, "--help"]);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains(&format!("Examples:\n  dragoman {command}")));
    }
    assert_eq!(text(&run(&["--version"]).stdout), format!("dragoman {}\n", env!("CARGO_PKG_VERSION")));
}
