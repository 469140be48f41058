//! A secret as Kubernetes mounts it: each file is a link into `..data`, which is a link to a folder with a version of all.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use dragoman_harness::pki::Issued;

pub(crate) struct Volume {
    path: PathBuf,
    versions: AtomicUsize,
}

impl Volume {
    pub(crate) fn new(path: PathBuf) -> Volume {
        fs::create_dir(&path).unwrap();
        let volume = Volume { path, versions: AtomicUsize::new(0) };
        volume.link("tls.crt");
        volume.link("tls.key");
        volume
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a file what it should be here, in place of whatever a case has made of it.
    pub(crate) fn link(&self, name: &str) {
        symlink(Path::new("..data").join(name), self.path.join("..link")).unwrap();
        fs::rename(self.path.join("..link"), self.path.join(name)).unwrap();
    }

    /// Swaps what is there for this, in one step, and removes what was there.
    pub(crate) fn put(&self, identity: &Issued) {
        let version = self.versions.fetch_add(1, Ordering::SeqCst);
        let folder = |version: usize| format!("..{version}");
        identity.write_to(&self.path.join(folder(version)));
        symlink(folder(version), self.path.join("..data_tmp")).unwrap();
        fs::rename(self.path.join("..data_tmp"), self.path.join("..data")).unwrap();
        if let Some(before) = version.checked_sub(1) {
            fs::remove_dir_all(self.path.join(folder(before))).unwrap();
        }
    }
}
