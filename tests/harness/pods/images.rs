//! The images that pods are made of: from the programs of this machine, since no registry can be reached.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Node;
use crate::{binaries, process};

/// The image of the two programs under test: what `make image` makes.
pub const DRAGOMAN: &str = concat!("localhost/dragoman:", env!("CARGO_PKG_VERSION"));
/// The image of an app: busybox and curl, and nothing of dragoman.
pub const APP: &str = "localhost/app:test";

/// The variable that names an archive with the image that `make image` made.
const ARCHIVE: &str = "DRAGOMAN_IMAGE_ARCHIVE";

/// Puts both images on the node.
pub(super) fn load(node: &Node) {
    match std::env::var_os(ARCHIVE) {
        Some(archive) => {
            let mut command = node.podman(&["load", "--quiet", "--input"]);
            let told = process::succeed(command.arg(fs::canonicalize(&archive).unwrap_or(archive.into())));
            assert!(told.contains(DRAGOMAN), "{ARCHIVE} has no {DRAGOMAN}: {told}");
        }
        None => {
            let root = node.machine.scratch.path().join("dragoman-image");
            for program in [binaries::dragoman(), binaries::dragoman_init()] {
                let name = program.file_name().expect("a program has a name").to_owned();
                add(&root, &stripped(&program), Path::new("/").join(name).as_path());
            }
            import(node, &root, DRAGOMAN, &["USER 1337:1337", "ENTRYPOINT [\"/dragoman\"]"]);
        }
    }
    app(node, APP, &[]);
}

/// Makes an image of an app with busybox, curl and further programs of this machine.
pub(super) fn app(node: &Node, name: &str, programs: &[&str]) {
    let root = node.machine.scratch.path().join("app-image");
    add(&root, Path::new("/bin/busybox"), Path::new("/bin/busybox"));
    for applet in APPLETS {
        let link = root.join("bin").join(applet);
        if !link.is_symlink() {
            symlink("busybox", link).expect("a folder of our own");
        }
    }
    for program in ["/usr/bin/curl"].iter().chain(programs) {
        add(&root, Path::new(program), Path::new(program));
    }
    // A command is begun by a copy of dragoman in the app's container. What is shipped is static, a debug build is not.
    if std::env::var_os(ARCHIVE).is_none() {
        add_libraries(&root, &binaries::dragoman());
    }
    let open = root.join("tmp");
    fs::create_dir_all(&open).expect("a folder of our own");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o1777)).expect("a folder of our own");
    let changes = ["ENV PATH=/bin:/usr/bin:/usr/sbin", "CMD [\"sleep\", \"600\"]"];
    import(node, &root, name, &changes);
}

/// What the apps of the cases say in shell.
const APPLETS: &[&str] = &[
    "cat", "chgrp", "chmod", "cp", "echo", "false", "grep", "head", "httpd", "id", "kill", "ln", "ls", "nc",
    "mkdir", "seq", "sh", "sleep", "touch", "true", "wget",
];

/// Adds a program at a path of an image, and the libraries that it is linked with.
fn add(root: &Path, program: &Path, path: &Path) {
    place(root, program, path);
    add_libraries(root, program);
}

/// Adds the libraries that a program is linked with, where the loader looks for them.
fn add_libraries(root: &Path, program: &Path) {
    // A static one makes `ldd` fail, and needs none.
    let libraries = process::output(Command::new("ldd").arg(program));
    for line in String::from_utf8_lossy(&libraries.stdout).lines() {
        if let Some(library) = line.split_whitespace().find(|word| word.starts_with('/')) {
            place(root, Path::new(library), Path::new(library));
        }
    }
}

fn place(root: &Path, file: &Path, path: &Path) {
    let to = root.join(path.strip_prefix("/").expect("a path in an image is absolute"));
    fs::create_dir_all(to.parent().expect("a file is in a folder")).expect("a folder of our own");
    fs::copy(file, &to).unwrap_or_else(|e| panic!("{}: {e}; run scripts/setup", file.display()));
}

/// A copy without what only debuggers read, which is most of a debug build; made once and kept beside the program.
fn stripped(program: &Path) -> PathBuf {
    let age = |path: &Path| fs::metadata(path).and_then(|data| data.modified()).ok();
    let copy = program.with_extension("stripped");
    if age(&copy) < age(program) {
        // Moved into place whole: other tests may make it at once.
        let own = program.with_extension(format!("{}-{:?}", std::process::id(), std::thread::current().id()));
        process::succeed(Command::new("strip").arg("-o").arg(&own).arg(program));
        fs::rename(&own, &copy).expect("both are in one folder");
    }
    copy
}

/// Makes an image of a folder.
fn import(node: &Node, root: &Path, name: &str, changes: &[&str]) {
    let mut tar = Command::new("tar")
        .arg("-C")
        .arg(root)
        .args(["--owner=0", "--group=0", "-c", "."])
        .stdout(Stdio::piped())
        .spawn()
        .expect("tar is in every Debian");
    let mut podman = node.podman(&["import", "--quiet"]);
    podman.args(changes.iter().flat_map(|change| ["--change", change])).args(["-", name]);
    let out = podman.stdin(tar.stdout.take().expect("piped")).output().expect("timeout is in every Debian");
    assert!(out.status.success(), "podman import: {}", process::text(&out));
    let packed = tar.wait().expect("a child can be waited for");
    assert!(packed.success(), "tar of {}: {packed}", root.display());
}
