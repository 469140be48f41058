//! A directory of one test's own.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, process};

/// A directory that is removed when this value is dropped. Every user may enter it: servers drop root.
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes `<temporary directory>/dragoman-<purpose>-<pid>-<n>`.
    pub fn new(purpose: &str) -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("dragoman-{purpose}-{}-{n}", process::id()));
        fs::create_dir_all(&path).unwrap_or_else(|e| panic!("cannot make {}: {e}", path.display()));
        Scratch { path }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file and returns its path.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let file = self.path.join(name);
        fs::write(&file, content).unwrap_or_else(|e| panic!("cannot write {}: {e}", file.display()));
        file
    }

    /// Gives the directory and the files in it to a user of this machine, as a server that refuses root
    /// wants it.
    pub fn give_to(&self, user: &str) {
        let found = nix::unistd::User::from_name(user).ok().flatten();
        let found = found.unwrap_or_else(|| panic!("this machine has no user {user}: run scripts/setup"));
        let give = |path: &Path| {
            std::os::unix::fs::chown(path, Some(found.uid.as_raw()), Some(found.gid.as_raw()))
                .unwrap_or_else(|e| panic!("cannot give {} to {user}: {e}", path.display()));
        };
        give(&self.path);
        for entry in fs::read_dir(&self.path).expect("the directory is this test's own").flatten() {
            give(&entry.path());
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left behind is in the temporary directory; a failing test should show its own error.
        let _ = fs::remove_dir_all(&self.path);
    }
}
