//! `dragoman wait --install`: this program, put where containers of other images can run it.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Anybody may read and run it.
const MODE: u32 = 0o755;

/// Copies this very program to `path`, whole or not at all. What was there is replaced; where it runs, it runs on.
///
/// # Errors
/// What the system says.
pub(super) fn install(path: &Path) -> io::Result<()> {
    let new = beside(path)?;
    let installed = copy_to(&new).and_then(|()| fs::rename(&new, path));
    if installed.is_err() {
        let _ = fs::remove_file(&new);
    }
    installed
}

/// A hidden name in the same folder, which a rename leads from.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let Some(name) = path.file_name() else { return Err(io::ErrorKind::IsADirectory.into()) };
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".new");
    Ok(path.with_file_name(hidden))
}

fn copy_to(new: &Path) -> io::Result<()> {
    let mut program = File::open("/proc/self/exe")?;
    // One that did not end left it: a process id would not tell, in a container it is always 1.
    match fs::remove_file(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut copy = OpenOptions::new().write(true).create_new(true).mode(MODE).open(new)?;
    io::copy(&mut program, &mut copy)?;
    // What the umask took away.
    copy.set_permissions(Permissions::from_mode(MODE))
}
