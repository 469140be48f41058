use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// A directory of its own, which goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("dragoman-tls-files-{}-{count}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn look(paths: &[&PathBuf]) -> (Contents, Digest) {
    let paths = || paths.iter().map(|path| path.as_path());
    let contents = Contents::read(paths());
    let digest = contents.digest(paths());
    (contents, digest)
}

#[test]
fn a_digest_changes_with_each_file_and_only_with_them() {
    let folder = Folder::new();
    let (first, second) = (folder.write("1", "ab"), folder.write("2", "c"));
    let before = look(&[&first, &second]).1;
    assert_eq!(look(&[&first, &second]).1, before);
    folder.write("1", "a");
    folder.write("2", "bc");
    let moved = look(&[&first, &second]).1;
    assert_ne!(moved, before, "a letter that moves from one file to the other is a change");
    fs::remove_file(&second).unwrap();
    let gone = look(&[&first, &second]).1;
    assert_ne!(gone, moved);
    folder.write("2", "");
    assert_ne!(look(&[&first, &second]).1, gone, "an empty file is another thing than none");
}

#[test]
fn a_swapped_link_is_a_change() {
    let folder = Folder::new();
    for version in ["1", "2"] {
        fs::create_dir(folder.0.join(version)).unwrap();
        fs::write(folder.0.join(version).join("tls.crt"), version).unwrap();
    }
    let (data, next, path) = (folder.0.join("..data"), folder.0.join("..next"), folder.0.join("tls.crt"));
    symlink("1", &data).unwrap();
    symlink("..data/tls.crt", &path).unwrap();
    assert_eq!(look(&[&path]).0.get(&path).unwrap(), b"1");
    symlink("2", &next).unwrap();
    fs::rename(&next, &data).unwrap();
    assert_eq!(look(&[&path]).0.get(&path).unwrap(), b"2");
}

#[test]
fn what_cannot_be_read_says_so_and_does_not_block() {
    let folder = Folder::new();
    let pipe = folder.0.join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    for (path, reason) in [
        (&pipe, "it is not a file"),
        (&folder.0, "it is not a file"),
        (&folder.0.join("none"), "No such file or directory"),
    ] {
        let error = look(&[path]).0.get(path).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: cannot be read: {reason}", path.display())), "{error}");
    }
}

#[test]
fn what_everybody_may_read_is_told() {
    let folder = Folder::new();
    let path = folder.write("key", "secret");
    for (mode, public) in [(0o600, false), (0o640, false), (0o644, true), (0o404, true)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(look(&[&path]).0.is_public(&path), public, "{mode:o}");
    }
}

#[test]
fn nothing_of_a_file_is_printed() {
    let folder = Folder::new();
    let path = folder.write("key", "secret");
    let (contents, digest) = look(&[&path]);
    let printed = format!("{contents:?} {digest:?}");
    assert!(printed.contains("Ok(6)") && !printed.contains("secret"), "{printed}");
}
