//! What a set of files said at one look.
//!
//! An identity is two files, what is trusted may be several, and only together do they mean anything. So all files of one
//! purpose are read at once, told apart from the look before by a digest over all of them, and parsed from memory: what
//! was compared is what is used.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use zeroize::Zeroizing;

/// The most bytes of one file. The largest that occur are revocation lists.
const MAX_BYTES: usize = 64 << 20;

/// Why a file cannot be used, for a person. It never has anything in it of what the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it, and what to do.
    pub reason: String,
}

impl FileError {
    /// An error with its words.
    pub fn new(path: &Path, reason: impl Into<String>) -> Self {
        Self { path: path.into(), reason: reason.into() }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

impl std::error::Error for FileError {}

/// Tells one state of a set of files from another. It says nothing of what is in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

/// Files as they were at one look. What they say is wiped from memory in the end, since keys are among them.
pub struct Contents(BTreeMap<PathBuf, Result<Content, String>>);

/// A file as it was.
struct Content {
    bytes: Zeroizing<Vec<u8>>,
    mode: u32,
}

impl Contents {
    /// Reads all of these. Symbolic links are followed.
    pub fn read<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Self {
        let read = |path: &Path| read(path).map_err(|error| format!("cannot be read: {error}"));
        Self(paths.into_iter().map(|path| (path.to_owned(), read(path))).collect())
    }

    /// What a file says.
    ///
    /// # Errors
    /// It could not be read, or was not among the files.
    pub fn get(&self, path: &Path) -> Result<&[u8], FileError> {
        match self.0.get(path) {
            Some(Ok(content)) => Ok(&content.bytes),
            Some(Err(reason)) => Err(FileError::new(path, reason)),
            None => Err(FileError::new(path, "was not read")),
        }
    }

    /// Whether every user of the machine may read a file.
    pub fn is_public(&self, path: &Path) -> bool {
        matches!(self.0.get(path), Some(Ok(content)) if content.mode & 0o004 != 0)
    }

    /// One over these files, in this order: equal where each says what it said, or fails as it failed.
    pub fn digest<'a>(&self, paths: impl IntoIterator<Item = &'a Path>) -> Digest {
        let mut context = Context::new(&SHA256);
        for path in paths {
            let (tag, bytes): (u8, &[u8]) = match self.0.get(path) {
                Some(Ok(content)) => (0, &content.bytes),
                Some(Err(reason)) => (1, reason.as_bytes()),
                None => (2, &[]),
            };
            context.update(&[tag]);
            context.update(&(bytes.len() as u64).to_be_bytes());
            context.update(bytes);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        Digest(digest)
    }
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let states =
            self.0.iter().map(|(path, content)| (path, content.as_ref().map(|content| content.bytes.len())));
        f.debug_map().entries(states).finish()
    }
}

fn read(path: &Path) -> io::Result<Content> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        // To open a pipe would be to wait for whoever writes to it.
        return Err(io::Error::other("it is not a file"));
    }
    // Of the right size from the start: a buffer that grows leaves copies behind.
    let size = usize::try_from(metadata.len()).unwrap_or(usize::MAX).min(MAX_BYTES);
    let mut bytes = Zeroizing::new(Vec::with_capacity(size + 1));
    File::open(path)?.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_BYTES {
        return Err(io::Error::other(format!("it has more than {} MiB", MAX_BYTES >> 20)));
    }
    Ok(Content { bytes, mode: metadata.permissions().mode() })
}

#[cfg(test)]
mod tests;
