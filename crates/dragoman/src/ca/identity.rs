//! The identities that an authority has issued: directories of a certificate, its key, and whom to trust.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{KeyPair, PublicKeyData};

use super::CaError;
use super::authority::{self, Authority, BACKDATED, Issued};
use super::folder::{Content, Folder, Readers};
use super::names::Names;

pub(crate) const CERTIFICATE: &str = "tls.crt";
pub(crate) const KEY: &str = "tls.key";
pub(crate) const ROOTS: &str = "ca.crt";

/// An identity that was issued before.
pub(crate) struct Identity {
    directory: PathBuf,
    pub(crate) names: Names,
    /// How long it was to be valid.
    pub(crate) life: Duration,
    pub(crate) not_after: SystemTime,
    /// Whether key and certificate are of each other.
    is_pair: bool,
}

/// What was written, and why it is less than was asked for.
pub(crate) struct Written {
    pub(crate) names: Names,
    pub(crate) life: Duration,
    pub(crate) not_after: SystemTime,
}

/// Issues an identity into a directory.
pub(crate) fn issue(
    authority: &Authority,
    directory: &Path,
    names: Names,
    life: Duration,
    force: bool,
    now: SystemTime,
) -> Result<Written, CaError> {
    let folder = Folder::make(directory)?;
    if let Some(path) = folder.existing(&[authority::KEY]) {
        return Err(CaError::new(&path, "is an authority's own directory; give the identity one of its own"));
    }
    if let Some(path) = folder.existing(&[CERTIFICATE, KEY, ROOTS]).filter(|_| !force) {
        let why = "is there already; `--force` replaces it, `dragoman ca renew` keeps its names";
        return Err(CaError::new(&path, why));
    }
    write(&folder, authority, names, life, now)
}

impl Identity {
    /// Reads one that this authority has issued.
    pub(crate) fn load(authority: &Authority, directory: &Path) -> Result<Identity, CaError> {
        let path = directory.join(CERTIFICATE);
        let text = authority::read(&path)?;
        let pem = authority::first_certificate(&path, &text)?;
        let certificate = authority::parse(&path, &pem)?;
        if !authority.has_signed(&certificate) {
            let why =
                format!("was not issued by {}, and is left as it is; `--ca` names another", authority.name);
            return Err(CaError::new(&path, why));
        }
        let names = Names::of(&certificate).map_err(|why| CaError::new(&path, why))?;
        let (not_before, not_after) = authority::validity(&certificate);
        let life = not_after.duration_since(not_before).unwrap_or_default().saturating_sub(BACKDATED);
        let key = KeyPair::from_pem(&std::fs::read_to_string(directory.join(KEY)).unwrap_or_default());
        let is_pair = key.is_ok_and(|key| key.subject_public_key_info() == certificate.public_key().raw);
        Ok(Identity { directory: directory.to_owned(), names, life, not_after, is_pair })
    }

    /// When it is to be renewed: with a third of its life left, so that there is time to find out why it cannot be; at once
    /// where something was interrupted between key and certificate.
    pub(crate) fn due(&self, now: SystemTime) -> SystemTime {
        if self.is_pair { self.not_after - self.life / 3 } else { now }
    }

    /// Gives it a new key and certificate.
    pub(crate) fn renew(&self, authority: &Authority, now: SystemTime) -> Result<Written, CaError> {
        write(&Folder::open(&self.directory)?, authority, self.names.clone(), self.life, now)
    }
}

/// The key comes before the certificate: whoever watches the certificate finds the key there. Between the two a reader
/// finds a pair that does not match, and has to read again (docs/adr/0029).
fn write(
    folder: &Folder,
    authority: &Authority,
    names: Names,
    life: Duration,
    now: SystemTime,
) -> Result<Written, CaError> {
    let Issued { certificate, key, not_after } = authority.issue(&names, life, now)?;
    folder.put(&[
        Content { name: ROOTS, readers: Readers::All, bytes: authority.pem.as_bytes() },
        Content { name: KEY, readers: Readers::Owner, bytes: key.as_bytes() },
        Content { name: CERTIFICATE, readers: Readers::All, bytes: certificate.as_bytes() },
    ])?;
    Ok(Written { names, life, not_after })
}
