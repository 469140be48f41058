//! A directory of files that belong together, written so that no moment shows half of one.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::unistd::Uid;

use super::CaError;

/// A directory that no other `dragoman ca` writes into meanwhile.
pub(crate) struct Folder {
    path: PathBuf,
    directory: Flock<File>,
}

/// Who may read a file.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Readers {
    /// Its owner alone.
    Owner,
    All,
}

/// A file to be written.
pub(crate) struct Content<'a> {
    pub(crate) name: &'static str,
    pub(crate) readers: Readers,
    pub(crate) bytes: &'a [u8],
}

impl Folder {
    /// Opens a directory, and makes it before, for its owner alone, where it is not there.
    pub(crate) fn make(path: &Path) -> Result<Folder, CaError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|error| CaError::system(path, "cannot be made", &error))?;
        Folder::open(path)
    }

    /// Opens a directory that is there.
    pub(crate) fn open(path: &Path) -> Result<Folder, CaError> {
        let refused = |error: io::Error| CaError::system(path, "cannot be opened", &error);
        let directory = OpenOptions::new().read(true).custom_flags(OFlag::O_DIRECTORY.bits()).open(path);
        let locked = Flock::lock(directory.map_err(refused)?, FlockArg::LockExclusive);
        let directory = locked.map_err(|(_, errno)| refused(errno.into()))?;
        Ok(Folder { path: path.to_owned(), directory })
    }

    /// The first of these files that is there already.
    pub(crate) fn existing(&self, names: &[&str]) -> Option<PathBuf> {
        names.iter().map(|name| self.path.join(name)).find(|path| path.symlink_metadata().is_ok())
    }

    /// Writes these files, in place of what is there under their names. Each appears whole, one after the other in this
    /// order, and none before all of them are on the disk: what fails leaves things as they were.
    pub(crate) fn put(&self, files: &[Content<'_>]) -> Result<(), CaError> {
        let named =
            |file: &Content<'_>| (self.path.join(format!(".{}.new", file.name)), self.path.join(file.name));
        for file in files {
            let (new, path) = named(file);
            self.write(&new, file).map_err(|error| CaError::system(&path, "cannot be written", &error))?;
        }
        for file in files {
            let (new, path) = named(file);
            fs::rename(new, &path).map_err(|error| CaError::system(&path, "cannot be replaced", &error))?;
        }
        self.directory.sync_all().map_err(|error| CaError::system(&self.path, "cannot be written", &error))
    }

    fn write(&self, path: &Path, content: &Content<'_>) -> io::Result<()> {
        // Of one that was killed.
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mode = match content.readers {
            Readers::Owner => 0o600,
            Readers::All => 0o644,
        };
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        // Root may work for the user that the proxy runs as.
        if Uid::effective().is_root() {
            let owner = self.directory.metadata()?;
            fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
        }
        file.write_all(content.bytes)?;
        file.sync_all()
    }
}
