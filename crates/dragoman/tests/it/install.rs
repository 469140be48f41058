//! `dragoman wait --install`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::running::{DRAGOMAN, Folder, copy, run, text};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// As anybody, without any right, and with a mask that would keep others out.
fn install_as_anybody(program: &Path, target: &Path) -> Output {
    let script = "umask 077; exec \"$0\" wait --install \"$1\"";
    let mut command = Command::new("setpriv");
    command.args(["--reuid=4711", "--regid=4711", "--clear-groups", "--bounding-set=-all", "--no-new-privs"]);
    command.args(["sh", "-c", script]).args([program, target]).output().unwrap()
}

#[test]
fn it_is_there_whole_for_everybody_as_often_as_it_is_asked_for() {
    let (image, shared) = (Folder::new(), Folder::new());
    fs::set_permissions(&image.0, Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&shared.0, Permissions::from_mode(0o777)).unwrap();
    let (first, second) = (image.0.join("dragoman"), shared.0.join("dragoman"));
    assert_eq!(run(&["wait", "--install", first.to_str().unwrap()]).status.code(), Some(0));
    for _ in 0..2 {
        let output = install_as_anybody(&first, &second);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert_eq!((mode(&first), mode(&second)), (0o755, 0o755));
        assert!(fs::read(&second).unwrap() == fs::read(DRAGOMAN).unwrap(), "it is another program");
    }
    let names: Vec<_> = fs::read_dir(&shared.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["dragoman"], "nothing else is left there");
    let version = |program: &Path| Command::new(program).arg("--version").output().unwrap().stdout;
    assert_eq!(version(&second), version(Path::new(DRAGOMAN)));
}

#[test]
fn what_an_earlier_try_left_is_no_hindrance_and_what_runs_runs_on() {
    let folder = Folder::new();
    let target = folder.0.join("dragoman");
    let left = folder.0.join(".dragoman.new");
    std::os::unix::fs::symlink("/etc/passwd", &left).unwrap();
    let before = fs::read("/etc/passwd").unwrap();
    copy("/usr/bin/sleep", &target);
    let mut runs = Command::new(&target).arg("60").spawn().unwrap();
    let output = run(&["wait", "--install", target.to_str().unwrap()]);
    let still_runs = runs.try_wait().unwrap().is_none();
    runs.kill().unwrap();
    runs.wait().unwrap();
    assert!(output.status.success() && still_runs, "{}", text(&output.stderr));
    assert!(fs::read("/etc/passwd").unwrap() == before, "a link was followed");
    assert!(fs::symlink_metadata(&left).is_err() && mode(&target) == 0o755);
}

#[test]
fn where_it_cannot_be_put_is_said() {
    let folder = Folder::new();
    for (path, why) in [
        (folder.0.to_str().unwrap(), "directory"),
        ("/", "directory"),
        ("/no/such/folder/dragoman", "No such file"),
        ("/proc/dragoman", ""),
    ] {
        let output = run(&["wait", "--install", path]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{path}: {said}");
        assert!(
            said.starts_with(&format!("dragoman: cannot install {path}: ")) && said.contains(why),
            "{said}"
        );
    }
    for more in [&["--", "true"][..], &["--quit"]] {
        let output = run(&[&["wait", "--install", "/tmp/x"], more].concat());
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    }
}
