//! Where the lines go.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;

/// Something that takes lines. It must not keep what it was given for later: what a write says it took is counted as
/// written.
pub trait Sink: Write + Send {
    /// Opens it again, where that means something: a file that was renamed is left, and one of the old name begun.
    ///
    /// # Errors
    /// It cannot be opened; what was open before stays so.
    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Nowhere.
impl Sink for io::Sink {}

/// A file that is appended to, or standard output. Nothing is buffered: the writer hands over many lines at once.
#[derive(Debug)]
pub struct LogFile {
    path: Option<PathBuf>,
    file: File,
}

impl LogFile {
    /// Opens the file, and makes it if there is none.
    ///
    /// # Errors
    /// Those of the system.
    pub fn open(path: PathBuf) -> io::Result<LogFile> {
        Ok(LogFile { file: append(&path)?, path: Some(path) })
    }

    /// Standard output, past the buffer of the standard library: that one keeps what it could not write, and writes it
    /// later, when it was counted as lost already.
    ///
    /// # Errors
    /// It is closed.
    pub fn stdout() -> io::Result<LogFile> {
        let file = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(LogFile { path: None, file })
    }
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for LogFile {
    fn reopen(&mut self) -> io::Result<()> {
        if let Some(path) = &self.path {
            self.file = append(path)?;
        }
        Ok(())
    }
}

fn append(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}
