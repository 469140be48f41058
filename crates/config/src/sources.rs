//! The texts that a configuration is made of, before anything is made of them.
//!
//! Reading is apart from resolving so that a reload can tell whether anything has changed by comparing what
//! it read with what it read before: by content, since a file that is mounted into a container may change
//! without a new time of modification, and get a new one without a change.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;

use crate::errors::{Errors, Place, Problem, Source};

/// The most bytes of all files together: enough for thousands of destinations.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// The most files in a directory.
const MAX_FILES: usize = 1024;
/// How many of the entries of a directory that do not count are told of.
const MAX_LEFT_OUT: usize = 8;
/// How often everything is read until it is the same twice.
const MAX_READS: usize = 5;

/// The texts of the configuration files, in the order in which they override each other. Two are equal if the
/// same files have the same content.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<Source>,
    /// The directories that have no file which counts.
    empty: Vec<PathBuf>,
    warnings: Vec<String>,
}

impl PartialEq for Sources {
    fn eq(&self, other: &Self) -> bool {
        self.files == other.files
    }
}

impl Eq for Sources {}

impl Sources {
    /// Reads each of these files, and of each directory among them the files `*.toml` in the order of the bytes
    /// of their names, without those that begin with a dot. Symbolic links are followed. No path at all gives
    /// the configuration that changes nothing. So does a directory without files, which is what a ConfigMap is mounted as
    /// that is optional and not there yet; [`warnings`](Self::warnings) tells of it.
    ///
    /// Everything is read until it is the same twice, so that files which change together, as those of a
    /// Kubernetes ConfigMap do, are never a mixture of before and after. A file that is written in place can
    /// still be caught half written; whoever watches files should wait until they have come to rest.
    ///
    /// # Errors
    /// Every path at once that cannot be read, is neither a file nor a directory, or is not UTF-8; more than 1024 files
    /// in one directory, or more than 4 MiB in all; and files that keep changing while they are read.
    pub fn read(paths: &[PathBuf]) -> Result<Self, Errors> {
        let mut last = read_once(paths)?;
        for _ in 1..MAX_READS {
            let again = read_once(paths)?;
            if again == last {
                return Ok(last);
            }
            last = again;
        }
        Err(Errors::new(
            last.files,
            vec![Problem::nowhere("the configuration keeps changing while it is read")],
        ))
    }

    /// The names of the files, as messages show them.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.name.as_str())
    }

    /// What may not be as it was meant to be, each in a line: directories without files, and what is in one and does not
    /// count.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What is missing in comparison with `before`, each in a line: the directories from which every file is gone. That is
    /// rather a mount that is missing than the wish to configure nothing.
    pub fn missing_since(&self, before: &Self) -> Vec<String> {
        const HELP: &str = "is its mount missing? If nothing is to be configured, put an empty file there";
        let emptied = self.empty.iter().filter(|path| !before.empty.contains(path));
        emptied
            .map(|path| format!("the directory {} has no file *.toml any more; {HELP}", shown(path)))
            .collect()
    }

    /// A hash of the texts, whatever the files are called: the same in every process and every version of dragoman. It is
    /// for comparing a fleet, and no proof against somebody who wants two texts to have the same. FNV-1a of 64 bits
    /// (Fowler, Noll and Vo), each text followed by its length.
    pub fn fingerprint(&self) -> u64 {
        let lengths = self.files.iter().map(|file| (file.text.len() as u64).to_le_bytes());
        let texts = self.files.iter().map(|file| file.text.bytes());
        let bytes = texts.zip(lengths).flat_map(|(text, length)| text.chain(length));
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
    }

    pub(crate) fn files(&self) -> &[Source] {
        &self.files
    }
}

/// Names and texts, as if they had been read.
impl<N: Into<String>, T: Into<String>> FromIterator<(N, T)> for Sources {
    fn from_iter<I: IntoIterator<Item = (N, T)>>(files: I) -> Self {
        let files = files.into_iter().map(|(name, text)| Source::file(name, text)).collect();
        Self { files, ..Self::default() }
    }
}

/// What reading has come to so far.
#[derive(Default)]
struct Reading {
    sources: Sources,
    problems: Vec<Problem>,
    bytes: usize,
}

fn read_once(paths: &[PathBuf]) -> Result<Sources, Errors> {
    let mut reading = Reading::default();
    for path in paths {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => reading.directory(path),
            _ => reading.file(path),
        }
    }
    match reading.problems.is_empty() {
        true => Ok(reading.sources),
        false => Err(Errors::new(reading.sources.files, reading.problems)),
    }
}

impl Reading {
    fn directory(&mut self, path: &Path) {
        let Entries { files, left_out } = match list(path) {
            Ok(entries) => entries,
            Err(error) => return self.problems.push(unreadable(path, &error.to_string())),
        };
        if files.len() > MAX_FILES {
            let problem = format!("the directory {} has more than {MAX_FILES} files *.toml", path.display());
            return self.problems.push(Problem::nowhere(problem));
        }
        let warnings = &mut self.sources.warnings;
        if files.is_empty() {
            warnings.push(format!("the directory {} has no file *.toml: it configures nothing", shown(path)));
            self.sources.empty.push(path.to_owned());
        }
        if !left_out.is_empty() {
            let names = left_out.iter().map(|name| shown(name)).collect::<Vec<_>>().join(", ");
            warnings
                .push(format!("of the directory {} only files *.toml are read, not {names}", shown(path)));
        }
        files.iter().for_each(|file| self.file(file));
    }

    fn file(&mut self, path: &Path) {
        let name = shown(path);
        let bytes = match read_file(path, MAX_BYTES - self.bytes) {
            Ok(bytes) => bytes,
            Err(reason) => return self.problems.push(unreadable(path, &reason)),
        };
        self.bytes += bytes.len();
        match String::from_utf8(bytes) {
            Ok(text) => self.sources.files.push(Source::file(name, text)),
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                // The replacement character that stands for the first bad byte.
                let place = Place::new(
                    self.sources.files.len(),
                    valid..valid + char::REPLACEMENT_CHARACTER.len_utf8(),
                );
                let problem = Problem::new(place, "the file is not UTF-8").label("this byte");
                self.problems.push(problem.help("save the file as UTF-8"));
                self.sources.files.push(Source::file(name, String::from_utf8_lossy(error.as_bytes())));
            }
        }
    }
}

/// What is in a directory.
struct Entries {
    /// The files that count, in the order of the bytes of their names.
    files: Vec<PathBuf>,
    /// The names of some others, but for what is hidden: a ConfigMap is mounted with folders of its own beside the files.
    left_out: Vec<PathBuf>,
}

fn list(directory: &Path) -> io::Result<Entries> {
    let (mut files, mut left_out) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let bytes = name.as_encoded_bytes();
        if bytes.starts_with(b".") {
            continue;
        }
        if bytes.ends_with(b".toml") {
            files.push(directory.join(name));
        } else if left_out.len() < MAX_LEFT_OUT {
            left_out.push(name.into());
        }
    }
    files.sort_unstable();
    left_out.sort_unstable();
    Ok(Entries { files, left_out })
}

/// Reads a file of at most `room` bytes. Others than regular files are refused: a pipe gives its content only
/// once, so that a reload would find it empty, and a device may never end.
fn read_file(path: &Path, room: usize) -> Result<Vec<u8>, String> {
    let describe = |error: io::Error| error.to_string();
    let regular = |metadata: fs::Metadata| match metadata.is_file() {
        true => Ok(()),
        false => Err("it is neither a regular file nor a directory of files"),
    };
    regular(fs::metadata(path).map_err(describe)?)?;
    let mut bytes = Vec::new();
    // Somebody may put a pipe there meanwhile, and to open it would be to wait for one who writes.
    let file =
        OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path).map_err(describe)?;
    regular(file.metadata().map_err(describe)?)?;
    file.take(room as u64 + 1).read_to_end(&mut bytes).map_err(describe)?;
    if bytes.len() > room {
        return Err("the configuration is larger than 4 MiB".into());
    }
    Ok(bytes)
}

/// A path in a message: on one line, whatever it is called.
fn shown(path: &Path) -> String {
    path.display().to_string().replace(char::is_control, "\u{FFFD}")
}

fn unreadable(path: &Path, reason: &str) -> Problem {
    Problem::nowhere(format!("cannot read {}: {reason}", path.display()))
}
