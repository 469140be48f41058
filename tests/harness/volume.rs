//! A secret as Kubernetes mounts it: each file is a link into `..data`, which is a link to a folder with a version of all.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::pki::Issued;

/// Why nothing here can fail.
const OWN: &str = "a folder of the case's own";

/// The folder that programs are told of.
pub struct Volume {
    path: PathBuf,
    versions: AtomicUsize,
}

impl Volume {
    /// An empty one. Panics where there is something already.
    pub fn new(path: PathBuf) -> Volume {
        fs::create_dir(&path).expect(OWN);
        let volume = Volume { path, versions: AtomicUsize::new(0) };
        volume.link("tls.crt");
        volume.link("tls.key");
        volume
    }

    /// What programs are told of.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a file what it should be here, in place of whatever a case has made of it.
    pub fn link(&self, name: &str) {
        symlink(Path::new("..data").join(name), self.path.join("..link")).expect(OWN);
        fs::rename(self.path.join("..link"), self.path.join(name)).expect(OWN);
    }

    /// Swaps what is there for this, in one step, and removes what was there.
    pub fn put(&self, identity: &Issued) {
        let version = self.versions.fetch_add(1, Ordering::SeqCst);
        let folder = |version: usize| format!("..{version}");
        identity.write_to(&self.path.join(folder(version)));
        symlink(folder(version), self.path.join("..data_tmp")).expect(OWN);
        fs::rename(self.path.join("..data_tmp"), self.path.join("..data")).expect(OWN);
        if let Some(before) = version.checked_sub(1) {
            fs::remove_dir_all(self.path.join(folder(before))).expect(OWN);
        }
    }
}

/// Writes a file whole, in place of the one before.
pub fn replace(path: &Path, content: impl AsRef<[u8]>) {
    let new = path.with_extension("new");
    fs::write(&new, content).expect(OWN);
    fs::rename(&new, path).expect(OWN);
}
