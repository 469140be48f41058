//! `dragoman inject` as it is run. What is added to which pod is tested in `crates/kube`.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::running::{DRAGOMAN, Scratch};

const WEB: &str = "# ours
apiVersion: v1
kind: ConfigMap
metadata: {name: policy}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  namespace: shop
spec:
  template:
    spec:
      containers:
        - name: app    # the app
          image: app:1
          securityContext: {privileged: true}
---
apiVersion: v1
kind: Pod
metadata: {name: other, annotations: {dragoman.dev/inject: \"false\"}}
spec: {containers: [{name: app, image: app:1}]}
";

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// With this on stdin, and with no variable of the caller's.
fn inject(arguments: &[&str], stdin: &str) -> Output {
    run(Command::new(DRAGOMAN).env_clear().arg("inject").args(arguments), stdin)
}

fn run(command: &mut Command, stdin: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Whoever does not read all of it has its reasons.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

#[test]
fn manifests_go_to_stdout_and_what_was_done_to_stderr() {
    let out = inject(&[], WEB);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    assert_eq!(
        text(&out.stderr),
        "ConfigMap policy: passed on, it has no pods
Deployment shop/web: injected, native sidecar
warning: Deployment shop/web: container \"app\" is privileged: it can change the rules and go round the proxy
Pod other: left alone, since it says dragoman.dev/inject: \"false\"
"
    );
    let injected = text(&out.stdout);
    assert!(
        injected.starts_with("# ours\n") && injected.contains("- name: app    # the app\n"),
        "{injected}"
    );
    let version = env!("CARGO_PKG_VERSION");
    assert!(injected.contains(&format!("image: dragoman:{version}\n")), "{injected}");

    let twice = inject(&["--quiet"], injected);
    assert_eq!((text(&twice.stdout), text(&twice.stderr)), (injected, ""));
    let back = inject(&["--uninject"], injected);
    assert_eq!((text(&back.stdout), text(&back.stderr)), (WEB, ""));
    let changed = injected.replace("value: 28s", "value: 9s");
    let line = injected.lines().position(|line| line.ends_with("- name: dragoman")).unwrap() + 1;
    let said = format!(
        "warning: stdin:{line}: spec.initContainers \"dragoman\" is not as it was injected; what was changed in it is gone\n"
    );
    let back = inject(&["--uninject"], &changed);
    assert_eq!((text(&back.stdout), text(&back.stderr)), (WEB, &*said));
    let again = inject(&[], &changed);
    assert!(text(&again.stderr).starts_with(&said), "{}", text(&again.stderr));
    assert_eq!(text(&again.stdout), injected);
    let nothing = inject(&["--uninject"], WEB);
    assert_eq!(text(&nothing.stdout), WEB);
    assert_eq!(
        text(&nothing.stderr),
        "dragoman: there is no record of an injection, and nothing was taken out\n"
    );
}

#[test]
fn a_file_is_as_good_as_stdin() {
    let file = Scratch::new(WEB);
    for arguments in [&["-f", file.path()][..], &["--file", file.path()]] {
        assert_eq!(inject(arguments, "").stdout, inject(&["-f", "-"], WEB).stdout);
    }
    assert_eq!(std::fs::read_to_string(file.path()).unwrap(), WEB, "the file itself stays");
}

#[test]
fn options_hold_for_all_pods() {
    let out = inject(&["--native-sidecar=false", "--no-capture", "--image", "a/b:1", "--quiet"], WEB);
    let plain = text(&out.stdout);
    assert!(plain.contains("image: a/b:1\n") && plain.contains("postStart:"), "{plain}");
    assert!(!plain.contains("NET_ADMIN") && text(&out.stderr).is_empty(), "{plain}");

    let out = run(
        Command::new(DRAGOMAN).env_clear().env("DRAGOMAN_IMAGE", "from/env:2").args(["inject", "-q"]),
        WEB,
    );
    assert!(text(&out.stdout).contains("image: from/env:2\n"), "{}", text(&out.stderr));
    let both = run(
        Command::new(DRAGOMAN)
            .env_clear()
            .env("DRAGOMAN_IMAGE", "from/env:2")
            .args(["inject", "--image", "a/b:1"]),
        WEB,
    );
    assert!(text(&both.stdout).contains("image: a/b:1\n"), "{}", text(&both.stderr));
    let empty = run(Command::new(DRAGOMAN).env_clear().env("DRAGOMAN_IMAGE", "").arg("inject"), WEB);
    assert!(text(&empty.stderr).starts_with("dragoman: DRAGOMAN_IMAGE \"\": "), "{}", text(&empty.stderr));
}

#[test]
fn nothing_is_written_if_anything_is_refused() {
    let refused = WEB.replace("    spec:\n", "    spec:\n      hostNetwork: true\n")
        + "---\napiVersion: v1\nkind: Pod\nspec: {}\n";
    let out = inject(&[], &refused);
    assert_eq!((out.status.code(), text(&out.stdout)), (Some(2), ""));
    let lines: Vec<_> = text(&out.stderr).lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("stdin:14: Deployment shop/web: hostNetwork: true: "), "{lines:?}");
    assert!(lines[1].starts_with("stdin:27: Pod without name: spec.containers: "), "{lines:?}");
    let file = Scratch::new(&refused);
    let out = inject(&["-f", file.path()], "");
    assert!(
        text(&out.stderr).starts_with(&format!("{}:14: Deployment", file.path())),
        "{}",
        text(&out.stderr)
    );
}

#[test]
fn a_wrong_command_line_is_told_in_the_words_of_whoever_wrote_it() {
    for (arguments, said) in [
        (
            &["--exclude-ports", "22,0"][..],
            "dragoman: --exclude-ports \"22,0\": \"0\": expected a port from 1 to 65535\n",
        ),
        (&["--native-sidecar=maybe"], "dragoman: --native-sidecar \"maybe\": expected true or false\n"),
        (
            &["--no-capture", "--exclude-ports", "22"],
            "dragoman: --no-capture: nothing is captured, so what says what to capture has no effect; take one of them out\n",
        ),
        (
            &["--uninject", "--image", "a:1"],
            "dragoman: --image: has no effect with --uninject; take one of them out\n",
        ),
        (
            &["--exclude-inbound-ports", "80"],
            "dragoman: --exclude-inbound-ports \"80\": goes with inbound only\n",
        ),
    ] {
        let out = inject(arguments, WEB);
        assert_eq!((out.status.code(), text(&out.stdout), text(&out.stderr)), (Some(2), "", said));
    }
    assert_eq!(inject(&["--exclude-port", "22"], WEB).status.code(), Some(2));
}

#[test]
fn files_that_cannot_be_read_are_told() {
    let out = inject(&["-f", "/nowhere/web.yaml"], "");
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(
        text(&out.stderr),
        "dragoman: cannot read /nowhere/web.yaml: No such file or directory (os error 2)\n"
    );
    assert_eq!(inject(&["-f", "/"], "").status.code(), Some(1));
    let binary = Scratch::new("");
    std::fs::write(&binary.0, [0xff, 0xfe, b'a']).unwrap();
    let out = inject(&["-f", binary.path()], "");
    assert_eq!(out.status.code(), Some(2));
    assert!(text(&out.stderr).contains("is not UTF-8"), "{}", text(&out.stderr));
}

#[test]
fn empty_input_gives_empty_output() {
    for input in ["", "\n", "# nothing\n", "---\n---\n"] {
        let out = inject(&[], input);
        assert_eq!(
            (out.status.code(), text(&out.stdout), text(&out.stderr)),
            (Some(0), input, "dragoman: there was no object to read\n"),
            "{input:?}"
        );
    }
}

#[test]
fn a_reader_that_has_gone_is_no_error() {
    let file = Scratch::new(&format!("{WEB}---\n").repeat(400));
    let mut command = Command::new(DRAGOMAN);
    let mut child = command
        .env_clear()
        .args(["inject", "-q", "-f", file.path()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let out = child.wait_with_output().unwrap();
    assert_eq!((out.status.code(), text(&out.stderr)), (Some(0), ""));
}

#[test]
fn nor_is_one_of_what_was_done() {
    let text = format!("{WEB}---\n").repeat(400);
    let file = Scratch::new(&text);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(DRAGOMAN);
    let out = command.env_clear().args(["inject", "-f", file.path()]).stderr(writer).output().unwrap();
    assert_eq!((out.status.code(), out.stdout), (Some(0), inject(&["-q"], &text).stdout));
}

#[test]
fn a_full_disk_is_one() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let file = Scratch::new(WEB);
    let out = Command::new(DRAGOMAN)
        .env_clear()
        .args(["inject", "-q", "-f", file.path()])
        .stdout(full)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).starts_with("dragoman: cannot write to stdout: "), "{}", text(&out.stderr));
}
